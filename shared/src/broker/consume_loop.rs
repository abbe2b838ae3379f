//! The loop behind a consumer: take, run, acknowledge; hold; stop; begin again after an outage.
//!
//! One task owns the channel and the books; handlers run in tasks of their own and report back.
//! Each turn it starts what may start, so nothing waits for a timer to be handled. Acknowledgements
//! are gathered for a moment: each is a command in the log of a quorum queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::consume_channel::{ANSWER_TIMEOUT, ConsumeChannel, Ended, Taken};
use super::consumer::{ConsumerConfig, ConsumerState, Handler};
use super::link::Live;
use super::parcel::{Parcel, Settled};
use super::session::{Pace, Role, Session};

const FIRST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// So many settled messages are acknowledged at once,
const ACKNOWLEDGE_FROM: usize = 100;
/// or what has gathered so long after the first of them. Nobody waits for an acknowledgement; those
/// that are never written cost a copy each when the process dies.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(20);

/// A consumer through all its channels.
pub(super) struct Runner<H> {
    session: Session,
    config: ConsumerConfig,
    handler: Arc<H>,
    /// Handlers at work, also those whose channel is gone: their messages come again, and they
    /// count against the bound until they end.
    tasks: JoinSet<Finished>,
    alone_at_work: bool,
    mode: Mode,
    hold_pace: Pace,
    retry_pace: Pace,
    /// Counts the channels; a result for an older one can no longer be acknowledged.
    round: u64,
    /// Set when asked to stop: until then handlers may finish.
    stop_at: Option<Instant>,
    /// Set when something is settled and not acknowledged.
    acknowledge_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Flowing,
    /// Nothing is started until then. The subscription stays: the prefetch bounds what is taken,
    /// and cancelling would make the broker return, and so count against the delivery limit, what
    /// is on its way (rabbitmq-server #3729, `rabbit_fifo_client:handle_delivery`).
    Holding {
        until: Instant,
    },
    /// One held parcel is tried; its verdict decides.
    Probing {
        started: bool,
    },
}

struct Finished {
    round: u64,
    tag: u64,
    alone: bool,
    probe: bool,
    settled: Settled,
}

#[expect(clippy::large_enum_variant, reason = "lives for one turn of the loop")]
enum Wake {
    Taken(Taken),
    Finished(Result<Finished, JoinError>),
    HoldOver,
    LinkChanged,
    /// The topology was declared again. A queue that was deleted and is there again at once does not
    /// always tell its consumers: RabbitMQ 3.10.8 then sends them what they never see (chaos
    /// suite, queues deleted underneath). So everybody subscribes anew.
    Gap,
    Stop,
    StopTimeout,
    AcknowledgeNow,
}

type LiveWatch = watch::Receiver<Option<Arc<Live>>>;

impl<H: Handler> Runner<H> {
    pub(super) fn new(session: Session, mut config: ConsumerConfig, handler: Arc<H>) -> Self {
        // To AMQP zero means "no bound".
        config.prefetch = config.prefetch.max(1);
        Self {
            session,
            config,
            handler,
            tasks: JoinSet::new(),
            alone_at_work: false,
            mode: Mode::Flowing,
            hold_pace: Pace::new(FIRST_HOLD, LONGEST_HOLD),
            retry_pace: Pace::new(FIRST_RETRY, LONGEST_RETRY),
            round: 0,
            stop_at: None,
            acknowledge_at: None,
        }
    }

    /// Consumes until `stop`.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let mut links = self.session.link(Role::Consume).watch_live();
        let mut epoch = 0;
        while let Some(live) = self.wait_for_link(&mut links, stop).await {
            if live.epoch != epoch {
                epoch = live.epoch;
                self.retry_pace.reset();
            }
            let ended = self.serve(&live, &mut links, stop).await;
            self.config.view.set_state(ConsumerState::Down);
            self.config.view.set_oldest_unsettled(None);
            let queue = self.config.queue.label();
            match ended {
                Ended::Stopped => break,
                Ended::Lost => warn!(queue, "the consumer lost its channel"),
                Ended::Anew => info!(queue, "the topology was declared again; subscribing anew"),
                Ended::Missing => {
                    warn!(queue, "the queue is missing; declaring the topology again");
                    let link = self.session.link(Role::Consume);
                    tokio::select! {
                        declared = link.declare_again(&live) => if declared {
                            self.session.report_gap();
                        },
                        () = stop.cancelled() => break,
                    }
                }
            }
            tokio::select! {
                () = sleep(self.retry_pace.next()) => {}
                () = stop.cancelled() => {}
            }
        }
        self.finish_tasks().await;
    }

    async fn wait_for_link(
        &mut self,
        links: &mut LiveWatch,
        stop: &CancellationToken,
    ) -> Option<Arc<Live>> {
        // What was held came from a channel that is gone; it comes again, but not at once.
        if let Mode::Holding { until } = self.mode {
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.cancelled() => return None,
            }
        }
        self.mode = Mode::Flowing;
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            live = links.wait_for(Option::is_some) => live.ok()?.clone(),
        }
    }

    /// Serves one channel until it ends.
    async fn serve(
        &mut self,
        live: &Arc<Live>,
        links: &mut LiveWatch,
        stop: &CancellationToken,
    ) -> Ended {
        self.round += 1;
        // What was declared again before this subscription is the queue that it is for.
        let mut gaps = self.session.gaps();
        let mut channel = match self.open(live, stop).await {
            Ok(channel) => channel,
            Err(ended) => return ended,
        };
        let mut ready = VecDeque::new();
        self.acknowledge_at = None;
        loop {
            while let Some(finished) = self.tasks.try_join_next() {
                if let Err(ended) = self.on_finished(&mut channel, &mut ready, finished) {
                    return ended;
                }
            }
            self.start(&mut ready);
            if let Err(ended) = self.acknowledge(&mut channel).await {
                return ended;
            }
            self.show_state();
            let idle = self.tasks.is_empty() && (ready.is_empty() || self.mode != Mode::Flowing);
            if self.stop_at.is_some() && idle {
                channel.close().await;
                return Ended::Stopped;
            }
            let step = match self
                .wait(&mut channel, (&mut *links, &mut gaps), stop)
                .await
            {
                Wake::Gap => {
                    channel.close().await;
                    Err(Ended::Anew)
                }
                Wake::Taken(taken) => self.on_taken(&mut channel, &mut ready, taken),
                Wake::Finished(finished) => self.on_finished(&mut channel, &mut ready, finished),
                Wake::HoldOver => {
                    self.mode = Mode::Probing { started: false };
                    Ok(())
                }
                Wake::LinkChanged => match &*links.borrow() {
                    Some(open) if open.epoch == live.epoch => Ok(()),
                    _ => Err(Ended::Lost),
                },
                Wake::Stop => {
                    self.stop_at = Some(Instant::now() + self.config.stop_timeout);
                    channel.unsubscribe().await.map(|rest| ready.extend(rest))
                }
                Wake::AcknowledgeNow => Ok(()),
                Wake::StopTimeout => {
                    warn!(
                        queue = self.config.queue.label(),
                        running = self.tasks.len(),
                        "stopped before every handler ended; their messages come again"
                    );
                    channel.close().await;
                    Err(Ended::Stopped)
                }
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// Opens a channel, within a bound: a quorum queue whose leader is lost answers nothing for as
    /// long as it is so, and says nothing either.
    async fn open(
        &self,
        live: &Arc<Live>,
        stop: &CancellationToken,
    ) -> Result<ConsumeChannel, Ended> {
        let opening = ConsumeChannel::open(live, &self.session, &self.config);
        tokio::select! {
            opened = timeout(ANSWER_TIMEOUT, opening) => opened.unwrap_or_else(|_| {
                let queue = self.config.queue.label();
                error!(queue, "the broker does not let this queue be consumed");
                Err(Ended::Lost)
            }),
            () = stop.cancelled() => Err(Ended::Stopped),
        }
    }

    async fn wait(
        &mut self,
        channel: &mut ConsumeChannel,
        (links, gaps): (&mut LiveWatch, &mut watch::Receiver<u64>),
        stop: &CancellationToken,
    ) -> Wake {
        let hold_until = match self.mode {
            Mode::Holding { until } if self.stop_at.is_none() => Some(until),
            _ => None,
        };
        tokio::select! {
            taken = channel.next() => Wake::Taken(taken),
            Some(finished) = self.tasks.join_next() => Wake::Finished(finished),
            () = at(hold_until) => Wake::HoldOver,
            Ok(()) = links.changed() => Wake::LinkChanged,
            Ok(()) = gaps.changed(), if self.stop_at.is_none() => Wake::Gap,
            () = stop.cancelled(), if self.stop_at.is_none() => Wake::Stop,
            () = at(self.stop_at) => Wake::StopTimeout,
            () = at(self.acknowledge_at) => Wake::AcknowledgeNow,
        }
    }

    fn on_taken(
        &mut self,
        channel: &mut ConsumeChannel,
        ready: &mut VecDeque<Parcel>,
        taken: Taken,
    ) -> Result<(), Ended> {
        let parcel = channel.take(taken)?;
        self.retry_pace.reset();
        if let Some(ms) = parcel.published_ms() {
            self.config.view.taken(ms);
        }
        ready.push_back(parcel);
        Ok(())
    }

    fn on_finished(
        &mut self,
        channel: &mut ConsumeChannel,
        ready: &mut VecDeque<Parcel>,
        finished: Result<Finished, JoinError>,
    ) -> Result<(), Ended> {
        let finished = match finished {
            Ok(finished) => finished,
            Err(problem) => {
                // Panics of handlers are caught before; the message comes again with the channel.
                let queue = self.config.queue.label();
                error!(queue, error = %problem, "a handler's task ended without a result");
                self.alone_at_work = false;
                return Err(Ended::Lost);
            }
        };
        self.alone_at_work &= !finished.alone;
        let current = finished.round == self.round;
        match finished.settled {
            Settled::Yes => {
                if current {
                    channel.settle(finished.tag);
                    self.acknowledge_at
                        .get_or_insert_with(|| Instant::now() + ACKNOWLEDGE_AFTER);
                }
                if finished.probe {
                    self.mode = Mode::Flowing;
                    self.hold_pace.reset();
                    info!(queue = self.config.queue.label(), "holding is over");
                }
            }
            Settled::Hold(parcel) => {
                if current {
                    ready.push_front(parcel);
                }
                if finished.probe || self.mode == Mode::Flowing {
                    self.hold();
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self) {
        let wait = self.hold_pace.next();
        self.mode = Mode::Holding {
            until: Instant::now() + wait,
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        warn!(
            queue = self.config.queue.label(),
            wait_ms, "holding: a dependency is unwell"
        );
    }

    /// Starts what may start now.
    fn start(&mut self, ready: &mut VecDeque<Parcel>) {
        while let Some(parcel) = ready.pop_front_if(|parcel| self.may_start(parcel)) {
            let probe = self.mode == Mode::Probing { started: false };
            if probe {
                self.mode = Mode::Probing { started: true };
            }
            let alone = parcel.is_alone();
            self.alone_at_work |= alone;
            let (round, tag) = (self.round, parcel.tag);
            let handler = Arc::clone(&self.handler);
            self.tasks.spawn(async move {
                let settled = parcel.run(&*handler).await;
                Finished {
                    round,
                    tag,
                    alone,
                    probe,
                    settled,
                }
            });
        }
    }

    fn may_start(&self, parcel: &Parcel) -> bool {
        if self.alone_at_work {
            return false;
        }
        if parcel.is_alone() && !self.tasks.is_empty() {
            return false;
        }
        match self.mode {
            Mode::Flowing => self.tasks.len() < usize::from(self.config.prefetch),
            Mode::Holding { .. } => false,
            Mode::Probing { started } => !started,
        }
    }

    /// Acknowledges what is settled, once it is enough or old enough.
    async fn acknowledge(&mut self, channel: &mut ConsumeChannel) -> Result<(), Ended> {
        let Some(at) = self.acknowledge_at else {
            return Ok(());
        };
        let due =
            self.tasks.is_empty() || channel.settled() >= ACKNOWLEDGE_FROM || Instant::now() >= at;
        if due {
            self.acknowledge_at = None;
            channel.acknowledge().await?;
            let oldest = channel.oldest_unsettled_ms();
            self.config.view.set_oldest_unsettled(oldest);
        }
        Ok(())
    }

    fn show_state(&self) {
        let state = match self.mode {
            Mode::Flowing => ConsumerState::Flowing,
            Mode::Holding { .. } | Mode::Probing { .. } => ConsumerState::Holding,
        };
        self.config.view.set_state(state);
    }

    /// After the last channel: what still runs may end by itself, within the bound.
    async fn finish_tasks(&mut self) {
        let until = self
            .stop_at
            .unwrap_or_else(|| Instant::now() + self.config.stop_timeout);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ended_or_aborted = timeout_at(until, all).await;
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

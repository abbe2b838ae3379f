//! Delivers webhooks: bounded concurrency, bounded retries, counters.
//!
//! Knows where to POST and how to try again; what the bodies say is `envelope`'s, which webhooks a
//! message gets and when is `script`'s.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{channels::Target, lock};
use crate::plain_http::PostError;

/// How webhooks are retried.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How many webhooks are on the wire at once.
    pub concurrency: usize,
    /// How often one webhook is tried at most; a receiver that nobody can reach costs no try.
    pub attempts: u32,
    /// Pause after the first failure; it doubles up to `longest_pause`.
    pub first_pause: Duration,
    /// The longest pause between two tries.
    pub longest_pause: Duration,
    /// A webhook older than this is given up.
    pub give_up_after: Duration,
    /// How long one try may take.
    pub timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            concurrency: 64,
            attempts: 60,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            give_up_after: Duration::from_secs(300),
            timeout: Duration::from_secs(10),
        }
    }
}

/// An unreachable receiver is left alone for so long, by all webhooks together.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Delivered,
    GaveUp,
    NoReceiver,
    /// The simulator was reset or stopped meanwhile.
    Dropped,
}

/// How one try ended.
#[derive(PartialEq, Eq)]
enum Try {
    Accepted,
    /// An answer that is not 2xx, or none.
    Refused,
    /// Nobody listens there: that is no try of this webhook.
    Unreachable,
}

/// Webhook counters, as `GET /_sim/stats` shows them.
#[derive(Default)]
pub(super) struct Counters {
    delivered: AtomicU64,
    failed_tries: AtomicU64,
    given_up: AtomicU64,
    without_receiver: AtomicU64,
    waiting: AtomicU64,
}

/// A snapshot of the webhook counters.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WebhookStats {
    /// Answered 2xx.
    pub delivered: u64,
    /// Tries that failed: unreachable, timed out or not 2xx.
    pub failed_tries: u64,
    /// Given up after the last try.
    pub given_up: u64,
    /// Dropped because no webhook is registered.
    pub without_receiver: u64,
    /// On the wire or waiting for it.
    pub waiting: u64,
}

/// Sends webhooks.
pub(super) struct Courier {
    client: reqwest::Client,
    permits: Semaphore,
    policy: RetryPolicy,
    counters: Counters,
}

impl Courier {
    /// # Errors
    /// The HTTP client cannot be built.
    pub(super) fn new(policy: RetryPolicy) -> reqwest::Result<Self> {
        // The workspace builds reqwest without a crypto provider. An error means that one is
        // installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(policy.timeout)
            .pool_max_idle_per_host(policy.concurrency)
            .build()?;
        Ok(Self {
            client,
            permits: Semaphore::new(policy.concurrency),
            policy,
            counters: Counters::default(),
        })
    }

    /// Delivers one webhook; `receiver` and `body` are asked again for each try, and it ends early
    /// once `wanted` says no.
    pub(super) async fn deliver(
        &self,
        receiver: impl Fn() -> Option<Arc<Target>>,
        body: impl Fn() -> Vec<u8>,
        wanted: impl Fn() -> bool,
    ) -> Handed {
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        let handed = self.try_until_done(receiver, body, wanted).await;
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        let counter = match handed {
            Handed::Delivered => &self.counters.delivered,
            Handed::GaveUp => &self.counters.given_up,
            Handed::NoReceiver => &self.counters.without_receiver,
            Handed::Dropped => return handed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        handed
    }

    /// The counters now.
    pub(super) fn stats(&self) -> WebhookStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookStats {
            delivered: read(&self.counters.delivered),
            failed_tries: read(&self.counters.failed_tries),
            given_up: read(&self.counters.given_up),
            without_receiver: read(&self.counters.without_receiver),
            waiting: read(&self.counters.waiting),
        }
    }

    async fn try_until_done(
        &self,
        receiver: impl Fn() -> Option<Arc<Target>>,
        body: impl Fn() -> Vec<u8>,
        wanted: impl Fn() -> bool,
    ) -> Handed {
        let give_up_at = Instant::now() + self.policy.give_up_after;
        let mut tries = 0;
        loop {
            if !wanted() {
                return Handed::Dropped;
            }
            let Some(target) = receiver() else {
                return Handed::NoReceiver;
            };
            let opens_at = target.opens_at();
            if opens_at > Instant::now() {
                if opens_at > give_up_at {
                    return Handed::GaveUp;
                }
                sleep_until(opens_at + self.queue_jitter()).await;
                continue;
            }
            let Ok(permit) = self.permits.acquire().await else {
                return Handed::Dropped;
            };
            if target.opens_at() > Instant::now() {
                // Somebody found the receiver unreachable while this one queued.
                continue;
            }
            let outcome = self.post(&target, body()).await;
            drop(permit);
            if outcome == Try::Accepted {
                return Handed::Delivered;
            }
            self.counters.failed_tries.fetch_add(1, Ordering::Relaxed);
            if outcome == Try::Unreachable {
                *lock(&target.not_before) = Instant::now() + UNREACHABLE_PAUSE;
                continue;
            }
            tries += 1;
            let pause = self.pause_after(tries);
            if tries >= self.policy.attempts || Instant::now() + pause > give_up_at {
                return Handed::GaveUp;
            }
            sleep(pause).await;
        }
    }

    async fn post(&self, target: &Target, body: Vec<u8>) -> Try {
        let outcome = match &target.plain {
            Some(plain) => match timeout(self.policy.timeout, plain.post(&body)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(PostError::NoAnswer),
            },
            None => self.post_tls(target, body).await,
        };
        match outcome {
            Ok(200..=299) => Try::Accepted,
            Ok(_) | Err(PostError::NoAnswer) => Try::Refused,
            Err(PostError::Unreachable) => Try::Unreachable,
        }
    }

    async fn post_tls(&self, target: &Target, body: Vec<u8>) -> Result<u16, PostError> {
        let request = self.client.post(target.url.clone());
        let request = request.headers(target.headers.clone()).body(body);
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                // Read to the end, or the connection cannot be used again.
                let _ = answer.bytes().await;
                Ok(status)
            }
            Err(error) if error.is_connect() => Err(PostError::Unreachable),
            Err(_) => Err(PostError::NoAnswer),
        }
    }

    /// Spreads those who wait for an unreachable receiver: woken all at once, a long queue would
    /// cost more than the tries themselves.
    fn queue_jitter(&self) -> Duration {
        let waiting = self.counters.waiting.load(Ordering::Relaxed);
        Duration::from_micros(rand::random_range(0..=waiting.saturating_mul(20)))
    }

    fn pause_after(&self, tries: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(tries.saturating_sub(1).min(16));
        self.policy
            .first_pause
            .saturating_mul(doubled)
            .min(self.policy.longest_pause)
    }
}

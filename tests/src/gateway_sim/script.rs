//! Tells the story of a message by webhooks: which ones, in what order and when.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    Settings, Sim,
    channels::Channel,
    courier::Handed,
    envelope,
    faults::{Fault, Met},
    messages::{Message, Step},
};

/// The webhooks that a message which goes out will cause.
pub(super) fn plan(settings: &Settings, met: &Met, serial: usize) -> Vec<Step> {
    let mut steps = Vec::with_capacity(4);
    if settings.echo && met.other(Fault::NoEcho).is_none() {
        steps.push(Step::Echo);
    }
    if met.other(Fault::AckFailed).is_some() {
        steps.push(Step::Ack(-1));
    } else if met.other(Fault::OnlyAck1).is_some() {
        steps.push(Step::Ack(1));
    } else if met.other(Fault::NoAcks).is_none() {
        steps.extend(settings.acks.iter().copied().map(Step::Ack));
    }
    if met.other(Fault::ShuffledWebhooks).is_some() {
        shuffle(&mut steps, serial);
    }
    if met.other(Fault::DuplicatedWebhooks).is_some() {
        steps = steps.into_iter().flat_map(|step| [step, step]).collect();
    }
    steps
}

/// Another order for each serial number, the same one in each run, and never the right one.
fn shuffle(steps: &mut [Step], serial: usize) {
    if steps.len() > 2 {
        steps.rotate_left(serial % steps.len());
    }
    steps.reverse();
}

/// When the webhooks of a message start.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// At the usual delays, so much later.
    Usual { late: Duration },
    /// One after the other without a pause.
    AtOnce,
}

/// Tells a message's story to its end; returns once the last webhook was handed over.
pub(super) async fn tell(sim: Arc<Sim>, message: Message, pace: Pace) {
    let era = sim.era();
    let begun = Instant::now();
    let settings = sim.settings();
    let wanted = || !sim.is_stopped() && sim.era() == era;
    let mut dues: Vec<_> = message
        .webhooks
        .iter()
        .map(|step| due(&settings, *step))
        .collect();
    dues.sort_unstable();
    for (step, due) in message.webhooks.iter().zip(dues) {
        if let Pace::Usual { late } = pace {
            sleep_until(begun + late + due).await;
        }
        let Some(channel) = sim.channels.find(&message.channel) else {
            continue;
        };
        let handed = sim
            .courier
            .deliver(
                || sim.channels.target_of(&channel.id),
                || body(&message, &channel, *step, &settings),
                wanted,
            )
            .await;
        if handed == Handed::Dropped {
            return;
        }
    }
    if wanted() {
        sim.messages.told(&message.id);
    }
}

/// Tells a story that an earlier run of the simulator began.
pub(super) fn tell_again(sim: &Arc<Sim>, message: Message) {
    tokio::spawn(tell(Arc::clone(sim), message, Pace::AtOnce));
}

/// Delivers one webhook that belongs to no send, while the caller goes on.
pub(super) fn announce(
    sim: &Arc<Sim>,
    channel: Arc<str>,
    body: impl Fn() -> Vec<u8> + Send + Sync + 'static,
) {
    let sim = Arc::clone(sim);
    tokio::spawn(async move { deliver_now(&sim, &channel, body).await });
}

/// Delivers one webhook that belongs to no send.
pub(super) async fn deliver_now(sim: &Sim, channel: &str, body: impl Fn() -> Vec<u8>) {
    let era = sim.era();
    sim.courier
        .deliver(
            || sim.channels.target_of(channel),
            body,
            || !sim.is_stopped() && sim.era() == era,
        )
        .await;
}

fn body(message: &Message, channel: &Channel, step: Step, settings: &Settings) -> Vec<u8> {
    match step {
        Step::Echo => envelope::echo(message, channel, settings.echo_event),
        Step::Ack(level) => envelope::ack(message, channel, level, settings.ack_shape),
    }
}

/// The usual delay of a step.
fn due(settings: &Settings, step: Step) -> Duration {
    match step {
        Step::Echo => Duration::from_millis(settings.echo_delay_ms),
        Step::Ack(level) => {
            let position = settings.acks.iter().position(|it| *it == level);
            let nth = position.unwrap_or(0) as u64 + 1;
            Duration::from_millis(settings.ack_delay_ms.saturating_mul(nth))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_story_is_complete_and_never_in_order() {
        let told = [Step::Echo, Step::Ack(1), Step::Ack(2), Step::Ack(3)];
        for serial in 0..8 {
            let mut steps = told;
            shuffle(&mut steps, serial);
            assert_ne!(steps, told);
            assert!(told.iter().all(|step| steps.contains(step)));
        }
    }
}

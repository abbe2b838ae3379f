//! Declares the topology on a channel. Idempotent: what exists with equal arguments is left alone.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::topology::{Argument, Exchange, QueueSpec, Topology};

/// Declares every exchange, queue and binding.
///
/// # Errors
/// The broker refused (the channel is then closed) or the connection broke. A refusal because of
/// other arguments means that a queue of an older schema stands in the way: drain and delete it.
pub(super) async fn declare(channel: &Channel, topology: &Topology) -> lapin::Result<()> {
    for exchange in Exchange::ALL {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let name = topology.exchange(exchange);
        channel
            .exchange_declare(
                name.into(),
                ExchangeKind::Direct,
                options,
                FieldTable::default(),
            )
            .await?;
    }
    for queue in topology.queues() {
        let arguments = arguments(&queue);
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.name.into(), options, arguments)
            .await?;
    }
    for binding in topology.bindings() {
        channel
            .queue_bind(
                binding.queue.into(),
                binding.exchange.into(),
                binding.routing_key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}

/// True when the broker says that a queue or exchange does not exist.
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ProtocolError(e)
            if matches!(e.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
    )
}

fn arguments(queue: &QueueSpec) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert(ShortString::from(*name), value);
    }
    table
}

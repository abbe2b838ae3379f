//! How to reach the broker, as the command line and the environment say it.

use secrecy::SecretString;

use super::session::BrokerConfig;
use super::topology::{InvalidPrefix, Topology};

/// Settings of the broker.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "RabbitMQ")]
pub struct BrokerArgs {
    /// RabbitMQ, as `amqp://user:password@host:port/vhost`.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    pub amqp_url: SecretString,
    /// Put before the name of every exchange and queue.
    #[arg(long, env = "AMQP_PREFIX", default_value = "")]
    pub amqp_prefix: String,
    /// RabbitMQ's management API, as `http://user:password@host:port`; asked for what AMQP does not
    /// tell. Unset asks nothing.
    #[arg(long, env = "RABBITMQ_MANAGEMENT_URL", hide_env_values = true)]
    pub rabbitmq_management_url: Option<SecretString>,
}

impl BrokerArgs {
    /// The configuration of a process of that name.
    ///
    /// # Errors
    /// The prefix cannot be part of a name: mend `AMQP_PREFIX`.
    pub fn config(&self, connection_name: &str) -> Result<BrokerConfig, InvalidPrefix> {
        Ok(BrokerConfig {
            topology: Topology::new(&self.amqp_prefix)?,
            ..BrokerConfig::new(self.amqp_url.clone(), connection_name)
        })
    }
}

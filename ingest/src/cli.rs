//! The command line: run, migrate, check-config, and the admin commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;
use shared::broker::BrokerArgs;
use shared::domain::credential::{Credential, CredentialKind};
use shared::domain::directory::Directory;
use shared::domain::module::Module;
use shared::outbound::OutboundArgs;
use shared::runtime::ops::OpsArgs;
use shared::runtime::telemetry::TelemetryArgs;
use shared::sealing::SealingArgs;
use shared::source::DoorSecrets;
use shared::store::pool::DatabaseArgs;
use shared::wpp::WppArgs;

use crate::guard::GuardArgs;
pub use crate::pixelhub::UpstreamArgs;
use crate::retention::Keep;

/// Posto's ingest: the one door in.
#[derive(Debug, Parser)]
#[command(name = "ingest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves until it is asked to stop.
    Run(Box<RunArgs>),
    /// Applies pending migrations and makes the coming partitions.
    Migrate(DatabaseArgs),
    /// Reads the settings as `run` would, and shows them with secrets hidden.
    CheckConfig(Box<RunArgs>),
    /// Prints the OpenAPI document of a listener.
    Openapi {
        /// Of which one.
        #[arg(long, value_enum, default_value_t = Described::Public)]
        listener: Described,
    },
    /// Reference data and credentials.
    #[command(subcommand)]
    Admin(AdminCommand),
}

/// A listener with a document of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// The public door.
    Public,
    /// The operators' listener.
    Admin,
}

/// The admin commands.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Sets tenants, channels and sources from a JSON file; safe to repeat.
    Import {
        /// The file; see `docs/reference-data.md`.
        file: PathBuf,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Credentials of sources.
    #[command(subcommand, visible_alias = "key")]
    Keys(KeyCommand),
    /// Sources, and from where they may speak.
    #[command(subcommand)]
    Sources(SourceCommand),
    /// PixelHub's modules, and who serves them.
    #[command(subcommand, visible_alias = "module")]
    Modules(ModuleCommand),
    /// Keys of encryption at rest.
    #[command(subcommand)]
    Sealing(SealingCommand),
}

/// The commands about PixelHub's modules.
#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Shows who serves each module.
    List {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Says who serves a module.
    Set {
        /// `chat` or `tenants`.
        module: Module,
        /// `live`: Posto; `shadow`: Posto, and nothing leaves; `off`: PixelHub; `default` takes the switch away.
        #[arg(long, value_parser = ["live", "shadow", "off", "default"])]
        mode: String,
        /// Only for this tenant. None: for all that have no switch of their own.
        #[arg(long)]
        tenant: Option<i64>,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// The commands about encryption at rest. They take `PAYLOAD_KEYS` as the services have it.
#[derive(Debug, Subcommand)]
pub enum SealingCommand {
    /// Counts what is sealed with which key, and tells which key may go. Goes through every table.
    Status {
        /// The keys.
        #[command(flatten)]
        sealing: SealingArgs,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Takes a key out of use that seals nothing any more.
    Retire {
        /// The key's id.
        id: String,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The keys.
        #[command(flatten)]
        sealing: SealingArgs,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// The commands about sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Shows the sources.
    List {
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Sets from where a source may speak.
    #[command(group = clap::ArgGroup::new("wanted").required(true))]
    Networks {
        /// The source.
        #[arg(long)]
        source: String,
        /// A network like 203.0.113.0/24, or an address; may be repeated.
        #[arg(long, group = "wanted")]
        network: Vec<String>,
        /// A ready list: `asaas`, the addresses that Asaas publishes.
        #[arg(long, group = "wanted", value_parser = crate::networks::PRESETS)]
        preset: Option<String>,
        /// From everywhere again.
        #[arg(long, group = "wanted")]
        any: bool,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// The commands about credentials.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a key and shows it, once.
    Create {
        /// What it is for.
        #[command(flatten)]
        scope: KeyScope,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Makes a secret that exists already valid for a source. Safe to repeat.
    Put {
        /// What it is for.
        #[command(flatten)]
        scope: KeyScope,
        /// Read the secret from standard input, so that no process list shows it.
        #[arg(long, required = true)]
        secret_stdin: bool,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Shows the keys; never a secret.
    List {
        /// Only those of this source.
        #[arg(long)]
        source: Option<String>,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Makes the successor of a key and shows it, once; the old one ends after the overlap.
    Rotate {
        /// The key's number.
        id: i64,
        /// How many hours the old one stays valid, 0 to 2160.
        #[arg(long, default_value_t = 168, value_parser = clap::value_parser!(u64).range(0..=2160))]
        overlap_hours: u64,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Ends a key at once and for good.
    Revoke {
        /// The key's number.
        id: i64,
        /// Who does it.
        #[command(flatten)]
        by: KeyAuthor,
        /// The database.
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// What a key is for.
#[derive(Clone, Debug, Args)]
pub struct KeyScope {
    /// The source that it speaks for.
    #[arg(long)]
    pub source: String,
    /// `bearer`: shown by the caller; `hmac`: a signing secret in Standard Webhooks form.
    #[arg(long, default_value = "bearer")]
    pub kind: CredentialKind,
    /// What people call it.
    #[arg(long, default_value = "")]
    pub label: String,
    /// A tenant that it is bound to; may be repeated. None: all.
    #[arg(long)]
    pub tenant: Vec<i64>,
    /// A type of events that it is bound to, exact or with `*`; may be repeated. None: all.
    #[arg(long)]
    pub event_type: Vec<String>,
    /// When it ends, like 2026-12-31T00:00:00Z. None: never.
    #[arg(long)]
    pub valid_until: Option<DateTime<Utc>>,
}

/// Who does it and why, for the audit log.
#[derive(Clone, Debug, Args)]
pub struct KeyAuthor {
    /// Who does it.
    #[arg(long, env = "USER", default_value = "operator")]
    pub actor: String,
    /// Why.
    #[arg(long)]
    pub reason: Option<String>,
}

/// Which listeners a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listeners {
    /// Only the public door.
    Public,
    /// Only the operators' listener.
    Admin,
    /// Both.
    All,
}

/// Everything that `run` reads.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Encryption at rest.
    #[command(flatten)]
    pub sealing: SealingArgs,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Probes and metrics.
    #[command(flatten)]
    pub ops: OpsArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// The gateway.
    #[command(flatten)]
    pub wpp: WppArgs,
    /// Where requests may go.
    #[command(flatten)]
    pub outbound: OutboundArgs,
    /// Which listeners this process serves.
    #[arg(long, env = "LISTENERS", value_enum, default_value_t = Listeners::All)]
    pub listeners: Listeners,
    /// Address of the public listener.
    #[arg(long, env = "PUBLIC_LISTEN", default_value = "127.0.0.1:8080")]
    pub public_listen: SocketAddr,
    /// Address of the operators' listener.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:8081")]
    pub admin_listen: SocketAddr,
    /// Token of the operators' listener; unset keeps it shut.
    #[arg(long, env = "POSTO_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<SecretString>,
    /// The generic door's bootstrap key; per-source credentials replace it.
    #[arg(long, env = "EVENT_INGESTION_SECRET", hide_env_values = true)]
    pub event_ingestion_secret: Option<SecretString>,
    /// The bootstrap key before this one, still valid.
    #[arg(long, env = "EVENT_INGESTION_SECRET_PREVIOUS", hide_env_values = true)]
    pub event_ingestion_secret_previous: Option<SecretString>,
    /// The sources that the bootstrap key speaks for, separated by commas.
    #[arg(long, env = "EVENT_INGESTION_SOURCES", value_delimiter = ',')]
    pub event_ingestion_sources: Vec<String>,
    /// Token that Asaas sends to `/webhook/asaas`; unset keeps it shut.
    #[arg(long, env = "ASAAS_WEBHOOK_TOKEN", hide_env_values = true)]
    pub asaas_webhook_token: Option<SecretString>,
    /// The Asaas token before this one, still valid.
    #[arg(long, env = "ASAAS_WEBHOOK_TOKEN_PREVIOUS", hide_env_values = true)]
    pub asaas_webhook_token_previous: Option<SecretString>,
    /// Where the gateway is told to post; unset registers nothing.
    #[arg(long, env = "PIXELHUB_WHATSAPP_WEBHOOK_URL")]
    pub whatsapp_webhook_url: Option<String>,
    /// What the gateway sends with its posts; unset keeps `/api/whatsapp/webhook` shut.
    #[arg(long, env = "PIXELHUB_WHATSAPP_WEBHOOK_SECRET", hide_env_values = true)]
    pub gateway_webhook_secret: Option<SecretString>,
    /// The gateway's secret before this one, still valid.
    #[arg(
        long,
        env = "PIXELHUB_WHATSAPP_WEBHOOK_SECRET_PREVIOUS",
        hide_env_values = true
    )]
    pub gateway_webhook_secret_previous: Option<SecretString>,
    /// Secret of `/webhook/whatsapp/delivery-status`; unset takes the gateway's.
    #[arg(long, env = "WHATSAPP_WEBHOOK_SECRET", hide_env_values = true)]
    pub status_webhook_secret: Option<SecretString>,
    /// That door's secret before this one, still valid.
    #[arg(long, env = "WHATSAPP_WEBHOOK_SECRET_PREVIOUS", hide_env_values = true)]
    pub status_webhook_secret_previous: Option<SecretString>,
    /// Where PixelHub is.
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    /// What stands before the doors.
    #[command(flatten)]
    pub guard: GuardArgs,
    /// How long things are kept.
    #[command(flatten)]
    pub keep: Keep,
    /// Accepted and unused: the official API was not chosen.
    #[arg(long, env = "WHATSAPP_API_KEY", hide_env_values = true)]
    pub whatsapp_api_key: Option<SecretString>,
}

impl RunArgs {
    /// The secrets of the gateway's door.
    #[must_use]
    pub fn gateway_secrets(&self) -> DoorSecrets {
        DoorSecrets::new(
            self.gateway_webhook_secret.clone(),
            self.gateway_webhook_secret_previous.clone(),
        )
    }

    /// The secrets of the receipts' door: its own, else the gateway's.
    #[must_use]
    pub fn status_secrets(&self) -> DoorSecrets {
        let own = DoorSecrets::new(
            self.status_webhook_secret.clone(),
            self.status_webhook_secret_previous.clone(),
        );
        if own.is_shut() {
            self.gateway_secrets()
        } else {
            own
        }
    }

    /// The secrets of Asaas's door.
    #[must_use]
    pub fn asaas_secrets(&self) -> DoorSecrets {
        DoorSecrets::new(
            self.asaas_webhook_token.clone(),
            self.asaas_webhook_token_previous.clone(),
        )
    }

    /// The secrets of the generic door's bootstrap key.
    #[must_use]
    pub fn bootstrap_secrets(&self) -> DoorSecrets {
        DoorSecrets::new(
            self.event_ingestion_secret.clone(),
            self.event_ingestion_secret_previous.clone(),
        )
    }

    /// Whether `/api/events` is shut, for `check-config` and the start: neither a source's key nor
    /// the bootstrap key opens it.
    #[must_use]
    pub fn remark_about_keys(&self, directory: &Directory, now: DateTime<Utc>) -> Option<String> {
        let opens = |credential: &Credential| {
            credential.is_alive(now) && directory.sources.contains(&credential.source_system)
        };
        let signing = directory.signing_keys.values().flatten();
        let mut credentials = (directory.credentials.values().map(Arc::as_ref))
            .chain(signing.map(|key| key.credential.as_ref()));
        let bootstrap = !self.bootstrap_secrets().is_shut()
            && (self.event_ingestion_sources.iter())
                .any(|source| directory.sources.contains(source));
        let is_open = bootstrap || credentials.any(opens);
        (!is_open).then(|| {
            "/api/events stays shut: no source has a key (ingest admin keys create), and EVENT_INGESTION_SECRET opens nothing"
                .to_owned()
        })
    }

    /// What an operator should know about these settings, for `check-config` and the start.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut shut = |is_shut: bool, door: &str, variable: &str| {
            if is_shut {
                remarks.push(format!("{door} stays shut: {variable} is not set"));
            }
        };
        shut(
            self.gateway_secrets().is_shut(),
            "/api/whatsapp/webhook",
            "PIXELHUB_WHATSAPP_WEBHOOK_SECRET",
        );
        shut(
            self.status_secrets().is_shut(),
            "/webhook/whatsapp/delivery-status",
            "WHATSAPP_WEBHOOK_SECRET",
        );
        shut(
            self.asaas_secrets().is_shut(),
            "/webhook/asaas",
            "ASAAS_WEBHOOK_TOKEN",
        );
        shut(
            self.admin_token.is_none(),
            "the operators' listener",
            "POSTO_ADMIN_TOKEN",
        );
        if !self.bootstrap_secrets().is_shut() && self.event_ingestion_sources.is_empty() {
            remarks.push(
                "EVENT_INGESTION_SECRET opens nothing: EVENT_INGESTION_SOURCES names no source"
                    .to_owned(),
            );
        }
        if self.whatsapp_webhook_url.is_some()
            && (self.gateway_secrets().is_shut() || self.wpp.secret.is_none())
        {
            remarks.push(
                "the webhook is not registered at the gateway: it needs WPP_GATEWAY_SECRET and PIXELHUB_WHATSAPP_WEBHOOK_SECRET"
                    .to_owned(),
            );
        }
        if self.keep.history_retention_weeks > 0 && self.keep.event_retention_weeks == 0 {
            remarks.push(
                "HISTORY_RETENTION_WEEKS throws nothing out while EVENT_RETENTION_WEEKS keeps every event"
                    .to_owned(),
            );
        }
        if self.whatsapp_api_key.is_some() {
            remarks
                .push("WHATSAPP_API_KEY is not used: the official API was not chosen".to_owned());
        }
        remarks
    }
}

//! Keys of encryption at rest: services that start again with others, or do not.

use anyhow::Context as _;
use clap::Parser as _;
use secrecy::{ExposeSecret as _, SecretString};
use shared::runtime::lifecycle::Lifecycle;

use super::{ADMIN_TOKEN, ASAAS_TOKEN, WEBHOOK_SECRET, World, amqp_url, stop_cleanly};

impl World {
    /// Restarts all three services with other keys of encryption at rest, ingest last.
    ///
    /// # Errors
    /// One of them does not start, for instance because the keys are not those of the database; those
    /// after it were not asked.
    pub async fn restart_with_keys(&mut self, payload_keys: &str) -> anyhow::Result<()> {
        self.setup.payload_keys = payload_keys.to_owned();
        self.stop_router().await;
        self.stop_delivery().await;
        self.start_router().await?;
        self.start_delivery().await?;
        let ingest = Lifecycle::default();
        let args = ingest_args(&self.database_url, &self.prefix, payload_keys)?;
        let app = ingest::app::App::start(args, &ingest).await?;
        let (public, admin) = (
            app.public.context("a public listener")?,
            app.admin.context("an admin listener")?,
        );
        self.until_ready(app.ops).await;
        self.sim.register_webhook(
            &format!("http://{public}/api/whatsapp/webhook"),
            Some(WEBHOOK_SECRET),
        )?;
        (self.api, self.admin) = (format!("http://{public}"), format!("http://{admin}"));
        self.ops.insert("ingest", app.ops);
        stop_cleanly(std::mem::replace(&mut self.ingest, ingest)).await;
        Ok(())
    }

    /// Why each of the three services does not start with these keys.
    ///
    /// # Panics
    /// When one of them starts.
    pub async fn refusals_of_keys(&mut self, payload_keys: &str) -> [String; 3] {
        let mended = std::mem::replace(&mut self.setup.payload_keys, payload_keys.to_owned());
        let args = ingest_args(&self.database_url, &self.prefix, payload_keys)
            .expect("because the command line is whole");
        let ingest = Lifecycle::default();
        let refused = [
            ingest::app::App::start(args, &ingest).await.err(),
            self.start_router().await.err(),
            self.start_delivery().await.err(),
        ];
        stop_cleanly(ingest).await;
        self.setup.payload_keys = mended;
        refused.map(|error| format!("{:#}", error.expect("a service started with wrong keys")))
    }

    /// The address of this world's database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.database_url
    }
}

pub(super) fn ingest_args(
    database_url: &str,
    prefix: &str,
    payload_keys: &str,
) -> anyhow::Result<ingest::cli::RunArgs> {
    let amqp = SecretString::from(amqp_url()?);
    let cli = ingest::cli::Cli::try_parse_from([
        "ingest",
        "run",
        "--public-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--ops-listen",
        "127.0.0.1:0",
        "--database-url",
        database_url,
        "--database-max-connections",
        "6",
        "--amqp-url",
        amqp.expose_secret(),
        "--amqp-prefix",
        prefix,
        "--admin-token",
        ADMIN_TOKEN,
        "--gateway-webhook-secret",
        WEBHOOK_SECRET,
        "--asaas-webhook-token",
        ASAAS_TOKEN,
        "--payload-keys",
        payload_keys,
    ])?;
    let ingest::cli::Command::Run(args) = cli.command else {
        unreachable!("`run` was parsed")
    };
    Ok(*args)
}

//! Who is let through to the doors: which address a request comes from, how much each may bring,
//! and who is shut out.
//!
//! Invariant: no request waits for the database here. What an authentic provider brings is never
//! refused here: the gateway's and Asaas's doors ask only whether the source may come from there.

pub(crate) mod client;
pub(crate) mod limits;
pub(crate) mod shut_out;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use shared::domain::ids::TenantId;
use shared::domain::network::Network;
use shared::runtime::telemetry::chain;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use client::Proxies;
pub use client::ProxyHeader;
pub use limits::LimitArgs;
use limits::{Exceeded, Limits};
pub use shut_out::ShutOutArgs;
use shut_out::ShutOuts;

/// How long whoever is shut out waits for the answer.
const HELD_FOR: Duration = Duration::from_secs(1);
/// So many wait at one time, no more: each keeps a connection and what was read of its request.
const MOST_HELD: usize = 512;
/// How often shut-outs are brought in line with the table, and old counts forgotten.
const SYNC_EVERY: Duration = Duration::from_secs(3);

/// Settings of what stands before the doors.
#[derive(Clone, Debug, clap::Args)]
pub struct GuardArgs {
    /// Proxies whose word about the client's address is believed: networks, separated by commas.
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Network>,
    /// The header in which they tell it.
    #[arg(long, env = "TRUSTED_PROXY_HEADER", value_enum, default_value_t = ProxyHeader::XForwardedFor)]
    pub trusted_proxy_header: ProxyHeader,
    /// How much each may bring.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Who is shut out.
    #[command(flatten)]
    pub shut_out: ShutOutArgs,
}

/// What stands before the doors.
pub(crate) struct Guard {
    pub(crate) proxies: Proxies,
    limits: Limits,
    shut_outs: ShutOuts,
    held: Semaphore,
    metrics: GuardMetrics,
}

impl Guard {
    /// # Errors
    /// A name is taken on the registry.
    pub(crate) fn new(args: &GuardArgs, registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            proxies: Proxies {
                trusted: args.trusted_proxies.iter().copied().collect(),
                header: args.trusted_proxy_header,
            },
            limits: Limits::new(&args.limits),
            shut_outs: ShutOuts::new(args.shut_out),
            held: Semaphore::new(MOST_HELD),
            metrics: GuardMetrics::register(registry)?,
        })
    }

    /// Takes one request of an address.
    pub(crate) fn take_request(&self, client: IpAddr) -> Result<(), Exceeded> {
        self.told(self.limits.take_request(client))
    }

    /// Takes one event.
    pub(crate) fn take_event(
        &self,
        source: &str,
        tenant: Option<TenantId>,
        event_type: &str,
    ) -> Result<(), Exceeded> {
        self.told(self.limits.take_event(source, tenant, event_type))
    }

    fn told(&self, taken: Result<(), Exceeded>) -> Result<(), Exceeded> {
        taken.inspect_err(|exceeded| {
            let policy = &[exceeded.policy];
            self.metrics.limited.with_label_values(policy).inc();
        })
    }

    /// Counts a failed authentication.
    pub(crate) fn failed(&self, client: IpAddr) {
        if self.shut_outs.failed(client) {
            self.metrics.blocks.inc();
            tracing::warn!(
                "an address failed to authenticate again and again and is shut out: GET /admin/ip-blocks"
            );
        }
    }

    /// For how many seconds more an address is shut out.
    pub(crate) fn shut_out(&self, client: IpAddr) -> Option<u64> {
        self.shut_outs.left(client)
    }

    /// Lets whoever is shut out wait for the answer. A flood asks again when it is answered, so it
    /// becomes a trickle; beyond so many at one time the answer comes at once.
    pub(crate) async fn hold(&self, client: IpAddr) {
        if self.shut_out(client).is_some()
            && let Ok(_place) = self.held.try_acquire()
        {
            tokio::time::sleep(HELD_FOR).await;
        }
    }
}

/// Keeps the guard in line with the table, and its memory small, until `stopping`.
pub(crate) async fn keep(guard: Arc<Guard>, pool: PgPool, stopping: CancellationToken) {
    loop {
        match guard.shut_outs.sync(&pool).await {
            Ok(shut) => guard
                .metrics
                .shut
                .set(i64::try_from(shut).unwrap_or(i64::MAX)),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "shut-outs could not be brought in line, trying again");
            }
        }
        guard.limits.forget();
        tokio::select! {
            () = tokio::time::sleep(SYNC_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

struct GuardMetrics {
    limited: IntCounterVec,
    blocks: IntCounter,
    shut: IntGauge,
}

impl GuardMetrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            limited: IntCounterVec::new(
                Opts::new(
                    "hub_limits_exceeded_total",
                    "Requests and events refused because a limit was met, by its policy.",
                ),
                &["policy"],
            )?,
            blocks: IntCounter::new(
                "hub_address_blocks_total",
                "Addresses shut out by this process for failing to authenticate again and again.",
            )?,
            shut: IntGauge::new(
                "hub_addresses_shut_out",
                "Addresses that are shut out now, by whichever process.",
            )?,
        };
        // Prometheus does not see the first count of a series that begins with it.
        for policy in ["address", "source", "tenant", "source-type"] {
            metrics.limited.with_label_values(&[policy]);
        }
        registry.register(Box::new(metrics.limited.clone()))?;
        registry.register(Box::new(metrics.blocks.clone()))?;
        registry.register(Box::new(metrics.shut.clone()))?;
        Ok(metrics)
    }
}

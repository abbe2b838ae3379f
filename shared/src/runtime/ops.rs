//! The listener for whoever runs the process: `/healthz`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the probes and metrics are served.
#[derive(Clone, Debug, clap::Args)]
pub struct OpsArgs {
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    #[arg(long, env = "OPS_LISTEN", default_value = "127.0.0.1:9090")]
    pub ops_listen: SocketAddr,
}

/// One thing that must hold for the process to be ready.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What is wrong, for a person; never a secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Check {
    /// A check that holds when `fault` is none.
    #[must_use]
    pub fn from_fault(name: &'static str, fault: Option<String>) -> Self {
        Self {
            name,
            ok: fault.is_none(),
            detail: fault.unwrap_or_default(),
        }
    }
}

/// Answers whether the process is ready, asked anew at each probe.
pub type Readiness =
    Arc<dyn Fn() -> futures_util::future::BoxFuture<'static, Vec<Check>> + Send + Sync>;

#[derive(Clone)]
struct OpsState {
    registry: Registry,
    readiness: Readiness,
}

/// Serves the probes and metrics on `listener` until `stopping`.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    readiness: Readiness,
    stopping: CancellationToken,
) {
    let app = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(OpsState {
            registry,
            readiness,
        });
    let served = axum::serve(listener, app)
        .with_graceful_shutdown(stopping.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(error = %super::telemetry::chain(&error), "the ops listener ended");
    }
}

async fn readyz(State(state): State<OpsState>) -> impl IntoResponse {
    let checks = (state.readiness)().await;
    let status = if checks.iter().all(|check| check.ok) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(checks))
}

async fn metrics(State(state): State<OpsState>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&state.registry.gather()) {
        Ok(text) => (
            StatusCode::OK,
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        ),
        Err(error) => {
            tracing::error!(error = %super::telemetry::chain(&error), "metrics could not be written");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                [(header::CONTENT_TYPE, "text/plain")],
                String::new(),
            )
        }
    }
}

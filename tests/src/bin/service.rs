//! One of the three services as a process of its own, in a build that has failpoints: what the
//! chaos suite starts and kills. The first argument is the service, the rest its command line.

use std::ffi::OsString;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|name| name.to_str()) {
        Some("ingest") => ingest::process::run(arguments).await,
        Some("router-worker") => router_worker::process::run(arguments).await,
        Some("delivery-worker") => delivery_worker::process::run(arguments).await,
        _ => anyhow::bail!("name a service: ingest, router-worker or delivery-worker"),
    }
}

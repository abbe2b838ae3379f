//! The router-worker binary: hands its command line to the library.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    router_worker::process::run(std::env::args_os()).await
}

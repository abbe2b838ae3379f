//! The delivery-worker binary: hands its command line to the library.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    delivery_worker::process::run(std::env::args_os()).await
}

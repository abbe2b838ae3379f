//! The ingest binary: hands its command line to the library.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    ingest::process::run(std::env::args_os()).await
}

//! The delivery-worker binary: hands its command line to the library.

/// About a sixth of the CPU of the services was glibc's allocator's (docs/decisions.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    delivery_worker::process::run(std::env::args_os()).await
}

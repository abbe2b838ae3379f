//! The router-worker binary: hands its command line to the library.

/// Half of what an event costs here is taking and giving back memory, which glibc does slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    router_worker::process::run(std::env::args_os()).await
}

//! What a process asks of the kernel about its memory.

/// Asks for pages of the usual size from now on. The allocator asks for huge ones (2 MiB), which a service
/// of this size fills in part (docs/performance.md tells how much that was).
///
/// A kernel that cannot is no trouble: the process is somewhat larger then.
pub fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "memory.huge_pages_stay");
    }
}

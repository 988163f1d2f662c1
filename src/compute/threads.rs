//! Threads that stay on their cores.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A pool of so many threads, each on a core of its own where the system lets us choose: two threads that share a
/// core for a while take twice as long, every repeat alike.
///
/// # Errors
/// The system gives no threads.
pub fn pinned(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .start_handler(move |index| {
            if threads <= cores.len()
                && let Some(core) = cores.get(index)
            {
                core_affinity::set_for_current(*core);
            }
        })
        .build()
}

//! What the operating system is asked: files, cores, the clock of this thread's work.

use std::time::Duration;

/// Raises the bound of open files as far as it goes and returns it.
#[cfg(unix)]
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What fails here shows at the first connection too many.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the bound of open files as far as it goes and returns it.
#[cfg(not(unix))]
pub fn raise_open_files() -> u64 {
    u64::MAX
}

/// CPU time of this thread.
#[cfg(unix)]
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(not(unix))]
pub(crate) fn own_cpu() -> Duration {
    Duration::ZERO
}

/// Keeps this thread on one core, counted from 0.
///
/// # Errors
/// In words: the system has no such core, or cannot do that.
#[cfg(target_os = "linux")]
pub fn pin_to_core(core: usize) -> Result<(), String> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if core >= CpuSet::MAX_CPU {
        return Err(format!("there is no core {core}"));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("core {core} cannot be used: {error}"))
}

/// Keeps this thread on one core, counted from 0.
///
/// # Errors
/// In words: the system has no such core, or cannot do that.
#[cfg(not(target_os = "linux"))]
pub fn pin_to_core(_core: usize) -> Result<(), String> {
    Err("a thread can be kept on a core on Linux only".into())
}

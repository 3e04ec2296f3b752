//! The process's table of open files.

/// Up to so many open files the table is made large enough at once: half a megabyte of the kernel's.
#[cfg(unix)]
const MOST: u64 = 65_536;

/// Has the kernel make the table of open files as large as it may have to be.
///
/// It doubles the table when it is full, and with several threads running each doubling waits until none of them uses the old one:
/// in a storm of connections that is where the slowest tenth of a second comes from. Failing it costs nothing but that.
#[cfg(unix)]
pub(super) fn reserve() {
    use rustix::process::{Resource, getrlimit};

    let most = getrlimit(Resource::Nofile).current.unwrap_or(MOST).min(MOST);
    let Some(last) = most.checked_sub(1).and_then(|last| i32::try_from(last).ok()) else { return };
    let reserved = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last);
    if let Err(error) = reserved {
        tracing::debug!(%error, "the table of open files grows as it is needed");
    }
}

#[cfg(not(unix))]
pub(super) fn reserve() {}

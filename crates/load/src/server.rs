//! What the server took meanwhile: CPU time and memory, as Linux tells of its processes.

use std::fs;
use std::io;

use crate::plan::Watched;

/// A process whose resources are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    watched: Watched,
}

impl Server {
    /// # Errors
    /// What the system says when there is no such process, or none can be looked at.
    pub(crate) fn watch(watched: Watched) -> io::Result<Self> {
        let server = Self { watched };
        if let Watched::Process(pid) = watched {
            fs::read_dir(format!("/proc/{pid}/task"))?;
        }
        Ok(server)
    }

    /// CPU time so far in nanoseconds, by the scheduler's clock, of all threads that live.
    pub(crate) fn cpu_ns(self) -> Option<u64> {
        let (folder, except) = match self.watched {
            Watched::Nobody => return None,
            Watched::Process(pid) => (format!("/proc/{pid}/task"), None),
            Watched::OtherThreads => ("/proc/self/task".to_owned(), own_thread()),
        };
        let mut sum = 0;
        for thread in fs::read_dir(folder).ok()?.flatten() {
            if except.as_deref() == thread.file_name().to_str() {
                continue;
            }
            // A thread may end between the two.
            let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            sum += stat.split_ascii_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        }
        Some(sum)
    }

    /// Resident memory in bytes. Not of a server in this process: the load's own would be in it.
    pub(crate) fn memory_bytes(self) -> Option<u64> {
        self.kibibytes("smaps_rollup", "Rss:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub(crate) fn peak_memory_bytes(self) -> Option<u64> {
        self.kibibytes("status", "VmHWM:")
    }

    fn kibibytes(self, file: &str, name: &str) -> Option<u64> {
        let Watched::Process(pid) = self.watched else { return None };
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

#[cfg(target_os = "linux")]
fn own_thread() -> Option<String> {
    Some(rustix::thread::gettid().as_raw_nonzero().to_string())
}

#[cfg(not(target_os = "linux"))]
fn own_thread() -> Option<String> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_and_its_absence_noticed() {
        let server = Server::watch(Watched::Process(std::process::id())).unwrap();
        let memory = server.memory_bytes().unwrap();
        assert!(memory > 100_000 && server.peak_memory_bytes().unwrap() + (1 << 20) > memory);
        assert!(server.cpu_ns().unwrap() > 0);
        assert!(Server::watch(Watched::Process(u32::MAX - 1)).is_err());
        assert_eq!(Server::watch(Watched::Nobody).unwrap().cpu_ns(), None);
    }

    #[test]
    fn the_work_of_the_load_itself_is_left_out() {
        let work = || {
            let start = std::time::Instant::now();
            while start.elapsed().as_millis() < 300 {
                std::hint::black_box(fs::metadata("/").ok());
            }
        };
        // Measured on a thread of its own: other tests' threads are in the sum, so it is compared with the whole.
        let both = std::thread::spawn(move || {
            let all = Server::watch(Watched::Process(std::process::id())).unwrap();
            let others = Server::watch(Watched::OtherThreads).unwrap();
            let before = (all.cpu_ns().unwrap(), others.cpu_ns().unwrap(), crate::system::own_cpu());
            work();
            let after = (all.cpu_ns().unwrap(), others.cpu_ns().unwrap(), crate::system::own_cpu());
            (after.0 - before.0, after.1.saturating_sub(before.1), (after.2 - before.2).as_nanos() as u64)
        });
        let (all, others, own) = both.join().unwrap();
        assert!(all.saturating_sub(others) > own / 2, "{all} {others} {own}");
    }
}

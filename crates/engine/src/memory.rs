//! How much memory this process uses, and how much there is.

use std::fs;

/// Bytes of this process in memory. `None` where the system does not tell (only Linux does).
pub(crate) fn used() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes there are for this process: of its control group if that is less than of the machine.
pub(crate) fn available() -> Option<u64> {
    let machine = kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:");
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        // The word `max` stands for no limit.
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// The figure of a line like `VmRSS:     1234 kB`, in bytes.
fn kilobytes(lines: &str, name: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_name_and_told_in_bytes() {
        let status = "Name:\tposthaste\nVmHWM:\t  900 kB\nVmRSS:\t  812 kB\nThreads:\t3\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(812 * 1024));
        assert_eq!(kilobytes(status, "MemTotal:"), None);
        assert_eq!(kilobytes("VmRSS:\tmany kB\n", "VmRSS:"), None);
        assert_eq!(kilobytes("VmRSS:\t18446744073709551615 kB\n", "VmRSS:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_some_and_less_than_there_is() {
        let (used, available) = (used().unwrap(), available().unwrap());
        assert!(100_000 < used && used < available, "{used} of {available}");
    }
}

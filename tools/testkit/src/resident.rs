//! The memory of this process.

/// Bytes of this process that are in memory (its resident set); `None` where `/proc` does not tell.
///
/// ```
/// if let Some(bytes) = posthaste_testkit::resident_bytes() {
///     assert!(bytes > 100_000);
/// }
/// ```
#[must_use]
pub fn resident_bytes() -> Option<usize> {
    // The second figure of `statm`, in pages. Pages are 4 KiB wherever `/proc` is, in all machines our tests run on; a larger
    // page would only make bounds stricter.
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

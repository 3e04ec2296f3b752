//! The program that `cargo xtask fuzz` runs: libFuzzer around the target that `POSTHASTE_FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use posthaste_fuzz::{Target, find};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("POSTHASTE_FUZZ_TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| panic!("POSTHASTE_FUZZ_TARGET names no target: {name:?}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));

//! Times and sizes as people write them.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// A time: `"250ms"`, `"10s"`, `"7d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A size: `"64KiB"`, `"1MB"`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

const TIMES: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A whole number and its unit, in the smallest one.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let digits = digits.trim_end();
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    if is_number { digits.parse::<u64>().ok()?.checked_mul(*factor) } else { None }
}

/// A time, or what is wrong with it.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let millis = number(text, &TIMES);
    let wrong = || format!("{text:?} is no time: write a whole number and ms, s, m, h, d or w, as in \"7d\"");
    millis.map(Duration::from_millis).ok_or_else(wrong)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        span(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size such as \"64KiB\"")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => number(&text, &SIZES).map(Self).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "{text:?} is no size: write a whole number and B, KiB, MiB, GiB or TiB, as in \"64KiB\""
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        for (text, millis) in
            [("250ms", 250), ("0s", 0), ("10 s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            assert_eq!(number(text, &TIMES), Some(millis), "{text}");
        }
        for (text, bytes) in [("64KiB", 65_536), ("1MB", 1_000_000), ("3B", 3), ("2TiB", 2 << 40)] {
            assert_eq!(number(text, &SIZES), Some(bytes), "{text}");
        }
        for text in
            ["", "7", "d", "-1d", "+1d", "1.5h", "7 days", "99999999999999999999d", "18446744073709551615w", "1d1h"]
        {
            assert_eq!(number(text, &TIMES), None, "{text}");
        }
    }
}

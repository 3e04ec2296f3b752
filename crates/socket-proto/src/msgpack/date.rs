//! The text of a date, as JavaScript writes it.

/// The last millisecond that a JavaScript `Date` can be, and minus that the first.
///
/// Source: ECMA-262, "Time Values and Time Range".
const FARTHEST: i64 = 8_640_000_000_000_000;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// `Date.prototype.toJSON`: `"1970-01-01T00:00:00.005Z"` with its quotes, or `null` for what is no date.
///
/// `milliseconds` count from 1970 in UTC.
pub(super) fn write(out: &mut Vec<u8>, milliseconds: i64) {
    if !(-FARTHEST..=FARTHEST).contains(&milliseconds) {
        return out.extend_from_slice(b"null");
    }
    let (year, month, day) = civil(milliseconds.div_euclid(DAY));
    let time = milliseconds.rem_euclid(DAY);
    let (second, millisecond) = (time / 1000, time % 1000);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text = format!("\"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z\"");
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March: leap days are then the last of their year. Eras of 400 years have all the same length.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + 400 * era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(milliseconds: i64) -> String {
        let mut out = Vec::new();
        write(&mut out, milliseconds);
        String::from_utf8(out).expect("text")
    }

    // What node prints for `JSON.stringify(new Date(…))`.
    #[test]
    fn dates_are_written_as_javascript_does() {
        for (milliseconds, expected) in [
            (0, "\"1970-01-01T00:00:00.000Z\""),
            (5, "\"1970-01-01T00:00:00.005Z\""),
            (-1, "\"1969-12-31T23:59:59.999Z\""),
            (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
            (1_709_251_199_999, "\"2024-02-29T23:59:59.999Z\""),
            (4_107_542_400_000, "\"2100-03-01T00:00:00.000Z\""),
            (253_402_300_799_999, "\"9999-12-31T23:59:59.999Z\""),
            (253_402_300_800_000, "\"+010000-01-01T00:00:00.000Z\""),
            (-62_167_219_200_000, "\"0000-01-01T00:00:00.000Z\""),
            (-62_167_219_200_001, "\"-000001-12-31T23:59:59.999Z\""),
            (FARTHEST, "\"+275760-09-13T00:00:00.000Z\""),
            (-FARTHEST, "\"-271821-04-20T00:00:00.000Z\""),
            (FARTHEST + 1, "null"),
            (-FARTHEST - 1, "null"),
            (i64::MIN, "null"),
        ] {
            assert_eq!(text(milliseconds), expected, "{milliseconds}");
        }
    }

    #[test]
    fn days_follow_one_another() {
        let mut before = civil(-1_000_000);
        for day in -999_999..1_000_000 {
            let next = civil(day);
            let (year, month, date) = before;
            assert!(
                next == (year, month, date + 1)
                    || (next == (year, month + 1, 1) && date >= 28)
                    || (next == (year + 1, 1, 1) && (month, date) == (12, 31)),
                "{before:?} {next:?}"
            );
            before = next;
        }
    }
}

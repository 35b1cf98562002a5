//! Durations, sizes and percentages as manifests write them: always with their unit.
//!
//! A number without its unit is refused, because "30" was meant as minutes by one person and as seconds by the next.

use std::time::Duration;

/// Why a text is not a quantity: what came, and how it would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// Units of time, longest first, in milliseconds.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size, in bytes.
const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// The longest duration that a manifest may name: ten years, in milliseconds.
const LONGEST: u64 = 3_650 * 86_400_000;

/// Reads a duration: `250ms`, `30s`, `1h30m`, `30d`; each unit once, the longest first.
///
/// # Errors
/// The text is not of this form, or longer than ten years.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let wrong = |why: &str| Invalid(format!("{text:?} is not a duration: {why}"));
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Err(Invalid(format!("{text} is not a duration, it has no unit: write {text}s, {text}m, {text}h …")));
    }
    let mut rest = text;
    let mut units = TIMES.as_slice();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(|| wrong("write 30s, 5m, 2h, 30d, 1h30m or 250ms"))?;
        let length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(length);
        let position = units
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| wrong("units are d, h, m, s and ms, each once, the longest first"))?;
        total = number
            .checked_mul(units[position].1)
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= LONGEST)
            .ok_or_else(|| wrong("longer than ten years"))?;
        units = &units[position + 1..];
        rest = after;
    }
    if text.is_empty() {
        Err(wrong("write 30s, 5m, 2h, 30d, 1h30m or 250ms"))
    } else {
        Ok(Duration::from_millis(total))
    }
}

/// Reads a size in bytes: `64KiB`, `1MiB`, `512MB`, `100B`.
///
/// # Errors
/// The text is not a whole number with one of the units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB, or is out of range.
pub fn size(text: &str) -> Result<u64, Invalid> {
    let wrong = |why: &str| Invalid(format!("{text:?} is not a size: {why}"));
    let (number, unit) = split_number(text).ok_or_else(|| wrong("write 64KiB, 1MiB, 512MB or 100B"))?;
    if unit.is_empty() {
        return Err(Invalid(format!("{text} is not a size, it has no unit: write {text}B, {text}KiB, {text}MiB …")));
    }
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        let meant = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        return Err(meant.map_or_else(
            || wrong("units are B, KB, MB, GB, TB, KiB, MiB, GiB and TiB"),
            |(name, _)| wrong(&format!("write {number}{name}")),
        ));
    };
    number.checked_mul(*factor).ok_or_else(|| wrong("too large"))
}

/// Reads a percentage: `10%`, or the number alone where the field's name says percent. From 0 to 100.
///
/// # Errors
/// The text is not a number, or is out of range.
pub fn percent(text: &str) -> Result<f64, Invalid> {
    let wrong = || Invalid(format!("{text:?} is not a percentage: write a number from 0 to 100, or 10%"));
    let number = text.strip_suffix('%').unwrap_or(text);
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    number.parse().ok().filter(|number| (0.0..=100.0).contains(number)).ok_or_else(wrong)
}

/// Writes a duration as [`duration`] reads it, in the fewest units; parts of a millisecond are dropped.
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in TIMES {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A number of bytes for people, in the largest unit of 1024 that fits: `512 B`, `4.0 MiB`.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        // What would read as 1024.0 is written in the next unit.
        if scaled < 1_023.95 {
            break;
        }
        (scaled, unit) = (scaled / 1_024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") }
}

/// The digits at the beginning as a number, and what follows them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        let read = |text| duration(text).map(|duration| duration.as_millis()).map_err(|error| error.to_string());
        assert_eq!(read("250ms"), Ok(250));
        assert_eq!(read("30s"), Ok(30_000));
        assert_eq!(read("5m"), Ok(300_000));
        assert_eq!(read("1h30m"), Ok(5_400_000));
        assert_eq!(read("30d"), Ok(2_592_000_000));
        assert_eq!(read("0s"), Ok(0));
        assert_eq!(read("30"), Err("30 is not a duration, it has no unit: write 30s, 30m, 30h …".to_owned()));
        for wrong in ["", "s", "30 s", "5m1h", "1h1h", "1.5h", "-5s", "9999999999999999999s", "4000d", "30S"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        let read = |text| size(text).map_err(|error| error.to_string());
        assert_eq!(read("64KiB"), Ok(65_536));
        assert_eq!(read("1MiB"), Ok(1_048_576));
        assert_eq!(read("512MB"), Ok(512_000_000));
        assert_eq!(read("7B"), Ok(7));
        assert_eq!(read("512mb"), Err("\"512mb\" is not a size: write 512MB".to_owned()));
        for wrong in ["", "12", "2048m", "MB", "99999999999TiB", "1.5MiB"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_written_for_people() {
        let sizes = [0, 1_023, 1_024, 4 << 20, (1 << 30) - 1, u64::MAX].map(size_text);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "4.0 MiB", "1.0 GiB", "16.0 EiB"]);
    }

    #[test]
    fn percentages_stay_in_range() {
        assert_eq!(percent("10%"), Ok(10.0));
        assert_eq!(percent("2.5"), Ok(2.5));
        for wrong in ["", "%", "-1", "101", "1e1", "NaN", "1.2.3"] {
            assert!(percent(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds in 0..LONGEST) {
            let wanted = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&duration_text(wanted)), Ok(wanted));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = (duration(&text), size(&text), percent(&text));
        }
    }
}

//! Spans of time inside conditions: `"1h"`, `"90s"`, `"1h30m"`.

use std::time::Duration;

/// Longest span, in days: longer ones are slips.
const MAX_DAYS: u64 = 400;

/// Reads a span; absent when it is none: numbers with units, positive, at most 400 days.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60 * 1000,
            "h" => 3600 * 1000,
            "d" => 86_400 * 1000,
            "w" => 7 * 86_400 * 1000,
            _ => return None,
        };
        let part = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(milliseconds)?);
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!total.is_zero() && total <= Duration::from_secs(MAX_DAYS * 86_400)).then_some(total)
}

/// Writes a span in its largest units: `1h30m`.
pub(super) fn text(span: Duration) -> String {
    let mut left = span.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= milliseconds {
            text.push_str(&format!("{}{unit}", left / milliseconds));
            left %= milliseconds;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (written, seconds) in [("1h", 3600), ("90s", 90), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800)] {
            assert_eq!(parse(written), Some(Duration::from_secs(seconds)), "{written}");
        }
        for wrong in
            ["", "1", "h", "0s", "-1h", "1.5h", "1y", "500d", "99999999999999999999s", "1h ", "18446744073709551615w"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spans_are_written_as_they_are_read() {
        for written in ["1h", "1m30s", "1h30m", "2d", "250ms"] {
            assert_eq!(text(parse(written).expect("a span")), written);
        }
    }
}

//! Spans of time inside conditions: `"1h"`, `"90s"`, `"1h30m"`, as manifests write durations.

use std::time::Duration;

use crate::unit;

/// Longest span: longer ones are slips.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// Reads a span; absent when it is none, is zero or is longer than 400 days.
pub(super) fn parse(text: &str) -> Option<Duration> {
    unit::duration(text).ok().filter(|span| !span.is_zero() && *span <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_bounds() {
        for (written, seconds) in [("1h", 3600), ("90s", 90), ("1h30m", 5400), ("400d", 400 * 86_400)] {
            assert_eq!(parse(written), Some(Duration::from_secs(seconds)), "{written}");
        }
        for wrong in ["", "1", "h", "0s", "-1h", "1.5h", "1y", "401d", "99999999999999999999s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

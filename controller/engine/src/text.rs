//! Words for people.

use std::time::Duration;

use jiff::Timestamp;

/// A span in its largest fitting units: `90s`, `5m`, `1h30m`, `26h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    if seconds == 0 && span.subsec_millis() > 0 {
        return format!("{}ms", span.subsec_millis());
    }
    let (hours, minutes, rest) = (seconds / 3_600, seconds % 3_600 / 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, rest) => format!("{rest}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, _, _) if seconds < 300 => format!("{seconds}s"),
        (0, minutes, rest) => format!("{minutes}m{rest}s"),
        (hours, 0, 0) => format!("{hours}h"),
        (hours, minutes, 0) => format!("{hours}h{minutes}m"),
        (hours, minutes, rest) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// A moment to the second: `2026-11-23T09:05:10Z`.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_manifests_write_them() {
        let words: Vec<String> =
            [0, 60, 90, 300, 3_600, 5_400, 93_600].iter().map(|s| span(Duration::from_secs(*s))).collect();
        assert_eq!(words, ["0s", "1m", "90s", "5m", "1h", "1h30m", "26h"]);
        assert_eq!(span(Duration::from_millis(250)), "250ms");
    }
}

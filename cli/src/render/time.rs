//! Times for people: how long ago, how long still.

use jiff::Timestamp;

use super::escape;

/// "5m ago", "in 2h", or the text itself when it is no time.
pub fn relative(text: &str, now: Timestamp) -> String {
    let Ok(time) = text.parse::<Timestamp>() else { return escape::line(text).into_owned() };
    let seconds = now.as_second() - time.as_second();
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("{} ago", span(seconds.unsigned_abs())),
        _ => format!("in {}", span(seconds.unsigned_abs())),
    }
}

/// As [`relative`], of a time that may not have come; "-" then.
pub fn relative_or_dash(text: Option<&str>, now: Timestamp) -> String {
    text.map_or_else(|| "-".to_owned(), |text| relative(text, now))
}

/// The time to the second, and how long ago: `2026-11-22 10:04:00Z (5m ago)`.
pub fn full(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => format!("{} ({})", time.strftime("%Y-%m-%d %H:%M:%SZ"), relative(text, now)),
        Err(_) => escape::line(text).into_owned(),
    }
}

/// The time of day to the millisecond, for stories that happen within minutes.
pub fn clock(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.strftime("%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => escape::line(text).into_owned(),
    }
}

/// Seconds in their largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (time, words) in [
            ("2026-11-22T10:00:00Z", "now"),
            ("2026-11-22T09:59:01Z", "59s ago"),
            ("2026-11-22T09:50:00Z", "10m ago"),
            ("2026-11-21T20:00:00Z", "14h ago"),
            ("2026-10-22T10:00:00Z", "31d ago"),
            ("2026-11-22T12:30:00Z", "in 2h"),
            ("soon\u{1b}", "soon\\u{1b}"),
        ] {
            assert_eq!(relative(time, now), words);
        }
        assert_eq!(relative_or_dash(None, now), "-");
        assert_eq!(full("2026-11-22T09:50:00.5Z", now), "2026-11-22 09:50:00Z (10m ago)");
        assert_eq!(clock("2026-11-22T09:50:00.25Z"), "11-22 09:50:00.250");
    }
}

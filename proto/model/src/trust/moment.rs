//! The times of `valid-after` and `valid-before`: `YYYYMMDD[HHMM[SS]]`, with `Z` or `UTC` in UTC, else local.
//!
//! OpenSSH reads a local time with `mktime` and `tm_isdst` 0, which means *standard* time all year round: in Berlin
//! `202606011200` is 11:00 UTC, one hour later than the clock on the wall says. That is kept here, because a line has
//! to mean the same to us and to `ssh-keygen`. So are days that a month does not have: 31 February is 3 March.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// The steps in which glibc's `mktime` looks for standard time around a moment of summer time, seconds,
const STRIDE: i64 = 601_200;
/// and how many steps it goes either way.
const STEPS: i64 = 447;

/// A time as a line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// On the clock, in seconds from 1970-01-01 00:00 on that clock.
    seconds: i64,
    utc: bool,
}

impl Moment {
    /// Reads a time; nothing when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digits, utc) = match split_suffix(text, "Z").or_else(|| split_suffix(text, "UTC")) {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<i16>().ok());
        let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
        let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
        if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 61 {
            return None;
        }
        let midnight = Date::new(year, i8::try_from(month).ok()?, 1).ok()?.at(0, 0, 0, 0);
        let epoch: DateTime = Date::constant(1970, 1, 1).at(0, 0, 0, 0);
        let since = midnight.duration_since(epoch).as_secs();
        let within = i64::from(day - 1) * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
        Some(Self { seconds: since + within, utc }).filter(|moment| moment.seconds > 0)
    }

    /// Whether it is earlier than another, as far as that can be said without a zone.
    pub(super) fn is_before(self, other: Self) -> Option<bool> {
        (self.utc == other.utc).then_some(self.seconds < other.seconds)
    }

    /// Seconds since the epoch. Years up to 9999 fit, which a [`Timestamp`] does not quite hold.
    pub(super) fn instant(self, zone: &TimeZone) -> i64 {
        if self.utc { self.seconds } else { self.seconds - self.standard_offset(zone) }
    }

    /// The offset of standard time, in seconds, as `mktime` finds it.
    fn standard_offset(self, zone: &TimeZone) -> i64 {
        let clamped = |seconds: i64| {
            Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
        };
        let on_clock = DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(SignedDuration::from_secs(self.seconds));
        let guess = on_clock.ok().and_then(|clock| zone.to_timestamp(clock).ok());
        let guess = guess.unwrap_or_else(|| clamped(self.seconds));
        let offset = |at: Timestamp| {
            let info = zone.to_offset_info(at);
            (info.dst().is_dst(), i64::from(info.offset().seconds()))
        };
        let (is_dst, here) = offset(guess);
        if !is_dst {
            return here;
        }
        let around = (1..=STEPS).flat_map(|step| [-step * STRIDE, step * STRIDE]);
        let mut standard = around.map(|away| offset(clamped(guess.as_second() + away))).filter(|(is_dst, _)| !is_dst);
        standard.next().map_or(here, |(_, offset)| offset)
    }
}

/// What stands before a suffix, whatever its case; nothing when that would be nothing.
fn split_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len()).filter(|at| *at > 0)?;
    let end = text.get(at..)?;
    end.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str) -> Option<String> {
        let zone = TimeZone::get(zone).unwrap();
        Moment::parse(text).map(|moment| Timestamp::from_second(moment.instant(&zone)).unwrap().to_string())
    }

    #[test]
    fn times_are_read_as_openssh_reads_them() {
        let berlin = |text| at(text, "Europe/Berlin");
        assert_eq!(berlin("20260101Z").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(berlin("20260101").as_deref(), Some("2025-12-31T23:00:00Z"));
        assert_eq!(berlin("202606011200").as_deref(), Some("2026-06-01T11:00:00Z"), "standard time, in June too");
        assert_eq!(berlin("202606011200utc").as_deref(), Some("2026-06-01T12:00:00Z"));
        assert_eq!(berlin("202603290230").as_deref(), Some("2026-03-29T01:30:00Z"), "left out by the clocks");
        assert_eq!(berlin("202610250230").as_deref(), Some("2026-10-25T01:30:00Z"), "twice on the clocks");
        assert_eq!(berlin("20260231z").as_deref(), Some("2026-03-03T00:00:00Z"));
        assert_eq!(berlin("20260101235961Z").as_deref(), Some("2026-01-02T00:00:01Z"));
        assert_eq!(at("20260601", "Australia/Sydney").as_deref(), Some("2026-05-31T14:00:00Z"));
        assert_eq!(at("20260101", "Australia/Sydney").as_deref(), Some("2025-12-31T14:00:00Z"));
        assert!(Moment::parse("99991231").unwrap().instant(&TimeZone::UTC) > Timestamp::MAX.as_second());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "Z", "UTC", "2026", "20261301", "20260100", "20260132", "2026010124", "202601012400"] {
            assert_eq!(Moment::parse(text), None, "{text:?}");
        }
        for text in ["19700101Z", "19691231", "202601011260", "2026-1-1", "20260101 Z", "20260101ZZ", "2026010１"] {
            assert_eq!(Moment::parse(text), None, "{text:?}");
        }
    }
}

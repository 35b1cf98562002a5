//! Opening hours and timetables, right across daylight saving. Time zones come with the program, not from the host.
//!
//! A time of day means the first instant of that day at which the clock shows it or has passed it: a time that the
//! spring change leaves out is the moment of the change, one that the autumn change repeats is the first of the two.

use std::{collections::BTreeMap, str::FromStr as _};

use jiff::{
    Timestamp, ToSpan as _,
    civil::Date,
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::{digest::Digest, name::FullName};

/// Days of the week as manifests write them, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of one day, in minutes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Opening, from 0 to 1439.
    pub from: u16,
    /// Closing, later than `from`; over 1440 it is on the next day.
    pub to: u16,
}

impl Hours {
    /// Hours from one time of day to another, which is on the next day when it is not later.
    pub fn new(from: u16, to: u16) -> Self {
        Self { from, to: if to > from { to } else { to + 1440 } }
    }
}

/// When something is open.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// The zone of its hours.
    pub time_zone: TimeZone,
    /// Hours of an ordinary week, Monday first.
    pub week: [Vec<Hours>; 7],
    /// Dates with hours of their own; none: closed.
    pub exceptions: BTreeMap<Date, Vec<Hours>>,
}

impl Calendar {
    /// Whether it is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let today = self.date(now);
        // Hours that began yesterday may last into today.
        [today.yesterday().ok(), Some(today)]
            .into_iter()
            .flatten()
            .any(|day| self.spans(day).any(|(from, to)| (from..to).contains(&now)))
    }

    /// The next moment after `now` at which it opens or closes; absent when it never does.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let is_open = self.is_open(now);
        let mut moments: Vec<_> = self
            .days_to_look_at(self.date(now))
            .into_iter()
            .flat_map(|day| self.spans(day).flat_map(|(from, to)| [from, to]).collect::<Vec<_>>())
            .filter(|moment| *moment > now)
            .collect();
        moments.sort_unstable();
        moments.dedup();
        moments.into_iter().find(|moment| self.is_open(*moment) != is_open)
    }

    /// Days on which the next change can be: two ordinary weeks, and those around each exception.
    fn days_to_look_at(&self, today: Date) -> Vec<Date> {
        let around = |day: Date, before: i32, after: i32| {
            (-before..=after).filter_map(move |days| day.checked_add(days.days()).ok())
        };
        let exceptions = self.exceptions.keys().filter(|day| **day >= today).flat_map(|day| around(*day, 1, 8));
        around(today, 1, 14).chain(exceptions).collect()
    }

    fn date(&self, now: Timestamp) -> Date {
        self.time_zone.to_datetime(now).date()
    }

    /// The hours that begin on a day, as instants.
    fn spans(&self, day: Date) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let weekday = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or(0);
        let hours = self.exceptions.get(&day).unwrap_or(&self.week[weekday]);
        hours.iter().filter_map(move |hours| Some((self.instant(day, hours.from)?, self.instant(day, hours.to)?)))
    }

    /// The instant of a time of day; absent at the ends of time.
    fn instant(&self, day: Date, minutes: u16) -> Option<Timestamp> {
        let day = day.checked_add(i64::from(minutes / 1440).days()).ok()?;
        let (hour, minute) = (i8::try_from(minutes % 1440 / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        let civil = day.at(hour, minute, 0, 0);
        match self.time_zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
            AmbiguousOffset::Gap { before, .. } => {
                // By the clock of before the change, the time left out lies at or after the moment of the change.
                let after = before.to_timestamp(civil).ok()?.checked_add(1.second()).ok()?;
                self.time_zone.preceding(after).next().map(|transition| transition.timestamp())
            }
        }
    }
}

/// Reads days of the week: `mon-fri`, `sat`, `mon,wed,fri`, `fri-mon`, `daily`. From Monday, true for each that is meant.
///
/// # Errors
/// A part is not a day or a span of days.
pub fn days(text: &str) -> Result<[bool; 7], String> {
    let mut chosen = [false; 7];
    if text == "daily" {
        return Ok([true; 7]);
    }
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| *day == name.trim());
        found.ok_or_else(|| {
            format!("{name:?} is not a day: there are {}, spans like mon-fri, and daily", DAYS.join(", "))
        })
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        chosen[at] = true;
        while at != last {
            at = (at + 1) % 7;
            chosen[at] = true;
        }
    }
    Ok(chosen)
}

/// Reads a time of day, in minutes from midnight: `09:00`; `24:00` is the end of the day.
///
/// # Errors
/// The text is not of this form.
pub fn time_of_day(text: &str) -> Result<u16, String> {
    let parts = text.split_once(':').filter(|(hour, minute)| {
        hour.len() == 2 && minute.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
    });
    let minutes = parts.and_then(|(hour, minute)| Some((hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?)));
    minutes
        .filter(|(hour, minute)| *minute < 60 && hour * 60 + minute <= 1440)
        .map(|(hour, minute)| hour * 60 + minute)
        .ok_or_else(|| format!("{text:?} is not a time of day: write 09:00, at most 24:00"))
}

/// Finds a time zone by its name in the IANA database that comes with the program.
///
/// # Errors
/// There is no such zone.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| format!("{name:?} is not a time zone: write UTC or Europe/Berlin"))
}

/// A cron expression in a time zone. It comes due at a time that does not exist when the clocks go forward at the first
/// that does, and at a time of day that there is twice once; what recurs every so many minutes just goes on.
#[derive(Debug, Clone)]
pub struct Cron {
    /// As written.
    pub text: String,
    /// The zone.
    pub time_zone: TimeZone,
    pattern: Box<croner::Cron>,
}

impl Cron {
    /// Reads the five fields of a cron expression: minute, hour, day of month, month, day of week.
    ///
    /// # Errors
    /// The text is not one, or never comes due.
    pub fn parse(text: &str, time_zone: TimeZone) -> Result<Self, String> {
        let wrong = |why: String| format!("{text:?} is not a cron expression of five fields ('15 2 * * *'): {why}");
        if text.len() > 200 || text.split_whitespace().count() != 5 {
            return Err(wrong("minute, hour, day of month, month, day of week".to_owned()));
        }
        let pattern = croner::Cron::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let cron = Self { text: text.to_owned(), time_zone, pattern: Box::new(pattern) };
        cron.next_after(Timestamp::UNIX_EPOCH).ok_or_else(|| wrong("it never comes due".to_owned()))?;
        Ok(cron)
    }

    /// The first moment after `after` at which it is due.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.to_zoned(self.time_zone.clone());
        self.pattern.find_next_occurrence(&from, false).ok().map(|next| next.timestamp()).filter(|next| *next > after)
    }
}

#[cfg(test)]
mod tests;

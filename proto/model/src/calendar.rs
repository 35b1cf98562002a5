//! Opening hours and timetables, right across daylight saving. Time zones come with the program, not from the host.

use jiff::{Timestamp, tz::TimeZone};

use crate::{digest::Digest, name::FullName};

/// When something is open.
#[derive(Debug, Clone)]
pub struct Calendar {
    /// Its full name.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// The zone of its hours.
    pub time_zone: TimeZone,
}

impl Calendar {
    /// Whether it is open.
    pub fn is_open(&self, _now: Timestamp) -> bool {
        false
    }

    /// The next moment after `now` at which it opens or closes; absent when it never does.
    pub fn next_change(&self, _now: Timestamp) -> Option<Timestamp> {
        None
    }
}

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    /// As written.
    pub text: String,
    /// The zone.
    pub time_zone: TimeZone,
}

impl Cron {
    /// The first moment after `after` at which it is due.
    pub fn next_after(&self, _after: Timestamp) -> Option<Timestamp> {
        None
    }
}

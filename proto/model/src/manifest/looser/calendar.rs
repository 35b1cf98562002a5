//! Calendars: hours that are open now and were closed.

use jiff::civil::Date;

use super::Found;
use crate::calendar::{Calendar, Hours};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Compares calendars.
pub(super) fn compare(found: &mut Found, old: &Calendar, new: &Calendar) {
    if old.time_zone != new.time_zone {
        let name = |calendar: &Calendar| calendar.time_zone.iana_name().unwrap_or("another").to_owned();
        found.note("timeZone", name(old), name(new));
    }
    for (day, name) in DAYS.iter().enumerate() {
        if opens(&old.week[day], &new.week[day]) {
            found.note(&format!("open.{name}"), shown(&old.week[day]), shown(&new.week[day]));
        }
    }
    let mut dates: Vec<Date> = old.exceptions.keys().chain(new.exceptions.keys()).copied().collect();
    dates.sort_unstable();
    dates.dedup();
    for date in dates {
        let (before, now) = (on(old, date), on(new, date));
        // What the week opens has been told.
        let is_exceptional = old.exceptions.get(&date) != new.exceptions.get(&date);
        if is_exceptional && opens(before, now) {
            found.note(&format!("exceptions.{date}"), shown(before), shown(now));
        }
    }
}

fn on(calendar: &Calendar, date: Date) -> &[Hours] {
    let day = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
    calendar.exceptions.get(&date).unwrap_or(&calendar.week[day])
}

/// Whether a minute is open that was not.
fn opens(old: &[Hours], new: &[Hours]) -> bool {
    let mut old = old.to_vec();
    old.sort_unstable_by_key(|hours| hours.from);
    new.iter().any(|hours| {
        let mut closed_from = hours.from;
        for open in &old {
            if open.from <= closed_from {
                closed_from = closed_from.max(open.to);
            }
        }
        closed_from < hours.to
    })
}

fn shown(hours: &[Hours]) -> String {
    if hours.is_empty() {
        return "closed".to_owned();
    }
    let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
    hours.iter().map(|hours| format!("{}-{}", time(hours.from), time(hours.to))).collect::<Vec<_>>().join(", ")
}

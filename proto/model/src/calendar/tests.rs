use proptest::prelude::*;

use super::*;

fn calendar(zone: &str, week: &[(&str, u16, u16)], exceptions: &[(&str, &[(u16, u16)])]) -> Calendar {
    let mut calendar = Calendar {
        name: "plants/business-hours".parse().unwrap(),
        digest: Digest::default(),
        time_zone: time_zone(zone).unwrap(),
        week: Default::default(),
        exceptions: BTreeMap::new(),
    };
    for (names, from, to) in week {
        for (hours, chosen) in calendar.week.iter_mut().zip(days(names).unwrap()) {
            hours.extend(chosen.then(|| Hours::new(*from, *to)));
        }
    }
    for (date, hours) in exceptions {
        let hours = hours.iter().map(|(from, to)| Hours::new(*from, *to)).collect();
        calendar.exceptions.insert(date.parse().unwrap(), hours);
    }
    calendar
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn business_hours_follow_the_clock_of_their_zone() {
    let hours = calendar("Europe/Berlin", &[("mon-fri", 540, 1020)], &[]);
    // The clocks go back on Sunday 2026-10-25: 09:00 is 07:00 UTC on Friday, 08:00 UTC on Monday.
    assert!(!hours.is_open(at("2026-10-23T06:59:59Z")));
    assert!(hours.is_open(at("2026-10-23T07:00:00Z")));
    assert!(!hours.is_open(at("2026-10-23T15:00:00Z")), "closing itself is closed");
    assert_eq!(hours.next_change(at("2026-10-23T15:00:00Z")), Some(at("2026-10-26T08:00:00Z")));
    assert_eq!(hours.next_change(at("2026-10-26T08:00:00Z")), Some(at("2026-10-26T16:00:00Z")));
}

#[test]
fn exceptions_take_the_place_of_the_week() {
    let hours =
        calendar("Europe/Berlin", &[("mon-fri", 540, 1020)], &[("2026-12-24", &[(540, 720)]), ("2026-12-25", &[])]);
    assert!(hours.is_open(at("2026-12-24T10:59:00Z")));
    assert!(!hours.is_open(at("2026-12-24T11:00:00Z")));
    assert!(!hours.is_open(at("2026-12-25T10:00:00Z")));
    assert_eq!(hours.next_change(at("2026-12-24T11:00:00Z")), Some(at("2026-12-28T08:00:00Z")));
}

#[test]
fn always_and_never_do_not_change_but_for_exceptions() {
    let now = at("2026-11-22T12:00:00Z");
    let always = calendar("UTC", &[("daily", 0, 1440)], &[]);
    assert!(always.is_open(now));
    assert_eq!(always.next_change(now), None);
    assert_eq!(calendar("UTC", &[], &[]).next_change(now), None);
    let but_once = calendar("UTC", &[("daily", 0, 1440)], &[("2028-02-29", &[])]);
    assert_eq!(but_once.next_change(now), Some(at("2028-02-29T00:00:00Z")));
    assert_eq!(but_once.next_change(at("2028-02-29T00:00:00Z")), Some(at("2028-03-01T00:00:00Z")));
}

#[test]
fn hours_may_pass_midnight() {
    let nights = calendar("UTC", &[("sun", 1320, 360)], &[]);
    assert!(nights.is_open(at("2026-11-22T23:00:00Z")));
    assert!(nights.is_open(at("2026-11-23T05:59:00Z")));
    assert!(!nights.is_open(at("2026-11-23T06:00:00Z")));
    assert_eq!(nights.next_change(at("2026-11-22T23:00:00Z")), Some(at("2026-11-23T06:00:00Z")));
}

#[test]
fn a_time_that_is_left_out_is_the_moment_of_the_change() {
    // 02:00 to 03:00 does not exist in Berlin on 2026-03-29; the change is at 01:00 UTC.
    let opens = calendar("Europe/Berlin", &[("daily", 150, 300)], &[]);
    assert_eq!(opens.next_change(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert!(opens.is_open(at("2026-03-29T01:00:00Z")));
    let closed = calendar("Europe/Berlin", &[("sun", 130, 170)], &[]);
    assert!(!closed.is_open(at("2026-03-29T01:00:00Z")), "the whole span was left out");
}

#[test]
fn a_time_that_comes_twice_is_the_first() {
    // 02:30 comes twice in Berlin on 2026-10-25: at 00:30 and 01:30 UTC.
    let opens = calendar("Europe/Berlin", &[("daily", 150, 300)], &[]);
    assert_eq!(opens.next_change(at("2026-10-24T22:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    assert!(opens.is_open(at("2026-10-25T01:00:00Z")), "the clock shows 02:00 again, and it stays open");
}

#[test]
fn timetables_keep_to_daylight_saving() {
    let zone = time_zone("Europe/Berlin").unwrap();
    let nightly = Cron::parse("30 2 * * *", zone.clone()).unwrap();
    assert_eq!(nightly.next_after(at("2026-03-28T02:00:00Z")), Some(at("2026-03-29T01:00:00Z")), "left out");
    assert_eq!(nightly.next_after(at("2026-03-29T01:00:00Z")), Some(at("2026-03-30T00:30:00Z")));
    assert_eq!(nightly.next_after(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")), "twice");
    assert_eq!(nightly.next_after(at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")), "but once");
    let often = Cron::parse("*/30 * * * *", zone).unwrap();
    assert_eq!(often.next_after(at("2026-10-25T00:30:00Z")), Some(at("2026-10-25T01:00:00Z")));
    let hourly = Cron::parse("0 * * * *", TimeZone::UTC).unwrap();
    assert_eq!(hourly.next_after(at("2026-11-22T09:00:00Z")), Some(at("2026-11-22T10:00:00Z")));
}

#[test]
fn what_is_no_timetable_is_refused() {
    for wrong in ["", "* * * *", "0 0 30 2 *", "61 * * * *", "0 0 * * * *", "@daily", "a b c d e"] {
        let error = Cron::parse(wrong, TimeZone::UTC).unwrap_err();
        assert!(error.contains("is not a cron expression"), "{wrong:?}: {error}");
    }
    assert!(days("mon-freitag").is_err());
    assert_eq!(days("sat-mon").unwrap(), [true, false, false, false, false, true, true]);
    assert!(time_zone("Mars/Olympus").is_err());
    for wrong in ["9:00", "24:01", "12:60", "1200", "", "+1:00"] {
        assert!(time_of_day(wrong).is_err(), "{wrong}");
    }
}

/// Some moment between 1990 and 2060, to the minute.
fn moment() -> impl Strategy<Value = Timestamp> {
    (631_152_000_i64 / 60..2_840_140_800 / 60).prop_map(|minute| Timestamp::from_second(minute * 60).unwrap())
}

proptest! {
    #[test]
    fn a_change_is_the_first(
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
        from in 0_u16..1440, to in 0_u16..1440, from_day in 0_usize..7, now in moment(),
    ) {
        let hours = calendar(zone, &[(DAYS[from_day], from, to), ("wed", to, from)], &[]);
        let change = hours.next_change(now).unwrap();
        prop_assert!(change > now);
        prop_assert_ne!(hours.is_open(change), hours.is_open(now));
        let just_before = change.checked_sub(1.second()).unwrap();
        prop_assert_eq!(hours.is_open(just_before), hours.is_open(now));
        prop_assert_eq!(hours.next_change(just_before), Some(change));
    }

    #[test]
    fn a_daily_timetable_is_due_once_a_day(hour in 0_u8..24, minute in 0_u8..60, now in moment()) {
        let zone = time_zone("America/New_York").unwrap();
        let cron = Cron::parse(&format!("{minute} {hour} * * *"), zone.clone()).unwrap();
        let first = cron.next_after(now).unwrap();
        let second = cron.next_after(first).unwrap();
        prop_assert!(first > now);
        let day = |moment: Timestamp| zone.to_datetime(moment).date();
        prop_assert_eq!(day(first).tomorrow().unwrap(), day(second));
    }

    #[test]
    fn no_text_panics(text in ".{0,30}", cron in "[0-9*/,LW# -]{1,15}") {
        let _ = (Cron::parse(&text, TimeZone::UTC), Cron::parse(&cron, TimeZone::UTC), days(&text), time_of_day(&text));
    }
}

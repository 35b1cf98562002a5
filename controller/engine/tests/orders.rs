//! S3, the order processor's backlog, told in virtual time with the shop's own policy.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::state::{IncidentState, PlanState};
use world::{Done, World};

/// A shop with one order processor, nothing wrong, since an hour and a quarter.
fn shop(at: &str) -> World {
    let mut world = World::begin(at);
    world.join("planthost1", &[("role", "orders")]);
    world.apply_files(&["calendars", "contacts", "services", "orders"], &[]);
    backlog(&mut world, 0.0, 16.0);
    world.set("planthost1", "order-backlog/log", &[("matches", 0.0.into())]);
    world
        .facts
        .write_log("planthost1", &["Processing Order 3", "Processing Order 4", "Error Processing Order. Error #12"]);
    world.run("75m");
    world
}

fn backlog(world: &mut World, outstanding: f64, processed: f64) {
    world.set("planthost1", "outstanding", &[("value", outstanding.into())]);
    world.set("planthost1", "processed", &[("value", processed.into())]);
}

fn error(world: &mut World, order: &str, number: &str) {
    world.set(
        "planthost1",
        "order-backlog/log",
        &[("matches", 1.0.into()), ("captures.order", order.into()), ("captures.error", number.into())],
    );
}

/// What a restart does when it helps: the log is clean and the orders go through.
fn restart_helps(world: &mut World) {
    let mut processed = 16.0;
    world.on("service.restart", move |order, facts| {
        processed += 15.0;
        facts.set(&order.host, "outstanding", &[("value", 0.0.into())]);
        facts.set(&order.host, "processed", &[("value", processed.into())]);
        facts.set(&order.host, "order-backlog/log", &[("matches", 0.0.into())]);
        Done::ok().after("5s")
    });
}

#[test]
fn an_error_in_business_hours_is_restarted_and_verified() {
    let mut world = shop("2026-11-23T08:45:00+01:00");
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    error(&mut world, "4", "12");
    world.run("15m");
    insta::assert_snapshot!(world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    assert_eq!(world.incident(1).resolution.as_deref(), Some("the symptom cleared after service.restart"));
    let developers: Vec<_> =
        world.messages.iter().filter(|message| message.contact.name.as_str() == "developers").collect();
    assert_eq!(developers.len(), 1, "{:?}", world.told());
    assert!(developers[0].subject.contains("order 4 fails with error #12"), "{}", developers[0].subject);
    assert!(developers[0].body.contains("Error Processing Order. Error #12"), "{}", developers[0].body);
}

#[test]
fn outside_business_hours_it_waits_for_the_opening_and_says_so() {
    let mut world = shop("2026-11-22T21:00:00+01:00");
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    error(&mut world, "4", "12");
    world.run("10m");
    let why = world.why("order-backlog");
    let no = why[0].first_no.clone().unwrap();
    assert_eq!(no.guard, "calendar");
    assert_eq!(no.until, Some("2026-11-23T09:00:00+01:00".parse().unwrap()));
    assert!(world.sent().is_empty());
    world.run_to("2026-11-23T09:20:00+01:00");
    assert_eq!(world.sent(), ["09:00:00 service.restart planthost1"]);
    insta::assert_snapshot!(world.story());
}

#[test]
fn the_poison_order_goes_to_people_and_not_to_a_second_restart() {
    let mut world = shop("2026-11-23T09:00:00+01:00");
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    error(&mut world, "4", "12");
    world.run("15m");
    assert_eq!(world.sent().len(), 1);
    // More than six hours later, so that the ladder begins anew: the same order fails with the same number.
    world.run_to("2026-11-23T16:40:00+01:00");
    backlog(&mut world, 20.0, 31.0);
    error(&mut world, "4", "12");
    world.run("15m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert_eq!(world.open().len(), 1);
    assert!(
        world.told().iter().any(|line| line.starts_with("on-call: inc-2") && line.contains("4/12")),
        "{:?}",
        world.told()
    );
}

#[test]
fn a_backlog_without_an_error_is_told_and_not_restarted() {
    let mut world = shop("2026-11-23T09:00:00+01:00");
    backlog(&mut world, 13.0, 40.0);
    world.run("10m");
    assert!(world.sent().is_empty(), "{}", world.story());
    assert!(
        world.told().iter().any(|line| line.starts_with("operations: ") && line.contains("more often")),
        "{:?}",
        world.told()
    );
}

#[test]
fn an_error_that_is_seen_after_the_backlog_is_restarted_as_soon_as_it_is_seen() {
    let mut world = shop("2026-11-23T09:00:00+01:00");
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    world.run("90s");
    assert_eq!(world.incident(1).ladder_ended.as_deref(), Some("no rung applies"), "{}", world.story());
    error(&mut world, "4", "12");
    world.run("15m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    assert!(world.story().contains("rung restart applies now: `signal.error` holds"), "{}", world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
}

#[test]
fn twelve_orders_are_no_backlog_and_one_restart_an_hour_is_the_most() {
    let mut world = shop("2026-11-23T09:00:00+01:00");
    backlog(&mut world, 12.0, 40.0);
    world.run("5m");
    assert!(world.open().is_empty(), "{}", world.story());
    // Another order fails half an hour after a restart whose incident cleared: held until the hour is over.
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    error(&mut world, "4", "12");
    world.run("15m");
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1, "{}", world.story());
    backlog(&mut world, 15.0, 31.0);
    error(&mut world, "9", "13");
    world.run("20m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
}

#[test]
fn operators_and_developers_hear_the_one_thing_that_is_so() {
    let mut world = shop("2026-11-23T08:45:00+01:00");
    restart_helps(&mut world);
    backlog(&mut world, 15.0, 16.0);
    error(&mut world, "4", "12");
    world.run("15m");
    assert_eq!(world.told(), ["developers: planthost1: order 4 fails with error #12; 15 orders wait"]);
}

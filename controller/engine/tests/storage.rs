//! S2, low storage: the log is rotated unattended, every night and when the mount fills; a missed night is told.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::state::{IncidentState, PlanState};
use world::{Done, World};

fn shop(at: &str) -> World {
    let mut world = World::begin(at);
    world.join("planthost2", &[("role", "app")]);
    world.apply_files(&["calendars", "contacts", "services", "monitoring", "storage"], &[]);
    fill(&mut world, 65.0);
    world.set("planthost2", "nightly-rotation/log", &[("size", 90e6.into()), ("age", 1.0.into())]);
    world.run("10m");
    world
}

fn fill(world: &mut World, percent: f64) {
    world.set(
        "planthost2",
        "host",
        &[
            ("cpu.used_percent", 10.0.into()),
            ("memory.used_percent", 10.0.into()),
            ("disks[/home].used_percent", percent.into()),
            ("disks[/].used_percent", 20.0.into()),
        ],
    );
}

fn rotation_frees(world: &mut World, percent: f64) {
    world.on("log.rotate", move |order, facts| {
        facts.set(&order.host, "host", &[("disks[/home].used_percent", percent.into())]);
        facts.set(&order.host, "nightly-rotation/log", &[("size", 100.0.into())]);
        Done::ok().after("3s")
    });
}

#[test]
fn a_full_mount_is_rotated_and_verified() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 41.0);
    fill(&mut world, 80.1);
    world.run("5m");
    insta::assert_snapshot!(world.story());
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    assert_eq!(world.incident(1).target.to_string(), "planthost2:/home");
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1);
}

#[test]
fn a_rotation_that_frees_too_little_goes_to_people() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 79.0);
    fill(&mut world, 85.0);
    world.run("10m");
    assert_eq!(world.plans_in(PlanState::Failed).len(), 1, "{}", world.story());
    assert_eq!(world.sent().len(), 1, "it is not tried again and again");
    assert!(
        world.told().iter().any(|line| line.starts_with("on-call: inc-1") && line.contains("every rung")),
        "{:?}",
        world.told()
    );
}

#[test]
fn at_95_percent_on_call_and_compliance_are_paged() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 96.0);
    fill(&mut world, 96.0);
    world.run("1m");
    let told = world.told();
    assert!(told.iter().any(|line| line.starts_with("compliance: ") && line.contains("96% full")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("on-call: ") && line.contains("96% full")), "{told:?}");
}

#[test]
fn every_night_it_is_rotated_across_the_change_to_winter_time() {
    // 25 October 2026 has 02:15 twice in Berlin; it runs once.
    let mut world = shop("2026-10-23T12:00:00+02:00");
    rotation_frees(&mut world, 60.0);
    world.run("4d");
    assert_eq!(world.sent().len(), 4, "{:?}", world.sent());
    assert!(world.state.incidents.is_empty(), "{}", world.story());
}

#[test]
fn a_night_without_a_run_is_told_on_day_one_with_its_reason() {
    let mut world = shop("2026-11-23T10:00:00+01:00");
    rotation_frees(&mut world, 60.0);
    world.run("1d");
    assert_eq!(world.sent().len(), 1);
    // The host is held by its administrator through the next night: held counts as missed.
    let host = "planthost2".parse().unwrap();
    let until = "2026-11-26T12:00:00+01:00".parse().unwrap();
    world.step(quell_engine::Input::HostHeld { host, hold: Some(("Steve is out sick".to_owned(), until)) });
    world.run("1d");
    let open = world.open();
    assert_eq!(open.len(), 1, "{}", world.story());
    assert!(open[0].summary.contains("Steve is out sick"), "{}", open[0].summary);
    assert!(world.told().iter().any(|line| line.starts_with("on-call: inc-1")), "{:?}", world.told());
    world.run("2d");
    assert!(world.open().is_empty(), "the next run that succeeds closes it: {}", world.story());
}

#[test]
fn a_run_that_was_missed_is_made_good_within_four_hours_and_not_later() {
    let mut world = shop("2026-11-23T22:00:00+01:00");
    rotation_frees(&mut world, 60.0);
    world.controller_is_up = false;
    world.run_to("2026-11-24T05:00:00+01:00");
    world.controller_is_up = true;
    world.restart();
    world.run("10m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    let mut late = shop("2026-11-23T22:00:00+01:00");
    late.controller_is_up = false;
    late.run_to("2026-11-24T08:00:00+01:00");
    late.controller_is_up = true;
    late.restart();
    late.run("10m");
    assert!(late.sent().is_empty(), "{}", late.story());
    assert!(late.tell(&["runSkipped"]).contains("too late"), "{}", late.story());
}

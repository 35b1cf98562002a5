//! S1, monitoring and alerting: one incident and one notification per breach, however often it is sampled.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::state::{HostState, IncidentState, Verdict};
use world::World;

fn shop() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.join("planthost1", &[("role", "app"), ("role2", "orders")]);
    world.apply_files(&["calendars", "contacts", "services", "monitoring", "storage"], &[]);
    host(&mut world, 20.0, 40.0, 50.0);
    world.set("planthost1", "nightly-rotation/log", &[("size", 1_000.0.into()), ("age", 1.0.into())]);
    world.run("10m");
    world
}

fn host(world: &mut World, cpu: f64, memory: f64, disk: f64) {
    world.set(
        "planthost1",
        "host",
        &[
            ("cpu.used_percent", cpu.into()),
            ("memory.used_percent", memory.into()),
            ("disks[/home].used_percent", disk.into()),
        ],
    );
}

#[test]
fn a_breach_is_one_incident_and_one_message_however_often_it_is_sampled() {
    let mut world = shop();
    host(&mut world, 90.5, 40.0, 50.0);
    world.run("3h");
    assert_eq!(world.told(), ["on-call: CPU usage is 90.5%"]);
    assert_eq!(world.open().len(), 1);
    host(&mut world, 86.0, 40.0, 50.0);
    world.run("1h");
    assert_eq!(world.open().len(), 1, "it clears 5 points lower, not at the threshold");
    host(&mut world, 85.0, 40.0, 50.0);
    world.run("1m");
    assert_eq!(world.told(), ["on-call: CPU usage is 90.5%", "on-call: CPU usage is 85% again"]);
    assert_eq!(world.incident(1).resolution.as_deref(), Some("cleared by itself"));
}

#[test]
fn thresholds_are_strict() {
    let mut world = shop();
    host(&mut world, 90.0, 80.0, 80.0);
    world.run("10m");
    assert!(world.state.incidents.is_empty(), "{}", world.story());
    host(&mut world, 90.0, 80.1, 80.0);
    world.run("1m");
    assert_eq!(world.told(), ["on-call: Memory usage is 80.1%"]);
}

#[test]
fn a_disk_watched_by_two_policies_is_one_incident_per_mount() {
    let mut world = shop();
    host(&mut world, 20.0, 40.0, 81.0);
    world.run("5m");
    assert_eq!(world.state.incidents.len(), 1, "{}", world.story());
    let incident = world.incident(1);
    assert_eq!(incident.policies.len(), 2);
    assert_eq!(incident.target.to_string(), "planthost1:/home");
    let firing: Vec<_> = world.told().into_iter().filter(|line| line.contains("81%")).collect();
    assert_eq!(firing.len(), 1, "one contact is told once: {firing:?}");
    world.set("planthost1", "host", &[("disks[/var].used_percent", 90.0.into())]);
    world.run("5m");
    assert_eq!(world.state.incidents.len(), 2, "another mount is another incident");
}

#[test]
fn three_missed_samples_are_no_data_said_once_and_never_resolved() {
    let mut world = shop();
    host(&mut world, 95.0, 40.0, 50.0);
    world.run("1m");
    world.isolate("planthost1");
    world.run("29s");
    assert!(!world.kinds().contains("hostSilent"));
    world.run("1h");
    assert_eq!(world.tell(&["hostSilent"]).lines().count(), 1, "{}", world.story());
    assert_eq!(world.incident(1).state, IncidentState::Open, "no data resolves nothing");
    assert_eq!(world.state.hosts.values().next().unwrap().state, HostState::Lost);
    let why = world.why("high-cpu");
    assert_eq!(why[0].truth, quell_model::value::Truth::Unknown);
    host(&mut world, 20.0, 40.0, 50.0);
    world.connect("planthost1");
    world.run("1m");
    assert_eq!(world.incident(1).state, IncidentState::Resolved);
    assert_eq!(world.tell(&["hostHeard"]).lines().count(), 1);
}

#[test]
fn a_retired_host_closes_its_incidents() {
    let mut world = shop();
    host(&mut world, 95.0, 40.0, 50.0);
    world.run("1m");
    let name = "planthost1".parse().unwrap();
    let request = quell_engine::input::Request::RetireHost { name, reason: "sold".to_owned() };
    world.ask("ada", request).unwrap();
    world.run("1m");
    assert!(world.open().is_empty(), "{}", world.story());
    assert_eq!(world.incident(1).resolution.as_deref(), Some("the host was retired"));
    assert!(world.why("high-cpu").is_empty());
}

#[test]
fn why_names_the_value_that_was_seen() {
    let mut world = shop();
    host(&mut world, 90.5, 40.0, 50.0);
    world.run("1m");
    let why = &world.why("high-cpu")[0];
    assert_eq!(why.verdict, Verdict::ObserveOnly);
    assert_eq!(why.saw[0].name, "host.cpu.used_percent");
    assert_eq!(why.saw[0].value, Some(90.5.into()));
    assert_eq!(why.incident, Some(world.open()[0].id));
}

#[test]
fn an_alert_that_flaps_trips_its_policy() {
    let mut world = shop();
    for _ in 0..4 {
        host(&mut world, 95.0, 40.0, 50.0);
        world.run("15s");
        host(&mut world, 50.0, 40.0, 50.0);
        world.run("15s");
    }
    assert_eq!(world.tell(&["breakerTripped"]).lines().count(), 1, "{}", world.story());
}

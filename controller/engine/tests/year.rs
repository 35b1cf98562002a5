//! Time and size: a week of the shop's own policies on one host, and a state that does not grow.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use world::{Done, World};

/// All of the shop's policies on one host that plays every part.
fn host() -> World {
    let mut world = World::begin("2026-11-23T00:00:00+01:00");
    world.join("planthost1", &[("role", "orders"), ("observer", "dns"), ("serves", "dns"), ("dns", "dns1")]);
    world.apply_shop(&[]);
    world.set(
        "planthost1",
        "host",
        &[
            ("cpu.used_percent", 20.0.into()),
            ("memory.used_percent", 40.0.into()),
            ("disks[/home].used_percent", 50.0.into()),
        ],
    );
    for server in ["dns1", "dns2"] {
        world.set("planthost1", server, &[("ok", true.into()), ("reachable", true.into())]);
    }
    world.set("planthost1", "outstanding", &[("value", 0.0.into())]);
    world.set("planthost1", "processed", &[("value", 16.0.into())]);
    world.set("planthost1", "order-backlog/log", &[("matches", 0.0.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "outstanding", &[("value", 0.0.into())]);
        facts.set(&order.host, "order-backlog/log", &[("matches", 0.0.into())]);
        Done::ok()
    });
    world
}

#[test]
fn a_day_of_faults_leaves_a_small_state() {
    let mut world = host();
    world.run("2h");
    let quiet = world.state.rows().len();
    for number in 0..6 {
        world.set("planthost1", "outstanding", &[("value", 20.0.into())]);
        world.set(
            "planthost1",
            "order-backlog/log",
            &[("matches", 1.0.into()), ("captures.order", number.to_string().into()), ("captures.error", "12".into())],
        );
        world.set("planthost1", "host", &[("cpu.used_percent", 95.0.into())]);
        world.run("2h");
        world.set("planthost1", "outstanding", &[("value", 0.0.into())]);
        world.set("planthost1", "order-backlog/log", &[("matches", 0.0.into())]);
        world.set("planthost1", "host", &[("cpu.used_percent", 5.0.into())]);
        world.run("2h");
    }
    assert!(world.state.incidents.len() >= 12, "{}", world.state.incidents.len());
    assert!(world.state.rows().len() < quiet + 200, "{} rows", world.state.rows().len());
    assert!(world.open().is_empty(), "{}", world.story());
    // Retention is by the engine's own time: days later the ledger and old alerts are gone.
    world.compares = false;
    world.run("8d");
    assert!(world.state.ledger.is_empty());
    assert!(world.state.alerts.is_empty());
}

#[test]
fn thousands_of_incidents_are_cut_back_to_a_thousand() {
    let mut world = World::begin("2026-11-23T00:00:00+01:00");
    world.compares = false;
    world.join("planthost1", &[]);
    world.apply_files(&["contacts", "monitoring"], &[]);
    for _ in 0..1_200 {
        world.set("planthost1", "host", &[("cpu.used_percent", 95.0.into())]);
        world.run("5m");
        world.set("planthost1", "host", &[("cpu.used_percent", 5.0.into())]);
        world.run("5m");
    }
    world.run("2h");
    assert_eq!(world.state.meta.counters["inc"], 1_200);
    assert!((1_000..=1_020).contains(&world.state.incidents.len()), "{}", world.state.incidents.len());
    assert!(world.state.messages.len() <= 1_020, "{}", world.state.messages.len());
    assert!(quell_engine::check(&world.state).is_empty());
}

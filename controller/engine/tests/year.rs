//! Time and size: a week of the shop's own policies on one host, and a state that does not grow.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use world::World;

#[test]
fn a_day_of_faults_leaves_a_small_state() {
    let mut world = World::with_every_part("2026-11-23T00:00:00+01:00");
    world.run("2h");
    let quiet = world.state.rows().len();
    for number in 0..6 {
        world.break_everything(number);
        world.run("2h");
        world.mend_everything();
        world.run("2h");
    }
    assert!(world.state.incidents.len() >= 12, "{}", world.state.incidents.len());
    assert!(world.state.rows().len() < quiet + 200, "{} rows", world.state.rows().len());
    assert!(world.open().is_empty(), "{}", world.story());
    // Retention is by the engine's own time: days later old alerts are gone, and of the ledger all but the last nights.
    world.compares = false;
    world.run("8d");
    let ledger: Vec<_> = world.state.ledger.values().collect();
    assert!((7..=8).contains(&ledger.len()), "{ledger:#?}");
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

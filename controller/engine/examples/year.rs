//! How fast: a year of the shop's policies on one host in virtual time, and how many conditions are judged in a second.
//!
//! `cargo run --release -p quell-engine --example year`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints, panics and reads the clock"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use quell_engine::{Input, input::Sample};
use quell_model::{name::HostName, probe::ProbeKey, value::Fields};
use world::{Done, World};

fn host() -> World {
    let mut world = World::begin("2026-01-01T00:00:00+01:00");
    world.compares = false;
    let labels = [("role", "orders"), ("observer", "dns"), ("serves", "dns"), ("dns", "dns1")];
    world.join("planthost1", &labels);
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

/// A fault of each kind every week.
fn year() {
    let mut world = host();
    let begun = Instant::now();
    for week in 0..52 {
        world.run("6d");
        world.set("planthost1", "outstanding", &[("value", 20.0.into())]);
        let order = week.to_string();
        world.set(
            "planthost1",
            "order-backlog/log",
            &[("matches", 1.0.into()), ("captures.order", order.into()), ("captures.error", "12".into())],
        );
        world.set(
            "planthost1",
            "host",
            &[("cpu.used_percent", 95.0.into()), ("disks[/home].used_percent", 85.0.into())],
        );
        world.run("12h");
        world.set(
            "planthost1",
            "host",
            &[("cpu.used_percent", 5.0.into()), ("disks[/home].used_percent", 50.0.into())],
        );
        world.run("12h");
    }
    let took = begun.elapsed();
    println!(
        "a year of one host: {:.2} s, {} steps, {} samples, {} incidents, {} rows kept",
        took.as_secs_f64(),
        world.steps,
        world.samples,
        world.state.meta.counters["inc"],
        world.state.rows().len()
    );
}

/// Host samples that differ each time: every one is judged by every policy that reads them.
fn judgements() {
    let mut world = host();
    world.run("10m");
    let host: HostName = "planthost1".parse().unwrap();
    let samples = 200_000_u32;
    let begun = Instant::now();
    for number in 0..samples {
        world.now += std::time::Duration::from_millis(100);
        let cpu = f64::from(number % 80);
        let fields: Fields = [
            ("cpu.used_percent".to_owned(), cpu.into()),
            ("memory.used_percent".to_owned(), (cpu / 2.0).into()),
            ("disks[/home].used_percent".to_owned(), (cpu / 3.0).into()),
        ]
        .into();
        let sample = Sample { probe: ProbeKey::host(), taken_at: world.now, fields };
        let step = quell_engine::step(
            &mut world.windows,
            &world.state,
            world.now,
            Input::Samples { host: host.clone(), samples: vec![sample] },
        );
        world.state = step.state;
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "samples that change: {:.0} a second, {:.0} policy judgements a second",
        f64::from(samples) / took,
        // cpu, memory and disk each judge the sample.
        3.0 * f64::from(samples) / took
    );
}

fn main() {
    judgements();
    year();
}

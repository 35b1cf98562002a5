//! How fast: a year of the shop's policies, S1 to S4, on one host in virtual time.
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

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use world::{Watch, World};

/// Of so many steps one is measured by itself: a prime, so that it falls on all kinds of steps in turn.
const MEASURED: u64 = 17;

fn clock() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

/// The CPU time of this process, which has one thread; the clock's where the kernel does not count it.
fn cpu() -> Duration {
    let counted = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = counted.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(clock, Duration::from_nanos)
}

/// A fault of each kind every week.
fn main() {
    let weeks: u32 = std::env::args().nth(1).map_or(52, |weeks| weeks.parse().unwrap());
    let mut world = World::with_every_part("2026-01-01T00:00:00+01:00");
    (world.compares, world.keeps_records) = (false, false);
    world.watch = Some(Watch { clock, every: MEASURED, took: Duration::ZERO });
    let (began, cpu_before) = (clock(), cpu());
    for week in 0..weeks {
        world.run("6d");
        world.break_everything(week);
        world.run("12h");
        world.mend_everything();
        world.run("12h");
    }
    let (took, spent) = (clock() - began, cpu() - cpu_before);
    let counters = &world.state.meta.counters;
    println!(
        "a year of one host: {} samples in {} steps, {} incidents, {} plans, {} rows kept",
        world.samples,
        world.steps,
        counters["inc"],
        counters["plan"],
        world.state.rows().len()
    );
    println!("CPU of the process: {:.2} s, {:.2} s by the clock", spent.as_secs_f64(), took.as_secs_f64());
    let engine = world.watch.unwrap().took.as_secs_f64();
    println!("of the {:.2} s by the clock the engine's: {engine:.2} s, by every {MEASURED}th step", took.as_secs_f64());
}

//! A deterministic simulation of a whole installation: one seed is one history, down to the last byte of the log.
//!
//! Time is a number, chance is a seed, and nothing here sleeps or waits. What is real: the engine, the decider's turns and
//! its commit path over the memory store, the conversions to and from the wire, the order of messages in a session; at the
//! agents what people signed and how it is verified, beliefs, ledger, journal (on real files), guards, outbox. What is a
//! model of the real thing says so where it stands: [`network`], [`site`], the glue of sessions and of the queue of orders.
//!
//! Things go wrong for half an hour: hosts break, packets are lost, late, repeated and overtaken, connections are cut in one
//! direction or both, processes die between any two steps, clocks jump, disks fill up, people hold, cancel and are revoked,
//! and somebody repeats orders that he has seen. Then all is well, and everything has to come to its end. [`judge`] says
//! what must hold.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod agent;
mod broken;
mod chaos;
mod controller;
mod judge;
mod network;
mod people;
mod points;
mod scenario;
mod site;
mod store;
mod story;
pub mod sweep;
mod time;
mod world;

pub use broken::Broken;
pub use points::Side;
pub use world::Plan;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What was found wrong.
    pub violations: Vec<String>,
    /// The story, if it was told.
    pub story: Vec<String>,
    /// How many effects orders had on hosts.
    pub effects: usize,
    /// How many records the log has,
    pub records: u64,
    /// and the hash of the last one: two runs with the same are the same.
    pub hash: String,
    /// How many points each side passed at which it could have died.
    pub points: [u64; 2],
}

/// Runs a simulation to its end. A panic of what is simulated is a violation.
pub fn run(plan: Plan) -> Report {
    let lived = catch_unwind(AssertUnwindSafe(|| live(plan)));
    let wrong = |why: String| Report { violations: vec![why], ..Report::default() };
    match lived {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => wrong(format!("the simulation could not begin: {error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            wrong(format!("a panic: {}", text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default()))
        }
    }
}

fn live(plan: Plan) -> anyhow::Result<Report> {
    let mut world = world::World::new(plan)?;
    world.live();
    let head = world.controller.log().head();
    Ok(Report {
        violations: world.judge.violations().to_vec(),
        effects: world.judge.effects(),
        records: head.sequence,
        hash: head.hash.to_string(),
        points: [Side::Controller, Side::Agent].map(|side| world.points.passed(side)),
        story: world.story.take(),
    })
}

//! A sweep: one scenario, and one run for each point at which a process can die.

use crate::{Plan, Report, Side, run};

/// The scenario, with a death at a point of a side, or with none.
pub fn scenario(kill: Option<(Side, u64)>) -> Plan {
    Plan { seed: 1, chaos: false, kill, replays: false, broken: None, traced: false }
}

/// How many points each side passes when nobody dies.
pub fn points() -> [u64; 2] {
    run(scenario(None)).points
}

/// Kills the process of a side at each of these points in turn; gives what went wrong.
pub fn sweep(side: Side, points: impl Iterator<Item = u64>) -> Vec<(u64, Report)> {
    let runs = points.map(|point| (point, run(scenario(Some((side, point))))));
    runs.filter(|(_, report)| !report.violations.is_empty()).collect()
}

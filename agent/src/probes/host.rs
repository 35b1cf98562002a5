//! `host`: processors, load, memory, swap, pressure, disks, network, uptime and clock of the host itself.
//!
//! One sample costs about a millisecond: `/proc` is read through files, file systems are asked once each, network file
//! systems (which may hang) never. A directory budget of `agent.toml` is a disk like any other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quell_model::value::Fields;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::{Attempt, Boxed, Context, Probe, blocking::Lane};
use crate::clock::ClockOffset;

mod budget;
mod disks;
mod network;

/// The first sample waits this long for a difference of processor times.
const FIRST_DIFFERENCE: Duration = Duration::from_millis(250);

/// The host samples.
pub struct Host {
    state: Arc<Mutex<State>>,
    clock: ClockOffset,
    lane: Lane,
    first: bool,
}

struct State {
    system: Option<System>,
    network: network::Rates,
    budgets: Vec<budget::Budget>,
}

impl Host {
    /// The probe of this host, with the directory budgets of its `agent.toml`.
    pub fn new(context: &Context) -> Self {
        let budgets =
            context.config.mounts.iter().map(|mount| budget::Budget::new(&mount.path, mount.capacity)).collect();
        let state = State { system: None, network: network::Rates::default(), budgets };
        Self { state: Arc::new(Mutex::new(state)), clock: context.clock.clone(), lane: Lane::default(), first: true }
    }

    async fn look(&mut self, timeout: Duration) -> Result<Attempt, Attempt> {
        if std::mem::take(&mut self.first) {
            let state = Arc::clone(&self.state);
            self.lane.run(timeout, move || lock(&state).prepare()).await?;
            tokio::time::sleep(FIRST_DIFFERENCE).await;
        }
        let state = Arc::clone(&self.state);
        let mut fields = self.lane.run(timeout, move || lock(&state).look()).await?;
        if let Some(offset) = self.clock.seconds() {
            fields.insert("clock_offset".to_owned(), offset.into());
        }
        Ok(Attempt::good(fields))
    }
}

impl Probe for Host {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move { Attempt::either(self.look(timeout).await) })
    }

    fn cost(&mut self) -> Duration {
        self.lane.cost()
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn prepare(&mut self) {
        // A system whose /proc cannot be read has no such fields; the rest is still measured.
        self.system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_usage())).ok();
        self.network.look(&mut Fields::new());
    }

    fn look(&mut self) -> Fields {
        let mut fields = Fields::new();
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram().with_swap());
            put(&mut fields, "cpu.used_percent", f64::from(system.global_cpu_usage()));
            memory(system, &mut fields);
        }
        if let Ok(load) = System::load_average() {
            put(&mut fields, "load.1", load.one);
            put(&mut fields, "load.5", load.five);
            put(&mut fields, "load.15", load.fifteen);
        }
        if let Ok(uptime) = System::uptime() {
            put(&mut fields, "uptime", number(uptime));
        }
        pressure(&mut fields);
        disks::look(&mut fields);
        self.network.look(&mut fields);
        self.budgets.iter_mut().for_each(|budget| budget.look(&mut fields));
        fields
    }
}

fn memory(system: &System, fields: &mut Fields) {
    let (total, available) = (number(system.total_memory()), number(system.available_memory()));
    if total > 0.0 {
        put(fields, "memory.used_percent", 100.0 * (total - available) / total);
        put(fields, "memory.available_bytes", available);
    }
    let swap = number(system.total_swap());
    let used = if swap > 0.0 { 100.0 * number(system.used_swap()) / swap } else { 0.0 };
    put(fields, "swap.used_percent", used);
}

/// Pressure stall information; kernels may be built without it.
fn pressure(fields: &mut Fields) {
    for resource in ["cpu", "memory", "io"] {
        let Ok(text) = std::fs::read_to_string(format!("/proc/pressure/{resource}")) else { continue };
        if let Some(percent) = some_avg10(&text) {
            put(fields, &format!("pressure.{resource}"), percent);
        }
    }
}

fn some_avg10(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// Adds a number. Thousandths are enough for everything here, and keep samples that hardly differ equal.
fn put(fields: &mut Fields, name: &str, number: f64) {
    if number.is_finite() {
        fields.insert(name.to_owned(), ((number * 1000.0).round() / 1000.0).into());
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and seconds of a host are exact in a double")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.25 avg60=0.10 avg300=0.02 total=12\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(some_avg10(text), Some(1.25));
        assert_eq!(some_avg10(""), None);
    }
}

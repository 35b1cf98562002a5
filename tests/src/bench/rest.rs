//! Memory and CPU time of an agent at rest, beside a bare gRPC stream over mutual TLS.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;

use crate::fleet::{Fleet, Host};

/// What `/proc` says of a process.
#[derive(Debug, Clone, Copy)]
struct Usage {
    /// Resident memory, bytes.
    resident: u64,
    /// Of that, not backed by a file, bytes.
    anonymous: u64,
    /// CPU time since the start, seconds.
    cpu: f64,
}

/// Ticks a second of the times in `/proc/PID/stat`: a constant of the kernel's interface on Linux.
const TICKS: f64 = 100.0;

impl Usage {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kilobytes = |name: &str| -> anyhow::Result<u64> {
            let line = rollup.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
            Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? * 1024)
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("not a stat line")?;
        let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(2).filter_map(|tick| tick.parse().ok()).collect();
        Ok(Self {
            resident: kilobytes("Rss:")?,
            anonymous: kilobytes("Anonymous:")?,
            cpu: ticks.iter().sum::<f64>() / TICKS,
        })
    }
}

/// Lets the controller ask for host samples as often as it does when it is told nothing: a fleet for tests looks more
/// often.
fn at_the_default_interval(fleet: &mut Fleet) -> anyhow::Result<()> {
    fleet.stop_controller()?;
    let file = fleet.controller_data().join("controller.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    let agents = config.get_mut("agents").and_then(toml::Value::as_table_mut).context("a table for agents")?;
    agents.remove("host_every").context("an interval for tests")?;
    fs::write(&file, config.to_string())?;
    fleet.start_controller()
}

/// Measures an agent for some time and reports.
///
/// # Errors
/// The fleet does not start.
pub fn measure(seconds: u64) -> anyhow::Result<String> {
    let scratch = tempfile::tempdir()?;
    let mut fleet = Fleet::start(Path::new(scratch.path()))?;
    at_the_default_interval(&mut fleet)?;
    fleet.enrol(&Host { name: "resthost".to_owned(), labels: Vec::new(), agent_toml: String::new() })?;
    let pid = fleet.agent_pid("resthost").context("the agent runs")?;
    // The start itself is not rest: connections, the first samples, pages that are touched once.
    std::thread::sleep(Duration::from_secs(20));
    let before = Usage::of(pid)?;
    std::thread::sleep(Duration::from_secs(seconds));
    let after = Usage::of(pid)?;
    let a_minute = (after.cpu - before.cpu) * 60.0 / Duration::from_secs(seconds).as_secs_f64();
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    Ok(format!(
        "an agent at rest for {seconds} s\n  resident   {}\n  anonymous  {}\n  of files   {}\n  CPU        {a_minute:.3} s a minute",
        mebibytes(after.resident),
        mebibytes(after.anonymous),
        mebibytes(after.resident - after.anonymous),
    ))
}

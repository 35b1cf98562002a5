//! Faults given to the shop one after another, and what the fleet makes of them, told as it happens.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use serde_json::Value;

use crate::{
    fleet::{Events, Fleet},
    shop::floor::Floor,
};

/// How long a fault may take to heal.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one look for a record takes.
const LOOK: Duration = Duration::from_millis(200);

/// A fault, and how it is known to be over.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// S1 to S4.
    pub name: &'static str,
    /// What goes wrong, in a sentence.
    pub fault: &'static str,
    /// The incident's problem,
    pub problem: &'static str,
    /// and the directory of the shop that its target ends in, where a problem can be on several.
    pub place: Option<fn(&Floor) -> PathBuf>,
    /// Makes it go wrong.
    pub inject: fn(&Floor) -> anyhow::Result<()>,
    /// What a person does once the incident is open, where the policy only tells; absent: nothing.
    pub relieve: Option<fn(&Floor) -> anyhow::Result<()>>,
    /// What must be true of the shop when the incident is resolved.
    pub healed: fn(&Floor) -> anyhow::Result<()>,
}

impl Scenario {
    /// Whether an incident's problem and target are this fault's.
    pub fn is_of(&self, floor: &Floor, problem: &str, target: &str) -> bool {
        let is_there = |place: fn(&Floor) -> PathBuf| target.ends_with(&place(floor).display().to_string());
        problem == self.problem && self.place.is_none_or(is_there)
    }
}

/// The four faults, in order.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S1",
        fault: "An export fills the data directory of planthost2 to 90.5 %: people are told once, and once when it is over.",
        problem: "low-storage",
        place: Some(Floor::data),
        inject: Floor::fill_data,
        relieve: Some(Floor::clear_data),
        healed: |floor| {
            ensure!(!floor.data().join("export.csv").exists(), "the export is still there");
            Ok(())
        },
    },
    Scenario {
        name: "S2",
        fault: "The application's log fills its directory over 80 %: it is rotated and compressed.",
        problem: "low-storage",
        place: Some(Floor::app),
        inject: Floor::fill_app_log,
        relieve: None,
        healed: |floor| {
            let archives = std::fs::read_dir(floor.app())?.flatten();
            let compressed = archives.filter(|entry| entry.path().extension().is_some_and(|end| end == "gz")).count();
            ensure!(compressed == 1, "{compressed} compressed logs lie in the directory, not one");
            Ok(())
        },
    },
    Scenario {
        name: "S3",
        fault: "An order fails with error #12 and the order processor hangs: the developers hear of it and it is restarted.",
        problem: "order-backlog",
        place: None,
        inject: |floor| floor.break_orders(12, 1),
        relieve: None,
        healed: |floor| {
            ensure!(!floor.orders().join("fault").exists(), "the order never failed");
            Ok(())
        },
    },
    Scenario {
        name: "S4",
        fault: "dns1 answers every query with an error, a restart does not help: the traffic moves to dns2.",
        problem: "dns-down",
        place: None,
        inject: |floor| floor.break_dns("dns1"),
        relieve: None,
        healed: |floor| {
            ensure!(floor.active_dns() == "dns2", "{} is active, not dns2", floor.active_dns());
            Ok(())
        },
    },
];

/// SIGINT and SIGTERM as a flag, so that a story ends in order and leaves nothing behind.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// The signals cannot be watched.
    pub fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = flag.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                tokio::select! {
                    result = tokio::signal::ctrl_c() => result?,
                    _ = terminate.recv() => {}
                }
                seen.store(true, Ordering::SeqCst);
                std::io::Result::Ok(())
            })
        });
        Ok(Self(flag))
    }

    /// Whether one came.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits until one comes.
    pub fn wait(&self) {
        while !self.came() {
            std::thread::sleep(LOOK);
        }
    }
}

/// Follows the records and tells them.
#[derive(Debug)]
pub struct Story<'a> {
    fleet: &'a Fleet,
    events: Events,
    tell: fn(&str),
}

impl<'a> Story<'a> {
    /// Begins to follow.
    ///
    /// # Errors
    /// The CLI cannot be started.
    pub fn begin(fleet: &'a Fleet, tell: fn(&str)) -> anyhow::Result<Self> {
        Ok(Self { fleet, events: fleet.follow()?, tell })
    }

    /// Gives the fault and tells what happens until its incident is resolved; answers how long that took.
    ///
    /// # Errors
    /// It did not heal in time, or the shop is not as it should be afterwards.
    pub fn play(&mut self, scenario: &Scenario, floor: &Floor, interrupt: &Interrupt) -> anyhow::Result<Duration> {
        self.rest(Duration::ZERO);
        let started = Instant::now();
        (scenario.inject)(floor)?;
        let mut incident: Option<String> = None;
        loop {
            ensure!(!interrupt.came(), "interrupted");
            if started.elapsed() > PATIENCE {
                bail!("{}", self.what_holds(incident.as_deref()));
            }
            let Some(record) = self.events.next(LOOK) else { continue };
            self.narrate(&record, started);
            if is_opening(&record, scenario, floor) {
                incident = record["ids"]["incident"].as_str().map(str::to_owned);
                if let Some(relieve) = scenario.relieve {
                    relieve(floor)?;
                }
            }
            let concerns_it = incident.is_some() && record["ids"]["incident"].as_str() == incident.as_deref();
            if concerns_it && record["kind"] == "incidentResolved" {
                (scenario.healed)(floor)?;
                return Ok(started.elapsed());
            }
        }
    }

    /// Tells what comes until nothing has come for a while.
    pub fn rest(&mut self, quiet: Duration) {
        let started = Instant::now();
        while let Some(record) = self.events.next(quiet) {
            self.narrate(&record, started);
        }
    }

    fn narrate(&self, record: &Value, started: Instant) {
        let text = record["text"].as_str().unwrap_or_default();
        let ids = ["incident", "plan", "command"].map(|id| record["ids"][id].as_str().unwrap_or_default());
        if ids.iter().any(|id| !id.is_empty()) {
            // What the sentence names itself need not stand before it.
            let ids: Vec<&str> = ids.into_iter().filter(|id| !id.is_empty() && !text.contains(id)).collect();
            (self.tell)(&format!("    {:>6.2} s  {:<13} {text}", started.elapsed().as_secs_f64(), ids.join(" ")));
        }
    }

    /// Why an incident is where it is, for the message of a failure.
    fn what_holds(&self, incident: Option<&str>) -> String {
        let Some(incident) = incident else {
            return format!("no incident was opened within {PATIENCE:?}");
        };
        let described = self.fleet.quell(&["describe", "incident", incident]);
        format!(
            "{incident} was not resolved within {PATIENCE:?}:\n{}",
            described.unwrap_or_else(|error| error.to_string())
        )
    }
}

/// Whether a record opens the incident of a fault.
fn is_opening(record: &Value, scenario: &Scenario, floor: &Floor) -> bool {
    let data: Value = record["data"].as_str().and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    let problem = data["problem"].as_str().unwrap_or_default();
    let target = record["ids"]["target"].as_str().unwrap_or_default();
    record["kind"] == "incidentOpened" && scenario.is_of(floor, problem, target)
}

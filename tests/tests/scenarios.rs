//! The shop's four faults, end to end: real processes, real TLS, real files, sockets and signals.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{path::Path, sync::Mutex, time::Duration};

use quell_tests::{
    fleet::{Fleet, process::Programs},
    shop::floor::Floor,
    story::{Interrupt, SCENARIOS, Scenario, Story},
};
use serde_json::Value;

/// Two shops at once would starve each other of the machine's cores and miss their deadlines.
static ONE_SHOP: Mutex<()> = Mutex::new(());

fn policies() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policies"))
}

fn open(scratch: &Path) -> (Floor, Fleet) {
    let floor = Floor::open(&scratch.join("shop"), &Programs::beside_this_one().unwrap().shop).unwrap();
    let mut fleet = Fleet::start(&scratch.join("quell")).unwrap();
    for host in floor.hosts() {
        fleet.enrol(&host).unwrap();
    }
    let settings: Vec<(String, String)> =
        floor.settings().iter().map(|setting| (setting.name.to_owned(), setting.value.clone())).collect();
    fleet.apply(policies(), &settings).unwrap();
    (floor, fleet)
}

/// Every record, oldest first; asserts that none is missing and that the chain holds.
fn records(fleet: &Fleet) -> Vec<Value> {
    let text = fleet.quell(&["events", "-o", "json"]).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for pair in records.windows(2) {
        assert_eq!(pair[0]["sequence"].as_u64().unwrap() + 1, pair[1]["sequence"].as_u64().unwrap(), "a gap");
        assert_eq!(pair[0]["hash"], pair[1]["previous"], "the chain is broken after {}", pair[0]["sequence"]);
    }
    records
}

/// The incidents of a fault.
fn incidents(fleet: &Fleet, floor: &Floor, scenario: &Scenario) -> Vec<Value> {
    let mut incidents = fleet.items("incidents", &["--all"]).unwrap();
    incidents.retain(|incident| {
        let text = |field: &str| incident[field].as_str().unwrap_or_default().to_owned();
        scenario.is_of(floor, &text("problem"), &text("target"))
    });
    incidents
}

#[test]
fn each_fault_is_detected_remedied_and_verified_once() {
    let _one = ONE_SHOP.lock();
    let scratch = tempfile::tempdir().unwrap();
    let (floor, fleet) = open(scratch.path());
    let interrupt = Interrupt::listen().unwrap();
    let mut story = Story::begin(&fleet, |line| eprintln!("{line}")).unwrap();
    for scenario in SCENARIOS {
        let took =
            story.play(scenario, &floor, &interrupt).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
        eprintln!("{} healed in {took:?}", scenario.name);
    }
    story.rest(Duration::from_millis(500));

    for scenario in SCENARIOS {
        let of_it = incidents(&fleet, &floor, scenario);
        assert_eq!(of_it.len(), 1, "{}: not one incident but {of_it:#?}", scenario.name);
    }
    assert_eq!(floor.failovers(), 1, "the traffic was moved other than once");
    assert_eq!(floor.order_processor_starts(), 2, "the order processor was started other than twice");
    assert!(records(&fleet).len() > 20);
}

/// Which process is ended without warning.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Controller,
    Agent(&'static str),
}

const VICTIMS: [Victim; 4] =
    [Victim::Controller, Victim::Agent("planthost1"), Victim::Agent("planthost2"), Victim::Agent("opshost")];

fn kill_and_restart(fleet: &mut Fleet, victim: Victim) {
    match victim {
        Victim::Controller => {
            fleet.kill_controller();
            fleet.start_controller().unwrap();
        }
        Victim::Agent(host) => {
            fleet.kill_agent(host);
            fleet.start_agent(host).unwrap();
        }
    }
}

/// Whether the fault's incident is there, and how it stands.
fn state_of(fleet: &Fleet, floor: &Floor, scenario: &Scenario) -> Option<String> {
    incidents(fleet, floor, scenario).first()?["state"].as_str().map(str::to_owned)
}

#[test]
fn sigkill_at_random_loses_nothing_and_repeats_nothing() {
    let _one = ONE_SHOP.lock();
    let seed = std::env::var("QUELL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("QUELL_SEED={seed} repeats this choice of victims and moments");
    let mut random = fastrand::Rng::with_seed(seed);
    let scratch = tempfile::tempdir().unwrap();
    let (floor, mut fleet) = open(scratch.path());

    for scenario in SCENARIOS {
        (scenario.inject)(&floor).unwrap();
        let started = std::time::Instant::now();
        let mut relieved = false;
        loop {
            let state = state_of(&fleet, &floor, scenario);
            match (&state, scenario.relieve) {
                (Some(_), Some(relieve)) if !relieved => {
                    relieve(&floor).unwrap();
                    relieved = true;
                }
                _ => {}
            }
            if state.as_deref() == Some("resolved") {
                break;
            }
            let described = || fleet.quell(&["get", "incidents", "--all", "-o", "yaml"]).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(180), "{} did not heal:\n{}", scenario.name, described());
            let victim = VICTIMS[random.usize(..VICTIMS.len())];
            eprintln!("{} {:?}: killing {victim:?} while it is {state:?}", scenario.name, started.elapsed());
            kill_and_restart(&mut fleet, victim);
            let calm = Duration::from_millis(random.u64(100..3_000));
            std::thread::sleep(calm);
        }
        (scenario.healed)(&floor).unwrap();
    }

    for scenario in SCENARIOS {
        let of_it = incidents(&fleet, &floor, scenario);
        assert_eq!(of_it.len(), 1, "{}: not one incident but {of_it:#?}", scenario.name);
    }
    assert_eq!(floor.failovers(), 1, "the traffic was moved other than once");
    assert_eq!(floor.order_processor_starts(), 2, "the order processor was started other than twice");
    let records = records(&fleet);
    let sent: Vec<&Value> = records.iter().filter(|record| record["kind"] == "commandSent").collect();
    let mut commands: Vec<&str> = sent.iter().filter_map(|record| record["ids"]["command"].as_str()).collect();
    commands.sort_unstable();
    let all = commands.len();
    commands.dedup();
    assert_eq!(commands.len(), all, "a command was sent by two records");
}

//! One suite for every action of the list: each says how to make a host on which it has something to do, and how often
//! its effect took place; the rest is the same for all.

use std::{path::Path, time::Duration};

use quell_wire::v1::{self, OutcomeKind};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use quell_model::action::{Parameters, lists_objects};

use super::{
    Host, Preview, Work, disk_reclaim,
    dns_failover::{
        self,
        stand_in::{self, StandIn},
    },
};
use crate::{
    config::Config,
    execute::tests::{Agent, command, seed},
    legal_hold::LegalHoldFile,
    managers::Managers,
};

/// What the suite must know of an action.
struct Case {
    action: &'static str,
    /// Everything that must be listed for it, each line of which the suite leaves out once.
    allow: Vec<String>,
    /// The rest of `agent.toml`.
    defined: String,
    with: Json,
    /// What a second run comes to, the first having succeeded.
    again: OutcomeKind,
    /// What an interrupted one comes to when its effect had not, and had, taken place.
    recovered: [OutcomeKind; 2],
    /// How often the effect took place, as the host shows it.
    effects: fn(&Path) -> usize,
}

/// How often somebody exchanges a file while root works on it, at least, and how long that may take. Usually it is no more
/// than takes seconds; `QUELL_EXCHANGES` says another number.
pub(super) fn exchanges(usually: u64) -> (u64, Duration) {
    let wanted = std::env::var("QUELL_EXCHANGES").map_or(usually, |number| number.parse().unwrap());
    (wanted, Duration::from_secs(60) + Duration::from_millis(5) * u32::try_from(wanted).unwrap())
}

fn list(name: &str, entry: &str) -> String {
    format!("{name} = [{entry:?}]")
}

fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn restart(root: &Path) -> Case {
    let script = format!("echo started >> {}; exec sleep 300", shown(&root.join("effects")));
    Case {
        action: "service.restart",
        allow: vec![list("services", "orders")],
        defined: format!(
            "[[service]]\nname = \"orders\"\nmanager = \"command\"\nstart = [\"/bin/sh\", \"-c\", {script:?}]\n"
        ),
        with: json!({"service": "orders"}),
        again: OutcomeKind::Succeeded,
        recovered: [OutcomeKind::Succeeded, OutcomeKind::Succeeded],
        effects: |root| count(&root.join("effects")),
    }
}

fn rotate(root: &Path) -> Case {
    let logs = root.join("logs");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("app.log"), "one line\n").unwrap();
    Case {
        action: "log.rotate",
        allow: vec![list("paths", &shown(&logs))],
        defined: String::new(),
        with: json!({"path": shown(&logs.join("app.log")), "minSize": "1B"}),
        again: OutcomeKind::NoChange,
        recovered: [OutcomeKind::Succeeded, OutcomeKind::Succeeded],
        effects: |root| std::fs::read_dir(root.join("logs")).unwrap().count() - 1,
    }
}

fn reclaim(root: &Path) -> Case {
    let logs = root.join("logs");
    std::fs::create_dir(&logs).unwrap();
    disk_reclaim::tests::aged(&logs.join("old.log"), 2);
    Case {
        action: "disk.reclaim",
        allow: vec![list("reclaim", &shown(&logs))],
        defined: String::new(),
        with: json!({"directory": shown(&logs), "names": ["*.log"], "olderThan": "1d"}),
        again: OutcomeKind::NoChange,
        recovered: [OutcomeKind::Succeeded, OutcomeKind::Succeeded],
        effects: |root| usize::from(!root.join("logs/old.log").exists()),
    }
}

fn failover(root: &Path) -> Case {
    let tool = dns_failover::command_tests::tool(root);
    Case {
        action: "dns.failover",
        allow: vec![list("programs", &shown(&tool))],
        defined: String::new(),
        with: json!({"tool": [shown(&tool)], "from": "dns1", "to": "dns2"}),
        again: OutcomeKind::NoChange,
        recovered: [OutcomeKind::Succeeded, OutcomeKind::Succeeded],
        effects: |root| count(&root.join("calls")) / 2,
    }
}

fn failover_by_update(root: &Path) -> Case {
    let server = StandIn::start(root);
    Case {
        action: "dns.failover",
        allow: vec![server.lines(root)],
        defined: String::new(),
        with: json!({"provider": "rfc2136", "server": server.address.to_string(), "zone": stand_in::ZONE, "record": "www",
            "key": stand_in::KEY, "from": "dns1", "to": "dns2", "values": {"dns1": "192.0.2.53", "dns2": "192.0.2.54"}}),
        again: OutcomeKind::NoChange,
        recovered: [OutcomeKind::Succeeded, OutcomeKind::Succeeded],
        effects: |root| count(&root.join("updates")),
    }
}

fn exec(root: &Path) -> Case {
    let script = format!("echo ran >> {}", shown(&root.join("effects")));
    Case {
        action: "exec",
        allow: vec![list("programs", "/bin/sh"), list("environment", "LANG")],
        defined: String::new(),
        with: json!({"argv": ["/bin/sh", "-c", script], "environment": {"LANG": "C"}}),
        again: OutcomeKind::Succeeded,
        recovered: [OutcomeKind::Unknown, OutcomeKind::Unknown],
        effects: |root| count(&root.join("effects")),
    }
}

const CASES: [fn(&Path) -> Case; 6] = [restart, rotate, reclaim, failover, failover_by_update, exec];

/// Those that this user can try: only root sees who has a file open, and `disk.reclaim` refuses to guess.
fn cases() -> impl Iterator<Item = fn(&Path) -> Case> {
    let is_root = rustix::process::geteuid().is_root();
    CASES.into_iter().filter(move |make| is_root || !lists_objects(Bench::new(*make).case.action))
}

struct Bench {
    root: tempfile::TempDir,
    case: Case,
}

impl Bench {
    fn new(make: fn(&Path) -> Case) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        let case = make(root.path());
        Self { root, case }
    }

    fn toml(&self, left_out: Option<usize>) -> String {
        let mut lines = vec![list("actions", self.case.action)];
        lines.extend(self.case.allow.iter().cloned());
        if let Some(index) = left_out {
            lines.remove(index);
        }
        format!("[allow]\n{}\n{}", lines.join("\n"), self.case.defined)
    }

    async fn agent(&self) -> Agent {
        Agent::start(&self.root.path().join("data"), &self.toml(None)).await
    }

    fn order(&self, key: &str) -> v1::Command {
        command(key, self.case.action, &self.case.with)
    }

    /// Carries it out, by a plan with a list where one is needed.
    async fn run(&self, agent: &mut Agent, key: &str) -> v1::Outcome {
        if !lists_objects(self.case.action) {
            return agent.run(self.order(key)).await;
        }
        let listed = agent.preview(self.order(key)).await;
        agent.run_listed(self.order(key), &listed).await
    }

    fn effects(&self) -> usize {
        (self.case.effects)(self.root.path())
    }

    /// Ends what the test has started.
    async fn clean(&self) {
        if self.case.action == "service.restart" {
            let config = Config::parse(&self.toml(None), Path::new("agent.toml")).unwrap();
            let managers = Managers::open(&config, &self.root.path().join("data")).await.unwrap();
            managers.find("orders").unwrap().stop(std::time::Duration::from_secs(5)).await.unwrap();
        }
    }
}

#[test]
fn the_suite_covers_the_list() {
    let mut covered: Vec<&str> = CASES.iter().map(|make| Bench::new(*make).case.action).collect();
    let mut known: Vec<&str> = super::names().collect();
    covered.sort_unstable();
    known.sort_unstable();
    // An action with more than one provider has a case for each.
    covered.dedup();
    assert_eq!(covered, known);
}

#[tokio::test]
async fn a_dry_run_says_what_the_real_one_does_and_changes_nothing() {
    for make in cases() {
        let bench = Bench::new(make);
        let mut agent = bench.agent().await;
        let dry = agent.run(v1::Command { dry_run: true, ..bench.order("dry") }).await;
        let name = bench.case.action;
        assert_eq!((dry.kind(), dry.dry_run), (OutcomeKind::Succeeded, true), "{name}: {}", dry.summary);
        assert_eq!(bench.effects(), 0, "{name}");
        let real = bench.run(&mut agent, "real").await;
        assert_eq!(real.kind(), OutcomeKind::Succeeded, "{name}: {}", real.summary);
        assert_eq!(bench.effects(), 1, "{name}");
        let again = bench.run(&mut agent, "again").await;
        assert_eq!(again.kind(), bench.case.again, "{name}: {}", again.summary);
        bench.clean().await;
    }
}

#[tokio::test]
async fn each_line_that_is_missing_is_named() {
    for make in cases() {
        let lines = Bench::new(make).case.allow.len() + 1;
        for left_out in 0..lines {
            let bench = Bench::new(make);
            let name = bench.case.action;
            let toml = bench.toml(Some(left_out));
            let mut agent = Agent::start(&bench.root.path().join("data"), &toml).await;
            let outcome = bench.run(&mut agent, "a").await;
            assert_eq!(outcome.kind(), OutcomeKind::Refused, "{name} without line {left_out}");
            // The remedy is the very line that was left out, or the lines of the very table. Where a secret lies, nobody but
            // the host's administrator knows.
            let missing: Vec<&str> = outcome.remedy.lines().filter(|line| !line.starts_with("secret_file")).collect();
            assert!(!missing.is_empty() && bench.toml(None).contains(&missing.join("\n")), "{name}: {outcome:?}");
            assert!(!toml.contains(&missing.join("\n")), "{name}: {outcome:?}");
            assert!(missing.iter().all(|line| outcome.summary.contains(line)), "{name}: {}", outcome.summary);
            assert_eq!(bench.effects(), 0, "{name}");
        }
    }
}

#[tokio::test]
async fn killed_between_intent_and_effect_it_goes_on_or_says_that_it_does_not_know() {
    for make in cases() {
        let bench = Bench::new(make);
        interrupted(&bench, false).await;
        let expected = usize::from(bench.case.recovered[0] == OutcomeKind::Succeeded);
        recovered(&bench, bench.case.recovered[0], expected).await;
    }
}

#[tokio::test]
async fn killed_between_effect_and_outcome_it_is_not_done_twice() {
    for make in cases() {
        let bench = Bench::new(make);
        interrupted(&bench, true).await;
        // A service that was started writes its line when it gets to it.
        let begun = std::time::Instant::now();
        while bench.effects() == 0 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        recovered(&bench, bench.case.recovered[1], 1).await;
    }
}

/// Leaves the host as an agent does that died after the intent, or after the effect.
async fn interrupted(bench: &Bench, effect: bool) {
    let data = bench.root.path().join("data");
    let config = std::sync::Arc::new(Config::parse(&bench.toml(None), Path::new("agent.toml")).unwrap());
    let managers = std::sync::Arc::new(Managers::open(&config, &data).await.unwrap());
    let host = Host { config, managers, legal_holds: LegalHoldFile::new(&data) };
    let order = bench.order("interrupted");
    let parameters = serde_json::from_slice(&order.parameters).unwrap();
    let action = super::of(Parameters::parse(bench.case.action, &parameters).unwrap());
    let checked: Preview = action.check(&host).await.unwrap();
    let prepared = action.prepare(&host, &checked).await.unwrap();
    seed(&data, &order, &prepared).await;
    if effect {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let work = Work { host: &host, deadline, cancel: CancellationToken::new(), resumed: false };
        action.apply(&work, &prepared).await.unwrap();
    }
}

async fn recovered(bench: &Bench, expected: OutcomeKind, effects: usize) {
    let name = bench.case.action;
    let mut agent = bench.agent().await;
    let outcome = agent.outcome("cmd-interrupted").await;
    assert_eq!(outcome.kind(), expected, "{name}: {}", outcome.summary);
    assert_eq!(bench.effects(), effects, "{name}");
    agent.crash().await;
    // After the outcome nothing happens any more: neither by another restart, nor by the order coming again.
    let mut agent = bench.agent().await;
    assert_eq!(agent.run(bench.order("interrupted")).await.kind(), expected, "{name}");
    assert_eq!(bench.effects(), effects, "{name}");
    bench.clean().await;
}

#[tokio::test]
async fn killed_in_the_middle_a_rotation_is_finished_and_loses_nothing() {
    for (method, state) in [("rename", "renamed"), ("rename", "partial"), ("copy", "copied"), ("copy", "partial")] {
        let mut bench = Bench::new(rotate);
        bench.case.with["method"] = json!(method);
        let logs = bench.root.path().join("logs");
        interrupted(&bench, false).await;
        let journal = std::fs::read_to_string(bench.root.path().join("data/journal")).unwrap();
        let at = journal.find("app.log.2").unwrap();
        let archive = journal[at..].split('"').next().unwrap();
        let log = logs.join("app.log");
        match state {
            "renamed" => std::fs::rename(&log, logs.join(archive)).unwrap(),
            "partial" => std::fs::write(logs.join(format!(".{archive}.gz.quell-part")), "half").unwrap(),
            _ => {
                let file = std::fs::File::create(logs.join(format!("{archive}.gz"))).unwrap();
                let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::new(6));
                std::io::Write::write_all(&mut encoder, b"one line\n").unwrap();
                encoder.finish().unwrap();
            }
        }
        let mut agent = bench.agent().await;
        let outcome = agent.outcome("cmd-interrupted").await;
        assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{method} {state}: {}", outcome.summary);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "{method} {state}");
        let names: Vec<_> = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{method} {state}: {names:?}");
        let file = std::fs::File::open(logs.join(format!("{archive}.gz"))).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::MultiGzDecoder::new(file), &mut text).unwrap();
        assert_eq!(text, "one line\n", "{method} {state}");
    }
}

#[tokio::test]
async fn an_interrupted_failover_goes_on_from_where_no_server_was_active() {
    let bench = Bench::new(failover);
    interrupted(&bench, false).await;
    std::fs::write(bench.root.path().join("active"), "none\n").unwrap();
    let mut agent = bench.agent().await;
    let outcome = agent.outcome("cmd-interrupted").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
}

//! The way through, with a real service and real programs; the actions' own suite stands beside them.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quell_model::{
    digest::Digest,
    plan::{ExactPlan, preview_key},
};
use quell_wire::v1::{self, OutcomeKind};

use super::{Handle, Options, Report, Reports, start};
use crate::{
    belief::Beliefs,
    clock::ClockOffset,
    config::Config,
    guard::{Held, HostHold, Surroundings},
    managers::Managers,
};

mod limits;
#[path = "../../tests/office/mod.rs"]
pub(crate) mod office;
mod open;
mod shop;
mod signed;

const LIMIT: Duration = Duration::from_secs(20);

/// An agent without a session.
pub(crate) struct Agent {
    pub(crate) handle: Handle,
    pub(crate) reports: Reports,
    pub(crate) managers: Arc<Managers>,
    clock: ClockOffset,
    held: Arc<AtomicBool>,
}

impl Agent {
    /// Starts one with this `agent.toml`, which believes the office; what it believed before stays.
    pub(crate) async fn start(data_directory: &Path, toml: &str) -> Self {
        if !data_directory.join("belief").exists() {
            Beliefs::establish(data_directory, &office::OFFICE.root(), &office::labels()).unwrap();
        }
        Self::of_strangers(data_directory, toml).await
    }

    /// Starts one with what it believes.
    pub(crate) async fn of_strangers(data_directory: &Path, toml: &str) -> Self {
        let config = Arc::new(Config::parse(toml, Path::new("agent.toml")).unwrap());
        let managers = Arc::new(Managers::open(&config, data_directory).await.unwrap());
        let held = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&held);
        let host_hold: HostHold = Arc::new(move || {
            asked.load(Ordering::Relaxed).then(|| Held { reason: "a test".to_owned(), until: jiff::Timestamp::MAX })
        });
        let clock = ClockOffset::default();
        let options = Options {
            data_directory: data_directory.to_owned(),
            config,
            managers: Arc::clone(&managers),
            beliefs: Arc::new(Beliefs::open(data_directory, office::host()).unwrap()),
            clock: clock.clone(),
            host_hold,
            // Whoever works at this machine is no business of the tests.
            surroundings: Surroundings {
                package_locks: vec![],
                uptime: data_directory.join("uptime"),
                terminals: data_directory.join("terminals"),
            },
        };
        let (handle, reports) = start(options).await.unwrap();
        Self { handle, reports, managers, clock, held }
    }

    pub(crate) async fn next(&mut self) -> Report {
        tokio::time::timeout(LIMIT, self.reports.recv()).await.expect("no report came").expect("the reports ended")
    }

    /// The next outcome of this order.
    pub(crate) async fn outcome(&mut self, command_id: &str) -> v1::Outcome {
        loop {
            if let Report::Outcome(outcome) = self.next().await
                && outcome.command_id == command_id
            {
                return outcome;
            }
        }
    }

    /// Gives an order that a person signs.
    pub(crate) async fn submit(&self, command: v1::Command) {
        self.handle.submit(office::signed(command)).await;
    }

    /// Carries out an order that a person signs.
    pub(crate) async fn run(&mut self, command: v1::Command) -> v1::Outcome {
        self.give(office::signed(command)).await
    }

    /// Gives an order as it is, and waits for its outcome.
    pub(crate) async fn give(&mut self, command: v1::Command) -> v1::Outcome {
        let id = command.command_id.clone();
        self.handle.submit(command).await;
        self.outcome(&id).await
    }

    /// Asks what an order that a person signs would touch.
    pub(crate) async fn preview(&mut self, command: v1::Command) -> v1::Preview {
        self.submit(v1::Command { preview_only: true, ..command }).await;
        loop {
            if let Report::Preview(preview) = self.next().await {
                return preview;
            }
        }
    }

    /// Carries out an order by a plan that holds what the host said that it would touch.
    pub(crate) async fn run_listed(&mut self, command: v1::Command, listed: &v1::Preview) -> v1::Outcome {
        let digest = Digest(listed.digest.as_slice().try_into().unwrap());
        let listed = |plan: &mut ExactPlan| {
            plan.previews.insert(preview_key(&office::host(), 0), digest);
        };
        self.give(office::signed_by_plan(command, listed)).await
    }

    /// Ends it as a crash would, the data directory being free afterwards.
    pub(crate) async fn crash(self) {
        let shared = Arc::downgrade(&self.handle.shared);
        drop(self);
        let begun = std::time::Instant::now();
        while shared.strong_count() > 0 {
            assert!(begun.elapsed() < LIMIT, "the agent does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) fn command(key: &str, action: &str, parameters: &serde_json::Value) -> v1::Command {
    v1::Command {
        command_id: format!("cmd-{key}"),
        idempotency_key: key.to_owned(),
        fence: 1,
        start_within_ms: 15_000,
        timeout_ms: 15_000,
        action: action.to_owned(),
        parameters: parameters.to_string().into_bytes(),
        ..v1::Command::default()
    }
}

/// Writes into a journal what an agent has written that died after an order's intent.
pub(crate) async fn seed(data_directory: &Path, command: &v1::Command, prepared: &serde_json::Value) {
    let journal = super::Journal::open(data_directory).unwrap();
    let intent = super::journal::Intent {
        key: command.idempotency_key.clone(),
        command_id: command.command_id.clone(),
        action: command.action.clone(),
        parameters: serde_json::from_slice(&command.parameters).unwrap(),
        fence: command.fence,
        plan: None,
        step: 0,
        timeout_ms: command.timeout_ms,
        begun_unix_ms: jiff::Timestamp::now().as_millisecond(),
        resources: vec![],
        prepared: prepared.clone(),
        undoes: None,
    };
    journal.append(vec![super::journal::Line::Intent(intent)], true).await.unwrap();
}

fn shell(key: &str, script: &str) -> v1::Command {
    command(key, "exec", &serde_json::json!({"argv": ["/bin/sh", "-c", script]}))
}

const TOML: &str = r#"
    [allow]
    actions = ["exec", "service.restart"]
    services = ["orders"]
    programs = ["/bin/sh"]
    [[service]]
    name = "orders"
    manager = "command"
    start = ["/bin/sleep", "300"]
"#;

async fn fresh() -> (tempfile::TempDir, Agent) {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path(), TOML).await;
    (directory, agent)
}

fn lines(path: &PathBuf) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn an_order_is_started_ends_and_is_kept_until_acknowledged() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("said");
    let order = shell("a", &format!("echo hello | tee -a {}", file.display()));
    agent.submit(order.clone()).await;
    assert!(matches!(agent.next().await, Report::Started(started) if started.command_id == "cmd-a"));
    let outcome = agent.outcome("cmd-a").await;
    assert_eq!((outcome.kind(), outcome.output.as_str()), (OutcomeKind::Succeeded, "hello\n"));
    assert_eq!(agent.handle.journal()[0].outcome.as_ref().unwrap().kind(), OutcomeKind::Succeeded);

    let again = agent.run(order.clone()).await;
    assert_eq!((again.kind(), lines(&file)), (OutcomeKind::Succeeded, 1), "a duplicate is answered and not done");
    agent.handle.acknowledged("a").await;
    let begun = std::time::Instant::now();
    while !agent.handle.journal().is_empty() {
        assert!(begun.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    agent.crash().await;
    let mut agent = Agent::start(directory.path(), TOML).await;
    assert_eq!(agent.run(order).await.kind(), OutcomeKind::Succeeded);
    assert_eq!(lines(&file), 1, "nor after a restart, nor when it was acknowledged");
}

#[tokio::test]
async fn a_program_is_timed_out_capped_and_called_off() {
    let (_directory, mut agent) = fresh().await;
    let slow = v1::Command { timeout_ms: 200, ..shell("slow", "echo partial; sleep 60") };
    let outcome = agent.run(slow).await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert!(outcome.summary.contains("too long") && outcome.output == "partial\n", "{outcome:?}");

    let outcome = agent.run(shell("loud", "seq 1 10000; exit 3")).await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert!(outcome.output.len() <= 8192 && outcome.output.ends_with("10000\n"));

    agent.submit(shell("long", "sleep 60")).await;
    while !matches!(agent.next().await, Report::Started(_)) {}
    agent.submit(shell("queued", "true")).await;
    agent.handle.cancel("cmd-queued", "not needed").await;
    let queued = agent.outcome("cmd-queued").await;
    assert_eq!(queued.kind(), OutcomeKind::NotStarted);
    assert!(queued.summary.contains("not needed"));
    agent.handle.cancel("cmd-long", "a person says so").await;
    let outcome = agent.outcome("cmd-long").await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert!(outcome.summary.contains("a person says so"), "{}", outcome.summary);
}

#[tokio::test]
async fn orders_on_one_resource_follow_each_other() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("order");
    for index in 0..5 {
        // A later one would overtake if they ran side by side.
        let script = format!("sleep 0.{}; echo {index} >> {}", 5 - index, file.display());
        agent.submit(shell(&index.to_string(), &script)).await;
    }
    agent.outcome("cmd-4").await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "0\n1\n2\n3\n4\n");
}

#[tokio::test]
async fn an_order_that_waits_too_long_is_not_begun() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("late");
    agent.submit(shell("first", "sleep 0.6")).await;
    let late = v1::Command { start_within_ms: 100, ..shell("late", &format!("touch {}", file.display())) };
    assert_eq!(agent.run(late).await.kind(), OutcomeKind::NotStarted);
    agent.outcome("cmd-first").await;
    assert!(!file.exists());
    let expired = v1::Command { start_within_ms: 0, ..shell("expired", &format!("touch {}", file.display())) };
    assert_eq!(agent.run(expired).await.kind(), OutcomeKind::NotStarted);
    assert!(!file.exists());
}

#[tokio::test]
async fn fences_holds_and_dry_runs_change_nothing() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("touched");
    let touch = |key: &str| shell(key, &format!("touch {}", file.display()));

    let dry = agent.run(v1::Command { dry_run: true, ..touch("dry") }).await;
    assert!(dry.dry_run && dry.kind() == OutcomeKind::Succeeded && dry.summary.starts_with("would run"), "{dry:?}");
    agent.submit(v1::Command { preview_only: true, fence: 9, ..touch("preview") }).await;
    let Report::Preview(preview) = agent.next().await else { panic!("a preview was wanted") };
    assert_eq!((preview.items.len(), preview.digest.len()), (1, 32));
    assert_eq!(agent.handle.fence(), 9, "a fence that was only seen is kept");

    assert_eq!(agent.run(touch("stale")).await.kind(), OutcomeKind::Refused);
    agent.held.store(true, Ordering::Relaxed);
    let held = agent.run(v1::Command { fence: 9, ..touch("held") }).await;
    assert!(held.kind() == OutcomeKind::Refused && held.summary.contains("a test"), "{held:?}");
    agent.held.store(false, Ordering::Relaxed);
    agent.crash().await;

    let mut agent = Agent::start(directory.path(), TOML).await;
    assert_eq!(agent.run(touch("stale again")).await.kind(), OutcomeKind::Refused, "the fence is durable");
    assert_eq!(agent.run(v1::Command { fence: 9, ..touch("held") }).await.kind(), OutcomeKind::Refused, "as recorded");
    assert!(!file.exists());
    assert_eq!(agent.run(v1::Command { fence: 9, ..touch("good") }).await.kind(), OutcomeKind::Succeeded);
    assert!(file.exists());
}

/// What the agent has and may still begin is told until it has an outcome: whoever does not find an order here nor in the
/// journal may count it as not begun.
#[tokio::test]
async fn an_order_is_at_hand_from_its_arrival_to_its_outcome() {
    let (directory, mut agent) = fresh().await;
    std::fs::write(directory.path().join("uptime"), "1.0 1.0").unwrap();
    let polite = v1::Command { yield_to: vec!["boot 5m".to_owned()], ..shell("waits", "true") };
    let given = agent.handle.submit(office::signed(polite.clone()));
    assert!(agent.handle.at_hand().contains("cmd-waits"), "from the moment at which it was read");
    given.await;
    // The same again is answered by the first one, and takes nothing away.
    agent.submit(polite).await;
    agent.handle.submit(office::signed(v1::Command { preview_only: true, ..shell("asked", "true") })).await;
    while !matches!(agent.reports.recv().await, Some(Report::Preview(_))) {}
    assert_eq!(agent.handle.at_hand().into_iter().collect::<Vec<_>>(), ["cmd-waits"], "it gives way, and is there");
    assert!(agent.handle.journal().is_empty(), "its intent is not journaled yet");
    std::fs::write(directory.path().join("uptime"), "900.0 1.0").unwrap();
    assert_eq!(agent.outcome("cmd-waits").await.kind(), OutcomeKind::Succeeded);
    let begun = std::time::Instant::now();
    while !agent.handle.at_hand().is_empty() {
        assert!(begun.elapsed() < LIMIT, "it is over and still at hand");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn an_order_is_known_at_every_moment_whatever_becomes_of_it() {
    let (_directory, mut agent) = fresh().await;
    let late = v1::Command { start_within_ms: 0, ..shell("late", "true") };
    let stranger = v1::Command { authority: None, ..office::signed(shell("stranger", "true")) };
    for command in [office::signed(shell("good", "true")), office::signed(late), stranger] {
        let id = command.command_id.clone();
        let given = agent.handle.submit(command);
        let known = async {
            loop {
                let at_hand = agent.handle.at_hand();
                let journaled = agent.handle.journal();
                let is_known = at_hand.contains(&id) || journaled.iter().any(|entry| entry.command_id == id);
                assert!(is_known, "{id} may be sent again, and done although it was refused");
                if at_hand.is_empty() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, async { tokio::join!(given, known) }).await.unwrap();
        agent.outcome(&id).await;
    }
}

#[tokio::test]
async fn an_order_gives_way_and_begins_when_the_way_is_free() {
    let (directory, mut agent) = fresh().await;
    let uptime = directory.path().join("uptime");
    std::fs::write(&uptime, "1.0 1.0").unwrap();
    let polite = |key: &str, start_within_ms| v1::Command {
        yield_to: vec!["boot 5m".to_owned()],
        start_within_ms,
        ..shell(key, "true")
    };
    let outcome = agent.run(polite("short", 300)).await;
    assert_eq!(outcome.kind(), OutcomeKind::NotStarted);
    assert!(outcome.summary.contains("booted"), "{}", outcome.summary);
    agent.submit(polite("long", 15_000)).await;
    // It has given way at least once when a later order on another resource is through.
    agent.run(command("other", "service.restart", &serde_json::json!({"service": "orders"}))).await;
    std::fs::write(&uptime, "900.0 1.0").unwrap();
    assert_eq!(agent.outcome("cmd-long").await.kind(), OutcomeKind::Succeeded);
    agent.managers.find("orders").unwrap().stop(LIMIT).await.unwrap();
}

#[tokio::test]
async fn nothing_is_done_when_the_journal_is_broken() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("touched");
    agent.handle.shared.journal.break_for_test();
    let outcome = agent.run(shell("a", &format!("touch {}", file.display()))).await;
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert!(outcome.summary.contains("journal") && !file.exists(), "{}", outcome.summary);
}

#[tokio::test]
async fn a_stop_waits_for_what_runs_and_begins_nothing() {
    let (directory, mut agent) = fresh().await;
    let file = directory.path().join("ended");
    let go = directory.path().join("go");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done; touch {}", go.display(), file.display());
    agent.submit(shell("a", &waits)).await;
    while !matches!(agent.next().await, Report::Started(_)) {}
    agent.submit(shell("b", "true")).await;
    let stopped = async { tokio::join!(agent.handle.stop(), async { std::fs::write(&go, "").unwrap() }) };
    tokio::time::timeout(LIMIT, stopped).await.unwrap();
    assert!(file.exists());
    assert_eq!(agent.handle.journal().len(), 1, "the second was not begun");
}

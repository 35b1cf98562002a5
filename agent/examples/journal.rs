//! Shows what the agent's journal survives: the program behind `tests/host/journal.sh`.
//!
//! ```text
//! journal write DIRECTORY NOTES            carries out orders for ever, and notes what they did and how they ended
//! journal some DIRECTORY NOTES             carries out enough of them that the journal is made anew; all must succeed
//! journal refused DIRECTORY NOTES          carries out orders until one is refused: from then on, all must be
//! journal full DIRECTORY NOTES BALLAST     the same on a full disk; then removes BALLAST, and they must succeed again
//! journal check DIRECTORY NOTES            compares the journal with the notes: repeats the orders, which must do nothing
//! ```
//!
//! The journal lies in DIRECTORY, whose disk may fail. The notes lie elsewhere: what an order did cannot be undone by a
//! power cut at the agent, so its effect must not get lost with the disk either.
#![expect(clippy::print_stdout, reason = "it is a program for people")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

#[expect(dead_code, clippy::unwrap_used, reason = "it signs in one way only, and a key that cannot be made ends it")]
#[path = "../tests/office/mod.rs"]
mod office;

use anyhow::{Context as _, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use quell_agent::{
    belief::Beliefs,
    clock::ClockOffset,
    config::Config,
    execute::{self, Handle, Options, Report, Reports},
    guard::Surroundings,
    managers::Managers,
};
use quell_model::{plan::ExactPlan, trust::PolicySet};
use quell_wire::v1::{self, OutcomeKind};

/// How long an order's signature counts: what an agent has to remember of it ends soon after.
const SIGNED_FOR: SignedDuration = SignedDuration::from_secs(5);

/// How long an order may take to be answered, however slow the disk is.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes that each order prints: its outcome holds them, and some hundred outcomes fill the journal.
const OUTPUT: u32 = 3000;

/// Orders after which the journal was made anew at least once.
const MANY: u64 = 400;

/// Orders that are left without an acknowledgement.
const UNACKNOWLEDGED: u64 = 20;

/// How many of the newest orders are repeated; the journal answers at least the newest thousand.
const REPEATED: usize = 500;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    quell_agent::log::start(quell_agent::log::Format::Text);
    let paths: Vec<PathBuf> = env::args_os().skip(2).map(PathBuf::from).collect();
    match (env::args().nth(1).as_deref(), paths.as_slice()) {
        (Some("write"), [directory, notes]) => write(directory, notes, u64::MAX).await,
        (Some("some"), [directory, notes]) => write(directory, notes, MANY).await,
        (Some("refused"), [directory, notes]) => refused(&mut Agent::start(directory, notes).await?).await,
        (Some("full"), [directory, notes, ballast]) => full(directory, notes, ballast).await,
        (Some("check"), [directory, notes]) => check(directory, notes).await,
        _ => bail!("usage: journal write|some|refused|full|check DIRECTORY NOTES [BALLAST]"),
    }
}

/// An agent without a controller, and the notes of what it does.
struct Agent {
    handle: Handle,
    reports: Reports,
    notes: PathBuf,
    /// The highest that was sent.
    fence: u64,
}

impl Agent {
    async fn start(directory: &Path, notes: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        fs::create_dir_all(notes)?;
        let toml = "[allow]\nactions = [\"exec\"]\nprograms = [\"/bin/sh\"]\n";
        let config = Arc::new(Config::parse(toml, Path::new("agent.toml"))?);
        let managers = Arc::new(Managers::open(&config, directory).await?);
        // The keys are new with each process; what was seen and done stays.
        Beliefs::establish(directory, &office::OFFICE.root(), &office::labels())?;
        let options = Options {
            data_directory: directory.to_owned(),
            config,
            managers,
            beliefs: Arc::new(Beliefs::open(directory, office::host())?),
            clock: ClockOffset::default(),
            host_hold: Arc::new(|| None),
            surroundings: Surroundings::default(),
        };
        let (handle, reports) = execute::start(options).await?;
        let fence = handle.fence();
        Ok(Self { handle, reports, notes: notes.to_owned(), fence })
    }

    fn note(&self, file: &str, line: &str) -> anyhow::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(self.notes.join(file))?;
        Ok(writeln!(file, "{line}")?)
    }

    /// The order with this number. It appends its key to the notes.
    fn order(&self, number: u64) -> v1::Command {
        let effects = self.notes.join("effects");
        let script = format!("echo {number} >>{}; head -c {OUTPUT} /dev/zero | tr '\\0' x", effects.display());
        signed(v1::Command {
            command_id: format!("cmd-{number}"),
            idempotency_key: number.to_string(),
            fence: self.fence.max(1 + number / 10),
            start_within_ms: 60_000,
            timeout_ms: 60_000,
            action: "exec".to_owned(),
            parameters: serde_json::json!({ "argv": ["/bin/sh", "-c", script] }).to_string().into_bytes(),
            ..v1::Command::default()
        })
    }

    async fn report(&mut self) -> anyhow::Result<Report> {
        let report = tokio::time::timeout(LIMIT, self.reports.recv()).await;
        report.context("no report came")?.context("the reports have ended")
    }

    /// Carries an order out, or repeats it.
    async fn run(&mut self, number: u64) -> anyhow::Result<v1::Outcome> {
        let order = self.order(number);
        self.fence = order.fence;
        self.handle.submit(order.clone()).await;
        loop {
            if let Report::Outcome(outcome) = self.report().await?
                && outcome.command_id == order.command_id
            {
                return Ok(outcome);
            }
        }
    }

    /// Carries the next order out and notes how it ended. A fence that the agent has only seen must be kept as well, so
    /// now and then a preview brings one that is higher.
    async fn next(&mut self, number: u64) -> anyhow::Result<v1::Outcome> {
        self.note("begun", &number.to_string())?;
        let outcome = self.run(number).await?;
        self.note("ended", &ended_line(number, &outcome, self.handle.fence()))?;
        if let Some(old) = number.checked_sub(UNACKNOWLEDGED) {
            self.handle.acknowledged(&old.to_string()).await;
        }
        if number.is_multiple_of(7) {
            self.fence += 1;
            let preview = v1::Command { preview_only: true, ..self.order(number) };
            self.handle.submit(preview).await;
            while !matches!(self.report().await?, Report::Preview(_)) {}
            if self.handle.fence() == self.fence {
                self.note("fences", &self.fence.to_string())?;
            }
        }
        Ok(outcome)
    }
}

/// An order with what stands behind it, for a short time.
fn signed(command: v1::Command) -> v1::Command {
    let run = office::run(&format!("order-{}", command.idempotency_key), &command);
    let set = PolicySet { expires: Timestamp::now() + SIGNED_FOR, ..office::one_shot(&run) };
    let plan = ExactPlan { run: Some(run.digest()), ..office::plan(&command) };
    let behind = office::authority(&set, "quell-policy", &[&office::OFFICE.mira], &[&run.canonical()]);
    v1::Command { authority: Some(behind), ..office::planned(command, &plan) }
}

fn ended_line(number: u64, outcome: &v1::Outcome, fence: u64) -> String {
    format!("{number} {} {fence}", outcome.kind().as_str_name())
}

fn numbers(notes: &Path, file: &str) -> anyhow::Result<Vec<u64>> {
    let text = fs::read_to_string(notes.join(file)).unwrap_or_default();
    text.lines().map(|line| Ok(line.split(' ').next().unwrap_or_default().parse()?)).collect()
}

fn first_new(notes: &Path) -> anyhow::Result<u64> {
    Ok(numbers(notes, "begun")?.last().map_or(1, |last| last + 1))
}

async fn write(directory: &Path, notes: &Path, orders: u64) -> anyhow::Result<()> {
    let mut agent = Agent::start(directory, notes).await?;
    let first = first_new(notes)?;
    for number in first..first.saturating_add(orders) {
        let outcome = agent.next(number).await?;
        ensure!(outcome.kind() == OutcomeKind::Succeeded, "order {number}: {}", outcome.summary);
    }
    agent.handle.stop().await;
    Ok(())
}

/// Goes on until the journal refuses, and sees that it then refuses everything.
async fn refused(agent: &mut Agent) -> anyhow::Result<()> {
    let first = first_new(&agent.notes)?;
    let mut number = first;
    let reason = loop {
        let outcome = agent.next(number).await?;
        number += 1;
        match outcome.kind() {
            OutcomeKind::Succeeded => ensure!(number < first + MANY, "nothing was refused in {MANY} orders"),
            OutcomeKind::Refused => break outcome.summary,
            other => bail!("order {number} ended as {}: {}", other.as_str_name(), outcome.summary),
        }
    };
    ensure!(reason.contains("journal"), "refused for another reason: {reason}");
    let before = numbers(&agent.notes, "effects")?.len();
    for next in number..number + 20 {
        let outcome = agent.next(next).await?;
        ensure!(outcome.kind() == OutcomeKind::Refused, "order {next} was not refused after the journal had failed");
    }
    ensure!(numbers(&agent.notes, "effects")?.len() == before, "something was done although the journal had failed");
    println!("after {} orders all were refused: {reason}", number - first - 1);
    Ok(())
}

async fn full(directory: &Path, notes: &Path, ballast: &Path) -> anyhow::Result<()> {
    let mut agent = Agent::start(directory, notes).await?;
    refused(&mut agent).await?;
    fs::remove_file(ballast)?;
    let number = first_new(notes)?;
    let outcome = agent.next(number).await?;
    ensure!(outcome.kind() == OutcomeKind::Succeeded, "there is room again, and still: {}", outcome.summary);
    agent.handle.stop().await;
    Ok(())
}

async fn check(directory: &Path, notes: &Path) -> anyhow::Result<()> {
    let ended: BTreeMap<u64, (String, u64)> = fs::read_to_string(notes.join("ended"))?
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().context("a note is torn");
            Ok((word()?.parse()?, (word()?.to_owned(), word()?.parse()?)))
        })
        .collect::<anyhow::Result<_>>()?;
    let fences = ended.values().map(|(_, fence)| *fence).chain(numbers(notes, "fences")?);
    let highest = fences.max().unwrap_or(0);
    let effects = numbers(notes, "effects")?;
    let done: BTreeSet<u64> = effects.iter().copied().collect();

    let mut agent = Agent::start(directory, notes).await?;
    ensure!(agent.handle.fence() >= highest, "the fence is {}, and {highest} was seen", agent.handle.fence());
    for number in done.iter().rev().take(REPEATED) {
        let outcome = agent.run(*number).await?;
        let times = numbers(notes, "effects")?.iter().filter(|effect| *effect == number).count();
        ensure!(times == 1, "order {number} was done {times} times: its intent was lost");
        match ended.get(number) {
            Some((kind, _)) => ensure!(
                *kind == outcome.kind().as_str_name(),
                "order {number} had ended as {kind}, and now as {}: {}",
                outcome.kind().as_str_name(),
                outcome.summary
            ),
            // It was cut off: nobody can tell whether the program finished, unless its outcome was not told yet.
            None => {
                let may_be = [OutcomeKind::Unknown, OutcomeKind::Succeeded].contains(&outcome.kind());
                ensure!(may_be, "order {number} was cut off and is {}", outcome.summary);
                agent.note("ended", &ended_line(*number, &outcome, highest))?;
            }
        }
    }
    agent.handle.stop().await;
    let damaged = if directory.join("journal.damaged").exists() { ", damaged lines kept aside" } else { "" };
    println!("whole: {} orders done, each once; the fence is {}{damaged}", done.len(), agent.handle.fence());
    Ok(())
}

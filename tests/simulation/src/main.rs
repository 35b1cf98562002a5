//! Runs simulations: many seeds, or one again.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use quell_simulation::{Broken, Plan, Report, Side, run, sweep};

/// Simulates an installation in which things go wrong, and says what must never happen and did.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds are run.
    #[arg(long, default_value_t = 200, conflicts_with_all = ["seed", "sweep"])]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Runs this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Kills the controller, then an agent, at every point of one scenario.
    #[arg(long, conflicts_with = "seed")]
    sweep: bool,
    /// Kills at this point of the scenario only: `controller:17`, `agent:4`.
    #[arg(long, value_parser = point, conflicts_with_all = ["seed", "sweep"])]
    kill: Option<(Side, u64)>,
    /// Leaves a rule out on purpose, which the seeds then have to find.
    #[arg(long, value_parser = rule)]
    broken: Option<Broken>,
    /// Tells the story.
    #[arg(long)]
    trace: bool,
    /// How many run at a time.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

fn point(text: &str) -> Result<(Side, u64), String> {
    let wrong = || format!("{text:?} is no point: write controller:NUMBER or agent:NUMBER");
    let (side, number) = text.split_once(':').ok_or_else(wrong)?;
    let side = match side {
        "controller" => Side::Controller,
        "agent" => Side::Agent,
        _ => return Err(wrong()),
    };
    Ok((side, number.parse().map_err(|_| wrong())?))
}

fn rule(text: &str) -> Result<Broken, String> {
    let names = || Broken::ALL.map(|rule| format!("{rule:?}")).join(", ");
    let rule = Broken::ALL.into_iter().find(|rule| format!("{rule:?}") == text);
    rule.ok_or_else(|| format!("{text:?} is no rule that can be left out: there are {}", names()))
}

/// A run, and the command that repeats it.
struct Job {
    plan: Plan,
    again: String,
}

fn jobs(arguments: &Arguments) -> Vec<Job> {
    let of_seed = |seed: u64| Job {
        plan: Plan {
            traced: arguments.trace,
            replays: seed.is_multiple_of(2),
            broken: arguments.broken,
            ..Plan::of(seed)
        },
        again: format!("--seed {seed}"),
    };
    let of_kill = |(side, point): (Side, u64)| Job {
        plan: Plan { traced: arguments.trace, ..sweep::scenario(Some((side, point))) },
        again: format!("--kill {}:{point}", if side == Side::Controller { "controller" } else { "agent" }),
    };
    if let Some(seed) = arguments.seed {
        return vec![of_seed(seed)];
    }
    if let Some(kill) = arguments.kill {
        return vec![of_kill(kill)];
    }
    if arguments.sweep {
        let [controller, agent] = sweep::points();
        let of_side = |side, points| (1..=points).map(move |point| (side, point));
        return of_side(Side::Controller, controller).chain(of_side(Side::Agent, agent)).map(of_kill).collect();
    }
    (arguments.from..arguments.from + arguments.seeds).map(of_seed).collect()
}

#[expect(clippy::print_stdout, reason = "this program's answer")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (jobs, began) = (jobs(&arguments), Instant::now());
    let (next, failed) = (AtomicU64::new(0), Mutex::new(0_u64));
    let (effects, records) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                while let Some(job) =
                    jobs.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX))
                {
                    let report = run(job.plan);
                    effects.fetch_add(report.effects as u64, Ordering::Relaxed);
                    records.fetch_add(report.records, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed += u64::from(!report.violations.is_empty());
                    tell(job, &report);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} runs in {:.1} s: {} effects, {} records, {failed} failed",
        jobs.len(),
        began.elapsed().as_secs_f64(),
        effects.into_inner(),
        records.into_inner()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "this program's answer")]
fn tell(job: &Job, report: &Report) {
    report.story.iter().for_each(|line| println!("{line}"));
    if report.violations.is_empty() {
        return;
    }
    println!("FAILED: {}", job.again);
    report.violations.iter().for_each(|violation| println!("  {violation}"));
    println!("  again: cargo run -p quell-simulation -- {} --trace", job.again);
}

//! The quick start: a controller, three agents and a shop on loopback, whose faults heal while one looks on.
//!
//! `deploy/quickstart.sh` builds and runs it. It ends with status 0 only when every fault was detected, remedied and
//! verified; else it names the one that was not.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use quell_tests::{
    fleet::{Fleet, process::Programs},
    shop::floor::Floor,
    story::{Interrupt, SCENARIOS, Story},
};

/// What can be said on the command line.
#[derive(Debug, Parser)]
#[command(name = "quell-quickstart", about = "Shows Quell at work on this machine")]
struct Cli {
    /// Stop when every fault is healed, or when one is not.
    #[arg(long)]
    once: bool,
    /// Only these faults, by name: S3.
    #[arg(long)]
    only: Vec<String>,
    /// The policies to apply.
    #[arg(long, default_value = "deploy/policies")]
    policies: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match show(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("quickstart: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the quick start tells its story on standard output")]
fn tell(line: &str) {
    println!("{line}");
    // A closed standard output is no reason to leave processes behind.
    let _ = std::io::stdout().flush();
}

fn show(cli: &Cli) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let programs = Programs::beside_this_one()?;
    let scratch = tempfile::Builder::new().prefix("quell-quickstart-").tempdir()?;
    tell(&format!("Everything is below {} and goes when this ends.", scratch.path().display()));

    let floor = Floor::open(&scratch.path().join("shop"), &programs.shop)?;
    tell("The shop is open: an order processor, two DNS servers, an application with its log.");
    let mut fleet = Fleet::start(&scratch.path().join("quell"))?;
    tell("The controller serves; its certificates and its operator's profile were made just now.");
    for host in floor.hosts() {
        fleet.enrol(&host)?;
        tell(&format!("{} has joined and is online.", host.name));
    }
    apply(&fleet, &floor, &cli.policies)?;
    heal(&fleet, &floor, &cli.only, &interrupt)?;
    look_further(&fleet);
    if !cli.once {
        tell("It keeps running; Ctrl-C ends it.");
        interrupt.wait();
    }
    Ok(())
}

fn apply(fleet: &Fleet, floor: &Floor, policies: &Path) -> anyhow::Result<()> {
    let settings = floor.settings();
    let pairs: Vec<(String, String)> =
        settings.iter().map(|setting| (setting.name.to_owned(), setting.value.clone())).collect();
    fleet.apply(policies, &pairs).with_context(|| format!("cannot apply {}", policies.display()))?;
    tell(&format!("The policies of {} are in force. Shortened here, to spare you the wait:", policies.display()));
    for setting in &settings {
        if let Some(usual) = setting.shortened_from {
            tell(&format!("    {} = {} (the shop's own: {usual})", setting.name, setting.value));
        }
    }
    Ok(())
}

fn heal(fleet: &Fleet, floor: &Floor, only: &[String], interrupt: &Interrupt) -> anyhow::Result<()> {
    let mut story = Story::begin(fleet, tell)?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let unknown = only.iter().find(|only| !SCENARIOS.iter().any(|scenario| scenario.name == only.as_str()));
    ensure!(unknown.is_none(), "there is no fault {}; there are S1, S2, S3 and S4", unknown.map_or("", String::as_str));
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
        tell(&format!("\n{}  {}", scenario.name, scenario.fault));
        let took = story
            .play(scenario, floor, interrupt)
            .with_context(|| format!("{} ({}) did not heal", scenario.name, scenario.problem))?;
        tell(&format!("{}  healed in {:.1} s.", scenario.name, took.as_secs_f64()));
        story.rest(Duration::from_millis(200));
    }
    tell("\nEvery fault healed.");
    Ok(())
}

fn look_further(fleet: &Fleet) {
    let quell = format!("{} --profile {}", fleet.cli().display(), fleet.profile().display());
    tell("\nTo look further:");
    for command in [
        "",
        "get incidents --all",
        "describe incident inc-1",
        "why order-backlog planthost1",
        "get plans --all",
        "events",
        "get hosts -o wide",
    ] {
        tell(&format!("    {quell} {command}"));
    }
}

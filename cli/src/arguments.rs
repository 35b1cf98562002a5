//! The command line as it was typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{commands, exit, logging, output::Format};

/// Shows and steers what Quell does. Without a command: what needs you.
#[derive(Debug, Clone, Parser)]
#[command(name = "quell", version, about, max_term_width = 100, after_help = exit::help(), propagate_version = true)]
pub struct Arguments {
    /// The operator profile; without it ~/.config/quell/profile.toml.
    #[arg(long, global = true, env = "QUELL_PROFILE", value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// How the answer looks.
    #[arg(short, long, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub output: Format,
    /// How log lines look on standard error; RUST_LOG says which are written.
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORM")]
    pub log_format: logging::Form,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// List what there is.
    Get(commands::get::Arguments),
    /// Show one thing with all that belongs to it.
    Describe(commands::describe::Arguments),
    /// Say what a field of a manifest, a probe or a condition means.
    Explain(commands::explain::Arguments),
    /// Print a commented manifest to start from.
    New(commands::new::Arguments),
    /// Check manifests without asking the controller.
    Check(commands::check::Arguments),
    /// Show what applying manifests would change.
    Diff(commands::diff::Arguments),
    /// Apply manifests: all of them or none.
    Apply(commands::apply::Arguments),
    /// Sign manifests here, to be applied from elsewhere.
    Sign(commands::sign::Arguments),
    /// Show and change whom hosts believe.
    #[command(subcommand)]
    Trust(commands::trust::Command),
    /// Sign what another person saved for more people to sign: a change of trust, labels, a run.
    Countersign(commands::countersign::Countersign),
    /// Send what enough people have signed.
    Send(commands::countersign::Send),
    /// Run an action by hand.
    Run(commands::run::Arguments),
    /// Approve exactly the plan that you have seen.
    Approve(commands::decide::Approve),
    /// Deny a plan.
    Deny(commands::decide::Deny),
    /// Call a plan off: nothing more of it is begun, what is in flight is stopped, `finally` runs.
    Cancel(commands::cancel::Arguments),
    /// Acknowledge an incident: it is yours, and escalation stops.
    Ack(commands::note::Acknowledge),
    /// Add a note to an incident.
    Note(commands::note::Note),
    /// Let a policy go further, after showing what it would have done.
    Promote(commands::promote::Arguments),
    /// Say why a policy did, or did not, act.
    Why(commands::why::Arguments),
    /// Hold a host, a policy or an incident: nothing is done to it for a while.
    Hold(commands::hold::Hold),
    /// Freeze hosts: no policy and no person acts on them for a while.
    Freeze(commands::hold::Freeze),
    /// End holds and freezes.
    Thaw(commands::hold::Thaw),
    /// Show the records of the log.
    Events(commands::events::Arguments),
    /// Prove that the log is whole, and export it.
    #[command(subcommand)]
    Audit(commands::audit::Command),
    /// Make join tokens.
    #[command(subcommand)]
    Token(commands::token::Command),
    /// Revoke, relabel or retire a host.
    #[command(subcommand)]
    Host(commands::host::Command),
    /// Admit and remove operators.
    #[command(subcommand)]
    Operator(commands::operator::Command),
    /// Look after the breakers of policies.
    #[command(subcommand)]
    Breaker(commands::breaker::Command),
    /// Print completions for a shell.
    Completions(commands::generate::Completions),
    /// Write man pages into a directory.
    Man(commands::generate::Man),
}

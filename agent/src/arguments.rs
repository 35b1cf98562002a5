//! What can be typed: the one definition of commands and options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use quell_agent::log;

/// Watches this host and carries out remediations that its administrator allows.
#[derive(Debug, Parser)]
#[command(name = "quell-agent", version, about, propagate_version = true)]
pub(crate) struct Arguments {
    /// What log lines look like.
    #[arg(long, global = true, value_enum, default_value_t, env = "QUELL_LOG_FORMAT")]
    pub(crate) log_format: log::Format,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this machine a host of the installation that the join string names.
    Join(Join),
    /// Run the agent until it is told to stop.
    Run(Place),
    /// Look whether the agent could run: its configuration, its certificate, the way to the controller; and say what
    /// would be allowed.
    Check(Place),
    /// Let no action run on this host for a while, whatever the controller says.
    Hold(Hold),
    /// Show or change the labels that this host believes to be its own.
    #[command(subcommand)]
    Label(Label),
}

/// What to do with the labels.
#[derive(Debug, Subcommand)]
pub(crate) enum Label {
    /// Show the labels.
    Show(Place),
    /// Change the labels, as this host's administrator. The agent must not run meanwhile.
    Set(LabelSet),
}

/// Options of `label set`.
#[derive(Debug, Args)]
pub(crate) struct LabelSet {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The labels that the host shall have from now on, all of them.
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub(crate) labels: Vec<String>,
}

/// Where the agent keeps what must outlive it.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The agent's data directory.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/quell-agent", env = "QUELL_AGENT_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Options of `join`.
#[derive(Debug, Args)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The host's name: lower-case letters, digits and '-', in labels joined by '.'. Default: this machine's.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The join string, from `quell token create`.
    pub(crate) token: String,
}

/// Options of `hold`.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) place: Place,
    /// For how long: 30m, 2h, 1d.
    #[arg(long = "for", value_name = "SPAN", required_unless_present = "lift", conflicts_with = "lift")]
    pub(crate) span: Option<String>,
    /// Why; people see it.
    #[arg(long, required_unless_present = "lift", conflicts_with = "lift")]
    pub(crate) reason: Option<String>,
    /// End the hold.
    #[arg(long)]
    pub(crate) lift: bool,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;

    /// The names of all options, and of the variables of the environment that stand for one.
    fn options(command: &clap::Command, found: &mut BTreeSet<String>) {
        for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
            found.extend(argument.get_long().map(str::to_owned));
            found.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
        }
        command.get_subcommands().for_each(|command| options(command, found));
    }

    /// There is no switch that turns verification off. Each of these says where something lies, how the log looks, whom to
    /// join or until when nothing runs; a new one stands here once somebody has seen that it lets nothing through.
    #[test]
    fn no_option_turns_verification_off() {
        let mut found = BTreeSet::new();
        options(&Arguments::command(), &mut found);
        let known =
            ["QUELL_AGENT_DATA_DIR", "QUELL_LOG_FORMAT", "data-dir", "for", "lift", "log-format", "name", "reason"];
        assert_eq!(found, known.map(str::to_owned).into());
    }
}

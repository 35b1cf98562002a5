//! The provider `command`: a fail-over by the tool that the operator has for it.
//!
//! The tool knows who is active. The old server is shut down first; only when that fails, and its process is confirmed
//! dead, is the other one forced.

use std::time::Duration;

use quell_model::{
    action::{DnsProcess, DnsTool},
    name,
};

use super::{Active, Pair, Provider};
use crate::{
    actions::{Change, Failure, Host, Refusal, Work, permission},
    config::Config,
    managers::{Promise, State},
    process::{
        Process,
        run::{self, Output, Program},
    },
};

/// How long one question to the tool may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// A fail-over by a tool.
pub(super) struct Tool {
    pub(super) pair: Pair,
    pub(super) tool: DnsTool,
}

/// Says why a process is not known to be dead.
async fn confirm_dead(process: &DnsProcess, work: &Work<'_>) -> Result<(), String> {
    match process {
        DnsProcess::Service(service) => {
            let manager = work.host.managers.find(service).map_err(|error| error.to_string())?;
            let status = manager.state().await.map_err(|error| error.to_string())?;
            let down = matches!(status.state, State::Failed | State::Stopped | State::Disabled | State::Masked);
            if down && status.process.is_none() { Ok(()) } else { Err(format!("{service} is {}", status.state)) }
        }
        DnsProcess::PidFile(file) => {
            let file = file.clone();
            crate::actions::blocking(move || gone(&file)).await?
        }
        DnsProcess::Run(argv) => {
            let output = run_tool(argv, work, QUERY_LIMIT).await?;
            if output.end.is_success() {
                Ok(())
            } else {
                Err(format!("{} {}", crate::actions::shown_argv(argv), output.end))
            }
        }
    }
}

fn gone(file: &std::path::Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let pid: u32 = text.trim().parse().map_err(|_| format!("{} names no process", file.display()))?;
    match Process::of(pid) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("process {pid}: {error}")),
        Ok(_) => Err(format!("process {pid} runs")),
    }
}

async fn run_tool(argv: &[String], work: &Work<'_>, limit: Duration) -> Result<Output, String> {
    let program = Program { argv: argv.to_vec(), output_limit: 4096, ..Program::default() };
    // A switch that has begun is not broken off half way by a person's cancel: both servers would be down.
    let never = tokio_util::sync::CancellationToken::new();
    let limit = limit.min(work.left());
    run::run(&program, limit, &never).await.map_err(|error| format!("{} cannot be run: {error}", argv[0]))
}

impl Tool {
    fn argv(&self, arguments: &[&str]) -> Vec<String> {
        self.tool.tool.iter().cloned().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }

    /// The server that is active, by the tool; absent when it names none.
    async fn ask(&self, host: &Host) -> Result<Option<String>, String> {
        let argv = self.argv(&["-q", "active_server"]);
        let work = Work {
            host,
            deadline: tokio::time::Instant::now() + QUERY_LIMIT,
            cancel: tokio_util::sync::CancellationToken::new(),
            resumed: false,
        };
        let output = run_tool(&argv, &work, QUERY_LIMIT).await?;
        if !output.end.is_success() {
            return Err(format!("{} {}: {}", crate::actions::shown_argv(&argv), output.end, output.complaint()));
        }
        let answer = output.stdout.trim();
        if answer.is_empty() || answer == "none" {
            return Ok(None);
        }
        let server =
            name::server(answer).map_err(|_| format!("{} answered {answer:?}", crate::actions::shown_argv(&argv)))?;
        Ok(Some(server))
    }

    async fn tell(&self, work: &Work<'_>, arguments: &[&str]) -> Result<(), String> {
        let argv = self.argv(arguments);
        let output = run_tool(&argv, work, work.left()).await?;
        if output.end.is_success() {
            return Ok(());
        }
        Err(format!("{} {}: {}", crate::actions::shown_argv(&argv), output.end, output.complaint()))
    }

    async fn shut_down_and_take_over(&self, work: &Work<'_>) -> Result<bool, String> {
        let Err(refused) = self.tell(work, &["-a", "shutdown", "-s", &self.pair.from]).await else {
            self.tell(work, &["-a", "failover", "-s", &self.pair.to]).await?;
            return Ok(false);
        };
        let Some(process) = &self.tool.process else {
            return Err(format!(
                "{refused}; the fail-over is not forced, for nothing in the order says how the process of {} is known to be dead",
                self.pair.from
            ));
        };
        confirm_dead(process, work).await.map_err(|reason| {
            format!(
                "{refused}; the fail-over is not forced, for the process of {} is not known to be dead: {reason}",
                self.pair.from
            )
        })?;
        self.tell(work, &["-a", "failover", "-s", &self.pair.to, "-f"]).await?;
        Ok(true)
    }
}

impl Provider for Tool {
    fn resource(&self) -> String {
        format!("dns:{}", self.tool.tool[0])
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        permission::program(config, &self.tool.tool)?;
        match &self.tool.process {
            None | Some(DnsProcess::PidFile(_)) => Ok(()),
            Some(DnsProcess::Service(service)) => permission::service(config, service),
            Some(DnsProcess::Run(argv)) => permission::program(config, argv),
        }
    }

    fn detail(&self) -> String {
        format!("from {}", self.pair.from)
    }

    fn active<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Active, String>> {
        Box::pin(async move {
            Ok(match self.ask(host).await? {
                None => Active::Nobody,
                Some(server) if server == self.pair.from => Active::From,
                Some(server) if server == self.pair.to => Active::To,
                Some(server) => Active::Other(format!("{server} is active")),
            })
        })
    }

    fn switch<'a>(&'a self, work: &'a Work<'a>) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            // Asked again: since the check the intent was made durable, and somebody else may have been at it.
            let active = self.active(work.host).await.map_err(Failure::new)?;
            self.pair.still_holds(&active, work.resumed).map_err(Failure::new)?;
            let forced = self.shut_down_and_take_over(work).await.map_err(Failure::new)?;
            let how = if forced { " by force, its process being dead" } else { "" };
            let Pair { from, to } = &self.pair;
            let mut change = Change::new(format!("{from} was switched off{how} and {to} is active"));
            change.values.insert("forced".to_owned(), forced.into());
            Ok(change)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;

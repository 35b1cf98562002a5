//! The runbook's `dnsTool`: says which DNS server is active, shuts one down, fails over to the other.
//!
//! ```text
//! dnsTool -q active_server            prints dns1 or dns2
//! dnsTool -a shutdown -s dns1         stops the server's process; fails while dns1.stuck is there
//! dnsTool -a failover -s dns2 [-f]    makes dns2 the active one; without -f only when the other is down
//! ```

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::files;

/// The two servers that there are.
const SERVERS: [&str; 2] = ["dns1", "dns2"];
/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// The tool's options, with the runbook's letters.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Directory of the servers' process numbers and of the active one's name.
    #[arg(long)]
    pub dir: PathBuf,
    /// What to ask: `active_server`.
    #[arg(short = 'q')]
    pub query: Option<String>,
    /// What to do: shutdown or failover.
    #[arg(short = 'a')]
    pub action: Option<String>,
    /// The server.
    #[arg(short = 's')]
    pub server: Option<String>,
    /// Fail over although the other server still runs.
    #[arg(short = 'f')]
    pub force: bool,
}

/// Does what was asked and answers what to print.
///
/// # Errors
/// Words that the tool does not know; a server that does not stop or still runs.
pub fn run(options: &Options) -> io::Result<String> {
    match (options.query.as_deref(), options.action.as_deref()) {
        (Some("active_server"), None) => {
            files::read(&options.dir.join("active")).ok_or_else(|| refuse("no server is active"))
        }
        (None, Some("shutdown")) => shutdown(&options.dir, server(options)?),
        (None, Some("failover")) => {
            let to = server(options)?;
            let said = failover(&options.dir, to, options.force)?;
            // What the tests count: how often the shop's traffic was really moved.
            files::log(&options.dir.join("failovers.log"), to)?;
            Ok(said)
        }
        _ => Err(refuse("usage: dnsTool -q active_server | -a shutdown|failover -s dns1|dns2 [-f]")),
    }
}

fn refuse(message: &str) -> io::Error {
    io::Error::other(message.to_owned())
}

fn server(options: &Options) -> io::Result<&str> {
    let name = options.server.as_deref().unwrap_or_default();
    SERVERS
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| refuse(&format!("there is no server {name:?}; there are dns1 and dns2")))
}

fn pid(dir: &Path, server: &str) -> Option<u64> {
    let pid = files::number(&dir.join(format!("{server}.pid")));
    (pid != 0 && files::is_running(pid)).then_some(pid)
}

fn shutdown(dir: &Path, server: &str) -> io::Result<String> {
    if dir.join(format!("{server}.stuck")).exists() {
        return Err(refuse(&format!("{server} does not shut down")));
    }
    let Some(running) = pid(dir, server) else { return Ok(format!("{server} is down already")) };
    let process = Pid::from_raw(i32::try_from(running).map_err(io::Error::other)?);
    kill(process, Signal::SIGTERM)?;
    let deadline = Instant::now() + STOP;
    while files::is_running(running) {
        if Instant::now() > deadline {
            return Err(refuse(&format!("{server} (process {running}) did not stop within {STOP:?}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(format!("{server} is down"))
}

fn failover(dir: &Path, to: &str, force: bool) -> io::Result<String> {
    let other = SERVERS.into_iter().find(|known| *known != to).unwrap_or_default();
    if pid(dir, other).is_some() && !force {
        return Err(refuse(&format!("{other} still runs; shut it down first, or use -f")));
    }
    files::replace(&dir.join("active"), to)?;
    Ok(format!("{to} is active"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(dir: &Path, words: &[&str]) -> Result<String, String> {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            options: Options,
        }
        let dir = dir.to_str().unwrap();
        let cli = <Cli as clap::Parser>::try_parse_from([&["dnsTool", "--dir", dir], words].concat()).unwrap();
        run(&cli.options).map_err(|error| error.to_string())
    }

    #[test]
    fn it_fails_over_only_when_the_other_is_down_and_refuses_names_that_are_not_servers() {
        let dir = tempfile::tempdir().unwrap();
        files::replace(&dir.path().join("active"), "dns1").unwrap();
        let mut server = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        files::replace(&dir.path().join("dns1.pid"), &server.id().to_string()).unwrap();

        assert!(tool(dir.path(), &["-a", "failover", "-s", "dns2"]).unwrap_err().contains("dns1 still runs"));
        assert!(tool(dir.path(), &["-a", "failover", "-s", "dns"]).unwrap_err().contains("no server \"dns\""));
        assert_eq!(tool(dir.path(), &["-q", "active_server"]).unwrap(), "dns1");

        assert_eq!(tool(dir.path(), &["-a", "shutdown", "-s", "dns1"]).unwrap(), "dns1 is down");
        server.wait().unwrap();
        assert_eq!(tool(dir.path(), &["-a", "failover", "-s", "dns2"]).unwrap(), "dns2 is active");
        assert_eq!(tool(dir.path(), &["-q", "active_server"]).unwrap(), "dns2");
    }
}

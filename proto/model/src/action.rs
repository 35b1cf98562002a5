//! The actions and their parameters: one grammar for the manifests that ask and the agents that carry out.
//!
//! A value of these types has been parsed: unit names, host names and paths are what they say, and no path leads up.

mod failover;
mod reclaim;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    manifest::{
        node::Node,
        object::{self, Object, Report},
        schema::{
            Field, Shape,
            shared::{default, optional, required},
        },
    },
    name, unit,
};
pub use failover::{DnsData, DnsFailover, DnsProcess, DnsProvider, DnsTool, DnsUpdate};
pub use reclaim::DiskReclaim;

/// Most of a program's output that an outcome carries, bytes.
pub const LONGEST_OUTPUT: usize = 8 << 10;

/// Longest program with its arguments, bytes.
const LONGEST_ARGV: usize = 64 << 10;

/// An action: its name, and what it can be told.
#[derive(Debug)]
pub struct Action {
    /// As manifests and `quell run` write it.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// Its parameters.
    pub fields: &'static [Field],
    /// Whether people approve the exact list of what it touches: it is carried out only by a plan that holds the digest
    /// of what the host said that it would touch.
    pub lists_objects: bool,
}

/// Whether an action needs an exact list of what it touches; see [`Action::lists_objects`].
pub fn lists_objects(action: &str) -> bool {
    ACTIONS.iter().any(|known| known.name == action && known.lists_objects)
}

/// Every action.
pub static ACTIONS: &[Action] = &[
    Action {
        name: "service.restart",
        about: "Restarts a service; it outlives the agent.",
        fields: SERVICE_RESTART,
        lists_objects: false,
    },
    Action {
        name: "log.rotate",
        about: "Moves a log aside, compresses it and removes what is beyond retention.",
        fields: LOG_ROTATE,
        lists_objects: false,
    },
    Action {
        name: "disk.reclaim",
        about: "Deletes the files of a directory that its preview listed, and no others.",
        fields: reclaim::FIELDS,
        lists_objects: true,
    },
    Action {
        name: "dns.failover",
        about: "Makes another DNS server the active one, if the old one still is.",
        fields: failover::FIELDS,
        lists_objects: false,
    },
    Action { name: "exec", about: "Runs a program; never a shell.", fields: EXEC, lists_objects: false },
];

const SERVICE_RESTART: &[Field] = &[
    required("service", Shape::Text, "The service of the host's agent.toml, or the systemd unit."),
    optional(
        "manager",
        Shape::Choice(&["systemd", "command"]),
        "Who looks after it; as agent.toml says when left out.",
    ),
];

const LOG_ROTATE: &[Field] = &[
    required("path", Shape::Path, "The log."),
    default(
        "method",
        Shape::Choice(&["rename", "copy"]),
        "rename",
        "Moved away, or copied and cut to nothing where its writer cannot reopen it.",
    ),
    default("compress", Shape::Choice(&["gzip", "zstd", "none"]), "gzip", "How what was rotated is kept."),
    optional("keep", Shape::Integer, "How many rotated files are kept, from 0 to 1000; all when left out."),
    optional("maxAge", Shape::Duration, "Rotated files that are older go, however few there are."),
    default("minSize", Shape::Size, "1B", "Smaller logs are left alone."),
    optional("after", Shape::Object(AFTER), "How the writer is told to reopen its log."),
];

const AFTER: &[Field] = &[
    optional("signal", Shape::Choice(&["HUP", "USR1", "USR2"]), "A signal, with `service`,"),
    optional("service", Shape::Text, "to the main process of this service;"),
    optional("argv", Shape::List(&Shape::Text), "or a program that is run."),
];

const EXEC: &[Field] = &[
    required("argv", Shape::List(&Shape::Text), "The program by its absolute path, and its arguments."),
    optional("user", Shape::Text, "As whom; as the agent when left out."),
    optional("directory", Shape::Path, "Where; `/` when left out."),
    optional("environment", Shape::Map(&Shape::Text), "Variables, each allowed by agent.toml."),
    default("outputLimit", Shape::Size, "8KiB", "How much of the end of its output is kept, at most 8KiB."),
];

/// What an action was told, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameters {
    /// `service.restart`.
    ServiceRestart(ServiceRestart),
    /// `log.rotate`.
    LogRotate(LogRotate),
    /// `disk.reclaim`.
    DiskReclaim(DiskReclaim),
    /// `dns.failover`.
    DnsFailover(DnsFailover),
    /// `exec`.
    Exec(Exec),
}

/// Parameters of `service.restart`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRestart {
    /// The service or unit.
    pub service: String,
    /// The manager that its author expects; absent: as agent.toml says.
    pub manager: Option<ManagerKind>,
}

/// Who runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagerKind {
    /// The host's systemd, over D-Bus.
    Systemd,
    /// The agent, by commands.
    Command,
}

/// Parameters of `log.rotate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRotate {
    /// The log: absolute, without `..`.
    pub path: PathBuf,
    /// How it is taken away.
    pub method: Method,
    /// How it is kept.
    pub compress: Compression,
    /// How many rotated files are kept; absent: none goes for their number.
    pub keep: Option<u32>,
    /// Rotated files that are older go.
    pub max_age: Option<Duration>,
    /// Smaller logs are left alone, bytes.
    pub min_size: u64,
    /// How the writer is told.
    pub after: Option<After>,
}

/// How a log is taken away from its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Renamed; the writer reopens.
    Rename,
    /// Copied, then cut to nothing.
    Copy,
}

/// How a rotated log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As `.gz`: DEFLATE, readable everywhere.
    Gzip,
    /// As `.zst`: smaller and faster.
    Zstd,
    /// As it is: needs no space, and frees none.
    None,
}

/// How the writer of a rotated log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// By a signal to a service.
    Signal {
        /// The signal.
        signal: Signal,
        /// The service.
        service: String,
    },
    /// By running a program.
    Run {
        /// Program and arguments; never empty.
        argv: Vec<String>,
    },
}

/// A signal that programs take as "open your log again".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `HUP`.
    Hup,
    /// `USR1`.
    Usr1,
    /// `USR2`.
    Usr2,
}

/// Parameters of `exec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// As whom; absent: as the agent.
    pub user: Option<String>,
    /// Where; absent: `/`.
    pub directory: Option<PathBuf>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// How much of the end of its output is kept, bytes.
    pub output_limit: usize,
}

impl Parameters {
    /// Parses what an action is told, every value filled in.
    ///
    /// # Errors
    /// There is no such action, or the parameters are not of its grammar; every fault, one after another.
    pub fn parse(action: &str, with: &Map<String, Value>) -> Result<Self, String> {
        let node = Node::from_json(&Value::Object(with.clone()));
        let report = Report::default();
        let parameters = read(action, &node, "with", &report);
        let faults: Vec<_> = report.into_faults().into_iter().map(|(_, message)| message).collect();
        parameters.filter(|_| faults.is_empty()).ok_or_else(|| format!("{action}: {}", faults.join("; ")))
    }

    /// What only one plan may hold at a time on a host: `unit:named`, `path:/var/log/app.log`, `dns`. Empty for
    /// programs, of which nobody knows what they touch.
    pub fn resources(&self) -> Vec<String> {
        match self {
            Self::ServiceRestart(restart) => vec![format!("unit:{}", restart.service)],
            Self::LogRotate(rotate) => vec![format!("path:{}", rotate.path.display())],
            Self::DiskReclaim(reclaim) => vec![format!("path:{}", reclaim.directory.display())],
            Self::DnsFailover(_) => vec!["dns".to_owned()],
            Self::Exec(_) => Vec::new(),
        }
    }
}

/// Reads parameters; faults go to the report.
pub(crate) fn read(action: &str, with: &Node, path: &str, report: &Report) -> Option<Parameters> {
    let Some(known) = ACTIONS.iter().find(|known| known.name == action) else {
        report.fault(with.place, object::unknown("action", action, ACTIONS.iter().map(|known| known.name)));
        return None;
    };
    let object = Object::new(with, known.fields, path, report)?;
    match known.name {
        "service.restart" => service_restart(&object).map(Parameters::ServiceRestart),
        "log.rotate" => log_rotate(&object).map(Parameters::LogRotate),
        "disk.reclaim" => reclaim::read(&object).map(Parameters::DiskReclaim),
        "dns.failover" => failover::read(&object).map(Parameters::DnsFailover),
        _ => exec(&object).map(Parameters::Exec),
    }
}

fn service_restart(object: &Object<'_>) -> Option<ServiceRestart> {
    let manager = object.parsed("manager", |text| match text {
        "systemd" => Ok(ManagerKind::Systemd),
        "command" => Ok(ManagerKind::Command),
        other => Err(format!("`manager` is systemd or command, not {other:?}")),
    });
    Some(ServiceRestart { service: object.parsed("service", name::unit)?, manager })
}

fn log_rotate(object: &Object<'_>) -> Option<LogRotate> {
    let after = object.object("after").and_then(|after| self::after(&after));
    let method = object.parsed("method", |text| match text {
        "rename" => Ok(Method::Rename),
        "copy" => Ok(Method::Copy),
        other => Err(format!("`method` is rename or copy, not {other:?}")),
    });
    let compress = object.parsed("compress", |text| match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        other => Err(format!("`compress` is gzip, zstd or none, not {other:?}")),
    });
    let (keep, max_age) = (object.parsed("keep", |text| whole(text, 0, 1000)), object.parsed("maxAge", unit::duration));
    let min_size = object.parsed("minSize", unit::size);
    Some(LogRotate {
        path: object.parsed("path", file)?,
        method: method?,
        compress: compress?,
        keep,
        max_age,
        min_size: min_size?,
        after,
    })
}

fn after(object: &Object<'_>) -> Option<After> {
    let signal = object.parsed("signal", |text| match text {
        "HUP" => Ok(Signal::Hup),
        "USR1" => Ok(Signal::Usr1),
        "USR2" => Ok(Signal::Usr2),
        other => Err(format!("`signal` is HUP, USR1 or USR2, not {other:?}")),
    });
    let service = object.parsed("service", name::unit);
    let argv = program(object, "argv");
    match (signal, service, argv) {
        (Some(signal), Some(service), None) => Some(After::Signal { signal, service }),
        (None, None, Some(argv)) => Some(After::Run { argv }),
        _ => {
            let message = "`after` is { signal: HUP, service: NAME } or { argv: [program, …] }";
            object.report.fault(object.place, message);
            None
        }
    }
}

fn exec(object: &Object<'_>) -> Option<Exec> {
    let environment = object.members("environment").iter().filter_map(|(key, node)| {
        if !is_variable(&key.text) {
            object.report.fault(key.place, format!("{:?} is not the name of an environment variable", key.text));
        }
        let value = object.parse_node("environment", node, &Shape::Text, &no_control)?;
        Some((key.text.clone(), value))
    });
    let environment = environment.collect();
    let (user, directory) = (object.parsed("user", name::user), object.parsed("directory", name::path));
    let output_limit = object.parsed("outputLimit", |text| match unit::size(text).map(usize::try_from) {
        Ok(Ok(size)) if size <= LONGEST_OUTPUT => Ok(size),
        Ok(_) => Err("`outputLimit` is at most 8KiB".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    Some(Exec { argv: program(object, "argv")?, user, directory, environment, output_limit: output_limit? })
}

/// A program by its absolute path, and its arguments: nothing is looked for along a path of searches, and what
/// agent.toml lists is a path.
fn program(object: &Object<'_>, field: &str) -> Option<Vec<String>> {
    let argv = argv(object, field)?;
    if let Err(error) = file(&argv[0]) {
        object.report.fault(object.place_of(field), format!("`{field}` names a program by its absolute path: {error}"));
    }
    if argv.iter().map(String::len).sum::<usize>() > LONGEST_ARGV {
        object.report.fault(object.place_of(field), format!("`{field}` is longer than {} KiB", LONGEST_ARGV >> 10));
    }
    Some(argv)
}

/// A path that can be that of a file.
fn file(text: &str) -> Result<PathBuf, name::Invalid> {
    let rule = "it begins with /, has no '..', '.' or empty part, and names a file";
    name::path(text).ok().filter(|path| path.file_name().is_some()).ok_or_else(|| name::Invalid {
        kind: "path of a file",
        text: text.to_owned(),
        rule,
    })
}

/// Program and arguments; absent when it was left out or is empty.
pub(crate) fn argv(object: &Object<'_>, field: &str) -> Option<Vec<String>> {
    let argv = object.list(field, no_control);
    let empty = argv.first().is_none_or(String::is_empty);
    if object.has(field) && empty && object.report.is_clean() {
        object.report.fault(object.place_of(field), format!("`{field}` is empty: name a program"));
    }
    (!empty).then_some(argv)
}

/// An argument: no byte 0, which would end it early.
fn no_control(text: &str) -> Result<String, String> {
    if text.contains('\0') { Err(format!("{text:?} holds a zero byte")) } else { Ok(text.to_owned()) }
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn one_of<'a>(text: &'a str, words: &[&str]) -> Result<&'a str, String> {
    if words.contains(&text) { Ok(text) } else { Err(format!("{text:?} is not one of {}", words.join(", "))) }
}

/// A whole number within bounds.
pub(crate) fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("{text} is not a whole number from {least} to {most}"))
}

#[cfg(test)]
mod tests;

//! `controller.toml`: what `serve` is told, read strictly.
//!
//! The file lies in the data directory. An unknown field, a value of the wrong type or a file that was cut off is one
//! error with its place; nothing is guessed. What may be left out has the default that its field's documentation says.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use quell_model::network::Network;
use serde::{Deserialize, Serialize};

/// Name of the file in the data directory.
pub const FILE: &str = "controller.toml";

/// What `controller.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address for agents and operators: gRPC over mutual TLS.
    pub listen: SocketAddr,
    /// Address for `/metrics`, `/healthz` and `/readyz`, plain HTTP; absent: none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// `host:port` under which agents reach this controller, put into join strings; default: `listen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// What agents are told.
    #[serde(default)]
    pub agents: Agents,
    /// How contacts are told.
    #[serde(default)]
    pub notify: Notify,
    /// How much history is kept.
    #[serde(default)]
    pub retention: Retention,
}

/// What agents are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Interval of the host samples, 1 s to 1 h; default 15 s.
    #[serde(with = "span")]
    pub host_every: Duration,
    /// Bytes that an agent may have unacknowledged before it drops samples, 64 KiB to 64 MiB; default 1 MiB.
    pub credit_bytes: u64,
    /// An agent that said nothing for this long has lost its session, 15 s to 10 min; default 35 s. It speaks at least
    /// every 10 s.
    #[serde(with = "span")]
    pub silence: Duration,
}

impl Default for Agents {
    fn default() -> Self {
        Self { host_every: Duration::from_secs(15), credit_bytes: 1 << 20, silence: Duration::from_secs(35) }
    }
}

/// How contacts are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Addresses that webhooks may reach although they are loopback, link-local or of a metadata service:
    /// `127.0.0.0/8`; default: none.
    pub allow_addresses: Vec<Network>,
    /// PEM file of certificate authorities that webhooks believe besides the public ones; default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// How long one delivery may take, 1 s to 1 min; default 10 s.
    #[serde(with = "span")]
    pub timeout: Duration,
}

impl Default for Notify {
    fn default() -> Self {
        Self { allow_addresses: Vec::new(), ca_file: None, timeout: Duration::from_secs(10) }
    }
}

/// How much history is kept; whichever limit is reached first removes whole oldest segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Age in days, at least 1; default 400.
    pub days: u32,
    /// Size of the log in bytes, at least 128 MiB; default 8 GiB.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 400, bytes: 8 << 30 }
    }
}

/// Durations as `15s`, `2m`, `1h`: a number without a unit is refused.
mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = span.as_millis();
        let (number, unit) = if millis.is_multiple_of(1_000) { (millis / 1_000, "s") } else { (millis, "ms") };
        serializer.collect_str(&format_args!("{number}{unit}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is not a duration: write a whole number and ms, s, m or h (15s)"
            ))
        })
    }

    fn parse(text: &str) -> Option<Duration> {
        let digits = text.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let millis = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Duration::from_millis)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file: most likely no controller was made here.
    #[error("there is no controller in {directory}: {FILE} is missing; make one with `quell-controller init --data-dir {directory}`", directory = .0.display())]
    Missing(PathBuf),
    /// The file is gone from a directory that holds a controller.
    #[error("{FILE} is missing from {directory}, where a controller's log is; put it back from a backup, or write it with a line like listen = \"0.0.0.0:7443\"", directory = .0.display())]
    Gone(PathBuf),
    /// The file cannot be read or written.
    #[error("cannot {verb} {path}: {source}", path = .path.display())]
    File {
        /// `read` or `write`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what it must, or says something else.
    #[error("{path}:{line}:{column}: {message}; correct the file and start again", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A value is outside its bounds.
    #[error("{path}: {message}; correct the file and start again", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong with which value.
        message: String,
    },
}

impl Config {
    /// A configuration with nothing but addresses.
    pub fn new(listen: SocketAddr, http: Option<SocketAddr>) -> Self {
        Self {
            listen,
            http,
            addresses: Vec::new(),
            agents: Agents::default(),
            notify: Notify::default(),
            retention: Retention::default(),
        }
    }

    /// Reads the configuration of a data directory.
    ///
    /// # Errors
    /// The file is missing, unreadable, damaged, or holds a field or value that is not known.
    pub fn load(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if data_dir.join("log").exists() => Error::Gone(data_dir.to_owned()),
            io::ErrorKind::NotFound => Error::Missing(data_dir.to_owned()),
            io::ErrorKind::InvalidData => Error::Value { path: path.clone(), message: "it is not text".to_owned() },
            _ => Error::File { verb: "read", path: path.clone(), source },
        })?;
        Self::parse(&text, &path)
    }

    /// Reads a configuration from text; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            Error::Content { path: path.to_owned(), line, column, message: error.message().replace('\n', ", ") }
        })?;
        match config.out_of_bounds() {
            Some(message) => Err(Error::Value { path: path.to_owned(), message }),
            None => Ok(config),
        }
    }

    /// The first value that is outside its bounds, in words.
    fn out_of_bounds(&self) -> Option<String> {
        let spans = [
            ("agents.host_every", self.agents.host_every, 1, 3_600),
            ("agents.silence", self.agents.silence, 15, 600),
            ("notify.timeout", self.notify.timeout, 1, 60),
        ];
        let numbers = [
            ("agents.credit_bytes", self.agents.credit_bytes, 64 << 10, 64 << 20),
            ("retention.days", self.retention.days.into(), 1, 36_500),
            ("retention.bytes", self.retention.bytes, 128 << 20, 1 << 50),
        ];
        let span = spans.iter().find_map(|(name, value, least, most)| {
            let bounds = Duration::from_secs(*least)..=Duration::from_secs(*most);
            (!bounds.contains(value)).then(|| format!("{name} is {value:?}; it must be between {least} s and {most} s"))
        });
        let number = || {
            numbers.iter().find_map(|(name, value, least, most)| {
                (!(least..=most).contains(&value))
                    .then(|| format!("{name} is {value}; it must be between {least} and {most}"))
            })
        };
        let address = || {
            self.addresses.iter().find(|address| !is_host_and_port(address)).map(|address| {
                format!("{address:?} in addresses is not host:port; agents need both to reach this controller")
            })
        };
        span.or_else(number).or_else(address)
    }

    /// Writes the configuration into a data directory, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, data_dir: &Path) -> Result<(), Error> {
        let path = data_dir.join(FILE);
        let failed = |source| Error::File { verb: "write", path: path.clone(), source };
        let mut file = tempfile::NamedTempFile::new_in(data_dir).map_err(failed)?;
        file.write_all(self.text().as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        fs::File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed)
    }

    /// The file as an administrator finds it: with comments.
    fn text(&self) -> String {
        let mut text = String::from("# Quell controller. Read at start; an unknown field is an error.\n\n");
        let body = toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"));
        let _ = write!(text, "{body}");
        text
    }
}

/// Whether a text is `host:port`, `1.2.3.4:port` or `[::1]:port`.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        !host.is_empty() && bare && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Line and column, from 1, of a byte offset.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("D/controller.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse("listen = \"127.0.0.1:7443\"\n").unwrap();
        assert_eq!(config, Config::new("127.0.0.1:7443".parse().unwrap(), None));
        assert_eq!(config.agents.host_every, Duration::from_secs(15));
        assert!(config.notify.allow_addresses.is_empty());
    }

    #[test]
    fn a_saved_file_reads_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new("127.0.0.1:7443".parse().unwrap(), Some("127.0.0.1:7480".parse().unwrap()));
        config.addresses = vec!["controller.example:7443".to_owned()];
        config.notify.allow_addresses = vec!["127.0.0.0/8".parse().unwrap()];
        config.agents.host_every = Duration::from_millis(1_500);
        config.save(directory.path()).unwrap();
        assert_eq!(Config::load(directory.path()).unwrap(), config);
    }

    #[test]
    fn every_fault_is_one_line_with_its_place_and_a_remedy() {
        let unknown = parse("listen = \"127.0.0.1:7443\"\nlisen = 1\n").unwrap_err();
        assert!(unknown.starts_with("D/controller.toml:2:1: unknown field `lisen`"), "{unknown}");
        let cut = parse("listen = \"127.0.0.1:7443\"\n[agents]\nhost_every = \"15").unwrap_err();
        assert!(cut.starts_with("D/controller.toml:3:"), "{cut}");
        let empty = parse("").unwrap_err();
        assert!(empty.contains("missing field `listen`"), "{empty}");
        let unit = parse("listen = \"127.0.0.1:7443\"\n[agents]\nhost_every = \"15\"\n").unwrap_err();
        assert!(unit.starts_with("D/controller.toml:3:14: \"15\" is not a duration"), "{unit}");
        let bounds = parse("listen = \"127.0.0.1:7443\"\n[agents]\nhost_every = \"0s\"\n").unwrap_err();
        assert!(bounds.contains("agents.host_every"), "{bounds}");
        let address = parse("listen = \"127.0.0.1:7443\"\naddresses = [\"controller\"]\n").unwrap_err();
        assert!(address.contains("host:port"), "{address}");
        for message in [unknown, cut, empty, unit, bounds, address] {
            assert!(!message.contains('\n'), "{message}");
            assert!(message.ends_with("correct the file and start again"), "{message}");
        }
    }

    #[test]
    fn a_missing_file_names_the_command_that_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = Config::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("quell-controller init --data-dir"), "{error}");
        std::fs::create_dir(directory.path().join("log")).unwrap();
        let error = Config::load(directory.path()).unwrap_err().to_string();
        assert!(error.contains("put it back") && !error.contains("init"), "{error}");
    }
}

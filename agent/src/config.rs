//! `agent.toml`: what this host's administrator allows, and the services and mounts that only the host can describe.
//!
//! The file has the last word over every order. What it does not name is refused, so a missing file or a missing list
//! allows nothing. It is read once, when the agent starts; an unknown key, a path that is not absolute or a file that
//! others may write to is an error, never something to guess about.

mod dns;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

pub use dns::{Algorithm, DnsRecord};
pub use quell_model::action::ManagerKind;
use quell_model::{name, network::Network};
use serde::Deserialize;

use crate::{own_file, units};

/// The file's name in the agent's data directory.
pub const FILE_NAME: &str = "agent.toml";

/// What `agent.toml` says. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Config {
    /// What orders and probes may touch.
    #[serde(default)]
    pub allow: Allow,
    /// Services that the host itself defines.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// Directories that are judged like mounts.
    #[serde(default, rename = "mount")]
    pub mounts: Vec<Mount>,
    /// Records that `dns.failover` may update.
    #[serde(default, rename = "dns")]
    pub records: Vec<DnsRecord>,
}

/// The allow-list: an empty list allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Allow {
    /// Actions by name: `service.restart`.
    #[serde(default)]
    pub actions: BTreeSet<String>,
    /// Services by name: of a `[[service]]`, or of a systemd unit.
    #[serde(default)]
    pub services: BTreeSet<String>,
    /// Absolute directories, without links in them, beneath which logs may be rotated and commands may run.
    #[serde(default)]
    pub paths: BTreeSet<PathBuf>,
    /// Absolute directories, without links in them, in and beneath which `disk.reclaim` may delete files.
    #[serde(default)]
    pub reclaim: BTreeSet<PathBuf>,
    /// Absolute paths of programs that may be run.
    #[serde(default)]
    pub programs: BTreeSet<PathBuf>,
    /// Networks (`127.0.0.0/8`, `::1`) that probes may reach although they are loopback, link-local or metadata
    /// addresses.
    #[serde(default)]
    pub addresses: Vec<Network>,
    /// Names of environment variables that an order may set for a program.
    #[serde(default)]
    pub environment: BTreeSet<String>,
}

impl Allow {
    /// Whether an address that is refused by default is allowed here.
    pub fn address(&self, address: std::net::IpAddr) -> bool {
        self.addresses.iter().any(|network| network.contains(address))
    }

    /// The directory of `paths` that a path lies beneath (or is), the longest one when there are several.
    pub fn root_of(&self, path: &Path) -> Option<&Path> {
        longest_above(&self.paths, path)
    }

    /// The directory of `reclaim` that a path lies beneath (or is), the longest one when there are several.
    pub fn reclaim_root_of(&self, path: &Path) -> Option<&Path> {
        longest_above(&self.reclaim, path)
    }
}

fn longest_above<'a>(roots: &'a BTreeSet<PathBuf>, path: &Path) -> Option<&'a Path> {
    let above = roots.iter().map(PathBuf::as_path).filter(|root| path.starts_with(root));
    above.max_by_key(|root| root.as_os_str().len())
}

/// A service of this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Service {
    /// The name by which policies call it.
    pub name: String,
    /// Who runs it.
    pub manager: ManagerKind,
    /// For `systemd`: the unit, when it is not `<name>.service`.
    #[serde(default)]
    pub unit: Option<String>,
    /// For `command`: program and arguments that start it. Without `pid_file` this program is the service and stays
    /// in the foreground.
    #[serde(default)]
    pub start: Vec<String>,
    /// For `command`: program and arguments that stop it. When absent, it is sent TERM.
    #[serde(default)]
    pub stop: Vec<String>,
    /// For `command`: exits 0 while the service is healthy. When absent, a process that runs counts as active.
    #[serde(default)]
    pub status: Vec<String>,
    /// For `command`: where the service writes its process id. The process is `start` itself when that stays, or the
    /// one that it leaves behind when it returns.
    #[serde(default)]
    pub pid_file: Option<PathBuf>,
    /// For `command`: where it is started; the agent's data directory is never used. Default: `/`.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// For `command`: the user that it runs as; only an agent that runs as root can change users.
    #[serde(default)]
    pub user: Option<String>,
    /// For `command`: the file that its output is appended to; when absent its output goes nowhere.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// For `command`: its environment, besides `PATH`.
    #[serde(default)]
    pub environment: std::collections::BTreeMap<String, String>,
    /// For `command`: how long it may take to stop before it is killed. Default: 10s.
    #[serde(default = "ten_seconds", deserialize_with = "units::deserialize_duration")]
    pub stop_timeout: Duration,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// A directory with a declared capacity, judged like a mount.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Mount {
    /// The directory.
    pub path: PathBuf,
    /// Its capacity in bytes, written with a unit: `64MiB`.
    #[serde(deserialize_with = "units::deserialize_size")]
    pub capacity: u64,
}

/// Why `agent.toml` was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not read.
    #[error(transparent)]
    File(#[from] own_file::Error),
    /// It is not what `agent.toml` can say.
    #[error("{path}:{line}:{column}: {message}; correct the file and start the agent again")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// It reads well and makes no sense.
    #[error("{path}: {message}; correct the file and start the agent again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with what.
        message: String,
    },
}

impl Config {
    /// Reads `agent.toml` of a data directory. Without the file nothing is allowed.
    ///
    /// # Errors
    /// When the file cannot be read, could have been written by others, or says something that is not understood.
    pub fn load(data_directory: &Path) -> Result<Self, Error> {
        let path = data_directory.join(FILE_NAME);
        let Some(text) = own_file::read(&path)? else { return Ok(Self::default()) };
        Self::parse(&text, &path)
    }

    /// Reads the text of an `agent.toml`; the path is for messages only.
    ///
    /// # Errors
    /// When it says something that is not understood.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = own_file::place(text, error.span().map_or(0, |span| span.start));
            Error::Syntax { path: path.to_owned(), line, column, message: error.message().replace('\n', ", ") }
        })?;
        config.check().map_err(|message| Error::Invalid { path: path.to_owned(), message })?;
        Ok(config)
    }

    /// The service of that name that the host defines.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    fn check(&self) -> Result<(), String> {
        for (list, paths) in [("allow.paths", &self.allow.paths), ("allow.reclaim", &self.allow.reclaim)] {
            for path in paths {
                absolute(list, path)?;
                if path == Path::new("/") {
                    return Err(format!("{list}: \"/\" would allow every file of the host; name the directories"));
                }
            }
        }
        for path in &self.allow.programs {
            absolute("allow.programs", path)?;
        }
        dns::check(&self.records, absolute)?;
        let mut names = BTreeSet::new();
        for service in &self.services {
            service.check().map_err(|message| format!("service {:?}: {message}", service.name))?;
            if !names.insert(&service.name) {
                return Err(format!("service {:?} is defined twice", service.name));
            }
        }
        for mount in &self.mounts {
            absolute("mount.path", &mount.path)?;
            if mount.capacity == 0 {
                return Err(format!("mount {}: its capacity is zero", mount.path.display()));
            }
        }
        Ok(())
    }
}

impl Service {
    /// The systemd unit behind it.
    pub fn unit(&self) -> String {
        self.unit.clone().unwrap_or_else(|| units::unit_name(&self.name))
    }

    fn check(&self) -> Result<(), String> {
        if name::unit(&self.name).is_err() {
            return Err("a name has letters, digits and any of : - _ . \\ @, at most 255".to_owned());
        }
        match self.manager {
            ManagerKind::Systemd => self.check_systemd(),
            ManagerKind::Command => self.check_command(),
        }
    }

    fn check_systemd(&self) -> Result<(), String> {
        let commands = [&self.start, &self.stop, &self.status];
        if commands.iter().any(|argv| !argv.is_empty()) || self.pid_file.is_some() || self.user.is_some() {
            return Err("start, stop, status, pid_file and user belong to manager = \"command\"".to_owned());
        }
        if self.unit.as_deref().is_some_and(|unit| name::unit(unit).is_err()) {
            return Err("unit is not the name of a unit".to_owned());
        }
        Ok(())
    }

    fn check_command(&self) -> Result<(), String> {
        if self.unit.is_some() {
            return Err("unit belongs to manager = \"systemd\"".to_owned());
        }
        if self.start.is_empty() {
            return Err("start is missing: the program and its arguments, as a list".to_owned());
        }
        for argv in [&self.start, &self.stop, &self.status] {
            if let Some(program) = argv.first() {
                absolute("a program", Path::new(program))?;
            }
        }
        for path in [&self.pid_file, &self.directory, &self.log].into_iter().flatten() {
            absolute("a path", path)?;
        }
        Ok(())
    }
}

fn absolute(what: &str, path: &Path) -> Result<(), String> {
    use std::path::Component::{Normal, RootDir};
    let plain = path.components().all(|component| matches!(component, RootDir | Normal(_)));
    if path.is_absolute() && plain {
        Ok(())
    } else {
        Err(format!("{what}: {:?} must be absolute and free of \"..\"", path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Error, ManagerKind, own_file};
    use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_is_not_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::load(directory.path()).unwrap();
        assert_eq!(config, Config::default());
        assert!(config.allow.actions.is_empty() && config.allow.paths.is_empty() && config.allow.programs.is_empty());
        assert_eq!(parse("[allow]\n").unwrap(), Config::default());
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = parse(
            r#"
            [allow]
            actions = ["service.restart"]
            services = ["orders"]
            paths = ["/var/log", "/var/log/app"]
            programs = ["/usr/local/bin/dnsTool"]
            addresses = ["127.0.0.0/8", "::1"]
            environment = ["PATH"]
            [[service]]
            name = "orders"
            manager = "command"
            start = ["/opt/orders", "--flag"]
            stop_timeout = "2s"
            [[service]]
            name = "nginx"
            manager = "systemd"
            [[mount]]
            path = "/srv/logs"
            capacity = "64MiB"
            "#,
        )
        .unwrap();
        assert_eq!(config.service("orders").unwrap().stop_timeout, Duration::from_secs(2));
        assert_eq!(config.service("nginx").unwrap().unit(), "nginx.service");
        assert_eq!(config.services[1].manager, ManagerKind::Systemd);
        assert_eq!(config.mounts[0].capacity, 64 << 20);
        assert_eq!(config.allow.root_of(Path::new("/var/log/app/a.log")), Some(Path::new("/var/log/app")));
        assert_eq!(config.allow.root_of(Path::new("/var/logs/a.log")), None);
        assert_eq!(config.allow.reclaim_root_of(Path::new("/var/log/app")), None, "rotating is not deleting");
        assert!(config.allow.address("127.1.2.3".parse().unwrap()) && config.allow.address("::1".parse().unwrap()));
        assert!(config.allow.address("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!config.allow.address("169.254.169.254".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = [
            ("[allow]\naction = []", "unknown field `action`"),
            ("[allow]\npaths = [\"logs\"]", "must be absolute"),
            ("[allow]\npaths = [\"/var/../etc\"]", "must be absolute"),
            ("[allow]\npaths = [\"/\"]", "every file"),
            ("[allow]\nreclaim = [\"/\"]", "every file"),
            ("[allow]\nreclaim = [\"var\"]", "must be absolute"),
            ("[allow]\naddresses = [\"127.0.0.0/33\"]", "is not a network"),
            ("[[service]]\nname = \"a b\"\nmanager = \"systemd\"", "a name has letters"),
            ("[[service]]\nname = \"a\"\nmanager = \"command\"", "start is missing"),
            ("[[service]]\nname = \"a\"\nmanager = \"command\"\nstart = [\"a\"]", "must be absolute"),
            ("[[service]]\nname = \"a\"\nmanager = \"initd\"", "unknown variant"),
            ("[[mount]]\npath = \"/a\"\ncapacity = \"64\"", "unit"),
            ("[[mount]]\npath = \"/a\"\ncapacity = \"64MiB", "agent.toml"),
        ];
        for (text, expected) in wrong {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text:?} gave {message:?}, without {expected:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(super::FILE_NAME);
        std::fs::write(&path, "[allow]\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Config::load(directory.path()), Err(Error::File(own_file::Error::Writable { .. }))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Config::load(directory.path()).is_ok());
    }
}

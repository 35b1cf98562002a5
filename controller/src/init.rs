//! `quell-controller init`: makes a controller's directory, whole or not at all.
//!
//! The directory gets a certificate authority of its own, an empty store, `controller.toml` and the first operator's
//! profile. Nothing in it is a default that another installation shares: identifier, keys and certificates are made here.
//! `controller.toml` is written last, so that a directory in which `init` was interrupted is not taken for a controller.
//!
//! Operators live in the state, which only the decider writes. So `init` leaves a note of the first one in `pending`,
//! and `serve` admits it through the engine like any other ([`admit_pending`]). The same way leads back in when every
//! operator's certificate has ended: [`add_operator`], on the controller's own machine, by whoever owns its files.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};
use quell_engine::{
    Actor, Change, Ids, Write,
    input::Request,
    state::{Meta, Table, TrustRow},
};
use quell_link::{
    OPERATOR_TTL,
    authority::{self, Authority},
    files, free_port, identity,
    profile::Profile,
    signing::{self, NewKey},
};
use quell_model::{
    digest::Digest,
    name::{HostName, ObjectName},
    trust::{Believed, TrustRoot},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Config},
    decider::{Failed, Handle},
    store::{self, Batch, DiskStore, Store},
};

/// The certificate authority's directory inside the data directory.
pub const AUTHORITY: &str = "authority";
/// Whom hosts believed first: what profiles that are made on this machine begin with.
pub const TRUST: &str = "trust.json";
/// Where profiles of operators are put that are made on this machine.
const PROFILES: &str = "profiles";
/// Notes of operators that `serve` is to admit.
const PENDING: &str = "pending";

/// What `init` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the controller is made: a directory that is missing or empty.
    pub data_dir: PathBuf,
    /// Address for agents and operators. Port 0 takes one that is free at this moment, for good.
    pub listen: SocketAddr,
    /// Address for `/metrics`, `/healthz` and `/readyz`. Port 0 as above.
    pub http: SocketAddr,
    /// `host:port` under which agents reach the controller; empty: `listen`, with the machine's name where that is every
    /// address.
    pub addresses: Vec<String>,
    /// Name of the first operator.
    pub operator: String,
    /// Whom hosts believe first, in the form of OpenSSH's `allowed_signers`; absent: a key that is made for the first
    /// operator and put into the profile.
    pub allowed_signers: Option<PathBuf>,
}

/// Why no controller was made. What was begun has been removed again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one already.
    #[error("{} holds a controller already; start it with `quell-controller serve --data-dir {}`", .0.display(), .0.display())]
    Exists(PathBuf),
    /// There is something else, or what an interrupted `init` left.
    #[error("{} is not empty (it holds {name:?}); name an empty or a new directory", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// One of the things in it.
        name: String,
    },
    /// The machine's own name cannot stand in for the addresses that were not given.
    #[error(
        "agents cannot reach {0}, which is every address of this machine: say `--address HOST:PORT` under which they can"
    )]
    NoAddress(SocketAddr),
    /// No port is free on an address.
    #[error("no free port on {address}: {source}")]
    Port {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An operator with a note already waits.
    #[error("operator {0} waits to be admitted already: start the controller, then try again")]
    Waits(String),
    /// Whom hosts are to believe makes no sense.
    #[error("{}: {reason}", path.display())]
    Signers {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] signing::Error),
    /// The name cannot be an operator's.
    #[error(transparent)]
    Name(#[from] identity::Error),
    /// A role is not a name.
    #[error(transparent)]
    Role(#[from] quell_model::name::Invalid),
    /// The authority could not be made or read.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A file could not be written or read.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The store could not be made.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An operator could not be admitted.
    #[error("operator {name} cannot be admitted: {source}")]
    Admit {
        /// The operator.
        name: String,
        /// Why.
        source: Failed,
    },
}

impl Error {
    /// Whether what was typed is at fault: nothing was tried.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Exists(_)
                | Self::NotEmpty { .. }
                | Self::NoAddress(_)
                | Self::Signers { .. }
                | Self::Name(_)
                | Self::Role(_)
                | Self::Config(_)
        )
    }
}

/// Makes a controller. It blocks on files.
///
/// # Errors
/// The directory is in use, an address or a name makes no sense, or a file cannot be written; the directory is then as it
/// was.
pub fn run(options: &Options, now: Timestamp) -> Result<PathBuf, Error> {
    let existed = check_empty(&options.data_dir)?;
    if !identity::is_operator_name(&options.operator) {
        return Err(identity::Error::OperatorName(options.operator.clone()).into());
    }
    let config = config(options)?;
    let made = make(options, &config, now);
    if made.is_err() {
        clear(&options.data_dir, existed);
    }
    made
}

/// Whether the directory exists, if it can be used.
fn check_empty(directory: &Path) -> Result<bool, Error> {
    let mut entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(files::Error::io("read", directory)(error).into()),
    };
    match entries.next() {
        None => Ok(true),
        Some(_) if directory.join(config::FILE).exists() => Err(Error::Exists(directory.to_owned())),
        Some(entry) => {
            let entry = entry.map_err(files::Error::io("read", directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Err(Error::NotEmpty { directory: directory.to_owned(), name })
        }
    }
}

/// Removes what was begun: everything, since there was nothing.
fn clear(directory: &Path, existed: bool) {
    let removed = match std::fs::read_dir(directory) {
        _ if !existed => std::fs::remove_dir_all(directory),
        Ok(entries) => entries.flatten().try_for_each(|entry| match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::remove_file(entry.path()),
        }),
        Err(error) => Err(error),
    };
    if let Err(error) = removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }) {
        tracing::warn!(%error, directory = %directory.display(), "cannot remove what was begun");
    }
}

/// The configuration, checked as `serve` will check it.
fn config(options: &Options) -> Result<Config, Error> {
    // Held until both are chosen, so that they differ.
    let (listen, _held) = with_port(options.listen)?;
    let (http, _held_too) = with_port(options.http)?;
    let mut config = Config::new(listen, Some(http));
    config.addresses = if options.addresses.is_empty() { vec![reachable(listen)?] } else { options.addresses.clone() };
    let path = options.data_dir.join(config::FILE);
    let text = toml::to_string(&config).map_err(|error| files::Error::damaged(&path, error))?;
    Ok(Config::parse(&text, &path)?)
}

/// The address, with a port that is free now and stays so for a listener, and its listener, where none was named.
fn with_port(address: SocketAddr) -> Result<(SocketAddr, Option<TcpListener>), Error> {
    if address.port() != 0 {
        return Ok((address, None));
    }
    let chosen = free_port::listener(address.ip()).and_then(|listener| Ok((listener.local_addr()?, Some(listener))));
    chosen.map_err(|source| Error::Port { address, source })
}

/// How others reach an address that is listened on.
fn reachable(listen: SocketAddr) -> Result<String, Error> {
    if !listen.ip().is_unspecified() {
        return Ok(listen.to_string());
    }
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy().to_lowercase();
    match name.parse::<HostName>() {
        Ok(name) if name.as_str() != "localhost" => Ok(format!("{name}:{}", listen.port())),
        _ => Err(Error::NoAddress(listen)),
    }
}

fn make(options: &Options, config: &Config, now: Timestamp) -> Result<PathBuf, Error> {
    files::create_directory(&options.data_dir)?;
    // Others see this path: it must mean the same from everywhere.
    let data_dir = options.data_dir.canonicalize().map_err(files::Error::io("read", &options.data_dir))?;
    let installation = uuid::Uuid::new_v4().to_string();
    let authority = Authority::create(&data_dir.join(AUTHORITY), &installation, now)?;
    let (root, signing_key) = first_root(options, &installation, now)?;
    files::write(&data_dir.join(TRUST), root.canonical().as_bytes())?;
    let profile = issue(&data_dir, &authority, config, &options.operator, &["admin".to_owned()], signing_key, now)?;
    let mut store = Box::new(DiskStore::create(&data_dir, store::Options::default())?);
    store.sign_with(std::sync::Arc::new(authority))?;
    found(store.as_mut(), &root, now)?;
    store.close()?;
    config.save(&data_dir)?;
    Ok(profile)
}

/// Whom hosts believe first, and the key that was made for that, if one was.
fn first_root(options: &Options, installation: &str, now: Timestamp) -> Result<(TrustRoot, Option<String>), Error> {
    let (allowed_signers, signing_key) = match &options.allowed_signers {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(files::Error::io("read", path))?;
            (text, None)
        }
        None => {
            let key = NewKey::make(&options.operator)?;
            let line = format!("{} namespaces=\"quell-*\" {}\n", options.operator, key.public);
            (line, Some(key.private))
        }
    };
    let installation = installation.to_owned();
    let root = TrustRoot { installation, version: 1, allowed_signers, required: BTreeMap::new() };
    let path = options.allowed_signers.clone().unwrap_or_default();
    let wrong = |reason: String| Error::Signers { path: path.clone(), reason };
    let believed = Believed::new(root.clone()).map_err(|error| wrong(error.to_string()))?;
    believed.is_changeable(now, &TimeZone::UTC).map_err(|error| wrong(error.to_string()))?;
    Ok((root, signing_key))
}

/// Records which installation this is, and whom its hosts believe first. Every plan bears the installation, so that an
/// order of one is none in another.
///
/// # Errors
/// The store cannot be written.
pub fn found(store: &mut dyn Store, root: &TrustRoot, time: Timestamp) -> Result<(), store::Error> {
    let fence = store.lease("quell-controller init", time)?;
    let installation = &root.installation;
    let meta = Meta { installation: installation.clone(), ..Meta::default() };
    let trust = TrustRow { canonical: root.canonical(), signatures: Vec::new(), at: time, by: "init".to_owned() };
    let change = Change {
        time,
        actor: Actor::Controller,
        kind: "installed",
        text: format!("installation {installation} was made"),
        ids: Ids::new(),
        data: serde_json::Value::Null,
        writes: vec![
            Write { table: Table::Meta, key: "meta".to_owned(), row: Some(serde_json::json!(meta)) },
            Write { table: Table::Trust, key: root.version.to_string(), row: Some(serde_json::json!(trust)) },
        ],
    };
    store.commit(Batch { guards: Vec::new(), changes: vec![change], fence }).map(drop)
}

/// Makes an operator on the controller's own machine: writes a profile, and a note by which `serve` admits the operator
/// when it starts next. Returns the profile's path. It blocks on files.
///
/// # Errors
/// There is no controller in the directory, or a file cannot be written.
pub fn add_operator(data_dir: &Path, name: &str, roles: &[String], now: Timestamp) -> Result<PathBuf, Error> {
    for role in roles {
        role.parse::<ObjectName>()?;
    }
    let config = Config::load(data_dir)?;
    let authority = Authority::load(&data_dir.join(AUTHORITY))?;
    let data_dir = data_dir.canonicalize().map_err(files::Error::io("read", data_dir))?;
    issue(&data_dir, &authority, &config, name, roles, None, now)
}

/// A note of an operator who has a certificate and is not in the state yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    name: String,
    roles: Vec<String>,
    key: Digest,
    certificate_expires: Timestamp,
}

fn issue(
    data_dir: &Path,
    authority: &Authority,
    config: &Config,
    name: &str,
    roles: &[String],
    signing_key: Option<String>,
    now: Timestamp,
) -> Result<PathBuf, Error> {
    let note = data_dir.join(PENDING).join(format!("{name}.toml"));
    if note.exists() {
        return Err(Error::Waits(name.to_owned()));
    }
    let (key, csr) = authority::new_key()?;
    let issued = authority.issue_operator(&csr, name, now, OPERATOR_TTL)?;
    let addresses =
        if config.addresses.is_empty() { vec![config.listen.to_string()] } else { config.addresses.clone() };
    let mut profile =
        Profile::new(name, authority.installation(), addresses, &authority.roots(), &issued.chain, key.serialize_pem());
    let trust = data_dir.join(TRUST);
    profile.trust = String::from_utf8(files::read(&trust)?).map_err(|error| files::Error::damaged(&trust, error))?;
    profile.signing_key = signing_key;
    let path = data_dir.join(PROFILES).join(format!("{name}.toml"));
    files::create_directory(&data_dir.join(PROFILES))?;
    files::create_directory(&data_dir.join(PENDING))?;
    profile.save(&path)?;
    let pending = Pending {
        name: name.to_owned(),
        roles: roles.to_vec(),
        key: issued.key,
        certificate_expires: issued.not_after,
    };
    let text = toml::to_string(&pending).map_err(|error| files::Error::damaged(&note, error))?;
    files::write(&note, text.as_bytes())?;
    Ok(path)
}

/// Admits the operators that were made on this machine while the controller was away. A note is removed once its
/// operator is durably in the state, so that it happens at least once; a second time changes nothing. One that the engine
/// refuses (the name is taken) is said, and stays: it must not keep the controller from starting.
///
/// # Errors
/// A note is damaged, or the decider is gone.
pub async fn admit_pending(data_dir: &Path, decider: &Handle) -> Result<(), Error> {
    for (path, pending) in read_pending(data_dir)? {
        let name = pending.name.clone();
        match admit(pending, decider).await {
            Ok(()) => std::fs::remove_file(&path).map_err(files::Error::io("remove", &path))?,
            Err(Failed::Refused(reason)) => {
                let note = path.display();
                tracing::error!(operator = name, %reason, %note, "refused an operator who was made on this machine");
            }
            Err(source) => return Err(Error::Admit { name, source }),
        }
    }
    Ok(())
}

async fn admit(pending: Pending, decider: &Handle) -> Result<(), Failed> {
    let Pending { name, roles, key, certificate_expires } = pending;
    if decider.state().operators.get(&name).is_some_and(|row| row.key == key) {
        return Ok(());
    }
    tracing::info!(operator = name, "admitting an operator who was made on this machine");
    let request = Request::CreateOperator { name, roles, key, certificate_expires };
    decider.request(Actor::Controller, request).await.map(drop)
}

fn read_pending(data_dir: &Path) -> Result<Vec<(PathBuf, Pending)>, Error> {
    let directory = data_dir.join(PENDING);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(files::Error::io("read", &directory)(error).into()),
    };
    let mut notes = Vec::new();
    for entry in entries {
        let path = entry.map_err(files::Error::io("read", &directory))?.path();
        // What a write leaves that was interrupted begins with a dot, and is not a note.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        let text = files::read_secret(&path)?;
        let text = String::from_utf8(text).map_err(|error| files::Error::damaged(&path, error))?;
        let pending = toml::from_str(&text).map_err(|error| files::Error::damaged(&path, error.message()))?;
        notes.push((path, pending));
    }
    notes.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(notes)
}

#[cfg(test)]
mod tests;

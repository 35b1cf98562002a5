//! What agents measure: one type per kind of probe, and the table of the fields that each kind has.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use crate::{digest::Digest, selector::Placement};

mod fields;

pub use fields::{ProbeKind, all_fields, common_fields, fields, host_fields, outcome_fields, plan_fields};

/// Largest compiled size of a pattern that a manifest gives, in bytes: a pattern that would need more is refused.
pub const PATTERN_SIZE_LIMIT: usize = 256 * 1024;

/// A probe of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// What is measured.
    pub spec: ProbeSpec,
    /// How often.
    pub every: Duration,
    /// After how long an unanswered attempt counts as failed.
    pub timeout: Duration,
    /// Where it runs, when it gives one value for the whole fleet; absent: on every host of the policy.
    pub on: Option<Placement>,
    /// The probe's specification as canonical JSON, without `on`: what is sent to agents.
    pub canonical: String,
}

impl Probe {
    /// The same for every policy that asks for the same measurement: samples refer to it.
    pub fn key(&self) -> ProbeKey {
        ProbeKey::from(Digest::of(self.canonical.as_bytes()).short())
    }
}

/// Identifies an assigned probe: the beginning of the digest of its specification, or `host`.
/// Cheap to clone: every sample carries one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ProbeKey(Arc<str>);

impl ProbeKey {
    /// The key of the host samples, which every agent sends.
    pub fn host() -> Self {
        static HOST: LazyLock<ProbeKey> = LazyLock::new(|| ProbeKey("host".into()));
        HOST.clone()
    }

    /// Whether it is that of the host samples.
    pub fn is_host(&self) -> bool {
        *self.0 == *"host"
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ProbeKey {
    fn from(key: String) -> Self {
        Self(key.into())
    }
}

impl From<ProbeKey> for String {
    fn from(key: ProbeKey) -> Self {
        key.as_str().to_owned()
    }
}

impl std::fmt::Display for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeSpec {
    /// An HTTP GET; `ok` when the status is expected and the body matches.
    Http {
        /// Absolute http or https URL.
        url: String,
        /// Expected status; 200 when absent.
        status: Option<u16>,
        /// A regular expression that the body's first 64 KiB must match.
        body: Option<String>,
    },
    /// A TCP connection; `ok` when it opens.
    Tcp {
        /// Host or address, and port.
        address: String,
    },
    /// A TLS handshake; `ok` when the chain is valid for the name.
    Tls {
        /// Host or address, and port.
        address: String,
        /// Name to ask for and to check; the address's host when absent.
        name: Option<String>,
    },
    /// A DNS query over UDP, TCP when truncated; `ok` on NOERROR with an answer.
    Dns {
        /// The server.
        server: IpAddr,
        /// Its port; 53 when the manifest says none.
        port: u16,
        /// The name asked for.
        name: String,
        /// The record type: A, AAAA, SOA, ….
        record: String,
        /// How `reachable` is found when there is no answer: `tcp/22`; absent: `tcp/<port>`.
        reach: Option<Reach>,
    },
    /// Processes by executable or command line; `ok` when at least one runs.
    Process {
        /// Exact name of the executable, or
        name: Option<String>,
        /// a regular expression over the command line, arguments joined by spaces.
        command: Option<String>,
    },
    /// A service of the host's `agent.toml`, or a systemd unit; `ok` when active.
    Service {
        /// Its name.
        name: String,
    },
    /// The newest lines of a log; `ok` when the file can be read.
    LogMatch {
        /// The file.
        path: PathBuf,
        /// A regular expression; named groups become `captures.NAME`.
        pattern: String,
        /// A pattern whose nearest match above the newest matching line is captured too.
        before: Option<String>,
        /// Number of lines looked at; 100 when absent.
        window: u32,
    },
    /// A file's age, size and, when asked for, number; `ok` when it exists.
    File {
        /// The file.
        path: PathBuf,
        /// A regular expression whose first group is `value` (a number when it reads as one); absent: the whole
        /// content, trimmed, at most 4 KiB.
        parse: Option<String>,
    },
    /// A command's exit status and output; `ok` when it exits 0 and the pattern, if any, matches.
    Command {
        /// Program and arguments; never a shell. Must be allowed by `agent.toml`.
        argv: Vec<String>,
        /// A regular expression over standard output; named groups become fields.
        parse: Option<String>,
    },
}

/// How a probe finds out whether the machine behind a service is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A TCP port that opens or refuses: both mean that somebody is there.
    Tcp(u16),
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A double.
    Number,
    /// Text.
    Text,
    /// A truth value.
    Flag,
    /// Text that a pattern or a file gave (`file.value`, `command.value`, captures): where a number is wanted it is the
    /// number that it reads as, and unknown when it reads as none; elsewhere it is text. Samples may carry it as text
    /// or as a number; text keeps leading zeros.
    Captured,
}

/// A declared field: what conditions, documentation and `quell explain` know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its name, as conditions write it: `latency`, `cpu.used_percent`, `disks[].used_percent`.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldType,
    /// Unit, or an empty text.
    pub unit: &'static str,
    /// One sentence.
    pub about: &'static str,
}

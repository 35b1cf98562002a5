//! The table of fields: everything that a condition may name, in one place.
//!
//! The checks of conditions, `quell explain` and the documentation are made from it, and agents fill samples by it: a
//! field that is not here does not exist. Types are strict but for [`FieldType::Captured`], whose rule is there.

use std::fmt;

use super::{FieldSpec, FieldType, ProbeSpec};
use FieldType::{Captured, Flag, Number, Text};

/// A kind of probe, without what it is pointed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// The host samples, which every agent takes: `host.cpu.used_percent`.
    Host,
    /// An HTTP GET.
    Http,
    /// A TCP connection.
    Tcp,
    /// A TLS handshake.
    Tls,
    /// A DNS query.
    Dns,
    /// Processes.
    Process,
    /// A service.
    Service,
    /// The newest lines of a log.
    LogMatch,
    /// A file.
    File,
    /// A command.
    Command,
}

impl ProbeKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Host,
        Self::Http,
        Self::Tcp,
        Self::Tls,
        Self::Dns,
        Self::Process,
        Self::Service,
        Self::LogMatch,
        Self::File,
        Self::Command,
    ];

    /// As manifests write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Process => "process",
            Self::Service => "service",
            Self::LogMatch => "logMatch",
            Self::File => "file",
            Self::Command => "command",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ProbeSpec {
    /// The kind of probe that it is.
    pub fn kind(&self) -> ProbeKind {
        match self {
            Self::Http { .. } => ProbeKind::Http,
            Self::Tcp { .. } => ProbeKind::Tcp,
            Self::Tls { .. } => ProbeKind::Tls,
            Self::Dns { .. } => ProbeKind::Dns,
            Self::Process { .. } => ProbeKind::Process,
            Self::Service { .. } => ProbeKind::Service,
            Self::LogMatch { .. } => ProbeKind::LogMatch,
            Self::File { .. } => ProbeKind::File,
            Self::Command { .. } => ProbeKind::Command,
        }
    }

    /// The fields that this probe's own patterns add: `captures.NAME` for a log, `NAME` for a command.
    ///
    /// A pattern that is not a regular expression adds none; that it is one is checked where the probe is read.
    pub fn captured(&self) -> Vec<String> {
        match self {
            Self::LogMatch { pattern, before, .. } => std::iter::once(pattern)
                .chain(before)
                .flat_map(|pattern| group_names(pattern))
                .map(|name| format!("captures.{name}"))
                .collect(),
            Self::Command { parse: Some(pattern), .. } => group_names(pattern),
            _ => Vec::new(),
        }
    }

    /// The type of a field of this probe; absent: there is no such field.
    pub fn field_type(&self, field: &str) -> Option<FieldType> {
        let declared = all_fields(self.kind()).find(|spec| spec.name == field).map(|spec| spec.kind);
        declared.or_else(|| self.captured().iter().any(|name| name == field).then_some(Captured))
    }
}

/// Names of a pattern's groups, in order.
fn group_names(pattern: &str) -> Vec<String> {
    let Ok(regex) = regex::RegexBuilder::new(pattern).size_limit(super::PATTERN_SIZE_LIMIT).build() else {
        return Vec::new();
    };
    regex.capture_names().flatten().map(str::to_owned).collect()
}

/// The fields that a kind has besides [`common_fields`]; one of the same name here takes the common one's place.
pub fn fields(kind: ProbeKind) -> &'static [FieldSpec] {
    match kind {
        ProbeKind::Host => HOST,
        ProbeKind::Http => HTTP,
        ProbeKind::Tcp => TCP,
        ProbeKind::Tls => TLS,
        ProbeKind::Dns => DNS,
        ProbeKind::Process => PROCESS,
        ProbeKind::Service => SERVICE,
        ProbeKind::LogMatch => LOG_MATCH,
        ProbeKind::File => FILE,
        ProbeKind::Command => COMMAND,
    }
}

/// All fields of a kind, the common ones last.
pub fn all_fields(kind: ProbeKind) -> impl Iterator<Item = &'static FieldSpec> {
    let own = fields(kind);
    let common = common_fields().iter().filter(move |common| !own.iter().any(|field| field.name == common.name));
    own.iter().chain(common)
}

/// Fields of the host samples; `disks[]` and `network[]` are there once for each mount and interface.
pub fn host_fields() -> &'static [FieldSpec] {
    HOST
}

/// Fields that every probe has, the host samples among them.
pub fn common_fields() -> &'static [FieldSpec] {
    COMMON
}

/// Values that actions report of what they did: `outcome.NAME` in conditions of a rung. An action reports those that mean
/// something to it; the others are unknown.
pub fn outcome_fields() -> &'static [FieldSpec] {
    OUTCOME
}

/// What the previews of a plan list: `plan.NAME` in the `verify` of a rung that is previewed, of the step whose outcome
/// `outcome` is. A value of the policy that is called so goes before.
pub fn plan_fields() -> &'static [FieldSpec] {
    PLAN
}

const fn field(name: &'static str, kind: FieldType, unit: &'static str, about: &'static str) -> FieldSpec {
    FieldSpec { name, kind, unit, about }
}

const COMMON: &[FieldSpec] = &[
    field("ok", Flag, "", "The newest attempt succeeded."),
    field("failures", Number, "attempts", "Attempts in a row that failed; 0 after a success."),
    field("successes", Number, "attempts", "Attempts in a row that succeeded; 0 after a failure."),
    field("error", Text, "", "Why the newest attempt failed; empty when it did not."),
    field("age", Number, "seconds", "Time since the newest sample was taken."),
];

const HOST: &[FieldSpec] = &[
    field("cpu.used_percent", Number, "percent", "Time that the processors were not idle since the last sample."),
    field("load.1", Number, "tasks", "Load average over one minute; written host.load[\"1\"]."),
    field("load.5", Number, "tasks", "Load average over five minutes; written host.load[\"5\"]."),
    field("load.15", Number, "tasks", "Load average over fifteen minutes; written host.load[\"15\"]."),
    field("memory.used_percent", Number, "percent", "Memory that is not available to new processes."),
    field("memory.available_bytes", Number, "bytes", "Memory that new processes can have without swapping."),
    field("swap.used_percent", Number, "percent", "Swap in use; 0 without swap."),
    field("pressure.cpu", Number, "percent", "Time in the last 10 s in which some task waited for a processor."),
    field("pressure.memory", Number, "percent", "Time in the last 10 s in which some task waited for memory."),
    field("pressure.io", Number, "percent", "Time in the last 10 s in which some task waited for a disk."),
    field("disks[].used_percent", Number, "percent", "Space in use, of a mount or a directory budget."),
    field("disks[].free_bytes", Number, "bytes", "Space that unprivileged users can still use."),
    field("disks[].inodes_used_percent", Number, "percent", "Inodes in use; 0 where there is no limit."),
    field("network[].rx_bytes_per_s", Number, "bytes per second", "Received since the last sample."),
    field("network[].tx_bytes_per_s", Number, "bytes per second", "Sent since the last sample."),
    field("uptime", Number, "seconds", "Time since the host booted."),
    field("clock_offset", Number, "seconds", "How far the host's clock is ahead of the controller's."),
];

const HTTP: &[FieldSpec] = &[
    field("status", Number, "", "Status of the answer; missing when there was none."),
    field("latency", Number, "seconds", "From the first packet to the last byte that was read."),
    field("body_matches", Flag, "", "The body matches the pattern; true when none is given."),
];

const TCP: &[FieldSpec] = &[field("reachable", Flag, "", "The connection opened.")];

const TLS: &[FieldSpec] = &[
    field("expires_in", Number, "seconds", "Until the server's certificate ends; negative when it has."),
    field("issuer", Text, "", "Who issued the server's certificate."),
];

const DNS: &[FieldSpec] = &[
    field("rcode", Text, "", "Response code (NOERROR, SERVFAIL, …); missing without an answer."),
    field("answer", Text, "", "The answer's records, sorted, joined by a space."),
    field("serial", Number, "", "Serial number of an SOA answer."),
    field("reachable", Flag, "", "The machine behind the server answers at all, whatever its DNS does."),
];

const PROCESS: &[FieldSpec] = &[
    field("count", Number, "processes", "Processes that match."),
    field("cpu_percent", Number, "percent", "Processor time of all that match since the last sample; 100 is one core."),
    field("rss_bytes", Number, "bytes", "Resident memory of all that match."),
];

const SERVICE: &[FieldSpec] = &[
    field("state", Text, "", "active, activating, deactivating, inactive, failed, masked or unknown."),
    field("restarts", Number, "restarts", "Restarts by the service manager itself."),
    field("since", Number, "seconds", "Time that the service has been in this state."),
    field("stopped_by_person", Flag, "", "Masked, disabled or stopped on purpose: not down."),
];

const LOG_MATCH: &[FieldSpec] = &[
    field("matches", Number, "lines", "Matching lines among the newest `window` lines."),
    field("tail", Text, "", "The newest lines."),
];

const FILE: &[FieldSpec] = &[
    field("value", Captured, "", "What `parse` captures, or the whole content, trimmed."),
    field("age", Number, "seconds", "Time since the file was last changed."),
    field("size", Number, "bytes", "Size of the file."),
];

const COMMAND: &[FieldSpec] = &[
    field("exit", Number, "", "Exit status; missing when the command was killed."),
    field("value", Captured, "", "Standard output, trimmed."),
];

const OUTCOME: &[FieldSpec] = &[
    field("pid", Number, "", "service.restart: process of the service that was started."),
    field("bytes_freed", Number, "bytes", "log.rotate: space that came free."),
    field("bytes_rotated", Number, "bytes", "log.rotate: size of what was rotated."),
    field("archives_removed", Number, "archives", "log.rotate: archives beyond their retention that were removed."),
    field("forced", Flag, "", "dns.failover: the shutdown had failed and the fail-over was forced."),
    field("active", Text, "", "dns.failover: the server that was active afterwards."),
    field("exit", Number, "", "exec: exit status of the program."),
];

const PLAN: &[FieldSpec] = &[
    field("bytes", Number, "bytes", "What the objects that its host listed beforehand hold together."),
    field("items", Number, "objects", "How many objects its host listed beforehand."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_kind_names_a_field_twice() {
        for kind in ProbeKind::ALL {
            let mut seen = BTreeSet::new();
            for spec in all_fields(kind) {
                assert!(seen.insert(spec.name), "{kind} names {} twice", spec.name);
            }
            assert!(COMMON.iter().all(|spec| seen.contains(spec.name)), "{kind} lacks a common field");
        }
    }

    #[test]
    fn every_field_is_explained_in_a_sentence_and_numbers_have_units_in_words() {
        for spec in ProbeKind::ALL.into_iter().flat_map(all_fields).chain(outcome_fields()).chain(plan_fields()) {
            assert!(spec.about.ends_with('.') && spec.about.len() > 10, "{}", spec.name);
            assert!(spec.unit.is_empty() || spec.kind == Number, "{} has a unit and is no number", spec.name);
        }
    }

    #[test]
    fn patterns_add_fields() {
        let log = ProbeSpec::LogMatch {
            path: "/var/log/orders.log".into(),
            pattern: r"Error #(?<error>\d+)".to_owned(),
            before: Some(r"Processing Order (?P<order>\d+)".to_owned()),
            window: 100,
        };
        assert_eq!(log.captured(), ["captures.error", "captures.order"]);
        assert_eq!(log.field_type("captures.order"), Some(Captured));
        assert_eq!(log.field_type("matches"), Some(Number));
        assert_eq!(log.field_type("captures.nothing"), None);
        let tool =
            ProbeSpec::Command { argv: vec!["dnsTool".to_owned()], parse: Some("(?<active>dns[12])".to_owned()) };
        assert_eq!(tool.captured(), ["active"]);
        assert_eq!(tool.field_type("ok"), Some(Flag));
    }

    #[test]
    fn a_files_age_is_the_files_own() {
        let ages: Vec<_> = all_fields(ProbeKind::File).filter(|spec| spec.name == "age").collect();
        assert_eq!(ages.len(), 1);
        assert!(ages[0].about.contains("file"));
    }
}

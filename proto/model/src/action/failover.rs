//! The parameters of `dns.failover`: which server gives way to which, and through what.
//!
//! Both providers compare before they set. The tool is asked who is active; an update of a zone carries what has to stand
//! there as its prerequisite, made of `from`, so that the name server itself refuses a plan that comes late. There is no
//! way to write an update without one.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{file, one_of, program};
use crate::{
    manifest::{
        object::Object,
        schema::{
            Field, Shape,
            shared::{default, optional, required},
        },
    },
    name, unit,
};

/// The longest that resolvers may keep a record that is failed over, seconds.
const LONGEST_TTL: u64 = 86_400;

/// What belongs to the provider `command`, the first of it needed.
const OF_COMMAND: &[&str] = &["tool", "process"];

/// What belongs to the provider `rfc2136`.
const OF_UPDATE: &[&str] = &["server", "zone", "record", "values", "key", "type", "ttl"];

/// What of it has no default.
const NEEDED_BY_UPDATE: &[&str] = &["server", "zone", "record", "values", "key"];

pub(super) const FIELDS: &[Field] = &[
    default(
        "provider",
        Shape::Choice(&["command", "rfc2136"]),
        "command",
        "Through what: a tool of the operator's, or an update of a zone at its name server (RFC 2136), signed with TSIG.",
    ),
    required(
        "from",
        Shape::Text,
        "The server that has to be the active one, else nothing is done; in a policy a `$(value)`.",
    ),
    required("to", Shape::Text, "The server that becomes the active one; in a policy a `$(value)`."),
    optional("servers", Shape::List(&Shape::Text), "All servers that there are; any other name is refused."),
    optional(
        "tool",
        Shape::List(&Shape::Text),
        "`command` needs it: the tool by its absolute path, and its first arguments.",
    ),
    optional(
        "process",
        Shape::Object(PROCESS),
        "`command`: how the DNS process of `from` is known to be dead before anything is forced; without it nothing is.",
    ),
    optional(
        "server",
        Shape::Text,
        "`rfc2136` needs it: the zone's primary by its address, with its port unless that is 53.",
    ),
    optional("zone", Shape::Text, "`rfc2136` needs it: the zone."),
    optional("record", Shape::Text, "`rfc2136` needs it: the record's name without the zone; `@` is the zone itself."),
    default("type", Shape::Choice(&["A", "AAAA", "CNAME"]), "A", "`rfc2136`: the record's type."),
    default(
        "ttl",
        Shape::Duration,
        "30s",
        "`rfc2136`: how long resolvers keep the new record, whole seconds up to 1d.",
    ),
    optional(
        "values",
        Shape::Map(&Shape::Text),
        "`rfc2136` needs it: what the record says while a server is the active one, for each of the servers.",
    ),
    optional(
        "key",
        Shape::Text,
        "`rfc2136` needs it: the name of the TSIG key. Its secret lies on the host, where agent.toml says.",
    ),
];

const PROCESS: &[Field] = &[
    optional("service", Shape::Text, "This service of the host that runs the tool has no process,"),
    optional("pidFile", Shape::Path, "or the process that this file names is gone,"),
    optional("argv", Shape::List(&Shape::Text), "or this program exits with 0, which it does only then."),
];

/// Parameters of `dns.failover`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsFailover {
    /// The server that has to be active: the compare of the compare-and-set.
    pub from: String,
    /// The server that becomes active; never the same.
    pub to: String,
    /// All servers that there are: `from` and `to` are among them; empty: not said.
    pub servers: Vec<String>,
    /// Through what.
    pub provider: DnsProvider,
}

/// Through what a fail-over is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsProvider {
    /// A tool of the operator's.
    Command(DnsTool),
    /// An update of a zone.
    Rfc2136(DnsUpdate),
}

/// A tool that knows who is active and can change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsTool {
    /// The tool and its first arguments; never empty.
    pub tool: Vec<String>,
    /// How the DNS process is known to be dead; absent: it is not, and nothing is forced.
    pub process: Option<DnsProcess>,
}

/// How a DNS process is known to be dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsProcess {
    /// A service of the host that runs the tool: it has no process.
    Service(String),
    /// A file that holds the number of a process: that process is gone. A missing file confirms nothing.
    PidFile(PathBuf),
    /// A program that exits with 0 only when it is dead.
    Run(Vec<String>),
}

/// One record of a zone, what has to stand there and what then stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsUpdate {
    /// The zone's primary.
    pub server: SocketAddr,
    /// The zone, in lower case and without the dot at its end.
    pub zone: String,
    /// The record's name within the zone, in lower case; `@` is the zone itself.
    pub record: String,
    /// How long resolvers keep it, seconds.
    pub ttl: u32,
    /// What it says while `from` is active, and nothing beside it: the update's prerequisite.
    pub from: DnsData,
    /// What it says while `to` is; of the same type, and never the same.
    pub to: DnsData,
    /// The name of the TSIG key, in lower case and without the dot at its end.
    pub key: String,
}

impl DnsUpdate {
    /// The record's whole name, without the dot at its end.
    pub fn owner(&self) -> String {
        owner(&self.record, &self.zone)
    }
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsData {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name, whole, in lower case and without the dot at its end.
    Cname(String),
}

impl DnsData {
    /// The record's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::A(_) => "A",
            Self::Aaaa(_) => "AAAA",
            Self::Cname(_) => "CNAME",
        }
    }

    fn parse(kind: &str, text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} is not {what}, which a record of type {kind} needs");
        match kind {
            "AAAA" => text.parse().map(Self::Aaaa).map_err(|_| wrong("an IPv6 address")),
            "CNAME" => name::canonical_domain(text).map(Self::Cname).map_err(|_| wrong("a whole domain name")),
            _ => text.parse().map(Self::A).map_err(|_| wrong("an IPv4 address")),
        }
    }
}

impl fmt::Display for DnsData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => write!(f, "{address}"),
            Self::Aaaa(address) => write!(f, "{address}"),
            Self::Cname(name) => write!(f, "{name}"),
        }
    }
}

pub(super) fn read(object: &Object<'_>) -> Option<DnsFailover> {
    let provider = object.parsed("provider", |text| one_of(text, &["command", "rfc2136"]).map(str::to_owned));
    let (from, to) = (object.parsed("from", name::server), object.parsed("to", name::server));
    let servers = object.list("servers", name::server);
    if let (Some(from), Some(to)) = (&from, &to) {
        check_pair(object, from, to, &servers);
    }
    let provider = if provider? == "command" {
        only(object, "command", OF_COMMAND, &OF_COMMAND[..1], OF_UPDATE);
        DnsProvider::Command(tool(object)?)
    } else {
        only(object, "rfc2136", OF_UPDATE, NEEDED_BY_UPDATE, OF_COMMAND);
        DnsProvider::Rfc2136(update(object, from.as_ref()?, to.as_ref()?, &servers)?)
    };
    Some(DnsFailover { from: from?, to: to?, servers, provider })
}

fn check_pair(object: &Object<'_>, from: &String, to: &String, servers: &[String]) {
    if from == to {
        object.report.fault(
            object.place_of("to"),
            format!("`from` and `to` are both {from:?}: there is nothing to fail over to"),
        );
    }
    for (field, server) in [("from", from), ("to", to)] {
        if object.has("servers") && !servers.contains(server) {
            let message = format!("`{field}` is {server:?}, which is not one of the servers {}", servers.join(", "));
            object.report.fault(object.place_of(field), message);
        }
    }
}

/// Sees that what the provider needs is there, and nothing of the other one's.
fn only(object: &Object<'_>, provider: &str, own: &[&str], needed: &[&str], others: &[&str]) {
    for field in needed.iter().filter(|field| !object.has(field)) {
        let message = format!("`{}` lacks `{field}`, which the provider {provider} needs", object.path);
        object.report.fault(object.place, message);
    }
    for field in others.iter().filter(|field| object.has(field)) {
        let message = format!("`{field}` is nothing to the provider {provider}, which has {}", own.join(", "));
        object.report.fault(object.place_of_key(field), message);
    }
}

fn tool(object: &Object<'_>) -> Option<DnsTool> {
    let process = object.object("process").and_then(|process| self::process(&process));
    Some(DnsTool { tool: program(object, "tool")?, process })
}

fn process(object: &Object<'_>) -> Option<DnsProcess> {
    match object.exactly_one(&["service", "pidFile", "argv"])? {
        "service" => object.parsed("service", name::unit).map(DnsProcess::Service),
        "pidFile" => object.parsed("pidFile", file).map(DnsProcess::PidFile),
        _ => program(object, "argv").map(DnsProcess::Run),
    }
}

fn update(object: &Object<'_>, from: &str, to: &str, servers: &[String]) -> Option<DnsUpdate> {
    let server = object.parsed("server", name::name_server);
    let zone = object.parsed("zone", name::canonical_domain);
    let record = object.parsed("record", |text| record_in(text, zone.as_deref().unwrap_or_default()));
    let key = object.parsed("key", name::canonical_domain);
    let ttl = object.parsed("ttl", ttl);
    let kind = object.parsed("type", |text| one_of(text, &["A", "AAAA", "CNAME"]).map(str::to_owned))?;
    if kind == "CNAME" && record.as_deref() == Some("@") {
        object.report.fault(object.place_of("record"), "the zone itself cannot be a CNAME: name a record in it");
    }
    let values = values(object, &kind);
    check_values(object, &values, [("from", from), ("to", to)], servers);
    Some(DnsUpdate {
        server: server?,
        zone: zone?,
        record: record?,
        ttl: ttl?,
        from: values.get(from)?.clone(),
        to: values.get(to)?.clone(),
        key: key?,
    })
}

fn values(object: &Object<'_>, kind: &str) -> BTreeMap<String, DnsData> {
    let read = object.members("values").iter().filter_map(|(key, node)| {
        let server = name::server(&key.text).map_err(|error| object.report.fault(key.place, error.to_string())).ok()?;
        let data = object.parse_node("values", node, &Shape::Text, &|text: &str| DnsData::parse(kind, text))?;
        Some((server, data))
    });
    read.collect()
}

/// Each server has a value, nobody else has, and no two have the same: from the record alone it can be told who is active.
fn check_values(object: &Object<'_>, values: &BTreeMap<String, DnsData>, pair: [(&str, &str); 2], servers: &[String]) {
    if !object.has("values") || !object.report.is_clean() {
        return;
    }
    let place = object.place_of("values");
    for (field, server) in pair {
        if !values.contains_key(server) {
            object.report.fault(place, format!("`values` says nothing of {server:?}, which is `{field}`"));
        }
    }
    if object.has("servers") {
        let without = servers.iter().filter(|server| !values.contains_key(*server));
        without
            .for_each(|server| object.report.fault(place, format!("`values` says nothing of the server {server:?}")));
        let strangers = values.keys().filter(|server| !servers.contains(server));
        strangers.for_each(|server| {
            object.report.fault(place, format!("`values` has {server:?}, which is not one of the servers"));
        });
    }
    let mut seen = BTreeMap::new();
    for (server, data) in values {
        if let Some(other) = seen.insert(data, server) {
            let message =
                format!("`values` says {data} for {other:?} and {server:?}: nobody could tell which is active");
            object.report.fault(place, message);
        }
    }
}

/// A record's name within a zone.
fn record_in(text: &str, zone: &str) -> Result<String, String> {
    if text == "@" {
        return Ok(text.to_owned());
    }
    let record = name::canonical_domain(text).map_err(|error| error.to_string())?;
    if text.ends_with('.') || record == zone || record.strip_suffix(zone).is_some_and(|front| front.ends_with('.')) {
        return Err(format!("`record` is written without its zone, `www` or `@` for the zone itself, not {text:?}"));
    }
    name::canonical_domain(&owner(&record, zone)).map_err(|error| error.to_string())?;
    Ok(record)
}

fn owner(record: &str, zone: &str) -> String {
    if record == "@" { zone.to_owned() } else { format!("{record}.{zone}") }
}

fn ttl(text: &str) -> Result<u32, String> {
    let ttl = unit::duration(text).map_err(|error| error.to_string())?;
    let whole = ttl == Duration::from_secs(ttl.as_secs()) && (1..=LONGEST_TTL).contains(&ttl.as_secs());
    let seconds = u32::try_from(ttl.as_secs()).ok().filter(|_| whole);
    seconds.ok_or_else(|| format!("`ttl` is whole seconds, from 1s to 1d, not {text}"))
}

//! Probes, from manifests and from assignments.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    action::{argv, whole},
    digest::canonical,
    manifest::{node::Node, object::Object},
    name,
    probe::{Probe, ProbeSpec, Reach},
    selector::{Placement, Selector},
    unit::{self, duration_text},
};

/// Record types that a `dns` probe can ask for.
pub(crate) const RECORDS: &[&str] = &["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"];

/// The kinds, as the keys that name them.
const KINDS: [&str; 9] = ["http", "tcp", "tls", "dns", "process", "service", "logMatch", "file", "command"];

/// Reads a probe.
pub(crate) fn probe(object: &Object<'_>) -> Option<Probe> {
    let on = super::parts::probe_placement(object, "on");
    let every = object.parsed("every", |text| match unit::duration(text) {
        Ok(every) if every < Duration::from_secs(1) => Err(format!("{text} is too often: at least 1s")),
        other => other.map_err(|error| error.to_string()),
    });
    let timeout = timeout(object, every);
    let kind = object.exactly_one(&KINDS)?;
    let node = object.node(kind)?;
    let spec = spec(kind, &object.object(kind)?);
    let (spec, every, timeout) = (spec?, every?, timeout?);
    let canonical = canonical_probe(kind, node, every, timeout);
    Some(Probe { spec, every, timeout, on, canonical })
}

/// What stands for a probe that is wrong, so that conditions on it are still checked and nobody reads that there is no
/// such probe. Its patterns are kept for the fields that they declare.
pub(super) fn stand_in(node: &Node) -> Option<Probe> {
    let (kind, inner) = KINDS.iter().find_map(|kind| Some((*kind, node.get(kind)?)))?;
    let text = |field: &str| inner.get(field).and_then(Node::text).map(str::to_owned);
    let path = std::path::PathBuf::new;
    let spec = match kind {
        "http" => ProbeSpec::Http { url: String::new(), status: None, body: None },
        "tcp" => ProbeSpec::Tcp { address: String::new() },
        "tls" => ProbeSpec::Tls { address: String::new(), name: None },
        "dns" => ProbeSpec::Dns {
            server: std::net::Ipv4Addr::UNSPECIFIED.into(),
            port: 53,
            name: String::new(),
            record: String::new(),
            reach: None,
        },
        "process" => ProbeSpec::Process { name: None, command: None },
        "service" => ProbeSpec::Service { name: String::new() },
        "logMatch" => ProbeSpec::LogMatch {
            path: path(),
            pattern: text("pattern").unwrap_or_default(),
            before: text("before"),
            window: 100,
        },
        "file" => ProbeSpec::File { path: path(), parse: None },
        _ => ProbeSpec::Command { argv: Vec::new(), parse: text("parse") },
    };
    // One host, so that a fault in the placement does not bring a second one about quorums.
    let on = Some(Placement { selector: Selector::All, pick: Some(1) });
    Some(Probe { spec, every: Duration::from_secs(15), timeout: Duration::from_secs(5), on, canonical: String::new() })
}

fn timeout(object: &Object<'_>, every: Option<Duration>) -> Option<Duration> {
    let written = object.has("timeout");
    let timeout = object.parsed("timeout", unit::duration)?;
    match every {
        Some(every) if !written => Some(timeout.min(every)),
        Some(every) if timeout > every => {
            let message = format!("`timeout` is longer than `every` ({})", duration_text(every));
            object.report.fault(object.place_of("timeout"), message);
            None
        }
        _ if timeout.is_zero() => {
            object.report.fault(object.place_of("timeout"), "a `timeout` of nothing always fails");
            None
        }
        _ => Some(timeout),
    }
}

/// What is sent to agents: the same text for the same measurement, however the manifest spelled its times.
fn canonical_probe(kind: &str, node: &Node, every: Duration, timeout: Duration) -> String {
    let members: Map<String, Value> = [
        (kind.to_owned(), node.to_json()),
        ("every".to_owned(), Value::String(duration_text(every))),
        ("timeout".to_owned(), Value::String(duration_text(timeout))),
    ]
    .into_iter()
    .collect();
    canonical(&Value::Object(members))
}

fn spec(kind: &str, object: &Object<'_>) -> Option<ProbeSpec> {
    match kind {
        "http" => http(object),
        "tcp" => Some(ProbeSpec::Tcp { address: object.parsed("address", name::address)? }),
        "tls" => tls(object),
        "dns" => dns(object),
        "process" => process(object),
        "service" => Some(ProbeSpec::Service { name: object.parsed("name", name::unit)? }),
        "logMatch" => log_match(object),
        "file" => {
            let parse = object.parsed("parse", name::pattern);
            Some(ProbeSpec::File { path: object.parsed("path", name::path)?, parse })
        }
        _ => {
            let parse = object.parsed("parse", name::pattern);
            Some(ProbeSpec::Command { argv: argv(object, "argv")?, parse })
        }
    }
}

fn http(object: &Object<'_>) -> Option<ProbeSpec> {
    let status = object.parsed("status", |text| {
        whole(text, 100, 599).and_then(|status| u16::try_from(status).map_err(|error| error.to_string()))
    });
    let body = object.parsed("body", name::pattern);
    Some(ProbeSpec::Http { url: object.parsed("url", name::url)?, status, body })
}

fn tls(object: &Object<'_>) -> Option<ProbeSpec> {
    let name = object.parsed("name", name::domain);
    Some(ProbeSpec::Tls { address: object.parsed("address", name::address)?, name })
}

fn dns(object: &Object<'_>) -> Option<ProbeSpec> {
    let server = object.parsed("server", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an IP address: a DNS server is probed by its address"))
    });
    let port = object.parsed("port", port_of);
    let name = object.parsed("name", name::domain);
    let record = object.parsed("record", |text| {
        let known = RECORDS.contains(&text);
        if known {
            Ok(text.to_owned())
        } else {
            Err(format!("`record` is one of {}, not {text:?}", RECORDS.join(", ")))
        }
    });
    let reach = object.parsed("reach", |text| match text.split_once('/') {
        Some(("tcp", number)) => port_of(number).map(Reach::Tcp),
        _ => Err(format!("`reach` is tcp/PORT, like tcp/22, not {text:?}")),
    });
    Some(ProbeSpec::Dns { server: server?, port: port?, name: name?, record: record?, reach })
}

fn port_of(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{text} is not a port: 1 to 65535"))
}

fn process(object: &Object<'_>) -> Option<ProbeSpec> {
    match object.exactly_one(&["name", "command"])? {
        "name" => Some(ProbeSpec::Process { name: Some(object.text("name")?), command: None }),
        _ => Some(ProbeSpec::Process { name: None, command: Some(object.parsed("command", name::pattern)?) }),
    }
}

fn log_match(object: &Object<'_>) -> Option<ProbeSpec> {
    let (path, pattern) = (object.parsed("path", name::path), object.parsed("pattern", name::pattern));
    let before = object.parsed("before", name::pattern);
    let window = object.parsed("window", |text| whole(text, 1, 10_000));
    Some(ProbeSpec::LogMatch { path: path?, pattern: pattern?, before, window: window? })
}

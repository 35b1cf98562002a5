//! From the state to what people and programs read. Pure: the state, live facts and a time in, messages out.

mod host;
mod incident;
mod manifest;
mod plan;
mod policy;
mod record;
mod shadow;
mod status;
mod verdict;
mod window;

use jiff::Timestamp;
use quell_engine::{State, state::Hold};
use quell_model::{
    name::{HostName, Target},
    selector::{Labels, Selector},
};
use quell_wire::v1::HoldView;
use serde::Serialize;

pub use self::{
    record::record,
    verdict::{verdict, verdict_of_row},
};
use crate::registry::LiveFacts;

/// Makes views of a state at a time.
pub struct Viewer<'a> {
    /// The state.
    pub state: &'a State,
    /// What is known of a host besides.
    pub live: &'a dyn Fn(&HostName) -> LiveFacts,
    /// The time.
    pub now: Timestamp,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Every label must match; empty: any.
    pub labels: Labels,
    /// Only this one; empty: any.
    pub name: String,
    /// Those that are over as well.
    pub all: bool,
}

impl Filter {
    /// Whether an object with this name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.name.is_empty() || self.name == name
    }

    /// Whether labels satisfy the filter.
    fn wants_labels(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Viewer<'_> {
    /// Whether a target lies on a host whose labels satisfy the filter; the fleet does when nothing is asked.
    fn wants_target(&self, filter: &Filter, target: &Target) -> bool {
        if filter.labels.is_empty() {
            return true;
        }
        let host = target.host().and_then(|host| self.state.hosts.get(host));
        host.is_some_and(|host| filter.wants_labels(&host.labels))
    }
}

/// A "no", and what it is about.
pub fn hold(what: &impl ToString, hold: &Hold) -> HoldView {
    HoldView {
        what: what.to_string(),
        guard: hold.guard.clone(),
        reason: hold.reason.clone(),
        until: hold.until.map(time),
        since: Some(time(hold.since)),
    }
}

/// A time, as views show it: RFC 3339 in UTC.
pub fn time(time: Timestamp) -> String {
    time.to_string()
}

/// The word that a value has everywhere: in rows, in views, in labels of metrics.
pub fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A selector in the form that the CLI takes.
pub fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Nobody => "nobody".to_owned(),
        Selector::All => "all".to_owned(),
        Selector::Labels(labels) => {
            let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(",")
        }
    }
}

#[cfg(test)]
mod tests;

//! What the controller counts of itself: `/metrics`.
//!
//! Counters are kept here as things happen; gauges are computed from the state when somebody asks.

mod measured;

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use quell_engine::{
    State,
    state::{HostState, IncidentState, OutcomeKind, PlanState},
};
use quell_model::policy::{Manifest, Mode};

pub use self::measured::Measured;

/// One label.
type Label = [(&'static str, String); 1];
/// Two labels.
type Labels = [(&'static str, String); 2];

/// What is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    /// Samples taken in.
    pub samples: Counter,
    /// Samples among them that had waited in a spool.
    pub samples_spooled: Counter,
    /// Samples that agents had to drop.
    pub samples_dropped: Counter,
    /// How long commits take, seconds.
    pub commits: Histogram,
    outcomes: Family<Label, Counter>,
    notifications: Family<Labels, Counter>,
    registry: Registry,
}

/// What is known at the moment of asking, besides the state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// Hosts with a session.
    pub sessions: usize,
    /// Number of the newest record.
    pub sequence: u64,
    /// Inputs that wait for the decider: requests of people, everything else.
    pub waiting: (usize, usize),
    /// Whether the disk is full.
    pub is_full: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 100 µs to 3.3 s: a sync of a good disk takes about a millisecond.
        let commits = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let (samples, samples_spooled, samples_dropped) = Default::default();
        let (outcomes, notifications) = Default::default();
        let mut metrics = Self {
            samples,
            samples_spooled,
            samples_dropped,
            commits,
            outcomes,
            notifications,
            registry: Registry::with_prefix("quell"),
        };
        let registry = &mut metrics.registry;
        registry.register("samples", "Samples taken in", metrics.samples.clone());
        registry.register(
            "samples_spooled",
            "Samples taken in that had waited in an agent's spool, which are counted and never judged",
            metrics.samples_spooled.clone(),
        );
        registry.register("samples_dropped", "Samples that agents had to drop", metrics.samples_dropped.clone());
        registry.register(
            "commit_duration_seconds",
            "Time from handing changes to the store until they are durable",
            metrics.commits.clone(),
        );
        registry.register("command_outcomes", "Commands that ended, by outcome", metrics.outcomes.clone());
        registry.register(
            "notifications",
            "Attempts to deliver a message to a contact, by channel and result",
            metrics.notifications.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Starts at nothing.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A command ended.
    pub fn command_ended(&self, outcome: OutcomeKind) {
        self.outcomes.get_or_create(&[("outcome", name_of(&outcome))]).inc();
    }

    /// A message was delivered through a channel, or was not.
    pub fn notified(&self, channel: &'static str, delivered: bool) {
        let result = if delivered { "delivered" } else { "failed" };
        self.notifications.get_or_create(&[("channel", channel.to_owned()), ("result", result.to_owned())]).inc();
    }

    /// Everything, in Prometheus's text format 0.0.4.
    ///
    /// # Errors
    /// A metric cannot be written.
    pub fn render(&self, state: &State, moment: &Moment) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &gauges(state, moment))?;
        Ok(without_open_metrics(&text))
    }
}

/// What follows from the state and the moment.
fn gauges(state: &State, moment: &Moment) -> Registry {
    let mut registry = Registry::with_prefix("quell");
    registry.register("build_info", "The controller's version", one("version", env!("CARGO_PKG_VERSION")));
    registry.register("hosts", "Hosts, by how they stand", counts("state", host_states(), hosts(state)));
    registry.register("sessions", "Agents that are connected", gauge(moment.sessions));
    registry.register(
        "incidents",
        "Incidents, by how they stand",
        counts("state", incident_states(), incidents(state)),
    );
    registry.register("plans", "Plans, by how they stand", counts("state", plan_states(), plans(state)));
    registry.register("holds", "Plans and incidents that something holds back", gauge(holds(state)));
    registry.register("policies", "Policies, by mode", counts("mode", modes(), policies(state)));
    let waiting = [("urgent".to_owned(), moment.waiting.0), ("ordinary".to_owned(), moment.waiting.1)];
    registry.register("decider_waiting", "Inputs that wait for the decider", counts("lane", [], waiting));
    registry.register("store_full", "1 while the disk is full and new plans are held", gauge(moment.is_full.into()));
    let records = prometheus_client::metrics::counter::ConstCounter::new(moment.sequence);
    registry.register("records", "Records in the log since it began", Collected(records));
    registry
}

/// A constant counter as a metric of its own.
#[derive(Debug)]
struct Collected(prometheus_client::metrics::counter::ConstCounter<u64>);

impl prometheus_client::encoding::EncodeMetric for Collected {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        prometheus_client::encoding::EncodeMetric::encode(&self.0, encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        prometheus_client::metrics::MetricType::Counter
    }
}

fn hosts(state: &State) -> impl Iterator<Item = (String, usize)> {
    state.hosts.values().map(|host| (name_of(&host.state), 1))
}

fn incidents(state: &State) -> impl Iterator<Item = (String, usize)> {
    state.incidents.values().map(|incident| (name_of(&incident.state), 1))
}

fn plans(state: &State) -> impl Iterator<Item = (String, usize)> {
    state.plans.values().map(|plan| (name_of(&plan.state), 1))
}

fn policies(state: &State) -> impl Iterator<Item = (String, usize)> {
    state.manifests.values().filter_map(|stored| match &stored.manifest {
        Manifest::Policy(policy) => Some((name_of(&policy.mode), 1)),
        _ => None,
    })
}

fn holds(state: &State) -> usize {
    let plans = state.plans.values().filter(|plan| plan.hold.is_some() && !plan.state.has_ended());
    let incidents = state
        .incidents
        .values()
        .filter(|incident| incident.hold.is_some() && incident.state != IncidentState::Resolved);
    plans.count() + incidents.count()
}

/// States that are shown although no host is in them.
fn host_states() -> [String; 3] {
    [HostState::Online, HostState::Lost, HostState::Revoked].map(|state| name_of(&state))
}

/// States that are shown although no incident is in them.
fn incident_states() -> [String; 3] {
    [IncidentState::Open, IncidentState::Acknowledged, IncidentState::Mitigated].map(|state| name_of(&state))
}

/// States that are shown although no plan is in them: those of plans that are not over.
fn plan_states() -> [String; 5] {
    [PlanState::Previewing, PlanState::Proposed, PlanState::Held, PlanState::Running, PlanState::Verifying]
        .map(|state| name_of(&state))
}

/// Modes that are shown although no policy has them.
fn modes() -> [String; 3] {
    [Mode::Observe, Mode::Propose, Mode::Enforce].map(|mode| name_of(&mode))
}

/// The name that a value has everywhere: in rows, in `-o json`, in labels.
fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

fn one(label: &'static str, value: &str) -> Family<Label, Gauge> {
    counts(label, [], [(value.to_owned(), 1)])
}

/// A gauge for each value of a label, those listed first being there even at 0.
fn counts(
    label: &'static str,
    listed: impl IntoIterator<Item = String>,
    counted: impl IntoIterator<Item = (String, usize)>,
) -> Family<Label, Gauge> {
    let mut sums: BTreeMap<String, usize> = listed.into_iter().map(|value| (value, 0)).collect();
    for (value, count) in counted {
        *sums.entry(value).or_default() += count;
    }
    let family = Family::<Label, Gauge>::default();
    for (value, sum) in sums {
        family.get_or_create(&[(label, value)]).set(i64::try_from(sum).unwrap_or(i64::MAX));
    }
    family
}

/// Turns what the encoder writes, OpenMetrics, into the older text format, which every scraper and `promtool` read:
/// there a counter's help and type bear the name that its samples have.
fn without_open_metrics(text: &str) -> String {
    let counters: std::collections::BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if counters.contains(name) => {
                out.push_str(&format!("# {keyword} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// Labels of this kind can be encoded; held here so that a change of the library is seen at compile time.
const _: fn() = || {
    fn is_label_set<T: EncodeLabelSet>() {}
    is_label_set::<Label>();
    is_label_set::<Labels>();
};

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered() -> String {
        let metrics = Metrics::default();
        metrics.samples.inc_by(3);
        metrics.commits.observe(0.002);
        metrics.command_ended(OutcomeKind::NoChange);
        metrics.notified("webhook", false);
        metrics.render(&State::default(), &Moment { sequence: 17, sessions: 2, ..Moment::default() }).unwrap()
    }

    #[test]
    fn every_sample_has_help_and_a_type_under_its_own_name() {
        let text = rendered();
        let mut families = std::collections::BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name, kind).is_none(), "{name} twice");
                assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            }
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let kind = families.get(family).unwrap_or_else(|| panic!("{name} has no type"));
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(name.starts_with("quell_"), "{name}");
        }
        assert!(!text.contains("# EOF") && text.ends_with('\n'));
    }

    #[test]
    fn the_dashboard_asks_for_metrics_that_there_are() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../deploy/grafana.json")).expect("the dashboard is JSON");
        let text = rendered();
        let mut asked = std::collections::BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let words = target["expr"].as_str().unwrap().split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                asked.extend(words.filter(|word| word.starts_with("quell_")));
            }
        }
        assert!(asked.len() > 10, "{asked:?}");
        for name in asked {
            let is_there = text.lines().any(|line| {
                line.starts_with(&format!("# TYPE {name} ")) || line.split(['{', ' ']).next() == Some(name)
            });
            assert!(is_there, "{name} is not in\n{text}");
        }
    }

    #[test]
    fn counters_and_gauges_have_their_values() {
        let text = rendered();
        for line in [
            "quell_samples_total 3",
            "quell_records_total 17",
            "quell_sessions 2",
            "quell_hosts{state=\"online\"} 0",
            "quell_command_outcomes_total{outcome=\"noChange\"} 1",
            "quell_notifications_total{channel=\"webhook\",result=\"failed\"} 1",
            "quell_commit_duration_seconds_count 1",
            "quell_store_full 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}

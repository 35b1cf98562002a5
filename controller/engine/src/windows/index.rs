//! Which policy watches which host with which probe, compiled from the manifests and the hosts, kept up by difference.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use imbl::{OrdMap, ordmap::DiffItem};
use quell_model::{
    condition::Condition,
    name::{FullName, HostName},
    policy::{Manifest, Policy, TargetRule, Trigger},
    probe::ProbeKey,
    selector::{Placement, Selector},
};

use super::HOST_EVERY;
use crate::state::{Assignment, HostRow, HostState, State, StoredManifest};

/// How the name `host` is called where probes are named.
pub(crate) const HOST_PROBE: &str = "host";

/// What is compiled from the state.
#[derive(Debug, Default)]
pub(crate) struct Index {
    manifests: OrdMap<(String, FullName), Arc<StoredManifest>>,
    hosts: OrdMap<HostName, Arc<HostRow>>,
    policies: BTreeMap<FullName, Arc<Compiled>>,
    by_probe: HashMap<ProbeKey, Arc<Vec<FullName>>>,
    every: HashMap<ProbeKey, Duration>,
    series: HashMap<ProbeKey, Vec<(String, Duration)>>,
    assigned: BTreeMap<HostName, Vec<Assignment>>,
}

/// A policy with the hosts and probes that it means at the moment.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// The policy.
    pub(crate) policy: Arc<Policy>,
    /// Enrolled hosts that it chooses.
    pub(crate) observers: BTreeSet<HostName>,
    /// Its probes by name, `host` among them.
    pub(crate) probes: BTreeMap<String, Source>,
    /// Whether a signal of it asks several observers.
    pub(crate) has_quorum: bool,
    /// Whether what it judges can change though no sample says anything new.
    pub(crate) depends_on_time: bool,
}

/// Where the samples of a policy's probe come from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The probe's key.
    pub(crate) key: ProbeKey,
    /// Where it runs, when it gives one value for the whole fleet.
    pub(crate) placed: Option<Placed>,
}

/// A probe, or a step, that runs on chosen hosts.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    rule: Placement,
    /// Online hosts that may be taken.
    candidates: BTreeSet<HostName>,
    /// Those that are: once taken, a host stays while it can.
    pub(crate) taken: Vec<HostName>,
}

/// What changed in the index.
#[derive(Debug, Default)]
pub(crate) struct Reindexed {
    /// Policies that are new, changed or gone, or mean other hosts.
    pub(crate) policies: BTreeSet<FullName>,
    /// Hosts whose list of probes is another now.
    pub(crate) assignments: BTreeSet<HostName>,
}

impl Index {
    /// A policy that is in force.
    pub(crate) fn policy(&self, name: &FullName) -> Option<&Arc<Compiled>> {
        self.policies.get(name)
    }

    /// The policies that read a probe.
    pub(crate) fn readers(&self, key: &ProbeKey) -> Arc<Vec<FullName>> {
        self.by_probe.get(key).cloned().unwrap_or_default()
    }

    /// How often a probe is sampled.
    pub(crate) fn every(&self, key: &ProbeKey) -> Duration {
        self.every.get(key).copied().unwrap_or(HOST_EVERY)
    }

    /// The series of a probe that need a history, and how long a one.
    pub(crate) fn series(&self, key: &ProbeKey) -> &[(String, Duration)] {
        self.series.get(key).map_or(&[], Vec::as_slice)
    }

    /// The probes of a host.
    pub(crate) fn assignments(&self, host: &HostName) -> &[Assignment] {
        self.assigned.get(host).map_or(&[], Vec::as_slice)
    }

    /// Brings the index up to date with the state; says what that changed.
    pub(crate) fn update(&mut self, state: &State) -> Reindexed {
        let mut changed = Reindexed::default();
        if !self.manifests.ptr_eq(&state.manifests) {
            self.take_manifests(state, &mut changed);
        }
        if !self.hosts.ptr_eq(&state.hosts) {
            self.take_hosts(state, &mut changed);
        }
        changed
    }

    fn take_manifests(&mut self, state: &State, changed: &mut Reindexed) {
        for item in self.manifests.diff(&state.manifests) {
            let (DiffItem::Add(_, stored) | DiffItem::Remove(_, stored) | DiffItem::Update { new: (_, stored), .. }) =
                item;
            if let Manifest::Policy(policy) = &stored.manifest {
                changed.policies.insert(policy.name.clone());
            }
        }
        self.manifests = state.manifests.clone();
        for name in &changed.policies {
            self.policies.remove(name);
            if let Some(stored) = self.manifests.get(&("Policy".to_owned(), name.clone()))
                && let Manifest::Policy(policy) = &stored.manifest
            {
                self.policies.insert(name.clone(), Arc::new(Compiled::new(policy, &self.hosts)));
            }
        }
        self.recompile();
        let hosts: Vec<HostName> = self.hosts.keys().cloned().collect();
        for host in hosts {
            self.assign(&host, changed);
        }
    }

    /// Builds what depends on the policies only.
    fn recompile(&mut self) {
        self.by_probe.clear();
        self.every.clear();
        self.series.clear();
        for (name, compiled) in &self.policies {
            for (probe, source) in &compiled.probes {
                if probe == HOST_PROBE && !compiled.reads_host() {
                    continue;
                }
                let readers = Arc::make_mut(self.by_probe.entry(source.key.clone()).or_default());
                if readers.last() != Some(name) {
                    readers.push(name.clone());
                }
            }
            for probe in compiled.policy.probes.values() {
                self.every.insert(probe.key(), probe.every);
            }
            for (key, field, span) in compiled.series() {
                let wanted = self.series.entry(key).or_default();
                match wanted.iter_mut().find(|(other, _)| *other == field) {
                    Some((_, longest)) => *longest = (*longest).max(span),
                    None => wanted.push((field, span)),
                }
            }
        }
    }

    fn take_hosts(&mut self, state: &State, changed: &mut Reindexed) {
        let mut moved = Vec::new();
        for item in self.hosts.diff(&state.hosts) {
            match item {
                DiffItem::Add(name, _) | DiffItem::Remove(name, _) => moved.push(name.clone()),
                DiffItem::Update { old: (name, old), new: (_, new) } => {
                    if old.labels != new.labels || old.state != new.state {
                        moved.push(name.clone());
                    }
                }
            }
        }
        self.hosts = state.hosts.clone();
        let mut replaced = BTreeSet::new();
        for host in &moved {
            let row = self.hosts.get(host).cloned();
            for (name, compiled) in &mut self.policies {
                if Arc::make_mut(compiled).move_host(host, row.as_deref(), &mut replaced) {
                    changed.policies.insert(name.clone());
                }
            }
        }
        for host in moved.iter().chain(&replaced) {
            self.assign(host, changed);
        }
    }

    /// Works out a host's list of probes.
    fn assign(&mut self, host: &HostName, changed: &mut Reindexed) {
        let mut list: BTreeMap<ProbeKey, Assignment> = BTreeMap::new();
        for (name, compiled) in &self.policies {
            let observes = compiled.observers.contains(host);
            for (probe_name, probe) in &compiled.policy.probes {
                let Some(source) = compiled.probes.get(probe_name) else { continue };
                let runs_here = source.placed.as_ref().map_or(observes, |placed| placed.taken.contains(host));
                if runs_here {
                    list.entry(source.key.clone())
                        .or_insert_with(|| Assignment {
                            key: source.key.clone(),
                            spec: probe.canonical.clone(),
                            policies: Vec::new(),
                        })
                        .policies
                        .push(name.clone());
                }
            }
        }
        let list: Vec<Assignment> = list.into_values().collect();
        if self.assigned.get(host).map_or(&[] as &[Assignment], Vec::as_slice) != list.as_slice() {
            changed.assignments.insert(host.clone());
            self.assigned.insert(host.clone(), list);
        }
    }
}

impl Compiled {
    fn new(policy: &Arc<Policy>, hosts: &OrdMap<HostName, Arc<HostRow>>) -> Self {
        let mut probes: BTreeMap<String, Source> = policy
            .probes
            .iter()
            .map(|(name, probe)| {
                let placed = probe.on.as_ref().map(|rule| Placed {
                    rule: rule.clone(),
                    candidates: BTreeSet::new(),
                    taken: Vec::new(),
                });
                (name.clone(), Source { key: probe.key(), placed })
            })
            .collect();
        probes.insert(HOST_PROBE.to_owned(), Source { key: ProbeKey::host(), placed: None });
        let has_quorum = policy.signals.values().any(|signal| signal.quorum.is_some());
        let mut compiled =
            Self { policy: Arc::clone(policy), observers: BTreeSet::new(), probes, has_quorum, depends_on_time: true };
        compiled.depends_on_time = compiled.trigger_depends_on_time();
        let mut replaced = BTreeSet::new();
        for (host, row) in hosts {
            compiled.move_host(host, Some(row), &mut replaced);
        }
        compiled
    }

    /// Takes in that a host came, went or changed; says whether the policy means other hosts now. Hosts that are taken
    /// or dropped for a placed probe on the way are added to `replaced`.
    fn move_host(&mut self, host: &HostName, row: Option<&HostRow>, replaced: &mut BTreeSet<HostName>) -> bool {
        let observes = row.is_some_and(|row| is_enrolled(row) && self.policy.hosts.matches(&row.labels));
        let mut changed = set_member(&mut self.observers, host, observes);
        for source in self.probes.values_mut() {
            if let Some(placed) = &mut source.placed {
                let is_candidate =
                    row.is_some_and(|row| row.state == HostState::Online && placed.rule.selector.matches(&row.labels));
                if set_member(&mut placed.candidates, host, is_candidate) {
                    changed |= placed.retake(replaced);
                }
            }
        }
        changed
    }

    /// The field that a name means when it speaks of the policy's element: `disk.used_percent`.
    pub(crate) fn element_field<'n>(&self, name: &'n str) -> Option<&'n str> {
        match &self.policy.target {
            TargetRule::Each { variable, .. } => name.strip_prefix(variable.as_str())?.strip_prefix('.'),
            _ => None,
        }
    }

    /// The interval of its slowest probe.
    pub(crate) fn slowest(&self, index: &Index) -> Duration {
        self.probes.values().map(|source| index.every(&source.key)).max().unwrap_or(HOST_EVERY)
    }

    /// Whether a condition reads histories, itself or through a signal.
    pub(crate) fn looks_back(&self, condition: &Condition) -> bool {
        let signals = condition.signals().iter().filter_map(|name| self.policy.signals.get(name));
        !condition.derived().is_empty() || signals.into_iter().any(|signal| !signal.that.derived().is_empty())
    }

    /// The names of the probes that a condition may read, through signals and values too.
    pub(crate) fn reads(&self, condition: &Condition) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = condition.probes().iter().cloned().collect();
        for signal in condition.signals().iter().filter_map(|name| self.policy.signals.get(name)) {
            names.extend(signal.that.probes().iter().cloned());
        }
        names.extend(self.policy.values.iter().flat_map(|value| value.is.probes().iter().cloned()));
        names
    }

    /// Whether host samples can change what it judges.
    fn reads_host(&self) -> bool {
        matches!(self.policy.target, TargetRule::Each { .. })
            || self.conditions().iter().any(|condition| self.reads(condition).contains(HOST_PROBE))
            || self.policy.values.iter().any(|value| value.is.probes().iter().any(|probe| probe == HOST_PROBE))
    }

    /// Whether the trigger can become another truth by the passing of time alone: it looks back, or at an age.
    fn trigger_depends_on_time(&self) -> bool {
        let Trigger::When { when, clear, .. } = &self.policy.trigger else { return true };
        let moves = |condition: &Condition| {
            !condition.derived().is_empty() || condition.text.contains(".age") || condition.text.contains("acted")
        };
        let own = [Some(when), clear.as_ref()];
        let named = own.into_iter().flatten().flat_map(|condition| condition.signals());
        let of_signals = named.filter_map(|name| self.policy.signals.get(name)).any(|signal| {
            // A signal that names others is not looked into: it is judged each time.
            moves(&signal.that) || !signal.that.signals().is_empty()
        });
        of_signals
            || own.into_iter().flatten().any(moves)
            || self.policy.values.iter().any(|value| value.is.text.contains(".age"))
    }

    /// All its conditions.
    fn conditions(&self) -> Vec<&Condition> {
        let policy = &self.policy;
        let mut conditions: Vec<&Condition> = policy.signals.values().map(|signal| &signal.that).collect();
        if let Trigger::When { when, clear, .. } = &policy.trigger {
            conditions.push(when);
            conditions.extend(clear);
        }
        conditions.extend(policy.tell.iter().filter_map(|tell| tell.when.as_ref()));
        for rung in &policy.ladder {
            conditions.extend(&rung.only_if);
            conditions.extend(&rung.unless);
            conditions.extend(rung.require.iter().map(|require| &require.that));
            conditions.extend(rung.approval.as_ref().and_then(|approval| approval.only_if.as_ref()));
            conditions.extend(rung.verify.as_ref().map(|verify| &verify.that));
        }
        conditions
    }

    /// The series that its conditions want a history of.
    fn series(&self) -> Vec<(ProbeKey, String, Duration)> {
        self.conditions()
            .iter()
            .flat_map(|condition| condition.derived())
            .filter_map(|derived| {
                let source = self.probes.get(&derived.probe)?;
                Some((source.key.clone(), derived.field.clone(), derived.span))
            })
            .collect()
    }
}

impl Placed {
    /// Chooses again, keeping what was chosen as long as it can be.
    fn retake(&mut self, replaced: &mut BTreeSet<HostName>) -> bool {
        let most = self.rule.pick.map_or(usize::MAX, |pick| pick as usize);
        let mut taken: Vec<HostName> =
            self.taken.iter().filter(|host| self.candidates.contains(*host)).take(most).cloned().collect();
        for host in &self.candidates {
            if taken.len() >= most {
                break;
            }
            if !taken.contains(host) {
                taken.push(host.clone());
            }
        }
        let changed = taken != self.taken;
        if changed {
            replaced.extend(taken.iter().chain(&self.taken).cloned());
            self.taken = taken;
        }
        changed
    }
}

/// Whether a host belongs to the fleet.
pub(crate) fn is_enrolled(row: &HostRow) -> bool {
    matches!(row.state, HostState::Online | HostState::Lost)
}

/// The hosts that a placement means now, in the order of their names; online ones only, when some are to be picked.
pub(crate) fn place(state: &State, selector: &Selector, pick: Option<u32>) -> Vec<HostName> {
    let chosen = state.hosts.iter().filter(|(_, row)| {
        selector.matches(&row.labels) && if pick.is_some() { row.state == HostState::Online } else { is_enrolled(row) }
    });
    chosen.map(|(name, _)| name.clone()).take(pick.map_or(usize::MAX, |pick| pick as usize)).collect()
}

/// Makes something a member of a set or not; says whether that changed it.
fn set_member(set: &mut BTreeSet<HostName>, member: &HostName, is_member: bool) -> bool {
    if is_member { set.insert(member.clone()) } else { set.remove(member) }
}

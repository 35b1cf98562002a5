//! Which policy watches which host with which probe, compiled from the manifests and the hosts, kept up by difference.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use imbl::{OrdMap, ordmap::DiffItem};
use quell_model::{
    condition::{Condition, Derived, Expression, Over, Reference},
    name::{FullName, HostName},
    policy::{Family, Manifest, Once, Policy, TargetRule, Trigger},
    probe::ProbeKey,
    selector::{Placement, Selector},
    value::Fields,
};

use super::HOST_EVERY;
use crate::{
    fault,
    state::{Assignment, HostRow, HostState, State, StoredManifest},
};

/// How the name `host` is called where probes are named.
pub(crate) const HOST_PROBE: &str = "host";

/// What is compiled from the state.
#[derive(Debug, Default)]
pub(crate) struct Index {
    manifests: OrdMap<(String, FullName), Arc<StoredManifest>>,
    hosts: OrdMap<HostName, Arc<HostRow>>,
    /// By name.
    policies: Vec<Arc<Compiled>>,
    probes: HashMap<ProbeKey, Arc<Use>>,
    assigned: BTreeMap<HostName, Vec<Assignment>>,
}

/// What is done with the samples of a probe.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    /// How often it is sampled.
    pub(super) every: Duration,
    /// The policies that read it.
    pub(crate) readers: Vec<Reader>,
    /// The series that need a history.
    pub(crate) series: Vec<Series>,
}

/// A policy that reads a probe.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// The policy's place among all.
    policy: usize,
    /// The fields that any of its conditions and values reads.
    fields: BTreeSet<String>,
    /// Of elements of the host: family and field.
    element_fields: BTreeSet<(Family, String)>,
}

/// A series that needs a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    /// The field; `$` stands for any element.
    pub(crate) field: String,
    /// The longest span that is asked for.
    pub(crate) span: Duration,
    /// The spans that forecasts are asked for.
    pub(crate) forecasts: Vec<Duration>,
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
    /// Whether host samples can change what it judges.
    reads_host: bool,
    /// The problem that a fault of its own is.
    pub(crate) fault_problem: String,
}

/// Where the samples of a policy's probe come from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The probe's key.
    pub(crate) key: ProbeKey,
    /// How often it is sampled.
    pub(crate) every: Duration,
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
        Some(&self.policies[self.place(name).ok()?])
    }

    /// The policy that reads a probe.
    pub(crate) fn policy_of(&self, reader: &Reader) -> &Arc<Compiled> {
        &self.policies[reader.policy]
    }

    /// Where a policy is, or would be.
    fn place(&self, name: &FullName) -> Result<usize, usize> {
        self.policies.binary_search_by(|compiled| compiled.policy.name.cmp(name))
    }

    /// Every policy that is in force.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Arc<Compiled>> {
        self.policies.iter()
    }

    /// What is done with the samples of a probe; absent: nobody reads it.
    pub(crate) fn uses(&self, key: &ProbeKey) -> Option<&Arc<Use>> {
        self.probes.get(key)
    }

    /// The policies of a namespace.
    pub(crate) fn policies_of(&self, namespace: &str) -> Vec<Arc<Compiled>> {
        let of_namespace = |compiled: &&Arc<Compiled>| compiled.policy.name.namespace.as_str() == namespace;
        self.policies.iter().filter(of_namespace).cloned().collect()
    }

    /// The probes of a host.
    pub(crate) fn assignments(&self, host: &HostName) -> &[Assignment] {
        self.assigned.get(host).map_or(&[], Vec::as_slice)
    }

    /// Brings the index up to date with the state; says what that changed, if anything can have.
    pub(crate) fn update(&mut self, state: &State) -> Option<Reindexed> {
        let (has_manifests, has_hosts) = (self.manifests.ptr_eq(&state.manifests), self.hosts.ptr_eq(&state.hosts));
        if has_manifests && has_hosts {
            return None;
        }
        let mut changed = Reindexed::default();
        if !has_manifests {
            self.take_manifests(state, &mut changed);
        }
        if !has_hosts {
            self.take_hosts(state, &mut changed);
        }
        Some(changed)
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
            let stored = self.manifests.get(&("Policy".to_owned(), name.clone()));
            let policy = stored
                .and_then(|stored| if let Manifest::Policy(policy) = &stored.manifest { Some(policy) } else { None });
            let compiled = policy.map(|policy| Arc::new(Compiled::new(policy, &self.hosts)));
            match (self.place(name), compiled) {
                (Ok(place), Some(compiled)) => self.policies[place] = compiled,
                (Err(place), Some(compiled)) => self.policies.insert(place, compiled),
                (Ok(place), None) => drop(self.policies.remove(place)),
                (Err(_), None) => {}
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
        let mut uses: HashMap<ProbeKey, Use> = HashMap::new();
        for (place, compiled) in self.policies.iter().enumerate() {
            for source in compiled.probes_read() {
                let readers = &mut uses.entry(source.key.clone()).or_insert_with(|| Use::every(source.every)).readers;
                // Two names of one policy may mean the same probe.
                if readers.last().is_none_or(|reader| reader.policy != place) {
                    readers.push(compiled.reader(place, &source.key));
                }
            }
            for (source, derived) in compiled.derived() {
                uses.entry(source.key.clone()).or_insert_with(|| Use::every(source.every)).want(derived);
            }
        }
        self.probes = uses.into_iter().map(|(key, used)| (key, Arc::new(used))).collect();
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
            for compiled in &mut self.policies {
                if Arc::make_mut(compiled).move_host(host, row.as_deref(), &mut replaced) {
                    changed.policies.insert(compiled.policy.name.clone());
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
        for compiled in &self.policies {
            let observes = compiled.observers.contains(host);
            for (probe_name, probe) in compiled.policy.probes.iter() {
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
                        .push(compiled.policy.name.clone());
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
                (name.clone(), Source { key: probe.key(), every: probe.every, placed })
            })
            .collect();
        probes.insert(HOST_PROBE.to_owned(), Source { key: ProbeKey::host(), every: HOST_EVERY, placed: None });
        let has_quorum = policy.signals.values().any(|signal| signal.quorum.is_some());
        let mut compiled = Self {
            policy: Arc::clone(policy),
            observers: BTreeSet::new(),
            probes,
            has_quorum,
            depends_on_time: true,
            reads_host: true,
            fault_problem: fault::problem(&policy.name),
        };
        compiled.depends_on_time = compiled.trigger_depends_on_time();
        compiled.reads_host = compiled.finds_host_read();
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

    /// Whether it goes by a timetable, and has no alerts.
    pub(crate) fn is_scheduled(&self) -> bool {
        matches!(self.policy.trigger, Trigger::Schedule(_))
    }

    /// The interval of its slowest probe.
    pub(crate) fn slowest(&self) -> Duration {
        self.probes.values().map(|source| source.every).max().unwrap_or(HOST_EVERY)
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

    /// The probes whose samples can change what it judges.
    pub(crate) fn probes_read(&self) -> impl Iterator<Item = &Source> {
        let probes = self.probes.iter().filter(|(name, _)| self.reads_host || *name != HOST_PROBE);
        probes.map(|(_, source)| source)
    }

    /// Whether host samples can change what it judges.
    fn finds_host_read(&self) -> bool {
        matches!(self.policy.target, TargetRule::Each { .. })
            || self.conditions().iter().any(|condition| self.reads(condition).contains(HOST_PROBE))
            || self.policy.values.iter().any(|value| value.is.probes().iter().any(|probe| probe == HOST_PROBE))
    }

    /// Whether the trigger can become another truth by the passing of time alone: it looks back, or at an age.
    fn trigger_depends_on_time(&self) -> bool {
        let Trigger::When { when, clear, .. } = &self.policy.trigger else { return true };
        let moves = |condition: &Condition| {
            !condition.derived().is_empty() || condition.text().contains(".age") || condition.text().contains("acted")
        };
        let own = [Some(when), clear.as_ref()];
        let named = own.into_iter().flatten().flat_map(|condition| condition.signals());
        let of_signals = named.filter_map(|name| self.policy.signals.get(name)).any(|signal| {
            // A signal that names others is not looked into: it is judged each time.
            moves(&signal.that) || !signal.that.signals().is_empty()
        });
        of_signals
            || self.policy.alert.is_some()
            || own.into_iter().flatten().any(moves)
            || self.policy.values.iter().any(|value| value.is.text().contains(".age") || !value.is.derived().is_empty())
    }

    /// All its conditions.
    fn conditions(&self) -> Vec<&Condition> {
        let policy = &self.policy;
        let mut conditions: Vec<&Condition> = policy.signals.values().map(|signal| &signal.that).collect();
        if let Trigger::When { when, clear, .. } = &policy.trigger {
            conditions.push(when);
            conditions.extend(clear);
        }
        if let TargetRule::Each { filter, .. } = &policy.target {
            conditions.extend(filter);
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

    /// The expressions whose values it uses.
    fn expressions(&self) -> Vec<&Expression> {
        let steps = self.policy.ladder.iter().flat_map(|rung| rung.steps.iter().chain(&rung.finally));
        let keys = steps.filter_map(|step| match &step.once {
            Some(Once::Key { key, .. }) => Some(key),
            Some(Once::Incident) | None => None,
        });
        self.policy.values.iter().map(|value| &value.is).chain(keys).collect()
    }

    /// How it, in this place, reads a probe.
    fn reader(&self, place: usize, key: &ProbeKey) -> Reader {
        let mut reader = Reader { policy: place, fields: BTreeSet::new(), element_fields: BTreeSet::new() };
        let is_read = |probe: &String| self.probes.get(probe).is_some_and(|source| source.key == *key);
        let conditions = self.conditions();
        let expressions = self.expressions();
        let of_conditions = conditions.iter().flat_map(|condition| condition.reads());
        for reference in of_conditions.chain(expressions.iter().flat_map(|expression| expression.reads())) {
            match reference {
                Reference::Field { probe, field } if is_read(probe) => {
                    reader.fields.insert(field.clone());
                }
                Reference::Chosen { probes, field, .. } if probes.iter().any(is_read) => {
                    reader.fields.insert(field.clone());
                }
                Reference::Element { field, .. } if *key == ProbeKey::host() => {
                    if let TargetRule::Each { family, .. } = &self.policy.target {
                        reader.element_fields.insert((*family, field.clone()));
                    }
                }
                Reference::Each { family, field } if *key == ProbeKey::host() => {
                    reader.element_fields.insert((*family, field.clone()));
                }
                Reference::Derived(derived) if is_read(&derived.probe) => {
                    reader.fields.insert(derived.field.clone());
                }
                _ => {}
            }
        }
        reader
    }

    /// The derived series that its conditions want, by probe.
    fn derived(&self) -> Vec<(&Source, &Derived)> {
        let conditions = self.conditions();
        let expressions = self.expressions();
        let of_conditions = conditions.into_iter().flat_map(Condition::derived);
        of_conditions
            .chain(expressions.into_iter().flat_map(Expression::derived))
            .filter_map(|derived| Some((self.probes.get(&derived.probe)?, derived)))
            .collect()
    }
}

impl Reader {
    /// Whether two samples with the same names of fields, and whose element names are these, differ in what is read.
    pub(crate) fn tells_apart<'e>(
        &self,
        before: &Fields,
        after: &Fields,
        elements: impl Fn(Family) -> &'e BTreeSet<String>,
    ) -> bool {
        let differs = |field: &str| before.get(field) != after.get(field);
        self.fields.iter().any(|field| differs(field))
            || self.element_fields.iter().any(|(family, field)| {
                elements(*family).iter().any(|name| differs(&format!("{}[{name}].{field}", family.prefix())))
            })
    }
}

impl Use {
    fn every(every: Duration) -> Self {
        Self { every, readers: Vec::new(), series: Vec::new() }
    }

    fn want(&mut self, derived: &Derived) {
        let place = self.series.iter().position(|series| series.field == derived.field).unwrap_or_else(|| {
            self.series.push(Series { field: derived.field.clone(), span: Duration::ZERO, forecasts: Vec::new() });
            self.series.len() - 1
        });
        let series = &mut self.series[place];
        series.span = series.span.max(derived.span);
        if derived.over == Over::Forecast && !series.forecasts.contains(&derived.span) {
            series.forecasts.push(derived.span);
        }
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

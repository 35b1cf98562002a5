//! The fake fleet: agents with a journal, and the facts that their probes see.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use imbl::OrdMap;
use jiff::Timestamp;
use quell_engine::{
    id::CommandId,
    input::COUNTED,
    state::{CommandRow, Outcome, OutcomeKind, StoredManifest},
};
use quell_model::{
    name::{FullName, HostName},
    policy::Manifest,
    preview::Item,
    probe::ProbeKey,
    value::{Fields, Value},
};

/// What an action does, and when it ends.
pub type Reaction = Box<dyn FnMut(&CommandRow, &mut Facts) -> Done>;

/// What an action would touch.
pub type Look = Box<dyn FnMut(&HostName, &mut Facts) -> Seen>;

/// What a host says when it is asked what an action would touch.
#[derive(Debug, Clone)]
pub enum Seen {
    List(Vec<Item>),
    Refusal(String),
    Silence,
}

impl Seen {
    /// Verb, object and size of each thing that would be touched.
    pub fn list(items: &[(&str, &str, u64)]) -> Self {
        let item = |(verb, object, size): &(&str, &str, u64)| Item {
            verb: (*verb).to_owned(),
            object: (*object).to_owned(),
            size: *size,
            detail: String::new(),
            moving: false,
        };
        Self::List(items.iter().map(item).collect())
    }
}

/// How an action ends.
#[derive(Debug, Clone)]
pub struct Done {
    /// How long it takes; absent: it never ends.
    pub after: Option<Duration>,
    pub kind: OutcomeKind,
    pub summary: String,
    pub values: Fields,
    /// Whether it was refused because what it would touch moved.
    pub moved: bool,
}

impl Done {
    pub fn ok() -> Self {
        Self::of(OutcomeKind::Succeeded, "done")
    }

    pub fn failed(summary: &str) -> Self {
        Self::of(OutcomeKind::Failed, summary)
    }

    pub fn refused(summary: &str) -> Self {
        Self::of(OutcomeKind::Refused, summary)
    }

    pub fn of(kind: OutcomeKind, summary: &str) -> Self {
        Self {
            after: Some(Duration::from_secs(1)),
            kind,
            summary: summary.to_owned(),
            values: Fields::new(),
            moved: false,
        }
    }

    pub fn never() -> Self {
        Self { after: None, ..Self::ok() }
    }

    pub fn after(self, span: &str) -> Self {
        Self { after: Some(super::parse_span(span)), ..self }
    }
}

/// An order in an agent's journal.
#[derive(Debug, Clone)]
struct Entry {
    command: CommandRow,
    begun: bool,
    done: Option<Outcome>,
    ended: bool,
    acknowledged: bool,
}

/// One agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    pub connected: bool,
    pub banned: bool,
    pub fence: u64,
    pub generation: u64,
    pub probes: BTreeMap<ProbeKey, Duration>,
    pub sampling: BTreeSet<ProbeKey>,
    pub next_sample: BTreeMap<ProbeKey, Timestamp>,
    /// Idempotency keys in the order in which their effects happened.
    pub effects: Vec<String>,
    journal: BTreeMap<String, Entry>,
}

impl Agent {
    fn entry(&mut self, id: CommandId) -> Option<&mut Entry> {
        self.journal.values_mut().find(|entry| entry.command.id == id)
    }

    /// Takes an order in; false when it is known already, stale or too late.
    pub fn take_order(&mut self, command: &CommandRow, now: Timestamp) -> bool {
        if self.journal.contains_key(&command.idempotency_key) || command.not_after.is_some_and(|until| now > until) {
            return false;
        }
        let is_stale = command.fence < self.fence;
        self.fence = self.fence.max(command.fence);
        let done = is_stale.then(|| super::outcome(OutcomeKind::Refused, "the fence is stale"));
        let entry = Entry { command: command.clone(), begun: false, done, ended: false, acknowledged: false };
        self.journal.insert(command.idempotency_key.clone(), entry);
        !is_stale
    }

    /// Begins an order: from here on it has had its effect.
    pub fn begin(&mut self, id: CommandId) -> Option<CommandRow> {
        let entry = self.entry(id).filter(|entry| !entry.begun && entry.done.is_none())?;
        entry.begun = true;
        let command = entry.command.clone();
        if !command.dry_run {
            self.effects.push(command.idempotency_key.clone());
        }
        Some(command)
    }

    pub fn cancel(&mut self, id: CommandId) -> bool {
        match self.entry(id) {
            Some(entry) if !entry.begun && entry.done.is_none() => {
                entry.done = Some(super::outcome(OutcomeKind::NotStarted, "cancelled"));
                true
            }
            Some(entry) if entry.begun && !entry.ended => {
                entry.done = Some(super::outcome(OutcomeKind::Failed, "it was cancelled and killed"));
                true
            }
            _ => false,
        }
    }

    pub fn finish(&mut self, id: CommandId, done: Done) {
        if let Some(entry) = self.entry(id) {
            entry.done =
                Some(Outcome { values: done.values, moved: done.moved, ..super::outcome(done.kind, &done.summary) });
        }
    }

    pub fn end(&mut self, id: CommandId) -> Option<Outcome> {
        let entry = self.entry(id)?;
        entry.ended = true;
        entry.done.clone()
    }

    pub fn outcome(&mut self, id: CommandId) -> Option<Outcome> {
        self.entry(id).filter(|entry| entry.ended).and_then(|entry| entry.done.clone())
    }

    pub fn acknowledge(&mut self, id: CommandId) {
        if let Some(entry) = self.entry(id) {
            entry.acknowledged = true;
        }
    }

    /// What the journal tells the controller when the agent connects.
    pub fn unacknowledged(&mut self) -> Vec<(CommandId, Option<Outcome>)> {
        let open = self.journal.values_mut().filter(|entry| !entry.acknowledged);
        open.map(|entry| {
            let known = if entry.ended { entry.done.clone() } else { None };
            entry.acknowledged = known.is_some();
            (entry.command.id, known)
        })
        .collect()
    }
}

/// What a probe said last, as a session remembers it: a sample that says the same shares its fields.
#[derive(Debug, Default)]
struct Feed {
    version: u64,
    fields: Option<Arc<Fields>>,
    failures: u32,
    successes: u32,
    /// Whether another run says the same.
    counts_no_further: bool,
}

/// What is so on the hosts.
#[derive(Debug, Default)]
pub struct Facts {
    fields: BTreeMap<(HostName, String), Fields>,
    blind: BTreeSet<(HostName, String)>,
    feeds: BTreeMap<HostName, BTreeMap<ProbeKey, Feed>>,
    /// How often what is so was changed.
    version: u64,
    logs: BTreeMap<HostName, Vec<String>>,
    names: BTreeMap<ProbeKey, Vec<String>>,
    named: Option<OrdMap<(String, FullName), Arc<StoredManifest>>>,
}

impl Facts {
    /// Says what a probe of a host sees; fields that are not named stay.
    pub fn set(&mut self, host: &HostName, probe: &str, fields: &[(&str, Value)]) {
        let known = self.fields.entry((host.clone(), probe.to_owned())).or_default();
        known.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.blind.remove(&(host.clone(), probe.to_owned()));
        self.version += 1;
    }

    /// A field as it is, for reactions that go by it.
    pub fn number(&self, host: &HostName, probe: &str, field: &str) -> f64 {
        let known = self.fields.get(&(host.clone(), probe.to_owned()));
        known.and_then(|fields| fields.get(field)?.number()).unwrap_or(0.0)
    }

    /// A probe gives no samples any more.
    pub fn blind(&mut self, host: &HostName, probe: &str) {
        self.blind.insert((host.clone(), probe.to_owned()));
        self.version += 1;
    }

    /// The lines of a host's log.
    pub fn write_log(&mut self, host: &str, lines: &[&str]) {
        self.logs.insert(host.parse().unwrap(), lines.iter().map(|line| (*line).to_owned()).collect());
    }

    pub fn log(&self, host: &HostName, lines: u32) -> Vec<String> {
        let all = self.logs.get(host).cloned().unwrap_or_default();
        all[all.len().saturating_sub(lines as usize)..].to_vec()
    }

    /// The names that policies give to a probe, `policy/probe` and `probe`.
    fn names(&self, key: &ProbeKey) -> Vec<String> {
        if *key == ProbeKey::host() {
            return vec!["host".to_owned()];
        }
        self.names.get(key).cloned().unwrap_or_default()
    }

    /// Takes in which policies there are.
    fn name_probes(&mut self, manifests: &OrdMap<(String, FullName), Arc<StoredManifest>>) {
        if self.named.as_ref().is_some_and(|named| named.ptr_eq(manifests)) {
            return;
        }
        self.named = Some(manifests.clone());
        self.version += 1;
        self.names.clear();
        for stored in manifests.values() {
            if let Manifest::Policy(policy) = &stored.manifest {
                for (name, probe) in policy.probes.iter() {
                    let names = self.names.entry(probe.key()).or_default();
                    names.push(format!("{}/{name}", policy.name.name));
                    names.push(name.clone());
                }
            }
        }
    }

    /// What a probe sees now; nothing while it is blind or nobody said what it sees. `ok` is true unless it was said
    /// otherwise, `failures` and `successes` are counted.
    pub fn fields(
        &mut self,
        host: &HostName,
        key: &ProbeKey,
        manifests: &OrdMap<(String, FullName), Arc<StoredManifest>>,
    ) -> Option<Arc<Fields>> {
        self.name_probes(manifests);
        let version = self.version;
        let feed = self.feeds.get_mut(host).and_then(|feeds| feeds.get_mut(key));
        if let Some(feed) = feed.filter(|feed| feed.version == version) {
            return feed.run(key);
        }
        let fields = self.look(host, key);
        let feed = self.feeds.entry(host.clone()).or_default().entry(key.clone()).or_default();
        (feed.version, feed.fields, feed.counts_no_further) = (version, fields.map(Arc::new), false);
        feed.run(key)
    }

    fn look(&self, host: &HostName, key: &ProbeKey) -> Option<Fields> {
        let names = self.names(key).into_iter().map(|name| (host.clone(), name));
        let own = names.into_iter().find(|own| self.fields.contains_key(own))?;
        if self.blind.contains(&own) {
            return None;
        }
        self.fields.get(&own).cloned()
    }
}

impl Feed {
    /// What one more run of the probe says.
    fn run(&mut self, key: &ProbeKey) -> Option<Arc<Fields>> {
        if !key.is_host() && !self.counts_no_further {
            self.count();
        }
        self.fields.clone()
    }

    /// Counts a run, as far as a session lets it be told; one that counts no further says the same as before.
    fn count(&mut self) {
        let Some(fields) = &self.fields else { return };
        let ok = fields.get("ok").and_then(Value::flag).unwrap_or(true);
        let one_more = |count: u32| (count + 1).min(COUNTED);
        let (failures, successes) = if ok { (0, one_more(self.successes)) } else { (one_more(self.failures), 0) };
        let says_so = fields.contains_key("successes");
        if !says_so || (failures, successes) != (self.failures, self.successes) {
            (self.failures, self.successes) = (failures, successes);
            let counts = [("failures", f64::from(failures)), ("successes", f64::from(successes))];
            let counts = counts.map(|(name, count)| (name.to_owned(), count.into()));
            let fields = Arc::make_mut(self.fields.get_or_insert_default());
            fields.insert("ok".to_owned(), ok.into());
            fields.extend(counts);
        } else {
            self.counts_no_further = true;
        }
    }
}

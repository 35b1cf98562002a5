//! What the names in conditions mean: for a policy, a target, an observer and a moment.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use jiff::Timestamp;
use quell_model::{
    condition::{Condition, Derived, Expression, Lookup, Scope},
    name::{HostName, Target},
    policy::{Family, TargetRule},
    probe::ProbeKey,
    value::{Fields, Truth, Value},
};

use crate::{
    State, Windows, external,
    input::Saw,
    ledger, signal,
    state::PlanRow,
    windows::{Compiled, Newest, Reading, Source},
};

/// Signals that name signals are followed no deeper than this.
const DEEPEST: u8 = 8;

/// What is known at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) windows: &'a Windows,
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
}

/// What comes up while judging, beside the truth.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The values that were seen, when they are asked for.
    pub(crate) saw: Option<RefCell<Vec<Saw>>>,
    /// The first fault of the policy itself.
    pub(crate) fault: RefCell<Option<String>>,
    depth: Cell<u8>,
}

impl Notes {
    /// Notes that keep the values seen.
    pub(crate) fn seeing() -> Self {
        Self { saw: Some(RefCell::default()), ..Self::default() }
    }

    /// Keeps a fault.
    pub(crate) fn fault(&self, text: String) {
        self.fault.borrow_mut().get_or_insert(text);
    }

    fn see(&self, host: &HostName, name: String, value: Option<&Value>) {
        if let Some(saw) = &self.saw {
            let mut saw = saw.borrow_mut();
            let value = value.cloned();
            let entry = Saw { host: host.clone(), name, value };
            if !saw.contains(&entry) {
                saw.push(entry);
            }
        }
    }
}

/// Where conditions of a policy are judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) view: View<'a>,
    pub(crate) compiled: &'a Compiled,
    pub(crate) target: &'a Target,
    /// Whose samples are looked at; absent: the target's host, for the fleet nobody's.
    pub(crate) observer: Option<&'a HostName>,
    /// The plan whose frozen values `plan.*` means.
    pub(crate) plan: Option<&'a PlanRow>,
    /// What the last step reported.
    pub(crate) outcome: Option<&'a Fields>,
    /// Only samples taken after this moment count.
    pub(crate) after: Option<Timestamp>,
    /// The rung whose acts `ledger.acted` counts.
    pub(crate) rung: Option<&'a str>,
    pub(crate) notes: &'a Notes,
}

impl<'a> View<'a> {
    /// A place to judge a policy's conditions on a target.
    pub(crate) fn site(self, compiled: &'a Compiled, target: &'a Target, notes: &'a Notes) -> Site<'a> {
        Site {
            view: self,
            compiled,
            target,
            observer: target.host(),
            plan: None,
            outcome: None,
            after: None,
            rung: None,
            notes,
        }
    }

    /// The targets that a policy has at the moment.
    pub(crate) fn targets(self, compiled: &Compiled) -> Vec<Target> {
        match &compiled.policy.target {
            TargetRule::Fleet => vec![Target::Fleet],
            TargetRule::Host => compiled.observers.iter().cloned().map(Target::Host).collect(),
            TargetRule::Each { .. } => {
                compiled.observers.iter().flat_map(|host| self.targets_on(compiled, host)).collect()
            }
        }
    }

    /// The targets of a policy that a host's samples speak of.
    pub(crate) fn targets_on(self, compiled: &Compiled, host: &HostName) -> Vec<Target> {
        match &compiled.policy.target {
            TargetRule::Fleet => vec![Target::Fleet],
            TargetRule::Host => vec![Target::Host(host.clone())],
            TargetRule::Each { family, filter, .. } => {
                let Some(newest) = self.windows.newest(host, &ProbeKey::host()) else { return Vec::new() };
                let names = newest.elements(*family).iter().cloned();
                let targets = names.map(|name| Target::Element(host.clone(), name));
                match filter {
                    None => targets.collect(),
                    Some(filter) => {
                        targets.filter(|target| self.judge(compiled, target, filter) == Truth::True).collect()
                    }
                }
            }
        }
    }

    /// Judges a condition of a policy on a target.
    pub(crate) fn judge(self, compiled: &Compiled, target: &Target, condition: &Condition) -> Truth {
        self.site(compiled, target, &Notes::default()).judge(condition)
    }
}

impl Site<'_> {
    /// Judges a condition; a fault of the policy is noted, and unknown.
    pub(crate) fn judge(&self, condition: &Condition) -> Truth {
        condition.judge(self).unwrap_or_else(|fault| {
            self.notes.fault(format!("{}: {fault}", condition.text()));
            Truth::Unknown
        })
    }

    /// Evaluates an expression; a fault of the policy is noted, and unknown.
    pub(crate) fn evaluate(&self, expression: &Expression) -> Lookup {
        expression.evaluate(self).unwrap_or_else(|fault| {
            self.notes.fault(format!("{}: {fault}", expression.text()));
            Lookup::Unknown
        })
    }

    /// The sample that a probe's fields are read from, and whose it is.
    fn sample<'s>(&'s self, source: &'s Source) -> Option<(&'s HostName, &'s Newest)> {
        let fresh = |host: &'s HostName| {
            let newest = self.view.windows.fresh(host, &source.key, self.view.now)?;
            let counts = self.after.is_none_or(|after| newest.taken_at > after);
            counts.then_some((host, newest))
        };
        match &source.placed {
            Some(placed) => placed.taken.iter().filter_map(fresh).max_by_key(|(_, newest)| newest.taken_at),
            None => {
                let (host, newest) = fresh(self.observer?)?;
                Some((host, newest))
            }
        }
    }

    /// The hosts whose samples a probe's fields come from.
    pub(crate) fn hosts_of(&self, source: &Source) -> Vec<HostName> {
        match (&source.placed, self.observer) {
            (Some(placed), _) => placed.taken.clone(),
            (None, Some(observer)) => vec![observer.clone()],
            (None, None) => self.compiled.observers.iter().cloned().collect(),
        }
    }

    /// Looks a field up, and notes what was seen.
    fn look(&self, probe: &str, field: &str) -> Option<Value> {
        let source = self.compiled.probes.get(probe)?;
        let found = self.sample(source);
        let value = found.and_then(|(_, newest)| match newest.fields.get(field) {
            Some(value) => Some(value.clone()),
            None if field == "age" => Some(Value::Number(self.view.now.duration_since(newest.taken_at).as_secs_f64())),
            None => None,
        });
        if self.notes.saw.is_some() {
            let name = if probe == "host" { format!("host.{field}") } else { format!("probe.{probe}.{field}") };
            match found {
                Some((host, _)) => self.notes.see(host, name, value.as_ref()),
                None => self.hosts_of(source).iter().for_each(|host| self.notes.see(host, name.clone(), None)),
            }
        }
        value
    }

    /// All computed values that are known, by name.
    pub(crate) fn values(&self) -> BTreeMap<String, Value> {
        let values = &self.compiled.policy.values;
        values
            .iter()
            .filter_map(|value| match Scope::value(self, &value.name) {
                Lookup::Known(known) => Some((value.name.clone(), known)),
                Lookup::Unknown => None,
            })
            .collect()
    }
}

/// What was listed beforehand of the step that ended last: the one whose outcome `outcome` is.
fn planned(state: &State, plan: &PlanRow, name: &str) -> Option<Value> {
    let commands = plan.commands.iter().rev().filter_map(|id| state.commands.get(id));
    let last = commands.filter(|command| command.is_previewed()).find(|command| command.outcome.is_some())?;
    let items = &last.preview()?.items;
    match name {
        // All numbers of conditions are doubles; sizes stay below 2^53.
        "bytes" => Some(Value::Number(quell_model::preview::total(items) as f64)),
        "items" => Some(Value::Number(items.len() as f64)),
        _ => None,
    }
}

fn known(value: Option<Value>) -> Lookup {
    value.map_or(Lookup::Unknown, Lookup::Known)
}

impl Scope for Site<'_> {
    fn field(&self, probe: &str, field: &str) -> Lookup {
        known(self.look(probe, field))
    }

    fn element(&self, field: &str) -> Lookup {
        let (TargetRule::Each { family, .. }, Target::Element(_, name)) = (&self.compiled.policy.target, self.target)
        else {
            return Lookup::Unknown;
        };
        if field.is_empty() || field == "name" {
            return Lookup::Known(Value::Text(name.clone()));
        }
        known(self.look("host", &format!("{}[{name}].{field}", family.prefix())))
    }

    fn element_name(&self) -> Option<&str> {
        match self.target {
            Target::Element(_, name) => Some(name),
            _ => None,
        }
    }

    fn elements(&self, family: Family) -> Option<Vec<String>> {
        let newest = self.view.windows.fresh(self.observer?, &ProbeKey::host(), self.view.now)?;
        if self.after.is_some_and(|after| newest.taken_at <= after) {
            return None;
        }
        Some(newest.elements(family).iter().cloned().collect())
    }

    fn derived(&self, derived: &Derived) -> Lookup {
        let Some(source) = self.compiled.probes.get(&derived.probe) else { return Lookup::Unknown };
        let field = match self.target {
            Target::Element(_, name) => derived.field.replace('$', name),
            _ => derived.field.clone(),
        };
        let reading = Reading { over: derived.over, span: derived.span, every: source.every, after: self.after };
        let hosts = self.hosts_of(source);
        let number = hosts.iter().find_map(|host| {
            self.view.windows.newest(host, &source.key)?.history(&field)?.read(reading, self.view.now)
        });
        if self.notes.saw.is_some()
            && let Some(host) = hosts.first()
        {
            let name = format!("{:?}(probe.{}.{field})", derived.over, derived.probe).to_lowercase();
            self.notes.see(host, name, number.map(Value::Number).as_ref());
        }
        known(number.map(Value::Number))
    }

    fn signal(&self, name: &str) -> Truth {
        let Some(signal) = self.compiled.policy.signals.get(name) else { return Truth::Unknown };
        let depth = self.notes.depth.get();
        if depth >= DEEPEST {
            self.notes.fault(format!("signal.{name} goes round in a circle"));
            return Truth::Unknown;
        }
        self.notes.depth.set(depth + 1);
        let truth = signal::judge(self, signal);
        self.notes.depth.set(depth);
        truth
    }

    fn alert(&self) -> Truth {
        let truth = external::truth(self.view, self.compiled, self.target, self.after);
        if let Some(host) = self.target.host() {
            let value = (truth != Truth::Unknown).then(|| Value::Flag(truth.holds()));
            self.notes.see(host, "alert.firing".to_owned(), value.as_ref());
        }
        truth
    }

    fn value(&self, name: &str) -> Lookup {
        let Some(value) = self.compiled.policy.values.iter().find(|value| value.name == name) else {
            return Lookup::Unknown;
        };
        let depth = self.notes.depth.get();
        if depth >= DEEPEST {
            self.notes.fault(format!("value.{name} goes round in a circle"));
            return Lookup::Unknown;
        }
        self.notes.depth.set(depth + 1);
        // A value is the target's, not the observer's: all observers of a signal compare with the same one.
        let own = Site { observer: self.target.host(), ..*self };
        let lookup = own.evaluate(&value.is);
        self.notes.depth.set(depth);
        match lookup {
            Lookup::Known(known) if value.one_of.is_empty() || value.one_of.contains(&known) => Lookup::Known(known),
            _ => Lookup::Unknown,
        }
    }

    fn plan(&self, name: &str) -> Lookup {
        let Some(plan) = self.plan else { return Lookup::Unknown };
        known(plan.values.get(name).cloned().or_else(|| planned(self.view.state, plan, name)))
    }

    fn outcome(&self, name: &str) -> Lookup {
        known(self.outcome.and_then(|outcome| outcome.get(name)).cloned())
    }

    fn acted(&self, within: Duration) -> f64 {
        let policy = &self.compiled.policy.name;
        let since = crate::windows::before(self.view.now, within);
        f64::from(ledger::plans(self.view.state, |row| {
            row.policy.as_ref() == Some(policy)
                && row.target == *self.target
                && row.at > since
                && self.rung.is_none_or(|rung| row.rung == rung)
        }))
    }
}

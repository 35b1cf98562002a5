//! One step: what an input touches is looked at again, and what that touches in turn, until nothing is left.
//!
//! Every subject is reconciled from the state, not from the event that touched it: a start is nothing but every subject
//! touched at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use quell_model::name::{FullName, HostName, Target};

use crate::{
    Actor, Effect, State, Step, Windows, alert,
    draft::{Draft, Entry},
    expect, host,
    id::{CommandId, IncidentId, MessageId, PlanId},
    incident,
    input::{Refusal, Reply},
    message, plan, retention, schedule,
    scope::View,
    trust,
    windows::Compiled,
};

/// Something that is looked at when it may have changed or its time has come. In the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Whether a host is heard of, and its samples are fresh.
    Host(HostName),
    /// A policy on a target: its alert.
    Alert(FullName, Target),
    /// A policy on a target: its timetable.
    Schedule(FullName, Target),
    /// A policy on a target: whether it ran as often as it should.
    Expect(FullName, Target),
    /// A plan.
    Plan(PlanId),
    /// An incident.
    Incident(IncidentId),
    /// A message.
    Message(MessageId),
    /// The signed set of a namespace: whether it expires.
    SignedSet(String),
    /// What is old enough to go.
    Retention,
}

/// A subject that is touched more often than this in one step waits for the next: no loop is endless.
const MOST_VISITS: u8 = 12;

/// The first visits of a step are not counted: most steps have no more.
const UNCOUNTED_VISITS: usize = 16;

/// One step under way.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) windows: &'a mut Windows,
    pub(crate) draft: Draft,
    pub(crate) now: Timestamp,
    queue: BTreeSet<Subject>,
    visits: BTreeMap<Subject, u8>,
    taken: usize,
}

impl<'a> Turn<'a> {
    /// Begins a step: what is due by now is touched.
    pub(crate) fn begin(windows: &'a mut Windows, state: &State, now: Timestamp) -> Self {
        let now = windows.now.map_or(now, |last| now.max(last));
        windows.now = Some(now);
        windows.begin(state);
        let mut turn = Self {
            draft: Draft::new(state, now),
            windows,
            now,
            queue: BTreeSet::new(),
            visits: BTreeMap::new(),
            taken: 0,
        };
        turn.reindex();
        if !turn.windows.awake {
            turn.windows.awake = true;
            turn.windows.woken_at = Some(now);
            turn.wake();
        }
        turn
    }

    /// Touches everything: the first step after a start.
    fn wake(&mut self) {
        let state = self.draft.state.clone();
        for host in state.hosts.keys() {
            self.windows.hear(host, self.now);
            self.touch(Subject::Host(host.clone()));
        }
        for (policy, target) in state.alerts.keys() {
            self.touch(Subject::Alert(policy.clone(), target.clone()));
        }
        self.touch_live();
        for message in &state.live.messages {
            self.touch(Subject::Message(*message));
        }
        for namespace in state.sets.keys() {
            self.touch(Subject::SignedSet(namespace.clone()));
        }
        self.touch(Subject::Retention);
    }

    /// Touches every plan and incident that is not over: something changed that any of them may wait for.
    pub(crate) fn touch_live(&mut self) {
        let live = self.draft.state.live.clone();
        for plan in &live.plans {
            self.touch(Subject::Plan(*plan));
        }
        for incident in &live.incidents {
            self.touch(Subject::Incident(*incident));
        }
    }

    /// Asks for a subject to be looked at in this step.
    pub(crate) fn touch(&mut self, subject: Subject) {
        self.queue.insert(subject);
    }

    /// Touches every target of a policy.
    pub(crate) fn touch_policy(&mut self, compiled: &Compiled) {
        for target in self.view().targets(compiled) {
            self.touch_target(compiled, target);
        }
    }

    /// Touches every policy of a namespace.
    pub(crate) fn touch_namespace(&mut self, namespace: &str) {
        for compiled in self.windows.index.policies_of(namespace) {
            self.touch_policy(&compiled);
        }
        self.touch_live();
    }

    /// Touches a policy on a target.
    pub(crate) fn touch_target(&mut self, compiled: &Compiled, target: Target) {
        let name = &compiled.policy.name;
        if compiled.policy.expect.is_some() {
            self.touch(Subject::Expect(name.clone(), target.clone()));
        }
        match compiled.policy.trigger {
            quell_model::policy::Trigger::When { .. } => self.touch(Subject::Alert(name.clone(), target)),
            quell_model::policy::Trigger::Schedule(_) => self.touch(Subject::Schedule(name.clone(), target)),
        }
    }

    /// What is known at this moment.
    pub(crate) fn view(&self) -> View<'_> {
        View { windows: self.windows, state: &self.draft.state, now: self.now }
    }

    /// The state as this step has made it so far.
    pub(crate) fn state(&self) -> &State {
        &self.draft.state
    }

    /// A policy that is in force.
    pub(crate) fn policy(&self, name: &FullName) -> Option<Arc<Compiled>> {
        self.windows.index.policy(name).cloned()
    }

    /// Asks for something to be done outside.
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.draft.effects.push(effect);
    }

    /// Records an entry.
    pub(crate) fn record(&mut self, entry: Entry) {
        self.draft.record(entry);
    }

    /// Brings what is compiled from the state up to date, and touches what that changed.
    fn reindex(&mut self) {
        let Some(changed) = self.windows.index.update(&self.draft.state) else { return };
        for host in &changed.assignments {
            self.assign(host);
        }
        for name in &changed.policies {
            match self.policy(name) {
                Some(compiled) => self.touch_policy(&compiled),
                None => self.touch_live(),
            }
            let (alerts, externals) = (self.state().alerts.keys(), self.state().externals.keys());
            let kept: BTreeSet<Target> =
                alerts.chain(externals).filter(|key| key.0 == *name).map(|key| key.1.clone()).collect();
            for target in kept {
                self.touch(Subject::Alert(name.clone(), target));
            }
        }
        if !changed.policies.is_empty() {
            self.touch_live();
        }
    }

    /// Gives a connected host its list of probes.
    pub(crate) fn assign(&mut self, host: &HostName) {
        let is_online = self.state().hosts.get(host).is_some_and(|row| row.state == crate::state::HostState::Online);
        if is_online {
            let assignments = self.windows.index.assignments(host).to_vec();
            self.effect(Effect::Assign { host: host.clone(), assignments });
        }
    }

    /// Gives every connected host that runs probes of a namespace its list again: what is signed goes along with it.
    pub(crate) fn assign_namespace(&mut self, namespace: &str) {
        let runs = |host: &&HostName| {
            let mut policies = self.windows.index.assignments(host).iter().flat_map(|assignment| &assignment.policies);
            policies.any(|policy| policy.namespace.as_str() == namespace)
        };
        let hosts: Vec<HostName> = self.state().hosts.keys().filter(runs).cloned().collect();
        for host in &hosts {
            self.assign(host);
        }
    }

    /// Looks at what was touched until nothing is left.
    pub(crate) fn settle(&mut self) {
        while let Some(due) = self.windows.timers.pop_due(self.now) {
            self.touch(due);
        }
        self.reindex();
        while let Some(subject) = self.queue.pop_first() {
            if self.is_visited_too_often(&subject) {
                let soon = crate::windows::after(self.now, std::time::Duration::from_millis(100));
                self.windows.timers.set(&subject, Some(soon));
                continue;
            }
            let next = self.reconcile(&subject);
            self.windows.timers.set(&subject, next);
            self.reindex();
        }
    }

    fn is_visited_too_often(&mut self, subject: &Subject) -> bool {
        self.taken += 1;
        if self.taken <= UNCOUNTED_VISITS {
            return false;
        }
        let visits = self.visits.entry(subject.clone()).or_default();
        *visits += 1;
        *visits > MOST_VISITS
    }

    fn reconcile(&mut self, subject: &Subject) -> Option<Timestamp> {
        match subject {
            Subject::Host(name) => host::reconcile(self, name),
            Subject::Alert(policy, target) => alert::reconcile(self, policy, target),
            Subject::Schedule(policy, target) => schedule::reconcile(self, policy, target),
            Subject::Expect(policy, target) => expect::reconcile(self, policy, target),
            Subject::Plan(id) => plan::reconcile(self, *id),
            Subject::Incident(id) => incident::reconcile(self, *id),
            Subject::Message(id) => message::reconcile(self, *id),
            Subject::SignedSet(namespace) => trust::reconcile(self, namespace),
            Subject::Retention => retention::reconcile(self),
        }
    }

    /// Ends the step.
    pub(crate) fn finish(mut self, reply: Option<Result<Reply, Refusal>>) -> Step {
        if let Some(next) = self.windows.timers.next() {
            self.effect(Effect::WakeAt(next));
        }
        let (state, changes, effects) = self.draft.finish();
        Step { changes, effects, reply, state }
    }

    /// The command of a number.
    pub(crate) fn command(&self, id: CommandId) -> Option<Arc<crate::state::CommandRow>> {
        self.state().commands.get(&id).cloned()
    }
}

/// Who acts when a policy decides.
pub(crate) fn by_policy(name: &FullName) -> Actor {
    Actor::Policy(name.clone())
}

//! Limits: ceilings over all policies of a namespace, signed by others than those who sign the policies.
//!
//! Every field narrows and none widens: what limits do not speak of is left as it was, and where a namespace has several
//! all of them hold. A policy that passes a ceiling does not act, where it passes it; nothing is cut to size, so that what
//! is in force is what people signed. One function finds what is passed, for `quell check`, apply, the engine and the
//! agents alike. Orders by hand are bounded by the limits of namespace `run`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    calendar::Calendar,
    digest::Digest,
    name::{FullName, HostName},
    plan::ExactPlan,
    policy::{ApprovalRule, Mode, Policy, Rung, Step},
    selector::{Labels, Selector},
    trust::run::Run,
    unit::duration_text,
};

/// Ceilings over a namespace; what is absent is not bounded.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Their full name; they bound its namespace.
    pub name: FullName,
    /// Digest of the manifest's canonical JSON.
    pub digest: Digest,
    /// What they are for, in a sentence.
    pub description: String,
    /// The only actions that may be used.
    pub actions: Option<BTreeSet<String>>,
    /// The only hosts that may be acted on.
    pub hosts: Option<Selector>,
    /// How far policies may go.
    pub mode: Option<Mode>,
    /// Whom certain actions have to ask.
    pub approvals: Vec<Consent>,
    /// The only time in which anything starts.
    pub calendar: Option<Calendar>,
    /// The shortest cool-down.
    pub cooldown: Option<Duration>,
    /// How often may be acted.
    pub budget: Option<Budget>,
    /// How much a policy may let itself disturb.
    pub disturb: Disturb,
    /// Most hosts in one wave.
    pub wave: Option<u32>,
}

/// Actions that people have to agree to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The actions.
    pub actions: BTreeSet<String>,
    /// The role that approves.
    pub role: String,
    /// How many distinct people at least.
    pub count: u32,
}

/// How often may be acted, by all policies of the namespace together; a plan is one act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Acts on one host.
    pub per_host: Option<u32>,
    /// Acts in all.
    pub per_namespace: Option<u32>,
    /// Within this long.
    pub within: Duration,
}

/// The most that a policy's `guards.disturb` may say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Disturb {
    /// Hosts.
    pub hosts: Option<u32>,
    /// Percent of the eligible hosts.
    pub percent: Option<f64>,
}

/// A ceiling that is passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Whose ceiling.
    pub limits: FullName,
    /// What passes it: the path of a field below `spec`, as `ladder[0].do[1].action`.
    pub field: String,
    /// The rung in which it is passed; absent: in all of them.
    pub rung: Option<String>,
    /// What is said there and what is allowed.
    pub what: String,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` passes Limits {}: {}", self.field, self.limits, self.what)
    }
}

impl Limits {
    /// Every ceiling that a policy passes by what it says. One that only observes passes none.
    pub fn passed_by(&self, policy: &Policy) -> Vec<Passed> {
        let mut found = Finder { limits: self, rung: None, passed: Vec::new() };
        if policy.mode > Mode::Observe {
            found.policy(policy);
        }
        found.passed
    }

    /// The ceilings that a policy passes where one of its rungs is carried out.
    pub fn passed_by_rung(&self, policy: &Policy, rung: &str) -> Vec<Passed> {
        let mut passed = self.passed_by(policy);
        passed.retain(|one| one.rung.as_deref().is_none_or(|within| within == rung));
        passed
    }

    /// The ceilings that a person's order passes by what it says. A dry run passes none.
    pub fn passed_by_run(&self, run: &Run) -> Vec<Passed> {
        let mut found = Finder { limits: self, rung: None, passed: Vec::new() };
        if !run.dry_run {
            found.run(run);
        }
        found.passed
    }

    /// The ceilings that a plan passes: its actions on all hosts, those of `finally` among them, and its waves.
    pub fn passed_by_plan(&self, plan: &ExactPlan) -> Vec<Passed> {
        let mut found = Finder { limits: self, rung: None, passed: Vec::new() };
        for (index, step) in plan.steps.iter().enumerate() {
            found.action(&format!("steps[{index}].action"), &step.action);
        }
        if let Some(most) = self.wave {
            let mut waves: BTreeMap<usize, BTreeSet<&HostName>> = BTreeMap::new();
            for step in plan.steps.iter().filter(|step| !step.finally) {
                let taken = step.waves.iter().enumerate().filter(|(_, hosts)| !hosts.is_empty());
                taken.for_each(|(wave, hosts)| waves.entry(wave).or_default().extend(hosts));
            }
            let largest = waves.values().map(BTreeSet::len).max();
            if let Some(size) = largest.filter(|size| *size > most as usize) {
                found.note("waves", format!("a wave has {size} hosts, and at most {most} are allowed"));
            }
        }
        found.passed
    }

    /// Whether hosts with these labels may be acted on.
    pub fn permit_host(&self, labels: &Labels) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.matches(labels))
    }
}

/// Looks for what is passed.
struct Finder<'a> {
    limits: &'a Limits,
    rung: Option<&'a str>,
    passed: Vec<Passed>,
}

impl<'a> Finder<'a> {
    fn note(&mut self, field: &str, what: String) {
        let (limits, field) = (self.limits.name.clone(), field.to_owned());
        self.passed.push(Passed { limits, field, rung: self.rung.map(str::to_owned), what });
    }

    fn policy(&mut self, policy: &'a Policy) {
        if let Some(most) = self.limits.mode.filter(|most| policy.mode > *most) {
            self.note("mode", format!("it is {}, and at most {} is allowed", policy.mode, most));
        }
        let guards = &policy.guards;
        if let Some(least) = self.limits.cooldown.filter(|least| guards.cooldown < *least) {
            let (is, least) = (duration_text(guards.cooldown), duration_text(least));
            self.note("guards.cooldown", format!("it is {is}, and at least {least} is demanded"));
        }
        if let Some(most) = self.limits.disturb.hosts.filter(|most| guards.disturb.hosts > *most) {
            let is = guards.disturb.hosts;
            self.note("guards.disturb.hosts", format!("it is {is}, and at most {most} are allowed"));
        }
        if let Some(most) = self.limits.disturb.percent.filter(|most| guards.disturb.percent > *most) {
            let is = guards.disturb.percent;
            self.note("guards.disturb.percent", format!("it is {is}, and at most {most} is allowed"));
        }
        for (index, rung) in policy.ladder.iter().enumerate() {
            self.rung = Some(&rung.name);
            self.rung(&format!("ladder[{index}]"), rung);
            self.rung = None;
        }
    }

    fn rung(&mut self, path: &str, rung: &Rung) {
        for (list, steps) in [("do", &rung.steps), ("finally", &rung.finally)] {
            for (index, step) in steps.iter().enumerate() {
                self.action(&format!("{path}.{list}[{index}].action"), &step.action);
            }
        }
        let widest = widest_wave(rung);
        if let Some(most) = self.limits.wave.filter(|most| widest > *most) {
            self.note(
                &format!("{path}.rollout.waves"),
                format!("a wave may have {widest} hosts, and at most {most} are allowed"),
            );
        }
        if self.limits.mode == Some(Mode::Propose) && rung.approval.as_ref().is_some_and(|rule| !rule.signed) {
            let what = "at most propose is allowed, and hosts have to see who approved: an approval is signed";
            self.note(&format!("{path}.approval.signed"), what.to_owned());
        }
        let limits = self.limits;
        for consent in &limits.approvals {
            let asks = |step: &&Step| consent.actions.contains(&step.action);
            let Some(step) = rung.steps.iter().chain(&rung.finally).find(asks) else { continue };
            if !rung.approval.as_ref().is_some_and(|rule| consent.is_met_by(rule)) {
                let Consent { role, count, .. } = consent;
                let what = format!(
                    "{} takes a signed approval without a condition, of {count} of role {role}, and the rung asks {}",
                    step.action,
                    rung.approval.as_ref().map_or_else(|| "nobody".to_owned(), asked)
                );
                self.note(&format!("{path}.approval"), what);
            }
        }
    }

    fn run(&mut self, run: &Run) {
        self.action("action", &run.action);
        if self.limits.mode == Some(Mode::Observe) {
            self.note("dryRun", "at most observe is allowed, so orders by hand are dry runs only".to_owned());
        }
        let widest = run.waves.iter().copied().max().unwrap_or_default();
        if let Some(most) = self.limits.wave.filter(|most| widest > *most) {
            self.note("waves", format!("a wave may have {widest} hosts, and at most {most} are allowed"));
        }
        if let Some(consent) = self.limits.approvals.iter().find(|one| one.actions.contains(&run.action)) {
            let what = format!(
                "{} takes an approval of role {}, and an order by hand asks nobody: let a policy do it",
                run.action, consent.role
            );
            self.note("action", what);
        }
    }

    fn action(&mut self, field: &str, action: &str) {
        let Some(actions) = &self.limits.actions else { return };
        if !actions.contains(action) {
            let allowed: Vec<&str> = actions.iter().map(String::as_str).collect();
            self.note(field, format!("it is {action}, and allowed are {}", allowed.join(", ")));
        }
    }
}

impl Consent {
    /// Whether whoever goes by a rule has asked enough people of the right role, in every case, and by signatures.
    fn is_met_by(&self, rule: &ApprovalRule) -> bool {
        rule.signed && rule.only_if.is_none() && rule.role == self.role && rule.count >= self.count
    }
}

fn asked(rule: &ApprovalRule) -> String {
    let condition = if rule.only_if.is_some() { " under a condition" } else { "" };
    let unsigned = if rule.signed { "" } else { " without signatures" };
    format!("{} of role {}{condition}{unsigned}", rule.count, rule.role)
}

/// Most hosts that a wave of a rung can have: one where it runs on the target's host only.
fn widest_wave(rung: &Rung) -> u32 {
    let placements: Vec<_> = rung.steps.iter().map(|step| step.on.as_ref().or(rung.on.as_ref())).collect();
    let most = placements.iter().map(|on| on.map_or(1, |on| on.pick.unwrap_or(u32::MAX))).max().unwrap_or_default();
    rung.rollout.waves.iter().copied().max().unwrap_or_default().min(most)
}

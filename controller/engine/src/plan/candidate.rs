//! A plan as it would be at this moment: made without changing anything, so that it can be shown, compared and hashed.

use std::{collections::BTreeMap, time::Duration};

use super::concern;
use crate::{
    approval, breaker,
    id::{CommandId, IncidentId, PlanId},
    scope::{Notes, Site, View},
    service,
    state::{
        AlsoDisturbed, CommandRow, CommandState, DisturbLimit, Hold, PlanRow, PlanState, PlannedOnce, RunEvidence,
    },
    values,
    windows::{Compiled, place},
};
use quell_model::{
    condition::Lookup,
    digest::Digest,
    name::{HostName, Target},
    plan::{ExactPlan, PlannedStep},
    policy::{Mode, Once, Rung, Step},
    selector::Placement,
    value::Value,
};

/// The disturbance that a person's run may cause: the defaults of a policy that says nothing.
const RUN_DISTURB: quell_model::policy::Disturb =
    quell_model::policy::Disturb { hosts: 10, percent: 10.0, over: Duration::from_secs(3_600) };
/// Waves of a person's run who names none.
const RUN_WAVES: [u32; 3] = [1, 2, 4];
/// Pause between waves of a person's run.
const RUN_SETTLE: Duration = Duration::from_secs(60);

/// A plan that could be made, with its commands; numbers of commands are given when it is.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) plan: PlanRow,
    pub(crate) commands: Vec<CommandRow>,
}

/// Which rung of which policy a plan is wanted for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) compiled: &'a Compiled,
    pub(crate) target: &'a Target,
    pub(crate) rung: usize,
    pub(crate) incident: Option<IncidentId>,
    pub(crate) scheduled: bool,
}

/// A step with its values filled in and its hosts resolved.
#[derive(Debug, Clone)]
pub(super) struct ExactStep {
    index: usize,
    pub(super) action: String,
    pub(super) with: serde_json::Map<String, serde_json::Value>,
    pub(super) hosts: Vec<HostName>,
    timeout: Duration,
    pub(super) finally: bool,
}

/// Makes the plan of a rung.
///
/// # Errors
/// What keeps it from being made: a value that is not known, a selector that means nobody.
pub(crate) fn make(view: View<'_>, wanted: &Wanted<'_>, id: PlanId) -> Result<Candidate, Hold> {
    let policy = &wanted.compiled.policy;
    let notes = Notes::default();
    let mut site = view.site(wanted.compiled, wanted.target, &notes);
    let no = |guard: &str, reason: String| Hold { guard: guard.to_owned(), reason, until: None, since: view.now };
    let Some(rung) = policy.ladder.get(wanted.rung) else {
        return Err(no("ladder", "there is no further rung".to_owned()));
    };
    site.rung = Some(&rung.name);
    let values = site.values();
    let steps = exact_steps(view, rung, wanted.target, &values).map_err(|reason| no("values", reason))?;
    if let Some(step) = steps.iter().find(|step| step.hosts.is_empty()) {
        return Err(no("selector", format!("no host is there for {}: nobody is meant", step.action)));
    }
    let onces = exact_onces(&site, rung, wanted.incident).map_err(|reason| no("once", reason))?;
    let service = policy.service.as_ref().map(ToString::to_string);
    let mut plan = blank(view, id, wanted.target.clone());
    plan.incident = wanted.incident;
    plan.policy = Some(policy.name.clone());
    plan.policy_digest = Some(policy.digest);
    plan.rung.clone_from(&rung.name);
    plan.rung_index = wanted.rung;
    plan.scheduled = wanted.scheduled;
    plan.values = values;
    plan.waves.clone_from(&rung.rollout.waves);
    plan.settle = rung.rollout.settle;
    plan.max_errors = rung.rollout.max_errors;
    plan.onces = onces;
    plan.service = service;
    let candidate =
        finish(view, plan, &steps, Some(wanted.compiled), policy.guards.disturb, &policy.guards.yield_to, false);
    Ok(with_needs(candidate, view, &site, rung))
}

/// Adds the approval that a plan needs: always in propose, else when its rung says so or nobody knows.
fn with_needs(mut candidate: Candidate, view: View<'_>, site: &Site<'_>, rung: &Rung) -> Candidate {
    let mode = breaker::effective_mode(view.state, view.now, &site.compiled.policy);
    if rule_asks(site, rung) || mode == Mode::Propose {
        candidate.plan.needs = Some(approval::needs(rung, view.now, view.now));
    }
    candidate
}

/// Whether the rung's own rule asks people: nobody knows counts as yes.
fn rule_asks(site: &Site<'_>, rung: &Rung) -> bool {
    let rule = rung.approval.as_ref();
    rule.is_some_and(|rule| rule.only_if.as_ref().is_none_or(|condition| !site.judge(condition).fails()))
}

/// Whether the rung's own rule would ask people before its plan starts.
pub(crate) fn asks_people(view: View<'_>, wanted: &Wanted<'_>) -> bool {
    let notes = Notes::default();
    let mut site = view.site(wanted.compiled, wanted.target, &notes);
    let rung = wanted.compiled.policy.ladder.get(wanted.rung);
    rung.is_some_and(|rung| {
        site.rung = Some(&rung.name);
        rule_asks(&site, rung)
    })
}

/// What a person wants to be run.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) action: String,
    pub(crate) with: serde_json::Map<String, serde_json::Value>,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) waves: Vec<u32>,
    pub(crate) timeout: Duration,
    pub(crate) dry_run: bool,
    pub(crate) requester: String,
    pub(crate) reason: String,
    pub(crate) request_id: String,
    pub(crate) evidence: RunEvidence,
}

/// Makes the plan of a person's run: a one-shot policy of one step.
pub(crate) fn manual(view: View<'_>, order: Order, id: PlanId) -> Candidate {
    let target = match order.hosts.as_slice() {
        [host] => Target::Host(host.clone()),
        _ => Target::Fleet,
    };
    let mut plan = blank(view, id, target);
    plan.rung.clone_from(&order.action);
    plan.requester = Some(order.requester);
    plan.reason = order.reason;
    plan.request_id = order.request_id;
    plan.evidence = Some(order.evidence);
    plan.dry_run = order.dry_run;
    plan.waves = if order.waves.is_empty() { RUN_WAVES.to_vec() } else { order.waves };
    plan.settle = RUN_SETTLE;
    let mut services = service::of_run(view.state, &order.with, &order.hosts).into_iter();
    plan.service = services.next();
    plan.also = services.map(|service| AlsoDisturbed { service, limit: None }).collect();
    let step = ExactStep {
        index: 0,
        action: order.action,
        with: order.with,
        hosts: order.hosts,
        timeout: order.timeout,
        finally: false,
    };
    let mut candidate = finish(view, plan, &[step], None, RUN_DISTURB, &[], order.dry_run);
    candidate.plan.concerns = concern::of_run(view, &candidate.plan, &candidate.commands);
    candidate
}

fn blank(view: View<'_>, id: PlanId, target: Target) -> PlanRow {
    PlanRow {
        id,
        hash: Digest::default(),
        canonical: String::new(),
        incident: None,
        policy: None,
        policy_digest: None,
        target,
        rung: String::new(),
        rung_index: 0,
        requester: None,
        reason: String::new(),
        state: PlanState::Held,
        values: BTreeMap::new(),
        commands: Vec::new(),
        waves: Vec::new(),
        wave: 0,
        settle: Duration::ZERO,
        max_errors: 0,
        created_at: view.now,
        started_at: None,
        acted_at: None,
        ended_at: None,
        verified_since: None,
        verification: String::new(),
        needs: None,
        votes: Vec::new(),
        hold: None,
        dry_run: false,
        request_id: String::new(),
        evidence: None,
        hosts: Vec::new(),
        service: None,
        also: Vec::new(),
        concerns: Vec::new(),
        resources: Vec::new(),
        scheduled: false,
        onces: Vec::new(),
        disturb: None,
        next_wave_at: None,
        stopped: None,
        closing: None,
        choice: None,
        cancelled_by: None,
        draft: None,
        preview_until: None,
    }
}

pub(super) fn exact_steps(
    view: View<'_>,
    rung: &Rung,
    target: &Target,
    values: &BTreeMap<String, Value>,
) -> Result<Vec<ExactStep>, String> {
    let one = |(index, (step, finally)): (usize, (&Step, bool))| {
        let hosts = match step.on.as_ref().or(rung.on.as_ref()) {
            Some(placement) => resolve(view, placement, values)?,
            None => target.host().into_iter().cloned().collect(),
        };
        let with = values::fill_object(&step.with, values).map_err(|missing| missing.to_string())?;
        Ok(ExactStep { index, action: step.action.clone(), with, hosts, timeout: step.timeout, finally })
    };
    let steps = rung.steps.iter().map(|step| (step, false)).chain(rung.finally.iter().map(|step| (step, true)));
    steps.enumerate().map(one).collect()
}

fn resolve(view: View<'_>, placement: &Placement, values: &BTreeMap<String, Value>) -> Result<Vec<HostName>, String> {
    let selector = values::fill_selector(&placement.selector, values).map_err(|missing| missing.to_string())?;
    Ok(place(view.state, &selector, placement.pick))
}

fn exact_onces(site: &Site<'_>, rung: &Rung, incident: Option<IncidentId>) -> Result<Vec<PlannedOnce>, String> {
    let mut onces = Vec::new();
    for (index, step) in rung.steps.iter().enumerate() {
        match &step.once {
            None => {}
            Some(Once::Incident) => {
                if let Some(incident) = incident {
                    onces.push(PlannedOnce { key: format!("{incident}/{}/{index}", rung.name), within: None });
                }
            }
            Some(Once::Key { key, within }) => match site.evaluate(key) {
                Lookup::Known(value) => {
                    let key = format!("{}/{}", rung.name, values::plain(&value));
                    onces.push(PlannedOnce { key, within: Some(*within) });
                }
                Lookup::Unknown => return Err(format!("`{}` is not known", key.text())),
            },
        }
    }
    Ok(onces)
}

/// Spreads the steps over waves, writes down the exact plan and hashes it.
fn finish(
    view: View<'_>,
    mut plan: PlanRow,
    steps: &[ExactStep],
    compiled: Option<&Compiled>,
    disturb: quell_model::policy::Disturb,
    yield_to: &[String],
    dry_run: bool,
) -> Candidate {
    let mut commands = Vec::new();
    for step in steps.iter().filter(|step| !step.finally) {
        for (wave, hosts) in chunks(&step.hosts, &plan.waves).into_iter().enumerate() {
            commands.extend(hosts.iter().map(|host| command(&plan, step, wave, host, yield_to, dry_run)));
        }
    }
    let waves = LastWaves::of(&commands);
    for step in steps.iter().filter(|step| step.finally) {
        let back = |host| command(&plan, step, waves.of_host(host), host, yield_to, dry_run);
        commands.extend(step.hosts.iter().map(back));
    }
    commands.sort_by(|one, other| {
        let place = |command: &CommandRow| (command.finally, command.wave, command.step);
        place(one).cmp(&place(other)).then_with(|| one.host.cmp(&other.host))
    });
    plan.hosts = commands.iter().map(|command| command.host.clone()).collect();
    plan.hosts.sort();
    plan.hosts.dedup();
    plan.resources = commands
        .iter()
        .flat_map(|command| command.resources.iter().map(|resource| resource_on(&command.host, resource)))
        .collect();
    plan.resources.sort();
    plan.resources.dedup();
    let group = service::group(view, &plan, compiled);
    plan.disturb = limit(&plan, compiled, &group, disturb);
    let also = plan.also.iter().map(|also| {
        let group = service::group_of(view, &plan, &also.service);
        AlsoDisturbed { limit: limit(&plan, compiled, &group, disturb), ..also.clone() }
    });
    plan.also = also.collect();
    plan.canonical = exact_plan(view, &plan, &commands).canonical();
    plan.hash = Digest::of(plan.canonical.as_bytes());
    for command in &mut commands {
        command.idempotency_key = idempotency_key(plan.hash, command);
    }
    Candidate { plan, commands }
}

/// When hosts are brought back by `finally`: each as soon as the last wave that acts on it has acted, so that no later
/// wave finds it missing; one that the plan does not act on (a balancer) at the end of all.
struct LastWaves {
    of_hosts: BTreeMap<HostName, usize>,
    last: usize,
}

impl LastWaves {
    fn of(steps: &[CommandRow]) -> Self {
        let mut of_hosts = BTreeMap::new();
        for step in steps {
            let wave: &mut usize = of_hosts.entry(step.host.clone()).or_default();
            *wave = step.wave.max(*wave);
        }
        Self { last: of_hosts.values().copied().max().unwrap_or(0), of_hosts }
    }

    fn of_host(&self, host: &HostName) -> usize {
        self.of_hosts.get(host).copied().unwrap_or(self.last)
    }
}

/// What a host knows a command by: the plan's hash, the step, the host and the attempt.
pub(super) fn idempotency_key(plan: Digest, command: &CommandRow) -> String {
    let key = format!("{plan} {} {} 1", command.step, command.host);
    Digest::of(key.as_bytes()).to_string()
}

/// The limit of disturbance in hosts, fixed now: the smaller of the share, rounded down but at least 1, and the number.
pub(super) fn limit(
    plan: &PlanRow,
    compiled: Option<&Compiled>,
    group: &service::Group,
    disturb: quell_model::policy::Disturb,
) -> Option<DisturbLimit> {
    if plan.dry_run || (compiled.is_none() && plan.service.is_none()) {
        return None;
    }
    let eligible = u32::try_from(group.members.len()).unwrap_or(u32::MAX);
    // A share of at most 100 % of a 32-bit number fits.
    let share = (f64::from(eligible) * disturb.percent.clamp(0.0, 100.0) / 100.0).floor() as u32;
    Some(DisturbLimit { limit: disturb.hosts.min(share.max(1)), eligible, over: disturb.over })
}

/// Cuts a list into waves; the last size repeats, and no wave is empty.
pub(super) fn chunks<'a, T>(list: &'a [T], sizes: &[u32]) -> Vec<&'a [T]> {
    let mut rest = list;
    let mut waves = Vec::new();
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(sizes.last().copied().unwrap_or(1)));
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).max(1) as usize;
        let (wave, left) = rest.split_at(size.min(rest.len()));
        waves.push(wave);
        rest = left;
    }
    waves
}

fn command(
    plan: &PlanRow,
    step: &ExactStep,
    wave: usize,
    host: &HostName,
    yield_to: &[String],
    dry_run: bool,
) -> CommandRow {
    CommandRow {
        id: CommandId(0),
        plan: plan.id,
        idempotency_key: String::new(),
        fence: 0,
        host: host.clone(),
        step: step.index,
        wave,
        finally: step.finally,
        undoes: None,
        action: step.action.clone(),
        parameters: step.with.clone(),
        timeout: step.timeout,
        resources: resources(&step.action, &step.with),
        dry_run,
        state: CommandState::Waiting,
        sent_at: None,
        not_after: None,
        ended_at: None,
        outcome: None,
        look: None,
        yield_to: yield_to.to_vec(),
    }
}

/// A resource as a plan holds it: on its host, save the zone, of which there is one.
pub(super) fn resource_on(host: &HostName, resource: &str) -> String {
    if resource.starts_with("dns:") { resource.to_owned() } else { format!("{host} {resource}") }
}

/// What an action holds while it runs: a unit, a path, the zone.
pub(super) fn resources(action: &str, with: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let text = |key: &str| with.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
    match action {
        "service.restart" => vec![format!("unit:{}", text("service").trim_end_matches(".service"))],
        "log.rotate" => vec![format!("path:{}", text("path"))],
        "disk.reclaim" => vec![format!("path:{}", text("directory"))],
        "dns.failover" => vec!["dns:zone".to_owned()],
        "exec" => {
            let program = with.get("argv").and_then(|argv| argv.get(0)).and_then(serde_json::Value::as_str);
            vec![format!("program:{}", program.unwrap_or_default())]
        }
        other => vec![format!("action:{other}")],
    }
}

/// The exact plan: what is approved, what agents check, what the log names.
fn exact_plan(view: View<'_>, plan: &PlanRow, commands: &[CommandRow]) -> ExactPlan {
    ExactPlan {
        installation: view.state.meta.installation.clone(),
        epoch: view.state.meta.epoch,
        plan: plan.id.to_string(),
        incident: plan.incident.map(|incident| incident.to_string()),
        policy: plan.policy.clone(),
        policy_digest: plan.policy_digest,
        target: plan.target.clone(),
        rung: plan.rung.clone(),
        requester: plan.requester.clone(),
        values: plan.values.clone(),
        steps: planned_steps(commands),
        settle_ms: milliseconds(plan.settle),
        max_errors: plan.max_errors,
        dry_run: plan.dry_run,
        previews: BTreeMap::new(),
        run: plan.evidence.as_ref().map(|evidence| Digest::of(evidence.run.as_bytes())),
    }
}

/// The steps of some commands, each with all of its hosts.
fn planned_steps(commands: &[CommandRow]) -> Vec<PlannedStep> {
    let mut steps: Vec<PlannedStep> = Vec::new();
    for command in commands {
        let timeout_ms = milliseconds(command.timeout);
        let is_it = |step: &PlannedStep| {
            step.step == command.step
                && step.finally == command.finally
                && step.timeout_ms == timeout_ms
                && step.action == command.action
                && step.with == command.parameters
        };
        let place = steps.iter().position(is_it).unwrap_or_else(|| {
            steps.push(PlannedStep {
                step: command.step,
                finally: command.finally,
                action: command.action.clone(),
                with: command.parameters.clone(),
                timeout_ms,
                waves: Vec::new(),
            });
            steps.len() - 1
        });
        steps[place].add(command.wave, command.host.clone());
    }
    steps
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_ramp_and_the_last_size_repeats() {
        let sizes = |count: usize, waves: &[u32]| -> Vec<usize> {
            chunks(&vec![(); count], waves).iter().map(|wave| wave.len()).collect()
        };
        assert_eq!(sizes(12, &[1, 2, 4]), [1, 2, 4, 4, 1]);
        assert_eq!(sizes(3, &[]), [1, 1, 1]);
        assert_eq!(sizes(2, &[0]), [1, 1]);
        assert!(sizes(0, &[1]).is_empty());
    }
}

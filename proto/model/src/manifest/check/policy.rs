//! Policies: what they observe, and what holds them back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    action::whole,
    condition::{Condition, Declared, Expression, Reference},
    manifest::{
        Reading,
        node::{Content, Key, Node},
        object::{Object, Short},
        schema::Shape,
    },
    name::ObjectName,
    policy::{
        Budget, ComputedValue, Disturb, Escalate, Family, Guards, Mode, Policy, Quorum, Rung, Severity, Signal,
        TargetRule, Toil,
    },
    probe::Probe,
    unit,
    value::Value,
};

use super::{
    Head,
    conditions::Context,
    parts::{identifier, selector},
    probe::{probe, stand_in},
    rung, trigger,
};

/// Names that conditions use for themselves.
const RESERVED: [&str; 9] = ["host", "probe", "signal", "value", "plan", "outcome", "ledger", "target", "alert"];

/// Reads a policy.
pub(super) fn policy(head: Option<Head>, spec: &Object<'_>, reading: Reading) -> Option<Policy> {
    let description = spec.text("description");
    let service = spec.parsed("service", str::parse::<ObjectName>);
    let problem = spec.parsed("problem", str::parse::<ObjectName>);
    let severity = spec.parsed("severity", severity);
    let toil = spec.object("toil").and_then(|toil| self::toil(&toil));
    let mode = spec.parsed("mode", mode);
    let hosts = selector(spec, "hosts");
    let probes = Arc::new(probes(spec));
    let mut target = spec.short("target");
    let element = target.as_mut().and_then(each);
    let is_fleet = matches!(&target, Some(Short::Text(text)) if text == "fleet");
    let declared = Declared {
        probes: Arc::clone(&probes),
        element: element.as_ref().map(|(family, variable)| (variable.clone(), *family)),
        alert: spec.node("trigger").is_some_and(|trigger| trigger.get("alert").is_some()),
        ..Declared::default()
    };
    let context =
        Context { reading, declared: Arc::new(declared), per_host: is_fleet.then(|| per_host(&probes)), known: None };
    let target = target_rule(target.as_ref(), element, &context);
    let allowed = one_of(spec);
    let values = values(spec, &context, &allowed);
    let signals: Vec<_> = spec.members("signals").iter().map(|(key, _)| key.text.clone()).collect();
    let context = context.declaring(|declared| (declared.values, declared.signals) = (allowed, signals));
    let signals = self::signals(spec, &context, is_fleet);
    let trigger = spec.object("trigger");
    let alert = trigger.as_ref().and_then(|trigger| trigger.object("alert"));
    let alert = alert.and_then(|alert| trigger::alert(&alert, target.as_ref()));
    let trigger = trigger.and_then(|trigger| trigger::trigger(&trigger, &context));
    let expect = spec.object("expect").and_then(|expect| expect.parsed("every", unit::duration));
    let tell = spec.objects("tell").iter().filter_map(|tell| trigger::tell(tell, &context)).collect();
    let ladder = rung::ladder(spec, &context, is_fleet);
    if reading == Reading::Written {
        refuse_alerts_that_verify(spec, &ladder, &signals, &values);
    }
    let guards = spec.object("guards").and_then(|guards| self::guards(&guards));
    let escalate = spec.object("escalate").and_then(|escalate| {
        let (to, after) = (escalate.parsed("to", str::parse::<ObjectName>), escalate.parsed("after", unit::duration));
        Some(Escalate { to: to?, after: after? })
    });
    if mode == Some(Mode::Enforce) && !spec.has("escalate") {
        let message = "a policy that acts says who is called when nothing helps: add `escalate: { to: CONTACT }`";
        spec.report.fault(spec.place_of("mode"), message);
    }
    let Head { name, digest } = head?;
    if problem.is_none() {
        spec.report.filled_in("spec.problem", name.name.as_str());
    }
    Some(Policy {
        problem: problem.as_ref().unwrap_or(&name.name).to_string(),
        name,
        digest,
        description: description?,
        service,
        severity: severity?,
        toil,
        mode: mode?,
        hosts,
        target: target?,
        values,
        signals,
        trigger: trigger?,
        alert,
        expect,
        tell,
        ladder,
        guards: guards?,
        escalate,
        defaults: spec.report.take_defaults(),
        probes,
    })
}

fn severity(text: &str) -> Result<Severity, String> {
    match text {
        "page" => Ok(Severity::Page),
        "ticket" => Ok(Severity::Ticket),
        "info" => Ok(Severity::Info),
        other => Err(format!("`severity` is page, ticket or info, not {other:?}")),
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "observe" => Ok(Mode::Observe),
        "propose" => Ok(Mode::Propose),
        "enforce" => Ok(Mode::Enforce),
        other => Err(format!("`mode` is observe, propose or enforce, not {other:?}")),
    }
}

fn toil(object: &Object<'_>) -> Option<Toil> {
    let minutes = object.parsed("minutes", |text| {
        let minutes = text.parse::<f64>().ok().filter(|minutes| (0.0..=100_000.0).contains(minutes));
        minutes.ok_or_else(|| format!("{text} is not a number of minutes"))
    });
    let category = object.text("category");
    Some(Toil { minutes: minutes?, category: category? })
}

/// Checks the name of a probe, value, signal or element.
fn check_name(object: &Object<'_>, key: &Key) {
    if let Err(message) = identifier(&key.text) {
        object.report.fault(key.place, message);
    } else if RESERVED.contains(&key.text.as_str()) {
        object.report.fault(key.place, format!("`{}` means something else in conditions: take another name", key.text));
    }
}

fn probes(spec: &Object<'_>) -> BTreeMap<String, Probe> {
    let shape = spec.shape("probes").fields();
    let read = |(key, node): &(Key, Node)| {
        check_name(spec, key);
        let path = format!("{}.{}", spec.path_of("probes"), key.text);
        let probe = Object::new(node, shape, &path, spec.report).and_then(|object| probe(&object));
        Some((key.text.clone(), probe.or_else(|| stand_in(node))?))
    };
    spec.members("probes").iter().filter_map(read).collect()
}

/// Probes that give a value for each host rather than one for the fleet.
fn per_host(probes: &BTreeMap<String, Probe>) -> BTreeSet<String> {
    let one = |probe: &Probe| probe.on.as_ref().is_some_and(|on| on.pick == Some(1));
    let names = probes.iter().filter(|(_, probe)| !one(probe)).map(|(name, _)| name.clone());
    names.chain(["host".to_owned()]).collect()
}

/// The family and the variable of a target `each`.
fn each(target: &mut Short<'_>) -> Option<(Family, String)> {
    let Short::Long(long) = target else { return None };
    let family = long.parsed("each", |text| match text {
        "host.disks" => Ok(Family::Disks),
        "host.network" => Ok(Family::Network),
        other => Err(format!("`each` is host.disks or host.network, not {other:?}")),
    });
    let variable = long.parsed("as", |text| match identifier(text) {
        Ok(name) if RESERVED.contains(&name.as_str()) => Err(format!("`{name}` means something else in conditions")),
        other => other,
    });
    Some((family?, variable?))
}

fn target_rule(target: Option<&Short<'_>>, element: Option<(Family, String)>, context: &Context) -> Option<TargetRule> {
    match (target?, element) {
        (Short::Text(text), _) if text == "fleet" => Some(TargetRule::Fleet),
        (Short::Text(_), _) => Some(TargetRule::Host),
        (Short::Long(long), Some((family, variable))) => {
            let filter = long.node("where").and_then(|node| context.condition_at(long, "where", node));
            Some(TargetRule::Each { family, variable, filter })
        }
        (Short::Long(_), None) => None,
    }
}

/// What each value may be, by its name.
fn one_of(spec: &Object<'_>) -> BTreeMap<String, Vec<Value>> {
    let mut allowed = BTreeMap::new();
    for (key, node) in spec.members("values") {
        let Some(list) = node.get("oneOf") else { continue };
        let Content::List(items) = &list.content else { continue };
        let values: Vec<_> = items.iter().filter_map(scalar).collect();
        if values.len() < items.len() || values.is_empty() {
            spec.report.fault(list.place, "`oneOf` lists texts, numbers or truth values, at least one");
        }
        allowed.insert(key.text.clone(), values);
    }
    allowed
}

fn scalar(node: &Node) -> Option<Value> {
    match &node.content {
        Content::Flag(flag) => Some(Value::Flag(*flag)),
        Content::Number(number) => Some(Value::Number(*number)),
        Content::Text { text, .. } => Some(Value::Text(text.clone())),
        _ => None,
    }
}

/// Reads the values, each after those that it needs: in rounds, as the canonical form has no order of its own. Where
/// nobody evaluates them they stay in that form's order.
fn values(spec: &Object<'_>, context: &Context, allowed: &BTreeMap<String, Vec<Value>>) -> Vec<ComputedValue> {
    let mut pending = Vec::new();
    for (key, node) in spec.members("values") {
        check_name(spec, key);
        let path = format!("{}.{}", spec.path_of("values"), key.text);
        if let Some(object) = Object::new(node, spec.shape("values").fields(), &path, spec.report) {
            object.items("oneOf");
            pending.push((key, object));
        }
    }
    let value = |(key, object): &(&Key, Object<'_>), context: &Context| {
        let (is, one_of) = (context.expression(object, "is"), allowed.get(&key.text));
        Some(ComputedValue { name: key.text.clone(), is: is?, one_of: one_of?.clone() })
    };
    let all = context.declaring(|declared| declared.values.clone_from(allowed));
    if context.reading == Reading::Signed {
        return pending.iter().filter_map(|one| value(one, &all)).collect();
    }
    let (mut context, mut ordered) = (context.clone(), Vec::new());
    while !pending.is_empty() {
        let ready = pending.iter().position(|(_, object)| {
            let text = object.node("is").and_then(Node::text);
            text.is_some_and(|text| Expression::compile(text, &context.declared).is_ok())
        });
        let Some(ready) = ready else { break };
        if let Some(value) = value(&pending.remove(ready), &context) {
            context = context.declaring(|declared| {
                declared.values.insert(value.name.clone(), value.one_of.clone());
            });
            ordered.push(value);
        }
    }
    for (_, object) in &pending {
        if all.expression(object, "is").is_some() {
            object.report.fault(object.place_of("is"), "the value needs itself, by way of others: break the circle");
        }
    }
    ordered
}

fn signals(spec: &Object<'_>, context: &Context, is_fleet: bool) -> BTreeMap<String, Signal> {
    let mut signals = BTreeMap::new();
    let Shape::Map(shape) = spec.shape("signals") else { return signals };
    for (key, node) in spec.members("signals") {
        check_name(spec, key);
        let signal = match spec.short_node("signals", node, shape) {
            None => continue,
            Some(Short::Text(_)) => {
                context.condition_at(spec, "signals", node).map(|that| Signal { that, quorum: None })
            }
            Some(Short::Long(long)) => {
                let quorum = quorum(&long, is_fleet);
                let context = if quorum.is_some() { context.with_quorum() } else { context.clone() };
                context.condition(&long, "that").map(|that| Signal { that, quorum })
            }
        };
        let Some(signal) = signal else { continue };
        if context.reading == Reading::Written && signal.quorum.is_some() && asks_alert(&signal.that) {
            let message =
                "an alert of another system is one voice, however many observers repeat it: ask it without a quorum";
            spec.report.fault(node.place, message);
        }
        if context.reading == Reading::Written
            && let Some(other) = signal.that.signals().first()
        {
            let message = format!("a signal asks probes, not the signal `{other}`: write the condition out");
            spec.report.fault(node.place, message);
        }
        signals.insert(key.text.clone(), signal);
    }
    signals
}

/// Whether a condition asks an alert of another system itself.
fn asks_alert(condition: &Condition) -> bool {
    condition.reads().contains(&Reference::Alert)
}

/// An act is verified by samples that were taken after it, and an alert of another system is none: not by way of a signal or a
/// value either.
fn refuse_alerts_that_verify(
    spec: &Object<'_>,
    ladder: &[Rung],
    signals: &BTreeMap<String, Signal>,
    values: &[ComputedValue],
) {
    let of_value =
        |name: &String| values.iter().any(|value| value.name == *name && value.is.reads().contains(&Reference::Alert));
    let reaches = |that: &Condition| {
        let by_signal = |name: &String| signals.get(name).is_some_and(|signal| asks_alert(&signal.that));
        asks_alert(that) || that.signals().iter().any(by_signal) || that.values().iter().any(of_value)
    };
    for rung in ladder.iter().filter(|rung| rung.verify.as_ref().is_some_and(|verify| reaches(&verify.that))) {
        let message = format!(
            "rung `{}`: an act is verified by samples that were taken after it, and an alert of another system is none: ask a \
             probe",
            rung.name
        );
        spec.report.fault(spec.place_of("ladder"), message);
    }
}

fn quorum(object: &Object<'_>, is_fleet: bool) -> Option<Quorum> {
    let quorum = object.parsed("quorum", |text| {
        let numbers = text.split_once(" of ").and_then(|(of, among)| Some((of.parse().ok()?, among.parse().ok()?)));
        numbers
            .filter(|(of, among)| (1..=*among).contains(of))
            .map(|(of, among)| Quorum { of, among })
            .ok_or_else(|| format!("{text:?} is not a quorum: write `2 of 3`"))
    });
    if object.has("quorum") && !is_fleet {
        let message = "a quorum counts observing hosts, so it needs `target: fleet`";
        object.report.fault(object.place_of("quorum"), message);
    }
    quorum
}

fn guards(object: &Object<'_>) -> Option<Guards> {
    let cooldown = object.parsed("cooldown", unit::duration);
    let calendar = object.parsed("calendar", str::parse::<ObjectName>);
    let disturb = object.object("disturb").and_then(|disturb| {
        let hosts = disturb.parsed("hosts", |text| whole(text, 0, 1_000_000));
        let (percent, over) = (disturb.parsed("percent", unit::percent), disturb.parsed("over", unit::duration));
        Some(Disturb { hosts: hosts?, percent: percent?, over: over? })
    });
    let budget = object.object("budget").and_then(|budget| {
        let count = |text: &str| whole(text, 0, 1_000_000);
        let (per_target, per_policy) = (budget.parsed("perTarget", count), budget.parsed("perPolicy", count));
        let within = budget.parsed("within", unit::duration);
        Some(Budget { per_target: per_target?, per_policy: per_policy?, within: within? })
    });
    let yield_to = object.list("yieldTo", yields_to);
    let calendar = calendar?;
    let calendar = Some(calendar).filter(|calendar| calendar.as_str() != "always");
    Some(Guards { cooldown: cooldown?, calendar, disturb: disturb?, budget: budget?, yield_to })
}

fn yields_to(text: &str) -> Result<String, String> {
    let good = match text.split_once(' ') {
        Some(("boot", duration)) => unit::duration(duration).is_ok(),
        Some(_) => false,
        None => matches!(text, "package-lock" | "human-session"),
    };
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?}: there are package-lock, human-session and `boot 5m`"))
    }
}

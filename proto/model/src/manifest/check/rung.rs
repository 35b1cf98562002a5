//! The ladder: rungs, steps, approvals, verification.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value as Json;

use crate::{
    action::{self, whole},
    condition::{Condition, Reference},
    manifest::{
        Reading,
        node::{Content, Node},
        object::{Object, Report, Short, unknown},
        schema::Shape,
    },
    name::ObjectName,
    policy::{ApprovalRule, Choice, Does, Once, Otherwise, Requirement, Rollout, Rung, Step, Verify},
    selector::{Placement, Selector},
    unit,
    value::Value,
};

use super::{conditions::Context, parts};

/// The choice that denies.
const REJECT: &str = crate::trust::approvals::REJECT;

/// Reads the ladder.
pub(super) fn ladder(spec: &Object<'_>, context: &Context, is_fleet: bool) -> Vec<Rung> {
    let context = context.in_rung();
    let mut names = BTreeSet::new();
    let mut rungs = Vec::new();
    for object in spec.objects("ladder") {
        let rung = rung(&object, &context, is_fleet);
        if let Some(rung) = rung {
            if !names.insert(rung.name.clone()) {
                object.report.fault(object.place_of("name"), format!("there are two rungs `{}`", rung.name));
            }
            rungs.push(rung);
        }
    }
    rungs
}

fn rung(object: &Object<'_>, context: &Context, is_fleet: bool) -> Option<Rung> {
    let name = object.parsed("name", str::parse::<ObjectName>);
    let only_if = context.condition(object, "if");
    let after = object.parsed("after", unit::duration);
    let unless = context.condition(object, "unless");
    if object.has("unless") && !object.has("after") {
        object.report.fault(object.place_of_key("unless"), "`unless` shortens `after`, and there is none");
    }
    let require = object.objects("require").iter().filter_map(|one| requirement(one, context)).collect();
    let on = placement(object, context);
    let steps = steps(object, "do", context, is_fleet && on.is_none());
    if steps.is_empty() && object.has("do") && object.report.is_clean() {
        object.report.fault(object.place_of("do"), "`do` is empty: a rung does something");
    }
    let finally = self::steps(object, "finally", context, is_fleet && on.is_none());
    let rollout = object.object("rollout").and_then(|rollout| self::rollout(&rollout));
    let approval = object.object("approval").and_then(|approval| self::approval(&approval, context));
    let verify = object.object("verify").and_then(|verify| self::verify(&verify, context));
    check_listing(object, &steps, &finally);
    let otherwise = object.parsed("otherwise", |text| match text {
        "next" => Ok(Otherwise::Next),
        "undo" => Ok(Otherwise::Undo),
        "page" => Ok(Otherwise::Page),
        other => Err(format!("`otherwise` is next, undo or page, not {other:?}")),
    });
    let rung = Rung {
        name: name?.to_string(),
        only_if,
        after,
        unless,
        require,
        on,
        steps,
        finally,
        rollout: rollout?,
        approval,
        verify,
        otherwise: otherwise?,
    };
    check_previews(object, context, &rung);
    Some(rung)
}

/// What hosts listed is known when the plan has been carried out, of a rung that is previewed at all.
fn check_previews(object: &Object<'_>, context: &Context, rung: &Rung) {
    if context.reading == Reading::Signed {
        return;
    }
    let is_value = |name: &str| context.declared.values.contains_key(name);
    let names_it = |condition: &Condition| {
        condition.reads().iter().any(|read| matches!(read, Reference::Plan(name) if !is_value(name)))
    };
    let asked = rung.approval.as_ref().and_then(|rule| rule.only_if.as_ref());
    let required = rung.require.iter().map(|one| &one.that);
    if rung.only_if.iter().chain(&rung.unless).chain(asked).chain(required).any(names_it) {
        let message = "what its previews list is known in `verify` only, once the plan was carried out";
        object.report.fault(object.place, message);
    }
    let is_previewed = rung.approval.is_some() || rung.steps.iter().any(|step| action::lists_objects(&step.action));
    if !is_previewed && rung.verify.as_ref().is_some_and(|verify| names_it(&verify.that)) {
        let message = "nobody knows what was planned: this rung is not previewed, as it has no `approval` and no action that \
                       lists what it touches";
        object.report.fault(object.place_of("verify"), message);
    }
}

/// What earlier steps change would change the list, which is made before all of them.
fn check_listing(object: &Object<'_>, steps: &[Step], finally: &[Step]) {
    let late = steps.iter().skip(1).chain(finally).find(|step| action::lists_objects(&step.action));
    if let Some(step) = late {
        let message = format!(
            "{} lists what it touches before anything is done, so it is the first step of its rung, and never in `finally`",
            step.action
        );
        object.report.fault(object.place, message);
    }
}

fn requirement(object: &Object<'_>, context: &Context) -> Option<Requirement> {
    let (that, because) = (context.condition(object, "that"), object.text("because"));
    Some(Requirement { that: that?, because: because? })
}

/// Reads a placement; values of its labels may be values of the policy.
fn placement(object: &Object<'_>, context: &Context) -> Option<Placement> {
    let placement = parts::placement(object, "on")?;
    if let (Selector::Labels(labels), Some(node)) = (&placement.selector, object.node("on")) {
        for value in labels.values() {
            context.whole_value(object, node, value);
        }
    }
    Some(placement)
}

fn steps(object: &Object<'_>, field: &str, context: &Context, needs_place: bool) -> Vec<Step> {
    object.objects(field).iter().filter_map(|object| step(object, context, needs_place)).collect()
}

fn step(object: &Object<'_>, context: &Context, needs_place: bool) -> Option<Step> {
    let action = object.text("action");
    let on = placement(object, context);
    if needs_place && on.is_none() && !object.has("on") {
        let message = "the fleet is no host of its own: say where the step runs with `on`";
        object.report.fault(object.place, message);
    }
    let timeout = object.parsed("timeout", unit::duration);
    if timeout == Some(Duration::ZERO) {
        object.report.fault(object.place_of("timeout"), "a `timeout` of nothing always fails");
    }
    let once = object.short("once").and_then(|once| self::once(&once, context));
    let action = action?;
    let with = parameters(object, &action, context);
    Some(Step { action, on, with, timeout: timeout?, once })
}

fn once(once: &Short<'_>, context: &Context) -> Option<Once> {
    match once {
        Short::Text(_) => Some(Once::Incident),
        Short::Long(long) => {
            let (key, within) = (context.expression(long, "key"), long.parsed("in", unit::duration));
            Some(Once::Key { key: key?, within: within? })
        }
    }
}

/// Reads the parameters of a step: checked by the action's own grammar, once for every set of values that they can have.
fn parameters(object: &Object<'_>, action: &str, context: &Context) -> serde_json::Map<String, Json> {
    let empty = Node { place: object.place, content: Content::Map(Vec::new()) };
    let node = object.node("with").unwrap_or(&empty);
    let known = action::ACTIONS.iter().map(|known| known.name);
    if !known.clone().any(|known| known == action) {
        object.report.fault(object.place_of("action"), unknown("action", action, known));
        return serde_json::Map::new();
    }
    let mut used = BTreeSet::new();
    node.visit_texts(&mut |text_node, text| used.extend(context.whole_value(object, text_node, text)));
    if action == "dns.failover" {
        refuse_fixed_servers(object, node, &used);
    }
    let most = used.iter().filter_map(|name| context.declared.values.get(*name)).map(Vec::len).max();
    let mut faults = BTreeSet::new();
    for round in 0..most.unwrap_or(1) {
        let report = Report::default();
        let filled = node.map_texts(&mut |text| {
            let name = text.strip_prefix("$(")?.strip_suffix(')')?;
            // `from` and `to` never are the same value, so each is tried with another of those allowed.
            let offset = used.iter().position(|used| *used == name)?;
            let values = context.declared.values.get(name)?;
            values.get((round + offset) % values.len().max(1)).map(content)
        });
        action::read(action, &filled, &object.path_of("with"), &report);
        faults.extend(report.into_faults());
    }
    for (place, message) in faults {
        object.report.fault(place, message);
    }
    match node.to_json() {
        Json::Object(members) => members,
        _ => serde_json::Map::new(),
    }
}

fn content(value: &Value) -> Content {
    match value {
        Value::Flag(flag) => Content::Flag(*flag),
        Value::Number(number) => Content::Number(*number),
        Value::Text(text) => Content::Text { text: text.clone(), column: None },
    }
}

/// A fail-over names both servers by values: what is active now, as it was seen, is the compare of its
/// compare-and-set, and `oneOf` bounds what it can become.
fn refuse_fixed_servers(object: &Object<'_>, with: &Node, used: &BTreeSet<&str>) {
    for field in ["from", "to"] {
        let Some(node) = with.get(field) else { continue };
        let name = node.text().and_then(|text| text.strip_prefix("$(")?.strip_suffix(')'));
        if !name.is_some_and(|name| used.contains(name)) {
            let message = format!(
                "`{field}` has to be a $(value) of the policy with `oneOf`: a fail-over compares what is active before \
                 it sets"
            );
            object.report.fault(node.place, message);
        }
    }
}

fn rollout(object: &Object<'_>) -> Option<Rollout> {
    let waves = object.list("waves", |text| whole(text, 1, 100_000));
    if waves.is_empty() && object.report.is_clean() {
        object.report.fault(object.place_of("waves"), "`waves` is empty: write [1, 2, 4]");
    }
    let settle = object.parsed("settle", unit::duration);
    let max_errors = object.parsed("maxErrors", |text| whole(text, 0, 100_000));
    Some(Rollout { waves, settle: settle?, max_errors: max_errors? })
}

fn approval(object: &Object<'_>, context: &Context) -> Option<ApprovalRule> {
    let only_if = context.condition(object, "if");
    let role = object.parsed("role", str::parse::<ObjectName>);
    let count = object.parsed("count", |text| whole(text, 1, 100));
    let (expires, remind) = (object.parsed("expires", unit::duration), object.parsed("remind", unit::duration));
    let choices = choices(object, context);
    let signed = object.parsed("signed", str::parse::<bool>);
    Some(ApprovalRule {
        only_if,
        role: role?.to_string(),
        count: count?,
        expires: expires?,
        choices,
        remind,
        signed: signed?,
    })
}

fn choices(object: &Object<'_>, context: &Context) -> Vec<Choice> {
    let plain = |name: ObjectName| Choice {
        does: if name.as_str() == REJECT { Does::Deny } else { Does::Run },
        name: name.to_string(),
    };
    let choices: Vec<Choice> = match object.shape("choices") {
        Shape::List(shape) if object.has("choices") => {
            let nodes = object.items("choices").into_iter();
            let read = |node| match object.short_node("choices", node, shape)? {
                Short::Text(_) => {
                    object.parse_node("choices", node, &Shape::Name, &str::parse::<ObjectName>).map(plain)
                }
                Short::Long(long) => told(&long, context),
            };
            nodes.filter_map(read).collect()
        }
        _ => object.list("choices", str::parse::<ObjectName>).into_iter().map(plain).collect(),
    };
    if !object.report.is_clean() {
        return choices;
    }
    let distinct: BTreeSet<_> = choices.iter().map(|choice| &choice.name).collect();
    if distinct.len() < choices.len() || !choices.iter().any(Choice::runs) {
        let message = "`choices` are distinct, and one of them runs the plan: a name that is not `reject`";
        object.report.fault(object.place_of("choices"), message);
    } else if choices.first().is_some_and(|first| matches!(first.does, Does::Tell { .. })) {
        let message = "the first choice is taken when an approval names none: put one before it that runs the plan";
        object.report.fault(object.place_of("choices"), message);
    }
    choices
}

/// Reads a choice that tells somebody.
fn told(object: &Object<'_>, context: &Context) -> Option<Choice> {
    let name = object.parsed("name", |text| match text.parse::<ObjectName>() {
        Ok(name) if name.as_str() == REJECT => Err("`reject` denies and tells nobody: call it otherwise".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    });
    let contact = object.parsed("tell", str::parse::<ObjectName>);
    let text = object.text("text");
    if let (Some(node), Some(text)) = (object.node("text"), &text) {
        context.check_message(object, node, text);
    }
    Some(Choice { name: name?.to_string(), does: Does::Tell { contact: contact?, text } })
}

fn verify(object: &Object<'_>, context: &Context) -> Option<Verify> {
    let that = context.condition(object, "that");
    let (stable, within) = (object.parsed("stable", unit::duration), object.parsed("within", unit::duration));
    let (stable, within) = (stable?, within?);
    if stable > within {
        object.report.fault(object.place_of("stable"), "`stable` is longer than `within`: it could never be verified");
    }
    Some(Verify { that: that?, stable, within })
}

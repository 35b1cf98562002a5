//! What starts a policy, and what is said beside its ladder.

use std::time::Duration;

use crate::{
    calendar::{self, Cron},
    manifest::object::Object,
    name::ObjectName,
    policy::{AlertRule, Overlap, Schedule, TargetRule, Tell, TellAt, Trigger},
    unit,
};

use super::{conditions::Context, parts};

/// What a policy asks that is triggered by the alerts of another system.
const FIRING: &str = "alert.firing";

/// Reads a trigger.
pub(super) fn trigger(object: &Object<'_>, context: &Context) -> Option<Trigger> {
    let kind = object.exactly_one(&["when", "alert", "schedule"])?;
    if kind == "schedule" {
        for field in ["for", "clear"].iter().filter(|field| object.has(field)) {
            object.report.fault(object.place_of_key(field), format!("`{field}` goes with `when`, not with a schedule"));
        }
        return schedule(&object.object("schedule")?).map(Trigger::Schedule);
    }
    let hold_for = object.parsed("for", unit::duration);
    if !object.has("for") {
        object.report.filled_in("spec.trigger.for", "0s");
    }
    let clear = context.condition(object, "clear");
    let when = match kind {
        "alert" => context.compile_once(FIRING).ok()?,
        _ => context.condition(object, "when")?,
    };
    Some(Trigger::When { when, hold_for: hold_for.unwrap_or(Duration::ZERO), clear })
}

/// Reads what is said of the alerts of another system.
pub(super) fn alert(object: &Object<'_>, target: Option<&TargetRule>) -> Option<AlertRule> {
    let source = object.text("source");
    let matches = parts::labels(object, "match");
    if matches.is_empty() && object.has("match") {
        let message = "`match` names no label, and no label is no alert: name at least one, `alertname: NAME`";
        object.report.fault(object.place_of("match"), message);
    }
    let host_label = object.parsed("target", |text| match text.strip_prefix("labels.") {
        Some(label) if parts::is_label(label) => Ok(label.to_owned()),
        _ => Err(format!("{text:?} is not a label of the alert: write `labels.instance`")),
    });
    let fault = |field: &str, message: &str| object.report.fault(object.place_of(field), message);
    match target {
        Some(TargetRule::Host) if !object.has("target") => {
            fault("source", "an alert says by a label on which host it is: add `target: labels.instance`");
        }
        Some(TargetRule::Fleet) if object.has("target") => {
            fault("target", "the policy's target is the fleet, so no label of the alert names a host");
        }
        Some(TargetRule::Each { .. }) => {
            fault("source", "an alert is about a host or the fleet: let the policy's `target` be one of these");
        }
        _ => {}
    }
    let stale = object.parsed("stale", unit::duration);
    Some(AlertRule { source: source?, matches, host_label, stale: stale? })
}

fn schedule(object: &Object<'_>) -> Option<Schedule> {
    let zone = object.parsed("timeZone", calendar::time_zone);
    let in_zone = zone.clone().unwrap_or(jiff::tz::TimeZone::UTC);
    let cron = object.parsed("cron", |text| Cron::parse(text, in_zone.clone()));
    let splay = object.parsed("splay", unit::duration);
    let missed = object.parsed("missed", |text| match (text, text.strip_prefix("run within ")) {
        ("skip", _) => Ok(Duration::ZERO),
        (_, Some(duration)) => unit::duration(duration).map_err(|error| error.to_string()),
        _ => Err(format!("`missed` is skip, or run within 4h, not {text:?}")),
    });
    let overlap = object.parsed("overlap", |text| match text {
        "skip" => Ok(Overlap::Skip),
        "queue" => Ok(Overlap::Queue),
        other => Err(format!("`overlap` is skip or queue, not {other:?}")),
    });
    zone?;
    Some(Schedule { cron: cron?, splay: splay?, missed_within: missed?, overlap: overlap? })
}

/// Reads a message.
pub(super) fn tell(object: &Object<'_>, context: &Context) -> Option<Tell> {
    let at = object.parsed("at", |text| match text {
        "firing" => Ok(TellAt::Firing),
        "held" => Ok(TellAt::Held),
        "acted" => Ok(TellAt::Acted),
        "resolved" => Ok(TellAt::Resolved),
        other => Err(format!("`at` is firing, held, acted or resolved, not {other:?}")),
    });
    let when = context.condition(object, "if");
    let contact = object.parsed("contact", str::parse::<ObjectName>);
    let probes = &context.declared.probes;
    let attach = object.list("attach", |text| match text.strip_prefix("probe.") {
        Some(name) if probes.contains_key(name) => Ok(text.to_owned()),
        None if text == "changes" => Ok(text.to_owned()),
        Some(name) => Err(format!("there is no probe `{name}` to attach")),
        None => Err(format!("{text:?} cannot be attached: there are probe.NAME and changes")),
    });
    let text = object.text("text");
    if let (Some(node), Some(text)) = (object.node("text"), &text) {
        context.check_message(object, node, text);
    }
    Some(Tell { at: at?, when, contact: contact?, attach, text: text? })
}

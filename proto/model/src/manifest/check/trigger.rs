//! What starts a policy, and what is said beside its ladder.

use std::time::Duration;

use crate::{
    calendar::{self, Cron},
    manifest::object::Object,
    name::ObjectName,
    policy::{Overlap, Schedule, Tell, TellAt, Trigger},
    unit,
};

use super::conditions::Context;

/// Reads a trigger.
pub(super) fn trigger(object: &Object<'_>, context: &Context) -> Option<Trigger> {
    if object.has("alert") {
        // Said already: a later version knows it.
        return None;
    }
    if object.exactly_one(&["when", "schedule"])? == "schedule" {
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
    let when = context.condition(object, "when")?;
    Some(Trigger::When { when, hold_for: hold_for.unwrap_or(Duration::ZERO), clear })
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

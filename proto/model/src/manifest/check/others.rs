//! Services, calendars, windows and contacts.

use jiff::{Timestamp, civil::Date};

use crate::{
    action::whole,
    calendar::{self, Calendar, Hours},
    manifest::{
        object::{Object, Short},
        schema::Shape,
    },
    name::{self, ObjectName},
    policy::{Channel, Contact, Service, Window},
    unit,
};

use super::{Head, parts::selector};

/// Reads a service.
pub(super) fn service(head: Option<Head>, spec: &Object<'_>) -> Option<Service> {
    let owner = spec.text("owner");
    let members = selector(spec, "members");
    let depends_on = spec.list("dependsOn", str::parse::<ObjectName>);
    let keep_healthy = spec.parsed("keepHealthy", |text| whole(text, 0, 100_000));
    let calendar = spec.parsed("calendar", str::parse);
    let contacts = spec.list("contacts", str::parse::<ObjectName>);
    let Head { name, digest } = head?;
    Some(Service { name, digest, owner, members, depends_on, keep_healthy: keep_healthy?, calendar, contacts })
}

/// Reads a calendar.
pub(super) fn calendar(head: Option<Head>, spec: &Object<'_>) -> Option<Calendar> {
    let time_zone = spec.parsed("timeZone", calendar::time_zone);
    let mut week: [Vec<Hours>; 7] = Default::default();
    for hours in spec.objects("open") {
        let days = hours.parsed("days", calendar::days).unwrap_or_default();
        if let Some(span) = span(&hours) {
            week.iter_mut().zip(days).filter(|(_, chosen)| *chosen).for_each(|(day, _)| day.push(span));
        }
    }
    let mut exceptions = std::collections::BTreeMap::new();
    for exception in spec.objects("exceptions") {
        let hours = exception_hours(&exception);
        let date = exception.parsed("date", |text| {
            text.parse::<Date>().map_err(|_| format!("{text:?} is not a date: write 2026-12-24"))
        });
        if date.is_some_and(|date| exceptions.insert(date, hours).is_some()) {
            exception.report.fault(exception.place, "the date is there twice: give one exception for it");
        }
    }
    let Head { name, digest } = head?;
    Some(Calendar { name, digest, time_zone: time_zone?, week, exceptions })
}

fn span(object: &Object<'_>) -> Option<Hours> {
    let (from, to) = (object.parsed("from", calendar::time_of_day), object.parsed("to", calendar::time_of_day));
    let (from, to) = (from?, to?);
    if from == to || from == 1440 {
        object
            .report
            .fault(object.place_of("to"), "`from` and `to` are the same time: write 00:00 and 24:00 for a day");
        return None;
    }
    Some(Hours::new(from, to))
}

fn exception_hours(object: &Object<'_>) -> Vec<Hours> {
    let closed = object.parsed("closed", str::parse::<bool>);
    match (closed, object.has("from"), object.has("to")) {
        (Some(true), false, false) => Vec::new(),
        (None, true, true) => span(object).into_iter().collect(),
        _ => {
            object.report.fault(object.place, "an exception is { date, closed: true } or { date, from, to }");
            Vec::new()
        }
    }
}

/// Reads a window.
pub(super) fn window(head: Option<Head>, spec: &Object<'_>) -> Option<Window> {
    let hosts = selector(spec, "hosts");
    let suppress = spec.list("suppress", |text| match text {
        "notify" | "act" => Ok(text.to_owned()),
        other => Err(format!("`suppress` holds notify, act or both, not {other:?}")),
    });
    if suppress.is_empty() && spec.has("suppress") && spec.report.is_clean() {
        spec.report.fault(spec.place_of("suppress"), "`suppress` is empty: write [notify], [act] or [notify, act]");
    }
    let moment = |text: &str| {
        let wrong = || format!("{text:?} is not a moment: write 2026-12-24T17:00:00Z or …T17:00:00+01:00");
        text.parse::<Timestamp>().map_err(|_| wrong())
    };
    let (from, until) = (spec.parsed("from", moment), spec.parsed("until", moment));
    let reason = spec.text("reason");
    let (from, until) = (from?, until?);
    if until <= from {
        spec.report.fault(spec.place_of("until"), "`until` is not after `from`");
    }
    let Head { name, digest } = head?;
    let suppresses = |what: &str| suppress.iter().any(|word| word == what);
    let (suppress_notify, suppress_act) = (suppresses("notify"), suppresses("act"));
    Some(Window { name, digest, hosts, suppress_notify, suppress_act, from, until, reason: reason? })
}

/// Reads a contact.
pub(super) fn contact(head: Option<Head>, spec: &Object<'_>) -> Option<Contact> {
    let via = channels(spec);
    let next = spec.object("next").and_then(|next| {
        let (contact, after) = (next.parsed("contact", str::parse::<ObjectName>), next.parsed("after", unit::duration));
        Some((contact?, after?))
    });
    let Head { name, digest } = head?;
    Some(Contact { name, digest, via, next })
}

fn channels(spec: &Object<'_>) -> Vec<Channel> {
    let nodes = spec.items("via");
    if nodes.is_empty() && spec.has("via") && spec.report.is_clean() {
        spec.report.fault(spec.place_of("via"), "`via` is empty: write [log] or [{ webhook: { url: … } }]");
    }
    let shape = spec.shape("via");
    let Shape::List(shape) = shape else { return Vec::new() };
    let read = |node| match spec.short_node("via", node, shape)? {
        Short::Text(_) => Some(Channel::Log),
        Short::Long(long) => {
            let webhook = long.object("webhook")?;
            match webhook.exactly_one(&["url", "urlFile"])? {
                "url" => Some(Channel::Webhook { url: webhook.parsed("url", name::url)? }),
                _ => Some(Channel::SecretWebhook { file: webhook.parsed("urlFile", str::parse::<ObjectName>)? }),
            }
        }
    };
    nodes.into_iter().filter_map(read).collect()
}

//! The kinds of manifests and their fields.

use super::{
    Field, Kind, Shape,
    shared::{PLACEMENT, SELECTOR, default, optional, required},
};

/// What every manifest has.
pub(crate) const DOCUMENT: &[Field] = &[
    required("apiVersion", Shape::Choice(&["quell/v1"]), "The version of the format."),
    required("kind", Shape::Text, "What the manifest is: Policy, Service, Calendar, Window, Contact or Limits."),
    required("metadata", Shape::Object(METADATA), "Its name and labels."),
    required("spec", Shape::Any, "What it says; see the kind."),
];

/// What every manifest is called.
pub(crate) const METADATA: &[Field] = &[
    default("namespace", Shape::Name, "default", "The namespace; manifests refer to others of their own only."),
    required("name", Shape::Name, "The name, unique for the kind in the namespace."),
    optional("labels", Shape::Map(&Shape::Text), "For people and their tools; nothing is decided by them."),
];

/// Every kind.
pub static KINDS: &[Kind] = &[
    Kind { name: "Policy", about: "A fault, how it is known, and what is done about it.", fields: POLICY },
    Kind { name: "Service", about: "A service: who owns it, who its members are, what it stands on.", fields: SERVICE },
    Kind { name: "Calendar", about: "When something is open.", fields: CALENDAR },
    Kind { name: "Window", about: "A time in which messages, acts or both are suppressed.", fields: WINDOW },
    Kind { name: "Contact", about: "Somebody who is told.", fields: CONTACT },
    Kind {
        name: "Limits",
        about: "Ceilings over all policies of a namespace, signed by other keys; what is left out is not bounded.",
        fields: LIMITS,
    },
];

const POLICY: &[Field] = &[
    required("description", Shape::Text, "What the fault is, in a sentence."),
    optional("service", Shape::Name, "The service that it looks after; its calendar and limits hold too."),
    optional(
        "problem",
        Shape::Name,
        "Problem and target are the incident, several policies may feed one; the policy's name when left out.",
    ),
    default("severity", Shape::Choice(&["page", "ticket", "info"]), "ticket", "How loudly people are told."),
    optional("toil", Shape::Object(TOIL), "What the manual task costs, for the ledger."),
    default(
        "mode",
        Shape::Choice(&["observe", "propose", "enforce"]),
        "observe",
        "How far it may go: record, ask, or act.",
    ),
    required("hosts", SELECTOR, "Who observes; `all` has to be written out."),
    default("target", Shape::Short(&Shape::Choice(&["host", "fleet"]), EACH), "host", "What is judged."),
    optional("probes", Shape::Map(&Shape::Object(PROBE)), "What is measured besides the host samples, by name."),
    optional("values", Shape::Map(&Shape::Object(VALUE)), "Values computed when a plan is made, and frozen into it."),
    optional(
        "signals",
        Shape::Map(&Shape::Short(&Shape::Condition, SIGNAL)),
        "Named conditions: true, false or unknown.",
    ),
    required("trigger", Shape::Object(TRIGGER), "What starts it: exactly one of `when`, `alert` and `schedule`."),
    optional("expect", Shape::Object(EXPECT), "Dead-man: a run that did not happen is a fault too."),
    optional("tell", Shape::List(&Shape::Object(TELL)), "Messages beside the ladder."),
    optional("ladder", Shape::List(&Shape::Object(RUNG)), "Rungs, tried in order until the symptom is gone."),
    default("guards", Shape::Object(GUARDS), "{}", "What holds it back."),
    optional("escalate", Shape::Object(ESCALATE), "Who is called when nothing helps; required in enforce."),
];

const TOIL: &[Field] = &[
    required("minutes", Shape::Number, "Minutes that a person needed each time."),
    required("category", Shape::Text, "What kind of work it was: `on-call`."),
];

const EACH: &[Field] = &[
    required(
        "each",
        Shape::Choice(&["host.disks", "host.network"]),
        "The family whose elements are judged one by one.",
    ),
    required("as", Shape::Name, "What conditions call the element."),
    optional("where", Shape::Condition, "Which elements; all when left out."),
];

pub(crate) const PROBE: &[Field] = &[
    optional("http", Shape::Object(HTTP), "An HTTP GET; ok when the status is the expected one and the body matches."),
    optional("tcp", Shape::Object(TCP), "A TCP connection; ok when it opens."),
    optional("tls", Shape::Object(TLS), "A TLS handshake; ok when the chain is valid for the name."),
    optional("dns", Shape::Object(DNS), "A DNS query; ok on NOERROR with an answer."),
    optional("process", Shape::Object(PROCESS), "Processes; ok when at least one runs."),
    optional(
        "service",
        Shape::Object(SERVICE_PROBE),
        "A service of the host's agent.toml, or a systemd unit; ok when active.",
    ),
    optional("logMatch", Shape::Object(LOG_MATCH), "The newest lines of a log; ok when the file can be read."),
    optional("file", Shape::Object(FILE), "A file's age, size and content; ok when it exists."),
    optional("command", Shape::Object(COMMAND), "A command; ok when it exits 0 and the pattern, if any, matches."),
    optional(
        "on",
        PLACEMENT,
        "Where it runs when it gives one value for the fleet; on every host of the policy when left out.",
    ),
    default("every", Shape::Duration, "15s", "How often; at least 1s."),
    default(
        "timeout",
        Shape::Duration,
        "5s",
        "After how long an unanswered attempt has failed; never longer than `every`.",
    ),
];

const HTTP: &[Field] = &[
    required("url", Shape::Text, "Absolute http or https URL."),
    optional("status", Shape::Integer, "The expected status; 200 when left out."),
    optional("body", Shape::Pattern, "What the first 64 KiB of the body must match."),
];

const TCP: &[Field] = &[required("address", Shape::Text, "Host or address, and port: `planthost1:80`.")];

const TLS: &[Field] = &[
    required("address", Shape::Text, "Host or address, and port."),
    optional("name", Shape::Text, "The name to ask for and to check; the address's host when left out."),
];

const DNS: &[Field] = &[
    required("server", Shape::Text, "The server's IP address."),
    default("port", Shape::Integer, "53", "Its port."),
    required("name", Shape::Text, "The name to ask for."),
    default("record", Shape::Choice(super::super::check::RECORDS), "A", "The record type."),
    optional(
        "reach",
        Shape::Text,
        "How the machine behind a silent server is found: `tcp/22`; the DNS port when left out.",
    ),
];

const PROCESS: &[Field] = &[
    optional("name", Shape::Text, "Exact name of the executable, or"),
    optional("command", Shape::Pattern, "what the command line must match, arguments joined by spaces."),
];

const SERVICE_PROBE: &[Field] = &[required("name", Shape::Text, "The service or unit.")];

const LOG_MATCH: &[Field] = &[
    required("path", Shape::Path, "The log."),
    required("pattern", Shape::Pattern, "What a line must match; named groups become `captures.NAME`."),
    optional(
        "before",
        Shape::Pattern,
        "What the nearest line above the newest match is searched for; its named groups are captured too.",
    ),
    default("window", Shape::Integer, "100", "How many lines are looked at, from 1 to 10000."),
];

const FILE: &[Field] = &[
    required("path", Shape::Path, "The file."),
    optional("parse", Shape::Pattern, "A pattern whose first group is the value; the whole content when left out."),
];

const COMMAND: &[Field] = &[
    required(
        "argv",
        Shape::List(&Shape::Text),
        "Program and arguments; never a shell, and allowed by the host's agent.toml.",
    ),
    optional("parse", Shape::Pattern, "What standard output must match; named groups become fields."),
];

const VALUE: &[Field] = &[
    required("is", Shape::Expression, "How it is computed."),
    required("oneOf", Shape::List(&Shape::Scalar), "What it may be; anything else is unknown, and holds the plan."),
];

const SIGNAL: &[Field] = &[
    required("that", Shape::Condition, "What must hold."),
    optional("quorum", Shape::Text, "For how many of how many observers: `2 of 3`; for a target of the fleet only."),
];

const TRIGGER: &[Field] = &[
    optional("when", Shape::Condition, "The condition that starts it."),
    optional("alert", Shape::Object(ALERT), "An alert that another system tells of; `alert.firing` in conditions."),
    optional("for", Shape::Duration, "How long it must hold, `0s` when left out; with `when` and `alert`."),
    optional("clear", Shape::Condition, "What ends it; when left out, that it is known not to hold any more."),
    optional("schedule", Shape::Object(SCHEDULE), "A timetable."),
];

const ALERT: &[Field] = &[
    required(
        "source",
        Shape::Text,
        "Who tells of it: the operator with the role `alert-source` whose certificate is shown.",
    ),
    required("match", Shape::Map(&Shape::Text), "Labels that it must have: all of these, at least one."),
    optional(
        "target",
        Shape::Text,
        "The label that names the host, a port aside: `labels.instance`; with `target: host`.",
    ),
    default(
        "stale",
        Shape::Duration,
        "15m",
        "Not told of again for so long it is unknown: nothing is begun, nothing is over.",
    ),
];

const SCHEDULE: &[Field] = &[
    required("cron", Shape::Text, "Minute, hour, day of month, month, day of week."),
    default("timeZone", Shape::Text, "UTC", "The zone of its times, as in the IANA database."),
    default("splay", Shape::Duration, "0s", "Starts are spread over this long."),
    default("missed", Shape::Text, "skip", "What becomes of a missed run: `skip`, or `run within 4h`."),
    default("overlap", Shape::Choice(&["skip", "queue"]), "skip", "What happens when the last run has not ended."),
];

const EXPECT: &[Field] = &[required("every", Shape::Duration, "A run must have succeeded at least this often.")];

const TELL: &[Field] = &[
    default("at", Shape::Choice(&["firing", "held", "acted", "resolved"]), "firing", "When."),
    optional("if", Shape::Condition, "Only while this holds."),
    required("contact", Shape::Name, "Who."),
    optional(
        "attach",
        Shape::List(&Shape::Text),
        "What goes with it: `probe.NAME` (its fields, and the tail of a log) or `changes`.",
    ),
    required(
        "text",
        Shape::Text,
        "The text; `$(value)`, `$(probe.NAME.FIELD)`, `$(host.FIELD)`, `$(element.FIELD)` and `$(target)` are filled in.",
    ),
];

const RUNG: &[Field] = &[
    required("name", Shape::Name, "Its name, once on a ladder."),
    optional("if", Shape::Condition, "False: the rung is skipped, and that is recorded; unknown: it is held."),
    optional("after", Shape::Duration, "It starts no sooner than this long after firing."),
    optional("unless", Shape::Condition, "True: it does not wait for `after`."),
    optional(
        "require",
        Shape::List(&Shape::Object(REQUIREMENT)),
        "What must hold when planned and when carried out; unknown is no.",
    ),
    optional("on", PLACEMENT, "Where its steps run; on the target's host when left out."),
    required("do", Shape::List(&Shape::Object(STEP)), "What is done, in order."),
    optional("finally", Shape::List(&Shape::Object(STEP)), "What is done in the end whatever happened."),
    default("rollout", Shape::Object(ROLLOUT), "{}", "How it is spread over several hosts."),
    optional("approval", Shape::Object(APPROVAL), "Whether people are asked first."),
    required("verify", Shape::Object(VERIFY), "How it is known that the symptom is gone."),
    default("otherwise", Shape::Choice(&["next", "undo", "page"]), "next", "What happens when it is not."),
];

const REQUIREMENT: &[Field] = &[
    required("that", Shape::Condition, "What must be known to hold."),
    required("because", Shape::Text, "What is said when it does not."),
];

const STEP: &[Field] = &[
    required("action", Shape::Text, "The action."),
    optional("on", PLACEMENT, "Where; the rung's `on` when left out."),
    optional("with", Shape::Any, "The action's parameters; a text may be `$(value)`, whole."),
    default("timeout", Shape::Duration, "5m", "How long it may take."),
    optional("once", Shape::Short(&Shape::Choice(&["incident"]), ONCE), "A second time goes to people instead."),
];

const ONCE: &[Field] = &[
    required("key", Shape::Expression, "What must not come twice."),
    required("in", Shape::Duration, "Within this long."),
];

const ROLLOUT: &[Field] = &[
    default("waves", Shape::List(&Shape::Integer), "1, 2, 4", "Sizes of the waves; the last repeats."),
    default("settle", Shape::Duration, "60s", "Pause after each wave before it is judged."),
    default("maxErrors", Shape::Integer, "0", "It stops after one failure more than this."),
];

const CHOICE: &[Field] = &[
    required("name", Shape::Name, "What is chosen."),
    required("tell", Shape::Name, "The contact who is told what is wanted instead; the question is closed by it."),
    optional("text", Shape::Text, "What the contact is told, with `$(target)` and `$(name)` as messages have it."),
];

const APPROVAL: &[Field] = &[
    optional("if", Shape::Condition, "People are asked only while this holds."),
    required("role", Shape::Name, "The role that approves."),
    default("count", Shape::Integer, "1", "How many distinct people."),
    default("expires", Shape::Duration, "24h", "How long the question stands."),
    default(
        "choices",
        Shape::List(&Shape::Short(&Shape::Text, CHOICE)),
        "approve, reject",
        "What can be chosen: a name runs the plan, `reject` denies it, and a map tells somebody and runs nothing.",
    ),
    optional("remind", Shape::Duration, "How often people are reminded."),
    default(
        "signed",
        Shape::Flag,
        "true",
        "`false`: an approval may be given without a signature, and hosts take the controller's word for it.",
    ),
];

const VERIFY: &[Field] = &[
    required("that", Shape::Condition, "What must hold, judged by samples taken after the act,"),
    default("stable", Shape::Duration, "0s", "for so long,"),
    default("within", Shape::Duration, "5m", "complete at the latest this long after the act."),
];

const GUARDS: &[Field] = &[
    default(
        "cooldown",
        Shape::Duration,
        "30m",
        "Least time between two remedies of one target; the rungs of one incident are one remedy.",
    ),
    default("calendar", Shape::Name, "always", "It acts only while this calendar is open."),
    default(
        "disturb",
        Shape::Object(DISTURB),
        "{}",
        "How many hosts of the service may be disturbed, over all plans and people.",
    ),
    default("budget", Shape::Object(BUDGET), "{}", "How often it may act."),
    default(
        "yieldTo",
        Shape::List(&Shape::Text),
        "package-lock, boot 5m",
        "Whom it gives way to on the host; also `human-session`.",
    ),
];

const DISTURB: &[Field] = &[
    default("hosts", Shape::Integer, "10", "At most so many hosts,"),
    default(
        "percent",
        Shape::Percent,
        "10",
        "and at most this share of the eligible ones, rounded down, but at least 1,",
    ),
    default("over", Shape::Duration, "1h", "within this long."),
];

const BUDGET: &[Field] = &[
    default("perTarget", Shape::Integer, "3", "Acts on one target,"),
    default("perPolicy", Shape::Integer, "10", "and in all,"),
    default("within", Shape::Duration, "24h", "within this long."),
];

const ESCALATE: &[Field] = &[
    default("to", Shape::Name, "on-call", "The contact."),
    default(
        "after",
        Shape::Duration,
        "15m",
        "After firing for this long without a cure; at once when the ladder ends.",
    ),
];

const SERVICE: &[Field] = &[
    optional("owner", Shape::Text, "Who owns it."),
    required("members", SELECTOR, "The hosts that make it up."),
    optional(
        "dependsOn",
        Shape::List(&Shape::Name),
        "Services it stands on: their incidents inhibit its own, and both are never disturbed at once.",
    ),
    default(
        "keepHealthy",
        Shape::Integer,
        "1",
        "Members that stay undisturbed, counted wave by wave; a service with a single member must write 0.",
    ),
    optional("calendar", Shape::Name, "When it may be worked on; always when left out."),
    optional("contacts", Shape::List(&Shape::Name), "Who is told."),
];

const CALENDAR: &[Field] = &[
    required("timeZone", Shape::Text, "The zone of its hours, as in the IANA database: `Europe/Berlin`."),
    required("open", Shape::List(&Shape::Object(HOURS)), "When it is open in an ordinary week."),
    optional("exceptions", Shape::List(&Shape::Object(EXCEPTION)), "Dates with hours of their own."),
];

const HOURS: &[Field] = &[
    required("days", Shape::Text, "Days of the week: `mon-fri`, `sat`, `mon,wed,fri`, `daily`."),
    default("from", Shape::TimeOfDay, "00:00", "Opening."),
    default("to", Shape::TimeOfDay, "24:00", "Closing; earlier than `from` means on the next day."),
];

const EXCEPTION: &[Field] = &[
    required("date", Shape::Date, "The day."),
    optional("closed", Shape::Flag, "True: closed all day."),
    optional("from", Shape::TimeOfDay, "Opening on that day, with `to`."),
    optional("to", Shape::TimeOfDay, "Closing on that day, with `from`."),
];

const WINDOW: &[Field] = &[
    required("hosts", SELECTOR, "Whom it covers."),
    required(
        "suppress",
        Shape::List(&Shape::Choice(&["notify", "act"])),
        "`notify`: silence; `act`: freeze; both: maintenance.",
    ),
    required("from", Shape::Timestamp, "Its beginning,"),
    required("until", Shape::Timestamp, "and its end."),
    required("reason", Shape::Text, "Why."),
];

const LIMITS: &[Field] = &[
    required("description", Shape::Text, "What they are for, in a sentence."),
    optional("actions", Shape::List(&Shape::Text), "The only actions that may be used; a script is `exec`."),
    optional("hosts", SELECTOR, "The only hosts that may be acted on, by their own labels."),
    optional("mode", Shape::Choice(&["observe", "propose", "enforce"]), "How far policies may go."),
    optional(
        "approvals",
        Shape::List(&Shape::Object(CONSENT)),
        "Whom rungs with certain actions have to ask: by a signed approval, and in every case.",
    ),
    optional("calendar", Shape::Object(CALENDAR), "Nothing starts outside of these hours; recovery does."),
    optional("cooldown", Shape::Duration, "The shortest `guards.cooldown` of a policy."),
    optional("budget", Shape::Object(LIMITS_BUDGET), "How often all policies together may act; a plan is one act."),
    optional("disturb", Shape::Object(LIMITS_DISTURB), "The most that a policy's `guards.disturb` may say."),
    optional("wave", Shape::Integer, "Most hosts in one wave."),
];

const CONSENT: &[Field] = &[
    required("actions", Shape::List(&Shape::Text), "The actions."),
    required("role", Shape::Name, "The role that the rung's `approval` asks."),
    default("count", Shape::Integer, "1", "How many distinct people it asks at least."),
];

const LIMITS_BUDGET: &[Field] = &[
    optional("perHost", Shape::Integer, "Acts on one host,"),
    optional("perNamespace", Shape::Integer, "and in all,"),
    default("within", Shape::Duration, "24h", "within this long."),
];

const LIMITS_DISTURB: &[Field] = &[
    optional("hosts", Shape::Integer, "Hosts."),
    optional("percent", Shape::Percent, "Percent of the eligible ones."),
];

const CONTACT: &[Field] = &[
    required("via", Shape::List(&Shape::Short(&Shape::Choice(&["log"]), CHANNEL)), "How; all of them are used."),
    optional("next", Shape::Object(NEXT), "Who is next when nobody answers."),
];

const CHANNEL: &[Field] = &[required("webhook", Shape::Object(WEBHOOK), "A POST of JSON.")];

const WEBHOOK: &[Field] = &[
    optional("url", Shape::Text, "Absolute http or https URL. Whoever may read manifests or the log reads it; or"),
    optional(
        "urlFile",
        Shape::Name,
        "for a URL that is a secret, the name of the file that holds it: `webhooks/NAME` in the controller's data directory.",
    ),
];

const NEXT: &[Field] = &[
    required("contact", Shape::Name, "The next contact,"),
    default("after", Shape::Duration, "5m", "after this long without an acknowledgement."),
];

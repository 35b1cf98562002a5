//! Conditions as policies write them, judged in a scope made of tables.

mod errors;
mod laws;

use std::{cell::Cell, collections::BTreeMap, sync::Arc, time::Duration};

use super::{Condition, Declared, Derived, Error, Expression, Lookup, Over, Reference, Scope};
use crate::{
    policy::Family,
    probe::{Probe, ProbeSpec},
    value::{Truth, Value},
};

/// A scope whose names are looked up in tables; what is not there is unknown.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) fields: BTreeMap<String, Value>,
    pub(super) signals: BTreeMap<String, Truth>,
    pub(super) elements: Option<Vec<String>>,
    pub(super) element: Option<String>,
    pub(super) acted: Cell<f64>,
}

impl Tables {
    fn get(&self, name: &str) -> Lookup {
        self.fields.get(name).cloned().map_or(Lookup::Unknown, Lookup::Known)
    }

    pub(super) fn with(fields: &[(&str, Value)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Self { fields, ..Self::default() }
    }
}

impl Scope for Tables {
    fn field(&self, probe: &str, field: &str) -> Lookup {
        self.get(&format!("{probe}.{field}"))
    }

    fn element(&self, field: &str) -> Lookup {
        let Some(element) = &self.element else { return Lookup::Unknown };
        self.get(&format!("host.disks[{element}].{field}"))
    }

    fn element_name(&self) -> Option<&str> {
        self.element.as_deref()
    }

    fn elements(&self, _family: Family) -> Option<Vec<String>> {
        self.elements.clone()
    }

    fn derived(&self, derived: &Derived) -> Lookup {
        self.get(&derived.to_string())
    }

    fn alert(&self) -> Truth {
        self.signal("alert")
    }

    fn signal(&self, name: &str) -> Truth {
        self.signals.get(name).copied().unwrap_or(Truth::Unknown)
    }

    fn value(&self, name: &str) -> Lookup {
        self.get(&format!("value.{name}"))
    }

    fn plan(&self, name: &str) -> Lookup {
        self.get(&format!("plan.{name}"))
    }

    fn outcome(&self, name: &str) -> Lookup {
        self.get(&format!("outcome.{name}"))
    }

    fn acted(&self, _within: Duration) -> f64 {
        self.acted.get()
    }
}

fn probe(spec: ProbeSpec) -> Probe {
    Probe { spec, every: Duration::from_secs(5), timeout: Duration::from_secs(2), on: None, canonical: String::new() }
}

/// The probes of the shop: two DNS servers, the tool, the order log and the counter.
pub(super) fn shop() -> BTreeMap<String, Probe> {
    let dns = |last: u8| ProbeSpec::Dns {
        server: [192, 0, 2, last].into(),
        port: 53,
        name: "exoticplant.plant".to_owned(),
        record: "A".to_owned(),
        reach: None,
    };
    let log = ProbeSpec::LogMatch {
        path: "/var/log/order_processing.log".into(),
        pattern: r"Error #(?<error>\d+)".to_owned(),
        before: Some(r"Processing Order (?<order>\d+)".to_owned()),
        window: 100,
    };
    let tool = ProbeSpec::Command {
        argv: vec!["dnsTool".to_owned(), "-q".to_owned(), "active_server".to_owned()],
        parse: Some("^(?<active>dns[12])$".to_owned()),
    };
    let outstanding = ProbeSpec::File { path: "/srv/orders/outstanding".into(), parse: None };
    [("dns1", dns(53)), ("dns2", dns(54)), ("log", log), ("tool", tool), ("outstanding", outstanding)]
        .into_iter()
        .map(|(name, spec)| (name.to_owned(), probe(spec)))
        .collect()
}

/// Everything that the tests' conditions may name.
pub(super) fn declared() -> Arc<Declared> {
    Arc::new(Declared {
        probes: Arc::new(shop()),
        signals: ["dead", "fine", "gone"].map(str::to_owned).into(),
        values: values(),
        element: Some(("disk".to_owned(), Family::Disks)),
        in_rung: true,
        alert: true,
    })
}

/// The values of the shop's policies.
fn values() -> BTreeMap<String, Vec<Value>> {
    let servers = || vec![Value::from("dns1"), Value::from("dns2")];
    BTreeMap::from([
        ("active".to_owned(), servers()),
        ("standby".to_owned(), servers()),
        ("limit".to_owned(), vec![Value::Number(12.0), Value::Number(20.0)]),
        ("mixed".to_owned(), vec![Value::Number(12.0), Value::from("x")]),
    ])
}

pub(super) fn compile(text: &str) -> Result<Condition, Error> {
    Condition::compile(text, &declared())
}

fn judge(text: &str, scope: &Tables) -> Truth {
    let condition = compile(text).unwrap_or_else(|error| panic!("{text}: {error} at {:?}", error.offset));
    condition.judge(scope).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

/// A day at the shop.
fn monday() -> Tables {
    let mut scope = Tables::with(&[
        ("host.cpu.used_percent", 90.5.into()),
        ("host.load.1", 4.0.into()),
        ("host.disks[/].used_percent", 40.0.into()),
        ("host.disks[/home].used_percent", 80.1.into()),
        ("host.disks[/home/sre].used_percent", 80.0.into()),
        ("dns1.ok", false.into()),
        ("dns1.failures", 3.0.into()),
        ("dns1.rcode", "SERVFAIL".into()),
        ("dns1.reachable", true.into()),
        ("dns2.ok", true.into()),
        ("dns2.failures", 0.0.into()),
        ("log.matches", 1.0.into()),
        ("log.captures.error", "12".into()),
        ("log.captures.order", "04".into()),
        ("log.tail", "Processing Order 4\nError Processing Order. Error #12".into()),
        ("tool.active", "dns1".into()),
        ("outstanding.value", "15\n".into()),
        ("outstanding.size", 3.0.into()),
        ("value.active", "dns1".into()),
        ("value.standby", "dns2".into()),
        ("value.limit", 12.0.into()),
        ("plan.standby", "dns2".into()),
        ("outcome.bytes_freed", 1024.0.into()),
        ("increase(probe.outstanding.value, \"1h\")", 12.0.into()),
        ("forecast(host.disks[*].used_percent, \"4h\")", 97.5.into()),
    ]);
    scope.signals = BTreeMap::from([("dead".to_owned(), Truth::True), ("fine".to_owned(), Truth::False)]);
    scope.elements = Some(["/", "/home", "/home/sre"].map(str::to_owned).to_vec());
    scope.element = Some("/home/sre".to_owned());
    scope
}

#[test]
fn names_mean_what_the_manifest_declares() {
    for (text, expected) in [
        ("host.cpu.used_percent > 90", Truth::True),
        ("host.load[\"1\"] >= 4.0", Truth::True),
        ("host.load[1] > 4", Truth::False),
        ("host.disks[\"/home\"].used_percent > 80", Truth::True),
        ("disk.used_percent > 80", Truth::False),
        ("disk.name == \"/home/sre\"", Truth::True),
        ("probe.dns1.failures >= 3", Truth::True),
        ("probe[\"dns1\"].failures >= 3", Truth::True),
        ("probe[value.active].failures >= 3", Truth::True),
        ("probe[value.standby].failures >= 3", Truth::False),
        ("!probe[value.active].reachable", Truth::False),
        ("probe[value.standby].ok", Truth::True),
        ("signal.dead && !signal.fine", Truth::True),
        ("signal.gone", Truth::Unknown),
        ("value.active == plan.standby", Truth::False),
        ("value.standby == plan.standby", Truth::True),
        ("value.limit == 12", Truth::True),
        ("probe.outstanding.value > value.limit", Truth::True),
        ("outcome.bytes_freed >= 1024", Truth::True),
        ("outcome.exit == 0", Truth::Unknown),
        ("ledger.acted(\"1h\") >= 1", Truth::False),
        ("increase(probe.outstanding.value, \"1h\") == 12", Truth::True),
        ("forecast(disk.used_percent, \"4h\") > 95", Truth::True),
        ("max(probe.dns1.failures, \"1h\") > 3", Truth::Unknown),
        ("host.memory.used_percent > 80", Truth::Unknown),
    ] {
        assert_eq!(judge(text, &monday()), expected, "{text}");
    }
}

#[test]
fn captured_text_follows_its_use() {
    for (text, expected) in [
        ("probe.outstanding.value > 12", Truth::True),
        ("12 < probe.outstanding.value", Truth::True),
        ("probe.outstanding.value == 15", Truth::True),
        ("probe.outstanding.value == \"15\"", Truth::False),
        ("probe.outstanding.value - 3 == 12", Truth::True),
        ("probe.log.captures.order == 4", Truth::True),
        ("probe.log.captures.order == \"4\"", Truth::False),
        ("probe.log.captures.order == \"04\"", Truth::True),
        ("probe.log.captures.order < probe.log.captures.error", Truth::True),
        ("probe.log.captures.order == probe.log.captures.error", Truth::False),
        ("probe.log.captures[\"error\"] in [7, 12]", Truth::True),
        ("probe.log.captures.error in [\"7\", \"12\"]", Truth::True),
        ("probe.tool.active == \"dns1\"", Truth::True),
        ("probe.tool.active > 3", Truth::Unknown),
        ("number(probe.tool.active) > 3", Truth::Unknown),
        ("number(probe.log.captures.order) + number(probe.log.captures.error) == 16", Truth::True),
        ("text(probe.log.captures.order) + \":\" + text(12) == \"04:12\"", Truth::True),
        ("number(text(3)) == 3", Truth::True),
        ("-probe.outstanding.value == -15", Truth::True),
        ("probe.outstanding.value in [value.limit, 15]", Truth::True),
    ] {
        assert_eq!(judge(text, &monday()), expected, "{text}");
    }
}

#[test]
fn functions_and_operators() {
    for (text, expected) in [
        ("probe.log.tail.contains(\"Error #12\")", Truth::True),
        ("probe.dns1.rcode.startsWith(\"SERV\")", Truth::True),
        ("probe.dns1.rcode.endsWith(\"SERV\")", Truth::False),
        ("probe.dns1.rcode.matches(\"^(SERVFAIL|REFUSED)$\")", Truth::True),
        ("probe.dns1.answer.matches(\".\")", Truth::Unknown),
        ("size(probe.dns1.rcode) == 8", Truth::True),
        ("probe.dns1.rcode.size() == 8", Truth::True),
        ("size([1, 2]) == 2", Truth::True),
        ("size(host.disks) == 3", Truth::True),
        ("\"/home\" in host.disks", Truth::True),
        ("\"/var\" in host.disks", Truth::False),
        ("host.disks.exists(m, host.disks[m].used_percent > 80)", Truth::True),
        ("host.disks.all(m, host.disks[m].used_percent > 80)", Truth::False),
        ("host.disks.exists(m, m == \"/home\" && host.disks[m].free_bytes < 5)", Truth::Unknown),
        ("host.disks.all(m, host.disks.exists(n, n.startsWith(m)))", Truth::True),
        ("duration(\"1m30s\") == 90", Truth::True),
        ("(2 + 3) * 4 - 6 / 4 == 18.5", Truth::True),
        ("7 % 4 == 3", Truth::True),
        ("0.1 + 0.2 != 0.3", Truth::True),
        ("(probe.dns1.ok ? 1 : 2) == 2", Truth::True),
        ("(probe.dns1.ok ? \"a\" : probe.tool.active) == \"dns1\"", Truth::True),
        ("probe.dns1.ok ? signal.dead : signal.fine", Truth::False),
        ("probe.dns1.ok == false", Truth::True),
        ("probe.dns1.ok != probe.dns2.ok", Truth::True),
        ("\"a\" < \"b\"", Truth::True),
        ("1u == 1", Truth::True),
        ("// why\nsignal.dead // because", Truth::True),
    ] {
        assert_eq!(judge(text, &monday()), expected, "{text}");
    }
}

#[test]
fn a_path_is_held_by_its_longest_mount() {
    for (mount, path, expected) in [
        ("/home/sre", "/home/sre/app.log", Truth::True),
        ("/home/sre", "/home/sre", Truth::True),
        ("/home", "/home/sre/app.log", Truth::False),
        ("/", "/home/sre/app.log", Truth::False),
        ("/home", "/home/sre2/app.log", Truth::True),
        ("/", "/var/log/x", Truth::True),
        ("/home/sre", "/home/sre2/app.log", Truth::False),
    ] {
        let mut scope = monday();
        scope.element = Some(mount.to_owned());
        assert_eq!(judge(&format!("disk.holds({path:?})"), &scope), expected, "{mount} {path}");
        scope.elements = None;
        let without = judge(&format!("disk.holds({path:?})"), &scope);
        assert!(without == Truth::Unknown || without == Truth::False && expected == Truth::False, "{mount} {path}");
    }
}

#[test]
fn elements_that_are_not_known_are_not_judged() {
    let mut scope = monday();
    scope.elements = None;
    for text in
        ["host.disks.exists(m, true)", "host.disks.all(m, false)", "\"/\" in host.disks", "size(host.disks) > 0"]
    {
        assert_eq!(judge(text, &scope), Truth::Unknown, "{text}");
    }
    scope.elements = Some(vec!["/".to_owned(); 513]);
    let condition = compile("host.disks.exists(m, true)").expect("a condition");
    assert!(condition.judge(&scope).expect_err("too many").0.contains("512"));
}

#[test]
fn agents_that_send_another_type_are_not_believed() {
    let scope = Tables::with(&[
        ("dns1.ok", "true".into()),
        ("dns1.failures", true.into()),
        ("dns1.rcode", false.into()),
        ("dns1.age", f64::NAN.into()),
        ("dns2.age", f64::INFINITY.into()),
        ("outstanding.value", "NaN".into()),
        ("value.active", "dns3".into()),
        ("dns3.failures", 3.0.into()),
    ]);
    for text in [
        "probe.dns1.ok",
        "probe.dns1.failures >= 0",
        "probe.dns1.rcode != \"NOERROR\"",
        "probe.dns1.age < 5",
        "probe.dns2.age > 5",
        "probe.outstanding.value != 5",
        "probe[value.active].failures >= 3",
    ] {
        assert_eq!(judge(text, &scope), Truth::Unknown, "{text}");
    }
}

#[test]
fn faults_are_told_where_nothing_else_decides() {
    let scope = monday();
    for text in ["1 / 0 > 1", "1 % 0 > 1", "true && 1 / probe.dns2.failures > 1", "1e308 * 10 > 1", "!(1 / 0 > 1)"] {
        assert!(compile(text).expect(text).judge(&scope).is_err(), "{text}");
    }
    for (text, expected) in [
        ("1 / 0 > 1 && false", Truth::False),
        ("false && 1 / 0 > 1", Truth::False),
        ("1 / 0 > 1 || true", Truth::True),
        ("signal.gone && 1 / 0 > 1", Truth::Unknown),
        ("1 / 0 > 1 || signal.gone", Truth::Unknown),
        ("probe.dns2.failures != 0 && 1 / probe.dns2.failures > 1", Truth::False),
    ] {
        assert_eq!(judge(text, &scope), expected, "{text}");
    }
    let fault = compile("true && 1 / 0 > 1").expect("a condition").judge(&scope).expect_err("a fault");
    assert!(fault.0.contains("offset 10"), "{fault}");
}

#[test]
fn what_was_read_is_told() {
    let condition = compile(
        "probe[value.active].failures >= 3 && host.disks.exists(m, host.disks[m].used_percent > 80) \
         && increase(probe.outstanding.value, \"1h\") > 1 && signal.dead && host.load[\"1\"] > 1 \
         && ledger.acted(\"90m\") < 1 && probe.log.tail != \"\"",
    )
    .expect("a condition");
    assert_eq!(condition.probes(), ["dns1", "dns2", "host", "log", "outstanding"]);
    assert_eq!(condition.signals(), ["dead"]);
    assert_eq!(condition.values(), ["active"]);
    let derived = Derived {
        over: Over::Increase,
        probe: "outstanding".to_owned(),
        field: "value".to_owned(),
        span: Duration::from_secs(3600),
    };
    assert_eq!(condition.derived(), [derived]);
    assert!(
        !condition.reads().contains(&Reference::Field { probe: "outstanding".to_owned(), field: "value".to_owned() })
    );
    assert_eq!(
        condition.saw(&monday()),
        [
            "probe.dns1.failures = 3",
            "host.disks[\"/\"].used_percent = 40",
            "host.disks[\"/home\"].used_percent = 80.1",
            "host.disks[\"/home/sre\"].used_percent = 80",
            "increase(probe.outstanding.value, \"1h\") = 12",
            "signal.dead = true",
            "host.load[\"1\"] = 4",
            "ledger.acted(\"1h30m\") = 0",
            "probe.log.tail = \"Processing Order 4\\nError Processing Order. Error #12\"",
        ]
    );
    assert_eq!(condition.saw(&Tables::default())[0], "probe[value.active].failures = unknown");
}

#[test]
fn long_and_hostile_texts_are_cut_and_escaped() {
    let scope = Tables::with(&[("log.tail", format!("\u{1b}[2J{}", "x".repeat(500)).into())]);
    let saw = compile("probe.log.tail != \"\"").expect("a condition").saw(&scope);
    assert!(saw[0].len() < 120 && !saw[0].contains('\u{1b}'), "{saw:?}");
}

#[test]
fn what_was_signed_is_compiled_when_it_is_judged() {
    let signed = Condition::signed("signal.dead && probe.dns1.failures > 1", &declared());
    let at_once = compile(signed.text()).expect("a condition");
    assert_eq!(signed.judge(&monday()), at_once.judge(&monday()));
    assert_eq!((signed.reads(), signed.probes()), (at_once.reads(), at_once.probes()));
    for none in ["signal.ded", "signal.dead &&", "[1, 2]", "1 + 2"] {
        let signed = Condition::signed(none, &declared());
        let fault = signed.judge(&monday()).expect_err("no condition");
        assert_eq!(fault.to_string(), compile(none).expect_err("no condition").message);
        assert!(signed.reads().is_empty() && signed.saw(&monday()).is_empty());
    }
    let none = Expression::signed("[1, 2]", &declared());
    assert!(none.evaluate(&monday()).is_err() && none.text() == "[1, 2]");
}

#[test]
fn expressions_have_values() {
    let declared = declared();
    for (text, expected) in [
        ("probe.tool.active", Lookup::Known("dns1".into())),
        ("value.active == \"dns1\" ? \"dns2\" : \"dns1\"", Lookup::Known("dns2".into())),
        ("probe.log.captures.order + \":\" + probe.log.captures.error", Lookup::Known("04:12".into())),
        ("1 + 2", Lookup::Known(3.0.into())),
        ("signal.dead", Lookup::Known(true.into())),
        ("signal.gone", Lookup::Unknown),
        ("probe.dns1.answer + \"x\"", Lookup::Unknown),
    ] {
        let expression = Expression::compile(text, &declared).expect(text);
        assert_eq!(expression.evaluate(&monday()), Ok(expected), "{text}");
    }
    assert!(Expression::compile("[1, 2]", &declared).is_err());
    assert!(Expression::compile("host.disks", &declared).is_err());
    let expression =
        Expression::compile("value.active == \"dns1\" ? \"dns2\" : \"dns1\"", &declared).expect("compiles");
    assert_eq!(expression.values(), ["active"]);
    assert_eq!(expression.saw(&monday()), ["value.active = \"dns1\""]);
}

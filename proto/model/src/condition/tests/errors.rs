//! What is refused when a policy is read, with what words and where.

use std::sync::Arc;

use super::{super::Condition, compile, declared};
use crate::condition::Declared;

/// The message and the offset of the error that a text is refused with.
fn refusal(text: &str) -> (String, Option<usize>) {
    match compile(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => (error.message, error.offset),
    }
}

#[test]
fn names_that_are_not_declared_are_refused_with_the_nearest() {
    for (text, offset, words) in [
        ("prob.dns1.ok", 0, "did you mean probe?"),
        ("probe.dsn1.ok", 6, "did you mean dns1?"),
        ("probe.dns1.failurs > 3", 11, "did you mean failures?"),
        ("probe.dns1.status == 200", 11, "kind dns"),
        ("host.cpu.used_percnt > 3", 5, "cpu.used_percent"),
        ("host.disks[\"/\"].used > 3", 16, "used_percent"),
        ("disk.used_percnt > 3", 5, "used_percent"),
        ("signal.daed", 7, "did you mean dead?"),
        ("value.activ == \"dns1\"", 6, "did you mean active?"),
        ("plan.standbi == \"dns1\"", 5, "did you mean standby?"),
        ("probe.log.captures.eror == 1", 10, "captures.error"),
        ("probe.tool.activ == \"x\"", 11, "did you mean active?"),
        ("outcome.bytes_fred > 1", 8, "did you mean bytes_freed?"),
        ("probe[value.limit].ok", 5, "not the name of a probe"),
        ("probe[value.active].status == 1", 20, "no field status"),
        ("increse(probe.dns1.failures, \"1h\") > 1", 7, "did you mean increase?"),
        ("probe.dns1.rcode.startswith(\"x\")", 27, "did you mean startsWith?"),
    ] {
        let (message, found) = refusal(text);
        assert!(message.contains(words), "{text}: {message}");
        assert_eq!(found, Some(offset), "{text}: {message}");
    }
}

#[test]
fn types_that_do_not_fit_are_refused() {
    for (text, words) in [
        ("probe.dns1.failures == \"3\"", "a number cannot be compared with a text"),
        ("3.0 == \"3\"", "a number cannot be compared with a text"),
        ("probe.dns1.ok > 3", "a truth value cannot be compared with a number"),
        ("probe.dns1.ok < true", "cannot be compared"),
        ("probe.dns1.failures", "must be true or false"),
        ("probe.outstanding.value", "must be true or false"),
        ("\"true\"", "must be true or false"),
        ("!probe.dns1.failures", "must be true or false"),
        ("probe.dns1.failures && true", "must be true or false"),
        ("probe.dns1.rcode + 3 == \"x\"", "cannot be added"),
        ("probe.dns1.rcode * 3 == 1", "no arithmetic"),
        ("probe.log.captures.order + probe.log.captures.error == 3", "sum or text"),
        ("-probe.dns1.rcode == 1", "must be a number"),
        ("probe.dns1.failures.contains(\"3\")", "must be a text"),
        ("(true ? 1 : \"x\") == 1", "one branch is a number, the other a text"),
        ("1 in [\"x\"]", "its elements have one type"),
        ("\"x\" in [\"x\", 1]", "its elements have one type"),
        ("1 in []", "empty list"),
        ("1 in 2", "wants a list"),
        ("1 in host.disks", "is text, not a number"),
        ("[1] == [1]", "cannot be compared"),
        ("value.mixed == 3", "mix types"),
        ("increase(probe.dns1.rcode, \"1h\") > 1", "field that is a number"),
        ("increase(probe.dns1.failures + 1, \"1h\") > 1", "field that is a number"),
        ("increase(probe[value.active].failures, \"1h\") > 1", "named outright"),
        ("increase(probe.dns1.failures, \"1\") > 1", "span of time"),
        ("increase(probe.dns1.failures, 3600) > 1", "span of time"),
        ("increase(probe.dns1.failures) > 1", "increase(probe.NAME.FIELD"),
        ("max(1, 2) > 1", "span of time"),
        ("size(1) > 1", "no size"),
        ("number(true) > 1", "cannot be made a number"),
        ("text(true) == \"\"", "cannot be made a text"),
        ("ledger.acted(\"soon\") > 1", "span of time"),
        ("ledger.acted > 1", "ledger.acted(\"1h\")"),
        ("host.disks > 1", "a family of elements"),
        ("disk > 1", "a field is wanted"),
        ("probe.dns1 == 1", "a field is wanted"),
        ("probe == 1", "a probe is wanted"),
        ("host == 1", "a field is wanted"),
        ("probe[probe.tool.active].ok", "probe[value.NAME]"),
        ("host.disks[disk.name].used_percent > 1", "inside the brackets"),
        ("host.disks[m].used_percent > 1", "not the variable"),
        ("host.disks.exists(m, m.used_percent > 1)", "host.disks[m].FIELD"),
        ("host.disks.exists(m, host.network[m].rx_bytes_per_s > 1)", "goes over host.disks"),
        ("host.disks.exists(probe, true)", "has a meaning already"),
        ("host.disks.exists(m, 1)", "must be true or false"),
        ("[1, 2].exists(m, true)", "host.disks and host.network"),
        ("host.disks.exists_one(m, true)", "exists and all only"),
        ("host.disks.map(m, true)", "exists and all only"),
        ("host.disks.filter(m, true) == 1", "exists and all only"),
        ("has(probe.dns1.ok)", "has()"),
        ("!has(host.cpu.used_percent)", "has()"),
        ("null == null", "no null"),
        ("b\"x\" == b\"x\"", "bytes"),
        ("{\"a\": 1} == 1", "maps and messages"),
        ("Thing{a: 1} == 1", "maps and messages"),
        ("size(\"x\").y == 1", "only names have fields"),
        ("host.load.1 > 3", "host.load[\"1\"]"),
        ("probe.dns1.rcode.matches(probe.dns2.rcode)", "literal"),
        ("probe.dns1.rcode.matches(\"(\")", "not a pattern"),
        ("probe.dns1.rcode.matches(\"((a{100}){100}){100}\")", "make it simpler"),
        ("contains(\"x\")", "x.contains("),
        ("kaboom(1)", "no function kaboom"),
        ("host.holds(\"/x\")", "disk.holds"),
    ] {
        let (message, _) = refusal(text);
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn comprehensions_nest_once() {
    let two = "host.disks.exists(a, host.network.exists(b, a == b))";
    assert!(compile(two).is_ok());
    let three = "host.disks.exists(a, host.disks.exists(b, host.disks.exists(c, a == b)))";
    assert!(refusal(three).0.contains("nested more than once"));
    let beside = "host.disks.exists(a, host.disks.all(b, true) && host.disks.all(c, true))";
    assert!(compile(beside).is_ok());
}

#[test]
fn what_rungs_have_is_not_there_elsewhere() {
    let outside = Arc::new(Declared { in_rung: false, ..Declared::clone(&declared()) });
    for text in ["plan.standby == \"dns1\"", "outcome.bytes_freed > 1", "ledger.acted(\"1h\") > 1"] {
        let error = Condition::compile(text, &outside).expect_err(text);
        assert!(error.message.contains("in a rung"), "{text}: {error}");
    }
    let nothing = Arc::default();
    for text in ["probe.dns1.ok", "signal.dead", "value.active == \"x\"", "disk.used_percent > 1"] {
        assert!(Condition::compile(text, &nothing).is_err(), "{text}");
    }
}

#[test]
fn syntax_errors_have_a_place() {
    for (text, offset) in
        [("signal.dead &&", 14), ("signal.dead signal.fine", 12), ("é == ", 0), ("\"é\" == \"é\" )", 13)]
    {
        let (message, found) = refusal(text);
        assert!(message.starts_with("not a CEL expression: "), "{text}: {message}");
        assert!(!message.contains('\n'), "{text}: {message}");
        assert_eq!(found, Some(offset), "{text}: {message}");
    }
}

#[test]
fn offsets_count_bytes() {
    let (_, offset) = refusal("\"ééé\" != \"\" && signal.daed");
    assert_eq!(offset, Some("\"ééé\" != \"\" && signal.".len()));
}

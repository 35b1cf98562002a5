//! Laws that hold for every condition.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Tables, compile};
use crate::value::{Truth, Value};

const TRUTHS: [Truth; 3] = [Truth::False, Truth::Unknown, Truth::True];

fn signals(dead: Truth, fine: Truth) -> Tables {
    Tables { signals: BTreeMap::from([("dead".to_owned(), dead), ("fine".to_owned(), fine)]), ..Tables::default() }
}

fn judge(text: &str, scope: &Tables) -> Truth {
    compile(text).expect(text).judge(scope).expect(text)
}

#[test]
fn truth_tables() {
    use Truth::{False as F, True as T, Unknown as U};
    // Rows: dead is false, unknown, true; columns: fine is false, unknown, true.
    for (text, table) in [
        ("signal.dead && signal.fine", [[F, F, F], [F, U, U], [F, U, T]]),
        ("signal.dead || signal.fine", [[F, U, T], [U, U, T], [T, T, T]]),
        ("!signal.dead", [[T, T, T], [U, U, U], [F, F, F]]),
        ("signal.dead == signal.fine", [[T, U, F], [U, U, U], [F, U, T]]),
        ("signal.dead != signal.fine", [[F, U, T], [U, U, U], [T, U, F]]),
        ("signal.dead ? signal.fine : true", [[T, T, T], [U, U, U], [F, U, T]]),
    ] {
        for (row, dead) in TRUTHS.into_iter().enumerate() {
            for (column, fine) in TRUTHS.into_iter().enumerate() {
                assert_eq!(judge(text, &signals(dead, fine)), table[row][column], "{text} with {dead} and {fine}");
            }
        }
    }
}

#[test]
fn kleene_laws() {
    for (left, right) in [
        ("signal.dead && signal.fine", "signal.fine && signal.dead"),
        ("!(signal.dead && signal.fine)", "!signal.dead || !signal.fine"),
        ("!(signal.dead || signal.fine)", "!signal.dead && !signal.fine"),
        ("!!signal.dead", "signal.dead"),
        ("signal.dead && signal.dead", "signal.dead"),
        ("signal.dead || (signal.dead && signal.fine)", "signal.dead"),
        ("(signal.dead || signal.fine) && signal.fine", "signal.fine"),
    ] {
        for dead in TRUTHS {
            for fine in TRUTHS {
                let scope = signals(dead, fine);
                assert_eq!(judge(left, &scope), judge(right, &scope), "{left} and {right} with {dead}, {fine}");
            }
        }
    }
}

/// Conditions over the shop's names, as text.
fn conditions() -> impl Strategy<Value = String> {
    let numbers = prop_oneof![
        Just("probe.dns1.failures".to_owned()),
        Just("probe[value.active].failures".to_owned()),
        Just("probe.outstanding.value".to_owned()),
        Just("host.disks[\"/\"].used_percent".to_owned()),
        Just("disk.free_bytes".to_owned()),
        Just("outcome.bytes_freed".to_owned()),
        Just("increase(probe.dns2.failures, \"1h\")".to_owned()),
        (0u8..4).prop_map(|number| number.to_string()),
    ];
    let numbers = numbers.prop_recursive(2, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/%]", inner.clone())
                .prop_map(|(left, operator, right)| { format!("(number({left}) {operator} number({right}))") }),
            inner.prop_map(|operand| format!("(-{operand})")),
        ]
    });
    let texts = prop_oneof![
        Just("probe.dns1.rcode".to_owned()),
        Just("probe.tool.active".to_owned()),
        Just("value.active".to_owned()),
        Just("\"dns1\"".to_owned()),
    ];
    let leaves = prop_oneof![
        Just("signal.dead".to_owned()),
        Just("probe.dns1.ok".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        (numbers.clone(), prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]), numbers.clone())
            .prop_map(|(left, order, right)| format!("number({left}) {order} number({right})")),
        (numbers.clone(), numbers.clone()).prop_map(|(left, right)| format!("number({left}) in [1, number({right})]")),
        (texts.clone(), prop::sample::select(vec!["<", "==", "!="]), texts.clone())
            .prop_map(|(left, order, right)| format!("text({left}) {order} text({right})")),
        (texts.clone(), texts.clone()).prop_map(|(left, right)| format!("{left}.startsWith({right})")),
        texts.prop_map(|text| format!("{text}.matches(\"^dns[12]$\")")),
        numbers
            .clone()
            .prop_map(|number| format!("host.disks.exists(m, host.disks[m].used_percent > number({number}))")),
        numbers.prop_map(|number| format!("host.disks.all(m, host.disks[m].used_percent > number({number}))")),
        Just("disk.holds(\"/home/sre\")".to_owned()),
    ];
    leaves.prop_map(|leaf| format!("({leaf})")).prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} && {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} || {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} == {right})")),
            inner.clone().prop_map(|operand| format!("(!{operand})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(asked, yes, no)| format!("({asked} ? {yes} : {no})")),
        ]
    })
}

const FIELDS: [&str; 14] = [
    "dns1.ok",
    "dns1.failures",
    "dns2.failures",
    "dns1.rcode",
    "tool.active",
    "value.active",
    "outstanding.value",
    "outcome.bytes_freed",
    "host.disks[/].used_percent",
    "host.disks[/].free_bytes",
    "host.disks[/home].used_percent",
    "host.disks[/home].free_bytes",
    "increase(probe.dns2.failures, \"1h\")",
    "unused",
];

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Flag),
        (0u8..4).prop_map(|number| Value::Number(number.into())),
        prop::sample::select(vec!["dns1", "dns2", "0", "3", ""]).prop_map(Value::from),
    ]
}

/// A scope in which everything is known, and the same with some of it forgotten.
fn scopes() -> impl Strategy<Value = (Tables, Tables)> {
    let values = prop::collection::vec(any_value(), FIELDS.len());
    let forgotten = prop::collection::vec(any::<bool>(), FIELDS.len() + 2);
    (values, forgotten, any::<bool>()).prop_map(|(values, forgotten, dead)| {
        let mut more = Tables::with(&FIELDS.into_iter().zip(values).collect::<Vec<_>>());
        more.signals.insert("dead".to_owned(), dead.into());
        more.elements = Some(vec!["/".to_owned(), "/home".to_owned()]);
        more.element = Some("/home".to_owned());
        let mut less = more.clone();
        for (name, _) in FIELDS.into_iter().zip(&forgotten).filter(|(_, forgotten)| **forgotten) {
            less.fields.remove(name);
        }
        if forgotten[FIELDS.len()] {
            less.signals.clear();
        }
        if forgotten[FIELDS.len() + 1] {
            less.elements = None;
        }
        (more, less)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Who knows less never says the opposite, nor finds a fault where there is none.
    #[test]
    fn less_known_never_contradicts(text in conditions(), (more, less) in scopes()) {
        let condition = compile(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let (more, less) = (condition.judge(&more), condition.judge(&less));
        prop_assert!(less == Ok(Truth::Unknown) || less == more, "{text}: {less:?} with less, {more:?} with more");
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,64}") {
        let _ = compile(&text);
    }

    /// Texts that get past the lexer.
    #[test]
    fn arbitrary_tokens_never_panic(tokens in prop::collection::vec(prop::sample::select(TOKENS.to_vec()), 0..24)) {
        for text in [tokens.concat(), tokens.join(" ")] {
            if let Ok(condition) = compile(&text) {
                let _ = condition.judge(&Tables::default());
                let _ = condition.saw(&Tables::default());
            }
        }
    }
}

const TOKENS: [&str; 46] = [
    "probe",
    "host",
    "signal",
    "value",
    "plan",
    "outcome",
    "ledger",
    "disk",
    ".",
    ".dns1",
    ".ok",
    ".failures",
    ".dead",
    ".active",
    ".disks",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "\"/\"",
    "'x",
    "'''",
    "1",
    "0.5",
    "-",
    "+",
    "*",
    "/",
    "%",
    "!",
    "&&",
    "||",
    "==",
    "<",
    "?",
    ":",
    ",",
    " in ",
    "true",
    "null",
    "m",
    ".exists(m,",
    "\\",
    "é",
];

/// What the limits let through fits a stack of 1 MiB, in a build without optimisation.
#[test]
fn the_deepest_conditions_fit_a_small_stack() {
    let deepest = [
        format!("{}true{}", "(".repeat(16), ")".repeat(16)),
        format!("{}true{}", "!(".repeat(16), ")".repeat(16)),
        format!("1{} > 1", " + 1".repeat(198)),
        format!("{}1{} > 1", "(".repeat(16), format!("{})", " + 1".repeat(10)).repeat(16)),
        format!("{}true", "true ? true : ".repeat(199)),
        format!("host{} > 1", ".a".repeat(399)),
        format!("host{} > 1", "[0].a".repeat(190)),
        format!("{}true", "!".repeat(199)),
        format!("{}1 > 1", "-".repeat(190)),
        "1 < ".repeat(199) + "1",
        format!("\"x\"{} == 1", ".size()".repeat(150)),
        vec!["true"; 600].join("&&"),
        format!("{}1{}", "[".repeat(16), "]".repeat(16)),
    ];
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(move || {
        for text in deepest {
            if let Ok(condition) = compile(&text) {
                condition.judge(&Tables::default()).expect("no fault");
            }
        }
    });
    thread.expect("a thread").join().expect("no overflow");
}

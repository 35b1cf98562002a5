//! Conditions: any text, judged over generated samples. No text panics, none above the limits compiles, and who knows
//! less never says the opposite of who knows more.

#![no_main]

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, LazyLock},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use quell_model::{
    condition::{Condition, Declared, Derived, Expression, Fault, Lookup, MAX_LENGTH, Scope},
    manifest,
    policy::Family,
    value::{Truth, Value},
};

/// Generated worlds that each condition is judged in.
const WORLDS: u64 = 6;

/// What the conditions may name.
static DECLARED: LazyLock<Arc<Declared>> = LazyLock::new(|| {
    let probes = [
        ("dns1", r#"{"dns":{"server":"192.0.2.53","name":"shop.example"},"every":"5s"}"#),
        ("dns2", r#"{"dns":{"server":"192.0.2.54","name":"shop.example"},"every":"5s"}"#),
        ("log", r#"{"logMatch":{"path":"/var/log/a.log","pattern":"Error #(?<error>\\d+)"},"every":"5s"}"#),
        ("tool", r#"{"command":{"argv":["dnsTool","-q"],"parse":"^(?<active>dns[12])$"},"every":"5s"}"#),
        ("count", r#"{"file":{"path":"/srv/orders/outstanding"},"every":"5s"}"#),
    ];
    let read = |text| manifest::probe_from_canonical(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let probes = probes.into_iter().map(|(name, text)| (name.to_owned(), read(text)));
    let active = vec![Value::from("dns1"), Value::from("dns2")];
    Arc::new(Declared {
        probes: Arc::new(probes.collect()),
        signals: vec!["dead".to_owned(), "fine".to_owned()],
        values: BTreeMap::from([("active".to_owned(), active), ("level".to_owned(), Vec::new())]),
        element: Some(("disk".to_owned(), Family::Disks)),
        in_rung: true,
        alert: true,
    })
});

fuzz_target!(|text: &str| {
    if let Ok(condition) = Condition::compile(text, &DECLARED) {
        assert!(text.len() <= MAX_LENGTH, "{} bytes were compiled", text.len());
        for world in 0..WORLDS {
            let more = condition.judge(&World::all(world));
            let less = condition.judge(&World::part(world));
            let unknown = less == Ok(Truth::Unknown);
            assert!(unknown || less == more, "{text}: {less:?} knowing less, {more:?} knowing more");
            condition.saw(&World::part(world));
        }
    }
    if let Ok(expression) = Expression::compile(text, &DECLARED) {
        assert!(text.len() <= MAX_LENGTH, "{} bytes were compiled", text.len());
        for world in 0..WORLDS {
            let more = expression.evaluate(&World::all(world));
            let less = expression.evaluate(&World::part(world));
            let unknown = less == Ok(Lookup::Unknown);
            assert!(unknown || less == more, "{text}: {less:?} knowing less, {more:?} knowing more");
            is_finite(text, &more);
            expression.saw(&World::part(world));
        }
    }
});

fn is_finite(text: &str, value: &Result<Lookup, Fault>) {
    if let Ok(Lookup::Known(Value::Number(number))) = value {
        assert!(number.is_finite(), "{text} is {number}");
    }
}

/// A world whose values follow from its number and their names; a part of them may have been forgotten.
struct World {
    number: u64,
    forgets: bool,
}

impl World {
    fn all(number: u64) -> Self {
        Self { number, forgets: false }
    }

    fn part(number: u64) -> Self {
        Self { number, forgets: true }
    }

    fn dice(&self, name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.number, name).hash(&mut hasher);
        hasher.finish()
    }

    fn is_forgotten(&self, dice: u64) -> bool {
        self.forgets && dice % 3 == 0
    }

    fn look(&self, name: &str) -> Lookup {
        let dice = self.dice(name);
        if self.is_forgotten(dice) {
            return Lookup::Unknown;
        }
        let texts = ["dns1", "dns2", "", "0", "-3", "04", "1e300", "NaN", "a\u{0}b", "/home"];
        let numbers = [0.0, -0.0, 1.0, 3.0, -1.0, 0.1, 9e15, f64::MAX, f64::MIN_POSITIVE];
        let pick = usize::try_from(dice >> 32).unwrap_or_default();
        Lookup::Known(match dice / 3 % 4 {
            0 => Value::Flag(pick % 2 == 0),
            1 => Value::from(texts[pick % texts.len()]),
            _ => Value::Number(numbers[pick % numbers.len()]),
        })
    }
}

impl Scope for World {
    fn field(&self, probe: &str, field: &str) -> Lookup {
        self.look(&format!("{probe}.{field}"))
    }

    fn element(&self, field: &str) -> Lookup {
        self.look(&format!("host.disks[/home].{field}"))
    }

    fn element_name(&self) -> Option<&str> {
        Some("/home")
    }

    fn elements(&self, family: Family) -> Option<Vec<String>> {
        let dice = self.dice(&format!("{family:?}"));
        (!self.is_forgotten(dice)).then(|| vec!["/".to_owned(), "/home".to_owned()])
    }

    fn derived(&self, derived: &Derived) -> Lookup {
        self.look(&derived.to_string())
    }

    fn alert(&self) -> Truth {
        self.signal("alert")
    }

    fn signal(&self, name: &str) -> Truth {
        let dice = self.dice(name);
        if self.is_forgotten(dice) { Truth::Unknown } else { Truth::from(dice % 2 == 0) }
    }

    fn value(&self, name: &str) -> Lookup {
        self.look(&format!("value.{name}"))
    }

    fn plan(&self, name: &str) -> Lookup {
        self.look(&format!("plan.{name}"))
    }

    fn outcome(&self, name: &str) -> Lookup {
        self.look(&format!("outcome.{name}"))
    }

    fn acted(&self, within: Duration) -> f64 {
        f64::from(u8::try_from((self.number + within.as_secs()) % 5).unwrap_or_default())
    }
}

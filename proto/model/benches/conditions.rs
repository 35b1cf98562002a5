//! How many conditions are judged in a second on one core, beside the same decisions written by hand in Rust over the
//! same samples: `cargo bench -p quell-model --bench conditions`. The last lines give the ratios.
#![expect(clippy::print_stdout, reason = "a benchmark's report is its output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures the time that really passes")]

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use quell_model::{
    condition::{Condition, Declared, Derived, Lookup, Scope},
    policy::Family,
    probe::{Probe, ProbeSpec},
    value::{Fields, Truth, Value},
};

/// Samples by probe, as a controller keeps them.
struct Samples {
    fields: BTreeMap<String, Fields>,
    signals: BTreeMap<String, Truth>,
    values: BTreeMap<String, Value>,
}

fn lookup(value: Option<&Value>) -> Lookup {
    value.cloned().map_or(Lookup::Unknown, Lookup::Known)
}

impl Scope for Samples {
    fn field(&self, probe: &str, field: &str) -> Lookup {
        lookup(self.fields.get(probe).and_then(|fields| fields.get(field)))
    }

    fn element(&self, field: &str) -> Lookup {
        self.field("host", field)
    }

    fn element_name(&self) -> Option<&str> {
        Some("/var")
    }

    fn elements(&self, _family: Family) -> Option<Vec<String>> {
        Some(["/", "/home", "/var", "/boot"].map(str::to_owned).to_vec())
    }

    fn derived(&self, _derived: &Derived) -> Lookup {
        Lookup::Unknown
    }

    fn alert(&self) -> Truth {
        Truth::Unknown
    }

    fn signal(&self, name: &str) -> Truth {
        self.signals.get(name).copied().unwrap_or(Truth::Unknown)
    }

    fn value(&self, name: &str) -> Lookup {
        lookup(self.values.get(name))
    }

    fn plan(&self, name: &str) -> Lookup {
        self.value(name)
    }

    fn outcome(&self, _name: &str) -> Lookup {
        Lookup::Unknown
    }

    fn acted(&self, _within: Duration) -> f64 {
        0.0
    }
}

impl Samples {
    fn new() -> Self {
        let dns = |failures: f64| {
            Fields::from([
                ("ok".to_owned(), (failures == 0.0).into()),
                ("failures".to_owned(), failures.into()),
                ("successes".to_owned(), 0.0.into()),
                ("reachable".to_owned(), true.into()),
                ("rcode".to_owned(), "SERVFAIL".into()),
            ])
        };
        let mut host = Fields::from([("cpu.used_percent".to_owned(), 90.5.into())]);
        for mount in ["/", "/home", "/var", "/boot"] {
            host.insert(format!("disks[{mount}].used_percent"), 40.0.into());
        }
        let log = Fields::from([("tail".to_owned(), "Error Processing Order. Error #12".into())]);
        let outstanding = Fields::from([("value".to_owned(), "15".into())]);
        Self {
            fields: [
                ("host", host),
                ("dns1", dns(3.0)),
                ("dns2", dns(0.0)),
                ("log", log),
                ("outstanding", outstanding),
            ]
            .map(|(name, fields)| (name.to_owned(), fields))
            .into(),
            signals: [("dead".to_owned(), Truth::True), ("gone".to_owned(), Truth::False)].into(),
            values: [("active".to_owned(), "dns1".into())].into(),
        }
    }

    fn number(&self, probe: &str, field: &str) -> Option<f64> {
        self.fields.get(probe)?.get(field)?.number()
    }

    fn flag(&self, probe: &str, field: &str) -> Option<bool> {
        self.fields.get(probe)?.get(field)?.flag()
    }

    fn text(&self, probe: &str, field: &str) -> Option<&str> {
        self.fields.get(probe)?.get(field)?.text()
    }

    fn active(&self) -> Option<&str> {
        self.values.get("active")?.text()
    }
}

fn probes() -> BTreeMap<String, Probe> {
    let dns = |last: u8| ProbeSpec::Dns {
        server: [192, 0, 2, last].into(),
        port: 53,
        name: "exoticplant.plant".to_owned(),
        record: "A".to_owned(),
        reach: None,
    };
    let log = ProbeSpec::LogMatch { path: "/l".into(), pattern: "Error".to_owned(), before: None, window: 100 };
    let outstanding = ProbeSpec::File { path: "/o".into(), parse: None };
    [("dns1", dns(53)), ("dns2", dns(54)), ("log", log), ("outstanding", outstanding)]
        .map(|(name, spec)| {
            let seconds = Duration::from_secs;
            let probe = Probe { spec, every: seconds(5), timeout: seconds(2), on: None, canonical: String::new() };
            (name.to_owned(), probe)
        })
        .into()
}

type ByHand = fn(&Samples) -> Option<bool>;

/// A condition, and the same decision by hand.
const CONDITIONS: [(&str, &str, ByHand); 7] = [
    ("threshold", "host.cpu.used_percent > 90", |samples| Some(samples.number("host", "cpu.used_percent")? > 90.0)),
    ("S4 dead", "probe[value.active].failures >= 3", |samples| {
        Some(samples.number(samples.active()?, "failures")? >= 3.0)
    }),
    ("S4 gone", "!probe[value.active].reachable", |samples| Some(!samples.flag(samples.active()?, "reachable")?)),
    ("signals", "signal.dead && !signal.gone", |samples| {
        Some(samples.signals.get("dead")?.holds() && samples.signals.get("gone")?.fails())
    }),
    ("S3 backlog", "probe.outstanding.value > 12", |samples| {
        Some(samples.text("outstanding", "value")?.parse::<f64>().ok()? > 12.0)
    }),
    ("text", "probe.log.tail.contains(\"Error #12\") && probe.dns1.rcode == \"SERVFAIL\"", |samples| {
        Some(samples.text("log", "tail")?.contains("Error #12") && samples.text("dns1", "rcode")? == "SERVFAIL")
    }),
    ("every disk", "host.disks.exists(m, host.disks[m].used_percent > 80)", |samples| {
        let mut mounts = samples.elements(Family::Disks)?.into_iter();
        Some(
            mounts
                .any(|mount| samples.number("host", &format!("disks[{mount}].used_percent")).is_some_and(|n| n > 80.0)),
        )
    }),
];

fn compiled() -> Vec<(&'static str, Condition, ByHand)> {
    let declared = Arc::new(Declared {
        probes: Arc::new(probes()),
        signals: ["dead", "gone"].map(str::to_owned).into(),
        values: [("active".to_owned(), ["dns1", "dns2"].map(Value::from).into())].into(),
        element: Some(("disk".to_owned(), Family::Disks)),
        in_rung: true,
        alert: true,
    });
    let compile = |text| Condition::compile(text, &declared).unwrap_or_else(|error| panic!("{text}: {error}"));
    CONDITIONS.map(|(name, text, by_hand)| (name, compile(text), by_hand)).into()
}

fn conditions(criterion: &mut Criterion) {
    let samples = Samples::new();
    for (name, condition, by_hand) in compiled() {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function("condition", |bencher| bencher.iter(|| condition.judge(black_box(&samples))));
        group.bench_function("by hand", |bencher| bencher.iter(|| by_hand(black_box(&samples))));
        group.finish();
    }
}

/// Judgements in a second, over half a second.
fn rate(mut judge: impl FnMut()) -> f64 {
    let (started, mut count) = (Instant::now(), 0_u32);
    while started.elapsed() < Duration::from_millis(500) {
        for _ in 0..1000 {
            judge();
        }
        count += 1000;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}

fn ratios(_criterion: &mut Criterion) {
    let samples = Samples::new();
    println!("{:12} {:>14} {:>14} {:>7}", "condition", "judged a s", "by hand a s", "ratio");
    for (name, condition, by_hand) in compiled() {
        let judged = rate(|| _ = black_box(condition.judge(black_box(&samples))));
        let bare = rate(|| _ = black_box(by_hand(black_box(&samples))));
        println!("{name:12} {judged:>14.0} {bare:>14.0} {:>7.2}", bare / judged);
    }
}

criterion_group!(benches, conditions, ratios);
criterion_main!(benches);

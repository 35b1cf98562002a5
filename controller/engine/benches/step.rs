//! How fast decisions are, on one core: `cargo bench -p quell-engine --bench step`.
//!
//! Samples that all differ through [`quell_engine::step`], counted in conditions evaluated; and plans for 10,000 hosts
//! with every guard asked, of a policy (made and explained) and of a person's run (made, asked, recorded and begun).
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/world/mod.rs"]
mod world;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quell_engine::{
    Actor, Input, State,
    input::{Sample, WhyQuestion},
    state::{HostRow, HostState, PlanState},
};
use quell_model::{
    name::HostName,
    probe::ProbeKey,
    selector::Selector,
    value::{Fields, Value},
};
use world::World;

/// A host with twelve fields of interest to twelve policies, none of which fires.
fn watched() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.compares = false;
    world.join("planthost1", &[]);
    for number in 0..POLICIES {
        world.apply(&format!(
            "apiVersion: quell/v1\nkind: Policy\nmetadata: {{ namespace: plants, name: p{number} }}\nspec:\n  \
             description: Field {number} is too high\n  severity: ticket\n  hosts: all\n  trigger:\n    \
             when: {field} > 90\n    clear: {field} <= 85\n",
            field = FIELDS[number % FIELDS.len()].1,
        ));
    }
    world
}

/// As samples and as conditions name them.
const FIELDS: [(&str, &str); 4] = [
    ("cpu.used_percent", "host.cpu.used_percent"),
    ("memory.used_percent", "host.memory.used_percent"),
    ("disks[/home].used_percent", "host.disks[\"/home\"].used_percent"),
    ("disks[/var].used_percent", "host.disks[\"/var\"].used_percent"),
];
const POLICIES: usize = 12;
/// Each policy's trigger is false and its clearing is looked at.
const CONDITIONS: u64 = 2 * POLICIES as u64;

fn samples(criterion: &mut Criterion) {
    let mut world = watched();
    let host: HostName = "planthost1".parse().unwrap();
    let mut number = 0_u32;
    let mut group = criterion.benchmark_group("samples that differ");
    group.throughput(Throughput::Elements(CONDITIONS));
    group.bench_function("conditions through step", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                let value = |place: usize| Value::Number(f64::from((number + place as u32) % 80));
                let fields: Fields =
                    FIELDS.iter().enumerate().map(|(place, field)| (field.0.to_owned(), value(place))).collect();
                Arc::new(fields)
            },
            |fields| {
                world.now += Duration::from_millis(100);
                let sample = Sample { probe: ProbeKey::host(), taken_at: world.now, fields };
                let input = Input::Samples { host: host.clone(), samples: vec![sample] };
                let step = quell_engine::step(&mut world.windows, &world.state, world.now, input);
                world.state = step.state;
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

const HOSTS: usize = 10_000;
const NIGHTLY: &str = "
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Service
metadata: { namespace: plants, name: web }
spec:
  owner: Web
  members: { matchLabels: { role: web } }
  keepHealthy: 0
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: nightly }
spec:
  description: Everything is restarted
  service: web
  severity: ticket
  mode: enforce
  hosts: { matchLabels: { role: web } }
  target: fleet
  probes:
    shop: { http: { url: 'http://shop.example/' }, every: 10s, timeout: 2s, on: { matchLabels: { role: web }, pick: 1 } }
  trigger:
    schedule: { cron: 15 2 * * *, timeZone: Europe/Berlin }
  ladder:
    - name: restart
      on: { matchLabels: { role: web } }
      do:
        - { action: service.restart, with: { service: nginx }, timeout: 30s }
      rollout: { waves: [1, 10, 100, 1000], settle: 60s }
      verify: { that: probe.shop.ok, within: 30s }
  escalate: { to: on-call }
  guards: { disturb: { hosts: 20000, percent: 100, over: 1h } }
";

/// A fleet of one service, and a policy that acts on all of it.
fn fleet() -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    world.compares = false;
    world.join("host-00000", &[("role", "web")]);
    let first = world.state.hosts.values().next().unwrap().clone();
    for number in 1..HOSTS {
        let name: HostName = format!("host-{number:05}").parse().unwrap();
        let row = HostRow { state: HostState::Online, ..HostRow::clone(&first) };
        world.state.put(name, Some(Arc::new(row)));
    }
    world.apply(NIGHTLY);
    world
}

fn plans(criterion: &mut Criterion) {
    let mut world = fleet();
    let mut group = criterion.benchmark_group("10,000 targets");
    group.sample_size(20);
    let question = WhyQuestion { policy: "plants/nightly".parse().unwrap(), target: None };
    let explained = quell_engine::explain(&world.windows, &world.state, world.now, &question);
    assert!(explained[0].guards.len() > 10 && explained[0].guards.iter().all(|guard| guard.allows), "{explained:#?}");
    group.bench_function("plan and guards of a policy", |bencher| {
        bencher.iter(|| black_box(quell_engine::explain(&world.windows, &world.state, world.now, &question)));
    });
    let web = Selector::labels([("role".to_owned(), "web".to_owned())].into());
    let mut order = world.a_run("service.restart", web, serde_json::json!({ "service": "nginx" }));
    (order.waves, order.dry_run) = (vec![1, 10, 100], true);
    let request = world::signing::order("admin", &world.state, world.now, order);
    let run = || Input::Request { actor: Actor::Person("admin".to_owned()), request: Box::new(request.clone()) };
    let state: State = world.state.clone();
    let begun = quell_engine::step(&mut world.windows, &state, world.now, run());
    let plan = begun.state.plans.values().next_back().unwrap();
    assert_eq!((plan.state, plan.hosts.len()), (PlanState::Running, HOSTS));
    group.bench_function("run: plan, guards, records, first command", |bencher| {
        bencher.iter(|| black_box(quell_engine::step(&mut world.windows, &state, world.now, run())));
    });
    group.finish();
}

criterion_group!(benches, samples, plans);
criterion_main!(benches);

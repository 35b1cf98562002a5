//! What it costs a host to verify a command, evidence and all.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quell_model::trust::{Known, authorize, authorize_knowing};

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/trust/world.rs"]
mod world;

use world::{Case, Ceilings, ann, believed, bob, cat};

fn commands(criterion: &mut Criterion) {
    let fleet = |hosts: usize| {
        let mut fleet = Case::new();
        for host in 0..hosts {
            fleet.plan.steps[0].add(host / 50, format!("web-{host}").parse().unwrap());
        }
        fleet
    };
    let votes = vec![(bob(), "compliance", "now"), (cat(), "compliance", "now")];
    let approved = Case { votes, ..Case::new() }.rung("careful");
    let cases = [
        ("a policy's step", Case::new()),
        ("a policy's step within limits", Case { limits: Some(Ceilings::new("plants", "wave: 4")), ..Case::new() }),
        ("a policy's step that two people approved", approved),
        ("a policy's step in a plan for 1,000 hosts", fleet(1_000)),
        ("a policy's step in a plan for 10,000 hosts", fleet(10_000)),
        ("a person's order", Case::order(|_| {})),
    ];
    for (name, case) in cases {
        let evidence = case.evidence();
        let votes: Vec<_> =
            case.votes.iter().map(|(who, role, choice)| who.vote(role, choice, evidence.plan_hash)).collect();
        let root = believed(&case.root);
        let (belief, order) = (case.belief(&root), case.command(&evidence, &votes));
        criterion.bench_function(name, |bencher| {
            let mut known = Known::default();
            bencher.iter(|| authorize_knowing(black_box(&belief), black_box(&order), &mut known).unwrap());
        });
        criterion.bench_function(&format!("{name}, for the first time"), |bencher| {
            bencher.iter(|| authorize(black_box(&belief), black_box(&order)).unwrap());
        });
    }
    let case = Case::new();
    let evidence = case.evidence();
    let root = believed(&case.root);
    criterion.bench_function("a set alone", |bencher| {
        bencher.iter(|| evidence.set.verify(black_box(&root), case.now, &jiff::tz::TimeZone::UTC).unwrap());
    });
    let (ann, message) = (ann(), b"message");
    let signature = ann.sign("quell-trust", message);
    criterion.bench_function("a signature alone", |bencher| {
        let zone = jiff::tz::TimeZone::UTC;
        bencher.iter(|| root.signers().verify("quell-trust", message, black_box(&signature), case.now, &zone).unwrap());
    });
}

criterion_group!(benches, commands);
criterion_main!(benches);

//! Why, of the past: the records answer, however much lies between them, and after a restart too.

use jiff::{SignedDuration, Timestamp};
use quell_wire::v1::{CreateTokenRequest, Field, ManifestFile, Sample, VerdictView, WhyRequest, field};
use tonic::{Code, Status};

use crate::harness::{FakeAgent, Running, sample, start_on_disk, until};

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: busy }
spec:
  description: the processor is busy
  hosts: { matchLabels: { role: orders } }
  trigger: { when: host.cpu.used_percent > 90 }
  ladder:
    - { name: restart, do: [{ action: service.restart, with: { service: app } }], verify: { that: host.cpu.used_percent < 50, within: 60s } }
";

async fn ask(controller: &Running, target: &str, at: Timestamp) -> Result<Vec<VerdictView>, Status> {
    let request = WhyRequest { policy: "busy".to_owned(), target: target.to_owned(), at: at.to_string() };
    controller.operator().await.why(request).await.map(|answer| answer.into_inner().verdicts)
}

/// The records of changes of the verdict: number and time.
async fn changes(controller: &Running) -> Vec<(u64, Timestamp)> {
    let records = controller.decider.records(1, usize::MAX).await.unwrap();
    let changes = records.iter().filter(|record| record.kind == "verdictChanged");
    changes.map(|record| (record.sequence, record.time)).collect()
}

/// The processor is so busy, as the agent says; the controller records the change of the verdict, and much else.
async fn busy(controller: &Running, agent: &FakeAgent, percent: f64) -> (u64, Timestamp) {
    let before = changes(controller).await.len();
    let fields = vec![Field { name: "cpu.used_percent".to_owned(), value: Some(field::Value::Number(percent)) }];
    agent.say(sample(Sample { probe: "host".into(), full: true, fields, ..Sample::default() })).await;
    loop {
        match changes(controller).await.split_off(before).last() {
            Some(change) => break *change,
            None => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
        }
    }
}

async fn much_else(controller: &Running) {
    let mut operator = controller.operator().await;
    for _ in 0..70 {
        let request = CreateTokenRequest { ttl_ms: 60_000, uses: 1, ..CreateTokenRequest::default() };
        operator.create_token(request).await.unwrap();
    }
}

fn said(verdicts: &[VerdictView]) -> (&str, u64, bool) {
    let [verdict] = verdicts else { panic!("{verdicts:#?}") };
    let past = verdict.past.as_ref().unwrap();
    (&verdict.verdict, past.record.unwrap(), past.changed_at.is_some())
}

#[tokio::test]
async fn the_records_tell_what_the_verdict_was_and_what_it_saw() {
    let controller = start_on_disk().await;
    let file = ManifestFile { name: "busy.yaml".to_owned(), text: POLICY.to_owned() };
    let request = controller.signed_files(vec![file]);
    controller.operator().await.apply(request).await.unwrap();
    let identity = controller.join("planthost1").await;
    let agent = FakeAgent::welcomed(&identity).await;
    until("connected", || controller.inside.count("Connected") == 1).await;
    much_else(&controller).await;
    let (well, well_at) = busy(&controller, &agent, 10.0).await;
    much_else(&controller).await;
    let (ill, ill_at) = busy(&controller, &agent, 95.0).await;
    much_else(&controller).await;
    let (again, again_at) = busy(&controller, &agent, 20.0).await;
    drop(agent);

    let controller = controller.restarted().await;
    let little = SignedDuration::from_nanos(1);
    for (at, expected) in [
        (well_at, ("notFiring", well, true)),
        (ill_at - little, ("notFiring", well, true)),
        (ill_at, ("observeOnly", ill, true)),
        (again_at - little, ("observeOnly", ill, true)),
        (again_at, ("notFiring", again, false)),
        (controller.decider.now(), ("notFiring", again, false)),
    ] {
        for target in ["planthost1", ""] {
            assert_eq!(said(&ask(&controller, target, at).await.unwrap()), expected, "{at}");
        }
    }
    let then = ask(&controller, "planthost1", ill_at).await.unwrap().remove(0);
    assert_eq!(then.first_no.as_ref().unwrap().guard, "mode");
    assert_eq!((then.guards.len(), then.condition.as_str()), (19, "host.cpu.used_percent > 90"));
    let saw: Vec<_> = then.signals.iter().flat_map(|signal| &signal.saw).collect();
    assert_eq!(saw, ["planthost1 host.cpu.used_percent = 95"]);
    assert!(then.incident.is_some() && then.past.unwrap().built_from.starts_with(&format!("record {ill}: ")));

    let early = ask(&controller, "planthost1", well_at - little).await.unwrap_err();
    assert_eq!(early.code(), Code::NotFound);
    assert!(early.message().contains(&format!("record {well}")), "{early}");
    let nobody = ask(&controller, "planthost9", ill_at).await.unwrap_err();
    assert!(nobody.code() == Code::NotFound && nobody.message().contains("nobody judges it now"), "{nobody}");
    let future = controller.decider.now() + SignedDuration::from_hours(1);
    assert_eq!(ask(&controller, "planthost1", future).await.unwrap_err().code(), Code::InvalidArgument);
    controller.stop().await.unwrap();
}

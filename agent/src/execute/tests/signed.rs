//! Nothing is done that people did not sign: each order is good, until one thing about it is broken.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use quell_model::{
    digest::Digest,
    plan::{ExactPlan, preview_key},
    trust::TrustRoot,
};
use quell_wire::v1::{self, OutcomeKind};
use serde_json::json;

use super::{
    Agent, TOML,
    office::{self, OFFICE, Person},
    shop::{Order, Shop},
};
use crate::{belief::Ledger, guard};

/// An order that is good, until something is done to it.
type Broken = (&'static str, fn(&mut Order));

const BROKEN: [Broken; 11] = [
    ("not in allowed_signers", |order| order.signers = vec![&OFFICE.eve]),
    ("may only observe", |order| {
        order.signers = vec![&OFFICE.olav];
        order.namespace = "quell-policy.observe";
    }),
    ("may not sign in namespace", |order| order.signers = vec![&OFFICE.olav]),
    ("not signed", |order| order.signers = vec![]),
    ("expired", |order| order.set.expires = Timestamp::now() - SignedDuration::from_secs(1)),
    ("of installation \"other\"", |order| order.set.installation = "other".to_owned()),
    ("no such step", |order| order.plan.steps.iter_mut().for_each(|step| step.waves[0][0] = "web2".parse().unwrap())),
    ("parameters are others", |order| order.command.parameters = br#"{"argv":["/bin/sh","-c","true"]}"#.to_vec()),
    ("parameters of step 0 are others", |order| {
        order.command.parameters = br#"{"argv":["/bin/sh","-c","true"]}"#.to_vec();
        order.plan.steps[0].with = serde_json::from_slice(&order.command.parameters).unwrap();
    }),
    ("is not in version 3", |order| {
        order.set.manifests.remove("Policy/web");
    }),
    ("is not among the evidence", |order| {
        order.manifests.pop();
    }),
];

#[tokio::test]
async fn each_broken_order_is_refused_and_the_good_one_is_done() {
    let mut shop = Shop::new().await;
    for (index, (reason, break_it)) in BROKEN.into_iter().enumerate() {
        let order = shop.order(&format!("broken-{index}"), "plain").edit(break_it);
        shop.refuses(order, reason).await;
    }
    let good = |shop: &Shop, key: &str| shop.order(key, "plain").seal();
    let unsigned = v1::Command { authority: None, ..good(&shop, "unsigned") };
    shop.refuses_as_it_is(unsigned, "nobody signed it").await;
    let mut forged = good(&shop, "forged");
    if let Some(authority) = &mut forged.authority {
        authority.policy_set = String::from_utf8_lossy(&authority.policy_set).replace(":3}", ":4}").into_bytes();
    }
    shop.refuses_as_it_is(forged, "bytes or the signature have been changed").await;
    let other_plan = v1::Command { plan: good(&shop, "x").plan, ..good(&shop, "other-plan") };
    shop.refuses_as_it_is(other_plan, "the plan's bytes have hash").await;
    let no_hash = v1::Command { plan_hash: Vec::new(), ..good(&shop, "no-hash") };
    shop.refuses_as_it_is(no_hash, "no plan by its hash").await;
    let order = shop.order("good", "plain");
    shop.succeeds(order).await;
    assert_eq!(shop.marks(), 1);
}

#[tokio::test]
async fn only_looking_takes_a_signature_too() {
    let mut shop = Shop::new().await;
    let dry = |order: Order| {
        order.edit(|order| {
            order.command.dry_run = true;
            order.plan.dry_run = true;
        })
    };
    let unsigned = shop.order("a", "plain").edit(|order| order.signers = vec![&OFFICE.eve]);
    shop.refuses(dry(unsigned), "not in allowed_signers").await;
    let looks = shop.order("b", "plain").edit(|order| {
        order.signers = vec![&OFFICE.olav];
        order.namespace = "quell-policy.observe";
    });
    shop.succeeds(dry(looks)).await;
    let mut preview = shop.order("c", "plain").edit(|order| order.signers = vec![&OFFICE.eve]).seal();
    preview.preview_only = true;
    shop.agent.handle.submit(preview).await;
    let super::Report::Preview(preview) = shop.agent.next().await else { panic!("a preview was wanted") };
    assert!(preview.items.is_empty() && preview.refusal.contains("not in allowed_signers"), "{preview:?}");
    assert_eq!(shop.marks(), 0);
}

#[tokio::test]
async fn a_host_that_is_not_meant_by_its_own_labels_does_nothing() {
    let mut shop = Shop::with("db", "1h", "daily").await;
    let order = shop.order("a", "plain");
    shop.refuses(order, "its own labels").await;
}

#[tokio::test]
async fn a_host_that_believes_nobody_refuses_everything_and_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let mut agent = Agent::of_strangers(data.path(), TOML).await;
    let outcome = agent.run(super::shell("a", "true")).await;
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert!(outcome.summary.contains("believes nobody") && outcome.summary.contains("join"), "{}", outcome.summary);
}

#[tokio::test]
async fn an_older_set_and_a_fork_are_refused_after_a_restart_too() {
    let mut shop = Shop::with("web", "1s", "daily").await;
    let version = |shop: &Shop, key: &str, version| shop.order(key, "plain").edit(|order| order.set.version = version);
    // That it was seen is enough, and a preview shows it.
    let seen = v1::Command { preview_only: true, ..version(&shop, "seen", 5).seal() };
    shop.agent.handle.submit(seen).await;
    assert!(matches!(shop.agent.next().await, super::Report::Preview(preview) if preview.refusal.is_empty()));
    for round in ["before", "after"] {
        let old = version(&shop, &format!("old-{round}"), 4);
        shop.refuses(old, "has been replaced by version 5").await;
        let fork = version(&shop, &format!("fork-{round}"), 5)
            .edit(|order| order.set.expires = Timestamp::now() + SignedDuration::from_hours(1));
        shop.refuses(fork, "two different sets").await;
        shop = shop.restart().await;
    }
    let newer = version(&shop, "newer", 6);
    shop.succeeds(newer).await;
}

#[tokio::test]
async fn a_replay_has_no_effect_whatever_its_key_and_after_a_restart() {
    let mut shop = Shop::with("web", "1s", "daily").await;
    let order = || shop.order("a", "careful").approved(&OFFICE.noor, "quell-approval.compliance").seal();
    let captured = order();
    assert_eq!(shop.agent.give(captured.clone()).await.kind(), OutcomeKind::Succeeded);
    assert_eq!(shop.marks(), 1);
    for round in 0..2 {
        let again = shop.agent.give(captured.clone()).await;
        assert_eq!((again.kind(), shop.marks()), (OutcomeKind::Succeeded, 1), "answered, not done");
        let other_key = v1::Command {
            idempotency_key: format!("other-{round}"),
            command_id: format!("cmd-other-{round}"),
            ..captured.clone()
        };
        shop.refuses_as_it_is(other_key, "was begun here already").await;
        shop = shop.restart().await;
    }
}

#[tokio::test]
async fn an_order_of_another_host_is_refused_though_the_plan_has_the_same_step_here() {
    let mut shop = Shop::new().await;
    let of = |host: &str, key: &str| v1::Command { host: host.to_owned(), ..shop.order(key, "plain").seal() };
    let (other, own) = (of("web2", "a"), of("web1", "b"));
    shop.refuses_as_it_is(other, "the order is for web2, and this is web1").await;
    assert_eq!(shop.agent.give(own).await.kind(), OutcomeKind::Succeeded);
}

#[tokio::test]
async fn a_persons_order_is_good_for_one_plan() {
    let mut shop = Shop::new().await;
    let marks = shop.data.path().join("marks");
    let order = |key: &str| super::shell(key, &format!("echo done >> {}", marks.display()));
    let run = office::run("run-1", &order("a"));
    let set = office::one_shot(&run);
    let command = |key: &str, name: &str| {
        let plan = ExactPlan { plan: name.to_owned(), run: Some(run.digest()), ..office::plan(&order(key)) };
        let behind = office::authority(&set, "quell-policy", &[&OFFICE.mira], &[&run.canonical()]);
        v1::Command { authority: Some(behind), ..office::planned(order(key), &plan) }
    };
    assert_eq!(shop.agent.give(command("a", "plan-1")).await.kind(), OutcomeKind::Succeeded);
    shop.refuses_as_it_is(command("b", "plan-2"), "good for one plan").await;
    let mut shop = shop.restart().await;
    shop.refuses_as_it_is(command("c", "plan-2"), "good for one plan").await;
    shop.refuses_as_it_is(command("d", "plan-1"), "was begun here already").await;
    assert_eq!(shop.marks(), 1);
}

#[tokio::test]
async fn a_cool_down_holds_other_plans_and_spares_recovery_and_dry_runs() {
    let mut shop = Shop::new().await;
    let first = shop.order("first", "plain");
    shop.succeeds(first).await;
    let mut shop = shop.restart().await;
    let second = shop.order("second", "plain");
    shop.refuses(second, "its cool-down lasts until").await;
    let dry = shop.order("dry", "plain").edit(|order| {
        order.command.dry_run = true;
        order.plan.dry_run = true;
    });
    shop.succeeds(dry).await;
    let never_begun = shop.finally("never-begun", "plain");
    shop.refuses(never_begun, "its cool-down lasts until").await;
    let finally = shop.finally("finally", "plain").edit(|order| order.plan.plan = "first".to_owned());
    shop.succeeds(finally).await;
    assert_eq!(shop.marks(), 2);
}

#[tokio::test]
async fn a_cool_down_lets_the_ladder_be_climbed_and_no_rung_be_taken_again() {
    let mut shop = Shop::new().await;
    let first = shop.order("first", "plain");
    shop.succeeds(first).await;
    let mut shop = shop.restart().await;
    let next = shop.order("next", "careful").approved(&OFFICE.noor, "quell-approval.compliance");
    shop.succeeds(next).await;
    for rung in ["plain", "careful"] {
        let again = shop.order("again", rung).approved(&OFFICE.noor, "quell-approval.compliance");
        shop.refuses(again, "its cool-down lasts until").await;
    }
    assert_eq!(shop.marks(), 2);
}

#[tokio::test]
async fn a_closed_calendar_holds_what_starts_and_spares_recovery() {
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).weekday();
    let other = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        [usize::try_from(today.to_monday_zero_offset() + 3).unwrap() % 7];
    let mut shop = Shop::with("web", "1h", other).await;
    let order = shop.order("a", "plain");
    shop.refuses(order, "calendar plants/hours is closed until").await;
    let never_begun = shop.finally("b", "plain");
    shop.refuses(never_begun, "calendar plants/hours is closed until").await;
    let finally = shop.begun(shop.finally("c", "plain"));
    let mut shop = shop.restart().await;
    shop.succeeds(finally).await;
}

#[tokio::test]
async fn an_approval_counts_by_role_plan_and_choice() {
    let mut shop = Shop::with("web", "1s", "daily").await;
    let role = "quell-approval.compliance";
    let missing = shop.order("missing", "careful");
    shop.refuses(missing, "is not approved").await;
    let forged = shop.order("forged", "careful").approved(&OFFICE.eve, role);
    shop.refuses(forged, "not in allowed_signers").await;
    let wrong_role = shop.order("role", "careful").approved(&OFFICE.mira, "quell-approval.staff");
    shop.refuses(wrong_role, "made for namespace").await;
    let may_not = shop.order("may-not", "careful").approved(&OFFICE.mira, role);
    shop.refuses(may_not, "may not sign in namespace").await;
    let rejected = shop.order("rejected", "careful").approved(&OFFICE.noor, role).edit(|order| order.choice = "reject");
    shop.refuses(rejected, "is not approved").await;
    let other = shop.order("other", "careful").approved(&OFFICE.noor, role).seal();
    let borrowed = v1::Command { votes: other.votes, choice: other.choice, ..shop.order("borrowed", "careful").seal() };
    shop.refuses_as_it_is(borrowed, "have been changed").await;
    let ended = shop.order("ended", "careful").approved(&OFFICE.noor, role);
    let ended = ended.edit(|order| order.votes_end = Timestamp::now() - SignedDuration::from_secs(1)).seal();
    shop.refuses_as_it_is(ended.clone(), "the vote was good until").await;
    let longer = |expires: String| {
        let votes =
            ended.votes.iter().map(|vote| v1::SignedVote { expires: expires.clone(), ..vote.clone() }).collect();
        v1::Command { votes, idempotency_key: "longer".to_owned(), ..ended.clone() }
    };
    let later = longer((Timestamp::now() + SignedDuration::from_hours(1)).to_string());
    shop.refuses_as_it_is(later, "have been changed").await;
    let endless = v1::Command { idempotency_key: "endless".to_owned(), ..longer(String::new()) };
    shop.refuses_as_it_is(endless, "does not say until when").await;
    let good = shop.order("good", "careful").approved(&OFFICE.noor, role);
    shop.succeeds(good).await;
    // The end of a plan that was begun here needs none any more; that of any other is a step like the rest.
    let never_begun = shop.finally("never-begun", "careful");
    shop.refuses(never_begun, "is not approved").await;
    let finally = shop.finally("finally", "careful").edit(|order| order.plan.plan = "good".to_owned());
    shop.succeeds(finally).await;
}

#[tokio::test]
async fn an_approval_under_a_condition_is_wanted_by_what_the_host_did_itself() {
    let mut shop = Shop::with("web", "1ms", "daily").await;
    let first = shop.order("first", "twice");
    shop.succeeds(first).await;
    let mut shop = shop.restart().await;
    let second = shop.order("second", "twice");
    shop.refuses(second, "needs an approval by compliance").await;
    let approved = shop.order("approved", "twice").approved(&OFFICE.noor, "quell-approval.compliance");
    shop.succeeds(approved).await;
}

#[tokio::test]
async fn an_approval_under_what_is_no_condition_is_wanted_always() {
    let mut shop = Shop::with("web", "1ms", "daily").await;
    let policy = shop.manifests.get_mut("Policy/web").unwrap();
    *policy = policy.replace(r#"ledger.acted(\"1h\") >= 1"#, "signal.gone");
    assert!(policy.contains("signal.gone"), "{policy}");
    let order = shop.order("order", "twice");
    shop.refuses(order, "needs an approval by compliance").await;
    let approved = shop.order("approved", "twice").approved(&OFFICE.noor, "quell-approval.compliance");
    shop.succeeds(approved).await;
}

#[tokio::test]
async fn what_was_approved_by_its_preview_is_not_done_when_it_moved() {
    let mut shop = Shop::new().await;
    let preview = v1::Command { preview_only: true, ..shop.order("preview", "plain").seal() };
    shop.agent.handle.submit(preview).await;
    let super::Report::Preview(shown) = shop.agent.next().await else { panic!("a preview was wanted") };
    let with = |order: Order, digest: Digest| {
        order.edit(|order| {
            order.plan.previews.insert(preview_key(&office::host(), 0), digest);
        })
    };
    let moved = with(shop.order("moved", "plain"), Digest::of(b"something else"));
    shop.refuses(moved, "is not what it was when the plan was previewed").await;
    let same = with(shop.order("same", "plain"), Digest(shown.digest.try_into().unwrap()));
    shop.succeeds(same).await;
}

#[tokio::test]
async fn a_clock_that_is_off_begins_nothing_but_recovery() {
    let mut shop = Shop::new().await;
    let controller = Timestamp::now() - SignedDuration::from_secs(90);
    shop.agent.clock.learn(controller.as_millisecond(), std::time::Instant::now());
    let order = shop.order("a", "plain");
    shop.refuses(order, "ahead of the controller's").await;
    let never_begun = shop.finally("never-begun", "plain");
    shop.refuses(never_begun, "ahead of the controller's").await;
    let finally = shop.begun(shop.finally("b", "plain"));
    shop.succeeds(finally).await;
    shop.agent.clock.learn(Timestamp::now().as_millisecond(), std::time::Instant::now());
    let order = shop.order("c", "plain");
    shop.succeeds(order).await;
}

#[tokio::test]
async fn a_clock_that_went_back_begins_nothing_but_recovery() {
    let shop = Shop::new().await;
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let ledger = json!({"latest": later, "sets": {}, "oneShots": {}, "acts": []});
    let put = |held: &mut Ledger| {
        *held = serde_json::from_value(ledger).unwrap();
        Ok(true)
    };
    shop.beliefs().note(put).unwrap().unwrap();
    let mut shop = shop.restart().await;
    let order = shop.order("a", "plain");
    shop.refuses(order, "has been here already").await;
    let never_begun = shop.finally("never-begun", "plain");
    shop.refuses(never_begun, "has been here already").await;
    let finally = shop.begun(shop.finally("b", "plain"));
    shop.succeeds(finally).await;
}

#[tokio::test]
async fn nothing_is_done_when_the_ledger_cannot_be_kept() {
    let mut shop = Shop::new().await;
    let (place, away) = (shop.data.path().join("belief"), shop.data.path().join("away"));
    std::fs::rename(&place, &away).unwrap();
    let order = shop.order("a", "plain");
    shop.refuses(order, "cannot write").await;
    std::fs::rename(&away, &place).unwrap();
    let order = shop.order("b", "plain");
    shop.succeeds(order).await;
}

#[tokio::test]
async fn a_planted_signer_signs_nothing_and_a_signer_who_left_no_more() {
    let mut shop = Shop::new().await;
    let root = OFFICE.root();
    let planted = TrustRoot { version: 2, allowed_signers: OFFICE.eve.line("quell-*"), ..root.clone() };
    let change = |root: &TrustRoot, by: &Person| {
        let document = root.canonical().into_bytes();
        v1::SignedChange { signatures: vec![by.sign("quell-trust", &document)], document }
    };
    shop.agent.handle.believe(change(&planted, &OFFICE.eve)).await;
    assert_eq!(shop.beliefs().told().trust_version, 1);
    let order = shop.order("a", "plain").edit(|order| order.signers = vec![&OFFICE.eve]);
    shop.refuses(order, "not in allowed_signers").await;

    // Waits for its turn behind another, while the one who signed it leaves.
    shop.agent.submit(super::shell("long", "sleep 60")).await;
    while !matches!(shop.agent.next().await, super::Report::Started(_)) {}
    let waits = shop.order("waits", "plain").seal();
    shop.agent.handle.submit(waits).await;
    let without = root.allowed_signers.replace("quell-policy,quell-trust", "quell-trust");
    shop.agent.handle.believe(change(&TrustRoot { version: 2, allowed_signers: without, ..root }, &OFFICE.mira)).await;
    assert_eq!(shop.beliefs().told().trust_version, 2);
    shop.agent.handle.cancel("cmd-long", "enough").await;
    let outcome = shop.agent.outcome("cmd-waits").await;
    assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("may not sign"), "{}", outcome.summary);
    assert_eq!(shop.marks(), 0);
}

#[tokio::test]
async fn an_undo_takes_back_its_own_step_only() {
    let mut shop = Shop::new().await;
    let first = shop.order("first", "plain");
    shop.succeeds(first).await;
    // The evidence of one plan says nothing about what another did.
    let undo = |command: v1::Command| v1::Command { undo: true, command_id: "cmd-undo".to_owned(), ..command };
    let foreign = v1::Command { idempotency_key: "first".to_owned(), ..undo(shop.order("second", "plain").seal()) };
    shop.refuses_as_it_is(foreign, "is no step of this plan").await;
    let mut shop = shop.restart().await;
    let unsigned = v1::Command { authority: None, ..undo(shop.order("first", "plain").seal()) };
    let unsigned = v1::Command { idempotency_key: "unsigned".to_owned(), ..unsigned };
    shop.refuses_as_it_is(unsigned, "nobody signed it").await;
}

#[tokio::test]
async fn a_policy_holds_its_target_for_one_order_at_a_time() {
    let shop = Shop::new().await;
    let config = &shop.agent.handle.shared.host.config;
    let admitted = guard::admit(&shop.order("a", "plain").seal(), shop.beliefs(), config, Timestamp::now()).unwrap();
    assert!(admitted.resources.contains("policy plants/web on web1"), "{:?}", admitted.resources);
}

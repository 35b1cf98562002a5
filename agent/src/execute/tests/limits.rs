//! Limits behind an order: what people signed, and others have set a ceiling over, is done within that ceiling alone;
//! leaving the ceiling out, or showing another one, gains nothing.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use quell_model::{
    digest::Digest,
    manifest::{self, File},
    trust::{PolicySet, TrustRoot},
};
use quell_wire::v1::{self, OutcomeKind};

use super::{
    command,
    office::{self, OFFICE, Person},
    shop::Shop,
};

/// When the limits expire: the same set has one digest, whenever it is made.
static EXPIRES: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::now() + SignedDuration::from_hours(24));

/// A set of limits that a test can break.
struct Ceiling {
    set: PolicySet,
    signer: &'static Person,
    /// In which it is signed.
    signed_in: &'static str,
    manifests: Vec<String>,
}

impl Ceiling {
    /// Limits of a namespace, as Lena signs them.
    fn new(namespace: &str, version: u64, spec: &str) -> Self {
        let text = format!(
            "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ namespace: {namespace}, name: ceiling }}\nspec: {{ \
             description: What security allows., {spec} }}\n"
        );
        let parsed = manifest::parse(&[File { name: "limits.yaml".to_owned(), text }]).unwrap();
        let manifests: Vec<String> = parsed.into_iter().map(|one| one.canonical).collect();
        let set = PolicySet {
            installation: office::INSTALLATION.to_owned(),
            namespace: namespace.parse().unwrap(),
            version,
            issued: "2026-01-01T00:00:00Z".parse().unwrap(),
            expires: *EXPIRES,
            manifests: manifests
                .iter()
                .map(|text| ("Limits/ceiling".to_owned(), Digest::of(text.as_bytes())))
                .collect(),
            one_shot: None,
            limits: true,
        };
        Self { set, signer: &OFFICE.lena, signed_in: "quell-limits", manifests }
    }

    fn edit(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    /// Puts them behind an order.
    fn behind(&self, mut command: v1::Command) -> v1::Command {
        let set = self.set.canonical().into_bytes();
        let signatures = vec![self.signer.sign(self.signed_in, &set)];
        let manifests = self.manifests.iter().map(|text| text.as_bytes().to_vec()).collect();
        command.authority.as_mut().unwrap().limits = Some(v1::SignedLimits { set, signatures, manifests });
        command
    }
}

/// Limits that bound nothing.
fn wide(version: u64) -> Ceiling {
    Ceiling::new("plants", version, "mode: enforce")
}

/// A shop without cool-downs, so that each plan is judged by the rest.
async fn shop() -> Shop {
    Shop::with("web", "0s", "daily").await
}

/// The trust root says from now on that hosts demand limits.
fn demand(shop: &Shop) {
    let root = OFFICE.root();
    let next = TrustRoot { version: 2, required: [("limits".parse().unwrap(), 1)].into(), ..root };
    let document = next.canonical().into_bytes();
    let signature = OFFICE.mira.sign("quell-trust", &document);
    shop.beliefs().take(&document, &[signature], Timestamp::now()).unwrap();
}

fn plain(shop: &Shop, key: &str) -> v1::Command {
    shop.order(key, "plain").seal()
}

async fn succeeds(shop: &mut Shop, command: v1::Command) {
    let outcome = shop.agent.give(command).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
}

#[tokio::test]
async fn limits_that_are_demanded_and_left_out_stop_what_acts_and_no_recovery() {
    let mut shop = shop().await;
    demand(&shop);
    let command = plain(&shop, "left-out");
    shop.refuses_as_it_is(command, "hosts do nothing in plants without its limits").await;
    let dry = shop.order("dry", "plain").edit(|order| {
        order.command.dry_run = true;
    });
    succeeds(&mut shop, dry.seal()).await;
    let end = shop.begun(shop.finally("begun", "plain")).seal();
    succeeds(&mut shop, end).await;
    let run = office::signed(command_of_a_person("by-hand"));
    let before = shop.marks();
    let outcome = shop.agent.give(run).await;
    assert_eq!(outcome.kind(), OutcomeKind::Refused, "{}", outcome.summary);
    assert!(outcome.summary.contains("hosts do nothing in run without its limits"), "{}", outcome.summary);
    assert_eq!(shop.marks(), before);
    let command = wide(1).behind(plain(&shop, "there"));
    succeeds(&mut shop, command).await;
}

/// An order by hand.
fn command_of_a_person(key: &str) -> v1::Command {
    command(key, "exec", &serde_json::json!({"argv": ["/bin/sh", "-c", "true"]}))
}

#[tokio::test]
async fn orders_by_hand_keep_to_the_limits_of_run() {
    let mut shop = shop().await;
    let limits = Ceiling::new("run", 1, "actions: [log.rotate]");
    let refused = shop.agent.give(limits.behind(office::signed(command_of_a_person("narrow")))).await;
    assert!(refused.summary.contains("passes Limits run/ceiling: it is exec"), "{}", refused.summary);
    let limits = Ceiling::new("run", 2, "actions: [exec], budget: { perHost: 1 }");
    let done = shop.agent.give(limits.behind(office::signed(command_of_a_person("first")))).await;
    assert_eq!(done.kind(), OutcomeKind::Succeeded, "{}", done.summary);
    let refused = shop.agent.give(limits.behind(office::signed(command_of_a_person("second")))).await;
    assert!(refused.summary.contains("1 acts on this host within 1d are spent"), "{}", refused.summary);
}

#[tokio::test]
async fn what_was_seen_once_is_demanded_and_never_goes_back() {
    let mut shop = shop().await;
    let before = plain(&shop, "before");
    succeeds(&mut shop, before).await;
    let second = wide(2).behind(plain(&shop, "second"));
    succeeds(&mut shop, second).await;
    for round in ["at once", "after a restart"] {
        let command = |what: &str| plain(&shop, &format!("{what} {round}"));
        let (out, old, fork) = (command("out"), command("old"), command("fork"));
        let other = Ceiling::new("plants", 2, "wave: 9");
        shop.refuses_as_it_is(out, "without its limits").await;
        shop.refuses_as_it_is(wide(1).behind(old), "version 1 of set plants/limits has been replaced by version 2")
            .await;
        shop.refuses_as_it_is(other.behind(fork), "two different sets").await;
        shop = shop.restart().await;
    }
    // The policies' own versions are others.
    assert_eq!(shop.beliefs().told().set_versions.len(), 2);
    let third = wide(3).behind(plain(&shop, "third"));
    succeeds(&mut shop, third).await;
}

#[tokio::test]
async fn a_preview_or_dry_run_does_not_make_an_agent_believe_limits() {
    let mut shop = shop().await;
    let dry = shop.order("dry", "plain").edit(|order| order.command.dry_run = true);
    let command = wide(7).behind(dry.seal());
    succeeds(&mut shop, command).await;
    let command = wide(1).behind(plain(&shop, "one"));
    succeeds(&mut shop, command).await;
}

#[tokio::test]
async fn limits_take_their_own_signers_and_all_of_them() {
    let mut shop = shop().await;
    type Break = (&'static str, fn(&mut Ceiling));
    let broken: [Break; 8] = [
        ("may not sign in namespace \"quell-limits\"", |ceiling| ceiling.signer = &OFFICE.mira),
        ("not signed", |ceiling| (ceiling.signer, ceiling.signed_in) = (&OFFICE.mira, "quell-policy")),
        ("not in allowed_signers", |ceiling| ceiling.signer = &OFFICE.eve),
        ("is not among the evidence", |ceiling| ceiling.manifests.clear()),
        ("is not among the evidence", |ceiling| {
            ceiling.manifests = Ceiling::new("plants", 1, "wave: 9").manifests;
        }),
        ("of installation \"other\"", |ceiling| ceiling.set.installation = "other".to_owned()),
        ("the limits that came are those of elsewhere", |ceiling| ceiling.set.namespace = "elsewhere".parse().unwrap()),
        ("version 1 of set plants/limits expired", |ceiling| {
            ceiling.set.expires = Timestamp::now() - SignedDuration::from_secs(1);
        }),
    ];
    for (index, (reason, break_it)) in broken.into_iter().enumerate() {
        let command = wide(1).edit(break_it).behind(plain(&shop, &format!("broken-{index}")));
        shop.refuses_as_it_is(command, reason).await;
    }
    let command = wide(1).behind(plain(&shop, "good"));
    succeeds(&mut shop, command).await;
    assert_eq!(shop.marks(), 1);
}

#[tokio::test]
async fn each_ceiling_is_kept_by_the_host_itself() {
    let mut shop = shop().await;
    let refuses = [
        ("actions: [service.restart]", "it is exec, and allowed are service.restart"),
        ("hosts: { matchLabels: { role: db } }", "Limits plants/ceiling do not let web1 be acted on"),
        ("mode: propose", "`mode` passes Limits plants/ceiling"),
        ("cooldown: 1h", "`guards.cooldown` passes Limits plants/ceiling"),
        ("approvals: [{ actions: [exec], role: compliance }]", "`ladder[0].approval` passes Limits plants/ceiling"),
        ("calendar: { timeZone: UTC, open: [{ days: DAY }] }", "Limits plants/ceiling are closed until"),
    ];
    // A day of the week that is neither today nor, should the test run at midnight, tomorrow.
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).weekday().to_monday_zero_offset();
    let closed = days[(usize::try_from(today).unwrap() + 3) % 7];
    for (version, (spec, reason)) in (1..).zip(refuses) {
        let ceiling = Ceiling::new("plants", version, &spec.replace("DAY", closed));
        let command = ceiling.behind(plain(&shop, &format!("refused-{version}")));
        shop.refuses_as_it_is(command, reason).await;
    }
    // A rung that asks the right people keeps to it; they have to answer.
    let careful = shop.order("careful", "careful").seal();
    let asks = Ceiling::new("plants", 9, "approvals: [{ actions: [exec], role: compliance }]");
    shop.refuses_as_it_is(asks.behind(careful), "is not approved").await;
}

#[tokio::test]
async fn acts_on_the_host_are_counted_over_its_policies_and_over_restarts() {
    let mut shop = shop().await;
    let two = || Ceiling::new("plants", 1, "budget: { perHost: 2, within: 2h }");
    for key in ["one", "two"] {
        let command = two().behind(plain(&shop, key));
        succeeds(&mut shop, command).await;
    }
    for key in ["three", "four"] {
        let command = two().behind(plain(&shop, key));
        shop.refuses_as_it_is(command, "Limits plants/ceiling: 2 acts on this host within 2h are spent until").await;
        shop = shop.restart().await;
    }
    let end = two().behind(shop.begun(shop.finally("end", "plain")).seal());
    succeeds(&mut shop, end).await;
    let raised = Ceiling::new("plants", 2, "budget: { perHost: 3, within: 2h }").behind(plain(&shop, "five"));
    succeeds(&mut shop, raised).await;
}

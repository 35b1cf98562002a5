//! Freezes, holds and calendars stop what has not begun, and never recovery.

use proptest::prelude::*;
use quell_engine::{
    input::HoldScope,
    state::{PlanState, WindowRow},
};
use quell_model::{name::HostName, policy::Manifest};

use super::{
    farm::{Farm, Rules, Way, over},
    judge::{self, Sent},
    life::{held_deed, live, rules},
};

/// Whether a window of people is in force and covers a command.
fn covers(window: &WindowRow, sent: &Sent<'_>) -> bool {
    let in_force = window.from <= sent.at && sent.at < window.until;
    in_force
        && match &window.scope {
            HoldScope::Host(host) => sent.command.host == *host,
            HoldScope::Policy(policy) => sent.plan.policy.as_ref() == Some(policy),
            HoldScope::Incident(incident) => sent.plan.incident == Some(*incident),
            HoldScope::Hosts(selector) => selector.matches(&sent.state.hosts[&sent.command.host].labels),
        }
}

fn is_held_locally(host: &HostName, sent: &Sent<'_>) -> bool {
    sent.state.hosts[host].held.as_ref().is_some_and(|(_, until)| *until > sent.at)
}

/// No risky command goes out while something holds it.
fn nothing_held_is_sent(farm: &Farm) -> usize {
    judge::each_sent(&farm.world, |sent| {
        if !judge::is_risk(sent.command) {
            return;
        }
        let window = sent.state.windows.values().find(|window| covers(window, sent));
        assert!(window.is_none(), "{} goes out at {} in {window:?}\n{}", sent.command.id, sent.at, farm.world.story());
        assert!(!is_held_locally(&sent.command.host, sent), "{} goes to a host that is held", sent.command.id);
    })
}

#[test]
fn nothing_that_is_held_is_sent() {
    let lives = (rules(), prop::collection::vec(held_deed(), 10..40));
    over(16, &lives, |(rules, deeds)| {
        let mut farm = Farm::of_all(&rules);
        live(&mut farm, &deeds);
        nothing_held_is_sent(&farm)
    });
}

#[test]
fn maintenance_holds_and_its_end_lets_go() {
    over(8, &(1..200_i64, 1..200_i64, 1..100_u32), |(from, span, wrong_at)| {
        let mut farm = Farm::of_servers(&Rules::default());
        let (from, until) = (farm.later(from), farm.later(from + span));
        farm.world.apply(&format!(
            "apiVersion: quell/v1\nkind: Window\nmetadata: {{ namespace: plants, name: move }}\nspec: {{ hosts: all, \
             suppress: [notify, act], from: '{from}', until: '{until}', reason: the racks move }}\n"
        ));
        farm.wait(wrong_at);
        farm.queue(1, 30);
        farm.wait(500);
        let acts = judge::each_sent(&farm.world, |sent| {
            assert!(sent.at < from || until <= sent.at, "{} acts in maintenance", sent.command.id);
        });
        assert_eq!(acts, 1, "after the maintenance it is done\n{}", farm.world.story());
        acts
    });
}

#[test]
fn nothing_begins_outside_the_calendar() {
    let rules = Rules { calendar: true, hosts: 4, waves: vec![1], settle: 1_200, ..Rules::default() };
    // From half an hour before the opening to an hour after the closing; waves are twenty minutes apart.
    over(8, &(0..9_u32, any::<bool>()), |(hour, fleet)| {
        let mut farm = Farm::of_all(&rules);
        farm.world.compares = false;
        farm.wait(hour * 3_600);
        farm.world.compares = true;
        if fleet {
            farm.stock(true);
        } else {
            farm.queue(2, 30);
        }
        farm.acts(0, Way::HelpsNothing);
        farm.wait(3_600);
        judge::each_sent(&farm.world, |sent| {
            let key = ("Calendar".to_owned(), "plants/business-hours".parse().unwrap());
            let Manifest::Calendar(calendar) = &sent.state.manifests[&key].manifest else { panic!("no calendar") };
            let is_late = judge::is_risk(sent.command) && !calendar.is_open(sent.at);
            // What a host has begun in time is brought to its end.
            assert!(!is_late || sent.command.step > 0, "{} begins at {}", sent.command.id, sent.at);
        })
    });
}

/// A freeze in the middle of a rollout: no further server is touched, what runs in any case still runs, and so does
/// the undo.
#[test]
fn a_freeze_never_stops_recovery() {
    let moments = (0..15_u32, prop::bool::ANY, 0..4_usize);
    over(12, &moments, |(moment, undo, bad)| {
        let rules = Rules { undo, waves: vec![1], ..Rules::default() };
        let mut farm = Farm::of_fleet(&rules);
        farm.acts(bad, Way::Fails);
        farm.stock(true);
        farm.wait(12 + moment);
        super::life::Deed::Freeze(400).happen(&mut farm);
        farm.wait(1_000);
        nothing_held_is_sent(&farm);
        for plan in farm.world.plans().into_iter().filter(|plan| plan.started_at.is_some()) {
            let commands: Vec<_> = plan.commands.iter().map(|id| &farm.world.state.commands[id]).collect();
            let begun = |host| {
                let mut steps = commands.iter().filter(|command| judge::is_risk(command) && &command.host == host);
                steps.any(|command| command.sent_at.is_some())
            };
            let unsent =
                commands.iter().find(|command| command.finally && command.sent_at.is_none() && begun(&command.host));
            assert!(unsent.is_none(), "{unsent:?} runs in any case\n{}", farm.world.story());
            if undo && plan.state == PlanState::Failed {
                let done = commands.iter().filter(|command| {
                    judge::is_risk(command)
                        && command
                            .outcome
                            .as_ref()
                            .is_some_and(|done| done.kind == quell_engine::state::OutcomeKind::Succeeded)
                });
                let undone = commands.iter().filter(|command| command.undoes.is_some() && command.sent_at.is_some());
                assert_eq!(done.count(), undone.count(), "what succeeded is undone\n{}", farm.world.story());
            }
        }
        judge::everything_ends(&farm.world);
        judge::each_sent(&farm.world, |_| ())
    });
}

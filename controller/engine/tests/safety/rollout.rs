//! Rollouts: failures stop them exactly where they should, and nowhere else; nobody is forgotten.

use proptest::prelude::*;
use quell_engine::state::{CommandState, OutcomeKind};

use super::{
    farm::{Farm, Rules, Way, over},
    judge,
    life::Deed,
};

/// How one server behaves during a rollout.
fn behaviour() -> impl Strategy<Value = Option<Way>> {
    prop_oneof![
        4 => Just(Some(Way::Heals)),
        1 => Just(Some(Way::Fails)),
        1 => Just(Some(Way::Refuses)),
        1 => Just(Some(Way::NeverEnds)),
        // It is gone before its turn comes.
        1 => Just(None),
    ]
}

#[test]
fn a_failing_server_never_silently_stops_the_others() {
    let farms = (
        prop::collection::vec(behaviour(), 3..6),
        prop::collection::vec(1..4_u32, 1..3),
        0..4_u32,
        prop::option::of(0..600_u32),
    );
    over(20, &farms, |(ways, waves, max_errors, restart)| {
        let rules = Rules { hosts: ways.len(), waves: waves.clone(), max_errors, ..Rules::default() };
        let mut farm = Farm::of_fleet(&rules);
        for (host, way) in ways.iter().enumerate() {
            farm.acts(host, way.unwrap_or(Way::Heals));
        }
        farm.stock(true);
        // The first command goes out within a sample's interval; then the servers that leave do so.
        while judge::each_sent(&farm.world, |_| ()) == 0 {
            farm.wait(1);
        }
        for (host, _) in ways.iter().enumerate().filter(|(_, way)| way.is_none()) {
            Deed::Cut(host).happen(&mut farm);
            let name = farm.host(host);
            farm.world.isolate(name.as_str());
            farm.world.blind(name.as_str(), "host");
        }
        if let Some(restart) = restart {
            farm.wait(restart);
            Deed::Restart.happen(&mut farm);
        }
        farm.wait(6_000);
        judge::errors(&farm.world);
        judge::everything_ends(&farm.world);
        let plan = farm.world.plans()[0].clone();
        let commands: Vec<_> = plan.commands.iter().map(|id| farm.world.state.commands[id].clone()).collect();
        assert!(commands.iter().all(|command| command.state == CommandState::Ended), "{}", farm.world.story());
        let failed = judge::failed_hosts(&farm.world.state, plan.id);
        if failed.len() <= max_errors as usize {
            for host in &farm.hosts {
                let own = commands.iter().find(|command| command.host == *host && judge::is_risk(command)).unwrap();
                assert!(own.sent_at.is_some(), "{host} had no turn\n{}", farm.world.story());
            }
        } else {
            // The wave in which the failure happened that was one too many is the last.
            let last = commands.iter().filter(|command| command.sent_at.is_some() && judge::is_risk(command));
            let last = last.map(|command| command.wave).max().unwrap();
            let before = commands.iter().filter(|command| command.wave < last && judge::is_risk(command));
            let too_many = before
                .filter(|command| {
                    command.outcome.as_ref().is_some_and(|done| {
                        !matches!(done.kind, OutcomeKind::Succeeded | OutcomeKind::NoChange | OutcomeKind::Skipped)
                    })
                })
                .map(|command| &command.host)
                .collect::<std::collections::BTreeSet<_>>();
            assert!(too_many.len() <= max_errors as usize, "{}", farm.world.story());
        }
        judge::each_sent(&farm.world, |_| ())
    });
}

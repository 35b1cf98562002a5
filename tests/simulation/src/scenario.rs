//! A run without chance, in which every kind of order is sent, begun, ended, approved and taken back once: what a sweep
//! kills processes in.

use quell_engine::state::PlanState;

use crate::{
    people,
    points::Died,
    site::{Trouble, Way},
    time::{MINUTE, Millis, SECOND},
    world::{Event, World},
};

/// What breaks, and when.
const TROUBLES: [(Millis, Trouble); 5] =
    [(40, Trouble::Web), (45, Trouble::Cache), (50, Trouble::Orders), (170, Trouble::Stock), (175, Trouble::Dns)];

impl World {
    /// Lays out what will happen.
    pub(crate) fn schedule_scenario(&mut self) {
        for (seconds, trouble) in TROUBLES {
            self.schedule(seconds * SECOND, Event::Trouble(trouble));
        }
        self.schedule(30 * SECOND, Event::People);
        self.schedule(9 * MINUTE, Event::Peace);
    }

    /// One thing breaks.
    pub(crate) fn breaks(&mut self, trouble: Trouble) {
        let what = self.site.trouble(trouble, "web2");
        self.tell(|| format!("* {what}"));
    }

    /// Somebody says yes to whatever is asked.
    pub(crate) fn somebody_says_yes(&mut self) {
        if self.at_peace {
            return;
        }
        self.schedule(10 * SECOND, Event::People);
        let Some(state) = self.controller.state() else { return };
        let asked = state.live.plans.iter().filter_map(|id| state.plans.get(id));
        let asked: Vec<_> = asked.filter(|plan| plan.state == PlanState::Proposed).cloned().collect();
        for plan in asked {
            let person = people::APPROVERS[0];
            self.judge.consents(plan.hash, person);
            if self.request(person, people::answer(person, &plan, true)) == Err(Died) {
                return self.kill_controller("in the middle of something");
            }
        }
    }

    /// How an action ends here: one helps nobody, so that it is taken back.
    pub(crate) fn way_of(service: &str) -> Way {
        if service == "stock" { Way::HelpsNothing } else { Way::Heals }
    }
}

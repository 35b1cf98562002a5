//! What goes wrong by chance, what people do meanwhile, and how it ends.

use std::{collections::BTreeMap, time::Duration};

use quell_controller::wire;
use quell_engine::{
    Actor,
    id::{PlanId, WindowId},
    input::{ForeignAlert, HoldScope, Reply, Request},
    state::PlanState,
};
use quell_model::{
    audit::{Fault, Head, Verifier},
    digest::Digest,
    name::HostName,
    selector::Selector,
    trust::run::Run,
};

use crate::{
    network::{Way, Weather},
    people,
    points::Died,
    time::{MINUTE, Millis, SECOND, span},
    world::{Event, World},
};

impl World {
    /// Something goes wrong.
    pub(crate) fn mishap(&mut self) {
        if self.at_peace {
            return;
        }
        let wait = self.rng.u64(5..60);
        self.schedule(wait * SECOND, Event::Mishap);
        let host = self.some_host();
        if self.rng.u32(0..3) == 0 {
            self.set_right();
        }
        match self.rng.u32(0..26) {
            0..12 => {
                let what = self.site.breaks(&mut self.rng);
                self.tell(|| format!("* {what}"));
            }
            12..15 => self.cut(&host),
            15 | 16 => {
                let weather = Weather::any(&mut self.rng);
                self.network.set_weather(weather);
                self.tell(|| format!("* the network: {weather:?}"));
            }
            17 => self.kill_agent(&host, "by chance"),
            18 => self.kill_controller("by chance"),
            19 => self.jump(&host),
            20 => self.fill_disk(),
            21 | 22 => self.replay(),
            23 | 24 => self.give_way(&host),
            _ => self.toggle_hold(&host),
        }
    }

    /// Clocks, disk and hosts are put right again.
    fn set_right(&mut self) {
        self.controller.disk.fill(false, false);
        self.controller.clock.put_ahead(0);
        for agent in self.agents.values_mut() {
            (agent.offset, agent.is_held, agent.gives_way_until) = (0, false, 0);
        }
    }

    fn some_host(&mut self) -> HostName {
        let hosts: Vec<&HostName> = self.agents.keys().collect();
        hosts[self.rng.usize(0..hosts.len())].clone()
    }

    /// A host's packets do not get through, in one direction or both.
    fn cut(&mut self, host: &HostName) {
        let until = self.now + self.rng.u64(3..240) * SECOND;
        let ways = match self.rng.u32(0..3) {
            0 => vec![Way::Up],
            1 => vec![Way::Down],
            _ => vec![Way::Up, Way::Down],
        };
        self.tell(|| format!("* {host} is cut off, {ways:?}, until {} s", until / SECOND));
        ways.into_iter().for_each(|way| self.network.cut(host, way, until));
    }

    /// A clock jumps: the controller's, or a host's.
    fn jump(&mut self, host: &HostName) {
        let by = match self.rng.u32(0..4) {
            0 => 0,
            1 => self.rng.i64(-120_000..120_000),
            2 => self.rng.i64(-7_200_000..7_200_000),
            _ => self.rng.i64(-40_000..40_000),
        };
        if self.rng.bool() {
            self.tell(|| format!("* the clock of {host} is {by} ms ahead"));
            if let Some(agent) = self.agents.get_mut(host) {
                agent.offset = by;
            }
        } else {
            // Forward by hours would let every approval of the run expire at once, and teach nothing more.
            let by = by.clamp(-7_200_000, 600_000);
            self.tell(|| format!("* the controller's clock is {by} ms ahead"));
            self.controller.clock.put_ahead(by);
        }
    }

    /// The controller's disk is full, or is not any more.
    fn fill_disk(&mut self) {
        let (full, spent) = (self.rng.bool(), self.rng.u32(0..4) == 0);
        self.tell(|| format!("* the controller's disk is {}", if full { "full" } else { "not full" }));
        self.controller.disk.fill(full, spent);
    }

    /// Somebody who listened sends an order again, to the same host or another one. An order that its host never took in is
    /// among them only when a later one was: whoever can bring it before that stands in the controller's place.
    fn replay(&mut self) {
        let captured: Vec<usize> = (0..self.captured.len()).filter(|place| self.is_worn_out(*place)).collect();
        if captured.is_empty() {
            return;
        }
        let (of, command) = self.captured[captured[self.rng.usize(0..captured.len())]].clone();
        let to = if self.rng.bool() { of } else { self.some_host() };
        self.give(&to, command);
    }

    /// Whether an order must have no effect any more: its host took it in, or never got it and took in a later one.
    fn is_worn_out(&self, place: usize) -> bool {
        let (host, command) = &self.captured[place];
        let agent = self.agents.get(host);
        agent.is_some_and(|agent| agent.knows(command) || (!command.preview_only && agent.is_past(command)))
    }

    /// Every order that must have no effect any more is sent again, to every host; and to the controller all that agents reported.
    pub(crate) fn replay_all(&mut self) {
        self.replayed_after = Some(self.judge.effects());
        let hosts: Vec<HostName> = self.agents.keys().cloned().collect();
        let worn_out = (0..self.captured.len()).filter(|place| self.is_worn_out(*place));
        let orders: Vec<_> = worn_out.map(|place| self.captured[place].1.clone()).collect();
        for command in orders {
            hosts.iter().for_each(|host| self.give(host, command.clone()));
        }
        for (host, message) in std::mem::take(&mut self.reported) {
            if self.repeat(&host, message) == Err(Died) {
                self.judge.wrong("the controller died at peace");
            }
        }
    }

    fn give(&mut self, to: &HostName, command: quell_wire::v1::Command) {
        self.tell(|| format!("* an attacker gives {} to {to}", command.command_id));
        if self.submit(to, command) == Err(Died) {
            self.kill_agent(to, "in the middle of something");
        }
    }

    /// The administrator of a host holds it, or lets go.
    fn toggle_hold(&mut self, host: &HostName) {
        if let Some(agent) = self.agents.get_mut(host) {
            agent.is_held = !agent.is_held;
            let held = agent.is_held;
            self.tell(|| format!("* the administrator of {host} holds it: {held}"));
        }
    }

    /// Something goes on at a host to which orders give way: they wait there, taken in and not begun. Then the host is cut
    /// off for a moment, so that people and the controller decide without it, and it says what it has when it is back.
    fn give_way(&mut self, host: &HostName) {
        let until = self.now + self.rng.u64(60..180) * SECOND;
        let wait = self.rng.u64(5..60) * SECOND;
        self.schedule(wait, Event::Interrupted { host: host.clone() });
        self.tell(|| format!("* orders to {host} give way until {} s", until / SECOND));
        if let Some(agent) = self.agents.get_mut(host) {
            agent.gives_way_until = until;
        }
    }

    /// A host is cut off for so short a time that its orders still wait when it is back, and people hold it meanwhile.
    pub(crate) fn interrupt(&mut self, host: &HostName) {
        if self.at_peace {
            return;
        }
        let until = self.now + self.rng.u64(2..10) * SECOND;
        self.tell(|| format!("* {host} is cut off until {} s", until / SECOND));
        [Way::Up, Way::Down].into_iter().for_each(|way| self.network.cut(host, way, until));
        if self.controller.is_alive() && self.hold(HoldScope::Host(host.clone())) == Err(Died) {
            self.kill_controller("in the middle of something");
        }
    }

    /// Somebody does something.
    pub(crate) fn somebody_acts(&mut self) {
        if self.at_peace {
            return;
        }
        let wait = self.rng.u64(5..50);
        self.schedule(wait * SECOND, Event::People);
        if !self.controller.is_alive() {
            return;
        }
        let done = match self.rng.u32(0..22) {
            0..8 => self.answer_a_question(),
            8 | 9 => self.hold_something(),
            10..13 => self.let_go(),
            13 => self.cancel_a_plan(),
            14 | 15 => self.run_by_hand(),
            16 => self.revoke_or_admit(),
            17 => self.reset_breakers(),
            18 => self.apply_again(),
            19 | 20 => self.tell_of_an_alert(),
            _ => self.acknowledge(),
        };
        if done == Err(Died) {
            self.kill_controller("in the middle of something");
        }
    }

    fn person(&mut self) -> &'static str {
        let people = [people::ADMIN, people::APPROVERS[0], people::APPROVERS[1], people::STRANGER];
        people[self.rng.usize(0..people.len())]
    }

    pub(crate) fn request(&mut self, person: &str, request: Request) -> Result<Option<Reply>, Died> {
        self.tell(|| {
            let text = format!("{request:?}");
            format!("{person} asks: {}", text.split([' ', '(', '{']).next().unwrap_or_default())
        });
        let answer = self.ask(Actor::Person(person.to_owned()), request)?;
        if let Err(why) = &answer {
            self.tell(|| format!("  and is refused: {why}"));
        }
        Ok(answer.ok())
    }

    /// Whoever is asked about a plan says yes, mostly.
    fn answer_a_question(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let asked = state.live.plans.iter().filter_map(|id| state.plans.get(id));
        let asked: Vec<_> = asked.filter(|plan| plan.state == PlanState::Proposed).cloned().collect();
        if asked.is_empty() {
            return Ok(());
        }
        let plan = asked[self.rng.usize(0..asked.len())].clone();
        let (person, approve) = (self.person(), self.rng.u32(0..5) > 0);
        if approve && people::APPROVERS.contains(&person) && !self.revoked.contains(person) {
            self.judge.consents(plan.hash, person);
        }
        self.request(person, people::answer(person, &plan, approve)).map(drop)
    }

    /// The vote of somebody who was not asked is counted for each plan that waits for one.
    pub(crate) fn forge_votes(&mut self) -> Result<(), Died> {
        let state = self.controller.state().unwrap_or_default();
        let asked = state.live.plans.iter().filter_map(|id| state.plans.get(id));
        let asked = asked.filter(|plan| plan.state == PlanState::Proposed).cloned();
        asked.collect::<Vec<_>>().into_iter().try_for_each(|plan| {
            let person = people::APPROVERS[0];
            self.request(person, people::answer(person, &plan, true)).map(drop)
        })
    }

    fn hold_something(&mut self) -> Result<(), Died> {
        let scope = match self.rng.u32(0..4) {
            0 => HoldScope::Hosts(Selector::All),
            1 => HoldScope::Hosts(Selector::labels([("role".to_owned(), "web".to_owned())].into())),
            2 => HoldScope::Host(self.some_host()),
            _ => {
                let names = ["plants/web-down", "plants/stock", "plants/orders", "plants/cache"];
                let Ok(policy) = names[self.rng.usize(0..names.len())].parse() else { return Ok(()) };
                HoldScope::Policy(policy)
            }
        };
        self.hold(scope)
    }

    fn hold(&mut self, scope: HoldScope) -> Result<(), Died> {
        let length: Millis = self.rng.u64(1..8) * MINUTE;
        let span_of_hold = Duration::from_millis(length);
        let request = Request::Hold { scope: scope.clone(), span: span_of_hold, reason: "to be safe".to_owned() };
        if let Some(Reply::Window(window)) = self.request(people::ADMIN, request)? {
            let until = self.controller.now().checked_add(span(length)).unwrap_or(jiff::Timestamp::MAX);
            self.judge.held(window, scope, until);
        }
        Ok(())
    }

    /// Everything that is held is let go: what a clock jump holds, too.
    fn let_go(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let one = state.windows.keys().next().copied().filter(|_| self.rng.u32(0..3) == 0);
        self.release_hold(one)
    }

    fn release_hold(&mut self, window: Option<WindowId>) -> Result<(), Died> {
        // From here on nobody counts on it any more.
        self.judge.let_go(window);
        self.request(people::ADMIN, Request::Release { window, reason: "it is over".to_owned() }).map(drop)
    }

    fn cancel_a_plan(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let plans: Vec<_> = state.live.plans.iter().copied().collect();
        if plans.is_empty() {
            return Ok(());
        }
        let plan = plans[self.rng.usize(0..plans.len())];
        self.request(people::ADMIN, Request::Cancel { plan, reason: "not now".to_owned() }).map(drop)
    }

    fn run_by_hand(&mut self) -> Result<(), Died> {
        let with = serde_json::Map::from_iter([("service".to_owned(), serde_json::json!("web"))]);
        let hosts = Selector::labels([("role".to_owned(), "web".to_owned())].into());
        let id = format!("run-{}", self.judge.next_run());
        let mut run = Run::new(id, "service.restart".to_owned(), with, hosts);
        run.waves = vec![1];
        run.timeout_ms = 30_000;
        let request = people::run(self.controller.now(), run);
        self.request(people::ADMIN, request).map(drop)
    }

    fn revoke_or_admit(&mut self) -> Result<(), Died> {
        let person = people::APPROVERS[self.rng.usize(0..2)];
        if self.revoked.remove(person) {
            let now = self.controller.now();
            return self.request(people::ADMIN, people::admit(person, now)).map(drop);
        }
        let request = Request::RevokeOperator { name: person.to_owned(), reason: "left".to_owned() };
        if self.request(people::ADMIN, request)?.is_some() {
            self.revoked.insert(person);
            let state = self.controller.state().unwrap_or_default();
            self.judge.revoked(person, &state);
        }
        Ok(())
    }

    fn reset_breakers(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let policies: Vec<_> = state.breakers.keys().cloned().collect();
        policies.into_iter().try_for_each(|policy| {
            let request = Request::ResetBreaker { policy, reason: "it was looked at".to_owned() };
            self.request(people::ADMIN, request).map(drop)
        })
    }

    /// The policies are applied again, in a new version of their set, one of them changed.
    fn apply_again(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let note = format!(" ({})", self.rng.u32(0..1_000));
        let request = people::apply(&state, self.controller.now(), people::manifests(&note));
        self.request(people::ADMIN, request).map(drop)
    }

    /// Another system says that its alert fires on a host, or is over there; now and then on one that is no web server.
    fn tell_of_an_alert(&mut self) -> Result<(), Died> {
        let (host, fires) = (self.some_host(), self.rng.u32(0..3) > 0);
        self.tell_alerts(&[host], fires)
    }

    fn tell_alerts(&mut self, hosts: &[HostName], fires: bool) -> Result<(), Died> {
        let alert = |host: &HostName| {
            let labels = [("alertname", "HighLag".to_owned()), ("instance", format!("{host}:9100"))];
            let labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
            ForeignAlert { fingerprint: host.to_string(), labels, fires }
        };
        let alerts = hosts.iter().map(alert).collect();
        self.request(people::ALERTS, Request::TellAlerts { alerts }).map(drop)
    }

    fn acknowledge(&mut self) -> Result<(), Died> {
        let Some(state) = self.controller.state() else { return Ok(()) };
        let Some(incident) = state.live.incidents.iter().next().copied() else { return Ok(()) };
        let request = Request::Annotate { incident, acknowledge: true, note: String::new() };
        self.request(people::APPROVERS[0], request).map(drop)
    }

    /// Nothing goes wrong any more: all that was begun has to end now.
    pub(crate) fn peace(&mut self) {
        self.tell(|| "everything is well from now on".to_owned());
        self.at_peace = true;
        self.points.calm();
        self.network.heal();
        self.site.mend();
        self.set_right();
        // In every fourth run all that waits has to end without anybody's help, which takes an hour.
        if !self.plan.seed.is_multiple_of(4) {
            self.schedule(4 * MINUTE, Event::TidyUp);
        }
        self.let_all_go();
    }

    /// People let go of everything, as soon as there is a controller to hear it.
    pub(crate) fn let_all_go(&mut self) {
        if !self.controller.is_alive() {
            return self.schedule(SECOND, Event::LetAllGo);
        }
        let hosts: Vec<HostName> = self.agents.keys().cloned().collect();
        let done = self.release_hold(None).and_then(|()| self.tell_alerts(&hosts, false));
        if done == Err(Died) {
            // The one death of a sweep may come now, too.
            self.kill_controller("in the middle of something");
            self.schedule(SECOND, Event::LetAllGo);
        }
    }

    /// People call off what waits for them.
    pub(crate) fn tidy_up(&mut self) {
        let Some(state) = self.controller.state() else { return self.schedule(MINUTE, Event::TidyUp) };
        let waits = |id: &&PlanId| {
            let plan = state.plans.get(*id);
            plan.is_some_and(|plan| matches!(plan.state, PlanState::Proposed | PlanState::Held))
        };
        for plan in state.live.plans.iter().filter(waits).copied() {
            let request = Request::Cancel { plan, reason: "nobody needs it any more".to_owned() };
            if self.request(people::ADMIN, request) == Err(Died) {
                self.judge.wrong("the controller died at peace");
            }
        }
        self.schedule(4 * MINUTE, Event::TidyUp);
    }

    /// What must hold in the end.
    pub(crate) fn conclude(&mut self) {
        let Some(state) = self.controller.state() else {
            return self.judge.wrong("the controller does not run in the end");
        };
        self.judge.all_has_ended(&state);
        if self.replayed_after.is_some_and(|before| self.judge.effects() != before) {
            self.judge.wrong("a message that was sent again had an effect");
        }
        let mut recorded = BTreeMap::new();
        let log = self.controller.log();
        let quell_controller::store::Head { sequence, hash } = log.head();
        let (installation, time) = (people::INSTALLATION.to_owned(), self.controller.now());
        // Whose signature the head bears is asked elsewhere: here it is the chain that counts.
        let head = Head { installation, epoch: 0, sequence, hash, time, key: Digest::default() };
        if let Err(fault) = self.verify(head) {
            self.judge.wrong(format!("`audit verify` finds a fault: {fault}"));
        }
        for record in log.records(1, usize::MAX).unwrap_or_default() {
            if let Some(command) = record.ids.get("command") {
                recorded.entry((record.kind.clone(), command.clone())).or_insert(record.sequence);
            }
        }
        let agents = &self.agents;
        self.judge.audit_is_complete(&state, &recorded, |effect| {
            let outcome = agents.get(&effect.host)?.journaled(&effect.key)?;
            wire::outcome(outcome).ok().map(|outcome| outcome.kind)
        });
    }

    /// Walks the log as `quell audit verify` does.
    fn verify(&self, head: Head) -> Result<(), Fault> {
        let mut verifier = Verifier::new(1, [head])?;
        for line in self.controller.log().lines(1, usize::MAX).unwrap_or_default() {
            verifier.take(&line)?;
        }
        verifier.finish().map(drop)
    }
}

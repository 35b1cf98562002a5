//! Orders: admitted, queued, begun once, ended and told, as `quell_agent::execute` does it.

use std::{collections::BTreeSet, time::Duration};

use quell_agent::{
    execute::{
        journal::{Intent, Line},
        journal_key,
        outcome::{End, Kind, Stored},
        wire_key,
    },
    guard::{
        self, Signed,
        standing::{self, Moment},
    },
};
use quell_model::{name::HostName, preview::Item};
use quell_wire::v1::{self, agent_message::Body as Up};

use super::{Agent, CONFIG, Order, Running, Stage, told};
use crate::{
    broken::Broken,
    judge::Effect,
    points::{Died, Side},
    site::{Way, parameter},
    time::{Millis, SECOND},
    world::{Event, World},
};

/// How long after its deadline an action may still tell how it ended.
const GRACE: Millis = 30 * SECOND;

/// What an order would touch: one thing, and always the same.
fn previewed(command: &v1::Command, refusal: String) -> v1::Preview {
    let object = command.action.clone();
    let item = Item { verb: "do".to_owned(), object: object.clone(), size: 0, detail: String::new(), moving: false };
    v1::Preview {
        command_id: command.command_id.clone(),
        items: vec![v1::PreviewItem { verb: item.verb.clone(), object, ..v1::PreviewItem::default() }],
        digest: quell_model::preview::digest(&[item]).0.to_vec(),
        refusal,
        ..v1::Preview::default()
    }
}

impl World {
    /// An order comes in, from the controller or from somebody who has its words.
    pub(crate) fn submit(&mut self, host: &HostName, command: v1::Command) -> Result<(), Died> {
        let (forgets, unfenced) = (self.lacks(Broken::Idempotency), self.lacks(Broken::Fences));
        let now = self.now;
        let wall = self.wall_of(host);
        let Some(agent) = self.agents.get_mut(host) else { return Ok(()) };
        let Some(process) = &mut agent.process else { return Ok(()) };
        let key = journal_key(&command);
        if !command.preview_only && !forgets {
            let at_hand = process.waiting.iter().any(|order| order.key == key) || process.running.contains_key(&key);
            let record = process.journal.find(&key);
            if let Some(stored) = record.as_ref().and_then(|record| record.outcome.as_ref()).filter(|_| !at_hand) {
                let answer = Up::Outcome(told(stored, wall));
                return self.report(host, answer);
            }
            if at_hand || record.is_some() {
                return Ok(());
            }
        }
        let admitted = guard::admit(&command, &process.beliefs, &CONFIG, wall);
        let checked = guard::check_order(&command, if unfenced { 0 } else { process.fence });
        process.fence = process.fence.max(command.fence);
        let not_after = now + command.start_within_ms;
        if checked.is_ok() && now >= not_after {
            let end = End::new(Kind::NotStarted, "the time in which it might begin was over when it came");
            return self.finish(host, &command, &key, end, 0);
        }
        let admitted = match checked.and(admitted) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.finish(host, &command, &key, End::refused(refusal), 0),
        };
        if command.preview_only || command.dry_run {
            return self.look_only(host, &command, &key, &admitted.signed);
        }
        let guard::Admitted { resources, signed, .. } = admitted;
        let order = Order { command, key, resources, signed, not_after, cancelled: None };
        if let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) {
            process.waiting.push_back(order);
        }
        self.begin_what_may(host)
    }

    /// An order that only looks.
    fn look_only(&mut self, host: &HostName, command: &v1::Command, key: &str, signed: &Signed) -> Result<(), Died> {
        let looked = self.persist(host, |agent, moment| {
            let Some(process) = &agent.process else { return Ok(()) };
            standing::look(&process.beliefs, moment, command, signed)
        })?;
        let refusal = looked.err().map(|refusal| refusal.reason).unwrap_or_default();
        if command.preview_only {
            return self.report(host, Up::Preview(previewed(command, refusal)));
        }
        self.finish(host, command, key, End::new(Kind::NoChange, "only looked at"), 0)
    }

    /// An order is called off.
    pub(super) fn cancel(&mut self, host: &HostName, cancel: &v1::CancelCommand) -> Result<(), Died> {
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        for running in process.running.values_mut().filter(|running| running.command.command_id == cancel.command_id) {
            running.cancelled.get_or_insert_with(|| cancel.reason.clone());
        }
        for order in process.waiting.iter_mut().filter(|order| order.command.command_id == cancel.command_id) {
            order.cancelled.get_or_insert_with(|| cancel.reason.clone());
        }
        self.begin_what_may(host)
    }

    /// Begins every waiting order whose resources are free, and answers those that are over.
    pub(super) fn begin_what_may(&mut self, host: &HostName) -> Result<(), Died> {
        let now = self.now;
        while let Some(agent) = self.agents.get_mut(host) {
            let gives_way = now < agent.gives_way_until;
            let Some(process) = &mut agent.process else { return Ok(()) };
            let mut busy: BTreeSet<String> =
                process.running.values().flat_map(|running| running.resources.iter().cloned()).collect();
            let next = process.waiting.iter().position(|order| {
                let is_over = order.cancelled.is_some() || now >= order.not_after;
                let is_free = order.resources.is_disjoint(&busy);
                busy.extend(order.resources.iter().cloned());
                is_over || (is_free && !gives_way)
            });
            let Some(order) = next.and_then(|place| process.waiting.remove(place)) else { return Ok(()) };
            self.begin_order(host, order)?;
        }
        Ok(())
    }

    fn begin_order(&mut self, host: &HostName, order: Order) -> Result<(), Died> {
        let Order { command, key, resources, signed, not_after, cancelled } = order;
        if let Some(reason) = cancelled {
            let end = End::new(Kind::NotStarted, format!("called off before it began: {reason}"));
            return self.finish(host, &command, &key, end, 0);
        }
        if self.now >= not_after {
            let end = End::new(Kind::NotStarted, "the time in which it might begin is over");
            return self.finish(host, &command, &key, end, 0);
        }
        let Some(agent) = self.agents.get(host) else { return Ok(()) };
        let Some(process) = &agent.process else { return Ok(()) };
        if agent.is_held {
            let end = End::new(Kind::Refused, "this host's administrator holds it");
            return self.finish(host, &command, &key, end, 0);
        }
        let moment = agent.moment(self.now, self.epoch);
        let asked = standing::ask(&process.beliefs, moment, &command, &signed);
        if let Err(refusal) = asked.or_else(|refusal| self.lacks(Broken::Idempotency).then_some(()).ok_or(refusal)) {
            return self.finish(host, &command, &key, End::refused(refusal), 0);
        }
        let original = process.journal.find(wire_key(&key)).and_then(|record| record.intent);
        if command.undo && original.is_none() {
            let end = End::new(Kind::Refused, "this host's journal knows of nothing that was done under this key");
            return self.finish(host, &command, &key, end, 0);
        }
        if let Some(reason) = self.site.refuses(&command) {
            return self.finish(host, &command, &key, End::new(Kind::Refused, reason), 0);
        }
        self.intend(host, command, key, resources, &signed)
    }

    /// Makes durable that it begins, in the ledger and in the journal, and begins.
    fn intend(
        &mut self,
        host: &HostName,
        command: v1::Command,
        key: String,
        resources: BTreeSet<String>,
        signed: &Signed,
    ) -> Result<(), Died> {
        let noted = self.persist(host, |agent, moment| {
            let Some(process) = &agent.process else { return Ok(()) };
            standing::begin(&process.beliefs, moment, &command, signed)
        })?;
        if let Err(refusal) = noted.or_else(|refusal| self.lacks(Broken::Idempotency).then_some(()).ok_or(refusal)) {
            return self.finish(host, &command, &key, End::refused(refusal), 0);
        }
        let intent = Intent {
            key: key.clone(),
            command_id: command.command_id.clone(),
            action: command.action.clone(),
            parameters: serde_json::from_slice(&command.parameters).unwrap_or_default(),
            fence: command.fence,
            plan: Some(signed.plan()),
            step: command.step,
            timeout_ms: command.timeout_ms,
            begun_unix_ms: self.wall_of(host).as_millisecond(),
            resources: resources.iter().cloned().collect(),
            prepared: serde_json::Value::Null,
            undoes: command.undo.then(|| wire_key(&key).to_owned()),
        };
        self.journal(host, Line::Intent(intent), true)?;
        let started =
            v1::ActionStarted { command_id: command.command_id.clone(), idempotency_key: wire_key(&key).to_owned() };
        self.report(host, Up::Started(started))?;
        self.set_going(host, command, key, resources);
        Ok(())
    }

    /// An order works: its effect comes after a while, its end after another.
    fn set_going(&mut self, host: &HostName, command: v1::Command, key: String, resources: BTreeSet<String>) {
        let way = match (self.plan.chaos, self.at_peace) {
            (_, true) => Way::Heals,
            (true, false) => Way::any(&mut self.rng),
            (false, false) => Self::way_of(&parameter(&command, "service")),
        };
        let wait = self.rng.u64(20..4_000);
        let now = self.now;
        let Some(agent) = self.agents.get_mut(host) else { return };
        let incarnation = agent.incarnation;
        let Some(process) = &mut agent.process else { return };
        let running = Running { command, resources, begun: now, way, applied: false, cancelled: None };
        process.running.insert(key.clone(), running);
        self.schedule(wait, Event::Work { host: host.clone(), incarnation, key, stage: Stage::Apply });
    }

    /// An order goes on.
    pub(crate) fn work(&mut self, host: &HostName, key: &str, stage: Stage) -> Result<(), Died> {
        match stage {
            Stage::Apply => self.apply(host, key),
            Stage::End => self.end(host, key),
        }
    }

    fn apply(&mut self, host: &HostName, key: &str) -> Result<(), Died> {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(host) else { return Ok(()) };
        let incarnation = agent.incarnation;
        let Some(running) = agent.process.as_mut().and_then(|process| process.running.get_mut(key)) else {
            return Ok(());
        };
        let timeout = running.command.timeout_ms;
        let has_effect = running.cancelled.is_none() && running.way != Way::Fails;
        let (way, command) = (running.way, running.command.clone());
        running.applied = has_effect;
        if has_effect {
            self.site.apply(host, &command, key, way == Way::Heals);
            if let Ok(id) = command.command_id.parse() {
                let effect = Effect { host: host.clone(), key: key.to_owned(), command: id, at: now };
                let stored = self.controller.stored(id);
                self.judge.applied(&stored, effect, &command);
            }
            self.tell(|| format!("! {host}: {} {} has its effect ({way:?})", command.command_id, command.action));
        }
        let wait = if way == Way::Hangs { timeout + GRACE } else { self.rng.u64(20..6_000) };
        self.schedule(wait, Event::Work { host: host.clone(), incarnation, key: key.to_owned(), stage: Stage::End });
        Ok(())
    }

    fn end(&mut self, host: &HostName, key: &str) -> Result<(), Died> {
        let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) else { return Ok(()) };
        let Some(running) = process.running.get(key) else { return Ok(()) };
        let called_off = running.cancelled.as_deref().map(|why| format!(" (called off: {why})")).unwrap_or_default();
        let end = match running.way {
            Way::Heals | Way::HelpsNothing if running.applied => End::new(Kind::Succeeded, "done"),
            Way::InDoubt => End::new(Kind::Unknown, "nobody can say whether it took effect"),
            Way::Hangs => End::new(Kind::Unknown, "it did not end, long after its time was over"),
            _ => End::new(Kind::Failed, format!("it did not work{called_off}")),
        };
        let (command, took) = (running.command.clone(), self.now - running.begun);
        self.finish(host, &command, key, end, took)?;
        if let Some(process) = self.agents.get_mut(host).and_then(|agent| agent.process.as_mut()) {
            process.running.remove(key);
        }
        self.begin_what_may(host)
    }

    /// Makes an outcome durable and reports it.
    fn finish(
        &mut self,
        host: &HostName,
        command: &v1::Command,
        key: &str,
        end: End,
        took: Millis,
    ) -> Result<(), Died> {
        let wall = self.wall_of(host);
        self.tell(|| format!("  {host}: {} ends: {:?}, {}", command.command_id, end.kind, end.change.summary));
        if command.preview_only {
            return self.report(host, Up::Preview(previewed(command, end.change.summary)));
        }
        let stored = Stored::of(command, key, end, Duration::from_millis(took), wall);
        self.journal(host, Line::Outcome(stored.clone()), true)?;
        self.report(host, Up::Outcome(told(&stored, wall)))
    }

    /// What a crash has interrupted is taken up.
    pub(super) fn recover(&mut self, host: &HostName) -> Result<(), Died> {
        let Some(process) = self.agents.get(host).and_then(|agent| agent.process.as_ref()) else { return Ok(()) };
        let open: Vec<Intent> = process
            .journal
            .open_records()
            .into_iter()
            .filter(|record| record.outcome.is_none())
            .filter_map(|record| record.intent)
            .collect();
        open.into_iter().try_for_each(|intent| self.take_up(host, intent))
    }

    fn take_up(&mut self, host: &HostName, intent: Intent) -> Result<(), Died> {
        let command = v1::Command {
            command_id: intent.command_id.clone(),
            idempotency_key: wire_key(&intent.key).to_owned(),
            fence: intent.fence,
            action: intent.action.clone(),
            parameters: intent.parameters.to_string().into_bytes(),
            timeout_ms: intent.timeout_ms,
            undo: intent.undoes.is_some(),
            ..v1::Command::default()
        };
        let age = self.wall_of(host).as_millisecond().saturating_sub(intent.begun_unix_ms);
        let age = u64::try_from(age).unwrap_or(0);
        let is_held = self.agents.get(host).is_some_and(|agent| agent.is_held);
        let end = if intent.undoes.is_some() {
            End::new(Kind::Unknown, "the agent ended while it took an earlier order back")
        } else if intent.action == "exec" {
            End::new(Kind::Unknown, "interrupted, and a program cannot be asked whether it ran")
        } else if self.site.has_applied(host, &intent.key) {
            End::new(Kind::Succeeded, "interrupted, and its effect is there")
        } else if is_held || age >= intent.timeout_ms {
            End::new(Kind::Failed, "interrupted before it took effect, and it may not go on")
        } else {
            self.set_going(host, command, intent.key, intent.resources.into_iter().collect());
            return Ok(());
        };
        self.finish(host, &command, &intent.key, end, age)
    }

    /// Does something that becomes durable; the agent can die before and after it.
    fn persist<T>(&mut self, host: &HostName, what: impl FnOnce(&mut Agent, Moment) -> T) -> Result<T, Died> {
        self.points.pass(Side::Agent)?;
        let agent = self.agents.get_mut(host).ok_or(Died)?;
        let moment = agent.moment(self.now, self.epoch);
        let done = what(agent, moment);
        self.points.pass(Side::Agent)?;
        Ok(done)
    }

    /// Writes a line to the journal.
    pub(super) fn journal(&mut self, host: &HostName, line: Line, sync: bool) -> Result<(), Died> {
        if let Err(why) = self.persist(host, |agent, _| agent.write(&[line], sync))? {
            self.judge.wrong(format!("the journal of {host} cannot be written: {why}"));
        }
        Ok(())
    }
}

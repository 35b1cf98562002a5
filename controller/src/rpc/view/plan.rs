//! Plans, with their steps, votes and what they still need.

use quell_engine::{
    id::PlanId,
    state::{CommandRow, CommandState, Needs, PlanRow, PlanState, Vote},
};
use quell_model::{policy::Does, preview::Item, trust::approvals::REJECT};
use quell_wire::v1::{ApprovalView, ChoiceView, PlanView, PreviewItemView, StepView};

use super::{Filter, Viewer, hold, time, word};
use crate::wire::millis;

impl Viewer<'_> {
    /// Plans, newest first; ended ones where all, or that one, are asked for.
    pub fn plans(&self, filter: &Filter) -> Vec<PlanView> {
        let rows = self.state.plans.values().rev().filter(|row| {
            (filter.all || !filter.name.is_empty() || !row.state.has_ended())
                && (filter.wants(&row.id.to_string()) || is_prefix(&filter.name, row))
                && self.wants_target(filter, &row.target)
        });
        rows.map(|row| self.plan(row)).collect()
    }

    /// Plans that wait for people.
    pub fn approvals(&self, filter: &Filter) -> Vec<PlanView> {
        let mut plans = self.plans(filter);
        plans.retain(|plan| plan.state == word(PlanState::Proposed));
        plans
    }

    /// One plan, by its number.
    pub fn plan_with(&self, id: PlanId) -> Option<PlanView> {
        self.state.plans.get(&id).map(|row| self.plan(row))
    }

    /// One plan.
    pub fn plan(&self, row: &PlanRow) -> PlanView {
        let commands = row.commands.iter().filter_map(|id| self.state.commands.get(id));
        let asked = row.needs.as_ref().filter(|_| row.state == PlanState::Proposed);
        PlanView {
            id: row.id.to_string(),
            hash: row.hash.to_string(),
            incident: row.incident.map(|id| id.to_string()),
            policy: row.policy.as_ref().map(ToString::to_string).unwrap_or_default(),
            rung: row.rung.clone(),
            state: word(row.state),
            created_at: time(row.created_at),
            started_at: row.started_at.map(time),
            ended_at: row.ended_at.map(time),
            steps: commands.map(|command| step(command)).collect(),
            values: row.values.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
            verification: row.verification.clone(),
            hold: row.hold.as_ref().map(|no| hold(&row.id, no)),
            approvals: row.votes.iter().map(|vote| approval(vote, row.needs.as_ref())).collect(),
            needs: asked.map(|needs| still(needs, &row.votes)),
            requester: row.requester.clone().unwrap_or_default(),
            waves: row.waves.clone(),
            dry_run: row.dry_run,
            choices: asked.map(|needs| needs.choices.clone()).unwrap_or_default(),
            role: asked.map(|needs| needs.role.clone()),
            canonical: row.canonical.clone(),
            offers: asked.map(offers).unwrap_or_default(),
            decide_by: asked.map(|needs| time(needs.expires)),
        }
    }
}

/// Whether a text is the beginning of a plan's hash, long enough to mean it.
fn is_prefix(text: &str, row: &PlanRow) -> bool {
    text.len() >= 6 && row.hash.to_string().starts_with(text)
}

/// A value as people read it: text without quotes.
fn plain(value: &quell_model::value::Value) -> String {
    value.text().map_or_else(|| value.to_string(), str::to_owned)
}

fn step(row: &CommandRow) -> StepView {
    let outcome = match (&row.outcome, row.state) {
        (Some(outcome), _) => word(outcome.kind),
        (None, CommandState::Begun) => "started".to_owned(),
        (None, state) => word(state),
    };
    let ended = row.outcome.as_ref();
    let items = row.preview().map(|preview| preview.items.as_slice()).unwrap_or_default();
    StepView {
        index: u32::try_from(row.step).unwrap_or(u32::MAX),
        action: row.action.clone(),
        host: row.host.to_string(),
        parameters: serde_json::Value::Object(row.parameters.clone()).to_string(),
        command_id: row.id.to_string(),
        outcome,
        summary: ended.map(|outcome| outcome.summary.clone()).unwrap_or_default(),
        sent_at: row.sent_at.map(time),
        ended_at: row.ended_at.map(time),
        duration_ms: ended.map(|outcome| millis(outcome.duration)).unwrap_or_default(),
        wave: u32::try_from(row.wave).unwrap_or(u32::MAX),
        preview: items.iter().map(Item::line).collect(),
        items: items.iter().map(preview_item).collect(),
        previewed: row.look.as_ref().map(|look| look.preview.is_some()),
        refusal: row.preview().and_then(|preview| preview.refusal.clone()),
        note: row.preview().map(|preview| preview.note.clone()).filter(|note| !note.is_empty()),
        remedy: ended.map(|outcome| outcome.remedy.clone()).filter(|remedy| !remedy.is_empty()),
    }
}

fn preview_item(item: &Item) -> PreviewItemView {
    PreviewItemView {
        verb: item.verb.clone(),
        object: item.object.clone(),
        size_bytes: item.size,
        detail: item.detail.clone(),
        moving: item.moving,
    }
}

fn approval(vote: &Vote, needs: Option<&Needs>) -> ApprovalView {
    ApprovalView {
        at: time(vote.at),
        who: vote.who.clone(),
        role: needs.map(|needs| needs.role.clone()).unwrap_or_default(),
        choice: vote.choice.clone(),
        reason: vote.reason.clone(),
        denied: vote.denied,
    }
}

/// What can be chosen, and what comes of it.
fn offers(needs: &Needs) -> Vec<ChoiceView> {
    let does = |name: &String| match needs.instead.get(name) {
        Some(instead) => format!("tells {}, and nothing is run", instead.contact),
        None if name == REJECT => Does::Deny.to_string(),
        None => Does::Run.to_string(),
    };
    needs.choices.iter().map(|name| ChoiceView { name: name.clone(), does: does(name) }).collect()
}

/// What is still needed: "1 of role compliance".
fn still(needs: &Needs, votes: &[Vote]) -> String {
    let given = votes.iter().filter(|vote| !vote.denied).count();
    let missing = needs.count.saturating_sub(u32::try_from(given).unwrap_or(u32::MAX));
    format!("{missing} of role {}", needs.role)
}

//! Whether what a controller shows of a plan is the plan whose hash it names: nobody signs another one than they read.

use std::collections::BTreeMap;

use quell_model::{
    digest::Digest,
    plan::{ExactPlan, PlannedStep},
    preview::{self, Item},
};
use quell_wire::v1::{PlanView, PreviewItemView, StepView};

use crate::error::Error;

/// Checks that the hash is that of the plan's bytes, that the steps shown are all of theirs, and that the digest of each
/// list shown stands in them.
///
/// # Errors
/// Something shown is not what would be signed.
pub fn check(plan: &PlanView) -> Result<(), Error> {
    let wrong = |what: &str| {
        Err(Error::Failed(format!(
            "what the controller shows of {} is not what its hash says ({what}): nothing was signed; look at the controller",
            plan.id
        )))
    };
    if Digest::of(plan.canonical.as_bytes()).to_string() != plan.hash {
        return wrong("its bytes have another hash");
    }
    let Ok(exact) = ExactPlan::parse(plan.canonical.as_bytes()) else { return wrong("its bytes are no plan") };
    let policy = exact.policy.as_ref().map(ToString::to_string).unwrap_or_default();
    if exact.plan != plan.id || exact.rung != plan.rung || policy != plan.policy || exact.dry_run != plan.dry_run {
        return wrong("it is another plan");
    }
    let shown = plan.steps.iter().map(|shown| ((shown.index as usize, shown.host.as_str()), shown));
    let shown: BTreeMap<(usize, &str), &StepView> = shown.collect();
    if shown.len() != plan.steps.len() || exact.steps.iter().flat_map(PlannedStep::hosts).count() != shown.len() {
        return wrong("the number of its steps");
    }
    for step in &exact.steps {
        for (wave, host) in
            step.waves.iter().enumerate().flat_map(|(wave, hosts)| hosts.iter().map(move |host| (wave, host)))
        {
            let shown = shown.get(&(step.step, host.as_str())).filter(|shown| is_shown(step, wave, shown));
            let Some(shown) = shown else { return wrong(&format!("{} on {host}", step.action)) };
            let listed = if step.finally { None } else { shown.previewed.filter(|is_there| *is_there) };
            let listed = listed.map(|_| preview::digest(&items(shown)));
            if listed != exact.preview(host, step.step) {
                return wrong(&format!("what {} would touch on {host}", step.action));
            }
        }
    }
    Ok(())
}

fn is_shown(step: &PlannedStep, wave: usize, shown: &StepView) -> bool {
    let parameters = serde_json::from_str(&shown.parameters);
    wave == shown.wave as usize
        && step.action == shown.action
        && parameters.is_ok_and(|parameters| step.has_parameters(&parameters))
}

/// What a host would touch in a step.
pub fn items(step: &StepView) -> Vec<Item> {
    let item = |view: &PreviewItemView| Item {
        verb: view.verb.clone(),
        object: view.object.clone(),
        size: view.size_bytes,
        detail: view.detail.clone(),
        moving: view.moving,
    };
    step.items.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use quell_model::{
        name::{HostName, Target},
        plan::preview_key,
    };

    use super::*;

    fn plan() -> PlanView {
        let host: HostName = "app1".parse().unwrap();
        let shown = PreviewItemView {
            verb: "delete".to_owned(),
            object: "/srv/a".to_owned(),
            size_bytes: 7,
            detail: "old".to_owned(),
            moving: false,
        };
        let step = StepView {
            action: "exec".to_owned(),
            host: host.to_string(),
            parameters: r#"{"argv":["/bin/clear"]}"#.to_owned(),
            items: vec![shown],
            previewed: Some(true),
            ..StepView::default()
        };
        let exact = ExactPlan {
            installation: "test".to_owned(),
            epoch: 0,
            plan: "plan-1".to_owned(),
            incident: None,
            policy: Some("plants/full".parse().unwrap()),
            policy_digest: None,
            target: Target::Host(host.clone()),
            rung: "clear".to_owned(),
            requester: None,
            values: BTreeMap::new(),
            steps: vec![PlannedStep {
                step: 0,
                waves: vec![vec![host.clone()]],
                finally: false,
                action: "exec".to_owned(),
                with: serde_json::from_str(&step.parameters).unwrap(),
                timeout_ms: 1,
            }],
            settle_ms: 0,
            max_errors: 0,
            dry_run: false,
            previews: [(preview_key(&host, 0), preview::digest(&items(&step)))].into(),
            run: None,
        };
        let canonical = exact.canonical();
        PlanView {
            id: "plan-1".to_owned(),
            hash: Digest::of(canonical.as_bytes()).to_string(),
            policy: "plants/full".to_owned(),
            rung: "clear".to_owned(),
            steps: vec![step],
            canonical,
            ..PlanView::default()
        }
    }

    #[test]
    fn what_is_shown_is_what_is_signed() {
        check(&plan()).unwrap();
        for (what, change) in [
            ("another hash", (|plan| plan.hash = "0".repeat(64)) as fn(&mut PlanView)),
            ("no bytes", |plan| plan.canonical.clear()),
            ("another plan", |plan| plan.id = "plan-2".to_owned()),
            ("another rung", |plan| plan.rung = "last".to_owned()),
            ("another policy", |plan| plan.policy = "plants/other".to_owned()),
            ("another wave", |plan| plan.steps[0].wave = 1),
            ("another host", |plan| plan.steps[0].host = "app2".to_owned()),
            ("another action", |plan| plan.steps[0].action = "log.rotate".to_owned()),
            ("other parameters", |plan| plan.steps[0].parameters = r#"{"argv":["/bin/true"]}"#.to_owned()),
            ("a step that is not shown", |plan| plan.steps.clear()),
            ("a step too many", |plan| plan.steps.push(plan.steps[0].clone())),
            ("another path", |plan| plan.steps[0].items[0].object = "/srv/b".to_owned()),
            ("another size", |plan| plan.steps[0].items[0].size_bytes = 8),
            ("a list that is not shown", |plan| plan.steps[0].items.clear()),
            ("a list that hides", |plan| plan.steps[0].previewed = None),
        ] {
            let mut other = plan();
            change(&mut other);
            check(&other).expect_err(what);
        }
    }
}

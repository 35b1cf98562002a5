//! `quell approve` and `quell deny`: people answer for exactly the plan that they have seen.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use quell_link::signing::SigningKey;
use quell_model::trust::{approval_namespace, approvals::Ballot};
use quell_wire::v1::{DecideRequest, PlanView};

use crate::{
    connect::{self, Client, Context},
    error::Error,
    exact,
    exit::Exit,
    kind::Kind,
    output,
    render::{describe, escape, rows::short},
    settings,
    signing::{self, Key},
};

/// The longest time that a vote is good.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How long a vote is good after its question has ended: what began in time comes to its last wave.
const AFTERWARDS: Duration = Duration::from_secs(3_600);
/// How long it is good when the controller does not say when the question ends.
const UNTOLD: Duration = Duration::from_secs(86_400);

/// What is approved.
#[derive(Debug, Clone, Args)]
pub struct Approve {
    /// The plan: plan-7, or the beginning of its hash.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// One of the plan's choices; without it the first.
    #[arg(long, value_name = "CHOICE", default_value = "")]
    pub choose: String,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Approve only if the plan's hash still begins so: what you saw in `quell describe plan`.
    #[arg(long, value_name = "HASH")]
    pub hash: Option<String>,
    /// How long hosts may begin by this vote, at most 7d; without it until an hour after the question falls.
    #[arg(long, value_name = "TIME", value_parser = settings::span)]
    pub good_for: Option<Duration>,
    /// With which key the vote is signed.
    #[command(flatten)]
    pub key: Key,
}

/// What is denied.
#[derive(Debug, Clone, Args)]
pub struct Deny {
    /// The plan: plan-7, or the beginning of its hash.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// Approves; the plan is printed as it was approved.
///
/// # Errors
/// There is no such plan, it is another one by now, or the person may not.
pub async fn approve(arguments: &Approve, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let plan = find(&mut client, &arguments.plan).await?;
    if let Some(hash) = arguments.hash.as_deref().filter(|hash| !plan.hash.starts_with(*hash)) {
        let (id, now) = (&plan.id, short(&plan.hash));
        return Err(Error::Usage(format!(
            "{id} has the hash {now} now, not {hash}: look at it again with `quell describe plan {id}`"
        )));
    }
    let mut request = request(&plan, &arguments.choose, &arguments.reason);
    if !context.format.is_data() {
        output::text(&describe::touched(&plan))?;
    }
    if let Some(key) = arguments.key.find(&context.profile()?)? {
        let expires = end(&plan, arguments.good_for, Timestamp::now())?;
        request.signature = sign(&plan, &mut request.choice, expires, &key)?;
        request.expires = expires.to_string();
    }
    let answer = client.approve(request).await?.into_inner().plan;
    let plan = answer.unwrap_or(plan);
    show(&plan, context)?;
    Ok(if plan.state == "proposed" { Exit::Held } else { Exit::Done })
}

/// Denies.
///
/// # Errors
/// There is no such plan, or the person may not.
pub async fn deny(arguments: &Deny, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let plan = find(&mut client, &arguments.plan).await?;
    let answer = client.deny(request(&plan, "", &arguments.reason)).await?.into_inner().plan;
    show(&answer.unwrap_or(plan), context)?;
    Ok(Exit::Done)
}

/// Until when a vote is good: the controller's word for the end of the question is believed for a week at most.
fn end(plan: &PlanView, good_for: Option<Duration>, now: Timestamp) -> Result<Timestamp, Error> {
    if good_for.is_some_and(|span| span > LONGEST) {
        return Err(Error::Usage("--good-for is at most 7d: approve again when it is still wanted then".to_owned()));
    }
    let after = |from: Timestamp, span: Duration| from.checked_add(span).unwrap_or(Timestamp::MAX);
    let asked = plan.decide_by.as_deref().and_then(|text| text.parse().ok());
    let end = match (good_for, asked) {
        (Some(span), _) => after(now, span),
        (None, Some(question)) => after(question, AFTERWARDS),
        (None, None) => after(now, UNTOLD),
    };
    // Whole seconds: what is read aloud is what is signed.
    let end = end.min(after(now, LONGEST)).as_second();
    Timestamp::from_second(end).map_err(|error| Error::Failed(error.to_string()))
}

/// Signs the vote: this plan, by its hash, one of its choices, and until when. What was shown of it is what the hash
/// says.
fn sign(plan: &PlanView, choice: &mut String, expires: Timestamp, key: &SigningKey) -> Result<String, Error> {
    let Some(role) = &plan.role else {
        return Err(Error::Usage(format!("{} is {}: it waits for no approval", plan.id, plan.state)));
    };
    exact::check(plan)?;
    if choice.is_empty() {
        *choice = plan.choices.first().cloned().unwrap_or_default();
    }
    let plan = plan.hash.parse().map_err(|error| Error::Failed(format!("the controller's answer: {error}")))?;
    let ballot = Ballot { choice: choice.clone(), expires, plan };
    signing::sign(key, &approval_namespace(role), ballot.canonical().as_bytes())
}

async fn find(client: &mut Client, name: &str) -> Result<PlanView, Error> {
    let plans = connect::get(client, Kind::Plans, name).await?.plans;
    match <[PlanView; 1]>::try_from(plans) {
        Ok([plan]) => Ok(plan),
        Err(plans) if plans.is_empty() => {
            Err(Error::NotFound(format!("no plan is called {name}; see `quell get approvals`")))
        }
        Err(plans) => Err(Error::Usage(format!("{} plans begin with {name}: write more of it", plans.len()))),
    }
}

fn request(plan: &PlanView, choice: &str, reason: &str) -> DecideRequest {
    DecideRequest {
        plan: plan.id.clone(),
        choice: choice.to_owned(),
        reason: reason.to_owned(),
        plan_hash: plan.hash.clone(),
        signature: String::new(),
        expires: String::new(),
    }
}

pub(super) fn show(plan: &PlanView, context: &Context) -> Result<(), Error> {
    if context.format.is_data() {
        return output::data(context.format, plan);
    }
    let shown = quell_wire::v1::GetResponse { plans: vec![plan.clone()], ..Default::default() };
    output::text(&describe::draw(&shown, Timestamp::now()))?;
    let still = plan.needs.as_deref().filter(|_| plan.state == "proposed");
    match still {
        Some(needs) => output::line(&escape::line(&format!("\nstill needed: {needs}").replace('\n', " "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_ends_soon_after_its_question_whatever_the_controller_says() {
        let now: Timestamp = "2026-11-27T12:00:00.5Z".parse().unwrap();
        let ends = |decide_by: Option<&str>, good_for: Option<u64>| {
            let plan = PlanView { decide_by: decide_by.map(str::to_owned), ..PlanView::default() };
            end(&plan, good_for.map(|hours| Duration::from_secs(hours * 3_600)), now).map(|end| end.to_string())
        };
        assert_eq!(ends(Some("2026-11-27T15:00:00Z"), None).unwrap(), "2026-11-27T16:00:00Z");
        assert_eq!(ends(Some("2099-01-01T00:00:00Z"), None).unwrap(), "2026-12-04T12:00:00Z");
        assert_eq!(ends(None, None).unwrap(), "2026-11-28T12:00:00Z");
        assert_eq!(ends(Some("2026-11-27T15:00:00Z"), Some(6)).unwrap(), "2026-11-27T18:00:00Z");
        assert!(ends(None, Some(8 * 24)).is_err());
    }
}

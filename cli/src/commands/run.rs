//! `quell run`: an action by hand, with the same guards, locks and log as a policy's.

use std::time::Duration;

use clap::{ArgGroup, Args};
use jiff::Timestamp;
use quell_model::{
    name::HostName,
    selector::Selector,
    trust::{
        PolicySet,
        run::{Hosts, Run},
    },
};
use quell_wire::v1::{PlanView, RunRequest, RunResponse, SignedSet};
use serde_json::{Map, Value};

use self::again::{Again, Outcome};
use super::countersign::{self, Sending};
use crate::{
    connect::{self, Client, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output,
    render::{describe, escape, rows, status},
    saved::{Paper, Save},
    settings,
    signing::Key,
};

mod again;

/// How often a plan is asked after with --wait.
const POLL: Duration = Duration::from_millis(500);

/// What is run.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("hosts").required(true).multiple(true).args(["selector", "host", "again"])))]
pub struct Arguments {
    /// The action: service.restart, log.rotate, dns.failover, exec.
    #[arg(value_name = "ACTION")]
    pub action: String,
    /// On the hosts with all of these labels; "all" is every host.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub selector: Option<String>,
    /// On these hosts; with -l, on those of them that have its labels.
    #[arg(long, value_name = "HOST,…", value_delimiter = ',', conflicts_with = "again")]
    pub host: Vec<HostName>,
    /// On the hosts where this plan did not do it (a run or a policy's plan); with -l, on those of them that have its labels.
    #[arg(long, value_name = "PLAN")]
    pub again: Option<String>,
    /// With --again: on the hosts that ended so, instead of refused, failed, undone, skipped and notStarted.
    #[arg(long, value_name = "OUTCOME,…", value_delimiter = ',', requires = "again")]
    pub outcome: Vec<Outcome>,
    /// A parameter of the action; lists and numbers as JSON: --set 'argv=["/usr/bin/true"]'. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = settings::pair)]
    pub set: Vec<(String, String)>,
    /// Sizes of the waves; without it 1, 2, 4 and so on.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub waves: Vec<u32>,
    /// Ask every host what it would do; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait until it has ended, and end with an exit code that says how.
    #[arg(long)]
    pub wait: bool,
    /// How long a step may take.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = settings::span)]
    pub timeout: Duration,
    /// Why: it stands in the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// With which key it is signed.
    #[command(flatten)]
    pub key: Key,
    /// Whether others sign it too, within the two hours that it is good for.
    #[command(flatten)]
    pub save: Save,
}

/// Runs it.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let selector = selector(arguments)?;
    let with = parameters(&arguments.set)?;
    let mut client = context.client().await?;
    let hosts = hosts(arguments, selector, &mut client).await?;
    let order = order(arguments, with, hosts);
    let set = PolicySet::of_run(&order, &context.profile()?.installation, Timestamp::now())
        .and_then(|set| set.check().map(|()| set))
        .map_err(|error| Error::Usage(error.to_string()))?;
    let paper = Paper::Run(Box::new(order), set);
    let sending = Sending { reason: "", wait: arguments.wait };
    countersign::sign_and_send(paper, (&arguments.key, &arguments.save), sending, &mut client, context).await
}

/// Sends a signed run, and waits for its end where that is wanted, or nothing is to be changed.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub(super) async fn send(
    order: &Run,
    (policy_set, signatures): (Vec<u8>, Vec<String>),
    wait_for_it: bool,
    client: &mut Client,
    context: &Context,
) -> Result<Exit, Error> {
    let set = SignedSet { policy_set, signatures };
    let request = RunRequest { run: order.canonical().into_bytes(), set: Some(set) };
    let answer = client.run(request).await?.into_inner();
    if !answer.missing.is_empty() {
        output::warning(&format!(
            "{} leaves out {}: not enrolled, or not of these labels",
            answer.plan_id,
            answer.missing.join(", ")
        ));
    }
    if !(wait_for_it || order.dry_run) {
        return begun(&answer, context);
    }
    let plan = wait(client, &answer.plan_id, context).await?;
    if context.format.is_data() {
        output::data(context.format, &plan)?;
    } else {
        let shown = quell_wire::v1::GetResponse { plans: vec![plan.clone()], ..Default::default() };
        output::text(&describe::draw(&shown, Timestamp::now()))?;
    }
    if plan.state == "failed" && !order.dry_run && Again::of(&plan, &[]).is_ok() {
        output::note(&format!("to run it on the hosts where it was not done, add --again {}", plan.id));
    }
    Ok(ending(&plan))
}

/// Which hosts are meant by their labels.
fn selector(arguments: &Arguments) -> Result<Selector, Error> {
    // Without labels there are names: the command line asks for one or the other.
    let parsed = arguments.selector.as_deref().map_or(Ok(Selector::All), str::parse);
    parsed.map_err(|error| Error::Usage(error.to_string()))
}

/// Which hosts are meant: by their labels, by their names, or by how they ended in a plan.
async fn hosts(arguments: &Arguments, selector: Selector, client: &mut Client) -> Result<Hosts, Error> {
    let Some(plan) = &arguments.again else {
        let names = arguments.host.iter().cloned().collect();
        return Ok(if arguments.host.is_empty() { selector.into() } else { Hosts::named(selector, names) });
    };
    let found = connect::get(client, Kind::Plans, plan).await?.plans.into_iter().next();
    let found = found.ok_or_else(|| Error::NotFound(format!("there is no {plan}, so nothing was run")))?;
    let again = Again::of(&found, &arguments.outcome)?;
    output::note(&format!("of {}, {}", found.id, again.text()));
    if let Some(text) = again.left_out() {
        output::warning(&text);
    }
    Ok(Hosts::named(selector, again.hosts()))
}

/// The run as it is signed.
fn order(arguments: &Arguments, with: Map<String, Value>, hosts: Hosts) -> Run {
    let id = uuid::Uuid::new_v4().to_string();
    let mut run = Run::new(id, arguments.action.clone(), with, hosts);
    if !arguments.waves.is_empty() {
        run.waves.clone_from(&arguments.waves);
    }
    run.timeout_ms = settings::milliseconds(arguments.timeout);
    run.dry_run = arguments.dry_run;
    run.reason.clone_from(&arguments.reason);
    run
}

/// Parameters as JSON: a value that is JSON is taken as such, any other as text.
fn parameters(pairs: &[(String, String)]) -> Result<Map<String, Value>, Error> {
    let as_value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    Ok(settings::map(pairs)?.into_iter().map(|(name, text)| (name, as_value(&text))).collect())
}

fn begun(answer: &RunResponse, context: &Context) -> Result<Exit, Error> {
    if context.format.is_data() {
        output::data(context.format, answer)?;
    } else {
        let hosts = if answer.targets == 1 { "1 host".to_owned() } else { format!("{} hosts", answer.targets) };
        output::line(&escape::line(&format!("{} on {hosts}", answer.plan_id)))?;
        if let Some(hold) = &answer.hold {
            output::line(&escape::line(&format!("held by {}", status::held(hold, Timestamp::now()))))?;
        }
    }
    Ok(if answer.hold.is_some() { Exit::Held } else { Exit::Done })
}

/// Whether a plan is over.
fn has_ended(plan: &PlanView) -> bool {
    !matches!(plan.state.as_str(), "previewing" | "proposed" | "held" | "approved" | "running" | "verifying")
}

/// Asks after a plan until it has ended, and tells each change on standard error.
async fn wait(client: &mut Client, name: &str, context: &Context) -> Result<PlanView, Error> {
    let mut told = String::new();
    loop {
        let answer = connect::get(client, Kind::Plans, name).await?;
        let plan = answer.plans.into_iter().next();
        let plan = plan.ok_or_else(|| Error::NotFound(format!("{name} is not there any more")))?;
        if has_ended(&plan) {
            return Ok(plan);
        }
        let news = news(&plan);
        if news != told && !context.format.is_data() {
            output::note(&news);
        }
        told = news;
        tokio::time::sleep(POLL).await;
    }
}

fn news(plan: &PlanView) -> String {
    let hold = plan.hold.as_ref().map(|hold| format!(", held by {}: {}", hold.guard, hold.reason)).unwrap_or_default();
    let needs = plan.needs.as_ref().map(|needs| format!(", needs {needs}")).unwrap_or_default();
    format!("{} is {}, {} steps done{hold}{needs}", plan.id, plan.state, rows::progress(plan))
}

/// The exit code of a plan that has ended.
fn ending(plan: &PlanView) -> Exit {
    let with = |wanted: &[&str]| plan.steps.iter().filter(|step| wanted.contains(&step.outcome.as_str())).count();
    let succeeded = with(&["succeeded", "noChange"]);
    match plan.state.as_str() {
        "succeeded" | "nothingToDo" => Exit::Done,
        _ if plan.steps.iter().any(|step| step.refusal.is_some()) => Exit::Refused,
        _ if with(&["unknown"]) > 0 => Exit::Unknown,
        "denied" => Exit::Refused,
        _ if succeeded > 0 => Exit::Partly,
        _ if with(&["refused"]) > 0 && with(&["failed", "undone"]) == 0 => Exit::Refused,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use quell_wire::v1::StepView;

    use super::*;

    #[test]
    fn parameters_are_json_where_they_read_as_json() {
        let pair = |text| settings::pair(text).unwrap();
        let pairs =
            [pair("service=orders"), pair("keep=7"), pair("argv=[\"a\",\"b\"]"), pair("name=\"7\""), pair("x=")];
        let expected = serde_json::json!({ "service": "orders", "keep": 7, "argv": ["a", "b"], "name": "7", "x": "" });
        assert_eq!(Value::Object(parameters(&pairs).unwrap()), expected);
    }

    #[test]
    fn every_ending_has_its_exit_code() {
        let plan = |state: &str, outcomes: &[&str]| PlanView {
            state: state.to_owned(),
            steps: outcomes
                .iter()
                .map(|outcome| StepView { outcome: (*outcome).to_owned(), ..StepView::default() })
                .collect(),
            ..PlanView::default()
        };
        for (state, outcomes, expected) in [
            ("succeeded", &["succeeded", "noChange"] as &[&str], Exit::Done),
            ("failed", &["succeeded", "failed"], Exit::Partly),
            ("failed", &["failed", "notStarted"], Exit::Failed),
            ("failed", &["refused", "skipped"], Exit::Refused),
            ("failed", &["refused", "failed"], Exit::Failed),
            ("failed", &["succeeded", "unknown"], Exit::Unknown),
            ("denied", &["notStarted"], Exit::Refused),
            ("nothingToDo", &["notStarted"], Exit::Done),
            ("expired", &["notStarted"], Exit::Failed),
            ("cancelled", &[], Exit::Failed),
        ] {
            assert_eq!(ending(&plan(state, outcomes)), expected, "{state} {outcomes:?}");
        }
    }

    #[test]
    fn a_plan_is_over_when_nothing_more_comes() {
        for (state, over) in
            [("held", false), ("running", false), ("verifying", false), ("proposed", false), ("failed", true)]
        {
            assert_eq!(has_ended(&PlanView { state: state.to_owned(), ..PlanView::default() }), over, "{state}");
        }
    }
}

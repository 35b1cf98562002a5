//! `quell run --again PLAN`: which hosts ended in a plan in such a way that it is run on them again.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use quell_model::name::HostName;
use quell_wire::v1::PlanView;

use crate::error::Error;

/// How a step on a host can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum Outcome {
    /// It was done.
    Succeeded,
    /// There was nothing to do.
    NoChange,
    /// The host said no.
    Refused,
    /// It was not done, or did not help.
    Failed,
    /// It was taken back.
    Undone,
    /// Nobody can say whether it was done.
    Unknown,
    /// It was passed over.
    Skipped,
    /// It never began.
    NotStarted,
}

impl Outcome {
    /// What is run again when nothing else is said: all that is known not to be done.
    const NOT_DONE: [Self; 5] = [Self::Refused, Self::Failed, Self::Undone, Self::Skipped, Self::NotStarted];

    /// As a plan says it.
    fn of(text: &str) -> Option<Self> {
        Self::from_str(text, false).ok()
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The hosts of a plan that are meant, by how they ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Again {
    by_outcome: BTreeMap<Outcome, BTreeSet<HostName>>,
    /// Those of which nobody can say whether it was done, when they are left out.
    doubtful: BTreeSet<HostName>,
}

impl Again {
    /// The hosts of a plan where some step ended in one of these ways; none given: where it was not done.
    ///
    /// # Errors
    /// The plan has not ended, or no host ended so.
    pub(super) fn of(plan: &PlanView, wanted: &[Outcome]) -> Result<Self, Error> {
        if !super::has_ended(plan) {
            return Err(Error::Usage(format!(
                "{id} is {}: how its hosts end is not known yet, so nothing was run; wait for it, or call it off with \
                 `quell cancel {id} --reason …`",
                plan.state,
                id = plan.id,
            )));
        }
        let default = wanted.is_empty();
        let wanted = if default { &Outcome::NOT_DONE[..] } else { wanted };
        let mut by_outcome: BTreeMap<Outcome, BTreeSet<HostName>> = BTreeMap::new();
        for step in &plan.steps {
            if let (Some(outcome), Ok(host)) = (Outcome::of(&step.outcome), step.host.parse()) {
                by_outcome.entry(outcome).or_default().insert(host);
            }
        }
        let doubtful = by_outcome.get(&Outcome::Unknown).filter(|_| default).cloned().unwrap_or_default();
        by_outcome.retain(|outcome, _| wanted.contains(outcome));
        // What nobody can say of one step of a host goes for the host.
        for hosts in by_outcome.values_mut() {
            hosts.retain(|host| !doubtful.contains(host));
        }
        by_outcome.retain(|_, hosts| !hosts.is_empty());
        let again = Self { by_outcome, doubtful };
        if again.by_outcome.is_empty() {
            let ways: Vec<String> = wanted.iter().map(|outcome| outcome.name()).collect();
            let doubtful = again.left_out().map(|text| format!("; {text}")).unwrap_or_default();
            return Err(Error::NotFound(format!(
                "no host of {} ended {}, so nothing was run{doubtful}",
                plan.id,
                ways.join(", ")
            )));
        }
        Ok(again)
    }

    /// Their names; never empty.
    pub(super) fn hosts(&self) -> BTreeSet<HostName> {
        self.by_outcome.values().flatten().cloned().collect()
    }

    /// Which hosts these are, for people: "failed: web2; notStarted: web3, web4".
    pub(super) fn text(&self) -> String {
        let ways = self.by_outcome.iter().map(|(outcome, hosts)| format!("{}: {}", outcome.name(), list(hosts)));
        ways.collect::<Vec<_>>().join("; ")
    }

    /// Which hosts are left out because somebody has to look first.
    pub(super) fn left_out(&self) -> Option<String> {
        (!self.doubtful.is_empty()).then(|| {
            format!(
                "whether it was done on {} nobody can say: look there first, then say --outcome unknown",
                list(&self.doubtful)
            )
        })
    }
}

fn list(hosts: &BTreeSet<HostName>) -> String {
    hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use quell_wire::v1::StepView;

    use super::*;

    fn plan(state: &str, steps: &[(&str, &str)]) -> PlanView {
        let step = |(host, outcome): &(&str, &str)| StepView {
            host: (*host).to_owned(),
            outcome: (*outcome).to_owned(),
            ..StepView::default()
        };
        PlanView {
            id: "plan-7".to_owned(),
            state: state.to_owned(),
            steps: steps.iter().map(step).collect(),
            ..PlanView::default()
        }
    }

    const STEPS: [(&str, &str); 8] = [
        ("web1", "succeeded"),
        ("web2", "failed"),
        ("web3", "unknown"),
        ("web4", "noChange"),
        ("web5", "succeeded"),
        ("web5", "undone"),
        ("web6", "notStarted"),
        ("web3", "notStarted"),
    ];

    #[test]
    fn what_is_known_not_to_be_done_is_done_again() {
        let again = Again::of(&plan("failed", &STEPS), &[]).unwrap();
        assert_eq!(again.text(), "failed: web2; undone: web5; notStarted: web6");
        assert_eq!(list(&again.hosts()), "web2, web5, web6");
        assert!(again.left_out().unwrap().contains("on web3 nobody can say"));
    }

    #[test]
    fn only_the_outcomes_that_are_said_count() {
        let again = Again::of(&plan("failed", &STEPS), &[Outcome::Unknown, Outcome::Succeeded]).unwrap();
        assert_eq!(again.text(), "succeeded: web1, web5; unknown: web3");
        assert_eq!(again.left_out(), None);
    }

    #[test]
    fn nobody_is_an_error_and_never_everybody() {
        let all_well = plan("succeeded", &[("web1", "succeeded")]);
        let error = Again::of(&all_well, &[]).unwrap_err();
        assert!(
            matches!(&error, Error::NotFound(text) if text.contains("no host of plan-7 ended refused, failed")),
            "{error}"
        );
        let doubtful = Again::of(&plan("failed", &[("web1", "unknown")]), &[]).unwrap_err();
        assert!(doubtful.to_string().contains("--outcome unknown"), "{doubtful}");
        let running = Again::of(&plan("running", &[("web1", "failed"), ("web2", "sent")]), &[]).unwrap_err();
        assert!(matches!(&running, Error::Usage(text) if text.contains("quell cancel plan-7")), "{running}");
    }
}

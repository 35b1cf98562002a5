//! What a person's signed order says about a step.

use std::{sync::Arc, time::Duration};

use super::{Case, Evidence, Granted, Mandate};
use crate::{digest::Digest, plan, trust::Denied};

/// Checks a step against the order in whose name it is done.
pub(super) fn grant(case: &Case<'_>, evidence: &Evidence, digest: Digest) -> Result<Granted, Denied> {
    let missing = || Denied::Missing { what: format!("the order {}", digest.short()) };
    let run = evidence.run.as_ref().filter(|run| run.digest() == digest).ok_or_else(missing)?;
    let name = run.key();
    let not_signed = |why: &str| Denied::NotSigned { name: name.clone(), why: why.to_owned() };
    let step = case.step;
    if step.step != 0 || step.finally {
        return Err(not_signed("it is of one step"));
    }
    if step.action != run.action {
        return Err(not_signed(&format!("its action is {}", run.action)));
    }
    if !plan::same(&step.with, &run.with) {
        return Err(not_signed("its parameters are others"));
    }
    if step.timeout() > run.timeout() {
        return Err(not_signed(&format!("it may take {} ms", run.timeout_ms)));
    }
    if run.dry_run && case.order.acts() {
        return Err(not_signed("it changes nothing"));
    }
    let (host, labels) = (case.belief.host, case.belief.labels);
    if !run.hosts.include(host, labels) {
        let why = "`hosts` does not mean it, by its own name and labels".to_owned();
        return Err(Denied::OutOfScope { host: host.clone(), name, why });
    }
    case.check_authority(&name)?;
    Ok(Granted {
        mandate: Mandate::Run(Arc::clone(run)),
        cooldown: Duration::ZERO,
        calendars: Vec::new(),
        conditional_approval: None,
        choice: None,
    })
}

//! `dns.failover`: makes the other server the active one.
//!
//! The order says which server it believes to be active, and is refused as stale when another one is: a plan that comes
//! late changes nothing. A fail-over never goes back by itself, not even when it failed. Who is active, and how it is
//! changed, is the provider's business.

mod command;
mod rfc2136;

use std::time::Duration;

use quell_model::action::{DnsFailover, DnsProvider};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::{Action, Change, Failure, Host, Item, Preview, Refusal, Standing, Work};
use crate::{config::Config, managers::Promise};

#[cfg(test)]
pub(super) use command::tests as command_tests;
#[cfg(test)]
pub(super) use rfc2136::stand_in;

/// How often it is asked whether the change has come through,
const VERIFY_EVERY: Duration = Duration::from_millis(250);

/// for how long at most,
const VERIFY_LIMIT: Duration = Duration::from_secs(15);

/// and for how long even when the order's time is over: the change is made, and one question belongs to it.
const VERIFY_AT_LEAST: Duration = Duration::from_secs(10);

/// Through what a fail-over is done.
trait Provider: Send + Sync {
    /// What it holds while it runs.
    fn resource(&self) -> String;

    /// Asks the host's own rules.
    fn permitted(&self, config: &Config) -> Result<(), Refusal>;

    /// What people want to know beside the server that takes over.
    fn detail(&self) -> String;

    /// Who is active, as far as the order cares.
    fn active<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Active, String>>;

    /// Makes `to` the active one if `from` still is, and says what it did. The comparison is made here, or by whom it asks:
    /// time has passed since the check.
    fn switch<'a>(&'a self, work: &'a Work<'a>) -> Promise<'a, Result<Change, Failure>>;
}

/// The servers of an order.
#[derive(Debug, Clone)]
struct Pair {
    from: String,
    to: String,
}

/// Who is active.
#[derive(Debug, PartialEq, Eq)]
enum Active {
    /// The server that the order believes to be.
    From,
    /// The one that it switches to.
    To,
    /// None. A switch that was broken off may have left it so.
    Nobody,
    /// Neither, in words: "dns3 is active".
    Other(String),
}

impl Pair {
    /// Compare-and-set: the order holds only while the server that it believes to be active is.
    fn still_holds(&self, active: &Active, resumed: bool) -> Result<(), String> {
        match active {
            Active::From => Ok(()),
            // The shutdown that the journal tells of has left nobody active.
            Active::Nobody if resumed => Ok(()),
            other => Err(format!(
                "the order is stale: it switches from {} to {}, and {}; nothing was changed",
                self.from,
                self.to,
                self.words(other)
            )),
        }
    }

    fn words(&self, active: &Active) -> String {
        match active {
            Active::From => format!("{} is active", self.from),
            Active::To => format!("{} is active", self.to),
            Active::Nobody => "no server is active".to_owned(),
            Active::Other(words) => words.clone(),
        }
    }
}

/// An order to fail over.
pub(super) struct Failover {
    pair: Pair,
    provider: Box<dyn Provider>,
}

impl Failover {
    pub(super) fn new(order: DnsFailover) -> Self {
        let pair = Pair { from: order.from, to: order.to };
        let provider: Box<dyn Provider> = match order.provider {
            DnsProvider::Command(tool) => Box::new(command::Tool { pair: pair.clone(), tool }),
            DnsProvider::Rfc2136(update) => Box::new(rfc2136::Update { pair: pair.clone(), update }),
        };
        Self { pair, provider }
    }
}

impl Action for Failover {
    fn resources(&self) -> Vec<String> {
        vec![self.provider.resource()]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        self.provider.permitted(config)
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let active = self.provider.active(host).await.map_err(Refusal::because)?;
            if active == Active::To {
                return Ok(Preview { items: vec![], note: format!("{} is active already", self.pair.to) });
            }
            self.pair.still_holds(&active, false).map_err(Refusal::because)?;
            let (object, detail) = (self.pair.to.clone(), self.provider.detail());
            Ok(Preview {
                items: vec![Item { verb: "switch", object, size: 0, detail, moving: false }],
                note: String::new(),
            })
        })
    }

    fn prepare<'a>(&'a self, _host: &'a Host, _checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async { Ok(json!({"from": self.pair.from, "to": self.pair.to})) })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let mut change = self.provider.switch(work).await?;
            change.values.insert("active".to_owned(), self.pair.to.as_str().into());
            Ok(change)
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let end = Instant::now() + VERIFY_LIMIT.min(work.left().max(VERIFY_AT_LEAST));
            loop {
                let seen = match self.provider.active(work.host).await {
                    Ok(Active::To) => return Ok(()),
                    Ok(active) => self.pair.words(&active),
                    Err(reason) => reason,
                };
                if Instant::now() >= end {
                    let to = &self.pair.to;
                    return Err(Failure::new(format!(
                        "{to} was told to take over, but {seen}; it is not switched back"
                    )));
                }
                tokio::time::sleep(VERIFY_EVERY).await;
            }
        })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        let Pair { from, to } = &self.pair;
        let text = format!("a fail-over is not taken back; switching from {to} to {from} is an order of its own");
        Box::pin(async move { Err(Failure::new(text)) })
    }

    fn look<'a>(&'a self, host: &'a Host, _prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            match self.provider.active(host).await {
                Ok(Active::To) => Standing::Done(Change::new(format!("{} is active", self.pair.to))),
                Ok(active) => match self.pair.still_holds(&active, true) {
                    Ok(()) => Standing::Open,
                    Err(reason) => Standing::Doubtful(reason),
                },
                Err(reason) => Standing::Doubtful(reason),
            }
        })
    }
}

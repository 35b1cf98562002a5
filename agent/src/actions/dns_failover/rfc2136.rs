//! The provider `rfc2136`: a fail-over by one update of a zone at its primary, signed with TSIG.
//!
//! The name server itself compares before it sets: the update's prerequisite is that exactly the old data stands there, so
//! it refuses a plan that comes late, however late. Everything is asked over TCP, and answers count only when they are
//! signed with the same key. Sending an update again is safe.

#[cfg(test)]
mod bind;
mod message;
mod signed;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use quell_model::action::DnsUpdate;

use super::{Active, Pair, Provider};
use crate::{
    actions::{Change, Failure, Host, Refusal, Work, permission},
    config::Config,
    managers::Promise,
};
use signed::{Error, Key};

/// How long the server may take to say what stands there,
const QUERY_LIMIT: Duration = Duration::from_secs(3);

/// and to take an update.
const UPDATE_LIMIT: Duration = Duration::from_secs(10);

/// A fail-over by an update.
pub(super) struct Update {
    pub(super) pair: Pair,
    pub(super) update: DnsUpdate,
}

impl Update {
    async fn ask(&self, host: &Host, request: Result<Message, String>, limit: Duration) -> Result<Message, Error> {
        let record =
            permission::record(&host.config, &self.update).map_err(|refusal| Error::NotAsked(refusal.reason))?;
        let record = record.clone();
        let key = crate::actions::blocking(move || Key::read(&record)).await.and_then(|key| key);
        let (key, request) = (key.map_err(Error::NotAsked)?, request.map_err(Error::NotAsked)?);
        signed::ask(self.update.server, &key, request, limit).await
    }

    /// What the server made of the update.
    fn judge(&self, code: ResponseCode) -> Result<Change, Failure> {
        let DnsUpdate { server, zone, key, from, to, .. } = &self.update;
        let record = self.record();
        let why = match code {
            ResponseCode::NoError => {
                let Pair { from: old, to: new } = &self.pair;
                return Ok(Change::new(format!("{record} was {from} ({old}) and is {to} ({new}), at {server}")));
            }
            ResponseCode::NXRRSet => format!(
                "the order is stale: {server} refused the update, for {record} is not {from} any more ({}) (NXRRSET)",
                self.pair.from
            ),
            ResponseCode::Refused => format!(
                "{server} does not let the key {key} update {record} (REFUSED); allow it there, in the zone's update-policy"
            ),
            ResponseCode::NotAuth => {
                format!("{server} is not the primary of the zone {zone} (NOTAUTH); correct the order")
            }
            ResponseCode::NotZone => format!("{server} does not have {record} in its zone {zone} (NOTZONE)"),
            other => format!("{server} refused the update of {record} ({})", message::code(other)),
        };
        Err(Failure::new(format!("{why}; nothing was changed")))
    }

    /// After an update that may have been taken, or may still be: what stands there says at least whether it was.
    async fn settle(&self, host: &Host, error: &Error) -> Result<Change, Failure> {
        if matches!(self.active(host).await, Ok(Active::To)) {
            let (record, to) = (self.record(), &self.update.to);
            return Ok(Change::new(format!("{record} is {to} ({}), though {error}", self.pair.to)));
        }
        let record = self.record();
        let reason = format!(
            "{error}; whether the update of {record} was taken, or will be, is not known: ask the server for it before you \
             order anything else"
        );
        Err(Failure { in_doubt: true, ..Failure::new(reason) })
    }

    /// The record in messages: its name and type.
    fn record(&self) -> String {
        format!("{} {}", self.update.owner(), self.update.to.kind())
    }
}

impl Provider for Update {
    fn resource(&self) -> String {
        format!("dns:{}", self.update.owner())
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        permission::record(config, &self.update).map(|_| ())
    }

    fn detail(&self) -> String {
        let DnsUpdate { server, from, to, ttl, .. } = &self.update;
        format!("from {}: {} from {from} to {to} with a TTL of {ttl} s, at {server}", self.pair.from, self.record())
    }

    fn active<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Active, String>> {
        Box::pin(async move {
            let answer = self.ask(host, message::question(&self.update), QUERY_LIMIT).await;
            message::standing(&self.update, &answer.map_err(|error| error.to_string())?)
        })
    }

    fn switch<'a>(&'a self, work: &'a Work<'a>) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let limit = UPDATE_LIMIT.min(work.left());
            match self.ask(work.host, message::update(&self.update), limit).await {
                Ok(answer) => self.judge(answer.metadata.response_code),
                Err(error) if error.leaves_doubt() => self.settle(work.host, &error).await,
                Err(error) => Err(Failure::new(format!("{error}; nothing was changed"))),
            }
        })
    }
}

//! Who is welcome, by the state that the decider published.

use jiff::Timestamp;
use quell_engine::{
    State,
    state::{HostState, OperatorRow},
};
use quell_link::{
    identity::{Peer, Role},
    server::Gatekeeper,
};

use super::Refusals;
use crate::decider::Handle;

/// Admits peers whose key is the enrolled one and has not been revoked.
#[derive(Clone)]
pub struct Gate {
    decider: Handle,
    refusals: Refusals,
}

impl Gate {
    /// Over this decider's state; what is refused is told there.
    pub fn new(decider: Handle, refusals: Refusals) -> Self {
        Self { decider, refusals }
    }
}

impl Gatekeeper for Gate {
    fn admit(&self, peer: &Peer) -> Result<(), String> {
        judge(&self.decider.state(), peer)
    }

    fn roles(&self, operator: &str) -> Vec<String> {
        let state = self.decider.state();
        state.operators.get(operator).filter(|row| row.revoked.is_none()).map_or_else(Vec::new, |row| row.roles.clone())
    }

    fn refused(&self, peer: &Peer, path: &str, status: &tonic::Status) {
        self.refusals.tell(peer, path, status);
    }
}

/// Whether a peer may be here.
fn judge(state: &State, peer: &Peer) -> Result<(), String> {
    match &peer.role {
        None => Ok(()),
        Some(Role::Agent { name, host_id }) => {
            let row = state.hosts.get(name).ok_or_else(|| format!("{name} is not enrolled here: join it again"))?;
            if row.host_id != *host_id || row.key != peer.key {
                return Err(format!("{name} was enrolled again with another key: this one is no longer good"));
            }
            match row.state {
                HostState::Online | HostState::Lost => Ok(()),
                HostState::Revoked => Err(format!("the certificate of {name} was revoked")),
                HostState::Retired => Err(format!("{name} was retired")),
            }
        }
        Some(Role::Operator { name }) => {
            let row = state.operators.get(name).ok_or_else(|| format!("there is no operator {name} here"))?;
            judge_operator(row, peer)
        }
    }
}

fn judge_operator(row: &OperatorRow, peer: &Peer) -> Result<(), String> {
    match &row.revoked {
        Some(reason) => Err(format!("the certificates of operator {} were revoked: {reason}", row.name)),
        None if row.key != peer.key => {
            Err(format!("operator {} was given another certificate: this one is no longer good", row.name))
        }
        None => Ok(()),
    }
}

/// Whether an operator may still be here: for streams, which outlive the check at their beginning.
pub fn still_welcome(state: &State, peer: &Peer, now: Timestamp) -> Result<(), String> {
    if peer.is_expired(now) {
        return Err("the certificate ended while the stream was open: connect again with a new one".to_owned());
    }
    judge(state, peer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quell_engine::state::HostRow;
    use quell_model::digest::Digest;
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn peer(role: Role, key: &[u8]) -> Peer {
        Peer {
            role: Some(role),
            key: Digest::of(key),
            not_after: Some(Timestamp::from_second(2_000).unwrap()),
            address: "192.0.2.1:1".parse().unwrap(),
            connection: 1,
            cut: CancellationToken::new(),
        }
    }

    fn agent(host_id: &str, key: &[u8]) -> Peer {
        peer(Role::Agent { name: "planthost1".parse().unwrap(), host_id: host_id.to_owned() }, key)
    }

    fn state(host: HostState, revoked: Option<&str>) -> State {
        let row: HostRow = serde_json::from_value(serde_json::json!({
            "name": "planthost1", "hostId": "h1", "labels": {}, "key": Digest::of(b"key"),
            "certificateExpires": Timestamp::UNIX_EPOCH, "agentVersion": "", "facts": {}, "state": host,
            "since": Timestamp::UNIX_EPOCH, "lastSeen": null, "instance": "", "held": null,
        }))
        .unwrap();
        let operator = OperatorRow {
            name: "mira".to_owned(),
            roles: vec!["admin".to_owned()],
            key: Digest::of(b"key"),
            certificate_expires: Timestamp::UNIX_EPOCH,
            revoked: revoked.map(str::to_owned),
        };
        let mut state = State::default();
        state.hosts.insert(row.name.clone(), Arc::new(row));
        state.operators.insert(operator.name.clone(), Arc::new(operator));
        state
    }

    #[test]
    fn an_agent_is_its_key_and_its_identifier_not_its_name() {
        let state = state(HostState::Lost, None);
        assert_eq!(judge(&state, &agent("h1", b"key")), Ok(()));
        assert!(judge(&state, &agent("h1", b"other")).is_err());
        assert!(judge(&state, &agent("h2", b"key")).is_err());
        assert!(judge(&State::default(), &agent("h1", b"key")).is_err());
    }

    #[test]
    fn revoked_and_retired_hosts_are_told_so() {
        let words = judge(&state(HostState::Revoked, None), &agent("h1", b"key")).unwrap_err();
        assert!(words.contains("revoked"), "{words}");
        let words = judge(&state(HostState::Retired, None), &agent("h1", b"key")).unwrap_err();
        assert!(words.contains("retired"), "{words}");
    }

    #[test]
    fn an_operator_is_welcome_until_revoked_reissued_or_expired() {
        let mira = |key: &[u8]| peer(Role::Operator { name: "mira".to_owned() }, key);
        let (before, after) = (Timestamp::from_second(1_999).unwrap(), Timestamp::from_second(2_001).unwrap());
        let good = state(HostState::Online, None);
        assert_eq!(still_welcome(&good, &mira(b"key"), before), Ok(()));
        assert!(still_welcome(&good, &mira(b"key"), after).is_err());
        assert!(still_welcome(&good, &mira(b"old"), before).is_err());
        let revoked = state(HostState::Online, Some("left"));
        assert!(still_welcome(&revoked, &mira(b"key"), before).unwrap_err().contains("left"));
    }
}

//! Hosts, operators and tokens.

use quell_engine::{
    Newer,
    id::TokenId,
    state::{HostRow, HostState, OperatorRow, TokenRow},
};
use quell_wire::v1::{HostView, NewerView, OperatorView, TokenView};

use super::{Filter, Viewer, time, word};

impl Viewer<'_> {
    /// Hosts; retired ones only where all are asked for.
    pub fn hosts(&self, filter: &Filter) -> Vec<HostView> {
        let rows = self.state.hosts.values().filter(|row| {
            (filter.all || !filter.name.is_empty() || row.state != HostState::Retired)
                && filter.wants(row.name.as_str())
                && filter.wants_labels(&row.labels)
        });
        rows.map(|row| self.host(row)).collect()
    }

    /// One host.
    pub fn host(&self, row: &HostRow) -> HostView {
        let live = (self.live)(&row.name);
        HostView {
            name: row.name.to_string(),
            state: word(row.state),
            labels: row.labels.clone().into_iter().collect(),
            agent_version: row.agent_version.clone(),
            last_seen: live.last_seen.max(row.last_seen).map(time),
            samples: live.samples,
            host_id: row.host_id.clone(),
            facts: row.facts.clone().into_iter().collect(),
            certificate_expires: Some(time(row.certificate_expires)),
            dropped_samples: live.dropped,
            probes: live.probes,
            held: row
                .held
                .as_ref()
                .filter(|(_, until)| *until > self.now)
                .map(|(reason, until)| format!("{reason} (by the host's administrator, until {})", time(*until))),
            label_version: row.relabelled.as_ref().map_or(0, |(version, _)| *version),
            trust_version: row.trust_version,
            newer: quell_engine::newer(self.state, row).iter().map(newer).collect(),
        }
    }

    /// Operators.
    pub fn operators(&self, filter: &Filter) -> Vec<OperatorView> {
        self.state.operators.values().filter(|row| filter.wants(&row.name)).map(|row| operator(row)).collect()
    }

    /// Tokens that can still be used; all of them where asked for.
    pub fn tokens(&self, filter: &Filter) -> Vec<TokenView> {
        let can_be_used = |row: &TokenRow| row.uses_left > 0 && row.expires > self.now;
        let wanted = |id: &TokenId| filter.wants(&id.to_string());
        self.state
            .tokens
            .values()
            .filter(|row| wanted(&row.id) && (filter.all || can_be_used(row)))
            .map(|row| token(row))
            .collect()
    }
}

fn newer(newer: &Newer) -> NewerView {
    NewerView { what: newer.what.to_string(), seen: newer.seen, here: newer.here }
}

fn operator(row: &OperatorRow) -> OperatorView {
    OperatorView {
        name: row.name.clone(),
        roles: row.roles.clone(),
        revoked: row.revoked.is_some(),
        certificate_expires: Some(time(row.certificate_expires)),
    }
}

fn token(row: &TokenRow) -> TokenView {
    TokenView {
        id: row.id.to_string(),
        created_by: row.created_by.clone(),
        expires_at: time(row.expires),
        uses_left: row.uses_left,
        labels: row.labels.clone().into_iter().collect(),
    }
}

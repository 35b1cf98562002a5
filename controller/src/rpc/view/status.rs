//! What needs a person, in one answer.

use quell_engine::state::HostState;
use quell_model::policy::Manifest;
use quell_wire::v1::StatusView;

use super::{Filter, Viewer};

impl Viewer<'_> {
    /// Approvals, incidents, holds, windows, and the fleet in numbers. `warnings` are those that the state does not show.
    pub fn status(&self, mut warnings: Vec<String>) -> StatusView {
        let everything = Filter::default();
        let mut windows = self.windows(&everything);
        windows.retain(|window| window.active);
        let hosts = |wanted: HostState| {
            let count = self.state.hosts.values().filter(|host| host.state == wanted).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let policies = self.state.manifests.values().filter(|stored| matches!(stored.manifest, Manifest::Policy(_)));
        if let Some(reason) = &self.state.meta.observe_only {
            warnings.push(format!("every policy only observes: {reason}"));
        }
        if let Some(reason) = &self.state.meta.clock_suspect {
            warnings.push(format!("new plans are held: {reason}"));
        }
        warnings.extend(quell_engine::signing_warnings(self.state, self.now));
        StatusView {
            approvals: self.approvals(&everything),
            incidents: self.incidents(&everything),
            holds: self.holds(&everything),
            windows,
            hosts_online: hosts(HostState::Online),
            hosts_lost: hosts(HostState::Lost),
            hosts_revoked: hosts(HostState::Revoked),
            policies: u32::try_from(policies.count()).unwrap_or(u32::MAX),
            warnings,
            controller_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

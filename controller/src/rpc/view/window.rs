//! Windows: holds and freezes that people made, and those of manifests.

use quell_engine::{id::WindowId, input::HoldScope, state::WindowRow};
use quell_model::policy::{Manifest, Window};
use quell_wire::v1::WindowView;

use super::{Filter, Viewer, selector, time};

impl Viewer<'_> {
    /// Windows that have not ended; all of them where asked for.
    pub fn windows(&self, filter: &Filter) -> Vec<WindowView> {
        let manual = self.state.windows.values().map(|row| (row.until, self.window(row)));
        let declared = self.state.manifests.values().filter_map(|stored| match &stored.manifest {
            Manifest::Window(window) => Some((window.until, self.declared(window, &stored.applied_by))),
            _ => None,
        });
        manual
            .chain(declared)
            .filter(|(until, view)| (filter.all || *until > self.now) && filter.wants(&view.id))
            .map(|(_, view)| view)
            .collect()
    }

    /// One hold or freeze, by its number.
    pub fn window_with(&self, id: WindowId) -> Option<WindowView> {
        self.state.windows.get(&id).map(|row| self.window(row))
    }

    fn window(&self, row: &WindowRow) -> WindowView {
        let (kind, scope) = match &row.scope {
            HoldScope::Host(host) => ("hold", format!("host {host}")),
            HoldScope::Policy(policy) => ("hold", format!("policy {policy}")),
            HoldScope::Incident(incident) => ("hold", incident.to_string()),
            HoldScope::Hosts(hosts) => ("freeze", format!("hosts {}", selector(hosts))),
        };
        WindowView {
            id: row.id.to_string(),
            kind: kind.to_owned(),
            scope,
            reason: row.reason.clone(),
            from: Some(time(row.from)),
            until: time(row.until),
            who: row.who.clone(),
            active: row.from <= self.now && self.now < row.until,
        }
    }

    fn declared(&self, window: &Window, who: &str) -> WindowView {
        let kind = match (window.suppress_notify, window.suppress_act) {
            (true, true) => "maintenance",
            (_, true) => "freeze",
            _ => "silence",
        };
        WindowView {
            id: window.name.to_string(),
            kind: kind.to_owned(),
            scope: format!("hosts {}", selector(&window.hosts)),
            reason: window.reason.clone(),
            from: Some(time(window.from)),
            until: time(window.until),
            who: who.to_owned(),
            active: window.from <= self.now && self.now < window.until,
        }
    }
}

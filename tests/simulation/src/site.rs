//! The machines under the agents: what is so on them, and what actions do to it. It outlives every process.
//!
//! This is a model: no program is run. An action has its effect at one moment, which the judge is told of.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use quell_model::{name::HostName, value::Value};
use quell_wire::v1;

/// How an action ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is done and helps.
    Heals,
    /// It is done and changes nothing that anybody notices.
    HelpsNothing,
    /// It fails and had no effect.
    Fails,
    /// Nobody can say.
    InDoubt,
    /// It does not end before its time is over.
    Hangs,
}

impl Way {
    /// One at random; most help.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        match rng.u32(0..20) {
            0..12 => Self::Heals,
            12..14 => Self::HelpsNothing,
            14..17 => Self::Fails,
            17 => Self::InDoubt,
            _ => Self::Hangs,
        }
    }
}

/// What can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Web,
    Disk,
    Stock,
    Dns,
    Cache,
    Orders,
}

const TROUBLES: [Trouble; 6] =
    [Trouble::Web, Trouble::Disk, Trouble::Stock, Trouble::Dns, Trouble::Cache, Trouble::Orders];

/// What is wrong on a host.
#[derive(Debug, Clone, Default)]
struct Machine {
    web_is_down: bool,
    disk_is_full: bool,
    stock_is_wrong: bool,
    cache_is_stale: bool,
    /// The number of the error that orders fail with.
    order_error: Option<u32>,
    /// Keys of the orders that had their effect.
    applied: BTreeSet<String>,
}

/// All machines.
#[derive(Debug)]
pub(crate) struct Site {
    machines: BTreeMap<HostName, Machine>,
    active: &'static str,
    dns_is_down: BTreeMap<&'static str, bool>,
    errors: u32,
}

const SERVERS: [&str; 2] = ["dns1", "dns2"];

impl Site {
    pub(crate) fn new(hosts: &[HostName]) -> Self {
        Self {
            machines: hosts.iter().map(|host| (host.clone(), Machine::default())).collect(),
            active: SERVERS[0],
            dns_is_down: SERVERS.map(|server| (server, false)).into(),
            errors: 0,
        }
    }

    /// Something breaks on a host, or everywhere; says what.
    pub(crate) fn trouble(&mut self, trouble: Trouble, host: &str) -> String {
        match trouble {
            Trouble::Dns => {
                self.dns_is_down.insert(self.active, true);
                return format!("{} stops answering", self.active);
            }
            Trouble::Stock => {
                self.machines.values_mut().for_each(|machine| machine.stock_is_wrong = true);
                return "the stock is wrong everywhere".to_owned();
            }
            Trouble::Orders => {
                self.errors += 1;
                self.machines.values_mut().for_each(|machine| machine.order_error = Some(self.errors));
                return "orders fail".to_owned();
            }
            Trouble::Web | Trouble::Disk | Trouble::Cache => {}
        }
        let Some(machine) = host.parse().ok().and_then(|host: HostName| self.machines.get_mut(&host)) else {
            return String::new();
        };
        match trouble {
            Trouble::Web => machine.web_is_down = true,
            Trouble::Disk => machine.disk_is_full = true,
            _ => machine.cache_is_stale = true,
        }
        format!("on {host}: {trouble:?}")
    }

    /// Something breaks somewhere; says what. The same error of orders comes back now and then.
    pub(crate) fn breaks(&mut self, rng: &mut Rng) -> String {
        let hosts: Vec<HostName> = self.machines.keys().cloned().collect();
        let host = &hosts[rng.usize(0..hosts.len())];
        let trouble = TROUBLES[rng.usize(0..TROUBLES.len())];
        if trouble == Trouble::Orders && rng.bool() {
            self.errors = self.errors.saturating_sub(1);
        }
        self.trouble(trouble, host.as_str())
    }

    /// Everything is well again.
    pub(crate) fn mend(&mut self) {
        for machine in self.machines.values_mut() {
            *machine = Machine { applied: std::mem::take(&mut machine.applied), ..Machine::default() };
        }
        self.dns_is_down.values_mut().for_each(|down| *down = false);
    }

    /// What a probe of a policy sees on a host; nothing: this machine has no such thing.
    pub(crate) fn see(&self, host: &HostName, probe: &str) -> Vec<(&'static str, Value)> {
        let Some(machine) = self.machines.get(host) else { return Vec::new() };
        let number = |high: bool| Value::Number(if high { 20.0 } else { 0.0 });
        match probe {
            "host" => {
                let used = if machine.disk_is_full { 90.0 } else { 40.0 };
                vec![("uptime", 9_000.0.into()), ("disks[/srv].used_percent", used.into())]
            }
            "web" => vec![("ok", (!machine.web_is_down).into()), ("reachable", (!machine.web_is_down).into())],
            "stock" => vec![("ok", true.into()), ("value", number(machine.stock_is_wrong))],
            "cache" => vec![("ok", true.into()), ("value", number(machine.cache_is_stale))],
            "outstanding" => vec![("ok", true.into()), ("value", number(machine.order_error.is_some()))],
            "log" => {
                let error = machine.order_error.unwrap_or_default().to_string();
                let matches = if machine.order_error.is_some() { 1.0 } else { 0.0 };
                vec![("ok", true.into()), ("matches", matches.into()), ("captures.error", error.into())]
            }
            "tool" => vec![("ok", true.into()), ("active", self.active.into())],
            server => {
                let is_down = self.dns_is_down.get(server).copied().unwrap_or_default();
                vec![("ok", (!is_down).into()), ("reachable", true.into())]
            }
        }
    }

    /// Whether an order had its effect on a host.
    pub(crate) fn has_applied(&self, host: &HostName, key: &str) -> bool {
        self.machines.get(host).is_some_and(|machine| machine.applied.contains(key))
    }

    /// Why an order would be refused by its action, as things are.
    pub(crate) fn refuses(&self, command: &v1::Command) -> Option<String> {
        let from = parameter(command, "from");
        (command.action == "dns.failover" && !command.undo && from != self.active)
            .then(|| format!("{} is active, not {from}", self.active))
    }

    /// An order has its effect.
    pub(crate) fn apply(&mut self, host: &HostName, command: &v1::Command, key: &str, heals: bool) {
        let Some(machine) = self.machines.get_mut(host) else { return };
        machine.applied.insert(key.to_owned());
        if command.action == "dns.failover" {
            let to = parameter(command, if command.undo { "from" } else { "to" });
            if let Some(server) = SERVERS.into_iter().find(|server| *server == to) {
                self.active = server;
            }
            return;
        }
        if !heals || command.undo {
            return;
        }
        match (command.action.as_str(), parameter(command, "service").as_str()) {
            ("service.restart", "web") => machine.web_is_down = false,
            ("service.restart", "stock") => machine.stock_is_wrong = false,
            ("service.restart", "cache") => machine.cache_is_stale = false,
            ("service.restart", "orders") => machine.order_error = None,
            ("log.rotate", _) => machine.disk_is_full = false,
            ("exec", _) if parameter(command, "argv").contains("redeploy") => machine.web_is_down = false,
            _ => {}
        }
    }
}

/// A parameter of an order, as text.
pub(crate) fn parameter(command: &v1::Command, name: &str) -> String {
    let parameters: serde_json::Value = serde_json::from_slice(&command.parameters).unwrap_or_default();
    match &parameters[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

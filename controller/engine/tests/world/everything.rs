//! One host that plays every part of the shop: it takes orders, runs the application, answers for names and watches
//! whether they are answered. All of the shop's policies judge it, S1 to S4.

use super::{Done, World, shop};

/// The host.
pub const HOST: &str = "planthost1";

impl World {
    /// The host joins, well in every respect; its remedies help.
    pub fn with_every_part(at: &str) -> Self {
        let mut world = Self::begin(at);
        world.batches = true;
        let labels = [("orders", "here"), ("app", "here"), ("ops", "here")];
        let labels = [&labels[..], &[("observer", "dns"), ("serves", "dns"), ("dns", "dns1")]].concat();
        world.join(HOST, &labels);
        world.put(shop::on_one_host(), Vec::new());
        world.set(
            HOST,
            "host",
            &[
                ("cpu.used_percent", 20.0.into()),
                ("memory.used_percent", 40.0.into()),
                ("disks[/home].used_percent", 50.0.into()),
            ],
        );
        for server in ["dns1", "dns2"] {
            world.set(HOST, server, &[("ok", true.into()), ("reachable", true.into())]);
        }
        world.set(HOST, "tool", &[("active", "dns1".into())]);
        for log in ["log1", "log2", "order-backlog/log"] {
            world.set(HOST, log, &[("matches", 0.0.into())]);
        }
        world.set(HOST, "nightly-rotation/log", &[("size", 1_000.0.into())]);
        world.set(HOST, "outstanding", &[("value", 0.0.into())]);
        world.set(HOST, "processed", &[("value", 16.0.into())]);
        world.on("service.restart", |order, facts| {
            if order.parameters.get("service").and_then(|name| name.as_str()) == Some("orders") {
                facts.set(&order.host, "outstanding", &[("value", 0.0.into())]);
                facts.set(&order.host, "order-backlog/log", &[("matches", 0.0.into())]);
            } else {
                facts.set(&order.host, "dns1", &[("ok", true.into())]);
            }
            Done::ok()
        });
        world.on("log.rotate", |order, facts| {
            facts.set(&order.host, "host", &[("disks[/home].used_percent", 50.0.into())]);
            Done::ok()
        });
        world
    }

    /// A fault of each of S1 to S4 at once; the number makes the order that hangs another one each time.
    pub fn break_everything(&mut self, number: u32) {
        self.set(HOST, "outstanding", &[("value", 20.0.into())]);
        let order = number.to_string();
        self.set(
            HOST,
            "order-backlog/log",
            &[("matches", 1.0.into()), ("captures.order", order.into()), ("captures.error", "12".into())],
        );
        self.set(HOST, "host", &[("cpu.used_percent", 95.0.into()), ("disks[/home].used_percent", 85.0.into())]);
        self.set(HOST, "dns1", &[("ok", false.into())]);
    }

    /// What no remedy mends passes by itself.
    pub fn mend_everything(&mut self) {
        self.set(HOST, "outstanding", &[("value", 0.0.into())]);
        self.set(HOST, "order-backlog/log", &[("matches", 0.0.into())]);
        self.set(HOST, "host", &[("cpu.used_percent", 5.0.into()), ("disks[/home].used_percent", 50.0.into())]);
        self.set(HOST, "dns1", &[("ok", true.into())]);
    }
}

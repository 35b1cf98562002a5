//! The shop on one machine: its three hosts, their services, and the faults that can be given to them.
//!
//! Hosts are agents on loopback; what tells them apart is their labels, their services and their directories. Numbers
//! that take minutes or hours in the shop are short here; [`Floor::settings`] says which.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::files;
use crate::fleet::{Host, Process, free_port, process::end_by_pid_file};

/// A setting that `quell apply --set` passes, and why it differs from the shop's own.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The placeholder's name.
    pub name: &'static str,
    /// Its value here.
    pub value: String,
    /// The shop's own value, for numbers that were shortened; absent for paths, ports and addresses.
    pub shortened_from: Option<&'static str>,
}

/// The shop's directories, ports and stand-ins.
#[derive(Debug)]
pub struct Floor {
    root: PathBuf,
    shop: PathBuf,
    dns: [u16; 2],
    reach: [u16; 2],
    processes: Vec<Process>,
}

/// Milliseconds between two runs of the order processor.
const ORDERS_EVERY_MS: u64 = 6_000;
/// Milliseconds that an order takes.
const ORDER_MS: u64 = 200;
/// Orders that come in between two runs.
const ARRIVALS: u64 = 5;
/// What the application's log directory may hold.
const APP_CAPACITY: u64 = 4 << 20;
/// What the data directory may hold.
const DATA_CAPACITY: u64 = 2 << 20;

impl Floor {
    /// Lays out the shop below a directory and starts its stand-ins.
    ///
    /// # Errors
    /// A directory cannot be made or a stand-in cannot be started.
    pub fn open(root: &Path, shop: &Path) -> anyhow::Result<Self> {
        let mut floor = Self {
            root: root.to_owned(),
            shop: shop.to_owned(),
            dns: [free_port()?, free_port()?],
            reach: [free_port()?, free_port()?],
            processes: Vec::new(),
        };
        for directory in [floor.orders(), floor.dns(), floor.app(), floor.data(), floor.root.join("bin")] {
            fs::create_dir_all(directory)?;
        }
        files::replace(&floor.dns().join("active"), "dns1")?;
        floor.write_dns_tool()?;
        floor.start_services()?;
        Ok(floor)
    }

    /// Directory of the order processor.
    pub fn orders(&self) -> PathBuf {
        self.root.join("orders")
    }

    /// Directory of the DNS servers.
    pub fn dns(&self) -> PathBuf {
        self.root.join("dns")
    }

    /// Directory of the application's log: a directory budget.
    pub fn app(&self) -> PathBuf {
        self.root.join("app")
    }

    /// A directory that fills: a directory budget.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The runbook's tool.
    pub fn dns_tool(&self) -> PathBuf {
        self.root.join("bin/dnsTool")
    }

    /// A wrapper, so that policies can name the tool by one word as the runbook does.
    fn write_dns_tool(&self) -> anyhow::Result<()> {
        let script =
            format!("#!/bin/sh\nexec '{}' dns-tool --dir '{}' \"$@\"\n", self.shop.display(), self.dns().display());
        fs::write(self.dns_tool(), script)?;
        fs::set_permissions(self.dns_tool(), fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn orders_command(&self) -> Vec<String> {
        words(&[
            &self.shop.display(),
            &"orders",
            &"--dir",
            &self.orders().display(),
            &"--pid-file",
            &self.orders().join("pid").display(),
            &"--every-ms",
            &ORDERS_EVERY_MS,
            &"--order-ms",
            &ORDER_MS,
            &"--arrivals",
            &ARRIVALS,
        ])
    }

    fn dns_command(&self, number: usize) -> Vec<String> {
        let server = format!("dns{}", number + 1);
        words(&[
            &self.shop.display(),
            &"dns",
            &"--server",
            &server,
            &"--dir",
            &self.dns().display(),
            &"--listen",
            &format!("127.0.0.1:{}", self.dns[number]),
            &"--pid-file",
            &self.dns().join(format!("{server}.pid")).display(),
        ])
    }

    fn machine_command(&self, number: usize) -> Vec<String> {
        words(&[
            &self.shop.display(),
            &"machine",
            &"--listen",
            &format!("127.0.0.1:{}", self.reach[number]),
            &"--fault",
            &self.dns().join(format!("dns{}.unreachable", number + 1)).display(),
        ])
    }

    fn app_command(&self) -> Vec<String> {
        words(&[
            &self.shop.display(),
            &"app-log",
            &"--log",
            &self.app().join("app.log").display(),
            &"--pid-file",
            &self.app_pid().display(),
        ])
    }

    fn app_pid(&self) -> PathBuf {
        self.root.join("app.pid")
    }

    fn start_services(&mut self) -> anyhow::Result<()> {
        let commands = [
            self.orders_command(),
            self.dns_command(0),
            self.dns_command(1),
            self.machine_command(0),
            self.machine_command(1),
            self.app_command(),
        ];
        for command in commands {
            let (program, arguments) = command.split_first().context("a command has a program")?;
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.processes.push(Process::start(Path::new(program), &arguments, &self.root.join("shop.log"))?);
        }
        Ok(())
    }

    /// The three hosts: names, labels and what their agents may do.
    pub fn hosts(&self) -> Vec<Host> {
        let named = |number: usize| self.service("named", &self.dns_command(number), &self.dns_pid(number));
        vec![
            host(
                "planthost1",
                &[("role", "orders"), ("serves", "dns"), ("dns", "dns1"), ("observer", "dns")],
                &format!(
                    "{}{}{}",
                    allow(&["service.restart"], &["orders", "named"], &[], &[]),
                    self.service("orders", &self.orders_command(), &self.orders().join("pid")),
                    named(0),
                ),
            ),
            host(
                "planthost2",
                &[("role", "app"), ("serves", "dns"), ("dns", "dns2"), ("observer", "dns")],
                &format!(
                    "{}{}{}{}{}",
                    allow(&["service.restart", "log.rotate"], &["app", "named"], &[&self.app()], &[]),
                    self.service("app", &self.app_command(), &self.app_pid()),
                    named(1),
                    budget(&self.app(), APP_CAPACITY),
                    budget(&self.data(), DATA_CAPACITY),
                ),
            ),
            host(
                "opshost",
                &[("role", "ops"), ("observer", "dns")],
                &allow(&["dns.failover"], &[], &[], &[&self.dns_tool()]),
            ),
        ]
    }

    fn dns_pid(&self, number: usize) -> PathBuf {
        self.dns().join(format!("dns{}.pid", number + 1))
    }

    /// A `[[service]]` that its agent starts and stops by command. The stand-ins stay in the foreground; `setsid`
    /// lets them go, as a service with a pid file does by itself.
    fn service(&self, name: &str, command: &[String], pid_file: &Path) -> String {
        let start = [&["/usr/bin/setsid".to_owned(), "--fork".to_owned()], command].concat();
        format!(
            "[[service]]\nname = \"{name}\"\nmanager = \"command\"\nstart = {start:?}\npid_file = {pid_file:?}\nlog = {:?}\n",
            self.root.join("shop.log"),
        )
    }

    /// What `quell apply --set` is given: paths, ports and short times.
    pub fn settings(&self) -> Vec<Setting> {
        let place = |name, value: String| Setting { name, value, shortened_from: None };
        let short = |name, value: &str, usual| Setting { name, value: value.to_owned(), shortened_from: Some(usual) };
        // A host without these budgets holds the paths on its root, which may be as full as it likes: only a budget
        // is so small.
        let watched = format!(
            "disk.free_bytes <= {APP_CAPACITY} && (disk.holds({:?}) || disk.holds({:?}))",
            self.data().join("x"),
            self.app().join("x"),
        );
        vec![
            place("ordersDir", self.orders().display().to_string()),
            place("appLog", self.app().join("app.log").display().to_string()),
            place("disks", watched),
            place("dns1Address", "127.0.0.1".to_owned()),
            place("dns2Address", "127.0.0.1".to_owned()),
            place("dns1Port", self.dns[0].to_string()),
            place("dns2Port", self.dns[1].to_string()),
            place("dns1Reach", format!("tcp/{}", self.reach[0])),
            place("dns2Reach", format!("tcp/{}", self.reach[1])),
            place("dns1Log", self.dns().join("dns1.log").display().to_string()),
            place("dns2Log", self.dns().join("dns2.log").display().to_string()),
            place("dnsTool", self.dns_tool().display().to_string()),
            short("settle", "1s", "60s"),
            // The machine that shows this may well be busy: it is not what is shown.
            short("cpuThreshold", "100", "90"),
            short("memoryThreshold", "100", "80"),
            short("businessDays", "mon-sun", "mon-fri"),
            short("opens", "00:00", "09:00"),
            short("closes", "24:00", "17:00"),
            short("ordersEvery", "1s", "60s"),
            short("ordersRun", "10s", "70m"),
            short("dnsEvery", "1s", "5s"),
            short("dnsTimeout", "400ms", "2s"),
            short("dnsToolEvery", "1s", "15s"),
            short("dnsStable", "2s", "10s"),
            short("dnsRestartWithin", "8s", "60s"),
            short("dnsFailoverAfter", "15s", "300s"),
        ]
    }

    /// UDP and TCP ports of the DNS servers, and the ports by which their machines are reached.
    pub fn ports(&self) -> ([u16; 2], [u16; 2]) {
        (self.dns, self.reach)
    }

    /// S1: the data directory fills to 90.5 % of its budget.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn fill_data(&self) -> anyhow::Result<()> {
        let bytes = usize::try_from(DATA_CAPACITY)? * 905 / 1000;
        Ok(fs::write(self.data().join("export.csv"), vec![b'x'; bytes])?)
    }

    /// Ends the fault of S1, as the person on call would.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn clear_data(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.data().join("export.csv"))?)
    }

    /// S2: the application's log grows over 80 % of its directory's budget.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn fill_app_log(&self) -> anyhow::Result<()> {
        let line = "Info: Processing Request 407\n";
        let wanted = usize::try_from(APP_CAPACITY)? * 85 / 100;
        let text = line.repeat(wanted / line.len() + 1);
        let mut log = fs::OpenOptions::new().append(true).create(true).open(self.app().join("app.log"))?;
        Ok(std::io::Write::write_all(&mut log, text.as_bytes())?)
    }

    /// S3: the next orders fail with an error, so often, and the processor hangs.
    ///
    /// # Errors
    /// The fault cannot be written.
    pub fn break_orders(&self, error: u64, times: u64) -> anyhow::Result<()> {
        Ok(files::replace(&self.orders().join("fault"), &format!("{error} {times}"))?)
    }

    /// S4: a DNS server answers every query with an error, whatever is restarted.
    ///
    /// # Errors
    /// The fault cannot be written.
    pub fn break_dns(&self, server: &str) -> anyhow::Result<()> {
        Ok(files::replace(&self.dns().join(format!("{server}.fault")), "servfail")?)
    }

    /// S4: a DNS server hangs and its machine cannot be reached.
    ///
    /// # Errors
    /// The fault cannot be written.
    pub fn cut_dns(&self, server: &str) -> anyhow::Result<()> {
        files::replace(&self.dns().join(format!("{server}.unreachable")), "cut")?;
        Ok(files::replace(&self.dns().join(format!("{server}.fault")), "hang")?)
    }

    /// Ends every fault of a DNS server.
    pub fn mend_dns(&self, server: &str) {
        for fault in ["fault", "unreachable"] {
            // A fault that was not given cannot be ended.
            let _ = fs::remove_file(self.dns().join(format!("{server}.{fault}")));
        }
    }

    /// How often the shop's tool moved the traffic to another DNS server.
    pub fn failovers(&self) -> usize {
        files::read(&self.dns().join("failovers.log")).map_or(0, |log| log.lines().count())
    }

    /// How often the order processor was started.
    pub fn order_processor_starts(&self) -> usize {
        files::read(&self.orders().join("starts.log")).map_or(0, |log| log.lines().count())
    }

    /// The DNS server that the shop's tool calls active.
    pub fn active_dns(&self) -> String {
        files::read(&self.dns().join("active")).unwrap_or_default()
    }
}

impl Drop for Floor {
    /// Services that an agent restarted are not this process's children, and outlive their agent by design.
    fn drop(&mut self) {
        for file in [self.orders().join("pid"), self.dns_pid(0), self.dns_pid(1), self.app_pid()] {
            end_by_pid_file(&file);
        }
    }
}

fn words(words: &[&dyn std::fmt::Display]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn host(name: &str, labels: &[(&str, &str)], agent_toml: &str) -> Host {
    Host {
        name: name.to_owned(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        agent_toml: agent_toml.to_owned(),
    }
}

fn allow(actions: &[&str], services: &[&str], paths: &[&Path], programs: &[&Path]) -> String {
    format!(
        "[allow]\nactions = {actions:?}\nservices = {services:?}\npaths = {paths:?}\nprograms = {programs:?}\n\
         addresses = [\"127.0.0.0/8\"]\n"
    )
}

fn budget(path: &Path, capacity: u64) -> String {
    format!("[[mount]]\npath = {path:?}\ncapacity = \"{capacity}B\"\n")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use quell_model::manifest;

    use super::*;

    #[test]
    fn the_settings_fit_the_policies() {
        let floor = Floor {
            root: "/shop".into(),
            shop: "/bin/quell-shop".into(),
            dns: [5301, 5302],
            reach: [2201, 2202],
            processes: Vec::new(),
        };
        let settings: BTreeMap<String, String> =
            floor.settings().into_iter().map(|setting| (setting.name.to_owned(), setting.value)).collect();
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies");
        let mut unused: Vec<&String> = settings.keys().collect();
        let mut files = Vec::new();
        for entry in fs::read_dir(policies).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).unwrap();
            unused.retain(|setting| !text.contains(&format!("${{{setting}:-")));
            files.push(manifest::File { text: manifest::fill(&name, &text, &settings).unwrap(), name });
        }
        assert!(unused.is_empty(), "no policy has a place for {unused:?}");
        let parsed = manifest::parse(&files).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert!(parsed.len() >= 15, "only {} manifests", parsed.len());
    }
}

//! A farm of web servers whose queues grow, and the policies that look after it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use jiff::Timestamp;
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestError, TestRunner},
};
use quell_engine::state::OutcomeKind;
use quell_model::{name::HostName, policy::Manifest, probe::ProbeKey};

use crate::world::{Done, World};

/// When every life begins: a Monday morning in the shop's zone, half an hour before it opens.
pub(crate) const BEGINS: &str = "2026-11-23T08:30:00+01:00";

/// What the policies of a farm say.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) hosts: usize,
    pub(crate) keep_healthy: u32,
    pub(crate) cooldown: u32,
    pub(crate) per_target: u32,
    pub(crate) per_policy: u32,
    pub(crate) within: u32,
    pub(crate) disturb: u32,
    pub(crate) over: u32,
    pub(crate) waves: Vec<u32>,
    pub(crate) max_errors: u32,
    pub(crate) settle: u32,
    /// Whether the policies act in business hours only.
    pub(crate) calendar: bool,
    /// How the last rung of the fleet's policy goes on when it did not help.
    pub(crate) undo: bool,
}

impl Default for Rules {
    /// Rules that hold nothing back.
    fn default() -> Self {
        Self {
            hosts: 4,
            keep_healthy: 0,
            cooldown: 1,
            per_target: 1_000,
            per_policy: 1_000,
            within: 86_400,
            disturb: 1_000,
            over: 60,
            waves: vec![1, 2, 4],
            max_errors: 0,
            settle: 1,
            calendar: false,
            undo: false,
        }
    }
}

/// The policy that restarts one server, with three rungs, so that one incident can act three times.
pub(crate) const EACH: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: queue }
spec:
  description: A server's queue grows.
  service: web
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { queue: { file: { path: /run/queue, parse: '^(\\d+)$' }, every: 10s } }
  trigger: { when: probe.queue.value > 10, clear: probe.queue.value <= 5 }
  ladder:
    - { name: first, do: [{ action: service.restart, with: { service: web }, timeout: 30s }], ROLLOUT, verify: { that: probe.queue.value <= 5, within: 30s } }
    - { name: second, do: [{ action: service.restart, with: { service: proxy }, timeout: 30s }], ROLLOUT, verify: { that: probe.queue.value <= 5, within: 30s } }
    - { name: third, do: [{ action: service.restart, with: { service: cache }, timeout: 30s }], ROLLOUT, verify: { that: probe.queue.value <= 5, within: 30s } }
  guards: { GUARDS }
  escalate: { to: on-call, after: 15m }
";

/// The policy that goes over the whole farm in waves, two steps to a host, and takes the farm back in any case.
const FLEET: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: stock }
spec:
  description: The farm sells what is not in stock.
  service: web
  mode: enforce
  hosts: { matchLabels: { role: web } }
  target: fleet
  probes: { stock: { file: { path: /run/stock, parse: '^(\\d+)$' }, every: 10s } }
  signals: { wrong: { that: probe.stock.value > 10, quorum: 2 of 3 } }
  trigger: { when: signal.wrong, clear: '!signal.wrong' }
  ladder:
    - name: refill
      on: { matchLabels: { PLACE } }
      do:
        - { action: exec, with: { argv: [/bin/drain] }, timeout: 30s }
        - { action: service.restart, with: { service: stock }, timeout: 30s }
      finally: [{ action: exec, with: { argv: [/bin/undrain] }, timeout: 30s }]
      ROLLOUT
      verify: { that: '!signal.wrong', within: 30s }
      OTHERWISE
  guards: { GUARDS }
  escalate: { to: on-call, after: 15m }
";

/// How a restart ends on a host, from when this is said until it is said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Heals,
    HelpsNothing,
    Fails,
    Refuses,
    NeverEnds,
}

/// The farm.
pub(crate) struct Farm {
    pub(crate) world: World,
    pub(crate) hosts: Vec<HostName>,
    ways: Rc<RefCell<BTreeMap<HostName, Way>>>,
}

impl Farm {
    /// A farm under some of its policies, all servers well.
    pub(crate) fn new(rules: &Rules, policies: &[&str]) -> Self {
        let mut world = World::begin(BEGINS);
        let names: Vec<String> = (0..rules.hosts).map(|number| format!("web{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            let half = if number < 2 { "first" } else { "second" };
            world.join(name, &[("role", "web"), ("number", &number.to_string()), ("half", half)]);
            world.set(name, "queue", &[("value", 0.0.into())]);
            world.set(name, "stock", &[("value", 0.0.into())]);
        }
        world.apply_files(&["calendars", "contacts"], &[]);
        world.apply(&service(rules));
        for policy in policies {
            world.apply(&filled(policy, rules));
        }
        let ways: Rc<RefCell<BTreeMap<HostName, Way>>> = Rc::default();
        for action in ["service.restart", "exec"] {
            let ways = Rc::clone(&ways);
            world.on(action, move |order, facts| {
                let way = ways.borrow().get(&order.host).copied().unwrap_or(Way::Heals);
                match way {
                    _ if order.finally || order.undoes.is_some() => return Done::ok(),
                    Way::Heals => {
                        facts.set(&order.host, "queue", &[("value", 0.0.into())]);
                        facts.set(&order.host, "stock", &[("value", 0.0.into())]);
                    }
                    Way::HelpsNothing => {}
                    Way::Fails => return Done::failed("it did not come up").after("3s"),
                    Way::Refuses => return Done::of(OutcomeKind::Refused, "not allowed here"),
                    Way::NeverEnds => return Done::never(),
                }
                Done::ok().after("2s")
            });
        }
        world.run("30s");
        Self { hosts: names.iter().map(|name| name.parse().unwrap()).collect(), world, ways }
    }

    /// A farm under the policy of single servers.
    pub(crate) fn of_servers(rules: &Rules) -> Self {
        Self::new(rules, &[EACH])
    }

    /// A farm under the policy of the whole fleet.
    pub(crate) fn of_fleet(rules: &Rules) -> Self {
        Self::new(rules, &[FLEET])
    }

    /// A farm under both; that of the fleet goes over the first two servers only, so that it meets the other one.
    pub(crate) fn of_all(rules: &Rules) -> Self {
        Self::new(rules, &[EACH, &FLEET.replace("PLACE", "half: first")])
    }

    /// A host by a number that may be too large.
    pub(crate) fn host(&self, number: usize) -> HostName {
        self.hosts[number % self.hosts.len()].clone()
    }

    /// Says how acts on a host end from now on.
    pub(crate) fn acts(&mut self, number: usize, way: Way) {
        let host = self.host(number);
        self.ways.borrow_mut().insert(host, way);
    }

    /// Gives a queue its length.
    pub(crate) fn queue(&mut self, number: usize, length: u32) {
        let host = self.host(number);
        self.world.set(host.as_str(), "queue", &[("value", f64::from(length).into())]);
    }

    /// Says on all servers whether the stock is wrong.
    pub(crate) fn stock(&mut self, is_wrong: bool) {
        let value = if is_wrong { 20.0 } else { 0.0 };
        self.world.set_all("stock", &[("value", value.into())]);
    }

    /// The key of a probe of a policy.
    pub(crate) fn probe(&self, policy: &str, probe: &str) -> ProbeKey {
        let key = ("Policy".to_owned(), format!("plants/{policy}").parse().unwrap());
        match &self.world.state.manifests.get(&key).unwrap().manifest {
            Manifest::Policy(policy) => policy.probes[probe].key(),
            other => panic!("{other:?} is no policy"),
        }
    }

    /// So many seconds after the moment that it is now.
    pub(crate) fn later(&self, seconds: i64) -> Timestamp {
        self.world.now + jiff::SignedDuration::from_secs(seconds)
    }

    /// Lets seconds pass.
    pub(crate) fn wait(&mut self, seconds: u32) {
        let until = self.later(i64::from(seconds));
        self.world.run_until(until);
    }
}

fn service(rules: &Rules) -> String {
    format!(
        "apiVersion: quell/v1\nkind: Service\nmetadata: {{ namespace: plants, name: web }}\nspec: {{ owner: Operations, \
         members: {{ matchLabels: {{ role: web }} }}, keepHealthy: {}, contacts: [operations] }}\n",
        rules.keep_healthy
    )
}

fn filled(policy: &str, rules: &Rules) -> String {
    let rollout =
        format!("rollout: {{ waves: {:?}, settle: {}s, maxErrors: {} }}", rules.waves, rules.settle, rules.max_errors);
    let mut guards = format!(
        "cooldown: {}s, budget: {{ perTarget: {}, perPolicy: {}, within: {}s }}, disturb: {{ hosts: {}, percent: 100, over: {}s }}",
        rules.cooldown, rules.per_target, rules.per_policy, rules.within, rules.disturb, rules.over
    );
    if rules.calendar {
        guards.push_str(", calendar: business-hours");
    }
    let otherwise = if rules.undo { "otherwise: undo" } else { "otherwise: next" };
    policy
        .replace("ROLLOUT", &rollout)
        .replace("GUARDS", &guards)
        .replace("OTHERWISE", otherwise)
        .replace("PLACE", "role: web")
}

/// Tries a property on random cases; it says how often the engine acted, so that a property of a fleet on which nothing
/// ever happens fails.
pub(crate) fn over<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> usize) {
    let acts = std::cell::Cell::new(0);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let result = TestRunner::new(config).run(strategy, |value| {
        acts.set(acts.get() + property(value));
        Ok(())
    });
    match result {
        Ok(()) => assert!(acts.get() > 0, "nothing was ever done: the property says nothing"),
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nthe smallest case: {case:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

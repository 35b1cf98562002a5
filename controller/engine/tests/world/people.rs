//! What the people of the world do: they ask, sign, approve, deny, run and apply.

use quell_engine::{
    Actor, Input,
    id::PlanId,
    input::{Refusal, Reply, Request},
};
use quell_model::{
    name::FullName,
    trust::{
        approvals::Signed,
        run::{Hosts, Run},
    },
};

use super::{World, canonical, shop, signing};

impl World {
    /// A person asks for something.
    pub fn ask(&mut self, person: &str, request: Request) -> Result<Reply, Refusal> {
        self.step(Input::Request { actor: Actor::Person(person.to_owned()), request: Box::new(request) })
            .expect("a request is answered")
    }

    /// A person approves a plan as it stands.
    pub fn approve(&mut self, person: &str, roles: &[&str], plan: PlanId) -> Result<Reply, Refusal> {
        self.decide(person, roles, plan, true)
    }

    /// A person denies a plan.
    pub fn deny(&mut self, person: &str, roles: &[&str], plan: PlanId) -> Result<Reply, Refusal> {
        self.decide(person, roles, plan, false)
    }

    fn decide(&mut self, person: &str, roles: &[&str], plan: PlanId, approve: bool) -> Result<Reply, Refusal> {
        let hash = self.state.plans.get(&plan).map(|row| row.hash).unwrap_or_default();
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let signature = approve.then(|| self.sign_vote(person, plan, None));
        let reason = "seen".to_owned();
        self.ask(person, Request::Decide { plan, hash, choice: None, reason, approve, roles, signature })
    }

    /// A person's signature for a choice (absent: the first) about a plan as it stands.
    pub fn sign_vote(&self, person: &str, plan: PlanId, choice: Option<&str>) -> Signed {
        let row = self.state.plans.get(&plan);
        let needs = row.and_then(|row| row.needs.as_ref());
        let role = needs.map_or("operator", |needs| needs.role.as_str());
        let first = needs.and_then(|needs| needs.choices.first()).map_or("approve", String::as_str);
        signing::vote(person, role, row.map(|row| row.hash).unwrap_or_default(), choice.unwrap_or(first))
    }

    /// A person's run of an action, to be signed; its identifier is new.
    pub fn a_run(&mut self, action: &str, hosts: impl Into<Hosts>, with: serde_json::Value) -> Run {
        self.count += 1;
        let serde_json::Value::Object(with) = with else {
            return Run::new(format!("run-{}", self.count), action.to_owned(), serde_json::Map::new(), hosts);
        };
        Run::new(format!("run-{}", self.count), action.to_owned(), with, hosts)
    }

    /// A person signs a run and asks for it.
    pub fn run_by(&mut self, person: &str, run: Run) -> Result<Reply, Refusal> {
        let request = signing::order(person, &self.state, self.now, run);
        self.ask(person, request)
    }

    /// Applies manifests written in YAML.
    pub fn apply(&mut self, yaml: &str) {
        self.put(canonical(yaml), Vec::new());
    }

    pub(super) fn put(&mut self, put: Vec<String>, remove: Vec<(String, FullName)>) {
        let request = signing::apply("admin", &self.state, self.now, put, remove);
        self.ask("admin", request).unwrap();
    }

    /// Removes a manifest.
    pub fn remove(&mut self, kind: &str, name: &str) {
        let name: FullName = format!("plants/{name}").parse().unwrap();
        self.put(Vec::new(), vec![(kind.to_owned(), name)]);
    }

    /// Applies the shop's own policies, with some of their values set otherwise.
    pub fn apply_shop(&mut self, set: &[(&str, &str)]) {
        self.apply_files(&["calendars", "contacts", "services", "monitoring", "storage", "orders", "dns"], set);
    }

    /// Applies some of the shop's files.
    pub fn apply_files(&mut self, files: &[&str], set: &[(&str, &str)]) {
        self.put(shop::files(files, set), Vec::new());
    }
}

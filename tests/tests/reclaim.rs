//! Low storage that only Compliance can decide about, end to end: real processes, real files, an approval that is an SSH
//! signature over exactly the list that the host gave.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use quell_link::signing::NewKey;
use quell_tests::fleet::{Fleet, Host, wait_for};
use serde_json::Value;

const MIB: usize = 1 << 20;
/// Of this the directory's files may take 80 % before anybody is asked.
const CAPACITY: usize = 10 * MIB;
/// Patience with a machine that does other things as well.
const SOON: Duration = Duration::from_secs(120);

/// One host whose log directory is full, and somebody of Compliance.
struct Shop {
    fleet: Fleet,
    logs: PathBuf,
    /// What the person answers with: her profile and her key.
    eve: [PathBuf; 2],
}

impl Shop {
    fn open(scratch: &Path) -> Self {
        let logs = scratch.join("logs");
        fs::create_dir(&logs).unwrap();
        let mut fleet = Fleet::start(&scratch.join("quell")).unwrap();
        let agent_toml = format!(
            "[allow]\nactions = [\"disk.reclaim\"]\nreclaim = [{logs:?}]\n[[mount]]\npath = {logs:?}\ncapacity = \"{CAPACITY}B\"\n"
        );
        let host =
            Host { name: "planthost2".to_owned(), labels: vec![("role".to_owned(), "app".to_owned())], agent_toml };
        let data = fleet.agent_data(&host.name);
        fs::create_dir_all(&data).unwrap();
        let holds = format!("[[legal-hold]]\npath = {:?}\nreason = \"case 2026-17\"\n", logs.join("audit.log*"));
        fs::write(data.join("legal-holds.toml"), holds).unwrap();
        fleet.enrol(&host).unwrap();
        let eve = admit(&fleet, scratch);
        let shop = Self { fleet, logs, eve };
        shop.file("app.log", MIB, false);
        shop.apply(scratch);
        shop
    }

    /// The shop's own policies, with short times.
    fn apply(&self, scratch: &Path) {
        let policies = scratch.join("policies");
        fs::create_dir(&policies).unwrap();
        for name in ["calendars.yaml", "contacts.yaml", "services.yaml", "storage.yaml"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies").join(name);
            fs::copy(from, policies.join(name)).unwrap();
        }
        let settings = [
            ("appLog", self.logs.join("app.log").display().to_string()),
            ("reclaimDirectory", self.logs.display().to_string()),
            ("reclaimAfter", "0s".to_owned()),
            ("reclaimRemind", "2s".to_owned()),
            ("settle", "1s".to_owned()),
            ("storageWithin", "60s".to_owned()),
        ];
        let settings: Vec<(String, String)> = settings.map(|(name, value)| (name.to_owned(), value)).into();
        self.fleet.apply(&policies, &settings).unwrap();
    }

    /// Puts a file into the directory; an old one was last written a month ago.
    fn file(&self, name: &str, size: usize, is_old: bool) -> PathBuf {
        let path = self.logs.join(name);
        // It must not be seen before it is as old as it is to be.
        let beside = self.logs.with_extension("new");
        fs::write(&beside, vec![b'x'; size]).unwrap();
        if is_old {
            let month = Duration::from_secs(30 * 86_400);
            let file = File::options().write(true).open(&beside).unwrap();
            file.set_modified(SystemTime::now() - month).unwrap();
        }
        fs::rename(beside, &path).unwrap();
        path
    }

    fn there(&self, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| self.logs.join(name).exists()).collect()
    }

    fn plans(&self) -> Vec<Value> {
        let plans = self.fleet.items("plans", &["--all"]).unwrap();
        plans.into_iter().filter(|plan| plan["rung"] == "reclaim").collect()
    }

    fn plan(&self, id: &str) -> Value {
        self.plans().into_iter().find(|plan| plan["id"] == id).unwrap()
    }

    /// Waits for a plan that nobody has seen yet, in a state; answers its number.
    fn new_plan(&self, state: &str, seen: &[String]) -> String {
        let is_new = |plan: &Value| plan["state"] == state && !seen.iter().any(|id| plan["id"] == **id);
        let found = wait_for(
            SOON,
            || format!("no new plan is {state}: {:#?}\n{}", self.plans(), self.events()),
            || self.plans().into_iter().find(is_new),
        );
        found.unwrap()["id"].as_str().unwrap().to_owned()
    }

    fn until(&self, plan: &str, state: &str) {
        let describe = || format!("{plan} is not {state}: {:#}\n{}", self.plan(plan), self.events());
        wait_for(SOON, describe, || (self.plan(plan)["state"] == state).then_some(())).unwrap();
    }

    fn events(&self) -> String {
        self.fleet.quell(&["events"]).unwrap()
    }

    /// What eve says, and what came of it.
    fn eve(&self, arguments: &[&str]) -> Output {
        let [profile, _] = &self.eve;
        Command::new(self.fleet.cli()).arg("--profile").arg(profile).args(arguments).output().unwrap()
    }

    /// Eve signs for a choice.
    fn approves(&self, plan: &str, choice: &str) -> String {
        let key = self.eve[1].to_str().unwrap().to_owned();
        let output = self.eve(&["approve", plan, "--choose", choice, "--reason", "seen", "--key", &key]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
}

/// Makes somebody of Compliance: an operator by her profile, and a key that hosts believe for that role alone.
fn admit(fleet: &Fleet, scratch: &Path) -> [PathBuf; 2] {
    let [profile, key, public] = ["eve.toml", "eve.key", "eve.pub"].map(|name| scratch.join(name));
    let made = NewKey::make("eve").unwrap();
    fs::write(&key, made.private).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&public, format!("{} eve\n", made.public)).unwrap();
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let create = ["operator", "create", "eve", "--role", "operator", "--role", "compliance", "--to", &text(&profile)];
    fleet.quell(&create).unwrap();
    fleet.quell(&["trust", "add", "eve", &text(&public), "--namespaces", "quell-approval.compliance"]).unwrap();
    [profile, key]
}

#[test]
fn compliance_clears_asks_for_storage_or_rejects_and_nothing_else_goes() {
    let scratch = tempfile::tempdir().unwrap();
    let shop = Shop::open(scratch.path());
    let old = ["app.log.1.gz", "app.log.2.gz"];
    let kept = ["app.log", "audit.log.1", "app.log.3"];
    shop.file("audit.log.1", MIB, true);
    let open = shop.file("app.log.3", MIB, true);
    let _reader = File::open(open).unwrap();
    shop.file(old[0], 3 * MIB, true);
    shop.file(old[1], 3 * MIB, true);

    // The list, the question, the reminder.
    let first = shop.new_plan("proposed", &[]);
    let shown = shop.fleet.quell(&["describe", "plan", &first]).unwrap();
    for line in ["would touch 2, 6.0 MiB", "app.log.1.gz (3.0 MiB): last changed ", "audit.log.1", "case 2026-17"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let listed: Vec<Value> = shop.plan(&first)["steps"][0]["items"].as_array().unwrap().clone();
    let object = |name: &str| shop.logs.join(name).display().to_string();
    let objects: Vec<&str> = listed.iter().map(|item| item["object"].as_str().unwrap()).collect();
    assert_eq!(objects, [object(old[0]), object(old[1])]);
    wait_for(SOON, || shop.events(), || shop.events().contains("still wants an approval").then_some(())).unwrap();
    assert_eq!(shop.there(&old), [true, true], "nothing goes before somebody has decided");

    // Only Compliance decides, and only by a signature.
    let refused = shop.fleet.quell(&["approve", &first, "--choose", "clear"]).unwrap_err().to_string();
    assert!(refused.contains("is decided by role compliance"), "{refused}");

    // What came after the approval was asked for is not what was approved.
    shop.file("app.log.4.gz", MIB / 2, true);
    let said = shop.approves(&first, "clear");
    assert!(said.contains("app.log.2.gz"), "what is signed is shown: {said}");
    shop.until(&first, "cancelled");
    let second = shop.new_plan("proposed", std::slice::from_ref(&first));
    assert_eq!(shop.there(&old), [true, true], "the host refused: {}", shop.events());
    assert!(shop.plan(&first)["verification"].as_str().unwrap().contains("has moved since its preview"));
    assert_ne!(shop.plan(&first)["hash"], shop.plan(&second)["hash"]);
    assert!(shop.plan(&second)["approvals"].as_array().is_none_or(Vec::is_empty));

    // Approved as it is listed now it is done, and verified.
    shop.approves(&second, "clear");
    shop.until(&second, "succeeded");
    assert_eq!(shop.there(&[old[0], old[1], "app.log.4.gz"]), [false; 3]);
    assert_eq!(shop.there(&kept), [true; 3], "what is held, open or young stays");

    // Full again: more storage is wanted instead.
    shop.file("app.log.5.gz", 6 * MIB, true);
    let third = shop.new_plan("proposed", &[first.clone(), second.clone()]);
    shop.approves(&third, "storage");
    shop.until(&third, "denied");
    let events = shop.events();
    assert!(events.contains("Compliance asks for more storage for planthost2:"), "{events}");
    let incident = shop.plan(&third)["incident"].as_str().unwrap().to_owned();
    let acknowledged = shop.fleet.items("incidents", &[]).unwrap().into_iter().find(|one| one["id"] == *incident);
    assert_eq!(acknowledged.unwrap()["acknowledgedBy"], "eve");
    assert!(shop.logs.join("app.log.5.gz").exists());

    // The storage came, and later it is full once more: Compliance says no.
    fs::remove_file(shop.logs.join("app.log.5.gz")).unwrap();
    let is_open = || shop.fleet.items("incidents", &[]).unwrap().iter().any(|one| one["id"] == *incident);
    wait_for(SOON, || shop.events(), || (!is_open()).then_some(())).unwrap();
    shop.file("app.log.6.gz", 6 * MIB, true);
    let fourth = shop.new_plan("proposed", &[first, second, third]);
    let output = shop.eve(&["deny", &fourth, "--reason", "evidence"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    shop.until(&fourth, "denied");
    assert!(shop.logs.join("app.log.6.gz").exists(), "{}", shop.events());
    assert_eq!(shop.there(&kept), [true; 3]);
}

//! What was acknowledged is there after a kill at any moment, and what could not be kept was not done: a full disk and one that became read-only.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use meridian::answer::Dice;
use meridian::control::unix_now;
use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::{Meridian, PATIENCE, addresses};
use crate::rate_limit::metric;
use crate::rest::Rest;
use crate::stand_in::http_client;

/// Pools with endpoints whose weights are changed.
const POOLS: usize = 20;
/// At the same time.
const WRITERS: usize = 32;
/// In one round, if it is not killed before.
const WRITES: usize = 500;

fn zone() -> String {
    let mut zone = String::from("[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[records]\nwww.A = \"192.0.2.80\"\n");
    for pool in 0..POOLS {
        zone += &format!("[pool.p{pool}]\nendpoints = [\"10.0.{pool}.1\", \"10.0.{pool}.2\"]\n[steer.s{pool}]\nuse = \"p{pool}\"\n");
    }
    zone
}

/// What the writers know.
#[derive(Default)]
struct Known {
    /// Acknowledged, and not asked to go: id, target and weight.
    laid: BTreeMap<u64, (String, u64)>,
    /// Asked to go without an acknowledgement: either way is right.
    doubtful: BTreeSet<u64>,
    gone: BTreeSet<u64>,
}

/// Writes until `stop`, or until all is written; every third write takes one of its own back.
async fn write(base: String, token: String, seed: u64, known: Arc<Mutex<Known>>, written: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    let client = http_client();
    let mut dice = Dice::new(seed, 0);
    let mut own: Vec<u64> = Vec::new();
    while !stop.load(Relaxed) && written.fetch_add(1, Relaxed) < WRITES {
        if dice.roll().is_multiple_of(3)
            && let Some(id) = own.pop()
        {
            known.lock().expect("no panic").doubtful.insert(id);
            let reply = client.delete(format!("{base}/v1/overlays/{id}")).bearer_auth(&token).send().await;
            if reply.is_ok_and(|reply| reply.status() == 200) {
                let mut known = known.lock().expect("no panic");
                known.doubtful.remove(&id);
                known.laid.remove(&id);
                known.gone.insert(id);
            }
            continue;
        }
        let (pool, weight) = (dice.roll() % POOLS as u64, 2 + dice.roll() % 1000);
        let target = format!("example.com/p{pool}/10.0.{pool}.{}", 1 + dice.roll() % 2);
        let body = json!({ "target": target, "set": { "weight": weight }, "reason": "a try", "expires": "1h" });
        let reply = client.post(format!("{base}/v1/overlays")).bearer_auth(&token).json(&body).send().await;
        let Ok(reply) = reply else { return };
        if reply.status() != 201 {
            // Too many at a time: a moment later.
            assert_eq!(reply.status(), 429, "{:?}", reply.text().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        let Ok(laid) = reply.json::<Value>().await else { return };
        let id = laid["id"].as_u64().expect("an id");
        known.lock().expect("no panic").laid.insert(id, (target, weight));
        own.push(id);
    }
}

/// Every overlay there is, page by page.
fn overlays(rest: &Rest) -> BTreeMap<u64, (String, u64)> {
    let mut all = BTreeMap::new();
    let mut path = "/v1/overlays?limit=1000".to_string();
    loop {
        let page = rest.get(&path);
        for overlay in page["overlays"].as_array().expect("a list") {
            let weight = overlay["set"]["weight"].as_u64().unwrap_or_else(|| panic!("half of an overlay: {overlay}"));
            all.insert(overlay["id"].as_u64().expect("an id"), (overlay["target"].as_str().expect("a target").into(), weight));
        }
        match &page["next"] {
            Value::Null => return all,
            next => path = format!("/v1/overlays?limit=1000&cursor={}", next.as_str().map_or_else(|| next.to_string(), str::to_string)),
        }
    }
}

/// The ids that the audit log says were laid and reverted.
fn audited(rest: &Rest) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut laid, mut reverted) = (BTreeSet::new(), BTreeSet::new());
    let mut path = "/v1/audit?kind=change&action=overlay&limit=1000".to_string();
    loop {
        let page = rest.get(&path);
        for entry in page["entries"].as_array().expect("a list").iter().filter(|entry| entry["outcome"] == "done") {
            let detail = entry["detail"].as_str().unwrap_or_default();
            let id: Option<u64> = detail.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok());
            let list = if entry["action"] == "overlay.lay" { &mut laid } else { &mut reverted };
            list.extend(id);
        }
        match &page["next"] {
            Value::Null => return (laid, reverted),
            next => path = format!("/v1/audit?kind=change&action=overlay&limit=1000&cursor={next}"),
        }
    }
}

#[test]
fn acknowledged_changes_survive_kills_at_random_moments() {
    // scripts/durability.sh asks for many.
    let rounds = std::env::var("MERIDIAN_DURABILITY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let mut server = Meridian::start(&[("zones/example.com.toml", &zone())]);
    let mut dice = Dice::new(u64::from(std::process::id()), 1);
    let known = Arc::new(Mutex::new(Known::default()));
    for round in 0..rounds {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (base, token) = (format!("http://{}", server.admin), server.token());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let writers: Vec<_> = (0..WRITERS as u64)
            .map(|n| runtime.spawn(write(base.clone(), token.clone(), round * 1000 + n, known.clone(), written.clone(), stop.clone())))
            .collect();
        let kill_at = 1 + dice.roll() as usize % (WRITES - 50);
        let began = Instant::now();
        while written.load(Relaxed) < kill_at && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_micros(200 + dice.roll() % 800));
        }
        server.signal("KILL");
        stop.store(true, Relaxed);
        for writer in writers {
            runtime.block_on(writer).expect("no panic");
        }
        drop(runtime);
        server = server.restart_dead();
        let rest = Rest::new(&server);
        let (there, known) = (overlays(&rest), known.lock().expect("no panic"));
        for (id, overlay) in known.laid.iter().filter(|(id, _)| !known.doubtful.contains(id)) {
            assert_eq!(there.get(id), Some(overlay), "acknowledged and lost, round {round}, killed after {kill_at}");
        }
        let back: Vec<_> = known.gone.iter().filter(|id| there.contains_key(id)).collect();
        assert!(back.is_empty(), "taken back and there again: {back:?}, round {round}");
        // A change and its entry are kept together: none is there without the other.
        let (laid, reverted) = audited(&rest);
        let unsaid: Vec<_> = there.keys().filter(|id| !laid.contains(id)).collect();
        assert!(unsaid.is_empty(), "there without an entry: {unsaid:?}");
        let undone: Vec<_> = laid.iter().filter(|id| !there.contains_key(id) && !reverted.contains(id)).collect();
        assert!(undone.is_empty(), "said and not there: {undone:?}");
    }
    let known = known.lock().expect("no panic");
    assert!(known.laid.len() + known.gone.len() > 50, "too few writes to say anything: {} and {}", known.laid.len(), known.gone.len());
}

/// A server whose state is on a small disk of its own.
struct Small(Meridian);

impl Small {
    fn new() -> Small {
        Small::start(tempfile::tempdir().expect("a folder"), "mount -t tmpfs -o size=1m none small && exec \"$@\"")
    }

    /// `script` prepares the folder `small` and runs the program.
    fn start(folder: tempfile::TempDir, script: &str) -> Small {
        for made in ["zones", "small"] {
            std::fs::create_dir_all(folder.path().join(made)).expect("a folder");
        }
        let config = "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[state]\npath = \"small/meridian.db\"\n";
        std::fs::write(folder.path().join("meridian.toml"), config).expect("written");
        std::fs::write(folder.path().join("zones/example.com.toml"), zone()).expect("written");
        let mut program = Command::new("unshare");
        program.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_meridian")]);
        Small(Meridian::start_by(program, folder))
    }

    /// A path on the small disk as it is seen from outside.
    fn path(&self, name: &str) -> std::path::PathBuf {
        let inside = self.0.path().join("small").join(name);
        std::path::Path::new(&format!("/proc/{}/root", self.0.pid())).join(inside.strip_prefix("/").expect("absolute"))
    }

    fn rest(&self) -> Rest {
        let token = std::fs::read_to_string(self.path("admin.token")).expect("the token");
        Rest::of(&self.0, token.trim())
    }

    fn lay(rest: &Rest, weight: u64) -> (u16, Value) {
        let body = json!({ "target": "example.com/p1/10.0.1.1", "set": { "weight": weight }, "reason": "r".repeat(400), "expires": "1h" });
        rest.call(Method::POST, "/v1/overlays", Some(body))
    }

    fn answers(&self) {
        assert_eq!(addresses(&self.0.ask("www.example.com.", RecordType::A)).len(), 1);
    }
}

#[test]
fn a_full_disk_refuses_changes_loses_none_and_is_said() {
    let small = Small::new();
    let rest = small.rest();
    let mut acknowledged = BTreeSet::new();
    // Nearly full at once.
    std::fs::write(small.path("filler"), vec![0; 400 << 10]).expect("there is room");
    let mut refusal = None;
    for weight in 2..2000 {
        match Small::lay(&rest, weight) {
            (201, laid) => drop(acknowledged.insert(laid["id"].as_u64().expect("an id"))),
            (429, _) => std::thread::sleep(Duration::from_millis(50)),
            (status, problem) => {
                refusal = Some((status, problem));
                break;
            }
        }
    }
    let (status, problem) = refusal.expect("the disk is full at some time");
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("full") && detail.contains("nothing was changed")), "{problem}");
    small.answers();
    let degraded = rest.get("/v1/status")["degraded"].to_string();
    assert!(degraded.contains("full"), "{degraded}");
    assert_eq!(overlays(&rest).into_keys().collect::<BTreeSet<u64>>(), acknowledged);
    // With room again it goes on by itself.
    std::fs::remove_file(small.path("filler")).expect("removed");
    let began = Instant::now();
    while Small::lay(&rest, 7).0 != 201 {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", Small::lay(&rest, 7));
        std::thread::sleep(Duration::from_millis(100));
    }
    let degraded = rest.get("/v1/status")["degraded"].to_string();
    assert!(!degraded.contains("full"), "{degraded}");
}

/// The same for a limit on the size of files, which is a signal as well; the query log meets it, too.
#[test]
fn a_limit_on_files_refuses_changes_and_ends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for made in ["zones", "log"] {
        std::fs::create_dir(folder.path().join(made)).expect("a folder");
    }
    let config =
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[query_log]\nfile = \"log/q\"\nformat = \"json\"\nsample = 1\n";
    std::fs::write(folder.path().join("meridian.toml"), config).expect("written");
    std::fs::write(folder.path().join("zones/example.com.toml"), zone()).expect("written");
    let mut program = Command::new("prlimit");
    program.args(["--fsize=614400:unlimited", "--", env!("CARGO_BIN_EXE_meridian")]);
    let mut server = Meridian::start_by(program, folder);
    let rest = Rest::new(&server);
    let mut refusal = None;
    for weight in 2..5000 {
        match Small::lay(&rest, weight) {
            (201, _) => {}
            (429, _) => std::thread::sleep(Duration::from_millis(50)),
            (status, problem) => {
                refusal = Some((status, problem));
                break;
            }
        }
    }
    let (status, problem) = refusal.expect("the limit is met at some time");
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    let began = Instant::now();
    while metric(&server, "meridian_query_log_errors_total") == 0 {
        assert!(began.elapsed() < PATIENCE, "the query log never meets the limit");
        (0..100).for_each(|_| drop(server.ask("www.example.com.", RecordType::A)));
    }
    assert!(rest.get("/v1/status")["degraded"].to_string().contains("kept"));
    // Without the limit it goes on by itself.
    let pid = server.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().expect("prlimit runs").success());
    let began = Instant::now();
    while Small::lay(&rest, 7).0 != 201 {
        assert!(began.elapsed() < PATIENCE, "{:?}", Small::lay(&rest, 7));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.terminate().1, Some(0));
}

/// Nobody else has anything there to remove.
#[test]
fn a_disk_that_the_state_alone_has_filled_can_be_read_and_takes_changes_back() {
    let small = Small::new();
    let rest = small.rest();
    let (mut laid, mut refusal) = (Vec::new(), Value::Null);
    for weight in 2..20_000 {
        match Small::lay(&rest, weight) {
            (201, reply) => laid.push(reply["id"].as_u64().expect("an id")),
            (429, _) => std::thread::sleep(Duration::from_millis(50)),
            (status, problem) => {
                assert_eq!(status, 503, "{problem}");
                refusal = problem;
                break;
            }
        }
    }
    assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains("kept for taking changes back")), "{refusal}");
    // Refused all the time, and beside that all that is there can be read.
    for _ in 0..20 {
        assert_eq!(Small::lay(&rest, 7).0, 503);
        let page = rest.get("/v1/audit?limit=1000");
        assert!(
            page["entries"].as_array().is_some_and(|entries| entries.len() >= laid.len().min(900)),
            "{}",
            page["entries"].as_array().map_or(0, Vec::len)
        );
        let health = rest.get("/v1/health/example.com/p1/10.0.1.1");
        assert_eq!(health["endpoint"]["id"], "example.com/p1/10.0.1.1");
    }
    let page = rest.get("/v1/audit?limit=1");
    assert!(page["incomplete"].as_str().is_some_and(|why| why.contains("wait until the state can be written")), "{page}");
    // All of it can be taken back, however much is said about each; what gives way in the log is its oldest part.
    let began = Instant::now();
    for id in &laid {
        loop {
            match rest.call(Method::DELETE, &format!("/v1/overlays/{id}"), Some(json!({ "reason": "r".repeat(500) }))) {
                (200, _) => break,
                (429, _) => std::thread::sleep(Duration::from_millis(50)),
                (status, reply) => panic!("overlay {id} of {}: {status} {reply}", laid.len()),
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{id}");
        }
    }
    let last = rest.get("/v1/audit?action=overlay.revert&limit=1")["entries"][0].clone();
    assert_eq!((&last["outcome"], last["reason"].as_str().map(str::len)), (&json!("done"), Some(500)), "{last}");
    let began = Instant::now();
    while Small::lay(&rest, 7).0 != 201 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", Small::lay(&rest, 7));
        std::thread::sleep(Duration::from_millis(100));
    }
    small.answers();
}

/// The disk of the zones is another one than that of the state.
#[test]
fn a_promotion_that_the_disk_of_the_zones_cannot_take_is_no_fault_of_the_request() {
    let script = "mkdir kept && cp zones/* kept && mount -t tmpfs -o size=64k none zones && cp kept/* zones && exec \"$@\"";
    let small = Small::start(tempfile::tempdir().expect("a folder"), script);
    let rest = small.rest();
    let zones = small.path("..").join("zones");
    let (_, laid) = Small::lay(&rest, 7);
    let _ = std::fs::write(zones.join("filler"), vec![0; 1 << 20]);
    let (status, problem) = rest.call(Method::POST, &format!("/v1/overlays/{}/promote", laid["id"]), Some(json!({})));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    let words = ["example.com.toml: ", "no space left on device", "nothing was changed"];
    assert!(problem["detail"].as_str().is_some_and(|detail| words.iter().all(|word| detail.contains(word))), "{problem}");
    assert_eq!(rest.get("/v1/audit?action=overlay.promote&limit=1")["entries"][0]["outcome"], "store");
    let left: BTreeSet<_> = std::fs::read_dir(&zones).expect("the zones").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["example.com.toml", "filler"].map(Into::into).into(), "nothing is left beside it");
    assert_eq!(std::fs::read_to_string(zones.join("example.com.toml")).expect("the file"), zone());
    std::fs::remove_file(zones.join("filler")).expect("removed");
    let (status, promoted) = rest.call(Method::POST, &format!("/v1/overlays/{}/promote", laid["id"]), Some(json!({})));
    assert_eq!(status, 200, "{promoted}");
}

/// Whatever comes free is written over by somebody else at once.
#[test]
fn changes_are_taken_back_on_a_disk_that_another_program_fills() {
    let small = Small::new();
    let rest = small.rest();
    let laid = (2..32).map(|weight| rest.lay("example.com/p1/10.0.1.1", json!({ "weight": weight }))).collect::<Vec<u64>>();
    let (stop, filler) = (AtomicBool::new(false), small.path("filler"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut file = std::fs::File::create(&filler).expect("made");
            while !stop.load(Relaxed) {
                if file.write_all(&[0; 4096]).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        // Whoever panics stops it as well.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _stop = Stop(&stop);
        let began = Instant::now();
        while Small::lay(&rest, 7).0 != 503 {
            assert!(began.elapsed() < Duration::from_secs(30), "the disk never is full");
        }
        for id in &laid {
            loop {
                match rest.call(Method::DELETE, &format!("/v1/overlays/{id}"), Some(json!({ "reason": "r".repeat(500) }))) {
                    (200, _) => break,
                    (429, _) => std::thread::sleep(Duration::from_millis(50)),
                    (status, reply) => panic!("overlay {id}: {status} {reply}"),
                }
            }
        }
        assert_eq!(Small::lay(&rest, 7).0, 503);
        small.answers();
    });
    let last = rest.get("/v1/audit?action=overlay.revert&limit=1")["entries"][0].clone();
    assert_eq!((&last["outcome"], &last["detail"]), (&json!("done"), &json!(format!("overlay {}, laid by admin", laid[laid.len() - 1]))), "{last}");
    let told = |action: &str| rest.get(&format!("/v1/audit?action={action}&kind=change&limit=1000"))["entries"].as_array().map_or(0, Vec::len);
    assert!(told("overlay.lay") >= 30 && told("overlay.revert") == 30, "what is free in the file holds them: nothing had to give way");
    std::fs::remove_file(small.path("filler")).expect("removed");
    let began = Instant::now();
    while Small::lay(&rest, 7).0 != 201 {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", Small::lay(&rest, 7));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_happened_while_the_disk_was_full_is_in_the_log_once_there_is_room() {
    let small = Small::new();
    let rest = small.rest();
    // Full to the last octet: the state has nothing to grow into.
    let _ = std::fs::write(small.path("filler"), vec![0; 2 << 20]);
    let mut weight = 2;
    let began = Instant::now();
    while Small::lay(&rest, weight).0 != 503 {
        assert!(began.elapsed() < Duration::from_secs(30), "the disk never is full");
        weight += 1;
    }
    let before = unix_now();
    let ways = ["first", "second", "third"];
    for reason in ways {
        rest.post("/v1/reload", json!({ "break_glass": true, "reason": reason }));
        let nowhere = json!({ "target": "example.com/none", "set": { "weight": 1 }, "reason": reason });
        assert_eq!(rest.call(Method::POST, "/v1/overlays", Some(nowhere)).0, 404);
    }
    assert_eq!(rest.with_token("meridian_none").call(Method::DELETE, "/v1/overlays/1", None).0, 401);
    assert_eq!(Small::lay(&rest, 7).0, 503, "it is full still");
    let after = unix_now();
    std::fs::remove_file(small.path("filler")).expect("removed");
    let began = Instant::now();
    let kept = loop {
        // Beside a write that failed before there was room, a read may fail once more.
        let (_, page) = rest.call(Method::GET, &format!("/v1/audit?since={before}&limit=1000&order=oldest"), None);
        let kept = page["entries"].as_array().cloned().unwrap_or_default();
        if kept.iter().any(|entry| entry["outcome"] == "unauthorised") {
            break kept;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{kept:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let reasons = |action: &str, outcome: &str| {
        let are = kept.iter().filter(|entry| entry["action"] == action && entry["outcome"] == outcome);
        are.map(|entry| entry["reason"].as_str().unwrap_or_default()).collect::<Vec<_>>()
    };
    assert_eq!((reasons("reload", "done"), reasons("overlay.lay", "not-found")), (ways.to_vec(), ways.to_vec()), "{kept:?}");
    assert_eq!(reasons("overlay.revert", "unauthorised").len(), 1, "{kept:?}");
    let times: Vec<u64> = kept.iter().map(|entry| entry["at"].as_u64().expect("a time")).collect();
    assert!(times.is_sorted() && times.iter().all(|at| (before..=after).contains(at)), "{before} to {after}: {kept:?}");
}

#[test]
fn a_state_that_can_only_be_read_holds_refuses_changes_and_dns_goes_on() {
    for killed in [false, true] {
        what_can_only_be_read(killed);
    }
}

fn what_can_only_be_read(killed: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let writable = Small::start(folder, "mkdir -p kept && exec \"$@\"");
    let before = writable.rest();
    assert_eq!(Small::lay(&before, 5).0, 201);
    before.lay("example.com/p2/10.0.2.1", json!({ "weight": 7 }));
    let (laid, token) = (overlays(&before), before.post("/v1/tokens", json!({ "name": "pager", "role": "read" }))["token"].clone());
    // The same files on a disk that takes no writes; after a kill the last changes are in the log alone.
    let Small(mut server) = writable;
    if killed {
        server.signal("KILL");
    } else {
        assert_eq!(server.terminate().1, Some(0));
    }
    let folder = server.into_folder();
    let script = "mv small/* kept && mount -t tmpfs none small && cp -p kept/* small && mount -o remount,ro small && exec \"$@\"";
    let small = Small::start(folder, script);
    let rest = small.rest();
    let (status, problem) = Small::lay(&rest, 6);
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    small.answers();
    let degraded = rest.get("/v1/status")["degraded"].to_string();
    assert!(degraded.contains("ead-only") || degraded.contains("only be read"), "{degraded}");
    assert_eq!(degraded.matches("no change can be kept").count(), 1, "it is said once: {degraded}");
    // What was laid holds all the same, and can be taken back by nobody.
    assert_eq!(overlays(&rest), laid);
    assert_eq!(rest.endpoint("example.com/p2/10.0.2.1")["weight"], 7);
    let id = laid.keys().next().expect("an overlay");
    assert_eq!(rest.call(Method::DELETE, &format!("/v1/overlays/{id}"), None).0, 503);
    let (status, problem) = rest.call(Method::POST, &format!("/v1/overlays/{id}/promote"), Some(json!({})));
    assert_eq!((status, &problem["type"]), (503, &json!("urn:meridian:store")), "{problem}");
    assert_eq!(std::fs::read_to_string(small.0.path().join("zones/example.com.toml")).expect("the file"), zone(), "it is not written either");
    assert_eq!(overlays(&rest), laid);
    // Who laid it can be read, and how far that goes.
    let page = rest.get("/v1/audit?action=overlay.lay");
    assert_eq!(page["entries"].as_array().map(Vec::len), Some(laid.len()), "{page}");
    assert!(page["incomplete"].as_str().is_some_and(|why| why.starts_with("these are the entries of the start")), "{page}");
    let health = rest.get("/v1/health/example.com/p2/10.0.2.1");
    assert!(health["endpoint"]["weight"] == 7 && health["history_incomplete"].is_string(), "{health}");
    let pager = rest.with_token(token.as_str().expect("a token"));
    assert_eq!(pager.call(Method::GET, "/v1/status", None).0, 200);
}

/// To look into what is no file takes for ever.
#[test]
fn what_stands_where_the_state_should_be_and_is_no_file_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    crate::meridian::write(dir.path(), "meridian.toml", crate::meridian::CONFIG);
    crate::meridian::write(dir.path(), "zones/example.com.toml", &zone());
    std::fs::create_dir(dir.path().join("state")).expect("a folder");
    assert!(Command::new("mkfifo").arg(dir.path().join("state/meridian.db")).status().expect("mkfifo runs").success());
    let server = Meridian::start_in(dir);
    assert_eq!(server.ask("www.example.com.", RecordType::A).answers.len(), 1);
    let degraded = Rest::new(&server).get("/v1/status")["degraded"].to_string();
    assert!(degraded.contains("not a regular file"), "{degraded}");
}

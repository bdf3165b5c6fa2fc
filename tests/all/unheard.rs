//! A standard error that takes nothing: full, gone, or not read. It ends nothing and holds nothing; what is lost is counted and told.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType::A;
use serde_json::Value;

use crate::meridian::{Asker, PATIENCE, addresses, free_port, write};

/// The program on ports that were free, with nobody who reads what it says.
struct Deaf {
    child: Child,
    dir: tempfile::TempDir,
    dns: SocketAddr,
    admin: SocketAddr,
}

/// Looks until there is something.
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Deaf {
    fn start(zone: &str, mut stderr: impl FnMut() -> Stdio) -> Deaf {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), "zones/example.com.toml", zone);
        // A port that was free may be another's a moment later.
        for _ in 0..5 {
            let [dns, admin] = [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            let config = format!("[server]\nlisten = [\"{dns}\"]\nthreads = 1\n[admin]\nlisten = \"{admin}\"\nrequests_per_second = 100000\n");
            write(dir.path(), "meridian.toml", &config);
            let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
                .arg("run")
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr())
                .spawn()
                .expect("the program starts");
            let is_there = wait("it neither serves nor ends", || {
                let is_dead = child.try_wait().expect("its state").is_some();
                let is_ready = || call(admin, "/readyz", "").is_some_and(|(status, _)| status == 200);
                is_dead.then_some(false).or_else(|| is_ready().then_some(true))
            });
            if is_there {
                return Deaf { child, dir, dns, admin };
            }
        }
        panic!("it never starts");
    }

    fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state/admin.token")).expect("the token").trim().to_string()
    }

    /// A call with the token; it must be answered.
    fn get(&self, path: &str) -> (u16, String) {
        call(self.admin, path, &self.token()).unwrap_or_else(|| panic!("no reply to {path}"))
    }

    /// What it says of the log in its status.
    fn trouble(&self) -> Option<String> {
        let status: Value = serde_json::from_str(&self.get("/v1/status").1).expect("JSON");
        let degraded = status["degraded"].as_array().expect("a list");
        degraded.iter().filter_map(Value::as_str).find(|why| why.starts_with("log: ")).map(str::to_owned)
    }

    fn lost(&self) -> u64 {
        let page = self.get("/metrics").1;
        let line = page.lines().find_map(|line| line.strip_prefix("meridian_log_lines_lost_total ")).expect("the metric");
        line.parse().expect("a number")
    }

    fn www(&self) -> Vec<String> {
        addresses(&Asker::new(self.dns).ask("www.example.com.", A, None)).iter().map(ToString::to_string).collect()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().expect("kill runs").success());
    }

    fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        wait("it does not end on SIGTERM", || self.child.try_wait().expect("its state"))
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body, if anybody answers.
fn call(admin: SocketAddr, path: &str, token: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n").as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let status = reply.split(' ').nth(1)?.parse().ok()?;
    Some((status, reply.split_once("\r\n\r\n")?.1.to_owned()))
}

const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n[steer.www]\nuse = \"a\"\n";

#[test]
fn a_standard_error_that_takes_nothing_ends_nothing() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk"));
    // The only reader goes at once.
    let gone = || Stdio::from(pipe().expect("a pipe").1);
    for (stderr, why) in [(&full as &dyn Fn() -> Stdio, "No space left on device"), (&gone, "Broken pipe")] {
        let server = Deaf::start(ZONE, stderr);
        assert_eq!(server.www(), ["192.0.2.1"]);
        for _ in 0..20 {
            // Each is a line of the log.
            assert_eq!(call(server.admin, "/v1/status", "wrong").expect("a reply").0, 401);
        }
        server.signal("HUP");
        let trouble = wait("nothing is told", || server.trouble());
        assert!(trouble.contains(why), "{trouble}");
        assert_eq!((server.lost() > 0, server.www()), (true, vec!["192.0.2.1".to_owned()]));
        assert_eq!(server.terminate().code(), Some(0), "{why}");
    }
}

#[test]
fn nobody_reads_and_everything_goes_on() {
    let origin = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = origin.local_addr().expect("its address").port();
    let zone = format!(
        "[zone]\nname = \"example.com\"\nns = [\"ns.example.net.\"]\n\
         [monitor.m]\ntcp = true\nport = {port}\ninterval = \"1s\"\nfast = \"500ms\"\nfall = 1\nrise = 1\n\
         [pool.a]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"m\"\n[pool.b]\nendpoints = [\"192.0.2.2\"]\n\
         [steer.www]\npolicy = \"failover\"\nto = [\"a\", \"b\"]\n"
    );
    let mut reader: Option<PipeReader> = None;
    let server = Deaf::start(&zone, || {
        let (read, write) = pipe().expect("a pipe");
        reader = Some(read);
        write.into()
    });
    wait("the endpoint does not serve", || (server.www() == ["127.0.0.1"]).then_some(()));
    // A file with a thousand errors is a thousand lines at each reload, and a megabyte waits.
    let wrong: String = (0..1000).map(|number| format!("[pool.p{number}]\nendpoints = [\"{}\"]\n", "x".repeat(200))).collect();
    write(server.dir.path(), "zones/wrong.example.toml", &format!("[zone]\nname = \"wrong.example\"\nns = [\"ns.example.net.\"]\n{wrong}"));
    let lost = wait("no line is lost", || {
        server.signal("HUP");
        std::thread::sleep(Duration::from_millis(100));
        Some(server.lost()).filter(|lost| *lost > 0)
    });
    assert!(server.trouble().is_some());
    drop(origin);
    wait("a dead endpoint is answered", || (server.www() == ["192.0.2.2"]).then_some(()));
    assert!(server.lost() >= lost);
    // Somebody reads again: what waited comes in order, then how much is missing.
    let (lines, came) = std::sync::mpsc::channel();
    let reader = reader.expect("a reader");
    std::thread::spawn(move || BufReader::new(reader).lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    wait("the log still stands", || server.trouble().is_none().then_some(()));
    let lost = server.lost();
    assert_eq!(server.terminate().code(), Some(0));
    let lines: Vec<String> = came.iter().collect();
    assert!(lines.iter().any(|line| line.contains("serving DNS on")), "{:?}", lines.first());
    let missing =
        |line: &String| line.strip_prefix("meridian: warning: lines of the log that are missing here: ")?.split(':').next()?.parse::<u64>().ok();
    let missing = lines.iter().filter_map(missing).sum::<u64>();
    assert!(missing >= lost, "{missing} of {lost}");
}

#[test]
fn nobody_reads_and_the_end_is_obeyed() {
    let mut readers = Vec::new();
    let server = Deaf::start(ZONE, || {
        let (read, write) = pipe().expect("a pipe");
        readers.push(read);
        // Somebody else fills it, and hangs in it for as long as nobody reads.
        let mut other = write.try_clone().expect("a second end");
        std::thread::spawn(move || other.write_all(&[b'x'; 4 << 20]));
        write.into()
    });
    let trouble = wait("nothing is told", || server.trouble());
    assert!(trouble.contains("nobody reads standard error"), "{trouble}");
    assert_eq!((server.www(), server.get("/v1/overlays").0), (vec!["192.0.2.1".to_owned()], 200));
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn exit_codes_stay_what_they_are_when_nobody_hears_why() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "meridian.toml", "[server]\nlisten = [\"127.0.0.1:0\"]\n");
    write(dir.path(), "wrong.toml", "[server]\nlisten = 5\n");
    write(dir.path(), "zones/example.com.toml", "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n");
    write(dir.path(), "zones/broken.example.toml", "nonsense = 1\n");
    write(dir.path(), "ranges.csv", "network,country\n192.0.2.0/24,DE\n");
    write(dir.path(), "wrong.csv", "network,country\n192.0.2.0/99,DE\n");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    for (args, code) in [
        (&["run", "--config", "wrong.toml"][..], 1),
        (&["run", "--strict"], 1),
        (&["check", "--zone", "zones/example.com.toml", "--origin", "a..b"], 2),
        (&["check", "--nonsense"], 2),
        (&["status", "--server", &nowhere, "--token", "t"], 3),
        (&["explain", "www.example.com", "--offline", "--config", "wrong.toml"], 1),
        (&["geo", "build", "wrong.csv", "out.mmdb"], 1),
        (&["geo", "build", "ranges.csv", "out.mmdb"], 0),
    ] {
        for stderr in [Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk")), pipe().expect("a pipe").1.into()] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
                .args(args)
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr)
                .spawn()
                .expect("the program starts");
            let status = wait(&format!("{args:?} does not end"), || child.try_wait().expect("its state"));
            assert_eq!(status.code(), Some(code), "{args:?}");
        }
    }
}

//! Reference servers on loopback, out of a temporary folder: NSD, Knot DNS and BIND, and the real Meridian beside them, on the same files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meridian::dns::{Name, RecordType};

use super::chains;
use super::message::{Question, Reply, Way};
use crate::meridian::{Meridian, free_port};

/// How long a server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a reply may take before it counts as silence. Loopback on a busy machine.
const REPLY_WITHIN: Duration = Duration::from_secs(3);
/// See [`free_port`].
const ATTEMPTS: usize = 5;

/// The references, in the order of their columns.
pub const REFERENCES: [&str; 3] = ["nsd", "knot", "bind"];

/// A zone as every server reads it.
pub struct ServedZone {
    pub origin: Name,
    pub text: String,
}

/// A reference server that runs.
pub struct Reference {
    pub name: &'static str,
    pub addr: SocketAddr,
    child: Child,
    /// Holds configuration, log and state.
    dir: tempfile::TempDir,
}

impl Reference {
    /// Starts `name` on these master files (`z0.zone`, `z1.zone`, … in `files`).
    pub fn start(name: &'static str, zones: &[ServedZone], files: &Path) -> Reference {
        for _ in 0..ATTEMPTS {
            let dir = tempfile::tempdir().expect("a folder");
            let port = free_port();
            let path = dir.path();
            let (program, config, args): (&str, String, &[&str]) = match name {
                "nsd" => ("nsd", nsd(path, files, port, zones), &["-d", "-c"]),
                "knot" => ("knotd", knot(path, files, port, zones), &["-c"]),
                _ => ("named", bind(path, files, port, zones), &["-g", "-n", "1", "-c"]),
            };
            let config_path = path.join("config");
            std::fs::write(&config_path, config).expect("its configuration");
            let log = std::fs::File::create(path.join("log")).expect("its log");
            // Ends with the thread that starts it, whatever happens to the test. Debian keeps daemons where users need not look.
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "TERM", "--", program])
                .args(args)
                .arg(&config_path)
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .current_dir(path)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("its log"))
                .stderr(log)
                .spawn()
                .expect("setpriv runs");
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let mut server = Reference { name, addr, child, dir };
            if server.answers(&zones[0].origin) {
                return server;
            }
        }
        panic!("{name} did not start; `scripts/test.sh` installs what the tests need");
    }

    /// Waits until it answers at all; false when it ended.
    fn answers(&mut self, origin: &Name) -> bool {
        let began = Instant::now();
        let mut client = Client::new(self.addr);
        client.patience = Duration::from_millis(50);
        loop {
            let soa = Question { name: origin.clone(), rtype: RecordType::SOA, class: 1, way: Way { tcp: false, ..Way::TCP } };
            if client.ask_once(&soa).is_ok() {
                return true;
            }
            if self.child.try_wait().expect("its state").is_some() {
                eprintln!("{} ended:\n{}", self.name, self.log());
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "{} does not answer:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it said.
    pub fn log(&self) -> String {
        ["log", "nsd.log"]
            .map(|file| std::fs::read(self.dir.path().join(file)).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default())
            .concat()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Its process group: NSD serves from children of its own.
        let group = format!("-{}", self.child.id());
        let signal = |name: &str| drop(Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status());
        signal("-TERM");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        signal("-KILL");
        let _ = self.child.wait();
    }
}

fn nsd(dir: &Path, files: &Path, port: u16, zones: &[ServedZone]) -> String {
    let (dir, files) = (dir.display(), files.display());
    let mut text = format!(
        "server:\n server-count: 1\n ip-address: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{files}\"\n database: \"\"\n \
         logfile: \"{dir}/nsd.log\"\n pidfile: \"\"\n xfrdfile: \"{dir}/xfrd.state\"\n xfrdir: \"{dir}\"\n zonelistfile: \"{dir}/zone.list\"\n \
         tcp-count: 200\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n round-robin: no\n minimal-responses: no\n refuse-any: no\n \
         confine-to-zone: no\n answer-cookie: no\nremote-control:\n control-enable: no\n"
    );
    for (at, zone) in zones.iter().enumerate() {
        let _ = write!(text, "zone:\n name: \"{}\"\n zonefile: z{at}.zone\n", zone.origin);
    }
    text
}

fn knot(dir: &Path, files: &Path, port: u16, zones: &[ServedZone]) -> String {
    let (dir, files) = (dir.display(), files.display());
    let mut text = format!(
        "server:\n    rundir: {dir}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 2\n    background-workers: 2\n    \
         answer-rotation: off\n    automatic-acl: off\nlog:\n  - target: stderr\n    any: info\ndatabase:\n    storage: {dir}\ntemplate:\n  - id: default\n    \
         storage: {files}\n    semantic-checks: soft\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\nzone:\n"
    );
    for (at, zone) in zones.iter().enumerate() {
        let _ = write!(text, "  - domain: \"{}\"\n    file: z{at}.zone\n", zone.origin);
    }
    text
}

fn bind(dir: &Path, files: &Path, port: u16, zones: &[ServedZone]) -> String {
    let dir = dir.display();
    let mut text = format!(
        "options {{ directory \"{dir}\"; pid-file none; lock-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
         recursion no; allow-query {{ any; }}; minimal-responses no; minimal-any no; notify no; dnssec-validation no; empty-zones-enable no;\n\
         rrset-order {{ order none; }}; zone-statistics no; check-names primary ignore; check-integrity no; check-mx ignore; check-spf ignore;\n\
         check-srv-cname ignore; check-mx-cname ignore; check-dup-records ignore; check-wildcard no; answer-cookie no; max-types-per-name 0;\n\
         max-records-per-type 0; tcp-clients 500; version none; hostname none; server-id none; }};\ncontrols {{ }};\n"
    );
    for (at, zone) in zones.iter().enumerate() {
        let _ = writeln!(text, "zone \"{}\" {{ type primary; file \"{}\"; }};", zone.origin, files.join(format!("z{at}.zone")).display());
    }
    text
}

/// What is said of a reference that answers nothing any more (Knot DNS 3.2.6 has been seen to loop for ever on one of these questions).
pub const HUNG: &str = "hung";
/// Silences in a row after which a server counts as hung: replies over loopback are not lost otherwise.
const SILENCES: u32 = 3;

/// Asks one server.
pub struct Client {
    addr: SocketAddr,
    socket: UdpSocket,
    id: u16,
    silences: u32,
    pub patience: Duration,
}

impl Client {
    pub fn new(addr: SocketAddr) -> Client {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.connect(addr).expect("a way");
        Client { addr, socket, id: 0, silences: 0, patience: REPLY_WITHIN }
    }

    /// The reply; what is wrong with it, or "silence".
    pub fn ask(&mut self, question: &Question) -> Result<Reply, String> {
        if self.silences >= SILENCES {
            return Err(HUNG.into());
        }
        let reply = self.ask_once(question);
        self.silences = match &reply {
            Err(error) if error == "silence" => self.silences + 1,
            _ => 0,
        };
        reply
    }

    fn ask_once(&mut self, question: &Question) -> Result<Reply, String> {
        self.id = self.id.wrapping_add(1);
        let packet = question.encode(self.id);
        if question.way.tcp {
            return self.over_tcp(&packet).map_err(|error| format!("TCP: {error}")).and_then(|octets| Reply::decode(&octets));
        }
        self.socket.set_read_timeout(Some(self.patience)).expect("a timeout");
        // A refusal of an earlier packet may be reported here.
        if self.socket.send(&packet).is_err() {
            return Err("silence".into());
        }
        let mut buf = [0; 65_535];
        loop {
            match self.socket.recv(&mut buf) {
                Ok(len) if buf[..len].starts_with(&self.id.to_be_bytes()) => return Reply::decode(&buf[..len]),
                Ok(_) => {}
                Err(_) => return Err("silence".into()),
            }
        }
    }

    fn over_tcp(&self, packet: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], packet].concat())?;
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut octets)?;
        Ok(octets)
    }
}

/// Takes out what Meridian counts by itself in a zone that is not a master file alone.
pub fn without_serial(reply: Result<Reply, String>) -> Result<Reply, String> {
    reply.map(|mut reply| {
        for rec in reply.answer.iter_mut().chain(&mut reply.authority).filter(|rec| rec.rtype == RecordType::SOA) {
            let len = rec.rdata.len();
            if let Some(serial) = len.checked_sub(20).and_then(|at| rec.rdata.get_mut(at..at + 4)) {
                serial.fill(0);
            }
        }
        reply
    })
}

/// All four on the same zones.
pub struct Servers {
    meridian: Client,
    references: Vec<Client>,
    /// Zones that a server did not take: index, server's name, what it said.
    pub refused: Vec<(usize, &'static str, String)>,
    /// Serials are Meridian's own.
    pub ignores_serials: bool,
    _running: (Meridian, Vec<Reference>),
}

impl Servers {
    /// Starts all four on these zones. `given` are the files of Meridian in place of the master files, with `zones` as the others' view of them.
    pub fn start(zones: &[ServedZone], given: Option<&[(String, String)]>) -> Servers {
        let files = tempfile::tempdir().expect("a folder");
        let mut config = crate::meridian::CONFIG.to_string();
        for (at, zone) in zones.iter().enumerate() {
            std::fs::write(files.path().join(format!("z{at}.zone")), &zone.text).expect("a zone");
            if given.is_none() {
                let _ = write!(config, "[[zones.master]]\norigin = '{}'\nfile = '{}/z{at}.zone'\n", zone.origin, files.path().display());
            }
        }
        let references: Vec<Reference> = REFERENCES.iter().map(|name| Reference::start(name, zones, files.path())).collect();
        let given_files = given.is_some();
        let given = given.unwrap_or(&[]);
        let mut ours: Vec<(&str, &str)> = vec![("meridian.toml", &config)];
        ours.extend(given.iter().map(|(path, text)| (path.as_str(), text.as_str())));
        let meridian = Meridian::start(&ours);
        let mut servers = Servers {
            meridian: Client::new(meridian.dns),
            references: references.iter().map(|server| Client::new(server.addr)).collect(),
            refused: Vec::new(),
            ignores_serials: given_files,
            _running: (meridian, references),
        };
        servers.wait(zones);
        servers
    }

    /// Asks all four.
    pub fn ask(&mut self, question: &Question) -> (Result<Reply, String>, Vec<Result<Reply, String>>) {
        let ours = self.ask_meridian(question);
        let theirs = self.references.iter_mut().map(|client| client.ask(question));
        (ours, if self.ignores_serials { theirs.map(without_serial).collect() } else { theirs.collect() })
    }

    /// Where they listen, Meridian first.
    pub fn addresses(&self) -> [SocketAddr; 1 + REFERENCES.len()] {
        std::array::from_fn(|at| at.checked_sub(1).map_or(self.meridian.addr, |at| self.references[at].addr))
    }

    /// Asks Meridian alone.
    pub fn ask_meridian(&mut self, question: &Question) -> Result<Reply, String> {
        let reply = self.meridian.ask(question);
        if self.ignores_serials { without_serial(reply) } else { reply }
    }

    /// What the references say, chains followed as far as we follow them.
    pub fn complete(&mut self, question: &Question, replies: &[Result<Reply, String>]) -> Vec<Result<Reply, String>> {
        let complete = |(client, reply): (&mut Client, &Result<Reply, String>)| reply.clone().map(|reply| chains::complete(client, question, &reply));
        let whole = self.references.iter_mut().zip(replies).map(complete);
        if self.ignores_serials { whole.map(without_serial).collect() } else { whole.collect() }
    }

    /// Waits until every zone is there, or nothing moves any more.
    fn wait(&mut self, zones: &[ServedZone]) {
        let mut missing: BTreeMap<usize, Vec<usize>> = (0..=REFERENCES.len()).map(|server| (server, (0..zones.len()).collect())).collect();
        let mut moved = Instant::now();
        while missing.values().any(|zones| !zones.is_empty()) && moved.elapsed() < Duration::from_millis(1500) {
            for (server, missing) in &mut missing {
                let client = self.references.get_mut(*server).unwrap_or(&mut self.meridian);
                let before = missing.len();
                missing.retain(|zone| {
                    let soa = Question { name: zones[*zone].origin.clone(), rtype: RecordType::SOA, class: 1, way: Way { tcp: false, ..Way::TCP } };
                    !client.ask_once(&soa).is_ok_and(|reply| reply.is_authoritative() && reply.answer.iter().any(|rec| rec.rtype == RecordType::SOA))
                });
                if missing.len() < before {
                    moved = Instant::now();
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for (server, zone) in missing.into_iter().flat_map(|(server, zones)| zones.into_iter().map(move |zone| (server, zone))) {
            let log = self._running.1.get(server).map_or_else(|| self._running.0.log().join("\n"), Reference::log);
            let (file, origin) = (format!("z{zone}.zone"), zones[zone].origin.to_string());
            let zone_in = |line: &str| {
                line.contains(&format!("/{file}"))
                    || line.contains(&format!(" {file}"))
                    || line.contains(&format!("[{}]", origin.to_lowercase()))
                    || line.contains(&format!("zone {}/IN", if origin == "." { "." } else { origin.trim_end_matches('.') }))
            };
            let is_fault = |line: &str| ["error", "invalid", "failed", "expected", "not allowed"].iter().any(|word| line.contains(word));
            let name = REFERENCES.get(server).copied().unwrap_or("meridian");
            let is_ours = |line: &str| name == "meridian" && line.contains(&origin);
            let why: Vec<&str> = log.lines().filter(|line| is_ours(line) || zone_in(line) && is_fault(line)).take(3).collect();
            self.refused.push((zone, name, why.join(" | ")));
        }
    }
}

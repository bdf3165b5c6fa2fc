//! A small Internet of the test's own, in network namespaces that need no privilege where user namespaces are allowed: the prober's machine, the machine
//! of the origins, and a long cable between them.
//!
//! ```text
//!   here: test, Meridian ── uplink ──────────────── 10.77.0.0/24 ──────────────── origin ── nginx, one per address
//!     10.77.0.1, 10.78.0.1 ── longway ── near ══ wire.py ══ far ── 10.78.0.0/24 ── remote ┘
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::meridian::PATIENCE;
use crate::namespace::Namespace;
use crate::origin::{Authority, BODY, Certificate};

/// Runs a command; what it said if it failed is the panic.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (scripts/test.sh installs it)"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A table of nftables for a fault; some of their names are words of its language.
fn table(fault: &str) -> String {
    format!("fault_{}", fault.replace('-', "_"))
}

pub(super) struct Network {
    origins: Namespace,
    /// Its end of file ends the wire.
    wire: Child,
    wire_says: BufReader<ChildStdout>,
    _cable: Namespace,
}

impl Network {
    /// With these addresses at the origins' machine, in either network.
    pub(super) fn new(addresses: &[String]) -> Network {
        let (origins, cable) = (Namespace::new(), Namespace::new());
        let ip = |line: &str| run(Command::new("ip").args(line.split_whitespace()));
        ip("link set lo up");
        ip(&format!("link add uplink type veth peer name origin netns {}", origins.pid()));
        ip(&format!("link add longway type veth peer name near netns {}", cable.pid()));
        // Neither may touch the other: both belong to us.
        ip(&format!("link add name far netns {} type veth peer name remote netns {}", cable.pid(), origins.pid()));
        ip("address add 10.77.0.1/24 dev uplink");
        ip("address add 10.78.0.1/24 dev longway");
        let there = |namespace: &Namespace, line: &str| run(namespace.command("ip").args(line.split_whitespace()));
        for interface in ["near", "far"] {
            there(&cable, &format!("link set {interface} up"));
        }
        for (prefix, interface) in [("10.77.", "origin"), ("10.78.", "remote")] {
            for address in addresses.iter().filter(|address| address.starts_with(prefix)) {
                there(&origins, &format!("address add {address}/24 dev {interface}"));
            }
            there(&origins, &format!("link set {interface} up"));
        }
        ip("link set uplink up");
        ip("link set longway up");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/faults/wire.py");
        let mut wire = cable.command("python3");
        let mut wire = wire.args([script, "near", "far"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let wire_says = BufReader::new(wire.stdout.take().expect("its output"));
        let mut network = Network { origins, wire, wire_says, _cable: cable };
        network.hear("carries\n");
        network
    }

    fn hear(&mut self, words: &str) {
        let mut line = String::new();
        self.wire_says.read_line(&mut line).expect("a line");
        assert_eq!(line, words, "wire.py");
    }

    /// Each packet to or from `address`, which is on the long way, takes so much longer from now on.
    pub(super) fn delay(&mut self, address: &str, time: Duration) {
        let line = format!("{address} {}\n", time.as_millis());
        self.wire.stdin.as_mut().expect("its input").write_all(line.as_bytes()).expect("it listens");
        self.hear("told\n");
    }

    /// At the origins' machine, each packet that a rule of nftables matches is treated as it says, and counted.
    pub(super) fn filter(&self, name: &str, matches: &str, verdict: &str) {
        let nft = |line: String| run(self.origins.command("nft").arg(line));
        nft(format!("add table ip {}", table(name)));
        nft(format!("add chain ip {} in {{ type filter hook input priority 0; }}", table(name)));
        nft(format!("add rule ip {} in {matches} counter {verdict}", table(name)));
    }

    /// Ends that. A rule that met no packet was no fault.
    pub(super) fn unfilter(&self, name: &str) {
        let listed = run(self.origins.command("nft").args(["list", "table", "ip", &table(name)]));
        assert!(listed.contains("counter packets ") && !listed.contains("packets 0 "), "nothing was met: {listed}");
        run(self.origins.command("nft").args(["delete", "table", "ip", &table(name)]));
    }

    /// Both ways out of the prober's machine, as when somebody pulls the cables.
    pub(super) fn set_links(&self, state: &str) {
        for interface in ["uplink", "longway"] {
            run(Command::new("ip").args(["link", "set", interface, state]));
        }
    }

    /// An nginx at this address, ports 80 and 443, which has begun to serve.
    pub(super) fn nginx(&self, address: &str, authority: &Authority, certificate: Certificate) -> Nginx {
        let mut nginx = Nginx { address: address.into(), dir: tempfile::tempdir().expect("a folder"), child: None };
        nginx.write_certificate(authority, certificate);
        std::fs::write(nginx.path("nginx.conf"), CONFIG.replace("ADDRESS", address).replace("BODY", BODY.trim_end())).expect("written");
        self.start(&mut nginx);
        nginx
    }

    /// Another certificate, as after a deployment: the process is another one, too.
    pub(super) fn show(&self, nginx: &mut Nginx, authority: &Authority, certificate: Certificate) {
        nginx.kill();
        nginx.write_certificate(authority, certificate);
        self.start(nginx);
    }

    /// Starts one that is not running.
    pub(super) fn start(&self, nginx: &mut Nginx) {
        let dir = nginx.dir.path();
        let log = dir.join("error.log");
        let mut command = self.origins.command("nginx");
        let command = command.arg("-p").arg(dir).arg("-e").arg(&log).arg("-c").arg(dir.join("nginx.conf")).stdin(Stdio::null());
        nginx.child = Some(command.spawn().expect("nginx runs"));
        let addr: SocketAddr = format!("{}:80", nginx.address).parse().expect("an address");
        let began = Instant::now();
        while TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "nginx does not serve {addr}: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.wire.stdin.take());
        let _ = self.wire.wait();
    }
}

/// One process, which holds the certificate, answers and can be stopped. `-f` is looked at for each request.
const CONFIG: &str = r#"
daemon off; master_process off; pid pid; user root;
events { worker_connections 128; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen ADDRESS:80;
    listen ADDRESS:443 ssl;
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    root html;
    location /healthz {
      if (-f $document_root/maintenance) { return 503; }
      return 200 "BODY";
    }
  }
}
"#;

pub(super) struct Nginx {
    pub(super) address: String,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Nginx {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_certificate(&self, authority: &Authority, certificate: Certificate) {
        let (certificate, key) = authority.pem(certificate);
        std::fs::write(self.path("certificate.pem"), certificate).expect("written");
        std::fs::write(self.path("key.pem"), key).expect("written");
    }

    /// Answers 503, or no longer.
    pub(super) fn set_maintenance(&self, is_on: bool) {
        let file = self.path("html/maintenance");
        if is_on {
            std::fs::create_dir_all(self.path("html")).expect("a folder");
            std::fs::write(file, "").expect("written");
        } else {
            std::fs::remove_file(file).expect("it was there");
        }
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        run(Command::new("kill").args([&format!("-{name}"), &pid]));
    }

    /// As a crash would.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.kill();
    }
}

//! A real resolver in front: unbound walks from the root through three zones that three Meridians serve, in a network of their own.
//!
//! ```text
//!   dig ─▶ unbound 127.0.0.2 ─▶ 127.0.0.10  .              (master file)
//!                            ─▶ 127.0.0.11  test.          (master file)
//!                            ─▶ 127.0.0.12  example.test.  (TOML, steered)
//! ```
//!
//! unbound is told to be strict: QNAME minimisation without fallback, letters of the question in random case, NXDOMAIN believed for all below.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::meridian::{Meridian, PATIENCE};
use crate::namespace::Namespace;

const ROOT: &str = r"
$TTL 3600
.          SOA  a.root-servers.example. hostmaster.root-servers.example. 1 3600 900 1209600 60
.          NS   a.root.
a.root.    A    127.0.0.10
test.      NS   ns.test.
ns.test.   A    127.0.0.11
";

const TLD: &str = r"
$ORIGIN test.
$TTL 3600
@          SOA    ns hostmaster 1 3600 900 1209600 60
@          NS     ns
ns         A      127.0.0.11
example    NS     ns1.example
example    NS     ns2.example
ns1.example A     127.0.0.12
ns2.example A     127.0.0.12
alias      DNAME  example
twice      DNAME  alias
www        CNAME  www.example
host       A      192.0.2.50
long       DNAME  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example
";

const EXAMPLE: &str = r#"
[zone]
name = "example.test"
ns = ["ns1", "ns2"]

[records]
ns1.A = "127.0.0.12"
ns2.A = "127.0.0.12"
www.A = "192.0.2.1"
www.AAAA = "2001:db8::1"
"@".MX = "10 mail"
mail.A = "192.0.2.25"
"*.wild".A = "192.0.2.2"
"*.wild".TXT = "from the wildcard"
"there.wild".TXT = "exists"
"a.b.c.d.e.f".A = "192.0.2.3"
c1.CNAME = "c2"
c2.CNAME = "c3"
c3.CNAME = "c4"
c4.CNAME = "c5"
c5.CNAME = "www"
out.CNAME = "host.test."
away.CNAME = "www.alias.test."
dangling.CNAME = "nowhere"
to-app.CNAME = "app"
loop1.CNAME = "loop2"
loop2.CNAME = "loop1"
big.TXT = ["TEXTS"]

[pool.eu]
endpoints = ["198.51.100.1"]
[pool.us]
endpoints = ["198.51.100.2"]

[steer.app]
policy = "geo"
rules = [{ net = ["203.0.113.0/24", "2001:db8:1::/48"], to = "eu" }]
default = "us"
[steer."*.steered"]
policy = "failover"
to = "eu"
"#;

const UNBOUND: &str = r#"
server:
  interface: 127.0.0.2
  port: 53
  username: ""
  chroot: ""
  directory: "FOLDER"
  pidfile: ""
  use-syslog: no
  logfile: ""
  do-daemonize: no
  do-not-query-localhost: no
  do-ip6: no
  local-zone: "test." nodefault
  num-threads: 1
  module-config: "subnetcache iterator"
  send-client-subnet: 127.0.0.12
  client-subnet-always-forward: yes
  max-client-subnet-ipv4: 32
  max-client-subnet-ipv6: 64
  root-hints: "FOLDER/root.hints"
  qname-minimisation: yes
  qname-minimisation-strict: yes
  use-caps-for-id: yes
  harden-below-nxdomain: yes
  harden-glue: yes
  harden-referral-path: yes
  edns-buffer-size: 1232
  minimal-responses: no
remote-control:
  control-enable: no
"#;

struct Hierarchy {
    servers: Vec<Meridian>,
    unbound: Child,
    // Last: what runs in it ends first.
    namespace: Namespace,
    _folder: tempfile::TempDir,
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        let _ = self.unbound.kill();
        let _ = self.unbound.wait();
        self.servers.clear();
    }
}

fn serve(namespace: &Namespace, address: &str, files: &[(&str, &str)]) -> Meridian {
    let folder = tempfile::tempdir().expect("a folder");
    let masters: String = files
        .iter()
        .filter(|(path, _)| path.ends_with(".master"))
        .map(|(path, _)| format!("[[zones.master]]\norigin = \"{}\"\nfile = \"{path}\"\n", origin(path)))
        .collect();
    let config = format!("{masters}[server]\nlisten = [\"{address}:53\"]\nthreads = 1\n[admin]\nlisten = \"{address}:8053\"\n");
    std::fs::create_dir(folder.path().join("zones")).expect("a folder");
    for (path, text) in files.iter().copied().chain([("meridian.toml", config.as_str())]) {
        std::fs::write(folder.path().join(path), text).expect("a file");
    }
    Meridian::start_by(namespace.command(env!("CARGO_BIN_EXE_meridian")), folder)
}

fn origin(path: &str) -> &str {
    match path.trim_end_matches(".master") {
        "root" => ".",
        other => other,
    }
}

impl Hierarchy {
    fn start() -> Hierarchy {
        let namespace = Namespace::new();
        let texts: Vec<String> = (0..40).map(|at| format!("{at:03} {}", "x".repeat(96))).collect();
        let example = EXAMPLE.replace("TEXTS", &texts.join("\", \""));
        let servers = vec![
            serve(&namespace, "127.0.0.10", &[("root.master", ROOT)]),
            serve(&namespace, "127.0.0.11", &[("test.master", TLD)]),
            serve(&namespace, "127.0.0.12", &[("zones/example.toml", &example)]),
        ];
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("root.hints"), ". 3600 NS a.root.\na.root. 3600 A 127.0.0.10\n").expect("a file");
        let config = folder.path().join("unbound.conf");
        std::fs::write(&config, UNBOUND.replace("FOLDER", &folder.path().to_string_lossy())).expect("a file");
        let unbound = namespace
            .command("/usr/sbin/unbound")
            .args(["-d".as_ref(), "-c".as_ref(), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("unbound runs (scripts/test.sh sees to it)");
        let hierarchy = Hierarchy { servers, unbound, namespace, _folder: folder };
        hierarchy.wait();
        hierarchy
    }

    fn wait(&self) {
        let began = Instant::now();
        while self.dig(&["www.example.test", "A", "+tries=1", "+time=1"]).status != "NOERROR" {
            assert!(began.elapsed() < PATIENCE, "unbound does not resolve");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn dig(&self, args: &[&str]) -> Seen {
        let output =
            self.namespace.command("dig").args(["@127.0.0.2", "+noall", "+comments", "+answer", "+nocookie"]).args(args).output().expect("dig runs");
        Seen::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// A counter of one server, summed over its labels when `label` stands among them.
    fn counter(&self, server: usize, name: &str, label: &str) -> u64 {
        let url = format!("http://{}/metrics", SocketAddr::new(self.servers[server].dns.ip(), 8053));
        let output = self.namespace.command("curl").args(["-s", &url]).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// What dig showed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    status: String,
    /// "OWNER TYPE DATA" of the answer section, in order.
    answers: Vec<String>,
    /// The client subnet's scope.
    scope: Option<u8>,
}

impl Seen {
    fn read(text: &str) -> Seen {
        let mut seen = Seen::default();
        for line in text.lines() {
            if let Some((_, after)) = line.split_once("status: ") {
                seen.status = after.split(',').next().unwrap_or_default().to_string();
            } else if let Some(subnet) = line.strip_prefix("; CLIENT-SUBNET: ") {
                seen.scope = subnet.rsplit('/').next().and_then(|scope| scope.parse().ok());
            } else if !line.starts_with(';') && !line.is_empty() {
                let fields: Vec<&str> = line.split_whitespace().collect();
                seen.answers.push(format!("{} {} {}", fields[0].to_lowercase(), fields[3], fields[4..].join(" ")));
            }
        }
        seen
    }
}

#[test]
fn unbound_resolves_three_delegated_zones() {
    let hierarchy = Hierarchy::start();
    let chain = |names: &[&str], last: &str| -> Vec<String> {
        let mut answers: Vec<String> = names.windows(2).map(|pair| format!("{}.example.test. CNAME {}.example.test.", pair[0], pair[1])).collect();
        answers.push(format!("{}.example.test. {last}", names[names.len() - 1]));
        answers
    };
    let list = |answers: &[&str]| answers.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (name, rtype, status, answers) in [
        ("www.example.test", "A", "NOERROR", list(&["www.example.test. A 192.0.2.1"])),
        ("WWW.Example.TEST", "AAAA", "NOERROR", list(&["www.example.test. AAAA 2001:db8::1"])),
        ("example.test", "MX", "NOERROR", list(&["example.test. MX 10 mail.example.test."])),
        // RFC 4592: the wildcard at any depth, not at the encloser, not where something exists.
        ("x.wild.example.test", "A", "NOERROR", list(&["x.wild.example.test. A 192.0.2.2"])),
        ("x.y.z.wild.example.test", "TXT", "NOERROR", list(&["x.y.z.wild.example.test. TXT \"from the wildcard\""])),
        ("x.wild.example.test", "MX", "NOERROR", list(&[])),
        ("wild.example.test", "A", "NOERROR", list(&[])),
        ("there.wild.example.test", "A", "NOERROR", list(&[])),
        ("x.there.wild.example.test", "A", "NXDOMAIN", list(&[])),
        // RFC 9156: a resolver that asks label by label passes over empty non-terminals.
        ("a.b.c.d.e.f.example.test", "A", "NOERROR", list(&["a.b.c.d.e.f.example.test. A 192.0.2.3"])),
        ("c.d.e.f.example.test", "A", "NOERROR", list(&[])),
        ("nope.example.test", "A", "NXDOMAIN", list(&[])),
        ("nope.test", "A", "NXDOMAIN", list(&[])),
        ("nope", "A", "NXDOMAIN", list(&[])),
        // Chains: inside, over the cut in both directions, into nothing, in a circle.
        ("c1.example.test", "A", "NOERROR", chain(&["c1", "c2", "c3", "c4", "c5", "www"], "A 192.0.2.1")),
        ("www.test", "A", "NOERROR", list(&["www.test. CNAME www.example.test.", "www.example.test. A 192.0.2.1"])),
        ("out.example.test", "A", "NOERROR", list(&["out.example.test. CNAME host.test.", "host.test. A 192.0.2.50"])),
        ("dangling.example.test", "A", "NXDOMAIN", list(&["dangling.example.test. CNAME nowhere.example.test."])),
        // RFC 6672: below the owner, not at it; one into another; too long.
        (
            "www.alias.test",
            "A",
            "NOERROR",
            list(&["alias.test. DNAME example.test.", "www.alias.test. CNAME www.example.test.", "www.example.test. A 192.0.2.1"]),
        ),
        ("alias.test", "A", "NOERROR", list(&[])),
        (
            "away.example.test",
            "A",
            "NOERROR",
            list(&[
                "away.example.test. CNAME www.alias.test.",
                "alias.test. DNAME example.test.",
                "www.alias.test. CNAME www.example.test.",
                "www.example.test. A 192.0.2.1",
            ]),
        ),
        (
            "www.twice.test",
            "A",
            "NOERROR",
            list(&[
                "twice.test. DNAME alias.test.",
                "www.twice.test. CNAME www.alias.test.",
                "alias.test. DNAME example.test.",
                "www.alias.test. CNAME www.example.test.",
                "www.example.test. A 192.0.2.1",
            ]),
        ),
        // Steered names are names like others.
        ("app.example.test", "A", "NOERROR", list(&["app.example.test. A 198.51.100.2"])),
        ("app.example.test", "AAAA", "NOERROR", list(&[])),
        ("x.app.example.test", "A", "NXDOMAIN", list(&[])),
        ("x.steered.example.test", "A", "NOERROR", list(&["x.steered.example.test. A 198.51.100.1"])),
        ("to-app.example.test", "A", "NOERROR", list(&["to-app.example.test. CNAME app.example.test.", "app.example.test. A 198.51.100.2"])),
    ] {
        let seen = hierarchy.dig(&[name, rtype]);
        assert_eq!((seen.status.as_str(), seen.answers), (status, answers), "{name} {rtype}");
    }
    // What no resolver can resolve ends with an error, not with silence.
    for name in ["loop1.example.test", &format!("{}.long.test", ["x".repeat(60).as_str()].repeat(2).join("."))] {
        let seen = hierarchy.dig(&[name, "A"]);
        assert!(matches!(seen.status.as_str(), "SERVFAIL" | "YXDOMAIN"), "{name}: {seen:?}");
    }
}

#[test]
fn unbound_comes_back_over_tcp_when_the_answer_is_long() {
    let hierarchy = Hierarchy::start();
    let before = hierarchy.counter(2, "meridian_queries_total", "transport=\"tcp\"");
    let seen = hierarchy.dig(&["big.example.test", "TXT", "+tcp"]);
    assert_eq!((seen.status.as_str(), seen.answers.len()), ("NOERROR", 40));
    assert!(hierarchy.counter(2, "meridian_queries_total", "transport=\"tcp\"") > before, "over UDP it cannot have come");
}

#[test]
fn unbound_keeps_answers_apart_by_client_subnet() {
    let hierarchy = Hierarchy::start();
    for (subnet, address, scope) in [
        ("203.0.113.0/24", "198.51.100.1", 24),
        ("203.0.112.0/24", "198.51.100.2", 24),
        // Private space (192.168.0.0/16) is a class of its own.
        ("192.0.2.0/24", "198.51.100.2", 9),
        ("2001:db8:1::/48", "198.51.100.1", 48),
        ("2001:db8:2::/48", "198.51.100.2", 47),
    ] {
        let seen = hierarchy.dig(&["app.example.test", "A", &format!("+subnet={subnet}")]);
        assert_eq!((seen.answers, seen.scope), (vec![format!("app.example.test. A {address}")], Some(scope)), "{subnet}");
    }
    // The resolver believes the scope: a neighbour inside it is answered from the cache, one outside is asked for.
    let asked = || hierarchy.counter(2, "meridian_queries_total", "");
    let before = asked();
    assert_eq!(hierarchy.dig(&["app.example.test", "A", "+subnet=203.0.113.128/25"]).answers, ["app.example.test. A 198.51.100.1"]);
    assert_eq!(asked(), before);
    assert_eq!(hierarchy.dig(&["app.example.test", "A", "+subnet=203.0.114.0/24"]).answers, ["app.example.test. A 198.51.100.2"]);
    assert_eq!(asked(), before + 1);
}

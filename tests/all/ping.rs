//! Echo requests, by whichever way the machine permits them, and what this machine throws away itself. In a namespace of the test's own: who may send them is said by a sysctl of each network.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use meridian::control::api::{CheckSpec, CheckTarget};
use meridian::dns::{Name, Rcode, RecordType};
use meridian::health::{Failure, Thresholds, Watch};
use meridian::policy::model::{DnsCheck, Monitor, MonitorKind, TcpCheck};
use meridian::probe::{Means, TlsRoots, check};

use crate::meridian::{Meridian, PATIENCE};
use crate::namespace::inside;
use crate::rest::Rest;

fn ping(address: &str, timeout: Duration) -> String {
    checked(CheckTarget::Address(address.parse::<IpAddr>().expect("an address")), MonitorKind::Ping, timeout)
}

fn checked(target: CheckTarget, kind: MonitorKind, timeout: Duration) -> String {
    let thresholds = Thresholds { interval: timeout, fast: timeout, fall: 3, rise: 3 };
    let monitor = Monitor { name: String::new(), kind, port: 80, thresholds, timeout, source: Vec::new(), watch: Watch::default() };
    let spec = CheckSpec { target, monitor };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(check::run(&spec, &Means::new(TlsRoots::default().into()))).0;
    outcome.as_ref().map_or_else(Failure::to_string, |()| "ok".to_owned())
}

/// Who may send echo requests over datagram sockets.
const GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";

fn permit(groups: &str) {
    std::fs::write(GROUPS, groups).expect("the sysctl of this namespace");
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().expect("ip runs (Debian: iproute2; scripts/test.sh sees to it)").success(), "{args:?}");
}

#[test]
fn echo_requests_go_by_either_way_that_is_permitted() {
    inside("ping::echo_requests_go_by_either_way_that_is_permitted", || {
        ip(&["link", "set", "lo", "up"]);
        // A cable at whose end nobody answers.
        ip(&["link", "add", "void", "type", "veth", "peer", "name", "end"]);
        ip(&["addr", "add", "192.0.2.1/24", "dev", "void"]);
        ["void", "end"].iter().for_each(|name| ip(&["link", "set", name, "up"]));
        // A new network permits it to nobody; the root of its namespace has CAP_NET_RAW.
        for groups in [None, Some("0 0")] {
            groups.into_iter().for_each(permit);
            let groups = std::fs::read_to_string(GROUPS).expect("the sysctl");
            for address in ["127.0.0.1", "192.0.2.1", "::1"] {
                assert_eq!(ping(address, PATIENCE), "ok", "{address} with {groups}");
            }
            assert_eq!(ping("192.0.2.9", Duration::from_millis(300)), "timeout during response", "{groups}");
            assert_eq!(ping("198.51.100.1", PATIENCE), "check could not run: this machine has no route to the network", "{groups}");
        }
    });
}

#[test]
fn what_this_machine_throws_away_itself_is_no_verdict() {
    inside("ping::what_this_machine_throws_away_itself_is_no_verdict", || {
        ip(&["link", "set", "lo", "up"]);
        ip(&["route", "add", "blackhole", "203.0.113.0/24"]);
        let target = || CheckTarget::Address("203.0.113.1".parse().expect("an address"));
        let dns = DnsCheck { name: Name::root(), rtype: RecordType::NS, rcode: Rcode::NOERROR, answer: None };
        let tcp = MonitorKind::Tcp(TcpCheck { send: None, reply: None, tls: None });
        for kind in [MonitorKind::Ping, tcp.clone(), MonitorKind::Dns(dns)] {
            let words = "check could not run: this machine has a blackhole route there, or the address needs an interface";
            assert_eq!(checked(target(), kind.clone(), PATIENCE), words, "{kind:?}");
        }
        // Nor is there any resolver here: that says nothing of the name.
        let said = checked(CheckTarget::Host("origin.example.net".into()), tcp, PATIENCE);
        assert!(said.starts_with("check could not run: this machine's resolver gave no answer"), "{said}");
    });
}

#[test]
fn who_may_not_send_echo_requests_is_told_both_ways_out() {
    inside("ping::who_may_not_send_echo_requests_is_told_both_ways_out", || {
        ip(&["link", "set", "lo", "up"]);
        let dir = tempfile::tempdir().expect("a folder");
        crate::meridian::write(dir.path(), "meridian.toml", crate::meridian::CONFIG);
        let zone = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n[monitor.m]\nping = true\ninterval = \"1s\"\n\
                    [pool.p]\nendpoints = [\"127.0.0.1\"]\nmonitor = \"m\"\n[steer.www]\nuse = \"p\"\n";
        crate::meridian::write(dir.path(), "zones/example.com.toml", zone);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", "--", env!("CARGO_BIN_EXE_meridian")]);
        let server = Meridian::start_by(command, dir);
        let words = ["does not permit ping", "net.ipv4.ping_group_range", "CAP_NET_RAW"];
        server.says(&words);
        let (rest, began) = (Rest::new(&server), Instant::now());
        let seen = loop {
            let seen = rest.endpoint("example.com/p/127.0.0.1");
            if seen["last_error"].is_string() {
                break seen;
            }
            assert!(began.elapsed() < PATIENCE, "{seen}");
            std::thread::sleep(Duration::from_millis(20));
        };
        let why = seen["last_error"].as_str().unwrap_or_default();
        assert!(seen["state"] == "unknown" && words.iter().all(|word| why.contains(word)), "{seen}");
        // Looked at once a second.
        let began = Instant::now();
        while !rest.get("/v1/status")["degraded"].to_string().contains("1 of 1 checks cannot run") {
            assert!(began.elapsed() < PATIENCE, "{}", rest.get("/v1/status"));
            std::thread::sleep(Duration::from_millis(20));
        }
        // The sysctl is asked at each check.
        permit("0 0");
        let began = Instant::now();
        while rest.endpoint("example.com/p/127.0.0.1")["state"] != "up" {
            assert!(began.elapsed() < PATIENCE, "{}", rest.get("/v1/status"));
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

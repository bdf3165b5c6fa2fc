//! kxdpgun of Knot DNS, a generator that goes around the kernel's sockets: it asks through one end of a pair of virtual network cards, and the server
//! is at the other end, in a network of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

/// Of a range set aside for benchmarks (RFC 2544).
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);

/// The two ends; gone with this value.
pub(crate) struct Network {
    /// Of the namespace, and of our card.
    name: String,
}

impl Network {
    /// Needs root.
    pub(crate) fn new() -> io::Result<Network> {
        let network = Network { name: format!("mk{}", std::process::id()) };
        let (ours, theirs) = (&network.name, format!("{}s", network.name));
        for line in [
            format!("ip netns add {ours}"),
            format!("ip link add {ours} type veth peer name {theirs}"),
            format!("ip link set {theirs} netns {ours}"),
            format!("ip addr add {CLIENT}/30 dev {ours}"),
            format!("ip link set {ours} up"),
            format!("ip -n {ours} addr add {SERVER}/30 dev {theirs}"),
            format!("ip -n {ours} link set {theirs} up"),
            format!("ip -n {ours} link set lo up"),
        ] {
            if !run(&line) {
                return Err(io::Error::other(format!("`{line}` failed")));
            }
        }
        Ok(network)
    }

    /// Of the namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn server(&self) -> Ipv4Addr {
        SERVER
    }

    /// Asks `rate` questions per second; how many answers came per second.
    pub(crate) fn ask(&self, server: SocketAddr, questions: &Path, rate: u32, seconds: u32) -> Option<u64> {
        let done = Command::new("kxdpgun")
            .args(["-t", &seconds.to_string(), "-Q", &rate.to_string(), "-p", &server.port().to_string(), "-I", &self.name, "-i"])
            .arg(questions)
            .arg(server.ip().to_string())
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let line = said.lines().find_map(|line| line.strip_prefix("total replies:"))?;
        line.split_once('(')?.1.split_once(" pps")?.0.parse().ok()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
        run(&format!("ip link del {}", self.name));
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

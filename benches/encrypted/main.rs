//! Clients of DNS over QUIC, TLS, HTTPS and UDP for `scripts/compare-encrypted.sh` and `scripts/flood-encrypted.sh`: what others measure with dnsperf
//! where there is such a tool, and floods where there should be none. It is pointed at servers on loopback or in a network of their own; see
//! `docs/performance.md`.
// Floods have a pace, which is no event to wait for.
#![allow(missing_docs, clippy::expect_used, clippy::disallowed_methods)]

mod floods;
mod load;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use meridian::certs::verify::{Anybody, Verifier};
use rustls::ClientConfig;

/// Asks or floods a server.
#[derive(Debug, Parser)]
struct Options {
    /// Seconds of the measurement or the flood.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections of `doq`, and those that `slow` and `idle` keep open.
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Queries under way on each connection of `doq`.
    #[arg(long, default_value_t = 10)]
    in_flight: usize,
    /// Queries of a connection of `doq`, before it makes a new one.
    #[arg(long, default_value_t = u64::MAX)]
    per_connection: u64,
    /// Queries per second of `udp`.
    #[arg(long, default_value_t = 5000)]
    rate: u64,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
    /// What to do (udp, doq, doq-handshakes; floods: slow, idle, handshakes, half-open, streams, resets, bodies, malformed), and where.
    #[arg(hide = true)]
    words: Vec<String>,
}

/// Where, and for how long.
#[derive(Clone, Copy, Debug)]
struct Target {
    to: SocketAddr,
    time: Duration,
    connections: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let [what, to] = &options.words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        eprintln!("encrypted: use scripts/compare-encrypted.sh or scripts/flood-encrypted.sh");
        return ExitCode::SUCCESS;
    };
    let target = Target { to: to.parse().expect("address:port"), time: Duration::from_secs_f64(options.seconds), connections: options.connections };
    match *what {
        "udp" => load::udp(target, options.rate),
        "doq" => load::doq(target, options.in_flight, options.per_connection),
        "doq-handshakes" => load::doq_handshakes(target),
        "slow" => floods::slow(target),
        "idle" => floods::idle(target),
        "handshakes" => floods::handshakes(target),
        "half-open" => floods::half_open(target),
        "streams" => floods::streams(target),
        "resets" => floods::resets(target),
        "bodies" => floods::bodies(target),
        "malformed" => floods::malformed(target),
        _ => {
            eprintln!("encrypted: {what:?} is nothing that it does");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A query for the address of `n{number}.names.test`, one of a thousand names, with this ID.
fn query(id: u16, number: usize) -> Vec<u8> {
    let mut packet = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\0"].concat();
    for label in [format!("n{}", number % 1000 + 1).as_str(), "names", "test", ""] {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(b"\0\x01\0\x01");
    packet
}

/// With its length before it.
fn framed(query: &[u8]) -> Vec<u8> {
    [&(query.len() as u16).to_be_bytes()[..], query].concat()
}

/// Believes every server, and resumes no session.
fn client(protocol: &[u8]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(Anybody))).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
}

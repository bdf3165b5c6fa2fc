//! Transports that could not be opened at the start: told, and opened as soon as they can be.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::encrypted::{Authority, address_of, zone};
use crate::meridian::Meridian;
use crate::rate_limit::metric;

const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a question over TLS is answered there.
fn answers(over: &str, at: SocketAddr) -> bool {
    let port = format!("-p{}", at.port());
    let server = format!("@{}", at.ip());
    let asked = Command::new("kdig").args([&server, &port, over, "+retry=0", "+time=3", "ns1.example.com", "A"]).output().expect("kdig");
    String::from_utf8_lossy(&asked.stdout).contains("status: NOERROR")
}

#[test]
fn what_could_not_be_opened_is_told_and_opened_later() {
    let (certificate, key) = Authority::new().sign(&["dns.example.net"], 2099);
    let held = TcpListener::bind("127.0.0.2:0").expect("a port");
    let held_at = held.local_addr().expect("an address");
    let table = |name: &str, listen: &str, key: &str| format!("[server.{name}]\nlisten = [{listen}]\ncertificate = \"a.crt\"\nkey = \"{key}\"\n");
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\", \"192.0.2.53:0\"]\n{}{}{}[admin]\nlisten = \"127.0.0.1:0\"\n",
        table("tls", &format!("\"127.0.0.1:0\", \"{held_at}\""), "a.key"),
        table("https", "\"127.0.0.1:0\"", "later.key"),
        table("quic", "\"127.0.0.1:0\"", "later.key"),
    );
    let server = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &zone()), ("a.crt", &certificate), ("a.key", &key)]);
    assert!(answers("+tls", address_of(&server, "TLS")), "the address that is free is served");
    let places = |transport: &str| metric(&server, &format!("meridian_connection_places{{transport=\"{transport}\"}}"));
    let lacks = |words: &str| server.command(&["status"]).1.contains(words);
    let (closed, missing) = ("later.key: cannot be read", format!("server.tls: {held_at}: the TCP port is in use"));
    assert!(
        lacks(closed) && lacks("server.https: not opened") && lacks("server.quic: not opened") && lacks(&missing),
        "{}",
        server.command(&["status"]).1
    );
    assert!(lacks("server.listen: 192.0.2.53:0: this machine has no such address"), "of DNS itself as well");
    assert_eq!((places("tls"), places("https"), places("quic")), (4096, 0, 0), "room is where somebody may come");
    assert_eq!(metric(&server, "meridian_degraded_reasons"), 4);

    drop(held);
    until("the address that is free now is served", || answers("+tls", held_at));
    until("nobody tells of it any more", || !lacks(&missing));
    assert!(lacks(closed), "what is still lacking is still told");
    // A key that does not belong to the certificate opens nothing, and is told in place of the one that was missing.
    server.write("later.key", &Authority::new().sign(&["dns.example.net"], 2099).1);
    until("the reason is the new one", || lacks("later.key: the key is not that of the certificate"));
    server.write("later.key", &key);
    until("both are open", || places("https") == 4096 && places("quic") == 4096);
    until("nobody tells of them any more", || !lacks("not opened"));
    assert_eq!(metric(&server, "meridian_degraded_reasons"), 1);
    let at = |name: &str| {
        let found = server.log().into_iter().find(|line| line.contains(name) && line.contains("listens there now")).expect("it is told");
        let address = found.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        address.and_then(|address| address.parse::<SocketAddr>().ok()).unwrap_or_else(|| panic!("{found}"))
    };
    assert!(answers("+https", at("server.https:")));
}

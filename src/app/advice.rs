//! What a configuration says that cannot be meant, though each of its parts can be: listeners that want the same port, and policies that place
//! clients without anything to place them by, and checks that run programs that are not there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use crate::config::{Problem, Settings, Severity};
use crate::control::load::Build;
use crate::policy::model::{GeoDefault, MonitorKind, PolicyKind, ZoneModel};

/// A listener of the configuration: its table or key, its address and the line of that, whether it takes UDP and TCP.
struct Listener {
    key: &'static str,
    addr: SocketAddr,
    line: u32,
    udp: bool,
    tcp: bool,
}

impl Listener {
    /// True when both cannot be had: the same port of the same address, or of every address of the family. Those of `server.listen` share ports
    /// (`SO_REUSEPORT`), so an address and all addresses go together there.
    fn collides(&self, other: &Listener) -> bool {
        let (one, two) = (self.addr.ip().to_canonical(), other.addr.ip().to_canonical());
        let meet = one == two || one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified());
        let same_kind = self.udp && other.udp || self.tcp && other.tcp;
        let share = self.key == other.key && self.udp && self.tcp;
        !share && same_kind && meet && self.addr.port() == other.addr.port() && self.addr.port() != 0
    }

    /// Its address, and where that is from.
    fn place(&self) -> String {
        match self.line {
            0 => format!("{}, the default", self.addr),
            line => format!("{}, line {line}", self.addr),
        }
    }
}

/// Addresses that want the same port, as errors of `meridian.toml`.
pub(super) fn collisions(settings: &Settings) -> Vec<Problem> {
    let of = |key, addrs: &[SocketAddr], udp, tcp| {
        let listener = |addr: &SocketAddr| Listener { key, addr: *addr, line: settings.lines.of(key, *addr), udp, tcp };
        addrs.iter().map(listener).collect::<Vec<_>>()
    };
    let mut all = of("server.listen", &settings.listen, true, true);
    let encrypted = &settings.encrypted;
    for (key, listener, udp) in
        [("server.tls", &encrypted.tls, false), ("server.https", &encrypted.https, false), ("server.quic", &encrypted.quic, true)]
    {
        all.extend(of(key, listener.as_ref().map_or(&[], |listener| &listener.listen), udp, !udp));
    }
    if settings.admin_enabled {
        all.extend(of("admin.listen", &[settings.admin_listen], false, true));
    }
    all.extend(of("metrics.listen", settings.admin.metrics_listen.as_slice(), false, true));
    let mut found = Vec::new();
    for (at, two) in all.iter().enumerate() {
        let Some(one) = all[..at].iter().find(|one| one.collides(two)) else { continue };
        let kind = if two.udp && one.udp { "UDP" } else { "TCP" };
        let remedy = if one.key == two.key { "leave one of them out" } else { "give one of them another" };
        let text = format!("{} ({}) and {} ({}) want the same {kind} port: {remedy}", two.key, two.place(), one.key, one.place());
        let subject = two.key.split('.').map(str::to_owned).collect();
        found.push(Problem { severity: Severity::Error, file: settings.file.clone(), line: two.line, subject, text });
    }
    found
}

/// Policies that place clients by what the configuration does not have.
pub(super) fn unplaced(build: &Build) -> Vec<Problem> {
    let Some(settings) = &build.settings else { return Vec::new() };
    let (no_databases, no_table) = (settings.geo_databases.is_empty(), settings.latency_table.is_none());
    let mut problems = Vec::new();
    for zone in &build.good {
        let used =
            |model: &ZoneModel| model.steers.iter().flat_map(|steer| model.policies_below(steer.root)).collect::<std::collections::BTreeSet<_>>();
        for ix in used(&zone.parts.model) {
            let policy = zone.parts.model.policy(ix);
            let text = match &policy.kind {
                PolicyKind::Geo { rules, .. } if no_databases && rules.iter().any(|rule| !rule.geo.is_empty() || !rule.asn.is_empty()) => {
                    "its rules ask for places or networks of clients (geo, asn), but geo.databases lists no database: they match nobody"
                }
                PolicyKind::Geo { default: GeoDefault::Nearest { .. }, .. } | PolicyKind::Proximity { .. } if no_databases => {
                    "it goes by where clients are, but geo.databases lists no database: everybody gets the order of the file"
                }
                PolicyKind::Latency { .. } if no_databases && no_table => {
                    "it goes by round trips and distance, but there is neither latency.table nor a database in geo.databases: everybody gets the order of the file"
                }
                _ => continue,
            };
            let subject = vec![if policy.inline { "steer" } else { "policy" }.to_owned(), policy.name.clone()];
            problems.push(Problem { severity: Severity::Warning, file: zone.loaded.declared_in.clone(), line: 0, subject, text: text.into() });
        }
    }
    problems
}

/// Checks whose program this machine does not have, or may not run.
pub(super) fn missing_programs(build: &Build) -> Vec<Problem> {
    let mut problems = Vec::new();
    for zone in &build.good {
        let mut said = std::collections::BTreeSet::new();
        for monitor in &zone.parts.model.monitors {
            let MonitorKind::Exec(check) = &monitor.kind else { continue };
            let Some(program) = check.command.first().filter(|_| said.insert(&monitor.name)) else { continue };
            let why = match std::fs::metadata(program) {
                Err(error) => error.to_string(),
                Ok(found) if !found.is_file() => "it is no file".into(),
                Ok(found) if found.permissions().mode() & 0o111 == 0 => "nobody may run it".into(),
                Ok(_) => continue,
            };
            let text = format!("{program} cannot be run on this machine: {why}");
            let subject = vec![format!("monitor {:?}", monitor.name), "exec".to_owned()];
            problems.push(Problem { severity: Severity::Warning, file: zone.loaded.declared_in.clone(), line: 0, subject, text });
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MemoryFiles, load_settings_alone};

    #[test]
    fn listeners_that_want_the_same_port_are_named_both() {
        let tls = |key: &str, addr: &str| format!("[server.{key}]\nlisten = [\"{addr}\"]\ncertificate = \"c\"\nkey = \"k\"\n");
        let of = |text: String| {
            let files = MemoryFiles([("meridian.toml".into(), text.into_bytes().into())].into());
            let found = collisions(&load_settings_alone(&files, std::path::Path::new("meridian.toml")).0);
            found.iter().map(|problem| format!("{}: {}", problem.line, problem.text.split(" want").next().unwrap_or_default())).collect::<Vec<_>>()
        };
        let base = "[server]\nlisten = [\"127.0.0.1:5300\"]\n";
        let admin = |addr: &str, metrics: &str| format!("{base}[admin]\nlisten = \"{addr}\"\n[metrics]\nlisten = \"{metrics}\"\n");
        for (text, wanted) in [
            (admin("127.0.0.1:1", "127.0.0.1:2"), &[][..]),
            (admin("127.0.0.1:0", "127.0.0.1:0"), &[]),
            (admin("127.0.0.1:1", "127.0.0.1:1"), &["6: metrics.listen (127.0.0.1:1, line 6) and admin.listen (127.0.0.1:1, line 4)"]),
            (admin("127.0.0.1:1", "0.0.0.0:1"), &["6: metrics.listen (0.0.0.0:1, line 6) and admin.listen (127.0.0.1:1, line 4)"]),
            (admin("127.0.0.1:1", "127.0.0.2:1"), &[]),
            (admin("127.0.0.1:5300", "[::1]:5300"), &["4: admin.listen (127.0.0.1:5300, line 4) and server.listen (127.0.0.1:5300, line 2)"]),
            (
                format!("{base}{}", tls("tls", "127.0.0.1:5300")),
                &["4: server.tls (127.0.0.1:5300, line 4) and server.listen (127.0.0.1:5300, line 2)"],
            ),
            (
                format!("{base}{}", tls("quic", "127.0.0.1:5300")),
                &["4: server.quic (127.0.0.1:5300, line 4) and server.listen (127.0.0.1:5300, line 2)"],
            ),
            (
                format!("{base}{}", tls("tls", "127.0.0.1:8053")),
                &["0: admin.listen (127.0.0.1:8053, the default) and server.tls (127.0.0.1:8053, line 4)"],
            ),
            // Within one table. What server.listen lists shares its ports.
            (
                format!("{base}{}", tls("tls", "0.0.0.0:853\",\n\"127.0.0.1:853")),
                &["5: server.tls (127.0.0.1:853, line 5) and server.tls (0.0.0.0:853, line 4)"],
            ),
            (
                format!("{base}{}", tls("quic", "[::1]:853\",\n\"127.0.0.1:853\",\n\"[::]:853")),
                &["6: server.quic ([::]:853, line 6) and server.quic ([::1]:853, line 4)"],
            ),
            (format!("{base}{}", tls("https", "127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.2:443\", \"127.0.0.3:443")), &[]),
            ("[server]\nlisten = [\"0.0.0.0:53\", \"127.0.0.1:53\"]\n".into(), &[]),
            // One of TCP, one of UDP: as it should be.
            (format!("{base}{}{}", tls("https", "127.0.0.1:443"), tls("quic", "127.0.0.1:443")), &[]),
            (
                format!("{base}{}{}", tls("tls", "127.0.0.1:443"), tls("https", "127.0.0.1:443")),
                &["8: server.https (127.0.0.1:443, line 8) and server.tls (127.0.0.1:443, line 4)"],
            ),
        ] {
            assert_eq!(of(text.clone()), wanted, "{text}");
        }
    }
}

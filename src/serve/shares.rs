//! How many connections of clients there is room for: each over TCP, TLS and HTTPS is a file, and a process may have only so many open.
//!
//! ```text
//! files that may be open
//!   ├─ a quarter, LEAST_KEPT at least     checks, the admin listener, reloads, the state
//!   ├─ sockets of DNS itself              one for each address, transport and thread, and what threads wait with
//!   └─ the rest                           connections: each transport has what it asks for, or its part in proportion; TCP half of all files at most
//! ```
//!
//! QUIC has one socket for all connections of an address.

use crate::answer::Transport;
use crate::config::{Encrypted, Problem, Settings, Severity};
use crate::telemetry::Registry;

/// One in so many files is not for connections of clients, …
const KEPT_SHARE: usize = 4;
/// … and so many at least.
const LEAST_KEPT: usize = 128;
/// TCP has one in so many at most.
const TCP_SHARE: usize = 2;
/// What any start has open: the standard streams, runtimes, signals, the state, listeners of HTTP.
const AT_START: usize = 64;

/// The places of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    transport: Transport,
    /// Its table in `meridian.toml`.
    listener: &'static str,
    wanted: usize,
    places: usize,
}

/// What each transport that these settings open gets where `threads` threads serve and so many files may be open.
pub fn shares(settings: &Settings, threads: usize, files: Option<u64>) -> Vec<Share> {
    let Encrypted { tls, https, quic } = &settings.encrypted;
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let addresses = [tls, https, quic].into_iter().flatten().map(|listener| listener.listen.len()).sum::<usize>();
    // Over UDP and TCP; a thread of TCP waits with two more.
    let sockets = AT_START + addresses + threads * (2 * settings.listen.len() + 2);
    let room = files.saturating_sub((files / KEPT_SHARE).max(LEAST_KEPT)).saturating_sub(sockets);
    let of = |transport, listener, wanted| Share { transport, listener, wanted, places: wanted };
    let mut shares = vec![of(Transport::Tcp, "server.tcp", settings.tcp.total)];
    shares.extend(tls.iter().map(|tls| of(Transport::Tls, "server.tls", tls.limits.total)));
    shares.extend(https.iter().map(|https| of(Transport::Https, "server.https", https.limits.total)));
    let wanted: usize = shares.iter().map(|share| share.wanted).sum();
    for share in &mut shares {
        if wanted > room {
            share.places = (share.wanted as u128 * room as u128 / wanted as u128) as usize;
        }
        if share.transport == Transport::Tcp {
            share.places = share.places.min(files / TCP_SHARE);
        }
        share.places = share.places.max(1);
    }
    shares.extend(quic.iter().map(|quic| of(Transport::Quic, "server.quic", quic.limits.total)));
    shares
}

/// Makes the limits of the settings what there is room for, and tells of it.
pub fn take(shares: &[Share], settings: &mut Settings) {
    let Encrypted { tls, https, .. } = &mut settings.encrypted;
    for share in shares {
        let total = match share.transport {
            Transport::Tcp => Some(&mut settings.tcp.total),
            Transport::Tls => tls.as_mut().map(|tls| &mut tls.limits.total),
            Transport::Https => https.as_mut().map(|https| &mut https.limits.total),
            Transport::Udp | Transport::Quic => None,
        };
        if let Some(total) = total {
            *total = share.places;
        }
    }
}

/// Keeps them for status and metrics.
pub fn tell(shares: &[Share], registry: &Registry) {
    use std::sync::atomic::Ordering::Relaxed;
    for share in shares {
        let counters = registry.connections(share.transport);
        counters.places.store(share.places as u64, Relaxed);
        counters.wanted.store(share.wanted as u64, Relaxed);
    }
}

/// What is to be said where there is less room than what is asked for.
pub fn lacking(shares: &[Share], settings: &Settings, files: Option<u64>) -> Vec<Problem> {
    let less = shares.iter().filter(|share| share.places < share.wanted);
    let problem = |share: &Share| {
        let text = format!(
            "connections: {} are asked for, but there is room for {}: a process may open {} files here; raise that limit (LimitNOFILE= in systemd, \
             ulimit -Hn) or ask for less",
            share.wanted,
            share.places,
            files.unwrap_or(0)
        );
        let subject = share.listener.split('.').map(str::to_owned).collect();
        Problem { severity: Severity::Warning, file: settings.file.clone(), line: 0, subject, text }
    };
    less.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{MemoryFiles, load_settings_alone};

    #[test]
    fn connections_leave_files_for_everything_else() {
        let table = |key: &str, more: &str| format!("[server.{key}]\nlisten = \"127.0.0.1:1\"\ncertificate = \"c\"\nkey = \"k\"\n{more}\n");
        let all = [table("tls", ""), table("https", ""), table("quic", "")].concat();
        let tcp = |count: &str| format!("[server.tcp]\nconnections = {count}\n");
        for (text, files, places) in [
            (String::new(), None, vec![4096]),
            (String::new(), Some(8192), vec![4096]),
            // Half of them, as long as that leaves enough.
            (String::new(), Some(4096), vec![2048]),
            (String::new(), Some(256), vec![58]),
            (tcp("100"), Some(1024), vec![100]),
            (format!("{}{}", tcp("100"), table("tls", "connections = 500")), Some(1024), vec![100, 500]),
            (all.clone(), Some(u64::MAX), vec![4096, 4096, 4096, 4096]),
            (all.clone(), Some(1024), vec![231, 231, 231, 4096]),
            (format!("{}{}", tcp("1"), table("tls", "")), Some(1024), vec![1, 696]),
            (all, Some(64), vec![1, 1, 1, 4096]),
        ] {
            let files_of = MemoryFiles([("meridian.toml".into(), text.clone().into_bytes().into())].into());
            let (mut settings, _) = load_settings_alone(&files_of, Path::new("meridian.toml"));
            let shares = shares(&settings, 1, files);
            let found: Vec<usize> = shares.iter().map(|share| share.places).collect();
            assert_eq!(found, places, "{text} {files:?}");
            let less = shares.iter().filter(|share| share.places < share.wanted).count();
            assert_eq!(lacking(&shares, &settings, files).len(), less, "{text}");
            take(&shares, &mut settings);
            let taken = [
                Some(settings.tcp.total),
                settings.encrypted.tls.map(|tls| tls.limits.total),
                settings.encrypted.https.map(|https| https.limits.total),
            ];
            assert!(taken.into_iter().flatten().eq(places.into_iter().take(3)), "{text}");
        }
    }
}

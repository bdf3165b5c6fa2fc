//! What the transports listen on. What cannot be had at the start is tried again as long as the program runs.
//!
//! ```text
//! Doors::open ─▶ Door: certificate, addresses ─ start ─▶ each address served
//!                  └─ what is lacking: told as degraded ◀─ every few seconds ─▶ served as soon as it can be had
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;

use super::{Shared, quic, tls, unix_s};
use crate::answer::Transport;
use crate::certs::{self, LOOK_EVERY, Shown};
use crate::config::{Encrypted, EncryptedListener, Settings};
use crate::serve::bind::{listen_alone, udp_alone};

/// Listeners that are to serve, bound as far as they can be.
#[derive(Debug, Default)]
pub struct Doors {
    pub(super) doors: Vec<Door>,
}

/// One transport.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) transport: Transport,
    pub(super) config: EncryptedListener,
    /// Or why there is none; nothing is bound then.
    shown: Result<Arc<Shown>, certs::Trouble>,
    /// Bound, and not served yet.
    bound: Vec<Bound>,
    /// Why these are not, in the system's words.
    lacking: BTreeMap<SocketAddr, String>,
    /// Where `meridian.toml` names the certificate's files, as `meridian.toml:9: `.
    places: Vec<(std::path::PathBuf, String)>,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Bound {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(socket) => socket.local_addr(),
            Bound::Udp(socket) => socket.local_addr(),
        }
        .ok()
    }
}

/// What was found when doors were opened.
#[derive(Debug)]
pub struct Trouble {
    /// In a sentence, with the line of `meridian.toml`, if it is about one.
    pub text: String,
    /// The transport stays closed; otherwise it serves all the same.
    pub is_closed: bool,
}

/// What is wrong with the certificates that these settings name, by their table in `meridian.toml`; the error is what would keep it closed.
pub fn certificate_troubles(settings: &Encrypted) -> Vec<(&'static str, Result<Vec<certs::Trouble>, certs::Trouble>)> {
    configured(settings).map(|(transport, config)| (listener(transport), load(config).map(|shown| shown.troubles(unix_s())))).collect()
}

fn configured(settings: &Encrypted) -> impl Iterator<Item = (Transport, &EncryptedListener)> {
    let all = [(Transport::Tls, &settings.tls), (Transport::Https, &settings.https), (Transport::Quic, &settings.quic)];
    all.into_iter().filter_map(|(transport, config)| Some((transport, config.as_ref()?)))
}

/// Its table in `meridian.toml`.
fn listener(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "server.tls",
        Transport::Https => "server.https",
        Transport::Quic => "server.quic",
        Transport::Udp | Transport::Tcp => "server.listen",
    }
}

fn load(config: &EncryptedListener) -> Result<Shown, certs::Trouble> {
    Shown::load(&config.certificate, &config.key, config.name.as_deref())
}

impl Doors {
    /// Binds what the settings ask for, as far as it can be had; the second value says what is wrong.
    pub fn open(settings: &Settings) -> (Doors, Vec<Trouble>) {
        let doors: Vec<Door> = configured(&settings.encrypted).map(|(transport, config)| Door::open(transport, config, settings)).collect();
        let troubles = doors.iter().flat_map(|door| {
            let is_closed = door.bound.is_empty();
            let lacking = door.told().into_iter().map(move |text| Trouble { text, is_closed });
            let of_certificate = door.shown.iter().filter(move |_| !is_closed).flat_map(|shown| shown.troubles(unix_s()));
            lacking.chain(of_certificate.map(|trouble| Trouble { text: door.of_file(&trouble.file, &trouble), is_closed: false }))
        });
        let troubles = troubles.collect();
        (Doors { doors }, troubles)
    }

    /// Where each transport listens.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let of = |door: &Door| door.bound.iter().filter_map(Bound::address).map(|address| (door.transport.name(), address)).collect::<Vec<_>>();
        self.doors.iter().flat_map(of).collect()
    }
}

impl Door {
    fn open(transport: Transport, config: &EncryptedListener, settings: &Settings) -> Door {
        let place = |file: &std::path::PathBuf| (file.clone(), settings.place_of_file(listener(transport), file));
        let places = [&config.certificate, &config.key].map(place).into();
        let mut door =
            Door { transport, config: config.clone(), shown: load(config).map(Arc::new), bound: Vec::new(), lacking: BTreeMap::new(), places };
        door.bind(&config.listen);
        door
    }

    /// Without a certificate nothing is bound: who connects is better refused than left to wait.
    fn bind(&mut self, addresses: &[SocketAddr]) {
        if self.shown.is_err() {
            return;
        }
        for address in addresses {
            let bound = match self.transport {
                Transport::Quic => udp_alone(*address).map(Bound::Udp),
                _ => listen_alone(*address).map(Bound::Tcp),
            };
            match bound {
                Ok(bound) => {
                    self.lacking.remove(address);
                    self.bound.push(bound);
                }
                Err(error) => drop(self.lacking.insert(*address, error.to_string())),
            }
        }
    }

    /// What a file of it has, with its place.
    fn of_file(&self, file: &Path, what: impl std::fmt::Display) -> String {
        let place = self.places.iter().find(|(other, _)| other == file).map_or("", |(_, place)| place.as_str());
        format!("{place}{}: {what}", listener(self.transport))
    }

    /// Whether it has no address at all.
    fn is_closed(&self) -> bool {
        self.shown.is_err() || self.lacking.len() == self.config.listen.len()
    }

    /// What is lacking, in sentences.
    fn told(&self) -> Vec<String> {
        if let Err(trouble) = &self.shown {
            return vec![self.of_file(&trouble.file, format_args!("not opened: {trouble}; DNS serves without it, and it is tried again"))];
        }
        let name = listener(self.transport);
        let all = || self.lacking.values().map(String::as_str).collect::<Vec<_>>().join("; ");
        match self.is_closed() {
            true => vec![format!("{name}: not opened: {}; DNS serves without it, and it is tried again", all())],
            false => self.lacking.values().map(|error| format!("{name}: {error}; it listens on the others, and tries this one again")).collect(),
        }
    }

    /// What handshakes go by. The certificate is looked up for each, tickets are sealed with keys that change by themselves (every six hours; the one
    /// before is good for as long again), and nothing is kept here of a session. No early data: who asks with a ticket waits for one round trip.
    fn tls(&self, shown: &Arc<Shown>) -> io::Result<Arc<ServerConfig>> {
        let versions: &[_] = match self.transport {
            Transport::Quic => &[&rustls::version::TLS13],
            _ if self.config.tls13_only => &[&rustls::version::TLS13],
            _ => rustls::ALL_VERSIONS,
        };
        let protocol: &[u8] = match self.transport {
            Transport::Https => b"h2",
            Transport::Quic => b"doq",
            _ => b"dot",
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![protocol.to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}

/// A door in a runtime, where it is served.
pub(super) struct Served {
    door: Door,
    shared: Arc<Shared>,
    config: Option<Arc<ServerConfig>>,
}

impl Served {
    /// Serves what is bound. To be called in the runtime.
    pub(super) fn begin(door: Door, shared: Arc<Shared>) -> io::Result<Served> {
        let mut served = Served { door, shared, config: None };
        served.serve()?;
        served.shared.registry.lacks(listener(served.door.transport), served.door.told());
        Ok(served)
    }

    fn serve(&mut self) -> io::Result<()> {
        let places = if self.door.is_closed() { 0 } else { self.door.config.limits.total };
        self.shared.registry.connections(self.door.transport).places.store(places as u64, Relaxed);
        let (Ok(shown), false) = (&self.door.shown, self.door.bound.is_empty()) else { return Ok(()) };
        let config = match &self.config {
            Some(config) => config.clone(),
            None => self.config.insert(self.door.tls(shown)?).clone(),
        };
        for bound in self.door.bound.drain(..) {
            match bound {
                Bound::Tcp(socket) => {
                    let listener = tokio::net::TcpListener::from_std(socket)?;
                    tokio::spawn(tls::accept(listener, config.clone(), self.shared.clone()));
                }
                Bound::Udp(socket) => drop(tokio::spawn(quic::accept(quic::endpoint(socket, &config, &self.shared)?, self.shared.clone()))),
            }
        }
        Ok(())
    }

    /// Looks at the files and for what is lacking, again and again.
    pub(super) async fn keep(mut self) {
        let name = listener(self.door.transport);
        loop {
            if let Ok(shown) = &self.door.shown {
                self.shared.registry.certify(shown.facts(name, unix_s()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            match &self.door.shown {
                Ok(shown) => shown.look_and_tell(name, unix_s()),
                Err(_) => self.door.shown = load(&self.door.config).map(Arc::new),
            }
            self.complete(name);
            self.shared.registry.lacks(name, self.door.told());
            if let Some(config) = &self.config {
                change_key(config);
            }
        }
    }

    /// Opens what it lacks and can be had now.
    fn complete(&mut self, name: &str) {
        let mut wanted: Vec<SocketAddr> = self.door.lacking.keys().copied().collect();
        if self.config.is_none() && wanted.is_empty() {
            wanted.clone_from(&self.door.config.listen);
        }
        self.door.bind(&wanted);
        let opened: Vec<SocketAddr> = self.door.bound.iter().filter_map(Bound::address).collect();
        match self.serve() {
            Ok(()) => opened.iter().for_each(|address| tracing::info!(%address, "{name}: listens there now")),
            Err(error) => {
                tracing::error!(%error, "{name}: cannot be served");
                opened.into_iter().for_each(|address| drop(self.door.lacking.insert(address, error.to_string())));
            }
        }
    }
}

/// The key of tickets is looked at when one is needed, and changes then if it is time. Where nobody comes that would be late: the key of a day ago would open
/// its tickets once more.
fn change_key(config: &ServerConfig) {
    let _ = config.ticketer.encrypt(&[]);
}

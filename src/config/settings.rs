//! `meridian.toml`: every key with its default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::admin::{self, AdminOptions};
use super::encrypted::{self, Encrypted};
use super::health::{self, HealthOptions};
use super::limits::{self, TcpLimits};
use super::query_log;
use super::raw::Defaults;
use super::read;
use super::source::{Doc, Sink, Table, Value};
use super::values;
use crate::dns::Name;
use crate::policy::model::Prefix;
use crate::world::{QueryLog, RateLimit};

/// The standard port of the DNS.
pub(super) const DNS_PORT: u16 = 53;
/// The port of the admin listener.
pub(super) const ADMIN_PORT: u16 = 8053;
/// Beyond that a thread that sleeps is as quick.
const MAX_BUSY_POLL_MICROS: i64 = 1_000;

/// The most threads that answer over UDP: more than any machine has cores.
pub(super) const MAX_THREADS: i64 = 1024;
/// The most listen addresses: each is a UDP and a TCP socket per thread.
const MAX_LISTEN: usize = 64;
/// The longest NSID: it goes into every answer that asks for it.
pub(super) const MAX_NSID_LEN: usize = 64;
/// The longest version text: one character-string (RFC 1035 §3.3).
pub(super) const MAX_VERSION_LEN: usize = 255;
/// The most databases and prefixes of one list.
const MAX_LIST: usize = 10_000;

/// Threads that answer over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One per core.
    Auto,
    /// So many.
    Count(usize),
}

/// A master file under an explicit origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterFile {
    /// Apex of the zone, lower case.
    pub origin: Name,
    /// Where it is.
    pub file: PathBuf,
    /// Line of `meridian.toml`, one-based.
    pub line: u32,
}

/// The lines of addresses to listen on, and of files of certificates and keys. Files that say the same on other lines are equal.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    addresses: Vec<(&'static str, SocketAddr, u32)>,
    files: Vec<(&'static str, PathBuf, u32)>,
}

impl PartialEq for Lines {
    fn eq(&self, _: &Lines) -> bool {
        true
    }
}

impl Lines {
    pub(super) fn note(&mut self, key: &'static str, address: SocketAddr, line: u32) {
        self.addresses.push((key, address, line));
    }

    pub(super) fn note_file(&mut self, key: &'static str, file: &Path, line: u32) {
        self.files.push((key, file.to_path_buf(), line));
    }

    /// Where this key, such as `server.tls`, lists the address: one-based, 0 when no line does.
    pub fn of(&self, key: &str, address: SocketAddr) -> u32 {
        self.addresses.iter().find(|(other, listed, _)| *other == key && *listed == address).map_or(0, |(_, _, line)| *line)
    }

    /// Where this key names the file: one-based, 0 when no line does.
    pub fn of_file(&self, key: &str, file: &Path) -> u32 {
        self.files.iter().find(|(other, named, _)| *other == key && named == file).map_or(0, |(_, _, line)| *line)
    }
}

/// Coarsest client-subnet prefixes that the class map is cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EcsClip {
    /// 1 to 32.
    pub v4: u8,
    /// 1 to 128.
    pub v6: u8,
}

/// All of `meridian.toml`. Paths are relative to the working directory or absolute: they can be opened as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The file itself.
    pub file: PathBuf,
    /// `server.listen`: UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// Where it, and the addresses of other listeners, stand.
    pub lines: Lines,
    /// `server.threads`.
    pub threads: Threads,
    /// `server.busy_poll`: how long a UDP thread looks for queries before it sleeps.
    pub busy_poll: Duration,
    /// `server.nsid`, at most [`MAX_NSID_LEN`] octets.
    pub nsid: Option<String>,
    /// `server.version`, for `version.bind`.
    pub version: Option<String>,
    /// `server.cookies`: DNS cookies (RFC 7873) are answered and checked.
    pub cookies: bool,
    /// `server.cookie_secrets`: the file of the secrets that servers of one address share.
    pub cookie_secrets: Option<PathBuf>,
    /// `[server.tcp]`.
    pub tcp: TcpLimits,
    /// `[server.tls]`, `[server.https]` and `[server.quic]`.
    pub encrypted: Encrypted,
    /// `[rate_limit]`; without the table nobody is limited over UDP.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// `[query_log]`; without the table nothing is logged of queries.
    pub query_log: Option<Arc<QueryLog>>,
    /// `[health]`.
    pub health: HealthOptions,
    /// `server.rotate`.
    pub rotate: bool,
    /// `zones.dir`.
    pub zones_dir: PathBuf,
    /// `zones.may_read`: files and folders beside it that zone files may name.
    pub may_read: Vec<PathBuf>,
    /// `[[zones.master]]`.
    pub masters: Vec<MasterFile>,
    /// `geo.databases`.
    pub geo_databases: Vec<PathBuf>,
    /// `latency.table`.
    pub latency_table: Option<PathBuf>,
    /// `ecs.trust`: whose client-subnet option is used.
    pub ecs_trust: Vec<Prefix>,
    /// `ecs.clip`.
    pub ecs_clip: Option<EcsClip>,
    /// `admin.listen`.
    pub admin_listen: SocketAddr,
    /// `admin.enabled`.
    pub admin_enabled: bool,
    /// The rest of `[admin]`, and `[metrics]`.
    pub admin: AdminOptions,
    /// `state.path`.
    pub state_path: PathBuf,
    /// `diagnostics.allow`: who may ask `_why.`.
    pub diagnostics_allow: Vec<Prefix>,
    /// `[defaults]`.
    pub(super) defaults: Defaults,
}

impl Settings {
    /// The line on which this key names a file, as `meridian.toml:9: `; nothing where no line does.
    pub fn place_of_file(&self, key: &str, file: &Path) -> String {
        match self.lines.of_file(key, file) {
            0 => String::new(),
            line => format!("{}:{line}: ", self.file.display()),
        }
    }

    /// What holds when the file says nothing.
    fn of_nothing(path: &Path) -> Settings {
        let folder = path.parent().unwrap_or(Path::new(""));
        let whole = |addr: IpAddr| Prefix { addr, len: 0 };
        Settings {
            file: path.to_path_buf(),
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, DNS_PORT)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, DNS_PORT))],
            lines: Lines::default(),
            threads: Threads::Auto,
            busy_poll: Duration::ZERO,
            nsid: None,
            version: None,
            cookies: true,
            cookie_secrets: None,
            tcp: TcpLimits::default(),
            encrypted: Encrypted::default(),
            rate_limit: None,
            query_log: None,
            health: HealthOptions::default(),
            rotate: true,
            zones_dir: folder.join("zones"),
            may_read: Vec::new(),
            masters: Vec::new(),
            geo_databases: Vec::new(),
            latency_table: None,
            ecs_trust: vec![whole(Ipv4Addr::UNSPECIFIED.into()), whole(Ipv6Addr::UNSPECIFIED.into())],
            ecs_clip: None,
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)),
            admin_enabled: true,
            admin: AdminOptions::default(),
            state_path: folder.join("state/meridian.db"),
            diagnostics_allow: vec![
                Prefix { addr: Ipv4Addr::new(127, 0, 0, 0).into(), len: 8 },
                Prefix { addr: Ipv6Addr::LOCALHOST.into(), len: 128 },
            ],
            defaults: Defaults::default(),
        }
    }
}

/// Reads the text of `meridian.toml`. What is wrong keeps its default; the sink says whether anything was.
pub(super) fn read(shown: &Path, path: &Path, text: &str, sink: &Sink) -> Settings {
    let mut settings = Settings::of_nothing(path);
    let folder = path.parent().unwrap_or(Path::new(""));
    let (doc, tree) = Doc::parse(shown, folder, text, sink);
    let top = doc.root(&tree);
    let section = |key: &'static str| top.take(key).and_then(|value| value.table(&format!(" such as [{key}]")));
    if let Some(table) = section("server") {
        server(&table, &mut settings);
        table.finish();
    }
    settings.rate_limit = top.take("rate_limit").and_then(|value| limits::rate_limit(&value)).map(Arc::new);
    settings.query_log = top.take("query_log").and_then(|value| query_log::query_log(&value)).map(Arc::new);
    if let Some(value) = top.take("health") {
        settings.health = health::health(&value);
    }
    if let Some(table) = section("zones") {
        zones(&table, &mut settings);
        table.finish();
    }
    if let Some(table) = section("geo") {
        if let Some(value) = table.take("databases") {
            settings.geo_databases = limited(&value, "databases").iter().filter_map(read::path).map(|path| path.value).collect();
        }
        table.finish();
    }
    if let Some(table) = section("latency") {
        settings.latency_table = table.take("table").and_then(|value| read::path(&value)).map(|path| path.value);
        table.finish();
    }
    if let Some(table) = section("ecs") {
        ecs(&table, &mut settings);
        table.finish();
    }
    if let Some(table) = section("admin") {
        admin::admin(&table, &mut settings);
        table.finish();
    }
    if let Some(table) = section("metrics") {
        admin::metrics(&table, &mut settings);
        table.finish();
    }
    if let Some(table) = section("state") {
        if let Some(path) = table.take("path").and_then(|value| read::path(&value)) {
            settings.state_path = path.value;
        }
        table.finish();
    }
    if let Some(table) = section("diagnostics") {
        if let Some(value) = table.take("allow") {
            settings.diagnostics_allow = values::prefixes(&value);
        }
        table.finish();
    }
    if let Some(value) = top.take("defaults") {
        settings.defaults = read::read_defaults(&value);
    }
    settings.defaults.exec = settings.health.exec;
    top.finish();
    settings
}

fn server(table: &Table<'_>, settings: &mut Settings) {
    if let Some(value) = table.take("listen") {
        settings.listen = addresses(&value, "server.listen", &mut settings.lines);
    }
    if let Some(value) = table.take("threads") {
        match (value.as_str(), value.as_integer()) {
            (Some("auto"), _) => settings.threads = Threads::Auto,
            (_, Some(_)) => {
                if let Some(count) = value.integer(1..=MAX_THREADS, "") {
                    settings.threads = Threads::Count(count as usize);
                }
            }
            _ => value.expected(format_args!("\"auto\" or a number from 1 to {MAX_THREADS}")),
        }
    }
    if let Some(micros) = table.take("busy_poll").and_then(|value| value.integer(0..=MAX_BUSY_POLL_MICROS, " microseconds")) {
        settings.busy_poll = Duration::from_micros(micros as u64);
    }
    if let Some(value) = table.take("tcp") {
        settings.tcp = limits::tcp(&value);
    }
    settings.encrypted = encrypted::encrypted(table, &mut settings.lines);
    settings.nsid = table.take("nsid").and_then(|value| short_text(&value, MAX_NSID_LEN));
    settings.version = table.take("version").and_then(|value| short_text(&value, MAX_VERSION_LEN));
    if let Some(rotate) = table.take("rotate").and_then(|value| value.boolean()) {
        settings.rotate = rotate;
    }
    if let Some(cookies) = table.take("cookies").and_then(|value| value.boolean()) {
        settings.cookies = cookies;
    }
    if let Some(value) = table.take("cookie_secrets") {
        settings.cookie_secrets = read::path(&value).map(|path| path.value);
        if !settings.cookies {
            value.error("given, but cookies = false; leave one of the two out");
        }
    }
}

fn short_text(value: &Value<'_>, most: usize) -> Option<String> {
    let text = value.string("a text")?;
    if text.is_empty() || text.len() > most {
        value.error(format!("found a text of {} octets, expected 1 to {most} (leave the key out for none)", text.len()));
        return None;
    }
    Some(text.to_string())
}

fn zones(table: &Table<'_>, settings: &mut Settings) {
    if let Some(dir) = table.take("dir").and_then(|value| read::path(&value)) {
        settings.zones_dir = dir.value;
    }
    if let Some(value) = table.take("may_read") {
        settings.may_read = limited(&value, "files and folders").iter().filter_map(read::path).map(|path| path.value).collect();
    }
    let Some(value) = table.take("master") else { return };
    let Some(items) = value.as_list() else {
        value.error("found a table, expected a list: write [[zones.master]] with two brackets".to_string());
        return;
    };
    for item in items {
        let Some(table) = item.table(" such as { origin = \"example.net.\", file = \"db.example.net\" }") else { continue };
        let (origin, file) = (table.take("origin"), table.take("file"));
        for (given, key) in [(origin.is_some(), "origin"), (file.is_some(), "file")] {
            if !given {
                table.missing(format!("{key} is missing"));
            }
        }
        let origin = origin.and_then(|value| read::name(&value, &Name::root()));
        let file = file.and_then(|value| read::path(&value));
        table.finish();
        if let (Some(origin), Some(file)) = (origin, file) {
            settings.masters.push(MasterFile { origin: origin.to_lowercase(), file: file.value, line: file.at.line });
        }
    }
}

fn ecs(table: &Table<'_>, settings: &mut Settings) {
    if let Some(value) = table.take("trust") {
        settings.ecs_trust = values::prefixes(&value);
    }
    let Some(clip) = table.take("clip").and_then(|value| value.table(" such as { v4 = 24, v6 = 56 }")) else { return };
    let v4 = clip.take("v4").map_or(Some(32), |value| value.integer(1..=32, ""));
    let v6 = clip.take("v6").map_or(Some(128), |value| value.integer(1..=128, ""));
    clip.finish();
    if let (Some(v4), Some(v6)) = (v4, v6) {
        settings.ecs_clip = Some(EcsClip { v4: v4 as u8, v6: v6 as u8 });
    }
}

fn limited<'d>(value: &Value<'d>, what: &str) -> Vec<Value<'d>> {
    let mut items = value.one_or_many();
    if items.len() > MAX_LIST {
        value.error(format!("found {} {what}, expected at most {MAX_LIST}", items.len()));
        items.truncate(MAX_LIST);
    }
    items
}

/// One address to listen on or several, each once.
pub(super) fn addresses(value: &Value<'_>, key: &'static str, lines: &mut Lines) -> Vec<SocketAddr> {
    let items = value.one_or_many();
    if items.is_empty() || items.len() > MAX_LISTEN {
        value.error(format!("found {} addresses, expected 1 to {MAX_LISTEN}", items.len()));
    }
    let mut found: Vec<SocketAddr> = Vec::new();
    for item in items.into_iter().take(MAX_LISTEN) {
        let Some(address) = socket_address(&item, usual_port(key)) else { continue };
        if address.port() != 0 && found.contains(&address) {
            item.error(match lines.of(key, address) {
                line if line == item.line => format!("{address} is listed twice"),
                line => format!("{address} is listed twice, on line {line} as well"),
            });
            continue;
        }
        lines.note(key, address, item.line);
        found.push(address);
    }
    found
}

/// The file that this key of a listener names; its line is noted.
pub(super) fn pem_file(table: &Table<'_>, key: &'static str, listener: &'static str, lines: &mut Lines) -> Option<PathBuf> {
    let value = table.take(key)?;
    let file = read::path(&value)?.value;
    lines.note_file(listener, &file, value.line);
    Some(file)
}

/// The port that one expects behind this key.
pub(super) fn usual_port(key: &str) -> u16 {
    match key {
        "server.tls" | "server.quic" => 853,
        "server.https" => 443,
        "admin.listen" => ADMIN_PORT,
        _ => DNS_PORT,
    }
}

/// An address and a port; who forgets the port is asked whether it is the usual one.
pub(super) fn socket_address(value: &Value<'_>, usual: u16) -> Option<SocketAddr> {
    let what = "an address and a port such as \"127.0.0.1:5300\" or \"[::1]:5300\"";
    let text = value.string(what)?;
    let found = text.parse();
    if found.is_err() {
        let hint = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("; did you mean \"{text}:{usual}\"?"),
            Ok(IpAddr::V6(_)) => format!("; did you mean \"[{text}]:{usual}\"?"),
            Err(_) => String::new(),
        };
        value.error(format!("found {text:?}, expected {what}{hint}"));
    }
    found.ok()
}

//! The servers, their configurations, and what they cost. All serve the same zones on a loopback port from one core and one worker.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::data::{Data, GEO_NAMES, Geo, REGIONS, ZONE, addresses, text_of, zone_head, zone_names};

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Sets QR and sends back: what the kernel alone costs.
    Echo,
    Meridian,
    /// With `busy_poll`.
    MeridianBusy,
    Gdnsd,
    Knot,
    Nsd,
    PowerDns,
    Bind,
}

/// Servers by the name that the command line knows them by, and the program that must be installed.
pub(crate) const SERVERS: [(&str, Kind, &str); 8] = [
    ("echo", Kind::Echo, ""),
    ("meridian", Kind::Meridian, ""),
    ("meridian-busy", Kind::MeridianBusy, ""),
    ("gdnsd", Kind::Gdnsd, "gdnsd"),
    ("knot", Kind::Knot, "knotd"),
    ("nsd", Kind::Nsd, "nsd"),
    ("powerdns", Kind::PowerDns, "pdns_server"),
    ("bind", Kind::Bind, "named"),
];

impl Kind {
    /// It serves Meridian's own policies, or only sends back.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Kind::Echo | Kind::Meridian | Kind::MeridianBusy)
    }

    /// NSD and BIND answer nothing by client subnet.
    pub(crate) fn can_serve(self, data: Data) -> bool {
        data != Data::Geo || !matches!(self, Kind::Nsd | Kind::Bind)
    }
}

/// What a server is given.
#[derive(Clone, Copy)]
pub(crate) enum Served<'d> {
    /// One master file.
    Zone(&'d Path),
    /// A folder of them, `NAME.zone`, and how many.
    Zones(&'d Path, u32),
    /// Names by country.
    Geo(&'d Geo),
}

impl Served<'_> {
    /// Names and files of zones without geography.
    fn zones(self) -> Vec<(String, PathBuf)> {
        match self {
            Served::Zone(file) => vec![(ZONE.to_owned(), file.to_path_buf())],
            Served::Zones(dir, zones) => zone_names(zones).map(|name| (name.clone(), dir.join(format!("{name}.zone")))).collect(),
            Served::Geo(_) => Vec::new(),
        }
    }
}

/// The core that servers run on.
const SERVER_CORE: &str = "0";

/// Of `meridian-busy`.
const BUSY_POLL_MICROS: u32 = 50;

/// What a server may take to load.
const START_LIMIT: Duration = Duration::from_secs(300);

/// A server that runs; ends with this value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    started: Instant,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// Nanoseconds, exact.
    pub(crate) all_ns: u64,
    /// Ticks of 10 ms, in user code and in all.
    pub(crate) user_ticks: u64,
    pub(crate) ticks: u64,
}

impl Server {
    /// Starts a server in `dir`, which is its own; perhaps in a network of its own.
    pub(crate) fn start(kind: Kind, dir: &Path, address: SocketAddr, namespace: Option<&str>, served: Served<'_>) -> io::Result<Server> {
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let command = match kind {
            Kind::Echo => vec![std::env::current_exe()?.display().to_string(), "echo".into(), address.port().to_string()],
            Kind::Meridian => meridian(&dir, address, served, 0)?,
            Kind::MeridianBusy => meridian(&dir, address, served, BUSY_POLL_MICROS)?,
            Kind::Gdnsd => gdnsd(&dir, address, served)?,
            Kind::Knot => knot(&dir, address, served)?,
            Kind::Nsd => nsd(&dir, address, served)?,
            Kind::PowerDns => powerdns(&dir, address, served)?,
            Kind::Bind => bind(&dir, address, served)?,
        };
        let log = fs::File::create(dir.join("log"))?;
        let entering: Vec<&str> = namespace.map_or_else(Vec::new, |name| vec!["ip", "netns", "exec", name]);
        let line: Vec<&str> = entering.into_iter().chain(["taskset", "-c", SERVER_CORE]).chain(command.iter().map(String::as_str)).collect();
        let child = Command::new(line[0]).args(&line[1..]).current_dir(&dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Server { address, child, started: Instant::now() })
    }

    /// Waits until it answers; how long that took.
    pub(crate) fn wait(&mut self, is_up: impl Fn(SocketAddr) -> bool) -> io::Result<Duration> {
        while self.started.elapsed() < START_LIMIT {
            if is_up(self.address) {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended: {status}")));
            }
            pause(Duration::from_millis(5));
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// It and its children.
    fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut at = 0;
        while let Some(process) = all.get(at) {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            at += 1;
        }
        all
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for process in self.processes() {
            for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                cpu.all_ns += schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                // Behind the name, which may hold anything: state is the first field, user and system time the 12th and 13th.
                let fields: Vec<u64> =
                    stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
                if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
                    cpu.user_ticks += user;
                    cpu.ticks += user + system;
                }
            }
        }
        cpu
    }

    /// Its share of memory, MB.
    pub(crate) fn memory_mb(&self) -> f64 {
        let of = |process: u32| {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0)
        };
        self.processes().into_iter().map(of).sum::<f64>() / 1000.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = Command::new("kill").arg(process.to_string()).stderr(Stdio::null()).status();
        }
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "nothing tells when another process is ready")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn words(line: String) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn geo_file(dir: &Path, geo: &Geo) -> io::Result<PathBuf> {
    let path = dir.join("geo.mmdb");
    fs::write(&path, &geo.database)?;
    Ok(path)
}

fn meridian(dir: &Path, address: SocketAddr, served: Served<'_>, busy_poll: u32) -> io::Result<Vec<String>> {
    let zones = if let Served::Zones(zones, _) = served { zones.to_path_buf() } else { dir.join("zones") };
    fs::create_dir_all(&zones)?;
    let mut config = format!("[server]\nlisten = [\"{address}\"]\nthreads = 1\nbusy_poll = {busy_poll}\n[zones]\ndir = \"{}\"\n", zones.display());
    write!(config, "[admin]\nlisten = \"127.0.0.1:{}\"\n[state]\npath = \"state.db\"\n", address.port() + 20_000).expect("a string");
    match served {
        Served::Geo(geo) => {
            geo_file(dir, geo)?;
            config.push_str("[geo]\ndatabases = [\"geo.mmdb\"]\n");
            fs::write(zones.join(format!("{ZONE}.toml")), geo.meridian_zone())?;
        }
        Served::Zone(file) => drop(fs::copy(file, zones.join(format!("{ZONE}.zone")))?),
        Served::Zones(..) => {}
    }
    fs::write(dir.join("meridian.toml"), config)?;
    Ok(vec![env!("CARGO_BIN_EXE_meridian").into(), "run".into(), "--config".into(), dir.join("meridian.toml").display().to_string()])
}

fn gdnsd(dir: &Path, address: SocketAddr, served: Served<'_>) -> io::Result<Vec<String>> {
    let etc = dir.join("etc");
    fs::create_dir_all(etc.join("zones"))?;
    fs::create_dir_all(dir.join("run"))?;
    fs::create_dir_all(dir.join("state"))?;
    let mut config = format!("options => {{ listen => [ {address} ], udp_threads = 1, tcp_threads = 1, zones_strict_data = false\n");
    writeln!(config, "  run_dir = {0}/run, state_dir = {0}/state }}", dir.display()).expect("a string");
    // There a file is named as its zone is.
    for (name, file) in served.zones() {
        fs::hard_link(file, etc.join("zones").join(name))?;
    }
    match served {
        Served::Zone(_) | Served::Zones(..) => {}
        Served::Geo(geo) => {
            let mut text = zone_head();
            (0..GEO_NAMES).for_each(|n| writeln!(text, "app{n:02} 60 DYNA geoip!app").expect("a string"));
            fs::write(etc.join("zones").join(ZONE), text)?;
            let regions: Vec<String> = (0..REGIONS).map(|region| format!("r{region}")).collect();
            writeln!(
                config,
                "plugins => {{ geoip => {{ maps => {{ m => {{ geoip2_db => {}, datacenters => [{}], map => {{",
                geo_file(dir, geo)?.display(),
                regions.join(",")
            )
            .expect("a string");
            let mut open = None;
            for (continent, country, region) in geo.places() {
                if open != Some(continent) {
                    writeln!(config, "{}{} => {{", if open.is_some() { "}\n" } else { "" }, text_of(continent)).expect("a string");
                    open = Some(continent);
                }
                writeln!(config, "  {} => [r{region}],", text_of(country)).expect("a string");
            }
            config.push_str("}\n}}}, resources => { app => { map => m, service_types => up, dcmap => {\n");
            for region in 0..REGIONS {
                let (v4, v6) = addresses(region);
                writeln!(config, "r{region} => {{ addrs_v4 => {v4}, addrs_v6 => {v6} }},").expect("a string");
            }
            config.push_str("}}}}}\n");
        }
    }
    fs::write(etc.join("config"), config)?;
    Ok(words(format!("gdnsd -c {} start", etc.display())))
}

fn knot(dir: &Path, address: SocketAddr, served: Served<'_>) -> io::Result<Vec<String>> {
    let mut config = format!(
        "server:\n  rundir: {0}\n  listen: {1}@{2}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  edns-client-subnet: on\n\
         database:\n  storage: {0}\nlog:\n  - target: stderr\n    any: warning\n",
        dir.display(),
        address.ip(),
        address.port()
    );
    let (mut module, mut zones) = ("", served.zones());
    if let Served::Geo(geo) = served {
        writeln!(
            config,
            "mod-geoip:\n  - id: g\n    config-file: {}/geo.conf\n    ttl: 60\n    mode: geodb\n    geodb-file: {}\n    geodb-key: country/iso_code",
            dir.display(),
            geo_file(dir, geo)?.display()
        )
        .expect("a string");
        let mut views = String::new();
        let mut text = zone_head();
        for n in 0..GEO_NAMES {
            let (v4, v6) = addresses(0);
            writeln!(text, "app{n:02} 60 A {v4}\napp{n:02} 60 AAAA {v6}").expect("a string");
            writeln!(views, "app{n:02}.{ZONE}:").expect("a string");
            for (_, country, region) in geo.places() {
                let (v4, v6) = addresses(region);
                writeln!(views, "  - geo: \"{}\"\n    A: {v4}\n    AAAA: {v6}", text_of(country)).expect("a string");
            }
        }
        fs::write(dir.join("geo.conf"), views)?;
        zones.push((ZONE.to_owned(), dir.join("zone")));
        fs::write(dir.join("zone"), text)?;
        module = "    module: mod-geoip/g\n";
    }
    config.push_str("template:\n  - id: default\n    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\nzone:\n");
    for (name, file) in zones {
        write!(config, "  - domain: {name}\n    file: {}\n{module}", file.display()).expect("a string");
    }
    fs::write(dir.join("knot.conf"), config)?;
    Ok(words(format!("knotd -c {}/knot.conf", dir.display())))
}

fn nsd(dir: &Path, address: SocketAddr, served: Served<'_>) -> io::Result<Vec<String>> {
    let mut config = format!(
        "server:\n  ip-address: {1}@{2}\n  port: {2}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{0}\"\n  database: \"\"\n  \
         pidfile: \"{0}/nsd.pid\"\n  xfrdfile: \"{0}/xfrd.state\"\n  zonelistfile: \"{0}/zone.list\"\n  xfrdir: \"{0}\"\n  logfile: \"{0}/nsd.log\"\n  \
         minimal-responses: yes\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n",
        dir.display(),
        address.ip(),
        address.port()
    );
    for (name, file) in served.zones() {
        write!(config, "zone:\n  name: {name}\n  zonefile: {}\n", file.display()).expect("a string");
    }
    fs::write(dir.join("nsd.conf"), config)?;
    Ok(words(format!("nsd -d -c {}/nsd.conf", dir.display())))
}

fn powerdns(dir: &Path, address: SocketAddr, served: Served<'_>) -> io::Result<Vec<String>> {
    let mut config = format!(
        "local-address={}\nlocal-port={}\nsocket-dir={2}\nreceiver-threads=1\ndistributor-threads=1\nguardian=no\ndaemon=no\ndisable-syslog=yes\n\
         loglevel=3\nedns-subnet-processing=yes\nsecurity-poll-suffix=\n",
        address.ip(),
        address.port(),
        dir.display()
    );
    if let Served::Geo(geo) = served {
        let database = geo_file(dir, geo)?;
        writeln!(config, "launch=geoip\ngeoip-zones-file={}/zones.yaml\ngeoip-database-files=mmdb:{}", dir.display(), database.display())
            .expect("a string");
        let mut zones = String::from("mapping_lookup_formats: ['%co']\ncustom_mapping:\n");
        for (_, country, region) in geo.places() {
            writeln!(zones, "  \"{}\": r{region}", text_of(country).to_lowercase()).expect("a string");
        }
        write!(
            zones,
            "domains:\n- domain: {ZONE}\n  ttl: 60\n  records:\n    {ZONE}:\n    - soa: ns1.{ZONE} hostmaster.{ZONE} 1 3600 900 1209600 60\n    \
             - ns: ns1.{ZONE}\n    ns1.{ZONE}:\n    - a: 192.0.2.53\n"
        )
        .expect("a string");
        for region in 0..REGIONS {
            let (v4, v6) = addresses(region);
            writeln!(zones, "    r{region}.{ZONE}:\n    - a: {v4}\n    - aaaa: \"{v6}\"").expect("a string");
        }
        zones.push_str("  services:\n");
        (0..GEO_NAMES).for_each(|n| writeln!(zones, "    app{n:02}.{ZONE}: ['%mp.{ZONE}', 'r0.{ZONE}']").expect("a string"));
        fs::write(dir.join("zones.yaml"), zones)?;
    } else {
        writeln!(config, "launch=bind\nbind-config={}/named.conf", dir.display()).expect("a string");
        let mut zones = String::new();
        for (name, file) in served.zones() {
            writeln!(zones, "zone \"{name}\" {{ type master; file \"{}\"; }};", file.display()).expect("a string");
        }
        fs::write(dir.join("named.conf"), zones)?;
    }
    fs::write(dir.join("pdns.conf"), config)?;
    Ok(words(format!("pdns_server --config-dir={}", dir.display())))
}

fn bind(dir: &Path, address: SocketAddr, served: Served<'_>) -> io::Result<Vec<String>> {
    let mut config = format!(
        "options {{ directory \"{0}\"; listen-on port {2} {{ {1}; }}; listen-on-v6 {{ none; }}; recursion no; minimal-responses yes;\n  \
         pid-file \"{0}/named.pid\"; session-keyfile \"{0}/session.key\"; dnssec-validation no; empty-zones-enable no; querylog no; notify no; }};\n\
         controls {{ }};\n",
        dir.display(),
        address.ip(),
        address.port()
    );
    for (name, file) in served.zones() {
        writeln!(config, "zone \"{name}\" {{ type primary; file \"{}\"; }};", file.display()).expect("a string");
    }
    fs::write(dir.join("named.conf"), config)?;
    Ok(words(format!("named -4 -n 1 -f -c {}/named.conf", dir.display())))
}

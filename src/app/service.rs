//! `run`: load, bind, serve, reload on SIGHUP, stop on SIGTERM.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::advice;
use super::explainer::Running;
use crate::admin;
use crate::config::{OsFiles, Problem, Settings, Severity, Threads};
use crate::control::api::ReloadBody;
use crate::control::clock::Clock;
use crate::control::handle::{Handle, channel};
use crate::control::load::{self, Build, Previous};
use crate::control::writer::{Start, Writer};
use crate::control::{Who, clean_promoted};
use crate::dns::Name;
use crate::probe;
use crate::serve::shares::{self, Share};
use crate::serve::{BESIDE_UDP, EncryptedDoors, EncryptedServing, Limits as TcpLimits, Listeners, STOP_TIMEOUT, Serving};
use crate::store::{Saved, Store, StoreError};
use crate::telemetry::{Log, Logger, Registry};
use crate::world::{Published, World};

/// What is left of the 3 s that a stop may take (CONTRACT, Commands) for the state and the query log to reach the disk, beside what connections leave of
/// theirs.
const STATE_STOP_TIMEOUT: Duration = Duration::from_millis(400);

/// What is left of the same for the last lines of the log.
const LOG_STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Who does not start says why in full, as long as somebody reads on within a second, and for no longer than anybody would read.
const LOG_REFUSAL_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Of the files that may be open, each listener of HTTP has one in so many at most.
const ADMIN_SHARE: usize = 16;

/// What `meridian run` is asked to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// meridian.toml.
    pub config: PathBuf,
    /// Refuse to start when anything in the files is an error.
    pub strict: bool,
}

/// For the threads of checks and the admin listener.
fn yield_to_udp() {
    // Where it is not possible all are equal.
    let _ = crate::sys::lower_priority(BESIDE_UDP);
}

/// What everything but UDP runs on.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("meridian").on_thread_start(yield_to_udp).build()
}

/// Serves until SIGTERM or SIGINT. 0 after a clean stop, 1 when it could not start.
pub fn run(options: &RunOptions) -> ExitCode {
    let registry = Registry::new();
    let log = registry.log().clone();
    if let Err(error) = log.write_to(std::io::stderr()) {
        let _ = writeln!(std::io::stderr(), "meridian: not started: no thread for the log: {error}");
        return ExitCode::FAILURE;
    }
    start_logging(&log);
    crate::sys::outlive_file_size_limit();
    crate::sys::return_large_blocks();
    // Before anything asks how many there may be.
    crate::sys::raise_open_file_limit();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            log.say(format_args!("meridian: the runtime cannot be started: {error}"));
            let (idle, total) = LOG_REFUSAL_TIMEOUT;
            log.finish(idle, total);
            return ExitCode::FAILURE;
        }
    };
    let (code, (idle, total)) = match runtime.block_on(serve(options, registry)) {
        Ok(code) => (code, (LOG_STOP_TIMEOUT, LOG_STOP_TIMEOUT)),
        Err(why) => {
            log.say_in_full(format_args!("meridian: not started: {why}"));
            (ExitCode::FAILURE, LOG_REFUSAL_TIMEOUT)
        }
    };
    // Tasks that hang on a slow peer do not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(50));
    log.finish(idle, total);
    code
}

/// Logs go to stderr, at `info` unless `RUST_LOG` says otherwise. Nothing logs per query. Panics, which are bugs, are logged at the first, second,
/// fourth, eighth … time, so that one that a packet can cause fills no disk.
fn start_logging(log: &Log) {
    // Any client can make the libraries for HTTP/2 and QUIC warn, as often as it likes.
    let wanted = std::env::var_os(EnvFilter::DEFAULT_ENV).and_then(|wanted| wanted.into_string().ok()).filter(|wanted| !wanted.trim().is_empty());
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(wanted.as_deref().unwrap_or("info,h2=error,quinn=error,quinn_proto=error"));
    let log = log.clone();
    // What goes wrong with a line is the log's to tell; the library would write to stderr itself, which may wait, or panic.
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.clone())
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call in one process finds logging set up already.
    let _ = logging.try_init();
    static PANICS: AtomicU64 = AtomicU64::new(0);
    std::panic::set_hook(Box::new(|info| {
        let count = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::error!(target: "meridian::bug", count, "{info}: please report this");
        }
    }));
}

/// Threads of DNS.
pub(super) fn threads(settings: &Settings) -> usize {
    match settings.threads {
        Threads::Auto => std::thread::available_parallelism().map_or(1, usize::from),
        Threads::Count(number) => number,
    }
}

/// Until SIGTERM or SIGINT; an error is why it does not start.
async fn serve(options: &RunOptions, registry: Registry) -> Result<ExitCode, String> {
    let log = registry.log().clone();
    let mut build = load::build(&OsFiles, &options.config, &Previous::default());
    crate::sys::return_free_memory();
    build.problems.iter().for_each(|problem| log.say_in_full(problem));
    let Some(mut settings) = build.settings.clone() else {
        return Err(format!("{} has errors", options.config.display()));
    };
    if options.strict && build.has_errors() {
        return Err("the files have errors and --strict was given".into());
    }
    let threads = threads(&settings);
    let files = crate::sys::open_file_limit();
    let shares = shares::shares(&settings, threads, files);
    shares::lacking(&shares, &settings, files).iter().for_each(|problem| log.say(format_args!("meridian: {problem}")));
    shares::take(&shares, &mut settings);
    let (listeners, warnings) = Listeners::bind(&settings.listen, threads).map_err(|error| error.to_string())?;
    warnings.iter().for_each(|warning| log.say(format_args!("meridian: warning: {warning}")));
    let outages = warnings.iter().filter(|warning| warning.is_outage()).map(|warning| format!("server.listen: {warning}, until a restart"));
    let (store, saved, lost) = open_store(&settings.state_path, &log);
    if store.absent().is_none() {
        // The state is this process's alone, so nobody is promoting.
        clean_promoted(&settings.zones_dir);
    }
    fall_back(&mut build, &options.config, &settings, &store, &saved).await;
    load::lay_rules(&mut build, &saved.overlays);
    let mut degraded = build.degraded.clone();
    degraded.extend(lost);
    degraded.extend(outages);
    for problem in advice::collisions(&settings) {
        log.say(format_args!("meridian: {}", Problem { severity: Severity::Warning, ..problem.clone() }));
        degraded.push(problem.text);
    }
    let doors = open_doors(&settings, &mut degraded, &log).await;
    let (encrypted, troubles) = EncryptedDoors::open(&settings);
    troubles.iter().for_each(|trouble| log.say(format_args!("meridian: warning: {}", trouble.text)));
    if options.strict && troubles.iter().any(|trouble| trouble.is_closed) {
        return Err("a transport cannot be opened and --strict was given".into());
    }
    let sockets = Sockets { listeners, encrypted, threads, tcp: settings.tcp, shares };
    let service = start(options, build, (store, saved), degraded, sockets, doors, registry).map_err(|error| error.to_string())?;
    Ok(service.until_stopped().await)
}

/// Without a state file DNS serves; what cannot be kept says so. What can still be read holds: a drained site stays drained.
fn open_store(path: &Path, log: &Log) -> (Store, Saved, Option<String>) {
    let error = match Store::open(path) {
        Ok((store, saved)) => {
            saved.lost.iter().for_each(|lost| log.say(format_args!("meridian: warning: {lost}")));
            let lost = saved.lost.clone();
            return (store, saved, lost);
        }
        Err(error) => error,
    };
    let is_locked = matches!(error, StoreError::Locked { .. });
    let read = (is_locked || matches!(error, StoreError::Open { .. })).then(|| Store::read_copy(path).ok()).flatten();
    let (copy, readable) = read.unzip();
    let what = if readable.is_some() { "serving with what it holds, and no change can be kept" } else { "serving without kept state" };
    let what = if is_locked { format!("{what}, until it is free") } else { what.into() };
    log.say(format_args!("meridian: warning: {error}; {what}"));
    let why = format!("{error}; {what}");
    let store = if is_locked { Store::locked(path, why) } else { Store::none(why) };
    let store = match copy {
        Some(copy) => store.reading(copy),
        None => store,
    };
    let is_nothing = std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    (store, readable.unwrap_or_else(|| Saved { is_unknown: !is_nothing, ..Saved::default() }), None)
}

/// Zones that cannot be loaded are served as they last could be; all of them when the folder itself is out of reach.
async fn fall_back(build: &mut Build, config: &Path, settings: &Settings, store: &Store, saved: &Saved) {
    if build.zones_unlisted {
        let known = saved.serials.keys().filter_map(|name| Name::parse_absolute(name).ok());
        let missing: Vec<Name> = known.filter(|name| !build.good.iter().any(|zone| zone.loaded.name.as_ref() == Some(name))).collect();
        build.bad.extend(missing.into_iter().map(|name| (Some(name), settings.zones_dir.clone())));
        build.degraded.push(format!("the zone folder {} cannot be listed: the zones of the last run are served", settings.zones_dir.display()));
    }
    let mut kept = HashMap::new();
    for (name, _) in &build.bad {
        if let Some(name) = name
            && let Ok(Some(texts)) = store.zone_version(&name.to_string()).await
        {
            kept.insert(name.clone(), texts);
        }
    }
    load::fall_back(build, config, &mut |name| kept.remove(name));
}

/// What serves HTTP, as far as it can be had.
#[derive(Default)]
struct Doors {
    admin: Option<(admin::Server, admin::Token)>,
    metrics: Option<admin::Server>,
}

/// Why the admin listener will not be opened, if these settings forbid it.
pub(super) fn stays_closed(settings: &Settings) -> Option<String> {
    let listen = settings.admin_listen;
    let is_open = !settings.admin_enabled || listen.ip().to_canonical().is_loopback() || settings.admin.tls.is_some() || settings.admin.plaintext;
    (!is_open).then(|| {
        format!(
            "admin listener {listen}: not opened: beyond loopback, tokens and changes would travel in clear text; give it admin.tls, or say \
             admin.plaintext = true where the network is yours alone; DNS serves without it"
        )
    })
}

/// The admin listener and its token, and the listener for metrics. What cannot be had is said; DNS serves without it.
async fn open_doors(settings: &Settings, degraded: &mut Vec<String>, log: &Log) -> Doors {
    let mut complain = |text: String| {
        log.say(format_args!("meridian: warning: {text}"));
        degraded.push(text);
    };
    let usual = admin::Limits::default();
    let files = crate::sys::open_file_limit().map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let connections = usual.connections.min((files / ADMIN_SHARE).max(1));
    let limits = admin::Limits { requests_per_second: settings.admin.requests_per_second, connections, ..usual };
    let mut doors = Doors::default();
    if let Some(addr) = settings.admin.metrics_listen {
        match admin::Server::bind(addr).await {
            Ok(server) => doors.metrics = Some(server.with_limits(limits)),
            Err(error) => complain(format!("metrics listener {addr}: {error}; DNS serves without it")),
        }
    }
    if !settings.admin_enabled {
        return doors;
    }
    let listen = settings.admin_listen;
    if let Some(why) = stays_closed(settings) {
        complain(why);
        return doors;
    }
    if !listen.ip().to_canonical().is_loopback() && settings.admin.tls.is_none() {
        log.say(format_args!(
            "meridian: warning: admin listener {listen}: admin.plaintext is true: tokens and changes travel in clear text beyond this machine"
        ));
    }
    let tls = match settings.admin.tls.as_ref().map(admin::Tls::load).transpose() {
        Ok(tls) => {
            let troubles = tls.iter().flat_map(admin::Tls::troubles);
            troubles.for_each(|trouble| {
                log.say(format_args!("meridian: warning: {}admin.tls: {trouble}", settings.place_of_file("admin.tls", &trouble.file)))
            });
            tls
        }
        Err(error) => {
            let place = settings.place_of_file("admin.tls", &error.file);
            complain(format!("{place}admin listener {listen}: not opened: admin.tls: {error}; DNS serves without it"));
            return doors;
        }
    };
    let token = admin::Token::load_or_create(&admin::Token::path_beside(&settings.state_path)).unwrap_or_else(|error| {
        complain(format!("no admin token: {error}; the admin listener answers only health, metrics, and tokens made before"));
        admin::Token::none()
    });
    match admin::Server::bind(listen).await {
        Ok(server) => doors.admin = Some((server.with_limits(limits).with_tls(tls), token)),
        Err(error) => complain(format!("admin listener {listen}: {error}; DNS serves without it")),
    }
    doors
}

/// What DNS is served on.
struct Sockets {
    listeners: Listeners,
    encrypted: EncryptedDoors,
    threads: usize,
    tcp: TcpLimits,
    /// Places of connections.
    shares: Vec<Share>,
}

struct Service {
    state_path: PathBuf,
    handle: Handle,
    log: Log,
    logger: Logger,
    serving: Serving,
    encrypted: EncryptedServing,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

fn start(
    options: &RunOptions,
    build: Build,
    (store, saved): (Store, Saved),
    degraded: Vec<String>,
    sockets: Sockets,
    doors: Doors,
    registry: Registry,
) -> std::io::Result<Service> {
    let state_path = build.settings.as_ref().map(|settings| settings.state_path.clone()).unwrap_or_default();
    let (hangup, terminate, interrupt) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let busy_poll = build.settings.as_ref().map(|settings| settings.busy_poll).unwrap_or_default();
    let log = registry.log().clone();
    let Sockets { listeners, encrypted, threads, tcp, shares } = sockets;
    shares::tell(&shares, &registry);
    let published = Arc::new(Published::new(World::default()));
    let (handle, ends) = channel(published.clone());
    let config_path = options.config.clone();
    let writer = Writer::start(Start {
        ends,
        config_path,
        build,
        store,
        saved,
        registry: registry.clone(),
        degraded,
        clock: Clock::machine(),
        look: super::problems_of_start,
    });
    let logger = Logger::start(&registry, published.clone())?;
    let encrypted_addresses = encrypted.addresses();
    let encrypted = encrypted.start(&published, &registry, threads)?;
    let serving = listeners.start_with(published.clone(), registry.clone(), &tokio::runtime::Handle::current(), tcp, busy_poll)?;
    let (stop, stopping) = watch::channel(false);
    let places = probe::places(crate::sys::open_file_limit());
    let checks = probe::Options { registry: registry.clone(), max_concurrent: places, ..probe::Options::default() };
    let mut tasks = vec![tokio::spawn(writer.run()), tokio::spawn(probe::run(handle.clone(), checks, stopped(stopping.clone())))];
    let Doors { admin, metrics } = doors;
    if let Some(server) = metrics {
        log.say(format_args!("meridian: metrics on {}", server.addr()));
        tasks.push(tokio::spawn(server.serve_metrics(handle.clone(), registry.clone(), stopped(stopping.clone()))));
    }
    let admin_addr = admin.as_ref().map(|(server, _)| server.addr());
    if let Some((server, token)) = admin {
        let explainer = Arc::new(Running { world: published, config: options.config.clone(), handle: handle.clone() });
        tasks.push(tokio::spawn(server.serve(handle.clone(), explainer, registry, token, stopped(stopping))));
    }
    for (transport, address) in encrypted_addresses {
        log.say(format_args!("meridian: DNS over {} on {address}", transport.to_uppercase()));
    }
    announce(serving.addresses(), admin_addr, handle.generation(), &log);
    Ok(Service { state_path, handle, log, logger, serving, encrypted, stop, tasks, hangup, terminate, interrupt })
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn announce(dns: &[SocketAddr], admin: Option<SocketAddr>, generation: u64, log: &Log) {
    let dns: Vec<String> = dns.iter().map(ToString::to_string).collect();
    let admin = admin.map_or_else(|| "no admin listener".into(), |addr| format!("admin on {addr}"));
    log.say(format_args!("meridian: serving DNS on {} (UDP and TCP), {admin}, generation {generation}", dns.join(", ")));
}

impl Service {
    async fn until_stopped(mut self) -> ExitCode {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    let (handle, log) = (self.handle.clone(), self.log.clone());
                    tokio::spawn(async move { reload(&handle, &log).await });
                }
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
            }
        }
        let end = Instant::now() + STOP_TIMEOUT + STATE_STOP_TIMEOUT;
        let _ = self.stop.send(true);
        tokio::join!(self.serving.stop(), self.encrypted.stop(STOP_TIMEOUT));
        let logger = self.logger;
        let end_log = tokio::task::spawn_blocking(move || logger.stop());
        let is_kept = tokio::time::timeout_at(end.into(), async { tokio::join!(self.handle.stop(), end_log) }).await.is_ok();
        for task in self.tasks {
            task.abort();
        }
        if is_kept {
            self.log.say("meridian: stopped");
            return ExitCode::SUCCESS;
        }
        let path = self.state_path.display();
        self.log.say(format_args!("meridian: stopped before the disk of {path} had taken all: what was reported and seen last may not be kept"));
        ExitCode::FAILURE
    }
}

async fn reload(handle: &Handle, log: &Log) {
    // A restart would take the files as well: what safety rules say of it is told, not asked.
    match handle.reload(ReloadBody { break_glass: true, ..ReloadBody::default() }, Who::signal()).await {
        Ok(report) => {
            report.broke.iter().for_each(|broke| log.say(format_args!("meridian: reload: warning: went past {broke}")));
            report.problems.iter().for_each(|problem| log.say(problem));
            for zone in report.zones.iter().filter(|zone| zone.outcome != "unchanged") {
                log.say(format_args!(
                    "meridian: reload: {} {}{}",
                    zone.zone,
                    zone.outcome,
                    zone.why.as_ref().map_or(String::new(), |why| format!(": {why}"))
                ));
            }
            log.say(format_args!("meridian: reload {}, generation {} serves", if report.failed { "had errors" } else { "done" }, report.generation));
        }
        Err(refusal) => log.say(format_args!("meridian: reload refused: {refusal:?}")),
    }
}

//! Meridian beside other servers, on this machine: what `scripts/compare.sh` runs. One core serves, another asks; the servers of a workload take turns,
//! round by round, and medians count. See `docs/performance.md`.
#![allow(missing_docs, clippy::expect_used)]

mod data;
mod kxdpgun;
mod load;
mod servers;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use meridian::sys::{Batch, Wait};

use data::{Data, Geo, Questions, WORKLOADS, Workload, names_zone, write_zones};
use kxdpgun::Network;
use load::Target;
use servers::{Kind, SERVERS, Served, Server};

/// Compares Meridian with other servers on loopback.
#[derive(Debug, Parser)]
struct Options {
    /// Workloads, separated by commas: static, nxdomain, geo, weighted, sticky, million, million-nxdomain, zones.
    #[arg(long, value_delimiter = ',', default_value = "static,nxdomain,geo,weighted,sticky")]
    workloads: Vec<String>,
    /// Servers, separated by commas: echo, meridian, meridian-busy (with busy_poll = 50), gdnsd, knot, nsd, powerdns, bind. Those that are not
    /// installed are left out.
    #[arg(long, value_delimiter = ',', default_value = "echo,meridian,gdnsd,knot,nsd,powerdns,bind")]
    servers: Vec<String>,
    /// Turns of each server.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a turn.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Also ask all at one pace, half of the least that one of them reached in the round, for times to answer.
    #[arg(long)]
    latency: bool,
    /// Also ask with dnsperf (static data only).
    #[arg(long)]
    dnsperf: bool,
    /// Also ask with kxdpgun at these rates, queries per second separated by commas, over a virtual network card (static data only; as root).
    #[arg(long, value_delimiter = ',')]
    kxdpgun: Vec<u32>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
    /// What cargo bench runs without a word: nothing.
    #[arg(hide = true)]
    words: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", port] => echo(port.parse().expect("a port")),
        ["run"] => run(&options),
        _ => {
            eprintln!("compare: use scripts/compare.sh, or `cargo bench --bench compare -- run --help`");
            ExitCode::SUCCESS
        }
    }
}

/// Sends back what comes, as a response: with the same system calls as Meridian.
fn echo(port: u16) -> ExitCode {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("a free port");
    let mut batch = Batch::new(32, 4096, 4096);
    loop {
        let received = batch.receive(&socket, Wait::Blocking).unwrap_or(0);
        for at in 0..received {
            let (message, reply) = batch.slot(at);
            let len = message.octets.len();
            reply[..len].copy_from_slice(message.octets);
            reply[2] |= 0x80;
            batch.set_reply(at, len);
        }
        batch.send(&socket);
    }
}

/// One turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    per_s: f64,
    cpu_us: f64,
    user_us: f64,
    lost: u64,
    wrong: u64,
}

/// A turn at a pace that all can keep.
struct Paced {
    /// Microseconds to answer: 50 %, 99 %, 99.9 %.
    times: [f64; 3],
    cpu_us: f64,
    asked: usize,
    lost: u64,
}

struct Competitor {
    name: &'static str,
    kind: Kind,
    server: Server,
    start_s: f64,
    memory_mb: f64,
    turns: Vec<Turn>,
    paced: Vec<Paced>,
    dnsperf: Option<f64>,
}

fn run(options: &Options) -> ExitCode {
    let workloads: Vec<(&str, Workload)> = WORKLOADS.into_iter().filter(|(name, _)| options.workloads.iter().any(|wanted| wanted == name)).collect();
    let chosen: Vec<(&'static str, Kind)> = SERVERS
        .into_iter()
        .filter(|(name, _, program)| options.servers.iter().any(|wanted| wanted == name) && is_installed(name, program))
        .map(|(name, kind, _)| (name, kind))
        .collect();
    let needs_geo = workloads.iter().any(|(_, workload)| workload.data() == Data::Geo);
    let geo = needs_geo.then(Geo::load);
    let dir = std::env::temp_dir().join(format!("meridian-compare-{}", std::process::id()));
    let mut port = 15_300;
    for (name, workload) in workloads {
        let questions = Questions::of(workload, geo.as_ref());
        let work = dir.join(name);
        fs::create_dir_all(&work).expect("a folder for the servers");
        let zone = work.join("names.zone");
        let served = match (workload.data(), &geo) {
            (Data::Names(names), _) => {
                fs::write(&zone, names_zone(names)).expect("room for a zone");
                Served::Zone(&zone)
            }
            (Data::Zones(zones), _) => {
                write_zones(&zone, zones).expect("room for the zones");
                Served::Zones(&zone, zones)
            }
            (Data::Geo, geo) => Served::Geo(geo.as_ref().expect("loaded above")),
        };
        let mut competitors = Vec::new();
        for (server, kind) in &chosen {
            if !kind.can_serve(workload.data()) || !workload.is_common() && !kind.is_ours() {
                continue;
            }
            port += 1;
            eprintln!("{name}: starting {server}");
            match enter(server, *kind, &work.join(server), SocketAddr::from(([127, 0, 0, 1], port)), None, served, &questions) {
                Ok(competitor) => competitors.push(competitor),
                Err(error) => eprintln!("{name}: {server} is left out: {error}"),
            }
        }
        for round in 1..=options.rounds {
            eprintln!("{name}: round {round} of {}", options.rounds);
            // Another begins each round, so that nothing that comes and goes with the rounds falls on the same one.
            if !competitors.is_empty() {
                competitors.rotate_left(1);
            }
            competitors.iter_mut().for_each(|competitor| take_turn(competitor, &questions, options));
            if options.latency {
                let last = |competitor: &Competitor| competitor.turns.last().map_or(0.0, |turn| turn.per_s);
                let pace = competitors.iter().map(last).fold(f64::INFINITY, f64::min) / 2.0;
                for competitor in &mut competitors {
                    let target = Target { server: competitor.server.address, questions: &questions, is_echo: competitor.kind == Kind::Echo };
                    let before = competitor.server.cpu();
                    let outcome = load::run(target, Some(pace), Duration::from_secs_f64(options.seconds));
                    let cpu_us = (competitor.server.cpu().all_ns - before.all_ns) as f64 / 1e3 / outcome.answered.max(1) as f64;
                    let times = [0.5, 0.99, 0.999].map(|share| outcome.within(share));
                    competitor.paced.push(Paced { times, cpu_us, asked: outcome.times.len(), lost: outcome.lost });
                }
            }
        }
        competitors.sort_by_key(|competitor| chosen.iter().position(|(name, _)| *name == competitor.name));
        let file = work.join("questions");
        fs::write(&file, &questions.text).expect("room for the questions");
        if options.dnsperf && workload.data() != Data::Geo {
            competitors.iter_mut().filter(|c| c.kind != Kind::Echo).for_each(|c| c.dnsperf = dnsperf(c.server.address, &file, options.seconds));
        }
        table(name, &competitors, options);
        drop(competitors);
        if options.kxdpgun.is_empty() || workload.data() == Data::Geo {
            continue;
        }
        let rates = &options.kxdpgun;
        println!("\n### {name}: kxdpgun, answers/s of so many queries/s, {} s each\n", options.seconds.ceil());
        println!("| server | {} |", rates.iter().map(u32::to_string).collect::<Vec<_>>().join(" | "));
        println!("|---|{}", "---|".repeat(rates.len()));
        for (server, kind) in chosen.iter().filter(|(_, kind)| *kind != Kind::Echo && kind.can_serve(workload.data())) {
            port += 1;
            eprintln!("{name}: kxdpgun asks {server}");
            let asked = Network::new().and_then(|network| {
                let address = SocketAddr::from((network.server(), port));
                let _serving = enter(server, *kind, &work.join(format!("{server}-net")), address, Some(network.name()), served, &questions)?;
                let ask = |rate: &u32| network.ask(address, &file, *rate, options.seconds.ceil() as u32);
                Ok(rates.iter().map(|rate| ask(rate).map_or("–".to_owned(), |answered| answered.to_string())).collect::<Vec<_>>())
            });
            match asked {
                Ok(answered) => println!("| {server} | {} |", answered.join(" | ")),
                Err(error) => eprintln!("{name}: kxdpgun does not ask {server}: {error}"),
            }
        }
    }
    let _ = fs::remove_dir_all(&dir);
    ExitCode::SUCCESS
}

fn is_installed(name: &str, program: &str) -> bool {
    let found =
        program.is_empty() || ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        eprintln!("{name} is not installed and left out");
    }
    found
}

fn enter(
    name: &'static str,
    kind: Kind,
    dir: &Path,
    address: SocketAddr,
    namespace: Option<&str>,
    served: Served<'_>,
    questions: &Questions,
) -> std::io::Result<Competitor> {
    let mut server = Server::start(kind, dir, address, namespace, served)?;
    let is_up = |server| load::is_up(Target { server, questions, is_echo: kind == Kind::Echo });
    let start_s = server.wait(is_up).map_err(|error| {
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        std::io::Error::other(format!("{error}; it said: {}", lines[lines.len().saturating_sub(6)..].join("\n  ")))
    })?;
    let memory_mb = server.memory_mb();
    Ok(Competitor { name, kind, server, start_s: start_s.as_secs_f64(), memory_mb, turns: Vec::new(), paced: Vec::new(), dnsperf: None })
}

fn take_turn(competitor: &mut Competitor, questions: &Questions, options: &Options) {
    let target = Target { server: competitor.server.address, questions, is_echo: competitor.kind == Kind::Echo };
    load::run(target, None, Duration::from_millis(200));
    let before = competitor.server.cpu();
    let outcome = load::run(target, None, Duration::from_secs_f64(options.seconds));
    let after = competitor.server.cpu();
    let answered = outcome.answered.max(1) as f64;
    let cpu_us = (after.all_ns - before.all_ns) as f64 / 1e3 / answered;
    let user_share = (after.user_ticks - before.user_ticks) as f64 / (after.ticks - before.ticks).max(1) as f64;
    competitor.turns.push(Turn { per_s: outcome.per_s(), cpu_us, user_us: cpu_us * user_share, lost: outcome.lost, wrong: outcome.wrong });
}

/// Queries per second that dnsperf counts.
fn dnsperf(server: SocketAddr, questions: &Path, seconds: f64) -> Option<f64> {
    let done = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &server.port().to_string(), "-l", &format!("{}", seconds.ceil()), "-c", "8", "-q", "192", "-d"])
        .arg(questions)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    said.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"))?.trim().parse().ok()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(name: &str, competitors: &[Competitor], options: &Options) {
    println!("\n### {name}: {} rounds of {} s, medians\n", options.rounds, options.seconds);
    println!(
        "| server | answers/s | least..most | of echo | CPU µs per answer | outside the kernel µs | lost | wrong | start s | memory MB |{}{}",
        if options.latency { " p50/p99/p99.9 µs at half load | lost there | CPU µs per answer there |" } else { "" },
        if options.dnsperf { " dnsperf/s |" } else { "" }
    );
    println!(
        "|---|---|---|---|---|---|---|---|---|---|{}{}",
        if options.latency { "---|---|---|" } else { "" },
        if options.dnsperf { "---|" } else { "" }
    );
    let rate_of = |competitor: &Competitor| median(competitor.turns.iter().map(|turn| turn.per_s));
    let echo = competitors.iter().find(|competitor| competitor.kind == Kind::Echo).map(rate_of);
    for competitor in competitors {
        let turns = &competitor.turns;
        let rate = rate_of(competitor);
        let (least, most) = turns.iter().fold((f64::MAX, 0.0f64), |(least, most), turn| (least.min(turn.per_s), most.max(turn.per_s)));
        print!(
            "| {} | {rate:.0} | {:.0}k..{:.0}k | {} | {:.2} | {:.2} | {} | {} | {:.2} | {:.1} |",
            competitor.name,
            least / 1e3,
            most / 1e3,
            echo.map_or("–".into(), |echo| format!("{:.2}", rate / echo)),
            median(turns.iter().map(|turn| turn.cpu_us)),
            median(turns.iter().map(|turn| turn.user_us)),
            turns.iter().map(|turn| turn.lost).sum::<u64>(),
            turns.iter().map(|turn| turn.wrong).sum::<u64>(),
            competitor.start_s,
            competitor.memory_mb,
        );
        if options.latency {
            let at = |place: usize| median(competitor.paced.iter().map(|turn| turn.times[place]));
            let cpu_us = median(competitor.paced.iter().map(|turn| turn.cpu_us));
            let paced = || competitor.paced.iter();
            let lost = paced().map(|turn| turn.lost).sum::<u64>() as f64 / paced().map(|turn| turn.asked).sum::<usize>().max(1) as f64;
            print!(" {:.0}/{:.0}/{:.0} | {:.2} % | {cpu_us:.2} |", at(0), at(1), at(2), lost * 100.0);
        }
        if options.dnsperf {
            print!(" {} |", competitor.dnsperf.map_or("–".into(), |rate| format!("{rate:.0}")));
        }
        println!();
    }
}

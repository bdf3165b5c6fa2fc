//! Instructions per answer: `cargo bench --bench instructions`. Counted by valgrind, so they repeat to the last digits on any machine of one kind,
//! however busy; times do not.
//!
//! ```text
//! cargo bench --bench instructions            a table beside the budget of benches/instructions.txt; fails where a kind of answer costs more
//! cargo bench --bench instructions -- write   writes what was found as the new budget
//! ```
//!
//! The program runs itself under `valgrind --tool=callgrind`, once for each kind of answer; only what [`measured`] calls is counted.
#![allow(missing_docs, clippy::expect_used)]

mod workloads;
mod worlds;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};

use meridian::answer::{Asked, Dice, Outcome, Prepared, Transport, prepare};
use meridian::dns::QueryName;
use meridian::world::World;
use workloads::Queries;

/// Answers that are counted for each kind, in batches as a UDP thread makes them.
const ANSWERS: usize = 4096;
const BATCH: usize = 32;

/// What a kind may cost beyond its budget, in per cent: compilers differ a little from release to release, and C libraries from processor to processor.
const TOLERANCE_PERCENT: u64 = 5;

const BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["measure", kind] => {
            measure(kind);
            ExitCode::SUCCESS
        }
        ["write"] => {
            let found = count_all();
            let lines: String = found.iter().map(|(kind, count)| format!("{count:>6} {kind}\n")).collect();
            std::fs::write(BUDGET, lines).expect("the repository can be written");
            ExitCode::SUCCESS
        }
        // `cargo test --all-targets` comes here without optimisation: other counts, no verdict.
        _ if cfg!(debug_assertions) => {
            println!("instructions are counted by `cargo bench --bench instructions`");
            ExitCode::SUCCESS
        }
        _ => check(&count_all()),
    }
}

fn check(found: &BTreeMap<String, u64>) -> ExitCode {
    let text = std::fs::read_to_string(BUDGET).expect("benches/instructions.txt");
    let budget: BTreeMap<&str, u64> =
        text.lines().filter_map(|line| line.trim().split_once(' ')).map(|(count, kind)| (kind.trim(), count.parse().expect("a number"))).collect();
    let mut code = ExitCode::SUCCESS;
    println!("instructions per answer      found  budget");
    for (kind, count) in found {
        let allowed = budget.get(kind.as_str()).copied();
        let verdict = match allowed {
            None => "not in the budget",
            Some(allowed) if *count * 100 > allowed * (100 + TOLERANCE_PERCENT) => "over the budget",
            Some(_) => "",
        };
        println!("{kind:<26} {count:>7} {:>7}  {verdict}", allowed.unwrap_or(0));
        if !verdict.is_empty() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// By kind.
fn count_all() -> BTreeMap<String, u64> {
    kinds().into_iter().map(|(kind, _, _)| (kind.to_owned(), count(kind))).collect()
}

/// Runs this program under valgrind and reads what it counted.
fn count(kind: &str) -> u64 {
    let out = std::env::temp_dir().join(format!("meridian-instructions-{}-{kind}", std::process::id()));
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*instructions*measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["measure", kind])
        .output()
        .expect("valgrind is installed (apt-get install valgrind)");
    let _ = std::fs::remove_file(&out);
    let said = String::from_utf8_lossy(&done.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("valgrind counted nothing: {said}"));
    collected.1.trim().parse::<u64>().expect("a number") / ANSWERS as u64
}

/// Which world each kind of answer is asked of.
#[derive(Clone, Copy)]
enum Of {
    Static,
    Steered,
}

fn kinds() -> Vec<(&'static str, Of, Queries)> {
    let mut kinds = vec![
        ("static", Of::Static, workloads::hits("names.test", 1000)),
        ("nxdomain", Of::Static, workloads::misses("names.test")),
        ("nodata", Of::Static, workloads::nodata("names.test", 1000)),
    ];
    kinds.extend(workloads::special().into_iter().map(|(kind, queries)| (kind, Of::Static, queries)));
    kinds.extend(workloads::steered().into_iter().map(|(kind, queries)| (kind, Of::Steered, queries)));
    kinds
}

fn measure(kind: &str) {
    let (_, of, queries) = kinds().into_iter().find(|(name, _, _)| *name == kind).expect("a kind of answer");
    let world = match of {
        Of::Static => worlds::of_static_names(1000),
        Of::Steered => worlds::steered(&worlds::sample_database()),
    };
    let packets: Vec<&[u8]> = queries.iter().cycle().take(ANSWERS).collect();
    measured(&world, &packets);
}

/// Answers as a UDP thread does, but for the sockets.
#[inline(never)]
fn measured(world: &World, packets: &[&[u8]]) {
    let mut names: [QueryName; BATCH] = std::array::from_fn(|_| QueryName::root());
    let (mut reply, mut dice) = ([0u8; 4096], Dice::new(1_760_000_000, 1));
    for batch in packets.chunks(BATCH) {
        let mut prepared = [const { None }; BATCH];
        let asked = batch.iter().map(|packet| Asked { packet, source: worlds::RESOLVER, transport: Transport::Udp, keepalive: 0 });
        for ((asked, name), place) in asked.clone().zip(&mut names).zip(&mut prepared) {
            *place = Some(prepare(world, &asked, name));
        }
        prepared.iter_mut().flatten().for_each(Prepared::warm_node);
        prepared.iter_mut().flatten().for_each(|prepared| prepared.warm_map(world));
        prepared.iter().flatten().for_each(Prepared::warm_ranges);
        for (asked, prepared) in asked.zip(prepared.iter().flatten()) {
            let outcome = prepared.finish(world, &asked, &mut dice, &mut reply);
            assert!(matches!(outcome, Outcome::Reply(_)));
            black_box(&mut reply);
        }
    }
}

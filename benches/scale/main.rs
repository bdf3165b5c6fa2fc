//! Many maps, many names, many flips: makes the data, measures in process, serves under disturbance, asks. See `docs/performance.md`.
//!
//! ```text
//! cargo bench --bench scale -- geo FILE [PERCENT]            a City-size database
//! cargo bench --bench scale -- zones DIR ZONES PLAIN PORT    meridian.toml and zones
//! cargo bench --bench scale -- measure DIR                   load, memory, flips
//! cargo bench --bench scale -- stalls DIR ZONES PAIRS SECONDS RATE
//! cargo bench --bench scale -- control DIR ZONES OVERLAYS [CORES]    changes by operators; the program on core 0, or these
//! cargo bench --bench scale -- serve DIR                     what `stalls` starts
//! ```
#![allow(missing_docs, clippy::expect_used)]

mod control;
mod geo;
mod load;
mod measure;
mod stalls;
mod zones;

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match words[..] {
        ["geo", file] => std::fs::write(file, geo::database(100)).expect("a file that can be written"),
        ["geo", file, percent] => std::fs::write(file, geo::database(number(percent))).expect("a file that can be written"),
        ["zones", dir, count, plain, port] => {
            zones::write(Path::new(dir), number(count), number(plain), number(port) as u16).expect("a folder that can be written");
        }
        ["measure", dir] => measure::run(Path::new(dir)),
        ["serve", dir] => stalls::serve(Path::new(dir)),
        ["stalls", dir, zones, pairs, seconds, rate] => {
            stalls::run(Path::new(dir), number(zones), number(pairs) as usize, number(seconds), number(rate));
        }
        ["control", dir, zones, overlays] => control::run(Path::new(dir), number(zones), number(overlays), "0"),
        ["control", dir, zones, overlays, cores] => control::run(Path::new(dir), number(zones), number(overlays), cores),
        // `cargo bench` runs every benchmark: without a word there is nothing to do.
        _ => eprintln!(
            "scale: geo FILE [PERCENT] | zones DIR ZONES PLAIN PORT | measure DIR | stalls DIR ZONES PAIRS SECONDS RATE | control DIR ZONES OVERLAYS [CORES]"
        ),
    }
}

//! Questions at a family: its names, and whatever lies beside, above and below them.

use meridian::dns::{Name, RecordType};

use super::chance::Chance;
use super::message::{Question, Way};
use super::zones::{Family, join, longest_label, mixed_case, name_len, parent};

const COMMON: [&str; 18] =
    ["A", "A", "A", "AAAA", "TXT", "MX", "NS", "NS", "SOA", "CNAME", "CNAME", "DNAME", "DS", "DS", "ANY", "SRV", "HTTPS", "TYPE65280"];
const ODD: [&str; 16] = [
    "TYPE0",
    "TYPE54321",
    "NSEC",
    "NSEC3",
    "RRSIG",
    "DNSKEY",
    "NULL",
    "AXFR",
    "IXFR",
    "MAILB",
    "TYPE254",
    "OPT",
    "TYPE249",
    "TYPE250",
    "TYPE128",
    "TYPE65535",
];
const NEAR: [&str; 12] = ["a", "b", "c", "*", "www", "nx", "ns1", r"\000", "zzz", "_tcp", "k0", "star"];

/// The share of questions about the names in focus, in percent.
const FOCUS: usize = 60;

/// `count` questions, more of them about the names in `focus`. The same numbers give the same questions.
pub fn questions(seed: u64, number: usize, family: &Family, focus: &[String], count: usize) -> Vec<Question> {
    let chance = &mut Chance::new(seed ^ 0x5151, number as u64);
    let mut questions = Vec::with_capacity(count);
    while questions.len() < count {
        let zone = &family.zones[chance.below(family.zones.len())];
        let mut line = &zone.lines[chance.below(zone.lines.len())];
        let in_focus: Vec<_> = zone.lines.iter().filter(|line| focus.iter().any(|name| name.eq_ignore_ascii_case(&line.owner))).collect();
        if !in_focus.is_empty() && chance.percent(FOCUS) {
            line = in_focus[chance.below(in_focus.len())];
        }
        let mut name = name(chance, line, &zone.origin);
        if chance.percent(15) {
            name = mixed_case(chance, &name);
        }
        let Ok(name) = Name::parse_absolute(&name) else { continue };
        let rtype = match chance.below(20) {
            0..=7 => line.rtype.as_str(),
            8 => ODD[chance.below(ODD.len())],
            9 => super::data::any_type(chance),
            _ => COMMON[chance.below(COMMON.len())],
        };
        let rtype: RecordType = rtype.parse().unwrap_or(RecordType(255));
        let class = if chance.percent(2) { [3, 4, 255, 254, 0, 77][chance.below(6)] } else { 1 };
        questions.push(Question { name, rtype, class, way: way(chance) });
    }
    questions
}

fn way(chance: &mut Chance) -> Way {
    let edns = [None, None, None, Some(512), Some(1232), Some(1232), Some(4096), Some(0), Some(65535), Some(700)][chance.below(10)];
    Way { tcp: chance.percent(15), edns, dnssec_ok: edns.is_some() && chance.percent(40), recursion_desired: chance.percent(15) }
}

fn name(chance: &mut Chance, line: &super::zones::Line, origin: &str) -> String {
    let owner = line.owner.as_str();
    let any = |chance: &mut Chance| if chance.percent(80) { NEAR[chance.below(NEAR.len())].to_string() } else { format!("r{}", chance.below(1000)) };
    let named = line.data.split(' ').rfind(|word| word.ends_with('.') && word.len() > 1).unwrap_or(owner);
    let name = match chance.below(24) {
        0..=7 => owner.to_string(),
        8..=10 => join(&any(chance), owner),
        11 => {
            let below = join(&any(chance), owner);
            join(&any(chance), &below)
        }
        12..=13 => parent(owner).unwrap_or(".").to_string(),
        14..=15 => join(&any(chance), parent(owner).unwrap_or(".")),
        16..=17 => named.to_string(),
        18 => join(&any(chance), named),
        19 => owner.replacen('*', &any(chance), 1),
        20 => {
            let pair = format!("{}.{}", any(chance), any(chance));
            owner.replacen('*', &pair, 1)
        }
        21 => join(&any(chance), origin),
        22 => {
            // As long as it gets.
            let mut name = owner.to_string();
            while name_len(&name) + 64 <= 255 {
                name = join(&longest_label(), &name);
            }
            name
        }
        _ => format!("x{owner}"),
    };
    if name_len(&name) > 255 { owner.to_string() } else { name }
}

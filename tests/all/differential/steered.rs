//! Steered zones and what they come to: the same zone once with names whose policies have one outcome, once as a master file that says that
//! outcome in plain records.

use std::fmt::Write;

use super::chance::Chance;
use super::data;
use super::zones::{Family, Line, Zone, is_within, parent};

/// Names turned into steered ones, of each zone.
const MAX_STEERED: usize = 12;
/// The most endpoints that a pool hands out.
const MAX_ANSWERS: usize = 64;

/// A family as Meridian reads it: files beside its `meridian.toml`.
pub struct Steered {
    /// Path and text.
    pub files: Vec<(String, String)>,
    /// Owners of steered names.
    pub names: Vec<String>,
}

/// Turns some sets of each zone into steered names. The family becomes the static rendering of what is left to the policies.
pub fn steer(chance: &mut Chance, number: usize, family: &mut Family) -> Steered {
    let mut steered = Steered { files: Vec::new(), names: Vec::new() };
    for (at, zone) in family.zones.iter_mut().enumerate() {
        let stem = format!("s{number}-{at}");
        let mut toml = format!("[zone]\nname = '{}'\nfile = '{stem}.static'\n", zone.origin);
        let mut hidden = vec![false; zone.lines.len()];
        let mut count = 0;
        for owner in candidates(zone) {
            if count < MAX_STEERED && chance.percent(60) {
                count += 1;
                one(chance, zone, &owner, count, &mut hidden, &mut toml);
                steered.names.push(owner);
            }
        }
        let mut text = String::new();
        for (line, _) in zone.lines.iter().zip(&hidden).filter(|(_, hidden)| !**hidden) {
            let _ = writeln!(text, "{} {} IN {} {}", line.owner, line.ttl, line.rtype, line.data);
        }
        steered.files.push((format!("zones/{stem}.static"), text));
        steered.files.push((format!("zones/{stem}.toml"), toml));
    }
    steered
}

/// Owners that can be steered: not at or below a delegation, not below a DNAME, with addresses or a CNAME, and no glue.
fn candidates(zone: &Zone) -> Vec<String> {
    let is_apex = |name: &str| name.eq_ignore_ascii_case(&zone.origin);
    let barriers: Vec<&Line> = zone.lines.iter().filter(|line| line.rtype == "DNAME" || line.rtype == "NS" && !is_apex(&line.owner)).collect();
    let hides = |line: &Line, name: &str| is_within(name, &line.owner) && (line.rtype == "NS" || !name.eq_ignore_ascii_case(&line.owner));
    let serves = |name: &str| zone.lines.iter().any(|line| line.rtype == "NS" && line.data.eq_ignore_ascii_case(name));
    let mut owners: Vec<String> = Vec::new();
    for line in zone.lines.iter().filter(|line| matches!(line.rtype.as_str(), "A" | "AAAA" | "CNAME")) {
        let count = |rtype: &str| zone.lines.iter().filter(|other| other.rtype == rtype && other.owner.eq_ignore_ascii_case(&line.owner)).count();
        if count("A").max(count("AAAA")) > MAX_ANSWERS {
            continue;
        }
        let known = owners.iter().any(|other| other.eq_ignore_ascii_case(&line.owner));
        if !known && !serves(&line.owner) && !barriers.iter().any(|barrier| hides(barrier, &line.owner)) {
            owners.push(line.owner.clone());
        }
    }
    owners
}

/// One steered name: its lines are hidden from the static part, and get the one TTL that a steered name has.
fn one(chance: &mut Chance, zone: &mut Zone, owner: &str, count: usize, hidden: &mut [bool], toml: &mut String) {
    let taken: Vec<usize> = (0..zone.lines.len())
        .filter(|at| {
            let line = &zone.lines[*at];
            let fits = || zone.lines.iter().all(|other| other.rtype != line.rtype || value(&other.rtype, &other.data).is_some());
            let extra = count.is_multiple_of(2) && matches!(line.rtype.as_str(), "TXT" | "MX" | "HTTPS" | "CAA") && fits();
            line.owner.eq_ignore_ascii_case(owner) && (matches!(line.rtype.as_str(), "A" | "AAAA" | "CNAME") || extra)
        })
        .collect();
    let ttl = [1, 10, 30, 60, 300, 3600][chance.below(6)];
    let is_address = |line: &Line| matches!(line.rtype.as_str(), "A" | "AAAA");
    for at in &taken {
        hidden[*at] = true;
        zone.lines[*at].ttl = ttl;
    }
    let lines: Vec<&Line> = taken.iter().map(|at| &zone.lines[*at]).collect();
    let cname = lines.iter().find(|line| line.rtype == "CNAME");
    let name = format!("p{count}");
    let label = relative(owner, &zone.origin);
    if let Some(cname) = cname {
        let _ = write!(toml, "[pool.{name}]\ncname = '{}'\n[pool.{name}-other]\ncname = 'other.example.invalid.'\n", cname.data);
    } else {
        let mut endpoints: Vec<&str> = lines.iter().filter(|line| is_address(line)).map(|line| line.data.as_str()).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let listed = |endpoints: &[&str]| endpoints.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        let _ = write!(toml, "[pool.{name}]\nanswers = {MAX_ANSWERS}\nendpoints = [{}]\n", listed(&endpoints));
        let mut types: Vec<&str> = lines.iter().filter(|line| !is_address(line)).map(|line| line.rtype.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        for rtype in types {
            let mut texts: Vec<String> = lines.iter().filter(|line| line.rtype == rtype).filter_map(|line| value(rtype, &line.data)).collect();
            texts.sort();
            texts.dedup();
            let _ = writeln!(toml, "records.{rtype} = [{}]", texts.join(", "));
        }
        let other = data::text(chance, "A", ".").replace("192.0.2", "203.0.113");
        let _ = write!(toml, "[pool.{name}-other]\nendpoints = [\"{other}\", \"2001:db8:ffff::1\"]\n");
    }
    policy(chance, &name, &label, ttl, toml);
}

/// A policy that comes to its first pool for a client on loopback.
fn policy(chance: &mut Chance, pool: &str, label: &str, ttl: u32, toml: &mut String) {
    let other = format!("{pool}-other");
    let geo = |to: &str| format!("policy = \"geo\"\nrules = [{{ net = [\"127.0.0.0/8\"], to = \"{to}\" }}]\ndefault = \"{other}\"\n");
    let text = match chance.below(8) {
        0 => format!("use = \"{pool}\"\n"),
        1 | 2 => format!("policy = \"failover\"\nto = [\"{pool}\", \"{other}\"]\n"),
        3 => format!("policy = \"weighted\"\nto = {{ {pool} = 3, {other} = 0 }}\n"),
        4 => format!("policy = \"weighted\"\nmode = \"random\"\nto = {{ {pool} = 1 }}\n"),
        5 => format!("policy = \"geo\"\nrules = [{{ net = [\"192.0.2.0/24\"], to = \"{other}\" }}]\ndefault = \"{pool}\"\n"),
        6 => {
            let _ = write!(toml, "[policy.{pool}-inner]\npolicy = \"failover\"\nto = [\"{pool}\", \"{other}\"]\n");
            geo(&format!("{pool}-inner"))
        }
        _ => geo(pool),
    };
    let answers = if text.starts_with("use") { "" } else { "answers = 64\n" };
    let _ = write!(toml, "[steer.'{label}']\n{text}{answers}ttl = {{ max = {ttl}, min = 1 }}\n");
}

/// A value in `records`: presentation format, but a list of plain texts for TXT; `None` for octets that TOML cannot hold.
fn value(rtype: &str, text: &str) -> Option<String> {
    if rtype != "TXT" {
        return Some(format!("'{text}'"));
    }
    let origin = meridian::dns::Name::root();
    let octets = meridian::zone::rdata::parse(meridian::dns::RecordType::TXT, text, &origin).expect("the generator's own text");
    let (mut texts, mut rest) = (Vec::new(), octets.as_slice());
    while let [len, tail @ ..] = rest {
        let (text, after) = tail.split_at(usize::from(*len));
        let text = std::str::from_utf8(text).ok().filter(|text| !text.contains(['\'', '\0']))?;
        texts.push(format!("'{text}'"));
        rest = after;
    }
    Some(format!("[{}]", texts.join(", ")))
}

/// The owner as zone files name it: relative, `@` for the apex.
fn relative(owner: &str, origin: &str) -> String {
    let mut labels = Vec::new();
    let mut rest = owner;
    while !rest.eq_ignore_ascii_case(origin) {
        let Some(above) = parent(rest) else { break };
        labels.push(&rest[..rest.len() - above.len() - usize::from(above != ".")]);
        rest = above;
    }
    if labels.is_empty() { "@".into() } else { labels.join(".") }
}

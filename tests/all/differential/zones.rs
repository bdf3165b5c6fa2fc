//! Random zones that the references load: small worlds of few labels, so that names meet each other, in families of a parent, a child and a
//! grandchild.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::chance::Chance;
use super::data;

/// A line of a master file; names are absolute.
#[derive(Clone, Debug)]
pub struct Line {
    pub owner: String,
    pub ttl: u32,
    pub rtype: String,
    pub data: String,
}

/// One zone.
#[derive(Clone, Debug)]
pub struct Zone {
    pub origin: String,
    pub lines: Vec<Line>,
    /// Types by owner in lower case.
    types: BTreeMap<String, Vec<String>>,
}

/// A zone and those nested in it.
#[derive(Clone, Debug)]
pub struct Family {
    pub zones: Vec<Zone>,
    /// Owners that Meridian steers, when it does.
    pub steered: Vec<String>,
}

const TTLS: [u32; 6] = [0, 1, 60, 300, 3600, 86400];
const LABELS: [&str; 22] =
    ["a", "a", "a", "b", "b", "b", "c", "c", "d", "*", "*", "*", "www", "_tcp", "mail", "0", "x-1", r"a\.b", r"\000", r"\255\192", "C", "-"];

/// The label of 63 octets.
pub fn longest_label() -> String {
    "l".repeat(63)
}

/// `left.right`, where `right` may be the root.
pub fn join(left: &str, right: &str) -> String {
    if right == "." { format!("{left}.") } else { format!("{left}.{right}") }
}

/// The name without its first label; `None` for the root.
pub fn parent(name: &str) -> Option<&str> {
    if name == "." {
        return None;
    }
    let mut escaped = false;
    for (at, octet) in name.bytes().enumerate() {
        match octet {
            b'\\' if !escaped => escaped = true,
            b'.' if !escaped => return Some(if at + 1 == name.len() { "." } else { &name[at + 1..] }),
            _ => escaped = false,
        }
    }
    None
}

/// Whether `name` is `above` or below it.
pub fn is_within(name: &str, above: &str) -> bool {
    let (name, above) = (name.to_ascii_lowercase(), above.to_ascii_lowercase());
    above == "." || name == above || name.ends_with(&format!(".{above}"))
}

impl Zone {
    fn new(origin: &str) -> Zone {
        Zone { origin: origin.into(), lines: Vec::new(), types: BTreeMap::new() }
    }

    /// Owners and types of sets whose records have different TTLs.
    pub fn mixed_ttls(&self) -> Vec<(String, String, u32)> {
        let mut mixed = Vec::new();
        for line in &self.lines {
            let set = || self.lines.iter().filter(|other| other.rtype == line.rtype && other.owner.eq_ignore_ascii_case(&line.owner));
            if set().any(|other| other.ttl != line.ttl) {
                let least = set().map(|other| other.ttl).min().unwrap_or(line.ttl);
                mixed.push((line.owner.to_ascii_lowercase(), line.rtype.clone(), least));
            }
        }
        mixed.sort();
        mixed.dedup();
        mixed
    }

    /// The zone as a master file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "{} {} IN {} {}", line.owner, line.ttl, line.rtype, line.data);
        }
        text
    }

    fn types_at(&self, owner: &str) -> &[String] {
        self.types.get(&owner.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    fn has(&self, owner: &str, rtype: &str) -> bool {
        self.types_at(owner).iter().any(|other| other == rtype)
    }

    /// The rules that all servers ask of a zone (RFC 1034 §3.6.2, RFC 6672 §2.3).
    fn may_hold(&self, owner: &str, rtype: &str) -> bool {
        let is_apex = owner.eq_ignore_ascii_case(&self.origin);
        let here = self.types_at(owner);
        let single = matches!(rtype, "CNAME" | "DNAME" | "SOA");
        if single && self.has(owner, rtype) || rtype != "CNAME" && self.has(owner, "CNAME") {
            return false;
        }
        let clear = match rtype {
            "CNAME" => here.is_empty() && !is_apex,
            "DNAME" => is_apex || !self.has(owner, "NS"),
            "NS" => is_apex || !self.has(owner, "DNAME"),
            // BIND wants them to match the zone's keys.
            "CDS" | "CDNSKEY" => !is_apex,
            _ => true,
        };
        if !clear || name_len(owner) > 255 {
            return false;
        }
        let below_dname = std::iter::successors(parent(owner), |name| parent(name)).any(|above| self.has(above, "DNAME"));
        let lower = owner.to_ascii_lowercase();
        let covers = rtype == "DNAME" && self.types.keys().any(|other| *other != lower && is_within(other, owner));
        !below_dname && !covers
    }

    /// Adds records of one set; false when the owner cannot hold them.
    fn add(&mut self, owner: &str, ttl: u32, rtype: &str, data: &[String]) -> bool {
        if !self.may_hold(owner, rtype) {
            return false;
        }
        // One TTL for a set (RFC 2181 §5.2); one feature is about the others.
        let there = self.lines.iter().find(|line| line.rtype == rtype && line.owner.eq_ignore_ascii_case(owner));
        let ttl = there.map_or(ttl, |line| line.ttl);
        for data in data {
            self.lines.push(Line { owner: owner.into(), ttl, rtype: rtype.into(), data: data.clone() });
        }
        let types = self.types.entry(owner.to_ascii_lowercase()).or_default();
        if !types.iter().any(|other| other == rtype) {
            types.push(rtype.into());
        }
        true
    }
}

/// The octets of a name on the wire.
pub fn name_len(name: &str) -> usize {
    meridian::dns::Name::parse_absolute(name).map_or(256, |name| name.as_wire().len())
}

/// Makes zones.
pub struct Maker<'c> {
    chance: &'c mut Chance,
    zone: Zone,
    /// Apexes of other zones that are served.
    others: Vec<String>,
    /// Other zones lie below.
    nested: bool,
}

/// A family. `number` makes its names its own; `served` are apexes of zones served beside it.
pub fn family(seed: u64, number: usize, served: &[String]) -> Family {
    let chance = &mut Chance::new(seed, number as u64);
    let apex = match chance.below(20) {
        0..=2 => format!("tld{number}."),
        3..=4 => format!("a.b.f{number}.test."),
        5 => format!("{0}.{0}.f{number}.test.", longest_label()),
        6 => format!("Mixed-Case.F{number}.TeST."),
        _ => format!("f{number}.test."),
    };
    let mut apexes = vec![apex.clone()];
    let mut above = apex;
    for _ in 0..[0, 0, 0, 1, 1, 2][chance.below(6)] {
        above = join(chance.pick(&["a", "b", "a.b", "b.a", "c"]), &above);
        if chance.percent(3) {
            above = join("*", parent(&above).expect("a label was added"));
        }
        apexes.push(above.clone());
    }
    let zones = apexes
        .iter()
        .map(|apex| {
            let others = apexes.iter().filter(|other| *other != apex).chain(served).cloned().collect();
            zone(chance, apex, others, &apexes)
        })
        .collect();
    Family { zones, steered: Vec::new() }
}

/// A root zone with a few delegations.
pub fn root(seed: u64, served: &[String]) -> Family {
    let chance = &mut Chance::new(seed, 1 << 40);
    Family { zones: vec![zone(chance, ".", served.to_vec(), &[])], steered: Vec::new() }
}

fn zone(chance: &mut Chance, apex: &str, others: Vec<String>, family: &[String]) -> Zone {
    let below: Vec<&String> = family.iter().filter(|child| *child != apex && is_within(child, apex)).collect();
    let mut maker = Maker { chance, zone: Zone::new(apex), others, nested: !below.is_empty() };
    if apex == "." {
        // The server that is elsewhere for all other zones.
        maker.nested = true;
        maker.zone.add("ns.example.invalid.", 300, "A", &["192.0.2.54".into()]);
    }
    maker.apex();
    // What the family's zones further down are to this one: delegated, or not even mentioned.
    for child in below {
        match maker.chance.below(10) {
            0..=6 => maker.cut(child),
            7 => drop(maker.data(child)),
            _ => {}
        }
    }
    for _ in 0..maker.chance.within(3, 16) {
        maker.feature();
    }
    let mut zone = maker.zone;
    if chance.percent(20) {
        let copies: Vec<Line> = zone.lines.iter().filter(|line| line.rtype != "SOA").take(3).cloned().collect();
        zone.lines.extend(copies);
    }
    if chance.percent(15) {
        for line in &mut zone.lines {
            line.owner = mixed_case(chance, &line.owner);
        }
    }
    zone
}

/// Letters in either case; escapes have none.
pub fn mixed_case(chance: &mut Chance, name: &str) -> String {
    name.chars().map(|c| if chance.percent(40) { c.to_ascii_uppercase() } else { c }).collect()
}

impl Maker<'_> {
    fn ttl(&mut self) -> u32 {
        TTLS[self.chance.below(TTLS.len())]
    }

    /// A name of 1 to 4 labels below the apex.
    fn path(&mut self) -> String {
        let mut name = self.zone.origin.clone();
        for _ in 0..[1, 1, 1, 2, 2, 2, 3, 3, 4][self.chance.below(9)] {
            name = join(self.chance.pick(&LABELS), &name);
        }
        name
    }

    /// A new name, or one that is there, or one below it.
    fn owner(&mut self) -> String {
        let there: Vec<String> = self.zone.types.keys().cloned().collect();
        match self.chance.below(10) {
            0..=4 => self.path(),
            5..=6 => there[self.chance.below(there.len())].clone(),
            _ => join(self.chance.pick(&LABELS), &there[self.chance.below(there.len())]),
        }
    }

    /// Where a record may point.
    fn target(&mut self) -> String {
        let there: Vec<String> = self.zone.lines.iter().map(|line| line.owner.clone()).collect();
        let one = there[self.chance.below(there.len())].clone();
        let target = match self.chance.below(20) {
            0..=7 => one.replacen('*', "star", usize::from(self.chance.percent(50))),
            8..=10 => join(self.chance.pick(&LABELS), &one),
            11..=13 => self.path(),
            14 => self.zone.origin.clone(),
            15..=16 if !self.others.is_empty() => {
                let other = self.others[self.chance.below(self.others.len())].clone();
                if self.chance.percent(30) { other } else { join(self.chance.pick(&LABELS), &other) }
            }
            17 => ".".into(),
            _ => join(self.chance.pick(&LABELS), "example.invalid."),
        };
        if name_len(&target) > 255 { self.zone.origin.clone() } else { target }
    }

    fn apex(&mut self) {
        let origin = self.zone.origin.clone();
        let (ttl, minimum) = (self.ttl(), self.ttl());
        let soa = format!("{} hostmaster.example.invalid. {} 3600 900 1209600 {minimum}", join("ns1", &origin), self.chance.within(1, 4_000_000));
        self.zone.add(&origin, ttl, "SOA", &[soa]);
        let ttl = self.ttl();
        let mut servers = vec![join("ns1", &origin)];
        if self.chance.percent(50) {
            servers.push("ns.example.invalid.".into());
        }
        self.zone.add(&origin, ttl, "NS", &servers);
        if self.chance.percent(if self.nested { 0 } else { 8 }) {
            // Nothing may lie below: the server is elsewhere.
            self.zone.lines.retain(|line| line.rtype != "NS");
            self.zone.add(&origin, ttl, "NS", &["ns.example.invalid.".into()]);
            let target = self.target();
            self.zone.add(&origin, ttl, "DNAME", &[target]);
            return;
        }
        self.zone.add(&join("ns1", &origin), ttl, "A", &["192.0.2.53".into()]);
        if self.chance.percent(60) {
            self.zone.add(&join("ns1", &origin), ttl, "AAAA", &["2001:db8::53".into()]);
        }
        for _ in 0..self.chance.below(3) {
            self.data(&origin);
        }
    }

    fn feature(&mut self) {
        let owner = self.owner();
        match self.chance.below(40) {
            0..=9 => drop(self.data(&owner)),
            10..=12 => {
                let owner = join("*", &owner);
                self.data(&owner);
            }
            13..=14 => {
                let owner = join("*", &owner);
                self.alias(&owner, "CNAME");
            }
            15 => {
                let owner = join("*", &owner);
                self.alias(&owner, "DNAME");
            }
            16 => {
                let owner = join("*", &owner);
                self.cut(&owner);
            }
            17..=20 => self.alias(&owner, "CNAME"),
            21..=23 => self.alias(&owner, "DNAME"),
            24..=28 => self.cut(&owner),
            29..=30 => self.chain("CNAME"),
            31 => self.chain("DNAME"),
            32 => {
                let name = join("a.*", &owner);
                self.data(&name);
            }
            33..=35 => {
                let rtype = self.chance.pick(&["MX", "SRV", "SVCB", "HTTPS", "NS", "KX", "AFSDB", "PTR", "NAPTR"]);
                self.pointing(&owner, rtype);
            }
            36 => self.large(&owner),
            37 => self.long_names(),
            38 => {
                let name = format!("a.b.c.d.{}", self.zone.origin.trim_start_matches('.'));
                self.data(&name);
            }
            _ => {
                let ttl = self.ttl();
                let name = self.path();
                if self.zone.add(&name, ttl, "A", &["192.0.2.99".into(), "192.0.2.100".into()])
                    && self.chance.percent(30)
                    && let Some(last) = self.zone.lines.last_mut()
                {
                    // TTLs that differ within a set (RFC 2181 §5.2).
                    last.ttl += 7;
                }
            }
        }
    }

    /// One or more sets of any type.
    fn data(&mut self, owner: &str) -> bool {
        let mut added = false;
        for _ in 0..self.chance.within(1, 3) {
            let rtype = data::any_type(self.chance);
            let ttl = self.ttl();
            let count = self.chance.within(1, 3);
            let mut texts: Vec<String> = (0..count)
                .map(|_| {
                    let target = self.target();
                    data::text(self.chance, rtype, &target)
                })
                .collect();
            texts.sort();
            texts.dedup();
            added |= self.zone.add(owner, ttl, rtype, &texts);
        }
        added
    }

    fn pointing(&mut self, owner: &str, rtype: &str) {
        if rtype == "NS" {
            return self.cut(owner);
        }
        let ttl = self.ttl();
        for _ in 0..self.chance.within(1, 3) {
            let target = self.target();
            let text = data::text(self.chance, rtype, &target);
            self.zone.add(owner, ttl, rtype, &[text]);
            if self.chance.percent(60) && is_within(&target, &self.zone.origin) {
                self.zone.add(&target, 300, "A", &["192.0.2.7".into()]);
                self.zone.add(&target, 300, "AAAA", &["2001:db8::7".into()]);
            }
        }
    }

    fn alias(&mut self, owner: &str, rtype: &str) {
        let (ttl, target) = (self.ttl(), self.target());
        self.zone.add(owner, ttl, rtype, &[target]);
        if rtype == "DNAME" && self.chance.percent(30) {
            let text = data::text(self.chance, "TXT", ".");
            self.zone.add(owner, ttl, "TXT", &[text]);
        }
    }

    /// Links that follow each other, and sometimes end where they began.
    fn chain(&mut self, rtype: &str) {
        let base = self.path();
        let len = if self.chance.percent(15) { self.chance.within(7, 20) } else { self.chance.within(1, 5) };
        let loops = self.chance.percent(30);
        let last = if loops { join("k0", &base) } else { self.target() };
        for link in 0..len {
            let target = if link + 1 == len { last.clone() } else { join(&format!("k{}", link + 1), &base) };
            let target = if rtype == "DNAME" && self.chance.percent(20) { join("a", &target) } else { target };
            self.zone.add(&join(&format!("k{link}"), &base), 300, rtype, &[target]);
        }
    }

    /// A delegation, with and without DS and glue.
    fn cut(&mut self, owner: &str) {
        // BIND takes no delegation at a wildcard.
        let is_odd = owner.starts_with("*.") && !self.chance.percent(4);
        if is_odd || owner.eq_ignore_ascii_case(&self.zone.origin) || !self.zone.may_hold(owner, "NS") {
            return;
        }
        let ttl = self.ttl();
        let mut servers = Vec::new();
        for _ in 0..if self.chance.percent(5) { 12 } else { self.chance.within(1, 3) } {
            let below = join(&format!("ns{}", self.chance.below(20)), owner);
            let target = match self.chance.below(6) {
                0..=2 => below,
                3 => owner.to_string(),
                4 => self.target(),
                _ => "ns.example.invalid.".into(),
            };
            // In-zone servers need an address here; a name that cannot hold one is no server.
            if is_within(&target, &self.zone.origin) && !self.zone.has(&target, "A") {
                let address = data::text(self.chance, "A", ".");
                if !self.zone.add(&target, 300, "A", &[address]) {
                    continue;
                }
                if self.chance.percent(50) {
                    let address = data::text(self.chance, "AAAA", ".");
                    self.zone.add(&target, 300, "AAAA", &[address]);
                }
            }
            if target != "." && !servers.contains(&target) {
                servers.push(target);
            }
        }
        if servers.is_empty() {
            servers.push("ns.example.invalid.".into());
        }
        self.zone.add(owner, ttl, "NS", &servers);
        if self.chance.percent(50) && self.zone.has(owner, "NS") {
            let text = data::text(self.chance, "DS", ".");
            self.zone.add(owner, ttl, "DS", &[text]);
        }
        // Hidden by the cut.
        if self.chance.percent(30) {
            let below = join(self.chance.pick(&LABELS), owner);
            match self.chance.below(5) {
                0 => self.alias(&below, "CNAME"),
                1 => self.alias(&below, "DNAME"),
                2 if !below.starts_with('*') => drop(self.zone.add(&below, ttl, "NS", &["ns.example.invalid.".into()])),
                _ => drop(self.data(&below)),
            }
        }
    }

    /// A set that does not fit 512, 1232 or 4096 octets.
    fn large(&mut self, owner: &str) {
        let ttl = self.ttl();
        let (rtype, count) = match self.chance.below(5) {
            0 => ("A", self.chance.within(20, 120)),
            1 => ("AAAA", self.chance.within(12, 60)),
            2 => ("MX", self.chance.within(8, 30)),
            _ => ("TXT", self.chance.within(2, 40)),
        };
        let texts: Vec<String> = (0..count)
            .map(|at| match rtype {
                "A" => format!("198.51.100.{at}"),
                "AAAA" => format!("2001:db8:1::{at:x}"),
                "MX" => format!("{at} {}", join(&format!("mail{at}"), &self.zone.origin)),
                _ => format!("\"{at} {}\"", "t".repeat(self.chance.within(80, 240))),
            })
            .collect();
        self.zone.add(owner, ttl, rtype, &texts);
    }

    /// Labels of 63 octets, a name of 255, and a DNAME whose substitutes can become too long.
    fn long_names(&mut self) {
        let mut name = self.zone.origin.clone();
        while name_len(&name) + 64 <= 255 {
            name = join(&longest_label(), &name);
        }
        let rest = 255 - name_len(&name);
        if rest >= 2 {
            name = join(&"r".repeat(rest - 1), &name);
        }
        self.zone.add(&name, 300, "TXT", &["\"the longest\"".into()]);
        let target = parent(&name).unwrap_or(".").to_string();
        let owner = join("overflow", &self.zone.origin);
        self.zone.add(&owner, 300, "DNAME", std::slice::from_ref(&target));
        self.zone.add(&join("to-longest", &self.zone.origin), 300, "CNAME", &[name]);
        self.zone.add(&join("*.to-long", &self.zone.origin), 300, "CNAME", &[target]);
    }
}

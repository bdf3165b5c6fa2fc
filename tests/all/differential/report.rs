//! What came out: classes of differences, each with its smallest example.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::message::{Question, Reply, rcode_text};
use super::servers::REFERENCES;
use super::zones::{Family, is_within, parent};

/// The most lines of zones in an example.
const MAX_LINES: usize = 24;

/// One class of differences.
#[derive(Default)]
pub struct Class {
    pub count: usize,
    example: String,
    /// By type of question.
    types: BTreeMap<String, usize>,
}

/// Everything that a run found.
#[derive(Default)]
pub struct Report {
    pub pairs: usize,
    pub zones: usize,
    /// Names that policies answer.
    pub steered: usize,
    /// What Meridian said, by response code: what the questions reach.
    rcodes: BTreeMap<String, usize>,
    /// By name of the rule.
    pub explained: BTreeMap<String, Class>,
    /// By kinds of differences.
    pub unexplained: BTreeMap<String, Class>,
    /// The references disagree, and none says what we say.
    pub split: BTreeMap<String, Class>,
    /// Zones that a server did not take: by server and reason.
    pub refused: BTreeMap<(&'static str, String), (usize, String)>,
}

impl Class {
    /// Counts one more, and keeps the smaller example.
    pub fn add(&mut self, question: &Question, example: String) {
        self.count += 1;
        *self.types.entry(question.rtype.to_string()).or_default() += 1;
        if self.example.is_empty() || example.len() < self.example.len() {
            self.example = example;
        }
    }
}

impl Report {
    /// Counts one of our replies.
    pub fn count(&mut self, reply: &Result<Reply, String>) {
        let shape = match reply {
            Ok(reply) if reply.is_truncated() => "TC".into(),
            Ok(reply) if !reply.is_authoritative() && reply.rcode == 0 => "referral".into(),
            Ok(reply) if reply.answer.is_empty() && reply.rcode == 0 => "NODATA".into(),
            Ok(reply) => rcode_text(reply.rcode),
            Err(why) => why.clone(),
        };
        *self.rcodes.entry(shape).or_default() += 1;
    }

    /// Counts a zone that a server did not take.
    pub fn refuse(&mut self, server: &'static str, why: &str, origin: &str, alone: bool) {
        let line = why.split(" | ").next().unwrap_or_default();
        // Names, paths and times differ from zone to zone.
        let words =
            line.split_whitespace().filter(|word| !word.trim_end_matches(['.', ',', ':']).contains(['.', '/', ':', '[']) && !word.contains("-20"));
        let reason = words.map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word }).collect::<Vec<_>>().join(" ");
        if alone {
            let class = self.unexplained.entry(format!("zone refused by us alone: {reason}")).or_default();
            class.count += 1;
            class.example = format!("        {origin}: {why}");
        }
        self.refused.entry((server, reason)).or_insert((0, format!("{origin}: {why}"))).0 += 1;
    }

    /// The table, with examples of what is not explained (or, if `all`, of everything).
    pub fn text(&self, all: bool) -> String {
        let mut out =
            format!("{} pairs of zone and question, {} zones, {} steered names; we said {:?}\n", self.pairs, self.zones, self.steered, self.rcodes);
        for (title, classes, shown) in
            [("explained", &self.explained, all), ("references split", &self.split, all), ("NOT EXPLAINED", &self.unexplained, true)]
        {
            let total: usize = classes.values().map(|class| class.count).sum();
            let _ = writeln!(out, "\n== {title}: {} classes, {total} pairs", classes.len());
            let mut sorted: Vec<_> = classes.iter().collect();
            sorted.sort_by_key(|(_, class)| std::cmp::Reverse(class.count));
            for (name, class) in sorted {
                let mut types: Vec<_> = class.types.iter().collect();
                types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
                let types: Vec<String> = types.iter().take(6).map(|(rtype, count)| format!("{rtype}×{count}")).collect();
                let _ = writeln!(out, "{:6}  {name}   ({})", class.count, types.join(" "));
                if shown {
                    let _ = writeln!(out, "{}", class.example);
                }
            }
        }
        if !self.refused.is_empty() {
            out.push_str("\n== zones that a server did not take\n");
        }
        for ((server, why), (count, example)) in &self.refused {
            let _ = writeln!(out, "{count:6}  {server}: {why}\n            {example}");
        }
        out
    }
}

/// Zone lines around the question, the question, and the four replies.
pub fn example(family: &Family, question: &Question, ours: &Result<Reply, String>, references: &[Result<Reply, String>]) -> String {
    let mut names = vec![question.name.to_string()];
    for reply in std::iter::once(ours).chain(references).flatten() {
        for rec in reply.answer.iter().chain(&reply.authority).chain(&reply.additional) {
            names.push(rec.name().to_string());
            names.extend(rec.target().map(|target| target.to_string()));
        }
    }
    names.sort();
    names.dedup();
    let mut out = String::new();
    let mut lines = 0;
    for zone in &family.zones {
        let _ = writeln!(out, "        ; zone {}", zone.origin);
        for line in &zone.lines {
            let base = line.owner.strip_prefix("*.").map_or(line.owner.as_str(), |_| parent(&line.owner).unwrap_or("."));
            let is_apex = line.owner.eq_ignore_ascii_case(&zone.origin);
            let near = names.iter().any(|name| is_within(name, base) && (!is_apex || name.eq_ignore_ascii_case(base) || line.rtype == "DNAME"));
            if near && lines < MAX_LINES {
                lines += 1;
                let data: String = line.data.chars().take(100).collect();
                let _ = writeln!(out, "        {} {} {} {data}", line.owner, line.ttl, line.rtype);
            }
        }
    }
    let _ = writeln!(out, "        dig {question}");
    for (name, reply) in std::iter::once(("meridian", ours)).chain(REFERENCES.iter().copied().zip(references)) {
        let text = reply.as_ref().map_or_else(Clone::clone, Reply::dig);
        let _ = writeln!(out, "      {name:9} {}", text.replace('\n', "\n        "));
    }
    out
}

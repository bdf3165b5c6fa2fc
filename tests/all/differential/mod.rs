//! The differential runner: random zones and questions put to Meridian, NSD, Knot DNS and BIND; reports where we stand alone.
//!
//! ```text
//!   zones, questions (seeded) ─▶ servers ─▶ compare: fields, majority ─▶ explained? ─▶ report: classes with examples
//! ```
//!
//! `scripts/differential.sh [PAIRS] [SEED]` runs many; the ordinary test run a fixed few. Any difference from the majority of the references
//! that no rule in `explained` covers fails the run.

mod amplification;
mod chains;
mod chance;
mod clients;
mod compare;
mod data;
mod explained;
mod message;
mod questions;
mod report;
mod servers;
mod steered;
mod zones;

use meridian::dns::{Name, RecordType};

use compare::{Difference, differences, fields, kind};
use message::{Question, Reply};
use report::Report;
use servers::{HUNG, REFERENCES, ServedZone, Servers};
use zones::Family;

/// What the ordinary test run does.
const PAIRS: usize = 1500;
const SEED: u64 = 1;
/// Questions for each family of zones.
const QUESTIONS: usize = 40;
/// Families served at once: starts are few, and four servers hold some hundred zones easily.
const FAMILIES: usize = 250;

/// By each of the two programs, in the ordinary test run.
const PROGRAM_PAIRS: usize = 120;
/// The share that each has in a run of the script: one of so many.
const PROGRAM_SHARE: usize = 40;
/// Of steered zones against their static rendering, in the ordinary test run.
const STEERED_PAIRS: usize = 600;
/// The share that steered zones have in a run of the script: one of so many.
const STEERED_SHARE: usize = 4;
/// Questions at the root zone and what is served with it.
const ROOT_PAIRS: usize = 240;

#[test]
fn differential_static_zones() {
    let seed = setting("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let pairs = setting("DIFFERENTIAL_PAIRS").map_or(PAIRS, |pairs| pairs as usize);
    let mut report = Report::default();
    let families = pairs.div_ceil(QUESTIONS);
    let mut number = 0;
    while report.pairs < pairs && number < 2 * families {
        let count = FAMILIES.min((pairs - report.pairs).div_ceil(QUESTIONS) + 2);
        let mut batch: Vec<Family> = Vec::new();
        for _ in 0..count {
            let neighbours: Vec<String> = batch.iter().rev().take(2).flat_map(|family| family.zones.iter().map(|zone| zone.origin.clone())).collect();
            batch.push(zones::family(seed, number, &neighbours));
            number += 1;
        }
        run(seed, number - count, &batch, None, QUESTIONS, pairs, &mut report);
    }
    finish(seed, &report);
}

#[test]
fn differential_root_zone() {
    let seed = setting("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let mut report = Report::default();
    let mut batch: Vec<Family> = (0..3).map(|number| zones::family(seed ^ 0x2007, number, &[])).collect();
    let apexes: Vec<String> = batch.iter().flat_map(|family| family.zones.iter().map(|zone| zone.origin.clone())).collect();
    batch.push(zones::root(seed, &apexes));
    run(seed, 1 << 20, &batch, None, ROOT_PAIRS / batch.len(), ROOT_PAIRS, &mut report);
    finish(seed, &report);
}

#[test]
fn differential_steered_zones() {
    let seed = setting("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let pairs = setting("DIFFERENTIAL_PAIRS").map_or(STEERED_PAIRS, |pairs| pairs as usize / STEERED_SHARE);
    let mut report = Report::default();
    let mut number = 0;
    while report.pairs < pairs && number < 2 * pairs / QUESTIONS {
        let count = FAMILIES.min((pairs - report.pairs).div_ceil(QUESTIONS) + 2);
        let (mut batch, mut files) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut family = zones::family(seed ^ 0x57ee, number, &[]);
            number += 1;
            // A zone TOML takes no wildcard for its name.
            if family.zones.iter().any(|zone| zone.origin.starts_with('*')) {
                continue;
            }
            let steered = steered::steer(&mut chance::Chance::new(seed ^ 0x57ee1, number as u64), number, &mut family);
            report.steered += steered.names.len();
            files.extend(steered.files);
            family.steered = steered.names;
            batch.push(family);
        }
        run(seed, number - batch.len(), &batch, Some(&files), QUESTIONS, pairs, &mut report);
    }
    finish(seed, &report);
}

#[test]
fn differential_by_dig_and_kdig() {
    let seed = setting("DIFFERENTIAL_SEED").unwrap_or(SEED);
    let pairs = setting("DIFFERENTIAL_PAIRS").map_or(PROGRAM_PAIRS, |pairs| pairs as usize / PROGRAM_SHARE);
    let mut report = Report::default();
    let batch: Vec<Family> = (0..pairs.div_ceil(10)).map(|number| zones::family(seed ^ 0xd16, number, &[])).collect();
    let (mut servers, votes) = serve(&batch, None, &mut report);
    let mut asked: Vec<(usize, Question)> = Vec::new();
    for (at, votes) in votes.iter().enumerate() {
        if votes.is_some() {
            let questions = questions::questions(seed, (1 << 21) + at, &batch[at], &[], 14);
            asked.extend(questions.into_iter().filter(clients::can_ask).map(|question| (at, question)));
        }
    }
    asked.truncate(pairs);
    let questions: Vec<Question> = asked.iter().map(|(_, question)| question.clone()).collect();
    for program in ["dig", "kdig"] {
        let mut said = servers.addresses().map(|server| clients::ask(program, server, &questions).into_iter());
        for (family, question) in &asked {
            let [ours, references @ ..] = said.each_mut().map(|replies| replies.next().expect("as many as questions"));
            judge(&mut servers, &batch[*family], question, votes[*family].unwrap_or_default(), (ours, references.to_vec()), &mut report);
        }
    }
    finish(seed, &report);
}

#[test]
fn differential_rules_are_documented() {
    let page = include_str!("../../../docs/conformance.md");
    let missing: Vec<&str> = explained::NAMES.into_iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// What the script sets.
#[allow(clippy::disallowed_methods)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn finish(seed: u64, report: &Report) {
    println!("seed {seed}: {}", report.text(setting("DIFFERENTIAL_EXAMPLES").is_some()));
    assert!(report.unexplained.is_empty(), "differences from the majority that no rule explains: see above");
}

/// Serves a batch of families and asks everything about them.
fn run(seed: u64, first: usize, batch: &[Family], given: Option<&[(String, String)]>, questions: usize, pairs: usize, report: &mut Report) {
    let (mut servers, votes) = serve(batch, given, report);
    for (at, family) in batch.iter().enumerate() {
        let Some(voting) = votes[at] else { continue };
        for question in questions::questions(seed, first + at, family, &family.steered, questions) {
            if report.pairs == pairs {
                return;
            }
            compare(&mut servers, family, &question, voting, report);
        }
    }
}

/// Serves a batch. Returns which references have all zones that a family points at; `None` for a family that Meridian did not take.
fn serve(batch: &[Family], given: Option<&[(String, String)]>, report: &mut Report) -> (Servers, Vec<Option<[bool; 3]>>) {
    let all: Vec<(usize, &zones::Zone)> = batch.iter().enumerate().flat_map(|(at, family)| family.zones.iter().map(move |zone| (at, zone))).collect();
    let served: Vec<ServedZone> =
        all.iter().map(|(_, zone)| ServedZone { origin: Name::parse_absolute(&zone.origin).expect("a name"), text: zone.text() }).collect();
    let mut servers = Servers::start(&served, given);
    report.zones += served.len();
    let mut has = vec![[true; 1 + REFERENCES.len()]; batch.len()];
    let refused = std::mem::take(&mut servers.refused);
    for (zone, server, why) in &refused {
        let (family, zone_of) = all[*zone];
        let reference = REFERENCES.iter().position(|name| name == server);
        has[family][reference.map_or(0, |reference| 1 + reference)] = false;
        // A zone that most of the others serve.
        let others = refused.iter().filter(|(other, name, _)| other == zone && REFERENCES.contains(name)).count();
        report.refuse(server, why, &zone_of.origin, reference.is_none() && others < 2);
    }
    let votes = (0..batch.len()).map(|at| {
        // Names of the two families before this one are pointed at.
        let voting = std::array::from_fn(|reference| has[at.saturating_sub(2)..=at].iter().all(|has| has[1 + reference]));
        has[at][0].then_some(voting)
    });
    let votes = votes.collect();
    (servers, votes)
}

/// Asks one question and files what comes out.
fn compare(servers: &mut Servers, family: &Family, question: &Question, votes: [bool; 3], report: &mut Report) {
    let (ours, references) = servers.ask(question);
    judge(servers, family, question, votes, (ours, references), report);
}

/// What the four servers said.
type Said = (Result<Reply, String>, Vec<Result<Reply, String>>);

/// Files what was said to one question. Each step takes away what one rule explains: what TTLs do, what the chain does, what the size does.
fn judge(servers: &mut Servers, family: &Family, question: &Question, votes: [bool; 3], (ours, references): Said, report: &mut Report) {
    report.pairs += 1;
    report.count(&ours);
    let mixed: Vec<_> = family.zones.iter().flat_map(zones::Zone::mixed_ttls).collect();
    let mut judge = Judge { servers, family, question, votes, mixed };
    let mut found = judge.against(&ours, &references);
    if found.is_empty() {
        return;
    }
    let example = report::example(family, question, &ours, &references);
    let whole = judge.servers.complete(question, &references);
    let mut rule = None;
    let step = |name: &'static str, rest: Vec<Difference>, rule: &mut Option<&'static str>, found: &mut Vec<Difference>| {
        if rest.len() < found.len() {
            *rule = Some(name);
            *found = rest;
        }
    };
    let even = judge.even(&references);
    if even != references {
        step(explained::TTLS, judge.against(&ours, &even), &mut rule, &mut found);
    }
    if !found.is_empty() && whole != references {
        step(explained::CHAIN, judge.against(&ours, &judge.even(&whole)), &mut rule, &mut found);
    }
    let is_ours = |reply: &Result<Reply, String>| differences(&fields(question, &ours), &[fields(question, reply)]).is_empty();
    if explained::is_odd(question.rtype) && references.iter().chain(&whole).any(is_ours) {
        (rule, found) = (Some(explained::ODD), Vec::new());
    }
    if !found.is_empty() && explained::is_below_wildcard_ns(&question.name, family) && judge.is_open(&references) {
        (rule, found) = (Some(explained::WILDCARD_NS), Vec::new());
    }
    if let (Ok(reply), false) = (&ours, found.is_empty()) {
        if let Some(name) = explained::explain(question, reply, &found).or_else(|| judge.additional(&found)) {
            (rule, found) = (Some(name), Vec::new());
        } else if let Some((name, rest)) = judge.size(reply, &whole) {
            step(name, rest, &mut rule, &mut found);
        }
    }
    let is_split = found.iter().all(|difference| difference.theirs.is_none());
    let name = || found.iter().map(kind).collect::<Vec<_>>().join("; ");
    let class = match rule {
        Some(rule) if found.is_empty() => report.explained.entry(rule.to_string()),
        _ if is_split => report.split.entry(name()),
        _ => report.unexplained.entry(name()),
    };
    class.or_default().add(question, example);
}

/// One pair under examination.
struct Judge<'a> {
    servers: &'a mut Servers,
    family: &'a Family,
    question: &'a Question,
    votes: [bool; 3],
    /// Sets with several TTLs.
    mixed: Vec<(String, String, u32)>,
}

impl Judge<'_> {
    fn against(&self, ours: &Result<Reply, String>, references: &[Result<Reply, String>]) -> Vec<Difference> {
        let is_there = |reply: &Result<Reply, String>| !matches!(reply, Err(error) if error == HUNG);
        let voting = references.iter().zip(self.votes).filter(|(reply, votes)| *votes && is_there(reply));
        let said: Vec<compare::Fields> = voting.map(|(reply, _)| fields(self.question, reply)).collect();
        differences(&fields(self.question, ours), &said)
    }

    /// No two of those that have the zones say the same.
    fn is_open(&self, references: &[Result<Reply, String>]) -> bool {
        let said: Vec<compare::Fields> =
            references.iter().zip(self.votes).filter(|(_, votes)| *votes).map(|(reply, _)| fields(self.question, reply)).collect();
        said.iter().enumerate().all(|(at, one)| !said[..at].contains(one))
    }

    fn even(&self, references: &[Result<Reply, String>]) -> Vec<Result<Reply, String>> {
        references.iter().map(|reply| reply.clone().map(|reply| explained::even_ttls(reply, &self.mixed))).collect()
    }

    /// Asks over TCP what came over UDP. `whole` is the references' whole chain, which never is cut.
    fn size(&mut self, ours: &Reply, whole: &[Result<Reply, String>]) -> Option<(&'static str, Vec<Difference>)> {
        if self.question.way.tcp {
            return None;
        }
        let over_tcp = Question { way: message::Way { tcp: true, ..self.question.way }, ..self.question.clone() };
        let (told, theirs) = self.servers.ask(&over_tcp);
        if !explained::is_fitting(self.question, ours, told.as_ref().ok()?) {
            return None;
        }
        // A chain may be longer than theirs; without one, what they say over TCP is all.
        let has_chain = told.as_ref().is_ok_and(|reply| reply.answer.iter().any(|rec| rec.rtype == RecordType::CNAME));
        let theirs = if has_chain { whole.to_vec() } else { theirs };
        let rest = self.against(&told, &self.even(&theirs));
        if rest.is_empty() {
            return Some((explained::SIZE, rest));
        }
        self.additional(&rest).map(|name| (name, Vec::new()))
    }

    /// Additional records: ours may be more if the references say the same when asked, and fewer where names are steered.
    fn additional(&mut self, found: &[Difference]) -> Option<&'static str> {
        if !explained::only(found, &["additional"]) {
            return None;
        }
        let (more, less) = found.first().map(explained::more_and_less)?;
        if less.iter().any(|line| !explained::is_of(line, &self.family.steered)) {
            return None;
        }
        for line in &more {
            let mut words = line.split(' ');
            let (rtype, name): (RecordType, _) = (words.next()?.parse().ok()?, Name::parse_absolute(words.next()?).ok()?);
            let (_, replies) = self.servers.ask(&Question { name, rtype, class: 1, way: message::Way::TCP });
            let replies = self.even(&replies);
            // Glue is confirmed by a referral, an address by an answer.
            let confirms = |reply: &&Result<Reply, String>| {
                reply.as_ref().is_ok_and(|reply| reply.answer.iter().chain(&reply.additional).any(|rec| compare::line(rec) == *line))
            };
            if replies.iter().filter(confirms).count() < 2 && !explained::stands_in(line, self.family) {
                return None;
            }
        }
        Some(if less.is_empty() { explained::MORE } else { explained::STEERED })
    }
}

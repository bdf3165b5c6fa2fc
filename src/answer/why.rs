//! `TXT _why.NAME`: what a steered name decides for the asking client, in words, for prefixes that `diagnostics.allow` lists.
//!
//! It goes through the same class, plan and pools as the answer itself. It is the one reply that allocates: operators ask it, users never do.

use super::steer::{self, Client};
use crate::dns::{Full, RecordType, Section, Writer};
use crate::policy::plan::{self, Choice, UNSETTLED};
use crate::world::ZoneWorld;
use crate::zone::rdata;

/// The label that asks why.
pub(super) const LABEL: &[u8] = b"_why";

/// Octets of text at most, so that the reply fits without truncation.
const MAX_TEXT: usize = 900;

/// Writes the trace of one steered name as one TXT record with one string per fact, TTL 0. Returns the scope of the decision.
pub(super) fn write(zone: &ZoneWorld, steer: usize, client: &Client, unix_s: u64, owner: &[u8], writer: &mut Writer<'_>) -> Result<u8, Full> {
    let lines = trace(zone, steer, client, unix_s);
    let (scope, lines) = lines.unwrap_or((0, vec!["nothing is known of this name".into()]));
    let mut strings: Vec<&[u8]> = Vec::new();
    let mut room = MAX_TEXT;
    for line in &lines {
        let text = line.as_bytes().get(..255).unwrap_or(line.as_bytes());
        if text.len() + 1 > room {
            break;
        }
        room -= text.len() + 1;
        strings.push(text);
    }
    let Ok(data) = rdata::character_strings(&strings) else { return Err(Full) };
    writer.learn_question();
    writer.put_record(Section::Answer, owner, RecordType::TXT, 0, &data, [])?;
    Ok(scope)
}

fn trace(zone: &ZoneWorld, steer: usize, client: &Client, unix_s: u64) -> Option<(u8, Vec<String>)> {
    let definition = zone.model.steers.get(steer)?;
    let steering = zone.steerings.get(zone.steered.get(steer)?.steering as usize)?;
    let (class, scope) = steer::class_of(steering, client);
    let served = steering.plans.get(usize::from(class))?;
    let mut lines = vec![format!("steered {}, class {class}, scope /{scope}", definition.name)];
    let mut seen = Vec::new();
    let mut note = |pool: plan::Considered| {
        if !seen.contains(&pool.pool) {
            let why = pool.passed_over.as_deref().unwrap_or("serves");
            lines.push(format!("pool {}: {}/{} usable, {} needed: {why}", pool.pool, pool.usable, pool.total, pool.needed));
            seen.push(pool.pool);
        }
    };
    plan::plan(&zone.model, definition, served.ttl, steering.classes.get(usize::from(class))?, &zone.view, Some(served), &mut note);
    let settled = if served.settled_at == UNSETTLED { "unsettled" } else { "settled" };
    lines.push(format!("decided by {}, ttl {} s ({settled})", served.pass.words(), served.ttl_at(unix_s)));
    lines.push(format!("hands out {}", words(&served.choice)));
    Some((scope, lines))
}

fn words(choice: &Choice) -> String {
    match choice {
        Choice::NoData => "an empty answer".into(),
        Choice::ServFail => "SERVFAIL".into(),
        Choice::Answers { set, .. } => format!("{} IPv4, {} IPv6", set.v4.addrs.len(), set.v6.addrs.len()),
        Choice::Weighted(weighted) => {
            let share = |weight: u64| 100.0 * weight as f64 / weighted.total.max(1) as f64;
            weighted.entries.iter().map(|entry| format!("{:.1} %: {}", share(entry.weight), words(&entry.choice))).collect::<Vec<_>>().join("; ")
        }
    }
}

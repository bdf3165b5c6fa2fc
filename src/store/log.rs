//! The audit log on disk: appended to, bounded by size and age, read in pages. Every function runs inside the transaction of its caller.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::rows::{signed, unsigned};
use super::{MAX_EVENT_BYTES, MAX_EVENT_LOG_AGE_SECS};
use crate::control::audit::{DONE, Entry, Kind, MAX_PAGE, Page, Query, spellings};

/// Appends between two looks at the age of the log.
const APPENDS_PER_PRUNE: u32 = 1024;

/// Of each kind: how many parts of the whole log's room it may take. People first: what they did matters longest.
const SHARES: [(Kind, u64); 3] = [(Kind::Change, 2), (Kind::Refused, 1), (Kind::Health, 1)];

/// What gives way to an entry on a full disk, as many times its length: what is freed counts by whole pages only.
const GIVEN_FOR_ONE: usize = 4;
/// And so much at least: some pages of the file.
const GIVEN_AT_LEAST: usize = 16 << 10;

/// What the log holds of each kind, so that its bound costs no reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSize {
    shares: [Share; 3],
    /// Entries that are too old may go.
    pub(super) ages_count: bool,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    kind: Kind,
    limit: u64,
    bytes: Option<u64>,
    appends: u32,
}

impl LogSize {
    /// A log of at most `limit` octets in all.
    pub(super) fn new(limit: u64) -> LogSize {
        let parts: u64 = SHARES.iter().map(|(_, parts)| parts).sum();
        let shares = SHARES.map(|(kind, share)| Share { kind, limit: limit * share / parts, bytes: None, appends: 0 });
        LogSize { shares, ages_count: true }
    }

    /// Appends an entry, which is [`fitting`] as `json`; returns its sequence.
    pub(super) fn append(&mut self, connection: &Connection, entry: &Entry, json: &str) -> rusqlite::Result<u64> {
        let Some(share) = self.shares.iter_mut().find(|share| share.kind == entry.kind) else { return Ok(0) };
        let held = match share.bytes {
            Some(held) if held <= share.limit && share.appends < APPENDS_PER_PRUNE => held,
            _ => {
                share.appends = 0;
                let oldest = self.ages_count.then(|| entry.at.saturating_sub(MAX_EVENT_LOG_AGE_SECS));
                prune(connection, entry.kind, oldest, share.limit)?
            }
        };
        connection
            .prepare_cached("INSERT INTO events (at, kind, json, action, target, actor, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![signed(entry.at), entry.kind.word(), json, entry.action, entry.target, entry.actor, entry.outcome])?;
        share.bytes = Some(held + (entry.kind.word().len() + json.len()) as u64);
        share.appends += 1;
        Ok(u64::try_from(connection.last_insert_rowid()).unwrap_or(0))
    }

    /// Lets the oldest entries go for one that is to be written on a full disk, which has no other room: what checks saw first, then what was refused,
    /// what was changed last, of which the newest `spared` octets stay. Returns the octets that went.
    pub(super) fn give_way(&mut self, connection: &Connection, json: &str, spared: u64) -> rusqlite::Result<u64> {
        let wanted = (json.len() * GIVEN_FOR_ONE).max(GIVEN_AT_LEAST) as u64;
        let mut given = 0;
        for share in self.shares.iter_mut().rev() {
            let held = match share.bytes {
                Some(held) => held,
                None => *share.bytes.insert(bytes(connection, share.kind)?),
            };
            let held = held.saturating_sub(if share.kind == Kind::Change { spared } else { 0 });
            if given < wanted && held > 0 {
                drop_oldest(connection, share.kind, (wanted - given).min(held))?;
                let left = bytes(connection, share.kind)?;
                given += share.bytes.unwrap_or(left).saturating_sub(left);
                share.bytes = Some(left);
            }
        }
        Ok(given)
    }
}

/// The entry as text. What is too long loses its values, never the fact.
pub(super) fn fitting(entry: &Entry) -> String {
    let text = |entry: &Entry| serde_json::to_string(entry).unwrap_or_default();
    let json = text(entry);
    if json.len() <= MAX_EVENT_BYTES {
        return json;
    }
    let cut = |text: &str| text.chars().take(200).collect::<String>();
    let detail = Some(format!("before and after took {} octets and were not kept", json.len()));
    let (before, after) = (serde_json::Value::Null, serde_json::Value::Null);
    text(&Entry { before, after, detail, action: cut(&entry.action), target: cut(&entry.target), ..entry.clone() })
}

fn bytes(connection: &Connection, kind: Kind) -> rusqlite::Result<u64> {
    let sum = "SELECT coalesce(sum(octet_length(kind) + octet_length(json)), 0) FROM events WHERE kind = ?1";
    connection.query_row(sum, [kind.word()], |row| unsigned(row, 0))
}

/// Drops what is older than `oldest`, and the oldest tenth of `limit` or more when the kind takes more than `limit`. Returns what it takes then.
fn prune(connection: &Connection, kind: Kind, oldest: Option<u64>, limit: u64) -> rusqlite::Result<u64> {
    if let Some(oldest) = oldest {
        connection.execute("DELETE FROM events WHERE kind = ?1 AND at < ?2", params![kind.word(), signed(oldest)])?;
    }
    let held = bytes(connection, kind)?;
    if held <= limit {
        return Ok(held);
    }
    drop_oldest(connection, kind, held - limit + limit / 10)?;
    bytes(connection, kind)
}

/// Drops the oldest entries of a kind that come to so many octets together.
fn drop_oldest(connection: &Connection, kind: Kind, octets: u64) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM events WHERE kind = ?1 AND sequence <= (SELECT sequence FROM
            (SELECT sequence, sum(octet_length(kind) + octet_length(json)) OVER (ORDER BY sequence) AS running FROM events WHERE kind = ?1)
         WHERE running >= ?2 ORDER BY sequence LIMIT 1)",
        params![kind.word(), signed(octets)],
    )
}

/// True when no entry was ever appended.
pub(super) fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM events)", [], |row| row.get(0))
}

/// One page.
pub(super) fn read(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let (mut conditions, mut values) = (vec!["1"], Vec::<Sql>::new());
    let text = |text: &str| Sql::Text(text.to_owned());
    for (condition, value) in [("at >= ?", query.since), ("at <= ?", query.until)] {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(Sql::Integer(signed(value)));
        }
    }
    for (condition, value) in [("actor = ?", &query.actor), ("outcome = ?", &query.outcome), ("json ->> '$.token' = ?", &query.token)] {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(text(value));
        }
    }
    if let Some(kind) = query.kind {
        conditions.push("kind = ?");
        values.push(text(kind.word()));
    }
    if let Some(action) = &query.action {
        let below = format!("{action}.");
        conditions.push(BELOW_ACTION);
        values.extend([text(action), text(&below), text(&below)]);
    }
    let any_of = |targets: &[String], values: &mut Vec<Sql>| {
        let each = targets.iter().map(|target| {
            let below = format!("{target}/");
            values.extend([text(target), text(&below), text(&below)]);
            BELOW_TARGET
        });
        let any = each.collect::<Vec<_>>().join(" OR ");
        if any.is_empty() { "0".into() } else { format!("({any})") }
    };
    let targets = query.target.as_ref().map(|target| any_of(&[spellings(target), query.also.clone()].concat(), &mut values));
    let zones = query.zones.as_ref().map(|zones| any_of(zones, &mut values));
    conditions.extend([&targets, &zones].into_iter().flatten().map(String::as_str));
    if let Some(cursor) = query.cursor {
        conditions.push(if query.oldest_first { "sequence > ?" } else { "sequence < ?" });
        values.push(Sql::Integer(signed(cursor)));
    }
    let limit = query.limit.clamp(1, MAX_PAGE);
    let order = if query.oldest_first { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT sequence, at, kind, json, action, target, actor, outcome FROM events WHERE {} ORDER BY sequence {order} LIMIT {}",
        conditions.join(" AND "),
        limit + 1
    );
    let mut entries: Vec<Entry> = connection.prepare(&sql)?.query_map(params_from_iter(values), entry)?.collect::<rusqlite::Result<_>>()?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = if more { entries.last().map(|entry| entry.sequence) } else { None };
    Ok(Page { entries, next, incomplete: None })
}

// `substr` compares octets as they are: no wildcard in a name means anything.
const BELOW_TARGET: &str = "(target = ? OR substr(target, 1, length(?)) = ?)";
const BELOW_ACTION: &str = "(action = ? OR substr(action, 1, length(?)) = ?)";

/// Entries of before schema 3 have a form of their own; they are shown as what they were.
fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (sequence, at, json) = (unsigned(row, 0)?, unsigned(row, 1)?, row.get::<_, String>(3)?);
    if let Ok(entry) = serde_json::from_str::<Entry>(&json) {
        return Ok(Entry { sequence, ..entry });
    }
    let kind: String = row.get(2)?;
    Ok(Entry {
        sequence,
        at,
        kind: Kind::of(&kind),
        action: row.get(4)?,
        target: row.get(5)?,
        check: None,
        monitor: None,
        actor: row.get(6)?,
        token: String::new(),
        from: None,
        before: serde_json::Value::Null,
        after: serde_json::from_str(&json).unwrap_or(serde_json::Value::String(json)),
        reason: None,
        outcome: row.get::<_, String>(7).map(|outcome| if outcome.is_empty() { DONE.into() } else { outcome })?,
        detail: None,
        generation: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Who;
    use crate::store::schema;

    fn with_log(limit: u64, check: impl FnOnce(&Connection, &mut LogSize)) {
        let folder = tempfile::tempdir().expect("folder");
        let connection = schema::open(&folder.path().join("state.db")).expect("open");
        check(&connection, &mut LogSize::new(limit));
    }

    fn an_entry(kind: Kind, target: &str, at: u64) -> Entry {
        Entry { kind, ..Entry::done(&Who::itself(), "overlay.lay", target, at) }
    }

    fn add(log: &mut LogSize, connection: &Connection, entry: &Entry) -> rusqlite::Result<u64> {
        log.append(connection, entry, &fitting(entry))
    }

    fn sequences(connection: &Connection, query: Query) -> Vec<u64> {
        let page = read(connection, &Query { limit: MAX_PAGE, ..query }).expect("read");
        page.entries.iter().map(|entry| entry.sequence).collect()
    }

    fn of_kind(kind: Kind) -> Query {
        Query { kind: Some(kind), oldest_first: true, ..Query::default() }
    }

    #[test]
    fn each_kind_drops_its_own_oldest_entries_by_size() {
        with_log(8000, |connection, log| {
            add(log, connection, &an_entry(Kind::Change, "kept", 1)).expect("append");
            for _ in 0..100 {
                add(log, connection, &an_entry(Kind::Refused, &"x".repeat(40), 1)).expect("append");
            }
            let left = sequences(connection, of_kind(Kind::Refused));
            assert_eq!(left.last(), Some(&101));
            assert!(left.len() >= 8 && left.len() <= 15, "{left:?}");
            assert_eq!(left, (102 - left.len() as u64..=101).collect::<Vec<_>>());
            assert_eq!(sequences(connection, of_kind(Kind::Change)), [1], "what people did stays");
        });
    }

    #[test]
    fn on_a_full_disk_what_checks_saw_gives_way_first_and_changes_last() {
        with_log(1 << 20, |connection, log| {
            let long = "x".repeat(1000);
            for kind in [Kind::Change, Kind::Refused, Kind::Health] {
                for _ in 0..20 {
                    add(log, connection, &an_entry(kind, &long, 1)).expect("append");
                }
            }
            let left = |connection: &Connection| Kind::ALL.map(|kind| sequences(connection, of_kind(kind)).len());
            assert_eq!(left(connection), [20, 20, 20]);
            for expected in [[20, 20, 5], [20, 10, 0], [15, 0, 0]] {
                let given = log.give_way(connection, "short", 0).expect("dropped");
                assert!(given >= GIVEN_AT_LEAST as u64 && given < 20 << 10, "{given}");
                let found = left(connection);
                assert!(found.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 2), "{found:?}, about {expected:?}");
            }
            assert_eq!(sequences(connection, of_kind(Kind::Change)).last(), Some(&20), "the newest stay");
            for (spared, expected) in [(5000, 3), (0, 0)] {
                for _ in 0..3 {
                    log.give_way(connection, "short", spared).expect("dropped");
                }
                let found = left(connection);
                assert!(found[0].abs_diff(expected) <= 1 && found[1..] == [0, 0], "{found:?}, spared {spared}");
                assert_eq!(log.give_way(connection, "short", spared), Ok(0));
            }
        });
    }

    #[test]
    fn entries_go_by_age_and_their_sequence_is_never_used_again() {
        with_log(8000, |connection, log| {
            add(log, connection, &an_entry(Kind::Change, "old", 1)).expect("append");
            *log = LogSize::new(8000);
            let sequence = add(log, connection, &an_entry(Kind::Change, "new", 2 + MAX_EVENT_LOG_AGE_SECS)).expect("append");
            assert_eq!((sequence, sequences(connection, Query::default())), (2, vec![2]));
            *log = LogSize::new(8000);
            log.ages_count = false;
            add(log, connection, &an_entry(Kind::Change, "by a clock that is doubted", 2 * MAX_EVENT_LOG_AGE_SECS + 3)).expect("append");
            assert_eq!(sequences(connection, Query::default()), [3, 2]);
        });
    }

    #[test]
    fn filters_find_what_they_say_and_pages_follow_one_another() {
        with_log(1 << 20, |connection, log| {
            for (kind, target) in [
                (Kind::Change, "example.com/fra"),
                (Kind::Change, "example.com/fra/192.0.2.1"),
                (Kind::Refused, "example.com.evil/fra"),
                (Kind::Change, "region:eu"),
                (Kind::Health, "tcp at 192.0.2.1:80"),
                (Kind::Change, "example%/x"),
            ] {
                add(log, connection, &an_entry(kind, target, 100)).expect("append");
            }
            let target = |target: &str| Query { target: Some(target.into()), oldest_first: true, ..Query::default() };
            for (query, found) in [
                (Query::default(), &[6, 5, 4, 3, 2, 1][..]),
                (target("example.com"), &[1, 2]),
                (target("example.com/fra"), &[1, 2]),
                (target("example.com/f"), &[]),
                (target("Example.COM."), &[1, 2]),
                (target("EXAMPLE.com/fra/::ffff:192.0.2.1"), &[]),
                (target("EXAMPLE.com/fra/192.0.2.1"), &[2]),
                (target("example.com/FRA.Example.com."), &[1, 2]),
                (target("example%"), &[6]),
                (Query { zones: Some(vec!["example.com".into(), "example%".into()]), ..Query::default() }, &[6, 2, 1]),
                (Query { zones: Some(Vec::new()), ..Query::default() }, &[]),
                (Query { action: Some("overlay".into()), kind: Some(Kind::Health), ..Query::default() }, &[5]),
                (Query { action: Some("over".into()), ..Query::default() }, &[]),
                (Query { since: Some(101), ..Query::default() }, &[]),
                (Query { until: Some(99), ..Query::default() }, &[]),
                (Query { cursor: Some(3), ..Query::default() }, &[2, 1]),
                (Query { cursor: Some(4), oldest_first: true, ..Query::default() }, &[5, 6]),
                (Query { actor: Some("meridian' OR 1 --".into()), ..Query::default() }, &[]),
                (Query { outcome: Some("done".into()), target: Some("region:eu".into()), ..Query::default() }, &[4]),
            ] {
                assert_eq!(sequences(connection, query.clone()), found, "{query:?}");
            }
            let page = read(connection, &Query { limit: 4, ..Query::default() }).expect("read");
            assert_eq!((page.entries.len(), page.next), (4, Some(3)));
            let page = read(connection, &Query { limit: 4, cursor: page.next, ..Query::default() }).expect("read");
            assert_eq!((page.entries.len(), page.next), (2, None));
        });
    }

    #[test]
    fn an_entry_that_is_too_long_loses_its_values_only() {
        with_log(1 << 20, |connection, log| {
            let after = serde_json::Value::String("x".repeat(MAX_EVENT_BYTES));
            add(log, connection, &Entry { after, ..an_entry(Kind::Change, "t", 1) }).expect("append");
            let page = read(connection, &Query { limit: 1, ..Query::default() }).expect("read");
            assert!(page.entries[0].after.is_null() && page.entries[0].detail.is_some() && page.entries[0].target == "t");
        });
    }
}

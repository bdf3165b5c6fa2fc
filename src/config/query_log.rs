//! `[query_log]`: what is logged of queries, and where.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::read;
use super::source::{Table, Value};
use super::values::{parse_size, span};
use crate::world::{LogFormat, QueryLog};

/// One reply in so many: beyond a million there is nothing to see.
const SAMPLE: RangeInclusive<i64> = 1..=1_000_000;
/// Unless it is said: what a file can take of a busy server.
const DEFAULT_SAMPLE: u32 = 100;
/// Octets of a file: several of the largest records, up to a terabyte.
const MAX_LEN: RangeInclusive<u64> = 256 << 10..=1 << 40;
const DEFAULT_MAX_LEN: u64 = 100 << 20;
/// From a file to the next: a year is as good as never.
const MAX_AGE: RangeInclusive<Duration> = span(Duration::from_secs(60), Duration::from_secs(366 * 86_400));
/// Files that are kept: each rotation renames all of them.
const KEEP: RangeInclusive<i64> = 0..=1000;
const DEFAULT_KEEP: u32 = 10;

/// `[query_log]`.
pub(super) fn query_log(value: &Value<'_>) -> Option<QueryLog> {
    let table = value.table(" such as [query_log]")?;
    let given = table.take("file");
    if given.is_none() {
        table.missing("file is missing; write file = \"log/queries.json\"");
    }
    let file = given.and_then(|value| read::path(&value)).map(|path| path.value);
    let format = table.take("format").map_or(Some(LogFormat::Json), |value| value.word(&[("json", LogFormat::Json), ("dnstap", LogFormat::Dnstap)]));
    let sample = table.take("sample").map_or(Some(i64::from(DEFAULT_SAMPLE)), |value| value.integer(SAMPLE, ""));
    let max_len = table.take("max_size").map_or(Some(DEFAULT_MAX_LEN), |value| size(&value));
    let max_age = table.take("max_age").map_or(Some(None), |value| value.duration(&MAX_AGE).map(Some));
    let keep = table.take("keep").map_or(Some(i64::from(DEFAULT_KEEP)), |value| value.integer(KEEP, " files"));
    let client_prefix = table.take("client_prefix").map_or(Some(None), |value| prefix(&value).map(Some));
    table.finish();
    Some(QueryLog {
        file: file?,
        format: format?,
        sample: sample? as u32,
        max_len: max_len?,
        max_age: max_age?,
        keep: keep? as u32,
        client_prefix: client_prefix?,
    })
}

fn size(value: &Value<'_>) -> Option<u64> {
    let what = "a size such as \"100MiB\", from 256KiB to 1024GiB";
    let size = value.as_str().and_then(parse_size).filter(|size| MAX_LEN.contains(size));
    if size.is_none() {
        value.expected(what);
    }
    size
}

fn prefix(value: &Value<'_>) -> Option<(u8, u8)> {
    let table: Table<'_> = value.table(" such as { v4 = 24, v6 = 56 }")?;
    let bits = |key, most, default| table.take(key).map_or(Some(default), |value| value.integer(0..=most, " bits"));
    let (v4, v6) = (bits("v4", 32, 24), bits("v6", 128, 56));
    table.finish();
    Some((v4? as u8, v6? as u8))
}

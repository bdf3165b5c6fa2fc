//! The log as a whole, without sockets.

use std::fs;
use std::path::Path;

use super::*;
use crate::answer::{CookieState, Kind};
use crate::dns::Rcode;
use crate::sys::counting::allocations_in;
use crate::world::ServerOptions;

/// A query for www.example.com A with the client subnet 203.0.113.7/32, and a reply with the scope 24.
fn messages() -> (Vec<u8>, Vec<u8>) {
    let message = |flags: &[u8], scope: u8| {
        let question = b"\0\x01\0\0\0\0\0\x01\x03www\x07example\x03com\0\0\x01\0\x01";
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x08\0\x08\0\x01\x20";
        [&b"\x12\x34"[..], flags, question, opt, &[scope], b"\xcb\0\x71\x07"].concat()
    };
    (message(&[0, 0], 0), message(&[0x84, 0], 24))
}

/// Records of these messages that a ring has room for.
fn fit() -> usize {
    let (query, reply) = messages();
    RING_WORDS / (HEADER_WORDS + query.len().div_ceil(8) + reply.len().div_ceil(8))
}

fn world(log: Option<QueryLog>) -> World {
    World {
        generation: 41,
        server: ServerOptions { query_log: log.map(Arc::new), nsid: Some((*b"node-1").into()), ..ServerOptions::default() },
        ..World::default()
    }
}

fn settings(dir: &Path, format: LogFormat, sample: u32) -> QueryLog {
    QueryLog { file: dir.join("q"), format, sample, max_len: 1 << 20, max_age: None, keep: 3, client_prefix: None }
}

fn reply(registry: &Registry, len: usize) -> Reply {
    Reply {
        len,
        rcode: Rcode::NOERROR,
        truncated: false,
        question_end: 12,
        opt_len: 0,
        kind: Kind::Answer,
        subject: 0,
        zone_slot: Some(registry.assign("zone example.com.")),
        pool_slot: Some(registry.assign("pool example.com/fra")),
        policy_slot: None,
        cookie: CookieState::None,
        audience: crate::answer::Audience::Everybody,
    }
}

/// Gives `count` replies to a tap; how many were chosen.
fn give(tap: &mut Tap, counters: &ThreadCounters, world: &World, registry: &Registry, count: usize) -> usize {
    let (query, octets) = messages();
    let (client, server) = ("[::ffff:192.0.2.129]:5353".parse().unwrap(), "127.0.0.1:53".parse().unwrap());
    let reply = reply(registry, octets.len());
    tap.begin(world, Duration::new(1_760_000_000, 123_456_789));
    let mut chosen = 0;
    for _ in 0..count {
        if tap.wants() {
            chosen += 1;
            tap.record(&Heard { query: &query, client, server, transport: Transport::Udp }, &reply, &octets, counters);
        }
    }
    chosen
}

#[test]
fn of_every_group_one_reply_is_chosen_at_changing_places() {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    registry.query_log().turn(true);
    let mut tap = registry.thread().tap();
    for sample in [1, 2, 3, 100, 1_000_000] {
        let world = world(Some(settings(dir.path(), LogFormat::Json, sample)));
        tap.begin(&world, Duration::ZERO);
        let groups = if sample > 100 { 2 } else { 200 };
        let mut places = Vec::new();
        for group in 0..groups {
            let chosen: Vec<u32> = (0..sample).filter(|_| tap.wants()).collect();
            assert_eq!(chosen.len(), 1, "group {group} of {sample}");
            places.extend(chosen);
        }
        places.sort_unstable();
        places.dedup();
        assert!(sample == 1 || places.len() > 1, "always the same of {sample}");
        // A batch more changes nothing of the rhythm.
        tap.begin(&world, Duration::ZERO);
        assert_eq!((0..sample).filter(|_| tap.wants()).count(), 1);
    }
    tap.begin(&world(None), Duration::ZERO);
    assert!(!tap.is_on() && (0..1000).all(|_| !tap.wants()));
}

#[test]
fn nothing_is_logged_before_the_logger_is_there() {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    let counters = registry.thread();
    let world = world(Some(settings(dir.path(), LogFormat::Json, 1)));
    assert_eq!(give(&mut counters.tap(), &counters, &world, &registry, 10), 0);
    assert_eq!(registry.totals().query_log, LogTotals::default());
}

#[test]
fn logging_allocates_nothing_whether_the_ring_has_room_or_not() {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    registry.query_log().turn(true);
    let counters = registry.thread();
    let (mut tap, world) = (counters.tap(), world(Some(settings(dir.path(), LogFormat::Json, 1))));
    let (query, octets) = messages();
    let (client, reply) = (SocketAddr::from(([192, 0, 2, 1], 53)), reply(&registry, octets.len()));
    let allocations = allocations_in(|| {
        tap.begin(&world, Duration::ZERO);
        for _ in 0..20_000 {
            assert!(tap.wants());
            tap.record(&Heard { query: &query, client, server: client, transport: Transport::Udp }, &reply, &octets, &counters);
        }
    });
    let totals = registry.totals().query_log;
    assert_eq!((allocations, totals.sampled), (0, 20_000));
    assert_eq!(totals.dropped, 20_000 - fit() as u64);
}

#[test]
fn what_is_sampled_is_written_dropped_or_lost() {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(world(Some(settings(dir.path(), LogFormat::Json, 1))));
    let counters = registry.thread();
    let mut writer = Writer::new(registry.clone(), Arc::new(Published::new(World::default())));
    writer.published.publish(world.clone());
    writer.look();
    let mut tap = counters.tap();
    give(&mut tap, &counters, &world, &registry, 10_000);
    let fit = fit();
    assert_eq!(writer.drain(), fit);
    writer.file.as_mut().unwrap().flush();
    give(&mut tap, &counters, &world, &registry, 100);
    // Turned off between a batch and the look at it.
    writer.published.publish(Arc::default());
    writer.look();
    assert_eq!((writer.drain(), tap.is_on()), (100, true));
    let totals = registry.totals().query_log;
    assert_eq!((totals.sampled, totals.written, totals.dropped, totals.lost), (10_100, fit as u64, 10_000 - fit as u64, 100));
    let lines: usize =
        ["q", "q.1", "q.2"].iter().filter_map(|file| fs::read_to_string(dir.path().join(file)).ok()).map(|text| text.lines().count()).sum();
    assert_eq!(lines, fit);
    assert_eq!(
        totals.octets,
        ["q", "q.1", "q.2"].iter().filter_map(|file| fs::metadata(dir.path().join(file)).ok()).map(|found| found.len()).sum::<u64>()
    );
}

/// The one line that a reply makes.
fn line(prefix: Option<(u8, u8)>) -> serde_json::Value {
    let registry = Registry::new();
    let dir = tempfile::tempdir().unwrap();
    let world = world(Some(QueryLog { client_prefix: prefix, ..settings(dir.path(), LogFormat::Json, 1) }));
    let published = Arc::new(Published::new(World::default()));
    published.publish(Arc::new(world));
    let logger = Logger::start(&registry, published.clone()).unwrap();
    let counters = registry.thread();
    published.with_world(|world| give(&mut counters.tap(), &counters, world, &registry, 1));
    logger.stop();
    serde_json::from_str(&fs::read_to_string(dir.path().join("q")).unwrap()).unwrap()
}

#[test]
fn a_line_says_who_asked_what_and_what_for() {
    let expected = serde_json::json!({
        "time": 1_760_000_000.123_456, "client": "192.0.2.129", "port": 5353, "server": "127.0.0.1:53", "transport": "udp",
        "name": "www.example.com.", "type": "A", "class": "IN", "rcode": "NOERROR", "truncated": false, "query_size": messages().0.len(), "size": messages().1.len(),
        "ecs": "203.0.113.7/32", "scope": 24, "zone": "example.com.", "pool": "example.com/fra", "generation": 41, "sample": 1,
    });
    assert_eq!(line(None), expected);
    let cut = line(Some((24, 56)));
    assert_eq!((&cut["client"], &cut["ecs"], &cut["scope"]), (&"192.0.2.0".into(), &"203.0.113.0/24".into(), &24.into()));
}

#[test]
fn a_dnstap_record_holds_nothing_of_a_client_beyond_the_prefix() {
    for (prefix, shown) in [(None, true), (Some((24, 56)), false)] {
        let registry = Registry::new();
        let dir = tempfile::tempdir().unwrap();
        let published = Arc::new(Published::new(World::default()));
        published.publish(Arc::new(world(Some(QueryLog { client_prefix: prefix, ..settings(dir.path(), LogFormat::Dnstap, 1) }))));
        let logger = Logger::start(&registry, published.clone()).unwrap();
        let counters = registry.thread();
        published.with_world(|world| give(&mut counters.tap(), &counters, world, &registry, 1));
        logger.stop();
        let octets = fs::read(dir.path().join("q")).unwrap();
        let count = |wanted: &[u8]| octets.windows(wanted.len()).filter(|found| *found == wanted).count();
        // In both messages; and the address of the client.
        assert_eq!(count(b"\xcb\0\x71\x07") + count(b"\xc0\0\x02\x81"), if shown { 3 } else { 0 }, "{prefix:?}");
        assert_eq!((count(b"\xcb\0\x71"), count(b"\xc0\0\x02"), count(b"node-1")), (2, 1, 1));
        assert!(octets.ends_with(dnstap::STOP));
    }
}

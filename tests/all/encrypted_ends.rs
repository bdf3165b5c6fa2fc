//! How connections of encrypted transports end: what has been asked by then is answered, and the client hears of it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::encrypted::{Served, ask_quic, framed, query, runtime};
use crate::encrypted_abuse::closed;
use crate::encrypted_http::{get, http2};
use crate::meridian::PATIENCE;

/// The server is held still while queries arrive and the lifetime passes, so that it finds both at once.
#[test]
fn what_has_come_by_the_end_of_a_lifetime_is_answered() {
    const LIFETIME: Duration = Duration::from_secs(4);
    let served = Served::start("lifetime = \"4s\"\nidle = \"1m\"");
    let asked = query("www.example.com", 1, &[]);
    let mut zero = asked.clone();
    zero[..2].fill(0);
    runtime().block_on(async {
        let mut tls = served.connect(served.tls, Some(b"dot"));
        assert!(!framed(&mut tls, &asked).is_empty());
        let mut https = http2(&served).await;
        assert_eq!(get(&mut https, &asked).await, 200);
        let quic = served.quic().await;
        assert!(ask_quic(&quic, &zero).await.is_ok());
        let began = Instant::now();
        served.server.signal("STOP");
        let one = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
        tls.write_all(&one.repeat(100)).and_then(|()| tls.flush()).expect("sent");
        let (mut over_https, mut over_quic) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for _ in 0..20 {
            let (mut client, asked) = (https.clone(), asked.clone());
            over_https.spawn(async move { get(&mut client, &asked).await });
            let (client, asked) = (quic.clone(), zero.clone());
            over_quic.spawn(async move { ask_quic(&client, &asked).await });
        }
        tokio::time::sleep((LIFETIME + Duration::from_millis(500)).saturating_sub(began.elapsed())).await;
        served.server.signal("CONT");
        assert!(over_https.join_all().await.iter().all(|status| *status == 200), "HTTPS");
        for reply in over_quic.join_all().await {
            assert!(reply.is_ok(), "QUIC: {reply:?}");
        }
        assert_eq!(closed(&quic).await, (0, "lifetime".to_owned()), "DOQ_NO_ERROR");
        let mut replies = Vec::new();
        // Without close_notify that would be an error (RFC 8446 §6.1).
        tls.read_to_end(&mut replies).expect("close_notify");
        let (mut rest, mut count) = (&replies[..], 0);
        while let Some((length, behind)) = rest.split_first_chunk::<2>() {
            (rest, count) = (&behind[usize::from(u16::from_be_bytes(*length))..], count + 1);
        }
        assert_eq!(count, 100, "TLS");
    });
}

/// Over QUIC there is no word that a connection is about to end, so it stays for the queries that are under way, and for those that come meanwhile.
#[test]
fn queries_under_way_outlast_the_lifetime_over_quic() {
    let served = Served::start("lifetime = \"2s\"\nidle = \"1m\"\nmessage = \"1m\"");
    let mut asked = query("www.example.com", 1, &[]);
    asked[..2].fill(0);
    runtime().block_on(async {
        let connection = served.quic().await;
        let framed = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&framed[..20]).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(ask_quic(&connection, &asked).await.is_ok(), "another");
        send.write_all(&framed[20..]).await.expect("sent");
        send.finish().expect("open");
        let reply = tokio::time::timeout(PATIENCE, receive.read_to_end(1000)).await.expect("in time").expect("a reply");
        assert!(reply.len() > framed.len());
        assert_eq!(closed(&connection).await, (0, "lifetime".to_owned()), "DOQ_NO_ERROR");
        // What never ends is not waited for.
        let connection = served.quic().await;
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&framed[..20]).await.expect("sent");
        assert_eq!(closed(&connection).await, (0, "lifetime".to_owned()), "DOQ_NO_ERROR");
    });
    assert_eq!(served.metric("meridian_encrypted_timed_out_total{transport=\"quic\"}"), 2);
}

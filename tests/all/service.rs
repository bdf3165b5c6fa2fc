//! The program from the outside: start, answers, reload, stop.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::meridian::{Meridian, addresses};

const ZONE: &str = r#"
[zone]
name = "example.com"
ns   = ["ns1"]
[records]
ns1.A = "192.0.2.53"
www.A = "192.0.2.80"
"#;

#[test]
fn a_zone_is_served_over_udp_and_tcp_and_the_program_stops_when_told() {
    let mut meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    assert_eq!(addresses(&meridian.ask("www.example.com.", RecordType::A)), ["192.0.2.80".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!(addresses(&meridian.ask_tcp("ns1.example.com.", RecordType::A)).len(), 1);
    assert_eq!(meridian.ask("nope.example.com.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    let (took, code) = meridian.terminate();
    assert!(took.as_secs() < 3, "{took:?}");
    assert_eq!(code, Some(0));
}

#[test]
fn why_is_told_to_those_who_may_ask() {
    let steered = format!("{ZONE}\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n[steer.app]\npolicy = \"failover\"\nto = [\"a\"]\n");
    let ask = |meridian: &Meridian| {
        let message = meridian.ask("_why.app.example.com.", RecordType::TXT);
        (message.metadata.response_code, message.answers.iter().map(ToString::to_string).collect::<String>())
    };
    let open = Meridian::start(&[("zones/example.com.toml", &steered)]);
    let (code, text) = ask(&open);
    assert_eq!(code, ResponseCode::NoError);
    assert!(text.contains("example.com/a: 1/1 usable, 1 needed: serves"), "{text}");
    assert_eq!(open.ask("_why.www.example.com.", RecordType::TXT).metadata.response_code, ResponseCode::NXDomain, "not a steered name");
    let config = format!("{}[diagnostics]\nallow = [\"192.0.2.0/24\"]\n", crate::meridian::CONFIG);
    let closed = Meridian::start(&[("meridian.toml", &config), ("zones/example.com.toml", &steered)]);
    assert_eq!(ask(&closed).0, ResponseCode::NXDomain);
}

#[test]
fn a_zone_folder_out_of_reach_takes_no_zone_away() {
    let meridian = Meridian::start(&[("zones/example.com.toml", ZONE)]);
    let is_served = |meridian: &Meridian| addresses(&meridian.ask("www.example.com.", RecordType::A)).len() == 1;
    let reload = |meridian: &Meridian| meridian.command(&["reload"]);
    std::fs::rename(meridian.path().join("zones"), meridian.path().join("elsewhere")).expect("a rename");
    let (code, out, err) = reload(&meridian);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("kept") && is_served(&meridian), "{out}{err}");
    // A start finds the last good version in the state.
    let meridian = meridian.restart();
    assert!(is_served(&meridian), "{:?}", meridian.log());
    assert!(meridian.command(&["status"]).1.contains("cannot be listed"));
    std::fs::rename(meridian.path().join("elsewhere"), meridian.path().join("zones")).expect("a rename");
    assert_eq!(reload(&meridian).0, 0);
    // A file that was emptied, as by a full disk, or that is a folder now.
    for empty in [true, false] {
        let path = meridian.path().join("zones/example.com.toml");
        if empty {
            meridian.write("zones/example.com.toml", "");
        } else {
            std::fs::remove_file(&path).expect("it goes");
            std::fs::create_dir(&path).expect("a folder");
        }
        let (code, out, err) = reload(&meridian);
        assert_eq!(code, 1, "{out}{err}");
        assert!((out + &err).contains("remove the file if the zone is to go") && is_served(&meridian));
    }
    // Removing the file is how a zone goes, as long as anything is left: an empty folder may be one that is not mounted.
    meridian.write("zones/library.toml", "[region]\n");
    std::fs::remove_dir(meridian.path().join("zones/example.com.toml")).expect("it goes");
    let (code, out, _) = reload(&meridian);
    assert_eq!((code, out.contains("removed")), (0, true), "{out}");
    assert_eq!(meridian.ask("www.example.com.", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn ttl_overlays_hold_wherever_the_records_are_written() {
    let zone = format!("{ZONE}sub.NS = \"ns.sub\"\n\"ns.sub\".A = \"192.0.2.54\"\nold.DNAME = \"new\"\n");
    let meridian = Meridian::start(&[("zones/example.com.toml", &zone)]);
    for (target, ttl) in [("example.com/sub/NS", "7"), ("example.com/ns.sub/A", "8"), ("example.com/old/DNAME", "9"), ("example.com/@/SOA", "6")] {
        let (code, out, err) = meridian.command(&["ttl", target, ttl, "--reason", "test"]);
        assert_eq!(code, 0, "{out}{err}");
    }
    let ttls = |records: &[hickory_proto::rr::Record]| records.iter().map(|record| record.ttl).collect::<Vec<_>>();
    let referral = meridian.ask("host.sub.example.com.", RecordType::A);
    assert_eq!((ttls(&referral.authorities), ttls(&referral.additionals)), (vec![7], vec![8]));
    assert_eq!(ttls(&meridian.ask("x.old.example.com.", RecordType::A).answers), [9, 9]);
    assert_eq!(ttls(&meridian.ask("nope.example.com.", RecordType::A).authorities), [6], "RFC 2308 section 3");
}

#[test]
fn explain_follows_cnames_and_shows_records_as_dig_does() {
    let zone = format!("{ZONE}docs.CNAME = \"app\"\n[pool.a]\nendpoints = [\"192.0.2.1\"]\n[steer.app]\npolicy = \"failover\"\nto = [\"a\"]\n");
    let meridian = Meridian::start(&[("zones/example.com.toml", &zone)]);
    let (_, out, err) = meridian.command(&["explain", "docs.example.com", "A"]);
    assert!(out.contains("pool        example.com/a: 1/1 usable") && out.contains("IN CNAME app.example.com."), "{out}{err}");
    let (_, out, err) = meridian.command(&["explain", "nope.example.com", "A"]);
    assert!(out.contains("IN SOA ns1.example.com. hostmaster.example.com."), "{out}{err}");
}

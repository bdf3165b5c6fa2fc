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

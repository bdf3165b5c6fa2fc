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

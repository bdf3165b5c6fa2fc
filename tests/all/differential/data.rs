//! Record data of every type that the runner covers.

use super::chance::Chance;

/// Types that may stand anywhere, the frequent ones more often.
const TYPES: &[&str] = &[
    "A",
    "A",
    "A",
    "A",
    "A",
    "AAAA",
    "AAAA",
    "AAAA",
    "TXT",
    "TXT",
    "TXT",
    "MX",
    "MX",
    "SRV",
    "SRV",
    "CAA",
    "PTR",
    "NAPTR",
    "SSHFP",
    "TLSA",
    "SMIMEA",
    "SVCB",
    "HTTPS",
    "HTTPS",
    "DNSKEY",
    "CDS",
    "CDNSKEY",
    "LOC",
    "URI",
    "HINFO",
    "RP",
    "CERT",
    "OPENPGPKEY",
    "EUI48",
    "EUI64",
    "AFSDB",
    "APL",
    "CSYNC",
    "ZONEMD",
    "SPF",
    "KX",
    "L32",
    "L64",
    "NID",
    "LP",
    "DHCID",
    "RT",
    "MINFO",
    "TYPE65280",
    "TYPE65281",
    "TYPE731",
];

/// A type for data.
pub fn any_type(chance: &mut Chance) -> &'static str {
    TYPES[chance.below(TYPES.len())]
}

/// Data of one record; `target` stands where the type has a name.
pub fn text(chance: &mut Chance, rtype: &str, target: &str) -> String {
    let n = chance.below(200);
    match rtype {
        "A" => format!("192.0.2.{n}"),
        "AAAA" => format!("2001:db8::{n:x}"),
        "NS" | "CNAME" | "DNAME" | "PTR" => target.into(),
        "MX" | "KX" | "RT" | "AFSDB" | "LP" => format!("{} {target}", n % 4),
        "TXT" | "SPF" => match n % 5 {
            0 => "\"\"".into(),
            1 => format!("\"a\" \"b{n}\""),
            2 => format!("\"v=spf1 include:{n} -all\""),
            3 => r#""\000\255\"; quoted \\""#.into(),
            _ => format!("text{n}"),
        },
        "SRV" => format!("{} {} 5060 {target}", n % 3, n % 7),
        "CAA" => ["0 issue \"ca.example.net; policy=ev\"", "128 iodef \"mailto:a@example.net\"", "0 issuewild \";\""][n % 3].into(),
        "NAPTR" => format!("100 {} \"S\" \"SIP+D2U\" \"\" {target}", n % 9),
        "SSHFP" => "1 1 DD465C09CFA51FB45020CC83316FFF21B9EC74AC".into(),
        "TLSA" | "SMIMEA" => "3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971".into(),
        "SVCB" | "HTTPS" => svcb(n, target),
        "DS" | "CDS" => format!("{} 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A", 60_000 + n % 3),
        "DNSKEY" | "CDNSKEY" => format!("{} 3 8 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWs=", 256 + n % 2),
        "LOC" => ["42 21 54 N 71 06 18 W -24m 30m", "52 14 05.000 N 00 08 50.000 E 10m 1m 10000m 10m"][n % 2].into(),
        "URI" => format!("10 {} \"ftp://ftp.example.net/public\"", n % 3),
        "HINFO" => "PC \"Plan 9\"".into(),
        "RP" | "MINFO" => format!("{target} {target}"),
        "CERT" => "PKIX 1 8 AQIDBAUG".into(),
        "OPENPGPKEY" => "AQIDBAUG".into(),
        "EUI48" => "00-00-5e-00-53-2a".into(),
        "EUI64" => "00-00-5e-ef-10-00-00-2a".into(),
        "APL" => ["1:192.168.32.0/21 !1:192.168.38.0/28", "2:ff00:0:0:0:0:0:0:0/8"][n % 2].into(),
        "CSYNC" => "66 3 A NS AAAA".into(),
        "ZONEMD" => format!(
            "2018031500 1 {} FEBE3D4CE2EC2FFA4BA99D46CD69D6D29711E55217057BEE7EB1A7B641A47BA7FED2DD5B97AE499FAFA4F22C6BD647DE",
            if n < 100 { "1" } else { "240" }
        ),
        "L32" => format!("{} 10.1.2.0", n % 3),
        "L64" | "NID" => format!("{} 2001:0db8:1140:1000", n % 3),
        "DHCID" => "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=".into(),
        other => match (other, n % 4) {
            (_, 0) => r"\# 0".into(),
            (_, 1) => r"\# 4 0a000001".into(),
            _ => format!(r"\# 3 c00c{n:02x}"),
        },
    }
}

fn svcb(n: usize, target: &str) -> String {
    match n % 6 {
        0 if n.is_multiple_of(4) => format!("0 {target} port=8443"),
        0 => format!("0 {target}"),
        1 => "1 . alpn=h2,h3".into(),
        2 => format!("2 {target} port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1"),
        3 => format!("16 {target} mandatory=alpn,ipv4hint alpn=h2,h3-19 ipv4hint=192.0.2.1"),
        4 => format!("3 {target} key65333=ex1"),
        _ => format!("1 {target}"),
    }
}

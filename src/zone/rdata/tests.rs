use data_encoding::HEXLOWER;
use hickory_proto::rr as hickory;
use hickory_proto::serialize::binary::{BinDecoder, BinEncodable, BinEncoder, NameEncoding, Restrict};
use proptest::prelude::*;

use super::*;
use crate::dns::{Name, NameError, RecordType};

fn origin() -> Name {
    Name::parse_absolute("example.com.").expect("a name")
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits")
}

/// Text, its canonical text ("" when it is the same), and the wire form ("" when only the round trip counts).
pub(in crate::zone) type Good = (RecordType, &'static str, &'static str, &'static str);

/// Every type that has a layout, at least once.
pub(in crate::zone) const GOOD: &[Good] = &[
    (RecordType::A, "192.0.2.1", "", "c0000201"),
    (RecordType::AAAA, "2001:DB8::0:1", "2001:db8::1", "20010db8000000000000000000000001"),
    (RecordType::AAAA, "::ffff:192.0.2.1", "", "00000000000000000000ffffc0000201"),
    (RecordType::NS, "ns1", "ns1.example.com.", "036e7331076578616d706c6503636f6d00"),
    (RecordType::NS, "@", "example.com.", "076578616d706c6503636f6d00"),
    (RecordType::CNAME, r"a\.b\032c.", r"a\.b\032c.", "05612e62206300"),
    (RecordType::SOA, "ns1 Host\\.master 1 1h 15m 2w 60", "ns1.example.com. Host\\.master.example.com. 1 3600 900 1209600 60", ""),
    (RecordType::PTR, "host.example.", "", ""),
    (RecordType::MX, "10 mail", "10 mail.example.com.", "000a046d61696c076578616d706c6503636f6d00"),
    (RecordType::MX, "0 .", "", "000000"),
    (RecordType::MB, "a.", "", "016100"),
    (RecordType::MG, "a.", "", "016100"),
    (RecordType::MR, "a.", "", "016100"),
    (RecordType::MD, "a.", "", "016100"),
    (RecordType::MF, "a.", "", "016100"),
    (RecordType::MINFO, "a. b.", "", "016100016200"),
    (RecordType::WKS, "192.0.2.1 TCP smtp 53 21", "192.0.2.1 6 21 25 53", "c0000201 06 00000440000004"),
    (RecordType::WKS, "192.0.2.1 17", "", "c000020111"),
    (RecordType::HINFO, r#"PC "Plan \"9\"""#, r#""PC" "Plan \"9\"""#, ""),
    (RecordType::TXT, r#"v=spf1 "a;b" \"q\255\000"#, r#""v=spf1" "a;b" "\"q\255\000""#, "06763d7370663103613b6204 2271ff00"),
    (RecordType::TXT, r#""""#, "", "00"),
    (RecordType::TXT, r#""a""b""#, r#""a" "b""#, "01610162"),
    (RecordType::TXT, "ü", r#""\195\188""#, "02c3bc"),
    (RecordType::SPF, r#""v=spf1 -all""#, "", ""),
    (RecordType::AVC, r#""app-name:WOLFGANG|app-class:OAM""#, "", ""),
    (RecordType::NINFO, r#""x""#, "", ""),
    (RecordType::RESINFO, r#""qnamemin" "exterr=15-17""#, "", ""),
    (RecordType::WALLET, r#""BTC" "abc""#, "", ""),
    (RecordType::RP, "admin. .", "", "0561646d696e0000"),
    (RecordType::AFSDB, "1 db.", "", "000102646200"),
    (RecordType::X25, r#""311061700956""#, "", ""),
    (RecordType::ISDN, "150862028003217 004", r#""150862028003217" "004""#, ""),
    (RecordType::ISDN, r#""150862028003217""#, "", ""),
    (RecordType::RT, "10 relay.", "", ""),
    (RecordType::NSAP, "0x47.0005.80", "0x47000580", "47000580"),
    (RecordType::NSAP_PTR, "a.", "", "016100"),
    (RecordType::PX, "10 a. b.", "", "000a016100016200"),
    (RecordType::GPOS, "-32.6882 116.8652 10.0", r#""-32.6882" "116.8652" "10.0""#, ""),
    // RFC 1876 §4 and the examples of its zone files.
    (
        RecordType::LOC,
        "42 21 54 N 71 06 18 W -24m 30m",
        "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m",
        "00331613 89172dd0 70be15f0 00988d20",
    ),
    (RecordType::LOC, "52 14 05 N 00 08 50 E 10m", "52 14 5.000 N 0 8 50.000 E 10.00m 1.00m 10000.00m 10.00m", ""),
    (RecordType::LOC, "90 S 180 W 42849672.95 0 90000000m 0.09m", "90 0 0.000 S 180 0 0.000 W 42849672.95m 0.00m 90000000.00m 0.09m", ""),
    (RecordType::LOC, "0 0 0.001 S 0 59 59.999 e -100000.00m", "0 0 0.001 S 0 59 59.999 E -100000.00m 1.00m 10000.00m 10.00m", ""),
    (RecordType::SRV, "10 5 5060 sip", "10 5 5060 sip.example.com.", ""),
    (
        RecordType::NAPTR,
        r#"100 10 "S" "SIP+D2U" "!^.*$!sip:\\1@x!" _sip._udp"#,
        r#"100 10 "S" "SIP+D2U" "!^.*$!sip:\\1@x!" _sip._udp.example.com."#,
        "",
    ),
    (RecordType::KX, "10 kx.", "", ""),
    (RecordType::CERT, "PKIX 1 RSASHA256 AQID BA==", "1 1 8 AQIDBA==", "000100010801020304"),
    (RecordType::DNAME, "frobozz.example.", "", ""),
    // RFC 3123 §8.
    (RecordType::APL, "1:192.168.32.0/21 !1:192.168.38.0/28", "", "000115 03c0a820 00011c 83c0a826"),
    (RecordType::APL, "1:224.0.0.0/4 2:FF00:0:0:0:0:0:0:0/8", "1:224.0.0.0/4 2:ff00::/8", "000104 01e0 000208 01ff"),
    (RecordType::APL, "", "", ""),
    (RecordType::APL, "1:0.0.0.0/0", "", "00010000"),
    // RFC 4034 §5.4.
    (
        RecordType::DS,
        "60485 RSASHA1 1 2BB183AF5F22588179A53B0A 98631FAD1A292118",
        "60485 5 1 2bb183af5f22588179a53b0a98631fad1a292118",
        "ec450501 2bb183af5f22588179a53b0a98631fad1a292118",
    ),
    (RecordType::CDS, "0 0 0 00", "", "0000000000"),
    (RecordType::DLV, "1 8 200 ab", "", ""),
    (RecordType::TA, "1 8 200 ab", "", ""),
    (RecordType::SSHFP, "4 3 abcd", "", "0403abcd"),
    // RFC 4025 §3.
    (RecordType::IPSECKEY, "10 1 2 192.0.2.38 AQNR", "", "0a0102c0000226010351"),
    (RecordType::IPSECKEY, "10 0 2 . AQNR", "", "0a0002010351"),
    (RecordType::IPSECKEY, "10 3 2 mygateway AQNR", "10 3 2 mygateway.example.com. AQNR", ""),
    (RecordType::IPSECKEY, "10 2 0 2001:db8::1", "", "0a020020010db8000000000000000000000001"),
    (
        RecordType::RRSIG,
        "A 5 3 1d 20030322173103 1048354263 2642 example.com. oJB1",
        "A 5 3 86400 20030322173103 20030322173103 2642 example.com. oJB1",
        "0001 05 03 00015180 3e7c9dd7 3e7c9dd7 0a52 076578616d706c6503636f6d00 a09075",
    ),
    (RecordType::SIG, "TYPE65280 5 3 0 19700101000000 21060207062815 1 . oJB1", "", ""),
    // RFC 4034 §3.1.5, §3.2: past 2106 the seconds go round.
    (
        RecordType::RRSIG,
        "A 8 3 60 21300101000000 21060207062816 1 . oJB1",
        "A 8 3 60 19931124173144 19700101000000 1 . oJB1",
        "0001 08 03 0000003c 2cf39a80 00000000 0001 00 a09075",
    ),
    // RFC 4034 §4.3.
    (
        RecordType::NSEC,
        "host A MX RRSIG NSEC TYPE1234",
        "host.example.com. A MX RRSIG NSEC TYPE1234",
        "04686f7374076578616d706c6503636f6d00 0006400100000003 041b000000000000000000000000000000000000000000000000000020",
    ),
    (RecordType::NSEC, "a.", "", "016100"),
    (RecordType::DNSKEY, "256 3 5 AQPS", "", "01000305 0103d2"),
    (RecordType::CDNSKEY, "0 3 DELETE AA==", "0 3 0 AA==", "0000030000"),
    (RecordType::KEY, "512 3 1", "", "02000301"),
    (RecordType::RKEY, "0 3 1 AQPS", "", ""),
    // RFC 4034 appendix A.1 and the IANA registry.
    (RecordType::DNSKEY, "256 3 INDIRECT AQPS", "256 3 252 AQPS", "010003fc 0103d2"),
    (RecordType::DNSKEY, "256 3 PRIVATEDNS AQPS", "256 3 253 AQPS", ""),
    (RecordType::DNSKEY, "256 3 PRIVATEOID AQPS", "256 3 254 AQPS", ""),
    (RecordType::DNSKEY, "256 3 ECC AQPS", "256 3 4 AQPS", ""),
    (RecordType::DNSKEY, "256 3 ecc-gost AQPS", "256 3 12 AQPS", ""),
    (RecordType::DNSKEY, "256 3 SM2SM3 AQPS", "256 3 17 AQPS", ""),
    (RecordType::DNSKEY, "256 3 ECC-GOST12 AQPS", "256 3 23 AQPS", ""),
    (RecordType::HHIT, "AQID BA==", "AQIDBA==", "01020304"),
    (RecordType::BRID, "AQID", "", "010203"),
    (RecordType::DHCID, "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=", "", ""),
    (
        RecordType::NSEC3,
        "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX DNSKEY",
        "",
        "01 01 000c 04aabbccdd 14 174eb2409fe28bcb4887a1836f957f0a8425e27b 0007 00010000000080",
    ),
    (RecordType::NSEC3, "1 0 0 - 2T7B4G4V", "1 0 0 - 2t7b4g4v", ""),
    (RecordType::NSEC3PARAM, "1 0 0 -", "", "0100000000"),
    (RecordType::TLSA, "3 1 1 0C 72ac", "3 1 1 0c72ac", "030101 0c72ac"),
    (RecordType::SMIMEA, "0 0 0 ab", "", "000000ab"),
    // RFC 8005 §6, shortened.
    (
        RecordType::HIP,
        "2 200100107B1A74DF365639CC39F1D578 AwEAAbdx rvs1 rvs2.",
        "2 200100107b1a74df365639cc39f1d578 AwEAAbdx rvs1.example.com. rvs2.",
        "",
    ),
    (RecordType::HIP, "2 20 Aw==", "", "01020001 20 03"),
    (RecordType::TALINK, ". a.", "", "00016100"),
    (RecordType::OPENPGPKEY, "AQID BAUG", "AQIDBAUG", "010203040506"),
    (RecordType::CSYNC, "66 3 A NS AAAA", "", "00000042 0003 000460000008"),
    (RecordType::ZONEMD, "2018031500 1 240 aabbccddeeff001122334455", "", ""),
    (RecordType::EID, "E32C 6F78", "e32c6f78", "e32c6f78"),
    (RecordType::NIMLOC, "32251a03", "", "32251a03"),
    (RecordType::DSYNC, "CDS 1 5359 a.", "", "003b 01 14ef 016100"),
    // RFC 9859 §2.
    (RecordType::DSYNC, "CSYNC NOTIFY 5359 a.", "CSYNC 1 5359 a.", "003e 01 14ef 016100"),
    (RecordType::DSYNC, "TYPE65280 notify 5359 a.", "TYPE65280 1 5359 a.", ""),
    (RecordType::NID, "10 0014:4fff:ff20:ee64", "", "000a 00144fffff20ee64"),
    (RecordType::L32, "10 10.1.2.0", "", "000a 0a010200"),
    (RecordType::L64, "10 2001:db8:1140:1000", "10 2001:0db8:1140:1000", "000a 20010db811401000"),
    (RecordType::LP, "10 a.", "", "000a016100"),
    (RecordType::EUI48, "00-00-5E-00-53-2a", "00-00-5e-00-53-2a", "00005e00532a"),
    (RecordType::EUI64, "00-00-5e-ef-10-00-00-2a", "", "00005eef1000002a"),
    (RecordType::URI, r#"10 1 "ftp://ftp1.example.com/public""#, "", ""),
    (RecordType::CAA, r#"0 issue "ca.example.net; policy=ev""#, "", ""),
    (RecordType::CAA, r#"128 issue ";""#, r#"128 issue ";""#, "80 05 6973737565 3b"),
    (RecordType::CAA, r#"0 iodef """#, "", "00 05 696f646566"),
    (RecordType::AMTRELAY, "10 1 3 amt.", "", "0a 83 03616d7400"),
    (RecordType::AMTRELAY, "10 0 0 .", "", "0a00"),
    (RecordType::AMTRELAY, "10 0 1 192.0.2.1", "", "0a01c0000201"),
    (RecordType::ANAME, "a.", "", "016100"),
    // RFC 3597 §5.
    (RecordType(65280), r"\# 0", "", ""),
    (RecordType(65280), r"\# 4 0A00 0001", r"\# 4 0a000001", "0a000001"),
    (RecordType::A, r"\# 4 0a000001", "10.0.0.1", "0a000001"),
    (RecordType::NULL, r"\# 2 abcd", "", "abcd"),
    (RecordType::TXT, r##""\\#" 1"##, r##""\\#" "1""##, "025c23 0131"),
    // RFC 9460 Appendix D.
    (RecordType::HTTPS, "0 foo.example.com.", "", "000003666f6f076578616d706c6503636f6d00"),
    (RecordType::SVCB, "1 .", "", "000100"),
    (RecordType::SVCB, "16 foo.example.com. port=53", "", "001003666f6f076578616d706c6503636f6d00000300020035"),
    (RecordType::SVCB, "1 foo. key667=hello", r#"1 foo. key667="hello""#, "000103666f6f00029b000568656c6c6f"),
    (RecordType::SVCB, r#"1 foo. key667="hello\210qoo""#, "", "000103666f6f00029b000968656c6c6fd2716f6f"),
    (
        RecordType::SVCB,
        r#"1 foo. ipv6hint="2001:db8::1,2001:db8::53:1""#,
        "1 foo. ipv6hint=2001:db8::1,2001:db8::53:1",
        "000103666f6f000006002020010db800000000000000000000000120010db8000000000000000000530001",
    ),
    (
        RecordType::SVCB,
        "16 foo. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1",
        r#"16 foo. mandatory=alpn,ipv4hint alpn="h2,h3-19" ipv4hint=192.0.2.1"#,
        "001003666f6f00 000000040001000400010009026832 0568332d3139 00040004c0000201",
    ),
    (
        RecordType::SVCB,
        r#"16 foo. alpn="f\\\\oo\\,bar,h2""#,
        r#"16 foo. alpn="f\\\\oo\\,bar,h2""#,
        "001003666f6f00 0001000c 08665c6f6f2c626172 026832",
    ),
    (
        RecordType::SVCB,
        r"16 foo. alpn=f\\\092oo\092,bar,h2",
        r#"16 foo. alpn="f\\\\oo\\,bar,h2""#,
        "001003666f6f00 0001000c 08665c6f6f2c626172 026832",
    ),
    (RecordType::HTTPS, "1 . alpn=h3 no-default-alpn ech=AEP+ key65534", r#"1 . alpn="h3" no-default-alpn ech=AEP+ key65534"#, ""),
    // RFC 9460 §2.4.2: parameters in alias mode are ignored by clients, not by us.
    (RecordType::SVCB, "0 foo. port=53", "", "000003666f6f00 000300020035"),
    (RecordType::HTTPS, "0 foo. ipv4hint=192.0.2.1 alpn=h2", r#"0 foo. alpn="h2" ipv4hint=192.0.2.1"#, ""),
    (RecordType::HTTPS, r#"1 . key1="\002h2""#, r#"1 . alpn="h2""#, ""),
    (
        RecordType::SVCB,
        "1 . dohpath=/dns-query{?dns} ohttp tls-supported-groups=29,23",
        r#"1 . dohpath="/dns-query{?dns}" ohttp tls-supported-groups=29,23"#,
        "",
    ),
    (
        RecordType::SVCB,
        r"1 . docpath=dns,a\\,b alpn=co",
        r#"1 . alpn="co" docpath="dns,a\\,b""#,
        "0001 00 00010003 02636f 000a0008 03646e73 03612c62",
    ),
    (RecordType::SVCB, "1 . docpath", "", "0001 00 000a0000"),
];

#[test]
fn every_type_reads_and_prints() {
    for &(rtype, text, canonical, wire) in GOOD {
        let rdata = parse(rtype, text, &origin()).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        if !wire.is_empty() {
            assert_eq!(HEXLOWER.encode(&rdata), HEXLOWER.encode(&hex(wire)), "{rtype} {text}");
        }
        let canonical = if canonical.is_empty() { text } else { canonical };
        assert_eq!(to_text(rtype, &rdata), canonical, "{rtype} {text}");
        assert_eq!(parse(rtype, canonical, &origin()), Ok(rdata.clone()), "{rtype} {canonical}");
        let generic = format!(r"\# {} {}", rdata.len(), HEXLOWER.encode(&rdata));
        assert_eq!(parse(rtype, &generic, &origin()), Ok(rdata), "{rtype} {generic}");
    }
    for (rtype, mnemonic) in RecordType::NAMED {
        assert!(rtype.is_meta() || GOOD.iter().any(|(tested, ..)| tested == rtype), "{mnemonic} has no example");
    }
}

/// What hickory-proto makes of the octets, written again by it.
fn through_hickory(rtype: RecordType, rdata: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = BinDecoder::new(rdata);
    let len = Restrict::new(u16::try_from(rdata.len()).ok()?);
    let decoded = hickory::RData::read(&mut decoder, hickory::RecordType::from(rtype.0), len).ok()?;
    let mut out = Vec::new();
    let mut encoder = BinEncoder::new(&mut out);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    decoded.emit(&mut encoder).ok()?;
    Some(out)
}

#[test]
fn hickory_decodes_what_we_write() {
    for &(rtype, text, ..) in GOOD {
        // hickory-proto asks for a value in keys that need none, and has no empty record data.
        if text.contains("ohttp") || text == r"\# 0" || text.is_empty() {
            continue;
        }
        let rdata = parse(rtype, text, &origin()).expect(text);
        assert_eq!(through_hickory(rtype, &rdata), Some(rdata), "{rtype} {text}");
    }
}

#[test]
fn bad_text_is_refused_with_found_and_expected() {
    let long = format!("{:?}", "x".repeat(256));
    for (rtype, text, expected) in [
        (RecordType::A, "", "address: found nothing, expected an IPv4 address"),
        (RecordType::A, "192.0.2.256", "address: found \"192.0.2.256\", expected an IPv4 address"),
        (RecordType::A, "192.0.2.01", "address: found \"192.0.2.01\", expected an IPv4 address"),
        (RecordType::A, "192.0.2.1 192.0.2.2", "found \"192.0.2.2\" after the last field, expected nothing more"),
        (RecordType::A, "192.0.2.1 ; web", "found ';' outside double quotes, expected one record without comments"),
        (RecordType::AAAA, "192.0.2.1", "address: found \"192.0.2.1\", expected an IPv6 address"),
        (RecordType::AAAA, "fe80::1%eth0", "address: found \"fe80::1%eth0\", expected an IPv6 address"),
        (RecordType::NS, "a..b", "server: found \"a..b\", expected a domain name: the name has an empty label"),
        (
            RecordType::NS,
            r"a\256.",
            r#"server: found "a\\256.", expected a domain name: a backslash must be followed by one character or by three digits up to 255"#,
        ),
        (RecordType::MX, "mail", "preference: found \"mail\", expected a number from 0 to 65535"),
        (RecordType::MX, "65536 mail", "preference: found \"65536\", expected a number from 0 to 65535"),
        (RecordType::MX, "-1 mail", "preference: found \"-1\", expected a number from 0 to 65535"),
        (RecordType::MX, "10", "exchange: found nothing, expected a domain name"),
        (RecordType::SOA, "a. b. 1 1x 1 1 1", "refresh: found \"1x\", expected a number of seconds, or a time such as 1h30m"),
        (RecordType::TXT, "", "text: found nothing, expected a text of at most 255 octets"),
        (RecordType::TXT, r#""abc"#, "found no closing double quote"),
        (RecordType::TXT, r"a\25", r#"found "a\\25", expected each backslash to be followed by one character or by three digits up to 255"#),
        (RecordType::TXT, &long, "found a text of 256 octets, expected at most 255"),
        (RecordType::SRV, "0 0 0", "target: found nothing, expected a domain name"),
        (RecordType::CAA, "0 is-sue x", "tag: found \"is-sue\", expected a tag of 1 to 255 letters and digits"),
        (RecordType::CAA, "256 issue x", "flags: found \"256\", expected a number from 0 to 255"),
        (RecordType::URI, r#"1 1 """#, "target: found \"\", expected a text of at least one octet"),
        (RecordType::SSHFP, "1 1 abc", "fingerprint: found \"abc\", expected an even number of hexadecimal digits"),
        (RecordType::SSHFP, "1 1 abcd", "digest: found other octets at offset 2, expected a digest of the length that its type asks for"),
        (RecordType::SSHFP, "1 1", "fingerprint: found nothing, expected an even number of hexadecimal digits"),
        (RecordType::DS, "1 8 2 ab", "digest: found other octets at offset 4, expected a digest of the length that its type asks for"),
        (RecordType::DS, "1 RSA 2 ab", "algorithm: found \"RSA\", expected an algorithm number from 0 to 255 or its mnemonic"),
        (RecordType::DNSKEY, "256 3 8 A*==", "public key: found \"A*==\", expected base64 data"),
        (
            RecordType::RRSIG,
            "A 5 3 1d 20030231000000 0 1 . oJB1",
            "expiration: found \"20030231000000\", expected a time as YYYYMMDDHHmmSS or as seconds since 1970",
        ),
        (RecordType::NSEC, "a. A WHAT", "types: found \"WHAT\", expected record types"),
        (RecordType::NSEC3, "1 0 0 - 1w1w", "next owner: found \"1w1w\", expected base32 digits (0-9, a-v) for 1 to 255 octets"),
        (RecordType::LOC, "91 N 0 E 0", "location: found \"91\", expected a latitude such as 52 22 23.000 N"),
        (RecordType::LOC, "90 0 0.001 N 0 E 0", "location: found \"90\", expected a latitude such as 52 22 23.000 N"),
        (RecordType::LOC, "1 N 1 W", "location: found nothing, expected an altitude from -100000.00m to 42849672.95m"),
        (RecordType::LOC, "1 N 1 W 0 90000000.01", "location: found \"90000000.01\", expected a size from 0.00m to 90000000.00m"),
        (
            RecordType::APL,
            "1:192.0.2.0/33",
            "prefixes: found \"1:192.0.2.0/33\", expected an address prefix such as !1:192.0.2.0/24 or 2:2001:db8::/32",
        ),
        (RecordType::APL, "3:ab/8", "prefixes: found \"3:ab/8\", expected an address prefix such as !1:192.0.2.0/24 or 2:2001:db8::/32"),
        (RecordType::EUI48, "00-00-5e-00-53", "address: found \"00-00-5e-00-53\", expected six hexadecimal octets as 00-00-5e-00-53-2a"),
        (RecordType::IPSECKEY, "10 4 2 . AQNR", "gateway type: found \"4\", expected a gateway type from 0 to 3"),
        (RecordType::IPSECKEY, "10 0 2 a. AQNR", "gateway: found \"a.\", expected a single dot"),
        (RecordType::ISDN, "1 2 3", "found \"3\" after the last field, expected nothing more"),
        (RecordType::NULL, "abc", r"found words, expected \# with octets in hexadecimal digits: the type has no other form"),
        (RecordType(65280), "abc", r"found words, expected \# with octets in hexadecimal digits: the type has no other form"),
        (RecordType(65280), r"\# 3 abcd", r"found 2 octets after \#, expected 3 as stated"),
        (RecordType(65280), r"\# x", r#"data: found "x", expected \# with the number of octets and as many octets in hexadecimal digits"#),
        (RecordType(65280), r"\#", r"data: found nothing, expected \# with the number of octets and as many octets in hexadecimal digits"),
        (RecordType::A, r"\# 3 0a0000", "address: found other octets at offset 0, expected an IPv4 address"),
        (RecordType::A, r"\# 5 0a00000000", "end: found other octets at offset 4, expected nothing more"),
        (RecordType::MX, r"\# 4 000ac000", "exchange: found other octets at offset 2, expected a domain name"),
        (RecordType::ANY, "x", "found a type that only appears in messages, expected one that stands in zones"),
        (RecordType::OPT, r"\# 0", "found a type that only appears in messages, expected one that stands in zones"),
        // RFC 9460 Appendix D.3, and the rules of its §2 and §7.
        (RecordType::SVCB, "1 foo. key123=abc key123=def", "parameters: found key123 twice, expected it once"),
        (
            RecordType::SVCB,
            "1 foo. mandatory",
            "parameters: mandatory: found a value that does not fit, expected keys with commas between them, each once",
        ),
        (
            RecordType::SVCB,
            "1 foo. alpn",
            "parameters: alpn: found a value that does not fit, expected protocol identifiers of 1 to 255 octets with commas between them",
        ),
        (RecordType::SVCB, "1 foo. port", "parameters: port: found a value that does not fit, expected a port from 0 to 65535"),
        (
            RecordType::SVCB,
            "1 foo. ipv4hint",
            "parameters: ipv4hint: found a value that does not fit, expected IPv4 addresses with commas between them",
        ),
        (
            RecordType::SVCB,
            "1 foo. ipv6hint",
            "parameters: ipv6hint: found a value that does not fit, expected IPv6 addresses with commas between them",
        ),
        (RecordType::SVCB, "1 foo. no-default-alpn=abc", "parameters: no-default-alpn: found a value that does not fit, expected no value"),
        (RecordType::SVCB, "1 foo. mandatory=key123", "parameters: mandatory: found key123, expected only keys of this record"),
        (RecordType::SVCB, "1 foo. mandatory=mandatory", "parameters: mandatory: found itself, expected only other keys"),
        (
            RecordType::SVCB,
            "1 foo. mandatory=key123,key123 key123=abc",
            "parameters: mandatory: found a value that does not fit, expected keys with commas between them, each once",
        ),
        (RecordType::SVCB, "0 foo. mandatory=key123", "parameters: mandatory: found key123, expected only keys of this record"),
        // Keys are in lower case (RFC 9460 §2.1).
        (RecordType::SVCB, "1 foo. ALPN=h2", "parameters: found \"ALPN=h2\", expected a service parameter such as alpn=h2 or key667=text"),
        (RecordType::SVCB, "1 foo. Key667=x", "parameters: found \"Key667=x\", expected a service parameter such as alpn=h2 or key667=text"),
        (
            RecordType::SVCB,
            "1 foo. alpn=h2 mandatory=ALPN",
            "parameters: mandatory: found a value that does not fit, expected keys with commas between them, each once",
        ),
        // RFC 4034 §2.1.4, RFC 8078 §4: even the key that deletes has an octet.
        (RecordType::DNSKEY, "256 3 8", "public key: found nothing, expected base64 data"),
        (RecordType::DNSKEY, r"\# 4 01000308", "public key: found other octets at offset 4, expected base64 data"),
        (RecordType::CDNSKEY, "0 3 0", "public key: found nothing, expected base64 data"),
        // RFC 4025 §2.4: only algorithm 0 means that there is no key.
        (RecordType::IPSECKEY, "10 0 2 .", "public key: found other octets at offset 3, expected a public key, or algorithm 0 for none"),
        (RecordType::IPSECKEY, r"\# 7 0a0102c0000201", "public key: found other octets at offset 7, expected a public key, or algorithm 0 for none"),
        (RecordType::DSYNC, "CDS NOTICE 5300 a.", "scheme: found \"NOTICE\", expected a scheme number from 0 to 255 or NOTIFY"),
        (RecordType::ZONEMD, "1 1 240 aabb", "digest: found other octets at offset 6, expected a digest of 12 octets or more"),
        (RecordType::HHIT, "", "data: found nothing, expected base64 data"),
        (RecordType::SVCB, "1 foo. no-default-alpn", "parameters: found no-default-alpn without alpn"),
        (RecordType::SVCB, "1 foo. key65535=x", "parameters: found key65535, which is reserved"),
        (RecordType::SVCB, "1 foo. key03=x", "parameters: found \"key03=x\", expected a service parameter such as alpn=h2 or key667=text"),
        (RecordType::SVCB, "1 foo. ech=*", "parameters: ech: found a value that does not fit, expected base64 data"),
        (
            RecordType::SVCB,
            "1 foo. alpn=h2,,h3",
            "parameters: alpn: found a value that does not fit, expected protocol identifiers of 1 to 255 octets with commas between them",
        ),
        (
            RecordType::SVCB,
            "1 foo. dohpath=/q",
            "parameters: dohpath: found a value that does not fit, expected a relative URI template with the variable dns",
        ),
        (RecordType::SVCB, r#"1 foo. "port=53""#, "parameters: found \"port=53\", expected a service parameter such as alpn=h2 or key667=text"),
    ] {
        let found = parse(rtype, text, &origin()).map_err(|error| error.to_string());
        assert_eq!(found, Err(expected.to_string()), "{rtype} {text}");
    }
    assert_eq!(
        parse(RecordType::NS, "a..b", &origin()),
        Err(RdataError::Name { field: "server", found: "a..b".into(), error: NameError::EmptyLabel })
    );
}

#[test]
fn bad_wire_is_refused() {
    for (rtype, wire) in [
        (RecordType::NS, ""),
        (RecordType::NS, "c00c"),
        (RecordType::NS, "0161"),
        (RecordType::NS, "01610000"),
        (RecordType::TXT, ""),
        (RecordType::TXT, "0261"),
        (RecordType::NSEC, "00 0000"),
        (RecordType::NSEC, "00 000100"),
        (RecordType::NSEC, "00 010140 000140"),
        (RecordType::NSEC, "00 000140 000140"),
        (RecordType::NSEC, "00 0021 000000000000000000000000000000000000000000000000000000000000000001"),
        (RecordType::LOC, "01 121613 80000000 80000000 00989680"),
        (RecordType::LOC, "00 a21613 80000000 80000000 00989680"),
        (RecordType::LOC, "00 021613 80000000 80000000 00989680"),
        (RecordType::LOC, "00 121613 ffffffff 80000000 00989680"),
        (RecordType::APL, "0001 20 05 0102030405"),
        (RecordType::APL, "0001 21 00"),
        (RecordType::APL, "0001 20 02 0100"),
        (RecordType::IPSECKEY, "0a0402"),
        (RecordType::IPSECKEY, "0a0102c00002"),
        (RecordType::AMTRELAY, "0a04"),
        (RecordType::HIP, "00020001 03"),
        (RecordType::HIP, "01020000 20"),
        (RecordType::SVCB, "0001"),
        (RecordType::SVCB, "000100 0003"),
        (RecordType::SVCB, "000100 00030003 0035"),
        (RecordType::SVCB, "000100 00030002 0035 00010003 026832"),
        (RecordType::SVCB, "000100 00030003 003500"),
        (RecordType::SVCB, "000100 00010002 0268"),
        (RecordType::SVCB, "000100 00040000"),
        (RecordType::CAA, "00 00 61"),
        (RecordType::WKS, "c0000201 06 00"),
        (RecordType::ISDN, "0161 0161 0161"),
    ] {
        let wire = hex(wire);
        assert!(validate(rtype, &wire).is_err(), "{rtype} {wire:02x?}");
        assert!(to_text(rtype, &wire).starts_with(r"\# "), "{rtype} {wire:02x?}");
    }
}

#[test]
fn names_are_found_where_they_lie() {
    for (rtype, text, expected) in [
        (RecordType::SOA, "a. bc. 1 2 3 4 5", &[(0, 3, true), (3, 4, true)][..]),
        (RecordType::MX, "1 a.", &[(2, 3, true)]),
        (RecordType::SRV, "1 2 3 a.", &[(6, 3, false)]),
        (RecordType::NAPTR, r#"1 2 "a" "b" "" c."#, &[(9, 3, false)]),
        (RecordType::RP, "a. b.", &[(0, 3, false), (3, 3, false)]),
        (RecordType::SVCB, "1 a. port=1", &[(2, 3, false)]),
        (RecordType::RRSIG, "A 5 3 1 0 0 1 a. oJB1", &[(18, 3, false)]),
        (RecordType::HIP, "2 20 Aw== a. bc.", &[(6, 3, false), (9, 4, false)]),
        (RecordType::IPSECKEY, "1 3 0 a.", &[(3, 3, false)]),
        (RecordType::IPSECKEY, "1 1 0 192.0.2.1", &[]),
        (RecordType::AMTRELAY, "1 1 3 a.", &[(2, 3, false)]),
        (RecordType::DNAME, "a.", &[(0, 3, false)]),
        (RecordType::TXT, "a", &[]),
        (RecordType(65280), r"\# 3 016100", &[]),
    ] {
        let rdata = parse(rtype, text, &origin()).expect(text);
        let found: Vec<_> = names(rtype, &rdata).map(|span| (span.offset, span.len, span.compressible)).collect();
        assert_eq!(found, expected, "{rtype} {text}");
    }
    assert_eq!(names(RecordType::MX, &[0, 1, 0xc0, 0x0c]).count(), 0, "a pointer is no name");
    assert_eq!(names(RecordType::SOA, &[1, b'a', 0, 1]).count(), 1, "what lies before the damage is found");
}

#[test]
fn texts_are_split_and_bounded() {
    assert_eq!(text_rdata(b""), Ok(vec![0]));
    assert_eq!(text_rdata(&[b'x'; 255]).map(|rdata| rdata.len()), Ok(256));
    assert_eq!(text_rdata(&[b'x'; 256]).map(|rdata| (rdata.len(), rdata[256])), Ok((258, 1)));
    assert_eq!(text_rdata(&[b'x'; 65_280]), Err(RdataError::TooLong { found: 65_536 }));
    assert_eq!(character_strings(&[b"a", b""]), Ok(vec![1, b'a', 0]));
    assert_eq!(character_strings(&[]), Err(RdataError::NoText));
    assert_eq!(character_strings(&[&[0; 256]]), Err(RdataError::TextTooLong { found: 256 }));
}

fn any_type() -> impl Strategy<Value = RecordType> {
    let named: Vec<RecordType> = RecordType::NAMED.iter().map(|(rtype, _)| *rtype).collect();
    prop_oneof![9 => proptest::sample::select(named), 1 => any::<u16>().prop_map(RecordType)]
}

/// Octets that often look like record data: pieces of good ones, bent a little.
fn likely_rdata() -> impl Strategy<Value = (RecordType, Vec<u8>)> {
    let good = proptest::sample::select(GOOD).prop_map(|(rtype, text, ..)| (rtype, parse(rtype, text, &origin()).expect("good text")));
    (good, proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4)).prop_map(|((rtype, mut rdata), changes)| {
        for (at, octet) in changes {
            if !rdata.is_empty() {
                let at = at % rdata.len();
                rdata[at] = octet;
            }
        }
        (rtype, rdata)
    })
}

proptest! {
    #[test]
    fn any_octets_are_survived(rtype in any_type(), rdata in proptest::collection::vec(any::<u8>(), 0..80)) {
        survive(rtype, &rdata);
    }

    #[test]
    fn bent_records_are_survived_and_read_back((rtype, rdata) in likely_rdata()) {
        survive(rtype, &rdata);
    }

    #[test]
    fn any_text_is_survived(rtype in any_type(), text in "[ -~\\n\\t]{0,60}") {
        let _ = parse(rtype, &text, &origin());
    }
}

fn survive(rtype: RecordType, rdata: &[u8]) {
    let fits = validate(rtype, rdata).is_ok();
    let spans: Vec<_> = names(rtype, rdata).collect();
    let text = to_text(rtype, rdata);
    for span in spans {
        let (from, to) = (usize::from(span.offset), usize::from(span.offset) + usize::from(span.len));
        assert!(Name::from_wire(&rdata[from..to]).is_ok());
    }
    let read = parse(rtype, &text, &Name::root());
    assert_eq!(read.is_ok(), fits, "{rtype} {text}: {read:?}");
    if fits {
        assert_eq!(read.as_deref(), Ok(rdata), "{rtype} {text}");
    }
}

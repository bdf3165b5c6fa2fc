//! Numeric codes of the DNS and their presentation: record types, classes, response codes, opcodes.

use std::fmt;
use std::str::FromStr;

/// A record type as its number (RFC 1035 §3.2.2 and the IANA registry); unknown ones are `TYPE###` (RFC 3597 §5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($name:ident = $number:literal $text:literal;)*) => {
        impl RecordType {
            $(#[doc = concat!("`", $text, "`")] pub const $name: RecordType = RecordType($number);)*
            /// Every type that has a mnemonic, in numeric order.
            pub const NAMED: &'static [(RecordType, &'static str)] = &[$((RecordType($number), $text),)*];
        }
    };
}

record_types! {
    A = 1 "A"; NS = 2 "NS"; MD = 3 "MD"; MF = 4 "MF"; CNAME = 5 "CNAME"; SOA = 6 "SOA"; MB = 7 "MB"; MG = 8 "MG"; MR = 9 "MR"; NULL = 10 "NULL";
    WKS = 11 "WKS"; PTR = 12 "PTR"; HINFO = 13 "HINFO"; MINFO = 14 "MINFO"; MX = 15 "MX"; TXT = 16 "TXT"; RP = 17 "RP"; AFSDB = 18 "AFSDB";
    X25 = 19 "X25"; ISDN = 20 "ISDN"; RT = 21 "RT"; NSAP = 22 "NSAP"; NSAP_PTR = 23 "NSAP-PTR"; SIG = 24 "SIG"; KEY = 25 "KEY"; PX = 26 "PX"; GPOS = 27 "GPOS"; AAAA = 28 "AAAA"; LOC = 29 "LOC";
    EID = 31 "EID"; NIMLOC = 32 "NIMLOC"; SRV = 33 "SRV"; NAPTR = 35 "NAPTR"; KX = 36 "KX"; CERT = 37 "CERT"; DNAME = 39 "DNAME"; OPT = 41 "OPT"; APL = 42 "APL"; DS = 43 "DS";
    SSHFP = 44 "SSHFP"; IPSECKEY = 45 "IPSECKEY"; RRSIG = 46 "RRSIG"; NSEC = 47 "NSEC"; DNSKEY = 48 "DNSKEY"; DHCID = 49 "DHCID"; NSEC3 = 50 "NSEC3";
    NSEC3PARAM = 51 "NSEC3PARAM"; TLSA = 52 "TLSA"; SMIMEA = 53 "SMIMEA"; HIP = 55 "HIP";
    NINFO = 56 "NINFO"; RKEY = 57 "RKEY"; TALINK = 58 "TALINK"; CDS = 59 "CDS"; CDNSKEY = 60 "CDNSKEY";
    OPENPGPKEY = 61 "OPENPGPKEY"; CSYNC = 62 "CSYNC"; ZONEMD = 63 "ZONEMD"; SVCB = 64 "SVCB"; HTTPS = 65 "HTTPS";
    DSYNC = 66 "DSYNC"; HHIT = 67 "HHIT"; BRID = 68 "BRID"; SPF = 99 "SPF"; NID = 104 "NID"; L32 = 105 "L32"; L64 = 106 "L64"; LP = 107 "LP";
    EUI48 = 108 "EUI48"; EUI64 = 109 "EUI64"; TKEY = 249 "TKEY"; TSIG = 250 "TSIG"; IXFR = 251 "IXFR"; AXFR = 252 "AXFR"; MAILB = 253 "MAILB";
    MAILA = 254 "MAILA"; ANY = 255 "ANY"; URI = 256 "URI"; CAA = 257 "CAA"; AVC = 258 "AVC"; AMTRELAY = 260 "AMTRELAY";
    RESINFO = 261 "RESINFO"; WALLET = 262 "WALLET"; TA = 32768 "TA"; DLV = 32769 "DLV"; ANAME = 65305 "ANAME";
}

impl RecordType {
    /// Types that may be asked for or appear in messages but never stand in a zone (RFC 6895 §3.1: QTYPEs and meta types).
    pub fn is_meta(self) -> bool {
        matches!(self.0, 0 | 41 | 128..=255)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.binary_search_by_key(&self.0, |(t, _)| t.0) {
            Ok(at) => f.write_str(Self::NAMED[at].1),
            Err(_) => write!(f, "TYPE{}", self.0),
        }
    }
}

/// The text is no record type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownType;

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record type")
    }
}

impl std::error::Error for UnknownType {}

impl FromStr for RecordType {
    type Err = UnknownType;

    /// A mnemonic in any case, or `TYPE###` (RFC 3597 §5).
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        if let Some((found, _)) = Self::NAMED.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(*found);
        }
        match text.get(..4) {
            Some(head) if head.eq_ignore_ascii_case("TYPE") && text[4..].bytes().all(|b| b.is_ascii_digit()) => {
                text[4..].parse().map(RecordType).map_err(|_| UnknownType)
            }
            _ => Err(UnknownType),
        }
    }
}

/// A class as its number (RFC 1035 §3.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Class(pub u16);

impl Class {
    /// The Internet.
    pub const IN: Class = Class(1);
    /// CHAOS, for `version.bind` and `id.server`.
    pub const CH: Class = Class(3);
    /// NONE (RFC 2136).
    pub const NONE: Class = Class(254);
    /// QCLASS `*`.
    pub const ANY: Class = Class(255);
}

/// A response code, with the extended bits of RFC 6891 §6.1.3 (12 bits in all).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rcode(pub u16);

impl Rcode {
    /// RFC 1035.
    pub const NOERROR: Rcode = Rcode(0);
    /// RFC 1035.
    pub const FORMERR: Rcode = Rcode(1);
    /// RFC 1035.
    pub const SERVFAIL: Rcode = Rcode(2);
    /// RFC 1035.
    pub const NXDOMAIN: Rcode = Rcode(3);
    /// RFC 1035.
    pub const NOTIMP: Rcode = Rcode(4);
    /// RFC 1035.
    pub const REFUSED: Rcode = Rcode(5);
    /// RFC 2136; also a DNAME that overflows (RFC 6672 §2.2).
    pub const YXDOMAIN: Rcode = Rcode(6);
    /// RFC 8945 §5.2: a TSIG key that we do not have.
    pub const NOTAUTH: Rcode = Rcode(9);
    /// RFC 6891 §9.
    pub const BADVERS: Rcode = Rcode(16);
    /// RFC 7873 §8.
    pub const BADCOOKIE: Rcode = Rcode(23);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("NOERROR"),
            1 => f.write_str("FORMERR"),
            2 => f.write_str("SERVFAIL"),
            3 => f.write_str("NXDOMAIN"),
            4 => f.write_str("NOTIMP"),
            5 => f.write_str("REFUSED"),
            6 => f.write_str("YXDOMAIN"),
            9 => f.write_str("NOTAUTH"),
            16 => f.write_str("BADVERS"),
            23 => f.write_str("BADCOOKIE"),
            other => write!(f, "RCODE{other}"),
        }
    }
}

/// An opcode (RFC 1035 §4.1.1, 4 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Opcode(pub u8);

impl Opcode {
    /// A standard query.
    pub const QUERY: Opcode = Opcode(0);
    /// RFC 1996.
    pub const NOTIFY: Opcode = Opcode(4);
    /// RFC 2136.
    pub const UPDATE: Opcode = Opcode(5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_type_reads_back() {
        for (rtype, text) in RecordType::NAMED {
            assert_eq!(text.parse(), Ok(*rtype));
            assert_eq!(rtype.to_string(), *text);
        }
        assert!(RecordType::NAMED.windows(2).all(|w| w[0].0 < w[1].0), "the table is searched by bisection");
    }

    #[test]
    fn unknown_types_follow_rfc3597_section_5() {
        for (text, expected) in [
            ("TYPE65280", Ok(RecordType(65280))),
            ("type1", Ok(RecordType::A)),
            ("TYPE65536", Err(UnknownType)),
            ("TYPE", Err(UnknownType)),
            ("TYPE+1", Err(UnknownType)),
            ("", Err(UnknownType)),
            ("ä", Err(UnknownType)),
        ] {
            assert_eq!(text.parse::<RecordType>(), expected, "{text:?}");
        }
        assert_eq!(RecordType(65280).to_string(), "TYPE65280");
    }
}

//! What each type is made of: one line per type. Everything else (reading, writing, checking, finding names) walks this table.

use crate::dns::RecordType;

/// One field of record data: how it stands in text and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A domain name that a message may compress: only in the types of RFC 1035 (RFC 3597 §4).
    Name,
    /// A domain name that is never compressed.
    PlainName,
    /// Plain names to the end; none is fine.
    PlainNames,
    /// One octet.
    U8,
    /// Two octets.
    U16,
    /// Four octets.
    U32,
    /// Four octets: seconds, units allowed in text.
    Period,
    /// Four octets: seconds since 1970, in text also as YYYYMMDDHHmmSS.
    Time,
    /// Two octets: a record type.
    Type,
    /// One octet: a DNSSEC algorithm.
    Algorithm,
    /// One octet: the scheme of a DSYNC record (RFC 9859 §2).
    Scheme,
    /// Two octets: a certificate type (RFC 4398 §2.1).
    CertType,
    /// A character-string.
    Text,
    /// One or more character-strings, at most so many.
    Texts(usize),
    /// One character-string in text; on the wire everything to the end, at least so many octets.
    LongText(usize),
    /// A character-string of letters and digits.
    Tag,
    /// Everything to the end, at least so many octets; hexadecimal in text.
    Hex(usize),
    /// A length octet and as many octets; hexadecimal in text, `-` when empty.
    Salt,
    /// A length octet and as many octets; base32hex in text.
    Hash,
    /// Everything to the end, at least so many octets; base64 in text.
    Base64(usize),
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// A type bitmap to the end (RFC 4034 §4.1.2).
    Types,
    /// Service parameters to the end (RFC 9460).
    Svc,
    /// A location (RFC 1876).
    Loc,
    /// Address prefixes to the end (RFC 3123).
    Apl,
    /// Six octets with dashes (RFC 7043).
    Eui48,
    /// Eight octets with dashes (RFC 7043).
    Eui64,
    /// Eight octets in four groups (RFC 6742).
    NodeId,
    /// Everything to the end; `0x` and hexadecimal in text (RFC 1706).
    Nsap,
    /// IPSECKEY: precedence, gateway type, algorithm, gateway (RFC 4025).
    Gateway,
    /// AMTRELAY: precedence, discovery bit, type, relay (RFC 8777).
    Relay,
    /// HIP: lengths, algorithm, host identity tag, public key (RFC 8005).
    Hip,
    /// WKS: protocol and a bitmap of ports to the end (RFC 1035 §3.4.2).
    Wks,
    /// Anything; no text but `\#`.
    Opaque,
}

/// A field: its name in the words of its RFC, and its kind.
pub(super) type FieldLayout = (&'static str, Kind);

const DS: &[FieldLayout] = &[("key tag", Kind::U16), ("algorithm", Kind::Algorithm), ("digest type", Kind::U8), ("digest", Kind::Hex(1))];
const DNSKEY: &[FieldLayout] = &[("flags", Kind::U16), ("protocol", Kind::U8), ("algorithm", Kind::Algorithm), ("public key", Kind::Base64(1))];
/// As DNSKEY, but the flags may say that there is no key (RFC 2535 §3.1.2).
const KEY: &[FieldLayout] = &[("flags", Kind::U16), ("protocol", Kind::U8), ("algorithm", Kind::Algorithm), ("public key", Kind::Base64(0))];
const RRSIG: &[FieldLayout] = &[
    ("type covered", Kind::Type),
    ("algorithm", Kind::Algorithm),
    ("labels", Kind::U8),
    ("original ttl", Kind::Period),
    ("expiration", Kind::Time),
    ("inception", Kind::Time),
    ("key tag", Kind::U16),
    ("signer", Kind::PlainName),
    ("signature", Kind::Base64(1)),
];
const TLSA: &[FieldLayout] = &[("usage", Kind::U8), ("selector", Kind::U8), ("matching type", Kind::U8), ("data", Kind::Hex(1))];
const SVCB: &[FieldLayout] = &[("priority", Kind::U16), ("target", Kind::PlainName), ("parameters", Kind::Svc)];
const TEXTS: &[FieldLayout] = &[("text", Kind::Texts(usize::MAX))];
const SOA: &[FieldLayout] = &[
    ("mname", Kind::Name),
    ("rname", Kind::Name),
    ("serial", Kind::U32),
    ("refresh", Kind::Period),
    ("retry", Kind::Period),
    ("expire", Kind::Period),
    ("minimum", Kind::Period),
];
const NAPTR: &[FieldLayout] = &[
    ("order", Kind::U16),
    ("preference", Kind::U16),
    ("flags", Kind::Text),
    ("services", Kind::Text),
    ("regexp", Kind::Text),
    ("replacement", Kind::PlainName),
];
const NSEC3: &[FieldLayout] = &[
    ("hash algorithm", Kind::U8),
    ("flags", Kind::U8),
    ("iterations", Kind::U16),
    ("salt", Kind::Salt),
    ("next owner", Kind::Hash),
    ("types", Kind::Types),
];
const NSEC3PARAM: &[FieldLayout] = &[("hash algorithm", Kind::U8), ("flags", Kind::U8), ("iterations", Kind::U16), ("salt", Kind::Salt)];

/// The fields of a type, in wire order; `None` for a type that is not known.
pub(super) fn layout(rtype: RecordType) -> Option<&'static [FieldLayout]> {
    use Kind::*;
    Some(match rtype {
        RecordType::A => &[("address", V4)],
        RecordType::AAAA => &[("address", V6)],
        RecordType::NS => &[("server", Name)],
        RecordType::CNAME => &[("target", Name)],
        RecordType::SOA => SOA,
        RecordType::PTR => &[("target", Name)],
        RecordType::MX => &[("preference", U16), ("exchange", Name)],
        RecordType::MB | RecordType::MG | RecordType::MR | RecordType::MD | RecordType::MF => &[("mailbox", Name)],
        RecordType::MINFO => &[("responsible mailbox", Name), ("error mailbox", Name)],
        RecordType::NULL => &[("data", Opaque)],
        RecordType::WKS => &[("address", V4), ("services", Wks)],
        RecordType::HINFO => &[("cpu", Text), ("os", Text)],
        RecordType::TXT | RecordType::SPF | RecordType::AVC | RecordType::NINFO | RecordType::RESINFO | RecordType::WALLET => TEXTS,
        RecordType::RP => &[("mailbox", PlainName), ("text name", PlainName)],
        RecordType::AFSDB => &[("subtype", U16), ("host", PlainName)],
        RecordType::X25 => &[("address", Text)],
        RecordType::ISDN => &[("address", Texts(2))],
        RecordType::RT => &[("preference", U16), ("host", PlainName)],
        RecordType::NSAP => &[("address", Nsap)],
        RecordType::NSAP_PTR => &[("target", PlainName)],
        RecordType::PX => &[("preference", U16), ("map822", PlainName), ("mapx400", PlainName)],
        RecordType::GPOS => &[("longitude", Text), ("latitude", Text), ("altitude", Text)],
        RecordType::LOC => &[("location", Loc)],
        RecordType::SRV => &[("priority", U16), ("weight", U16), ("port", U16), ("target", PlainName)],
        RecordType::NAPTR => NAPTR,
        RecordType::EID => &[("endpoint", Hex(1))],
        RecordType::NIMLOC => &[("locator", Hex(1))],
        RecordType::KX => &[("preference", U16), ("exchanger", PlainName)],
        RecordType::CERT => &[("certificate type", CertType), ("key tag", U16), ("algorithm", Algorithm), ("certificate", Base64(1))],
        RecordType::DNAME => &[("target", PlainName)],
        RecordType::APL => &[("prefixes", Apl)],
        RecordType::DS | RecordType::CDS | RecordType::DLV | RecordType::TA => DS,
        RecordType::SSHFP => &[("algorithm", U8), ("fingerprint type", U8), ("fingerprint", Hex(1))],
        RecordType::IPSECKEY => &[("gateway", Gateway), ("public key", Base64(0))],
        RecordType::RRSIG | RecordType::SIG => RRSIG,
        RecordType::NSEC => &[("next owner", PlainName), ("types", Types)],
        RecordType::DNSKEY | RecordType::CDNSKEY | RecordType::RKEY => DNSKEY,
        RecordType::KEY => KEY,
        RecordType::DHCID => &[("identifier", Base64(1))],
        RecordType::NSEC3 => NSEC3,
        RecordType::NSEC3PARAM => NSEC3PARAM,
        RecordType::TLSA | RecordType::SMIMEA => TLSA,
        RecordType::HIP => &[("host identity", Hip), ("rendezvous servers", PlainNames)],
        RecordType::TALINK => &[("start", PlainName), ("end", PlainName)],
        RecordType::OPENPGPKEY => &[("key", Base64(1))],
        RecordType::CSYNC => &[("serial", U32), ("flags", U16), ("types", Types)],
        RecordType::ZONEMD => &[("serial", U32), ("scheme", U8), ("hash algorithm", U8), ("digest", Hex(1))],
        RecordType::SVCB | RecordType::HTTPS => SVCB,
        RecordType::DSYNC => &[("type", Type), ("scheme", Scheme), ("port", U16), ("target", PlainName)],
        RecordType::HHIT | RecordType::BRID => &[("data", Base64(1))],
        RecordType::NID => &[("preference", U16), ("node id", NodeId)],
        RecordType::L32 => &[("preference", U16), ("locator", V4)],
        RecordType::L64 => &[("preference", U16), ("locator", NodeId)],
        RecordType::LP => &[("preference", U16), ("name", PlainName)],
        RecordType::EUI48 => &[("address", Eui48)],
        RecordType::EUI64 => &[("address", Eui64)],
        RecordType::URI => &[("priority", U16), ("weight", U16), ("target", LongText(1))],
        RecordType::CAA => &[("flags", U8), ("tag", Tag), ("value", LongText(0))],
        RecordType::AMTRELAY => &[("relay", Relay)],
        RecordType::ANAME => &[("target", PlainName)],
        _ => return None,
    })
}

//! What can be wrong with record data.

use std::fmt;

use super::svcb::SvcFault;
use crate::dns::NameError;

macro_rules! expected {
    ($($name:ident = $text:literal;)*) => {
        /// What a place in record data asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Expected {
            $(#[doc = $text] $name,)*
        }

        impl fmt::Display for Expected {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Expected::$name => $text,)* })
            }
        }
    };
}

expected! {
    Name = "a domain name";
    U8 = "a number from 0 to 255";
    U16 = "a number from 0 to 65535";
    U32 = "a number from 0 to 4294967295";
    Period = "a number of seconds, or a time such as 1h30m";
    Time = "a time as YYYYMMDDHHmmSS or as seconds since 1970";
    Type = "a record type";
    Algorithm = "an algorithm number from 0 to 255 or its mnemonic";
    Scheme = "a scheme number from 0 to 255 or NOTIFY";
    CertType = "a certificate type from 0 to 65535 or its mnemonic";
    Text = "a text of at most 255 octets";
    AtMostTwoTexts = "at most two texts";
    LongText = "a text of at least one octet";
    Tag = "a tag of 1 to 255 letters and digits";
    Hex = "an even number of hexadecimal digits";
    Salt = "hexadecimal digits for at most 255 octets, or -";
    Hash = "base32 digits (0-9, a-v) for 1 to 255 octets";
    Base64 = "base64 data";
    V4 = "an IPv4 address";
    V6 = "an IPv6 address";
    Types = "record types";
    TypeBitmap = "a type bitmap in ascending windows";
    Eui48 = "six hexadecimal octets as 00-00-5e-00-53-2a";
    Eui64 = "eight hexadecimal octets as 00-00-5e-ef-10-00-00-2a";
    NodeId = "four groups of hexadecimal digits as 0014:4fff:ff20:ee64";
    Nsap = "0x and hexadecimal digits";
    Latitude = "a latitude such as 52 22 23.000 N";
    Longitude = "a longitude such as 4 53 32.000 E";
    Altitude = "an altitude from -100000.00m to 42849672.95m";
    Precision = "a size from 0.00m to 90000000.00m";
    Location = "the 16 octets of a location, version 0";
    Prefix = "an address prefix such as !1:192.0.2.0/24 or 2:2001:db8::/32";
    GatewayType = "a gateway type from 0 to 3";
    NoGateway = "a single dot";
    RelayBit = "0 or 1";
    RelayType = "a relay type from 0 to 3";
    HostIdentity = "a host identity of 1 to 255 octets in hexadecimal digits";
    PublicKey = "a public key in base64";
    KeyOrNone = "a public key, or algorithm 0 for none";
    Protocol = "a protocol number from 0 to 255, or tcp or udp";
    Port = "a port from 0 to 65535 or the name of a common service";
    SvcParam = "a service parameter such as alpn=h2 or key667=text";
    Digest = "a digest of the length that its type asks for";
    ZoneDigest = "a digest of 12 octets or more";
    Generic = r"\# with the number of octets and as many octets in hexadecimal digits";
    End = "nothing more";
}

/// Why a text or octets are no record data of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdataError {
    /// The text ends too early.
    Missing {
        /// The field that is missing, in the words of its RFC.
        field: &'static str,
        /// What it should hold.
        expected: Expected,
    },
    /// A word does not fit its field.
    Bad {
        /// The field, in the words of its RFC.
        field: &'static str,
        /// The word as written, shortened.
        found: String,
        /// What the field asks for.
        expected: Expected,
    },
    /// A word is no domain name.
    Name {
        /// The field, in the words of its RFC.
        field: &'static str,
        /// The word as written, shortened.
        found: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Words are left over.
    Extra {
        /// The first word that is too many.
        found: String,
    },
    /// A backslash is followed by neither one character nor three digits up to 255.
    BadEscape {
        /// The word as written, shortened.
        found: String,
    },
    /// Double quotes that do not close.
    Unclosed,
    /// `;`, `(` or `)` outside quotes, in a record that stands alone.
    Special {
        /// Which one.
        found: char,
    },
    /// The octets do not fit the type.
    Wire {
        /// The field, in the words of its RFC.
        field: &'static str,
        /// Offset of the field in the record data.
        at: usize,
        /// What the field asks for.
        expected: Expected,
    },
    /// Service parameters that contradict one another.
    Svc(SvcFault),
    /// `\#` states another length than its digits have.
    GenericLen {
        /// The number behind `\#`.
        stated: u16,
        /// Octets that the digits make.
        found: usize,
    },
    /// A character-string of more than 255 octets.
    TextTooLong {
        /// Octets found.
        found: usize,
    },
    /// No character-string at all where at least one is needed.
    NoText,
    /// More than 65,535 octets.
    TooLong {
        /// Octets found.
        found: usize,
    },
    /// The type has no presentation form but `\#`.
    GenericOnly,
    /// The type never stands in a zone (RFC 6895 §3.1).
    Meta,
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdataError::Missing { field, expected } => write!(f, "{field}: found nothing, expected {expected}"),
            RdataError::Bad { field, found, expected } => write!(f, "{field}: found {found:?}, expected {expected}"),
            RdataError::Name { field, found, error } => write!(f, "{field}: found {found:?}, expected a domain name: {error}"),
            RdataError::Extra { found } => write!(f, "found {found:?} after the last field, expected nothing more"),
            RdataError::BadEscape { found } => {
                write!(f, "found {found:?}, expected each backslash to be followed by one character or by three digits up to 255")
            }
            RdataError::Unclosed => f.write_str("found no closing double quote"),
            RdataError::Special { found } => write!(f, "found {found:?} outside double quotes, expected one record without comments"),
            RdataError::Wire { field, at, expected } => write!(f, "{field}: found other octets at offset {at}, expected {expected}"),
            RdataError::Svc(fault) => fault.fmt(f),
            RdataError::GenericLen { stated, found } => write!(f, r"found {found} octets after \#, expected {stated} as stated"),
            RdataError::TextTooLong { found } => write!(f, "found a text of {found} octets, expected at most 255"),
            RdataError::NoText => f.write_str("found no text, expected at least one"),
            RdataError::TooLong { found } => write!(f, "found {found} octets of record data, expected at most 65535"),
            RdataError::GenericOnly => f.write_str(r"found words, expected \# with octets in hexadecimal digits: the type has no other form"),
            RdataError::Meta => f.write_str("found a type that only appears in messages, expected one that stands in zones"),
        }
    }
}

impl std::error::Error for RdataError {}

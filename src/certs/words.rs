//! From the errors of the TLS library to the words that an operator reads: what is wrong with certificates, keys and PEM, ours or a peer's.

use rustls::pki_types::pem;
use rustls::{CertificateError, OtherError};

use crate::health::concern::rough_span;

/// Text from elsewhere is cut after this many characters: it ends in tables and JSON.
const MAX_FOREIGN_CHARS: usize = 120;

/// A certificate's names are listed up to this many; wildcard farms carry hundreds.
const MAX_NAMES_SHOWN: usize = 3;

/// Keys that the provider signs with.
pub(super) const USABLE_KEYS: &str = "a key of RSA (2048 to 4096 bits), ECDSA (P-256 or P-384) or Ed25519";

/// What is wrong with a certificate, a key, or both together.
pub fn material(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(why) => certificate(why),
        rustls::Error::InvalidCertRevocationList(why) => format!("revocation list not usable: {}", spelled(&format!("{why:?}"))),
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        // The library says of every key that it cannot use that it failed to parse it.
        rustls::Error::General(words) if words.contains("private key") => format!("the key cannot be used: expected {USABLE_KEYS}"),
        rustls::Error::General(words) => foreign(words),
        other => foreign(&other.to_string()),
    }
}

/// What is wrong with the certificate that a client showed.
pub fn of_client(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }) => {
            "certificate not meant for clients".to_owned()
        }
        other => material(other),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("certificate expired {} ago", rough_span(time.as_secs().saturating_sub(not_after.as_secs())))
        }
        CertificateError::NotValidYet => "certificate not yet valid".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("certificate not yet valid, only in {}", rough_span(not_before.as_secs().saturating_sub(time.as_secs())))
        }
        CertificateError::NotValidForName => "certificate not valid for this name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("certificate not valid for name \"{}\" ({})", expected.to_str(), names(presented))
        }
        CertificateError::UnknownIssuer => "certificate from an unknown issuer".to_owned(),
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::BadSignature => "certificate with a bad signature (signed by another key than the trusted CA of that name)".to_owned(),
        CertificateError::BadEncoding => "certificate badly encoded".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "certificate not meant for servers".to_owned(),
        CertificateError::Other(OtherError(why)) if why.to_string().contains("CaUsedAsEndEntity") => {
            "certificate is marked as a CA's own (CA:TRUE), which a server's may not be".to_owned()
        }
        CertificateError::Other(OtherError(why)) if why.to_string().contains("UnsupportedCertVersion") => {
            "certificate is not of version 3, the one that has names".to_owned()
        }
        CertificateError::Other(OtherError(why)) if why.to_string().contains("NameConstraint") => {
            "certificate is for names that its authority may not sign for (its name constraints)".to_owned()
        }
        CertificateError::Other(OtherError(why)) => format!("certificate not accepted: {}", spelled(&why.to_string())),
        // Some have words of their own, the others are names of the library's.
        other => {
            let words = other.to_string();
            format!(
                "certificate not accepted: {}",
                if words.contains(' ') && !words.contains(['(', '{']) { foreign(&words) } else { spelled(&words) }
            )
        }
    }
}

/// What a certificate names, as the library lists it: `DnsName("…")`, `IpAddress(…)`.
pub(super) fn names(presented: &[String]) -> String {
    let bare = |name: &'_ String| match (name.split('"').nth(1), name.split_once('(')) {
        (Some(quoted), _) => foreign(quoted),
        (None, Some((_, inner))) => foreign(inner.trim_end_matches(')')),
        (None, None) => foreign(name),
    };
    let shown: Vec<String> = presented.iter().take(MAX_NAMES_SHOWN).map(bare).collect();
    match presented.len() {
        0 => "it names nothing".to_owned(),
        all if all > MAX_NAMES_SHOWN => format!("it names {} and {} more", shown.join(", "), all - MAX_NAMES_SHOWN),
        _ => format!("it names {}", shown.join(", ")),
    }
}

/// What is wrong with the form of a file; the library shows octets as numbers.
pub(super) fn pem(error: &pem::Error) -> String {
    let line = |octets: &[u8]| foreign(String::from_utf8_lossy(octets).trim());
    match error {
        pem::Error::MissingSectionEnd { end_marker } => format!("it ends without the line \"-----END {}-----\"", line(end_marker)),
        pem::Error::IllegalSectionStart { line: found } => {
            format!("found the line {:?}, expected one such as \"-----BEGIN CERTIFICATE-----\"", line(found))
        }
        pem::Error::Base64Decode(_) => "what stands between its lines BEGIN and END is not base64".to_owned(),
        pem::Error::NoItemsFound => "none is in it".to_owned(),
        other => foreign(&other.to_string()),
    }
}

/// A name of the library's, `NoCipherSuitesInCommon(…)`, in words.
pub fn spelled(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars().take_while(|character| character.is_ascii_alphanumeric()).take(MAX_FOREIGN_CHARS) {
        if character.is_ascii_uppercase() && words.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

/// Makes text from elsewhere safe to show: no control characters, bounded.
pub fn foreign(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_FOREIGN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_FOREIGN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_words_are_names_of_a_library() {
        use rustls::InconsistentKeys;
        let expected = |name: &str| rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
        let presented = ["IpAddress(192.0.2.1)", "IpAddress(2001:db8::1)", "DnsName(\"a.example\")"].map(str::to_owned).to_vec();
        let many = (0..5).map(|n| format!("DnsName(\"n{n}.example\")")).collect();
        let named =
            |name, presented| rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected: expected(name), presented });
        for (error, words) in [
            (named("192.0.2.10", presented), "certificate not valid for name \"192.0.2.10\" (it names 192.0.2.1, 2001:db8::1, a.example)"),
            (
                named("app.example.com", many),
                "certificate not valid for name \"app.example.com\" (it names n0.example, n1.example, n2.example and 2 more)",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::UnhandledCriticalExtension),
                "certificate not accepted: unhandled critical extension",
            ),
            (rustls::Error::InvalidCertificate(CertificateError::UnknownRevocationStatus), "certificate not accepted: unknown revocation status"),
            (rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch), "the key is not that of the certificate"),
            (
                rustls::Error::General("failed to parse private key as RSA, ECDSA, or EdDSA".into()),
                "the key cannot be used: expected a key of RSA (2048 to 4096 bits), ECDSA (P-256 or P-384) or Ed25519",
            ),
        ] {
            assert_eq!(material(&error), words);
        }
    }

    #[test]
    fn foreign_text_is_cut_and_cleaned() {
        assert_eq!(foreign("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(foreign(&"x".repeat(500)).chars().count(), MAX_FOREIGN_CHARS + 1);
    }
}

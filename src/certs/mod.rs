//! L4: certificates and keys: those that listeners show, read from PEM files ([`files`]) and read again when the files change, with the day on which they
//! end; whom clients of ours believe ([`verify`]); and what is wrong with either, in plain words ([`words`]).
//!
//! ```text
//! Shown::load ─▶ Shown ─ as ResolvesServerCert ─▶ each handshake takes the current one
//!                  └─ look(), every few seconds ─▶ files are others? read; what cannot be used is said once, and the one before stays
//! ```
//!
//! Connections keep what they began with, so a renewed certificate ends none.

mod files;
pub mod verify;
pub mod words;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;

pub use self::files::{Stamp, Trouble, add_authorities, certificates, private_key, private_key_within, stamp};
pub(crate) use self::verify::{first_to_end, times};
use crate::telemetry::CertificateFacts;

/// How often the files are looked at: a renewed certificate is in use long before the old one ends.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// From here on it is said at each load that a certificate is about to end: those of ACME are renewed 30 days before.
const SOON_S: i64 = 14 * 86_400;

/// Certificates of one file whose times are told of.
const MAX_TOLD: usize = 5;

/// A certificate in use.
#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// The first and the last second of each certificate of the file, since 1970. Never empty.
    times: Vec<(i64, i64)>,
}

impl Current {
    /// The end of the first that ends: clients refuse a chain of which any has ended. And which of the file it is.
    fn ends(&self) -> (usize, i64) {
        let ends = self.times.iter().map(|(_, until)| *until).enumerate();
        ends.min_by_key(|(_, until)| *until).unwrap_or_default()
    }

    /// What to call a certificate of the file: those that lead to an authority by their place and their subject.
    fn called(&self, at: usize) -> Option<String> {
        let certificate = self.key.cert.get(at).filter(|_| at > 0)?;
        let subject = x509_parser::parse_x509_certificate(certificate).map_or_else(|_| String::new(), |(_, parsed)| parsed.subject().to_string());
        Some(format!("certificate {} of {} ({})", at + 1, self.times.len(), words::foreign(&subject)))
    }
}

/// A certificate and its key, from two files.
#[derive(Debug)]
pub struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    /// The name that clients verify.
    name: Option<String>,
    current: ArcSwap<Current>,
    seen: Mutex<[Option<Stamp>; 2]>,
    trouble: Mutex<Option<Trouble>>,
}

impl Shown {
    /// Reads the files. The error names the file and what is wrong with it.
    pub fn load(certificate: &Path, key: &Path, name: Option<&str>) -> Result<Shown, Trouble> {
        let seen = [stamp(certificate), stamp(key)];
        let current = ArcSwap::from_pointee(read(certificate, key)?);
        Ok(Shown {
            certificate: certificate.to_path_buf(),
            key: key.to_path_buf(),
            name: name.map(str::to_owned),
            current,
            seen: Mutex::new(seen),
            trouble: Mutex::new(None),
        })
    }

    /// Looks whether the files are others: whether they could be used, or why not; `None` when nothing has changed.
    fn look(&self) -> Option<Result<(), Trouble>> {
        let now = [stamp(&self.certificate), stamp(&self.key)];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return None;
        }
        *seen = now;
        drop(seen);
        let found = read(&self.certificate, &self.key).map(|current| self.current.store(Arc::new(current)));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().err().cloned();
        Some(found)
    }

    /// Looks whether the files are others, and logs what came of it: whom clients will not believe, and whose key is open, as at the start.
    pub fn look_and_tell(&self, listener: &str, now: i64) {
        match self.look() {
            None => {}
            Some(Ok(())) => {
                tracing::info!("{listener}: the certificate was read again");
                for trouble in self.troubles(now) {
                    tracing::warn!("{listener}: {trouble}");
                }
            }
            Some(Err(error)) => tracing::error!(%error, "{listener}: the certificate before stays in use"),
        }
    }

    /// What there is to say of it as the certificate of this listener, at this time in seconds since 1970.
    pub fn facts(&self, listener: impl Into<String>, now: i64) -> CertificateFacts {
        let current = self.current.load();
        let mut troubles: Vec<String> = self.disbelief(&current, now).iter().map(Trouble::to_string).collect();
        if let Some(trouble) = &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            troubles.push(format!("{trouble}; the certificate before stays in use"));
        }
        let (first, expires) = current.ends();
        CertificateFacts { listener: listener.into(), file: self.certificate.clone(), expires, first: current.called(first), troubles }
    }

    /// What is wrong with what is in use, at this time in seconds since 1970. Who may read the key is told here alone, and is no fact of the service:
    /// where there is one user, as in a container, it means nothing.
    pub fn troubles(&self, now: i64) -> Vec<Trouble> {
        let mut troubles = self.disbelief(&self.current.load(), now);
        troubles.extend(files::exposed(&self.key));
        troubles
    }

    /// Something that is wrong with the certificate.
    pub fn trouble(&self, what: impl Into<String>) -> Trouble {
        Trouble::of(&self.certificate, what)
    }

    /// Why clients will not believe it, or soon will not.
    fn disbelief(&self, current: &Current, now: i64) -> Vec<Trouble> {
        let of_time = current.times.iter().enumerate().filter_map(|(at, (since, until))| {
            let what = trouble_of_time(*since, *until, now)?;
            Some(self.trouble(format!("{} {what}", current.called(at).unwrap_or_else(|| "the certificate".into()))))
        });
        let mut troubles: Vec<Trouble> = of_time.take(MAX_TOLD).collect();
        if let (Some(name), Some(certificate)) = (&self.name, current.key.cert.first())
            && let Some(named) = named_instead(certificate, name)
        {
            troubles.push(self.trouble(format!("the certificate is not for the name {name:?} ({named}); clients that verify it refuse us")));
        }
        let own = current.key.cert.first().and_then(|certificate| Some(x509_parser::parse_x509_certificate(certificate).ok()?.1));
        if own.as_ref().is_some_and(|own| !is_for_servers(own)) {
            let what = "the certificate is not for servers (its extended key usage has no serverAuth); clients that verify it refuse us";
            troubles.push(self.trouble(what));
        }
        if own.as_ref().is_some_and(|own| !may_sign(own)) {
            let what = "the certificate's key may not sign (its key usage has no digitalSignature); some clients refuse us, and those on GnuTLS \
                        even where they do not verify it";
            troubles.push(self.trouble(what));
        }
        troubles
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// What is wrong with a certificate of this time, at this time.
fn trouble_of_time(since: i64, until: i64, now: i64) -> Option<String> {
    if now > until {
        Some(format!("expired {} ago; clients that verify it refuse us", span(now - until)))
    } else if now < since {
        Some(format!("is not valid yet, only in {}; clients that verify it refuse us", span(since - now)))
    } else if until - now < SOON_S {
        Some(format!("expires in {}", span(until - now)))
    } else {
        None
    }
}

/// Whether its purposes, where it has any, include that of a server (RFC 5280 §4.2.1.12). That it is for any purpose is not enough for most clients.
fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    !matches!(certificate.extended_key_usage(), Ok(Some(usage)) if !usage.value.server_auth)
}

/// Whether its key, where it says what it is for, may sign handshakes (RFC 5280 §4.2.1.3, RFC 8446 §4.4.2.2).
fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    !matches!(certificate.key_usage(), Ok(Some(usage)) if !usage.value.digital_signature())
}

/// What a certificate names that is not for this name; `None` for one that is.
fn named_instead(certificate: &CertificateDer<'_>, name: &str) -> Option<String> {
    let judged = match (ParsedCertificate::try_from(certificate), ServerName::try_from(name)) {
        (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name),
        _ => return Some("it cannot be compared".into()),
    };
    match judged {
        Ok(()) => None,
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) if !presented.is_empty() => {
            Some(words::names(&presented))
        }
        Err(_) => Some("it names no host".into()),
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Current, Trouble> {
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    // Clients read all of them before they verify any.
    let read: Vec<(i64, i64)> = chain.iter().map_while(|one| times(one)).collect();
    match read.len() {
        0 => return Err(Trouble::of(certificate, "found no X.509 certificate")),
        all if all == chain.len() => {}
        _ => return Err(Trouble::of(certificate, format!("certificate {} of {} is no X.509 certificate", read.len() + 1, chain.len()))),
    }
    let certified = CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| match &error {
        rustls::Error::InconsistentKeys(_) => Trouble::of(key, format!("the key is not that of the certificate {}", certificate.display())),
        rustls::Error::InvalidCertificate(_) => Trouble::of(certificate, words::material(&error)),
        _ => Trouble::of(key, words::material(&error)),
    })?;
    Ok(Current { key: Arc::new(certified), times: read })
}

/// A time as people say it.
fn span(seconds: i64) -> String {
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (days @ 2.., _, _) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} hours"),
        (_, 1, _) => "1 hour".into(),
        (_, _, minutes @ 2..) => format!("{minutes} minutes"),
        (_, _, 1) => "1 minute".into(),
        _ => "less than a minute".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5280_section_4_2_1_3_and_12_purposes() {
        use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        use rcgen::KeyUsagePurpose::{DigitalSignature, KeyCertSign, KeyEncipherment};
        for (purposes, is_for) in [
            (vec![], true),
            (vec![ServerAuth], true),
            (vec![ClientAuth, ServerAuth], true),
            (vec![ClientAuth], false),
            (vec![Any], false),
            (vec![ClientAuth, Any], false),
            (vec![ServerAuth, Any], true),
        ] {
            for (uses, signs) in [
                (vec![], true),
                (vec![DigitalSignature], true),
                (vec![DigitalSignature, KeyEncipherment], true),
                (vec![KeyEncipherment], false),
                (vec![KeyCertSign], false),
            ] {
                let key = rcgen::KeyPair::generate().expect("a key");
                let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
                (params.extended_key_usages, params.key_usages) = (purposes.clone(), uses.clone());
                let certificate = params.self_signed(&key).expect("a certificate");
                let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).expect("a certificate");
                assert_eq!((is_for_servers(&parsed), may_sign(&parsed)), (is_for, signs), "{purposes:?} {uses:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_and_never_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(path("good"), pair.cert.pem()).expect("written");
        std::fs::write(path("key"), pair.signing_key.serialize_pem()).expect("written");
        std::fs::write(path("second"), pair.cert.pem() + broken).expect("written");
        std::fs::write(path("first"), broken.to_owned() + &pair.cert.pem()).expect("written");
        std::fs::write(path("large"), vec![b'x'; files::MAX_PEM_LEN as usize + 1]).expect("written");
        std::fs::write(path("unended"), broken.replace("END", "")).expect("written");
        std::fs::write(path("binary"), broken.replace("AAAA", "!!!!")).expect("written");
        std::fs::write(path("words"), "no PEM at all").expect("written");
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()));
        assert!(Shown::load(&path("good"), &path("key"), None).is_ok());
        for (certificate, key, why) in [
            ("second", "key", "second: certificate 2 of 2 is no X.509 certificate"),
            ("first", "key", "first: found no X.509 certificate"),
            ("unended", "key", "unended: certificate 1: it ends without the line \"-----END CERTIFICATE-----\""),
            ("binary", "key", "binary: certificate 1: what stands between its lines BEGIN and END is not base64"),
            ("words", "key", "words: found no certificate, expected PEM"),
            ("good", "words", "words: no private key in PEM: none is in it"),
            ("pipe", "key", "pipe: cannot be read: not a regular file"),
            ("good", "pipe", "pipe: cannot be read: not a regular file"),
            ("large", "key", "large: cannot be read: larger than 1 MiB"),
            ("good", "missing", "missing: cannot be read: no such file or folder"),
        ] {
            let error = Shown::load(&path(certificate), &path(key), None).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn times_are_told_as_people_say_them() {
        const DAY: i64 = 86_400;
        let (since, until) = (100 * DAY, 190 * DAY);
        for (now, told) in [
            (since, None),
            (until - SOON_S, None),
            (until - SOON_S + 1, Some("expires in 13 days")),
            (until - 2 * DAY, Some("expires in 2 days")),
            (until - DAY, Some("expires in 24 hours")),
            (until - 7199, Some("expires in 1 hour")),
            (until - 3599, Some("expires in 59 minutes")),
            (until - 119, Some("expires in 1 minute")),
            (until, Some("expires in less than a minute")),
            (until + 1, Some("expired less than a minute ago; clients that verify it refuse us")),
            (until + 3600, Some("expired 1 hour ago; clients that verify it refuse us")),
            (until + 3 * DAY, Some("expired 3 days ago; clients that verify it refuse us")),
            (since - 60, Some("is not valid yet, only in 1 minute; clients that verify it refuse us")),
        ] {
            assert_eq!(trouble_of_time(since, until, now).as_deref(), told, "{now}");
        }
    }
}

//! L4: the certificates that listeners show: read from PEM files, read again when the files change, with the day on which they end.
//!
//! ```text
//! Shown::load ─▶ Shown ─ as ResolvesServerCert ─▶ each handshake takes the current one
//!                  └─ look(), every few seconds ─▶ files are others? read; what cannot be used is said once, and the one before stays
//! ```
//!
//! Connections keep what they began with, so a renewed certificate ends none.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::telemetry::CertificateFacts;

/// How often the files are looked at: a renewed certificate is in use long before the old one ends.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// From here on it is said at each load that a certificate is about to end: those of ACME are renewed 30 days before.
const SOON_S: i64 = 14 * 86_400;

/// Names of a certificate that are told where another one was expected.
const MAX_NAMES_SHOWN: usize = 3;

/// Characters of a line that is shown.
const MAX_LINE_SHOWN: usize = 60;

/// The largest file that is read: a chain with its key takes a few KiB, all authorities of a system a quarter of this.
const MAX_PEM_LEN: u64 = 1 << 20;

/// What of a file tells that it is another one: size and time.
pub type Stamp = Option<(u64, SystemTime)>;

/// A certificate in use.
#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    /// The first and the last second of its time, since 1970.
    since: i64,
    until: i64,
}

/// A certificate and its key, from two files.
#[derive(Debug)]
pub struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    /// The name that clients verify.
    name: Option<String>,
    current: ArcSwap<Current>,
    seen: Mutex<[Stamp; 2]>,
    trouble: Mutex<Option<String>>,
}

impl Shown {
    /// Reads the files. The error names the file and what is wrong with it.
    pub fn load(certificate: &Path, key: &Path, name: Option<&str>) -> Result<Shown, String> {
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

    /// Looks whether the files are others. What was read, or why it could not be; `None` when nothing has changed.
    pub fn look(&self) -> Option<Result<(), String>> {
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

    /// What there is to say of it as the certificate of this listener, at this time in seconds since 1970.
    pub fn facts(&self, listener: impl Into<String>, now: i64) -> CertificateFacts {
        let current = self.current.load();
        let mut troubles: Vec<String> = self.troubles_of(&current, now).into_iter().collect();
        if let Some(trouble) = &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            troubles.push(format!("{trouble}; the certificate before stays in use"));
        }
        CertificateFacts { listener: listener.into(), file: self.certificate.clone(), expires: current.until, troubles }
    }

    fn troubles_of(&self, current: &Current, now: i64) -> Vec<String> {
        let mut troubles = Vec::new();
        let file = self.certificate.display();
        troubles.extend(trouble_of_time(current.since, current.until, now).map(|trouble| format!("{file}: the certificate {trouble}")));
        if let (Some(name), Some(certificate)) = (&self.name, current.key.cert.first())
            && let Some(named) = named_instead(certificate, name)
        {
            troubles.push(format!("{file}: the certificate is not for the name {name:?} ({named}); clients that verify it refuse us"));
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

/// What a certificate names that is not for this name; `None` for one that is.
fn named_instead(certificate: &CertificateDer<'_>, name: &str) -> Option<String> {
    let judged = match (ParsedCertificate::try_from(certificate), ServerName::try_from(name)) {
        (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name),
        _ => return Some("it cannot be compared".into()),
    };
    match judged {
        Ok(()) => None,
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) if !presented.is_empty() => {
            // Each comes as `DnsName("…")` or the like; the quoted part is the name.
            let shown: Vec<&str> = presented.iter().take(MAX_NAMES_SHOWN).map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let more = if presented.len() > shown.len() { format!(" and {} more", presented.len() - shown.len()) } else { String::new() };
            Some(format!("it names {}{more}", shown.join(", ")))
        }
        Err(_) => Some("it names no host".into()),
    }
}

/// What the file is like now; nothing when it cannot be seen.
pub fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?))).ok()
}

fn read(certificate: &Path, key: &Path) -> Result<Current, String> {
    let chain = certificates(certificate)?;
    let private = private_key(key)?;
    // Clients read all of them before they verify any.
    let read: Vec<(i64, i64)> = chain.iter().map_while(|one| times(one)).collect();
    let (since, until) = match read.first() {
        Some(first) if read.len() == chain.len() => *first,
        None => return Err(format!("{}: found no X.509 certificate", certificate.display())),
        Some(_) => return Err(format!("{}: certificate {} of {} is no X.509 certificate", certificate.display(), read.len() + 1, chain.len())),
    };
    let certified = CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!("{}: the key is not that of the certificate {}", key.display(), certificate.display()),
        rustls::Error::InvalidCertificate(why) => format!("{}: {why}; expected an X.509 certificate of version 3", certificate.display()),
        _ => format!("{}: {error}; expected a key of RSA (2048 bits or more), ECDSA (P-256, P-384) or Ed25519", key.display()),
    })?;
    Ok(Current { key: Arc::new(certified), since, until })
}

/// The first private key in a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let is_encrypted = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
    };
    let text = contents(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match is_encrypted(&text) {
        true => format!("{}: the private key is encrypted; write it without a passphrase: openssl pkey -in FILE -out FILE", path.display()),
        false => format!("{}: no private key in PEM: {}", path.display(), pem_words(&error)),
    })
}

/// What is wrong with a PEM file, without the words of a program.
fn pem_words(error: &pem::Error) -> String {
    let line = |octets: &[u8]| String::from_utf8_lossy(octets).trim().chars().take(MAX_LINE_SHOWN).collect::<String>();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => format!("it ends without the line \"-----END {}-----\"", line(end_marker)),
        pem::Error::IllegalSectionStart { line: found } => {
            format!("found the line {:?}, expected one such as \"-----BEGIN CERTIFICATE-----\"", line(found))
        }
        pem::Error::Base64Decode(_) => "what stands between its lines BEGIN and END is not base64".into(),
        pem::Error::NoItemsFound => "none is in it".into(),
        other => other.to_string(),
    }
}

/// What a PEM file holds. A pipe would keep whoever reads it waiting, and some devices never end.
fn contents(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |why: String| format!("{}: cannot be read: {why}", path.display());
    let file = open_without_waiting(path).map_err(|error| wrong(error.to_string()))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(wrong("it is not a regular file".into()));
    }
    let mut text = Vec::new();
    file.take(MAX_PEM_LEN + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MAX_PEM_LEN {
        return Err(wrong(format!("it is larger than {} MiB", MAX_PEM_LEN >> 20)));
    }
    Ok(text)
}

fn open_without_waiting(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Verifies servers as the roots say. A certificate that was named itself needs no authority: one that `openssl req -x509` makes calls itself an
/// authority, which no server may be for rustls.
#[derive(Debug)]
pub struct Trusting {
    roots: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Trusting {
    /// These roots, and the certificates among them that were named one by one. `None` without any root.
    pub fn new(roots: RootCertStore, named: Vec<CertificateDer<'static>>) -> Option<Trusting> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        Some(Trusting { roots, named })
    }
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = self.roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let is_unfit = matches!(judged, Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))));
        let Some((since, until)) = times(end_entity).filter(|_| is_unfit && self.named.contains(end_entity)) else { return judged };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < since {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > until {
            return Err(CertificateError::Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.roots.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}

/// The first and the last second of a certificate's time, since 1970.
pub(crate) fn times(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The certificates in a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: pem::Error| format!("{}: no certificate in PEM: {}", path.display(), pem_words(&error));
    let found: Vec<_> = CertificateDer::pem_slice_iter(&contents(path)?).collect::<Result<_, _>>().map_err(named)?;
    if found.is_empty() { Err(format!("{}: found no certificate, expected PEM", path.display())) } else { Ok(found) }
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
    fn what_cannot_be_used_is_told_and_never_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(path("good"), pair.cert.pem()).expect("written");
        std::fs::write(path("key"), pair.signing_key.serialize_pem()).expect("written");
        std::fs::write(path("second"), pair.cert.pem() + broken).expect("written");
        std::fs::write(path("first"), broken.to_owned() + &pair.cert.pem()).expect("written");
        std::fs::write(path("large"), vec![b'x'; MAX_PEM_LEN as usize + 1]).expect("written");
        std::fs::write(path("unended"), broken.replace("END", "")).expect("written");
        std::fs::write(path("binary"), broken.replace("AAAA", "!!!!")).expect("written");
        std::fs::write(path("words"), "no PEM at all").expect("written");
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()));
        assert!(Shown::load(&path("good"), &path("key"), None).is_ok());
        for (certificate, key, why) in [
            ("second", "key", "second: certificate 2 of 2 is no X.509 certificate"),
            ("first", "key", "first: found no X.509 certificate"),
            ("unended", "key", "unended: no certificate in PEM: it ends without the line \"-----END CERTIFICATE-----\""),
            ("binary", "key", "binary: no certificate in PEM: what stands between its lines BEGIN and END is not base64"),
            ("words", "key", "words: found no certificate, expected PEM"),
            ("good", "words", "words: no private key in PEM: none is in it"),
            ("pipe", "key", "pipe: cannot be read: it is not a regular file"),
            ("good", "pipe", "pipe: cannot be read: it is not a regular file"),
            ("large", "key", "large: cannot be read: it is larger than 1 MiB"),
            ("good", "missing", "missing: cannot be read: No such file or directory"),
        ] {
            let error = Shown::load(&path(certificate), &path(key), None).expect_err(why);
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

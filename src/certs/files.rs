//! Certificates and keys from PEM files.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::words;
use crate::config::{Reach, io_words};

/// The largest file that is read: a chain with its key takes a few KiB, all authorities of a system a quarter of this.
pub(super) const MAX_PEM_LEN: u64 = 1 << 20;

/// What tells that something of a file is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    len: u64,
    /// Of the last change to what is in it, in seconds and nanoseconds.
    modified: (i64, i64),
    /// Of the last change to what it is: its owner, who may read it, or that it came from elsewhere with an old time.
    changed: (i64, i64),
}

/// What the file is like now; nothing when it cannot be seen.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { len: found.len(), modified: (found.mtime(), found.mtime_nsec()), changed: (found.ctime(), found.ctime_nsec()) })
}

/// What is wrong with a file. Printed as `tls/dns.key: the private key is encrypted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// As the configuration names it.
    pub file: PathBuf,
    /// Lower case, no full stop.
    pub what: String,
}

impl Trouble {
    pub(super) fn of(file: &Path, what: impl Into<String>) -> Trouble {
        Trouble { file: file.to_path_buf(), what: what.into() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

/// The certificates in a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let text = contents(path)?;
    let mut found = Vec::new();
    for (at, one) in CertificateDer::pem_slice_iter(&text).enumerate() {
        found.push(one.map_err(|error| Trouble::of(path, format!("certificate {}: {}", at + 1, words::pem(&error))))?);
    }
    if found.is_empty() { Err(Trouble::of(path, "found no certificate, expected PEM")) } else { Ok(found) }
}

/// Puts the certificates of a PEM file among the roots.
pub fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), Trouble> {
    for (at, certificate) in certificates(path)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| Trouble::of(path, format!("certificate {}: {}", at + 1, words::material(&error))))?;
    }
    Ok(())
}

/// The first private key in a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Trouble> {
    key_in(path, &contents(path)?)
}

/// The same of a file that a zone file names.
pub fn private_key_within(reach: &Reach, path: &Path) -> Result<PrivateKeyDer<'static>, Trouble> {
    let text = reach.read(path, MAX_PEM_LEN as usize).map_err(|why| Trouble::of(path, format!("cannot be read: {why}")))?;
    key_in(path, &text)
}

fn key_in(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, Trouble> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let text = String::from_utf8_lossy(text);
        let is_encrypted = text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
        let what = match is_encrypted {
            true => "the private key is encrypted; write it without a passphrase: openssl pkey -in FILE -out FILE".to_owned(),
            false => format!("no private key in PEM: {}", words::pem(&error)),
        };
        Trouble::of(path, what)
    })
}

/// What is wrong with who may read a private key. A group may: that is how several programs share one.
pub(super) fn exposed(path: &Path) -> Option<Trouble> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let what = || format!("everybody on this machine may read the private key (mode {mode:03o}): chmod o= {}", path.display());
    (mode & 0o004 != 0).then(|| Trouble::of(path, what()))
}

/// What a PEM file holds. A pipe would keep whoever reads it waiting, and some devices never end.
fn contents(path: &Path) -> Result<Vec<u8>, Trouble> {
    let wrong = |why: String| Trouble::of(path, format!("cannot be read: {why}"));
    let file = open_without_waiting(path).map_err(|error| wrong(io_words(&error)))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(wrong("not a regular file".into()));
    }
    let mut text = Vec::new();
    file.take(MAX_PEM_LEN + 1).read_to_end(&mut text).map_err(|error| wrong(io_words(&error)))?;
    if text.len() as u64 > MAX_PEM_LEN {
        return Err(wrong(format!("larger than {} MiB", MAX_PEM_LEN >> 20)));
    }
    Ok(text)
}

fn open_without_waiting(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

//! What there is to say of the certificates of listeners, and of listeners that are not open; told by whoever looks after them, read by status and metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its table in `meridian.toml`: `server.tls`, `server.https`, `server.quic` or `admin.tls`.
    pub listener: String,
    /// The certificate's file.
    pub file: PathBuf,
    /// The last second of the first that ends of all certificates in the file, since 1970.
    pub expires: i64,
    /// Which that is, unless it is the listener's own.
    pub first: Option<String>,
    /// What is wrong with it, or with the files that should have replaced it.
    pub troubles: Vec<String>,
}

/// Of all listeners, by name.
#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<BTreeMap<String, CertificateFacts>>);

impl Certificates {
    pub(super) fn set(&self, facts: CertificateFacts) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(facts.listener.clone(), facts);
    }

    pub(super) fn get(&self) -> Vec<CertificateFacts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What listeners lack, by name, in sentences.
#[derive(Debug, Default)]
pub(super) struct Lacking(Mutex<BTreeMap<String, Vec<String>>>);

impl Lacking {
    pub(super) fn set(&self, listener: &str, what: Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(listener.to_owned(), what);
    }

    pub(super) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }
}

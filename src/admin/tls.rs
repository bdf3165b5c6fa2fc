//! TLS of the admin listener: certificate, key and the authorities of clients from files, taken anew when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::certs::{LOOK_EVERY, Shown, Stamp, Trouble, add_authorities, stamp};
use crate::config::AdminTls;
use crate::control::unix_now;
use crate::telemetry::{CertificateFacts, Registry};

/// What status and metrics call it.
const LISTENER: &str = "admin.tls";

/// The files, and what they came to last.
#[derive(Debug)]
pub struct Tls {
    shown: Arc<Shown>,
    /// The authorities of clients.
    authorities: Option<Authorities>,
    current: ArcSwap<ServerConfig>,
}

/// One file of certificates, as it was seen last.
#[derive(Debug)]
struct Authorities {
    file: PathBuf,
    seen: Mutex<Option<Stamp>>,
    trouble: Mutex<Option<Trouble>>,
}

impl Tls {
    /// Reads the files. The error names the file and what is wrong with it.
    pub fn load(files: &AdminTls) -> Result<Tls, Trouble> {
        let shown = Arc::new(Shown::load(&files.certificate, &files.key, None)?);
        let authorities = files.client_ca.clone().map(|file| {
            let seen = Mutex::new(stamp(&file));
            Authorities { file, seen, trouble: Mutex::new(None) }
        });
        let current = ArcSwap::from_pointee(config(&shown, files.client_ca.as_deref())?);
        Ok(Tls { shown, authorities, current })
    }

    /// For a connection that begins now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// What is wrong with what is in use, at this time.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.shown.troubles(unix_s())
    }

    fn facts(&self) -> CertificateFacts {
        let mut facts = self.shown.facts(LISTENER, unix_s());
        let trouble = self.authorities.as_ref().and_then(|authorities| authorities.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone());
        facts.troubles.extend(trouble.map(|why| format!("{why}; the authorities before stay in use")));
        facts
    }

    /// Looks at the files again and again. What cannot be used, or not by everybody, is logged once and stands in the status until it can; what was there
    /// before stays in use.
    pub(super) async fn watch(&self, registry: &Registry) {
        loop {
            registry.certify(self.facts());
            tokio::time::sleep(LOOK_EVERY).await;
            self.shown.look_and_tell(LISTENER, unix_s());
            self.look_at_authorities();
        }
    }

    fn look_at_authorities(&self) {
        let Some(authorities) = &self.authorities else { return };
        let now = stamp(&authorities.file);
        let before = std::mem::replace(&mut *authorities.seen.lock().unwrap_or_else(PoisonError::into_inner), now);
        if before == now {
            return;
        }
        let found = config(&self.shown, Some(&authorities.file)).map(|config| self.current.store(Arc::new(config)));
        match &found {
            Ok(()) => tracing::info!("admin: the authorities of clients were read again"),
            Err(error) => tracing::error!(%error, "admin: the authorities before stay in use"),
        }
        *authorities.trouble.lock().unwrap_or_else(PoisonError::into_inner) = found.err();
    }
}

fn unix_s() -> i64 {
    i64::try_from(unix_now()).unwrap_or(i64::MAX)
}

fn config(shown: &Arc<Shown>, client_ca: Option<&Path>) -> Result<ServerConfig, Trouble> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| shown.trouble(error.to_string()))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            add_authorities(&mut roots, path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Trouble { file: path.to_path_buf(), what: error.to_string() })?)
        }
    };
    let mut config = builder.with_cert_resolver(shown.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

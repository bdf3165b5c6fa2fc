//! TLS of the admin listener: certificate and key from files, taken anew when the files change.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::AdminTls;

/// How often the files are looked at: a renewed certificate is in use long before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What of a file tells that it is another one: size and times.
type Stamp = Vec<Option<(u64, SystemTime)>>;

/// The files, and what they came to last.
#[derive(Debug)]
pub struct Tls {
    files: AdminTls,
    current: RwLock<Arc<ServerConfig>>,
    seen: RwLock<Stamp>,
}

impl Tls {
    /// Reads the files. The error names the file and what is wrong with it.
    pub fn load(files: &AdminTls) -> Result<Tls, String> {
        let seen = stamp(files);
        Ok(Tls { files: files.clone(), current: RwLock::new(Arc::new(read(files)?)), seen: RwLock::new(seen) })
    }

    /// For a connection that begins now.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the files again and again. What cannot be used is said once, and what was there before stays in use.
    pub(super) async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamp(&self.files);
            if *self.seen.read().unwrap_or_else(PoisonError::into_inner) == now {
                continue;
            }
            *self.seen.write().unwrap_or_else(PoisonError::into_inner) = now;
            match read(&self.files) {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    tracing::info!(certificate = %self.files.certificate.display(), "admin: the certificate was read again");
                }
                Err(error) => tracing::error!(error, "admin: the certificate before stays in use"),
            }
        }
    }
}

fn stamp(files: &AdminTls) -> Stamp {
    let of = |path: &Path| std::fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?))).ok();
    [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()].into_iter().flatten().map(|path| of(path)).collect()
}

fn read(files: &AdminTls) -> Result<ServerConfig, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| format!("{}: no private key in PEM: {error}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("{} and {}: {error}", files.certificate.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates in a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: rustls::pki_types::pem::Error| format!("{}: no certificate in PEM: {error}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(named)?.collect::<Result<_, _>>().map_err(named)?;
    if found.is_empty() { Err(format!("{}: found no certificate, expected PEM", path.display())) } else { Ok(found) }
}

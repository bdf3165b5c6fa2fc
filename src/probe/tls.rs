//! What HTTPS checks trust: the machine's roots, and the CA files of monitors on top of them. Read once, shared by all checks, replaced as a whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::control::api::CheckSpec;
use crate::policy::model::MonitorKind;

/// A CA file larger than this is refused: the whole set of public roots is about 250 KB.
const CA_FILE_MAX_BYTES: u64 = 1 << 20;

/// TLS configurations for checks. Immutable: a changed file or set of checks makes a new one with [`TlsRoots::load`].
#[derive(Debug, Default)]
pub struct TlsRoots {
    /// The machine's roots, and what was wrong with them if there are none. Read when the first HTTPS check appears.
    system: Option<(Arc<RootCertStore>, Result<ClientConfig, String>)>,
    /// By path as in the monitor.
    files: HashMap<PathBuf, CaFile>,
}

#[derive(Clone, Debug)]
struct CaFile {
    stamp: Option<Stamp>,
    config: Result<ClientConfig, String>,
}

/// Tells whether a file has to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
}

impl TlsRoots {
    /// Reads what `specs` need, taking over from `before` what has not changed on disk. Blocks on files.
    pub fn load(specs: &[CheckSpec], before: &TlsRoots) -> TlsRoots {
        let mut wanted = specs.iter().filter_map(|spec| match &spec.monitor.kind {
            MonitorKind::Https { ca, .. } => Some(ca.as_deref()),
            MonitorKind::Tcp | MonitorKind::Http(_) => None,
        });
        let Some(first) = wanted.next() else { return TlsRoots::default() };
        let system = before.system.clone().unwrap_or_else(load_system);
        let mut files = HashMap::new();
        for path in std::iter::once(first).chain(wanted).flatten() {
            if !files.contains_key(path) {
                let known = before.files.get(path).filter(|file| file.config.is_ok() && file.stamp == stamp(path));
                files.insert(path.to_owned(), known.cloned().unwrap_or_else(|| load_file(path, &system.0)));
            }
        }
        TlsRoots { system: Some(system), files }
    }

    /// False when a CA file has changed on disk, or could not be used. Blocks on files.
    pub fn is_current(&self) -> bool {
        self.files.iter().all(|(path, file)| file.config.is_ok() && file.stamp == stamp(path))
    }

    /// The configuration of a check with this CA file or none; without session resumption. Else why there is none.
    pub(super) fn config(&self, ca: Option<&Path>) -> Result<ClientConfig, String> {
        match ca {
            None => self.system.as_ref().map_or_else(|| Err("root certificates not loaded".to_owned()), |(_, config)| config.clone()),
            Some(path) => self.files.get(path).map_or_else(|| Err(format!("CA file {} not loaded", path.display())), |file| file.config.clone()),
        }
    }

    /// A configuration that trusts nobody, for plain HTTP: the client wants one even where no TLS takes place.
    pub(super) fn nobody() -> Result<ClientConfig, String> {
        client_config(RootCertStore::empty().into())
    }
}

fn load_system() -> (Arc<RootCertStore>, Result<ClientConfig, String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let roots = Arc::new(roots);
    let config = match found.errors.first() {
        _ if !roots.is_empty() => client_config(roots.clone()),
        Some(error) => Err(format!("no root certificates on this machine: {error}")),
        None => Err("no root certificates on this machine: install them (package ca-certificates) or name a `ca` file".to_owned()),
    };
    (roots, config)
}

fn load_file(path: &Path, system: &RootCertStore) -> CaFile {
    let stamp = stamp(path);
    let config = read_roots(path, system).and_then(|roots| client_config(roots.into()));
    CaFile { stamp, config: config.map_err(|why| format!("CA file {}: {why}", path.display())) }
}

fn read_roots(path: &Path, system: &RootCertStore) -> Result<RootCertStore, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string().to_lowercase())?;
    if !meta.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut pem = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string().to_lowercase())?;
    file.take(CA_FILE_MAX_BYTES + 1).read_to_end(&mut pem).map_err(|error| error.to_string().to_lowercase())?;
    if pem.len() as u64 > CA_FILE_MAX_BYTES {
        return Err(format!("larger than {CA_FILE_MAX_BYTES} bytes"));
    }
    let mut roots = system.clone();
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        count += 1;
        let certificate = certificate.map_err(|error| format!("certificate {count}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("certificate {count}: {error}"))?;
    }
    if count == 0 { Err("found no certificate, expected PEM".to_owned()) } else { Ok(roots) }
}

fn client_config(roots: Arc<RootCertStore>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok(), len: meta.len() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::api::CheckTarget;
    use crate::health::Thresholds;
    use crate::policy::model::{HttpCheck, Monitor};

    fn spec(ca: Option<&Path>) -> CheckSpec {
        let check = HttpCheck { path: "/".into(), host: "app.example".into(), status: vec![(200, 299)], body: None };
        let second = Duration::from_secs(1);
        CheckSpec {
            target: CheckTarget::Address([127, 0, 0, 1].into()),
            monitor: Monitor {
                name: String::new(),
                kind: MonitorKind::Https { check, ca: ca.map(Path::to_owned) },
                port: 443,
                thresholds: Thresholds { interval: second, fast: second, fall: 1, rise: 1 },
                timeout: second,
            },
        }
    }

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        rcgen::CertificateParams::new(vec!["app.example".into()]).and_then(|params| params.self_signed(&key)).expect("a certificate").pem()
    }

    #[test]
    fn bad_ca_files_say_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |name: &str, content: Option<&[u8]>, words: &str| {
            let path = dir.path().join(name);
            if let Some(content) = content {
                fs::write(&path, content).expect("written");
            }
            let roots = TlsRoots::load(&[spec(Some(&path))], &TlsRoots::default());
            let error = roots.config(Some(&path)).expect_err(name);
            assert!(error.contains(name) && error.contains(words), "{error}");
            assert!(!roots.is_current(), "worth another look");
        };
        check("missing.pem", None, "no such file");
        check("empty.pem", Some(b""), "found no certificate");
        check("text.pem", Some(b"hello"), "found no certificate");
        check("key.pem", Some(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "found no certificate");
        check("rubbish.pem", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1");
        check("cut.pem", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n"), "certificate 1");
        check("huge.pem", Some(&vec![b'\n'; CA_FILE_MAX_BYTES as usize + 1]), "larger than");
        fs::create_dir(dir.path().join("folder.pem")).expect("a folder");
        check("folder.pem", None, "not a regular file");
    }

    #[test]
    fn a_replaced_ca_file_is_noticed_and_an_unchanged_one_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.pem");
        fs::write(&path, pem()).expect("written");
        let specs = [spec(Some(&path)), spec(None), spec(Some(&path))];
        let first = TlsRoots::load(&specs, &TlsRoots::default());
        assert!(first.config(Some(&path)).is_ok() && first.is_current());
        let second = TlsRoots::load(&specs, &first);
        assert_eq!(second.files[&path].stamp, first.files[&path].stamp);
        fs::write(&path, pem() + &pem()).expect("written");
        assert!(!second.is_current());
        let third = TlsRoots::load(&specs, &second);
        assert!(third.is_current() && third.config(Some(&path)).is_ok());
        fs::remove_file(&path).expect("removed");
        assert!(!third.is_current());
    }

    #[test]
    fn nothing_is_read_without_https_checks() {
        let roots = TlsRoots::load(&[], &TlsRoots::default());
        assert!(roots.system.is_none() && roots.is_current());
        assert!(roots.config(None).is_err());
    }
}

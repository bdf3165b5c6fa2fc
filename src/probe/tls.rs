//! How checks speak TLS and whom they trust: the machine's roots, the CA files of monitors on top of them, client certificates. Read once, shared by all
//! checks that say the same, replaced as a whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::chains::Remembering;
use super::check::Progress;
use crate::certs::verify::{Anybody, Judge, Presented, Verifier};
use crate::certs::{Stamp, Trouble, add_authorities, certificates, private_key_within, stamp, words};
use crate::config::Reach;
use crate::control::api::CheckSpec;
use crate::policy::model::{ClientCertificate, TlsCheck, TlsVersion};

/// TLS configurations for checks. Immutable: a changed file or set of checks makes a new one with [`TlsRoots::load`].
#[derive(Debug, Default)]
pub struct TlsRoots {
    /// The machine's roots, and why there are none. Read when the first check appears that verifies.
    system: Option<(Arc<RootCertStore>, Option<String>)>,
    /// Under which keys were read.
    reach: Arc<Reach>,
    /// By what monitors say.
    known: HashMap<TlsCheck, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    /// Of each file that it is made of, as it was before it was read.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    config: Result<(ClientConfig, Arc<dyn Judge>), String>,
    /// Who is trusted.
    authorities: Arc<RootCertStore>,
}

impl Known {
    fn is_current(&self) -> bool {
        self.config.is_ok() && self.stamps.iter().all(|(path, seen)| *seen == stamp(path))
    }
}

impl TlsRoots {
    /// Reads what `specs` need and may have, taking over from `before` what has not changed on disk. Blocks on files.
    pub fn load(specs: &[CheckSpec], before: &TlsRoots, reach: &Arc<Reach>) -> TlsRoots {
        let wanted = || specs.iter().filter_map(|spec| spec.monitor.kind.tls());
        let usable = before.system.clone().filter(|(_, why)| why.is_none());
        let system = wanted().any(|tls| !tls.insecure).then(|| usable.unwrap_or_else(load_system));
        let mut known = HashMap::new();
        for tls in wanted() {
            if !known.contains_key(tls) {
                let same = before.known.get(tls).filter(|known| before.reach == *reach && known.is_current());
                known.insert(tls.clone(), same.cloned().unwrap_or_else(|| make(tls, system.as_ref(), reach)));
            }
        }
        TlsRoots { system, reach: reach.clone(), known }
    }

    /// False when a file has changed on disk, or could not be used. Blocks on files.
    pub fn is_current(&self) -> bool {
        self.known.values().all(Known::is_current)
    }

    /// The configuration of a check that says this; without session resumption and without ALPN. It notes what the peer shows. Else why there is none.
    pub(super) fn config(&self, tls: &TlsCheck, progress: &Arc<Progress>) -> Result<ClientConfig, String> {
        let known = self.known.get(tls).ok_or("certificates not loaded")?;
        let (mut config, judge) = known.config.clone()?;
        let noting = Noting { judge, authorities: known.authorities.clone(), progress: progress.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(Verifier::new(noting)));
        config.client_auth_cert_resolver = Arc::new(NotingAsked { resolver: config.client_auth_cert_resolver, progress: progress.clone() });
        Ok(config)
    }

    /// A configuration that trusts nobody, for plain HTTP: the client wants one even where no TLS takes place. Made once.
    pub(super) fn nobody() -> Result<ClientConfig, String> {
        static NOBODY: LazyLock<Result<ClientConfig, String>> = LazyLock::new(|| {
            let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
            let builder = builder.with_protocol_versions(ALL_VERSIONS).map_err(|error| error.to_string())?;
            Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        });
        NOBODY.clone()
    }
}

fn make(tls: &TlsCheck, system: Option<&(Arc<RootCertStore>, Option<String>)>, reach: &Reach) -> Known {
    let files = tls.ca.iter().chain(tls.client.iter().flat_map(|client| [&client.certificate, &client.key]));
    let stamps = files.map(|path| (path.clone(), stamp(path))).collect();
    let roots = match (&tls.ca, system) {
        _ if tls.insecure => Ok(RootCertStore::empty().into()),
        (_, None) => Err("root certificates not loaded".to_owned()),
        (None, Some((roots, why))) => why.clone().map_or_else(|| Ok(roots.clone()), Err),
        (Some(path), Some((system, _))) => read_roots(path, system).map(Arc::new).map_err(|trouble| format!("CA file {trouble}")),
    };
    let authorities = roots.clone().unwrap_or_else(|_| RootCertStore::empty().into());
    Known { stamps, config: roots.and_then(|roots| client_config(tls, roots, reach)), authorities }
}

fn load_system() -> (Arc<RootCertStore>, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let why = match found.errors.first() {
        _ if !roots.is_empty() => None,
        Some(error) => Some(format!("no root certificates on this machine: {error}")),
        None => Some("no root certificates on this machine: install them (package ca-certificates) or name a `ca` file".to_owned()),
    };
    (Arc::new(roots), why)
}

fn read_roots(path: &Path, system: &RootCertStore) -> Result<RootCertStore, Trouble> {
    let mut roots = system.clone();
    add_authorities(&mut roots, path)?;
    Ok(roots)
}

fn read_client(client: &ClientCertificate, reach: &Reach) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(&client.certificate).map_err(|trouble| format!("client certificate {trouble}"))?;
    Ok((chain, private_key_within(reach, &client.key).map_err(|trouble| format!("client key {trouble}"))?))
}

const TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match least {
        TlsVersion::Tls12 => ALL_VERSIONS,
        TlsVersion::Tls13 => TLS13_ALONE,
    }
}

fn client_config(tls: &TlsCheck, roots: Arc<RootCertStore>, reach: &Reach) -> Result<(ClientConfig, Arc<dyn Judge>), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions(tls.min_version)).map_err(|error| error.to_string())?;
    let judge: Arc<dyn Judge> = match tls.insecure {
        true => Arc::new(Anybody),
        false => {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| error.to_string())?;
            Arc::new(Remembering::new(verifier))
        }
    };
    // Trusts nobody: each check puts a judge of its own in its place.
    let builder = builder.with_root_certificates(RootCertStore::empty());
    let mut config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = read_client(client, reach)?;
            let pair = builder.with_client_auth_cert(chain, key);
            pair.map_err(|error| format!("{} and {}: {}", client.certificate.display(), client.key.display(), words::material(&error)))?
        }
    };
    config.resumption = Resumption::disabled();
    Ok((config, judge))
}

/// Notes the certificates that a peer shows, whatever comes of it: one that has just expired is the one whose end matters. Of each check its own.
#[derive(Debug)]
struct Noting {
    judge: Arc<dyn Judge>,
    authorities: Arc<RootCertStore>,
    progress: Arc<Progress>,
}

impl Judge for Noting {
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error> {
        self.progress.note_certificate(presented, &self.authorities);
        let own = self.progress.own_name();
        self.judge.judge(&Presented { name: own.as_ref().unwrap_or(presented.name), ..*presented })
    }
}

/// Notes that a peer asks for a certificate, whether there is one or not.
#[derive(Debug)]
struct NotingAsked {
    resolver: Arc<dyn ResolvesClientCert>,
    progress: Arc<Progress>,
}

impl ResolvesClientCert for NotingAsked {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.progress.asked_for_certificate();
        self.resolver.resolve(authorities, schemes)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.resolver.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.resolver.has_certs()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::control::api::CheckTarget;
    use crate::health::{Thresholds, Watch};
    use crate::policy::model::{HttpCheck, Monitor, MonitorKind};

    fn tls(ca: Option<&Path>) -> TlsCheck {
        TlsCheck { ca: ca.map(Path::to_owned), ..TlsCheck::default() }
    }

    fn spec(tls: TlsCheck) -> CheckSpec {
        let check = HttpCheck { path: "/".into(), host: "app.example".into(), status: vec![(200, 299)], ..HttpCheck::default() };
        let second = Duration::from_secs(1);
        CheckSpec {
            target: CheckTarget::Address([127, 0, 0, 1].into()),
            monitor: Monitor {
                name: String::new(),
                kind: MonitorKind::Https { check, tls },
                port: 443,
                thresholds: Thresholds { interval: second, fast: second, fall: 1, rise: 1 },
                timeout: second,
                source: Vec::new(),
                watch: Watch::default(),
            },
        }
    }

    fn pair() -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["app.example".into()]);
        (params.and_then(|params| params.self_signed(&key)).expect("a certificate").pem(), key.serialize_pem())
    }

    #[test]
    fn bad_ca_files_say_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let check = |name: &str, content: Option<&[u8]>, words: &str| {
            let path = dir.path().join(name);
            if let Some(content) = content {
                fs::write(&path, content).expect("written");
            }
            let roots = TlsRoots::load(&[spec(tls(Some(&path)))], &TlsRoots::default(), &Arc::default());
            let error = roots.config(&tls(Some(&path)), &Arc::default()).expect_err(name);
            assert!(error.contains(name) && error.contains(words), "{error}");
            assert!(!roots.is_current(), "worth another look");
        };
        check("missing.pem", None, "no such file");
        check("empty.pem", Some(b""), "found no certificate");
        check("text.pem", Some(b"hello"), "found no certificate");
        check("key.pem", Some(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "found no certificate");
        check("rubbish.pem", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "certificate 1");
        check("cut.pem", Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n"), "certificate 1");
        check("huge.pem", Some(&vec![b'\n'; (1 << 20) + 1]), "larger than");
        fs::create_dir(dir.path().join("folder.pem")).expect("a folder");
        check("folder.pem", None, "not a regular file");
    }

    #[test]
    fn bad_client_certificates_say_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a folder");
        let (certificate, key) = pair();
        let reach = Arc::new(Reach { zones: Some(dir.path().into()), ..Reach::default() });
        let check = |certificate: &str, key: &str, words: &str| {
            let client = ClientCertificate { certificate: dir.path().join("client.pem"), key: dir.path().join("client.key") };
            fs::write(&client.certificate, certificate).expect("written");
            fs::write(&client.key, key).expect("written");
            let wanted = TlsCheck { insecure: true, client: Some(Box::new(client)), ..TlsCheck::default() };
            let roots = TlsRoots::load(&[spec(wanted.clone())], &TlsRoots::default(), &reach);
            assert!(roots.system.is_none(), "nobody verifies");
            match (roots.config(&wanted, &Arc::default()), words) {
                (Ok(_), "") => assert!(roots.is_current()),
                (Err(error), words) if !words.is_empty() => assert!(error.contains(words), "{error}"),
                (found, _) => panic!("{:?}, expected {words:?}", found.err()),
            }
        };
        check(&certificate, &key, "");
        check("", &key, "client.pem: found no certificate");
        check(&certificate, "", "client.key: no private key");
        check(&certificate, &certificate, "client.key: no private key");
        check(&certificate, &pair().1, "client.key: ");
    }

    #[test]
    fn a_replaced_file_is_noticed_and_an_unchanged_one_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ca.pem");
        fs::write(&path, pair().0).expect("written");
        let wanted = tls(Some(&path));
        let specs = [spec(wanted.clone()), spec(tls(None)), spec(wanted.clone())];
        let first = TlsRoots::load(&specs, &TlsRoots::default(), &Arc::default());
        assert!(first.config(&wanted, &Arc::default()).is_ok() && first.known[&wanted].is_current());
        let second = TlsRoots::load(&specs, &first, &Arc::default());
        assert_eq!(second.known[&wanted].stamps, first.known[&wanted].stamps);
        fs::write(&path, pair().0 + &pair().0).expect("written");
        assert!(!second.is_current());
        let third = TlsRoots::load(&specs, &second, &Arc::default());
        assert!(third.known[&wanted].is_current() && third.config(&wanted, &Arc::default()).is_ok());
        fs::remove_file(&path).expect("removed");
        assert!(!third.is_current());
    }

    #[test]
    fn nothing_is_read_without_checks_over_tls() {
        let roots = TlsRoots::load(&[], &TlsRoots::default(), &Arc::default());
        assert!(roots.system.is_none() && roots.is_current());
        assert!(roots.config(&TlsCheck::default(), &Arc::default()).is_err());
    }
}

//! Certificates that were verified a moment ago are verified again without their signatures: the same octets are signed by the same keys as before. What
//! may change with time is looked at each time: the dates of everything that the peer shows. The name is a part of what is remembered, and so are the roots,
//! since each configuration has a memory of its own. That the peer has the key is proved anew by the signature of each handshake, for no session is resumed.
//!
//! A chain costs a signature for each certificate in it; with those of P-384 in ring that is more than all the rest of a check.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::certs;
use crate::certs::verify::{Judge, Presented};

/// After this a chain is verified with all of its signatures again. Nothing makes that necessary; a memory that errs should not do so for long.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Chains that are remembered, at some hundred octets each. Beyond it all are forgotten: that costs what it costs without a memory.
const REMEMBERED_MAX: usize = 65_536;

/// All that a verdict rests on but the time: the name and every certificate, in order.
type Key = [u8; SHA256_OUTPUT_LEN];

/// Verifies as [`WebPkiServerVerifier`] does.
#[derive(Debug)]
pub(super) struct Remembering {
    verifier: Arc<WebPkiServerVerifier>,
    known: Mutex<HashMap<Key, Verified>>,
}

/// A chain that was found good.
#[derive(Clone, Copy, Debug)]
struct Verified {
    /// Unix seconds.
    at: i64,
    /// In which every certificate of it is valid.
    from: i64,
    until: i64,
}

impl Verified {
    fn holds(self, now: i64) -> bool {
        (self.from..=self.until).contains(&now) && (self.at..self.at + AGAIN_AFTER.as_secs() as i64).contains(&now)
    }
}

impl Remembering {
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>) -> Remembering {
        Remembering { verifier, known: Mutex::default() }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn key(all: &[&CertificateDer<'_>], name: &ServerName<'_>) -> Key {
    let mut context = digest::Context::new(&SHA256);
    let mut add = |octets: &[u8]| {
        context.update(&(octets.len() as u64).to_be_bytes());
        context.update(octets);
    };
    add(name.to_str().as_bytes());
    all.iter().for_each(|certificate| add(certificate));
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// In which all of them are valid; nothing where one cannot be read.
fn valid_in(all: &[&CertificateDer<'_>]) -> Option<(i64, i64)> {
    all.iter().try_fold((i64::MIN, i64::MAX), |(from, until), certificate| {
        let (begins, ends) = certs::times(certificate)?;
        Some((from.max(begins), until.min(ends)))
    })
}

impl Judge for Remembering {
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error> {
        let all: Vec<&CertificateDer<'_>> = std::iter::once(presented.certificate).chain(presented.intermediates).collect();
        let (key, at) = (key(&all, presented.name), i64::try_from(presented.now.as_secs()).unwrap_or(i64::MAX));
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(&key).is_some_and(|verified| verified.holds(at)) {
            return Ok(());
        }
        presented.judged_by(&self.verifier)?;
        if let Some((from, until)) = valid_in(&all) {
            let mut known = known();
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(key, Verified { at, from, until });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::pki_types::UnixTime;
    use rustls::{CertificateError, Error, RootCertStore};

    use super::*;

    /// Valid in the years that are given.
    fn params(name: &str, from: i32, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        params
    }

    fn authority(name: &str, from: i32, until: i32) -> CertificateParams {
        let mut params = params(name, from, until);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    struct Chain {
        root: Certificate,
        middle: Certificate,
        leaf: Certificate,
        /// The same names and keys, signed by another root.
        forged: Certificate,
    }

    fn chain() -> Chain {
        let keys = [(); 4].map(|()| KeyPair::generate().expect("a key"));
        let [root_key, middle_key, leaf_key, other_key] = &keys;
        let (root_params, middle_params) = (authority("root", 2000, 2100), authority("middle", 2020, 2030));
        let root = root_params.self_signed(root_key).expect("a root");
        let middle = middle_params.signed_by(middle_key, &Issuer::from_params(&root_params, root_key)).expect("signed");
        let sign = |key: &KeyPair| params("app.example", 2021, 2040).signed_by(leaf_key, &Issuer::from_params(&middle_params, key)).expect("signed");
        Chain { root, middle, leaf: sign(middle_key), forged: sign(other_key) }
    }

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952 + 86_400 * 30))
    }

    #[test]
    fn what_is_remembered_is_what_was_verified_and_nothing_else() {
        let chain = chain();
        let mut roots = RootCertStore::empty();
        roots.add(chain.root.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().expect("roots");
        let remembering = Remembering::new(verifier);
        let middle = [chain.middle.der().clone()];
        let verify = |leaf: &Certificate, between: &[CertificateDer<'_>], name: &str, now: UnixTime| {
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            remembering.judge(&Presented { certificate: leaf.der(), intermediates: between, name: &name, ocsp: &[], now })
        };
        let reject = |found: Result<(), Error>, what: &str| {
            let Err(Error::InvalidCertificate(why)) = found else { panic!("{what}: {found:?}") };
            why
        };
        // Nothing bad is remembered, whatever was good before.
        for _ in 0..2 {
            assert_eq!(verify(&chain.leaf, &middle, "app.example", at(2025)), Ok(()));
            assert_eq!(remembering.remembered(), 1);
            let why = reject(verify(&chain.leaf, &middle, "other.example", at(2025)), "another name");
            assert!(matches!(why, CertificateError::NotValidForNameContext { .. }), "{why:?}");
            reject(verify(&chain.forged, &middle, "app.example", at(2025)), "another key");
            reject(verify(&chain.leaf, &[], "app.example", at(2025)), "nothing between");
        }
        // Within the hour and after it, before its time and after it: the middle one ends first.
        let soon = |more: u64| UnixTime::since_unix_epoch(Duration::from_secs(at(2025).as_secs() + more));
        for more in [1, 3_599, 3_600, 86_400] {
            assert_eq!(verify(&chain.leaf, &middle, "app.example", soon(more)), Ok(()));
        }
        let early = reject(verify(&chain.leaf, &middle, "app.example", at(2019)), "too early");
        assert!(matches!(early, CertificateError::NotValidYetContext { .. }), "{early:?}");
        let late = reject(verify(&chain.leaf, &middle, "app.example", at(2031)), "too late");
        assert!(matches!(late, CertificateError::ExpiredContext { .. }), "{late:?}");
        assert_eq!((verify(&chain.leaf, &middle, "app.example", at(2025)), remembering.remembered()), (Ok(()), 1));
    }

    #[test]
    fn a_memory_holds_no_longer_than_every_certificate_and_an_hour() {
        let verified = Verified { at: 10_000, from: 5_000, until: 12_000 };
        for (now, holds) in [(9_999, false), (10_000, true), (12_000, true), (12_001, false)] {
            assert_eq!(verified.holds(now), holds, "{now}");
        }
        let verified = Verified { until: 100_000, ..verified };
        assert_eq!([13_599, 13_600].map(|now| verified.holds(now)), [true, false]);
    }
}

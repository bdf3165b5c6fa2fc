//! Who is believed. What clients of ours decide about a server's certificate is a [`Judge`]; the rest of a handshake is the same for all of them, and
//! its signature is verified whoever is believed.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::words;

/// What a server shows.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its own certificate.
    pub certificate: &'a CertificateDer<'a>,
    /// Those that lead to its authority.
    pub intermediates: &'a [CertificateDer<'a>],
    /// What it is called.
    pub name: &'a ServerName<'a>,
    /// A response of OCSP, if there is one.
    pub ocsp: &'a [u8],
    /// When it is shown.
    pub now: UnixTime,
}

impl Presented<'_> {
    /// As the library judges it.
    pub fn judged_by(&self, verifier: &WebPkiServerVerifier) -> Result<(), rustls::Error> {
        verifier.verify_server_cert(self.certificate, self.intermediates, self.name, self.ocsp, self.now).map(drop)
    }
}

/// Decides whether a server is believed.
pub trait Judge: fmt::Debug + Send + Sync {
    /// Fails for whoever is not.
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error>;
}

/// Believes whom the judge believes, and verifies what signs the handshake in any case.
#[derive(Debug)]
pub struct Verifier<J> {
    judge: J,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<J: Judge> Verifier<J> {
    /// A verifier with the algorithms of ring. Cheap: health checks make one each.
    pub fn new(judge: J) -> Verifier<J> {
        static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
            LazyLock::new(|| rustls::crypto::ring::default_provider().signature_verification_algorithms);
        Verifier { judge, algorithms: *ALGORITHMS }
    }

    /// Who decides.
    pub fn judge(&self) -> &J {
        &self.judge
    }
}

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge.judge(&Presented { certificate, intermediates, name, ocsp, now }).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes everybody.
#[derive(Clone, Copy, Debug)]
pub struct Anybody;

impl Judge for Anybody {
    fn judge(&self, _: &Presented<'_>) -> Result<(), rustls::Error> {
        Ok(())
    }
}

/// Believes servers as the roots say. A certificate that was named itself needs no authority: one that `openssl req -x509` makes calls itself an
/// authority, which no server may be for rustls.
#[derive(Debug)]
pub struct Trusting {
    roots: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    pinned: Option<CertificateDer<'static>>,
}

impl Trusting {
    /// These roots, the certificates among them that were named one by one, and one that is the server's own, whoever its authority is. `None` without
    /// any root.
    pub fn new(roots: RootCertStore, named: Vec<CertificateDer<'static>>, pinned: Option<CertificateDer<'static>>) -> Option<Trusting> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        Some(Trusting { roots, named, pinned })
    }
}

impl Judge for Trusting {
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error> {
        let judged = presented.judged_by(&self.roots);
        let certificate = presented.certificate;
        let is_unfit = matches!(judged, Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))));
        let is_unknown = matches!(judged, Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)));
        let is_believed = is_unfit && self.named.contains(certificate) || (is_unfit || is_unknown) && self.pinned.as_ref() == Some(certificate);
        let Some((since, until)) = times(certificate).filter(|_| is_believed) else { return judged };
        let now = i64::try_from(presented.now.as_secs()).unwrap_or(i64::MAX);
        if now < since {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > until {
            return Err(CertificateError::Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, presented.name)
    }
}

/// The first and the last second of a certificate's time, since 1970.
pub(crate) fn times(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Of the certificates that lead to an authority, the one that ends first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstToEnd {
    /// The first second of its time, since 1970.
    pub from: i64,
    /// The last.
    pub until: i64,
    /// What it is called, where it is not the server's own.
    pub name: Option<String>,
}

/// Certificates of a chain that are looked at: nobody needs more.
const MAX_CHAIN: usize = 8;

/// Goes from the server's certificate to an authority that is trusted, as verifying does, but by names alone: what leads nowhere, or is not needed to get
/// there, ends without harm. Of several under one name the one that ends last serves.
pub(crate) fn first_to_end(presented: &Presented<'_>, authorities: &RootCertStore) -> Option<FirstToEnd> {
    let of = |certificate: &X509Certificate<'_>| (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let (_, own) = X509Certificate::from_der(presented.certificate).ok()?;
    let (from, until) = of(&own);
    let mut first = FirstToEnd { from, until, name: None };
    let parsed = presented.intermediates.iter().take(MAX_CHAIN).filter_map(|one| X509Certificate::from_der(one).ok());
    let mut others: Vec<X509Certificate<'_>> = parsed.map(|(_, one)| one).collect();
    let mut issuer = own.issuer().as_raw().to_vec();
    while !authorities.roots.iter().any(|root| root.subject.as_ref() == content(&issuer)) {
        let above = others.iter().enumerate().filter(|(_, one)| one.subject().as_raw() == issuer);
        let Some(at) = above.max_by_key(|(_, one)| of(one).1).map(|(at, _)| at) else { break };
        let above = others.swap_remove(at);
        let (from, until) = of(&above);
        // Who signed itself is an authority, trusted or not.
        let is_authority = above.issuer().as_raw() == above.subject().as_raw();
        if until < first.until && !is_authority {
            let name = above.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
            first = FirstToEnd { from, until, name: Some(words::foreign(name.unwrap_or("without a name"))) };
        }
        if is_authority {
            break;
        }
        issuer = above.issuer().as_raw().to_vec();
    }
    Some(first)
}

/// What an element of DER holds, without its tag and length.
fn content(element: &[u8]) -> &[u8] {
    let header = match element.get(1) {
        Some(long) if long & 0x80 != 0 => 2 + usize::from(long & 0x7f),
        _ => 2,
    };
    element.get(header..).unwrap_or(&[])
}

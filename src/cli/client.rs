//! Calls to the admin listener: where it is, which token opens it, and what its replies mean for the exit code.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{Method, Url, header, redirect};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::args::{ConfigArg, Connect};
use super::{FAILED, REFUSED, UNREACHABLE, USAGE};
use crate::admin::{ACTOR_HEADER, MAX_ACTOR_LEN, Problem, Token};
use crate::certs::verify::{Trusting, Verifier};
use crate::certs::{certificates, private_key, words};
use crate::config;
use crate::control::text::misleads;
use crate::control::unix_now;

/// A server that does not take a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without a reply it is looked whether the server is alive.
const PATIENCE: Duration = Duration::from_secs(4);
/// A server that is alive says so within this.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// A reload of everything may take minutes; the listener ends connections at the same age.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// A stream of events ends by itself before.
const STREAM_TIMEOUT: Duration = Duration::from_secs(3600);
/// A status of 100,000 endpoints takes under 64 MiB; a peer that sends more is none of ours.
const MAX_REPLY_LEN: usize = 256 * 1024 * 1024;

/// Clocks that differ by no more are the same.
const SAME_S: i64 = 2;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// The arguments lead nowhere.
    Usage(String),
    /// No connection, no token, or not our server.
    Unreachable(String),
    /// The operator said no.
    Declined,
    /// What was waited for will not come.
    Ended(String),
    /// The server's own words.
    Refused(Box<Problem>),
}

impl CallError {
    /// The exit code it ends with.
    pub(super) fn code(&self) -> u8 {
        match self {
            CallError::Usage(_) => USAGE,
            CallError::Unreachable(_) => UNREACHABLE,
            CallError::Declined => REFUSED,
            CallError::Ended(_) => FAILED,
            CallError::Refused(problem) => match problem.status {
                401 | 403 => UNREACHABLE,
                409 => REFUSED,
                _ => FAILED,
            },
        }
    }

    /// The same in other words, if it is none of the server's.
    pub(super) fn saying(self, text: String) -> CallError {
        match self {
            CallError::Usage(_) => CallError::Usage(text),
            CallError::Unreachable(_) => CallError::Unreachable(text),
            CallError::Ended(_) => CallError::Ended(text),
            CallError::Declined | CallError::Refused(_) => self,
        }
    }

    /// The server's problem, if it is one.
    pub(super) fn problem(&self) -> Option<&Problem> {
        match self {
            CallError::Refused(problem) => Some(problem),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Usage(text) | CallError::Unreachable(text) | CallError::Ended(text) => f.write_str(text),
            CallError::Declined => f.write_str("nothing was changed"),
            CallError::Refused(problem) => {
                write!(f, "{}: ", problem.title)?;
                if let Some(field) = &problem.field {
                    write!(f, "{field}: ")?;
                }
                f.write_str(&problem.detail)
            }
        }
    }
}

/// A server and its token.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
    /// Why the certificate that the configuration names is not trusted.
    untrusted: Option<String>,
    /// What is wrong with the configuration that said where the server is.
    misread: Option<String>,
    /// How many seconds the server's clock is ahead of ours, as of its last reply.
    ahead: AtomicI64,
}

impl Client {
    /// Finds server and token as the arguments say.
    pub(super) fn new(config: &ConfigArg, connect: &Connect) -> Result<Client, CallError> {
        let given = connect.server.as_deref().map(parse_server).transpose()?;
        // Whoever says everything needs no configuration, whatever is wrong with it.
        let is_whole = given.as_ref().is_some_and(|base| {
            connect.token.as_deref().is_some_and(|token| !token.trim().is_empty()) && (base.scheme() == "http" || connect.ca.is_some())
        });
        let Places { listen, token: token_path, certificate, misread } = if is_whole { Places::default() } else { places(&config.path, connect)? };
        let base = match given {
            Some(base) => base,
            None => parse_server(&format!("{}://{}", if certificate.is_some() { "https" } else { "http" }, reachable(listen)))?,
        };
        // An empty variable is one that is not set.
        let token = match connect.token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
            Some(token) if token.contains(char::is_control) => {
                return Err(CallError::Usage("--token or MERIDIAN_TOKEN: found several lines, expected one token".into()));
            }
            Some(token) => Token::given(token),
            None => Token::load(&token_path).map_err(|error| {
                let misread = misread.as_ref().map_or_else(String::new, |misread| format!(" ({misread})"));
                CallError::Unreachable(format!(
                    "{error}; no token: say --token or MERIDIAN_TOKEN, or --config with the server's configuration{misread}"
                ))
            })?,
        };
        let is_tls = base.scheme() == "https";
        // One that cannot be read is for the server to complain of, unless it is missed here.
        let configured = certificate.as_deref().filter(|_| is_tls).map_or_else(|| Ok(Vec::new()), certificates);
        let (configured, untrusted) = configured.map_or_else(|why| (Vec::new(), Some(why.to_string())), |configured| (configured, None));
        let http = http_client(is_tls, connect, configured).map_err(CallError::Usage)?;
        Ok(Client { http, base, token, untrusted, misread, ahead: AtomicI64::new(0) })
    }

    /// Unix seconds by the server's clock: ages and times to come in its replies go by that, wherever they are shown.
    pub(super) fn now(&self) -> u64 {
        unix_now().saturating_add_signed(self.ahead.load(Ordering::Relaxed))
    }

    /// Takes the time of a reply. It counts whole seconds, and some go by on the way: clocks that are as good as equal are equal.
    fn note_time(&self, reply: &reqwest::Response) {
        let date = reply.headers().get(header::DATE).and_then(|date| date.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok());
        if let Some(theirs) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) {
            let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
            let ahead = signed(theirs.as_secs()) - signed(unix_now());
            self.ahead.store(if ahead.abs() <= SAME_S { 0 } else { ahead }, Ordering::Relaxed);
        }
    }

    /// One call; the reply's JSON if it went well. `path` begins with `/v1/`.
    ///
    /// A change may take its time (a reload of everything, minutes), but a server that answers nothing else meanwhile is gone.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Value, CallError> {
        let is_change = call.method != Method::GET;
        tokio::select! {
            reply = self.ask(call) => reply,
            () = self.silence() => {
                let seconds = (PATIENCE + LOOK_TIMEOUT).as_secs();
                let change = if is_change { "; if it has the request, it may still make the change when it goes on: look before it is made again" } else { "" };
                Err(CallError::Unreachable(format!("{}: no reply within {seconds} s: it takes connections, but answers nothing{change}", self.base)))
            }
        }
    }

    /// Ends once the server does not even say that it is alive.
    async fn silence(&self) {
        let mut url = self.base.clone();
        url.set_path("/healthz");
        loop {
            tokio::time::sleep(PATIENCE).await;
            let look = self.http.get(url.clone()).bearer_auth(self.token.secret().unwrap_or("")).timeout(LOOK_TIMEOUT).send();
            if look.await.is_err() {
                return;
            }
        }
    }

    async fn ask(&self, call: Call<'_>) -> Result<Value, CallError> {
        let mut url = self.base.clone();
        url.set_path(call.path);
        let mut request = self.http.request(call.method, url).query(call.query).bearer_auth(self.token.secret().unwrap_or(""));
        if let Some(actor) = call.actor {
            request = request.header(ACTOR_HEADER, actor_name(actor));
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        self.note_time(&response);
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_REPLY_LEN {
                return Err(CallError::Unreachable(format!("{}: the reply does not end", self.base)));
            }
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.stranger(status.as_u16()));
        }
        let problem = serde_json::from_slice::<Problem>(&body).map_err(|_| self.stranger(status.as_u16()))?;
        Err(CallError::Refused(Box::new(problem)))
    }

    /// A stream of events that go on behind `last`.
    pub(super) async fn stream(&self, path: &str, query: &[(&str, &str)], last: Option<u64>) -> Result<reqwest::Response, CallError> {
        let mut url = self.base.clone();
        url.set_path(path);
        let mut request = self.http.get(url).query(query).bearer_auth(self.token.secret().unwrap_or("")).timeout(STREAM_TIMEOUT);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let sent = tokio::time::timeout(PATIENCE + LOOK_TIMEOUT, request.send()).await;
        let silent = |_| CallError::Unreachable(format!("{}: no reply: it takes connections, but answers nothing", self.base));
        let response = sent.map_err(silent)?.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let problem = serde_json::from_slice::<Problem>(&body).map_err(|_| self.stranger(status.as_u16()))?;
        Err(CallError::Refused(Box::new(problem)))
    }

    fn stranger(&self, status: u16) -> CallError {
        CallError::Unreachable(format!("{}: found a reply (status {status}) that is not from a Meridian admin listener", self.base))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        // The last cause is the system's ("Connection refused"); the ones above repeat the URL.
        let mut cause: &dyn std::error::Error = error;
        while let Some(below) = cause.source() {
            cause = below;
        }
        let cause = cause.to_string();
        let mut text = format!("{}: no reply: {}", self.base, in_words(self.base.scheme() == "https", &cause));
        if let Some(why) = self.untrusted.as_ref().filter(|_| text.ends_with(SAY_CA)) {
            text.push_str(&format!(" (the one that the configuration names cannot be used: {why})"));
        }
        if let Some(misread) = &self.misread {
            text.push_str(&format!(" ({misread})"));
        }
        CallError::Unreachable(text)
    }
}

/// What to do about a certificate that nothing here vouches for.
const SAY_CA: &str = "say --ca FILE";

/// Why a connection came to nothing and what to do, from the words of rustls and hyper.
fn in_words(tls: bool, cause: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    match tls {
        true if says(&[
            "alert: UnknownCA",
            "alert: BadCertificate",
            "alert: UnsupportedCertificate",
            "alert: CertificateUnknown",
            "alert: DecryptError",
        ]) =>
        {
            "it does not take the certificate of --cert: say one of an authority that its admin.tls.client_ca names".into()
        }
        true if says(&["alert: CertificateExpired", "alert: CertificateRevoked"]) => {
            "the certificate of --cert has expired or was revoked: renew it".into()
        }
        true if says(&["UnknownIssuer", "BadSignature"]) => format!("its certificate is of an authority that is not known here: {SAY_CA}"),
        true if says(&["CaUsedAsEndEntity"]) => format!("its certificate signed itself, and is not known here: {SAY_CA}"),
        true if says(&["NotValidForName", "not valid for name"]) => {
            "its certificate is for another name: say --server with a name or address that is in it".into()
        }
        true if says(&["certificate expired", "Expired"]) => "its certificate has expired: renew it (admin.tls)".into(),
        true if says(&["NotValidYet", "not valid yet"]) => "its certificate is not valid yet: look at the clocks, here and there".into(),
        true if says(&["invalid peer certificate"]) => {
            // The name of the fault is all that a program's words say.
            let fault = cause.rsplit([' ', '(']).next().unwrap_or_default().trim_end_matches(')');
            format!("its certificate cannot be used ({fault}): renew it (admin.tls)")
        }
        true if says(&["CertificateRequired", "HandshakeFailure", "AccessDenied"]) => "it asks for a certificate: say --cert and --key".into(),
        true if says(&["InvalidContentType", "corrupt message"]) => "it does not speak TLS there: say http:// instead of https://".into(),
        false if says(&["invalid HTTP version", "message head", "closed before message completed", "connection closed", "reset by peer"]) => {
            format!("{cause}; if the listener has admin.tls, say https:// instead of http://")
        }
        _ => format!("{cause}; is the server running?"),
    }
}

/// What is asked.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) actor: Option<&'a str>,
    pub(super) body: Option<Value>,
}

impl<'a> Call<'a> {
    /// A request without query, body or actor.
    pub(super) fn new(method: Method, path: &'a str) -> Call<'a> {
        Call { method, path, query: &[], actor: None, body: None }
    }
}

/// What the configuration says to clients.
struct Places {
    /// The listener.
    listen: SocketAddr,
    token: PathBuf,
    /// Of the listener, if it speaks TLS.
    certificate: Option<PathBuf>,
    /// The first thing that is wrong with it.
    misread: Option<String>,
}

impl Default for Places {
    /// Nothing that leads anywhere.
    fn default() -> Places {
        Places { listen: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0), token: PathBuf::new(), certificate: None, misread: None }
    }
}

/// Where the configuration puts the listener and the token. Without a configuration file the defaults hold; faults elsewhere in it do not matter
/// to a client.
fn places(path: &Path, connect: &Connect) -> Result<Places, CallError> {
    if connect.server.is_none() && !path.is_file() {
        let text = format!("{}: no such file; say --config with the server's configuration, or --server", path.display());
        return Err(CallError::Usage(text));
    }
    let (settings, problems) = config::load_settings_alone(&config::OsFiles, path);
    let misread = problems.iter().find(|problem| problem.severity == config::Severity::Error);
    let misread =
        misread.map(|problem| format!("where it listens may have been misread: {}", problem.to_string().lines().next().unwrap_or_default()));
    if connect.server.is_none() && !settings.admin_enabled {
        return Err(CallError::Unreachable(format!("{}: admin.enabled is false; there is no listener to talk to", path.display())));
    }
    let certificate = settings.admin.tls.map(|tls| tls.certificate);
    Ok(Places { listen: settings.admin_listen, token: Token::path_beside(&settings.state_path), certificate, misread })
}

/// An address that can be connected to: a listener on every address is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A URL with a scheme and a host; `http://` may be left out.
fn parse_server(server: &str) -> Result<Url, CallError> {
    let bad = |detail: &str| CallError::Usage(format!("--server: found {server:?}, expected a URL such as http://127.0.0.1:8053{detail}"));
    let whole = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let url = Url::parse(&whole).map_err(|error| bad(&format!(" ({error})")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    match url.scheme() {
        "http" | "https" if url.has_host() && plain && url.path() == "/" => Ok(url),
        _ => Err(bad("")),
    }
}

/// No proxy and no redirects: the token goes to the server and nowhere else. Roots are read only where TLS is spoken.
fn http_client(tls: bool, connect: &Connect, configured: Vec<CertificateDer<'static>>) -> Result<reqwest::Client, String> {
    // Whoever can read the server's configuration may trust what it names.
    let (mut roots, mut named) = (RootCertStore::empty(), configured);
    // The first is the server's own; those behind it lead to its authority.
    let pinned = named.first().cloned();
    if tls {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &connect.ca {
            named.extend(certificates(path).map_err(|trouble| trouble.to_string())?);
        }
        roots.add_parsable_certificates(named.iter().cloned());
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = match Trusting::new(roots, named, pinned) {
        Some(trusting) => tls.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::new(trusting))),
        None => tls.with_root_certificates(RootCertStore::empty()),
    };
    let tls = match (&connect.cert, &connect.key) {
        (Some(cert), Some(key)) => {
            let read = certificates(cert).and_then(|chain| Ok((chain, private_key(key)?)));
            let (chain, private) = read.map_err(|trouble| trouble.to_string())?;
            let pair = tls.with_client_auth_cert(chain, private);
            pair.map_err(|error| format!("{} and {}: {}", cert.display(), key.display(), words::material(&error)))?
        }
        _ => tls.with_no_client_auth(),
    };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())
}

/// What a name has escaped beside all that is not ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// A name as the header takes it: `%XX` for each octet of what is not ASCII, a question mark for what would not be shown as it is.
fn actor_name(name: &str) -> String {
    let name: String = name.trim().chars().take(MAX_ACTOR_LEN).map(|char| if misleads(char) { '?' } else { char }).collect();
    utf8_percent_encode(&name, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_or_addresses() {
        for (server, url) in [
            ("http://127.0.0.1:8053", "http://127.0.0.1:8053/"),
            ("127.0.0.1:8053", "http://127.0.0.1:8053/"),
            ("[::1]:8053", "http://[::1]:8053/"),
            ("https://dns.example/", "https://dns.example/"),
        ] {
            assert_eq!(parse_server(server).expect(server).as_str(), url);
        }
        for server in ["", "ftp://x", "http://", "http://x/y", "http://a:b@x", "http://x?token=y", "http://x#y", "127.0.0.1:99999", "unix:///run/x"] {
            assert!(matches!(parse_server(server), Err(CallError::Usage(_))), "{server}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        for (listen, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")] {
            assert_eq!(reachable(listen.parse().expect(listen)).to_string(), reached);
        }
    }

    #[test]
    fn why_there_is_no_reply_is_said_in_words() {
        for (tls, cause, words) in [
            (true, "invalid peer certificate: UnknownIssuer", "its certificate is of an authority that is not known here: say --ca FILE"),
            (
                true,
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "its certificate signed itself, and is not known here: say --ca FILE",
            ),
            (true, "invalid peer certificate: Other(OtherError(BadDer))", "its certificate cannot be used (BadDer): renew it (admin.tls)"),
            (true, "invalid peer certificate: BadEncoding", "its certificate cannot be used (BadEncoding): renew it (admin.tls)"),
            (true, "invalid peer certificate: certificate expired: verification time 9", "its certificate has expired: renew it (admin.tls)"),
            (true, "received corrupt message of type InvalidContentType", "it does not speak TLS there: say http:// instead of https://"),
            (
                true,
                "received fatal alert: UnknownCA",
                "it does not take the certificate of --cert: say one of an authority that its admin.tls.client_ca names",
            ),
            (true, "received fatal alert: CertificateExpired", "the certificate of --cert has expired or was revoked: renew it"),
            (false, "Connection refused (os error 111)", "Connection refused (os error 111); is the server running?"),
        ] {
            assert_eq!(in_words(tls, cause), words);
        }
    }

    #[test]
    fn names_fit_the_header() {
        for (name, header) in [("ada", "ada"), ("Zoë\n", "Zo%C3%AB"), ("50 %", "50 %25"), ("a\r\nb", "a??b"), (&"x".repeat(200), &"x".repeat(100))] {
            assert_eq!(actor_name(name), header);
        }
    }
}

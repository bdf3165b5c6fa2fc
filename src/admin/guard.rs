//! Who may pass: a token for everything, nothing for health and metrics asked from loopback. Every reply is counted and marked here, and every
//! refusal of a change, and of a stranger, goes into the audit log.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::places::Place;
use super::{ACTOR_HEADER, MAX_ACTOR_LEN, Problem, Shared, asked};
use crate::certs::words::of_client;
use crate::control::api::MAX_REASON_CHARS;
use crate::control::audit::Entry;
use crate::control::text::{MAX_TARGET_CHARS, hides, misleads};
use crate::control::tokens::{FILE_TOKEN, reserved};
use crate::control::{Role, Who, unix_now};

/// Paths that loopback may ask without a token, to the letter.
const FREE_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// Characters of a path that the audit log keeps.
const MAX_KEPT_PATH: usize = 120;
/// Characters of what a problem says that it keeps: some repeat what was sent.
const MAX_KEPT_DETAIL: usize = 2000;

/// Whoever made the request, as the listener saw them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Peer {
    /// IPv4 hidden in IPv6 counts as what it is.
    pub(super) fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

/// What a request tries to change, and why, as far as it has been read: the audit log names it if the request is refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt(Arc<Mutex<(String, Option<String>)>>);

impl Attempt {
    /// The request is about `target`.
    pub(super) fn of(&self, target: &str, reason: Option<&str>) {
        // Nobody has looked yet whether they are of a length that makes sense.
        let kept = |text: &str, limit| text.chars().take(limit).collect::<String>();
        let said = (kept(target, MAX_TARGET_CHARS), reason.map(|reason| kept(reason, MAX_REASON_CHARS)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    fn take(&self) -> (String, Option<String>) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Lets a request through or answers it.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map(|peer| peer.ip());
    let free = from.is_some_and(|from| from.is_loopback()) && FREE_PATHS.contains(&request.uri().path());
    let began = Instant::now();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let (action, target) = attempted(request.method(), request.uri().path());
    let attempt = Attempt::default();
    attempt.of(&target, None);
    let named = names_host(&request).map_err(|problem| Box::new((nobody(from), problem)));
    let checked = named.and_then(|()| identify(&shared, request.headers(), from, free));
    let who = checked.as_ref().map_or_else(|refused| refused.0.clone(), Who::clone);
    let mut response = match checked {
        Ok(who) => {
            if let Some(place) = request.extensions().get::<Arc<Place>>().filter(|_| !who.token.is_empty()) {
                place.known(&who.token);
            }
            request.extensions_mut().insert(who);
            request.extensions_mut().insert(attempt.clone());
            next.run(request).await
        }
        Err(refused) => refused.1.into_response(),
    };
    let status = response.status().as_u16();
    if status == 401 {
        shared.registry.operations().admin_unauthorised.fetch_add(1, Relaxed);
    }
    // Strangers are told to slow down before anybody looks what they want.
    let stranger = status == 429 && who.token.is_empty() && !free;
    if status >= 400 && (changes || stranger || matches!(status, 401 | 403)) {
        keep_refusal(&shared, &who, &action, &attempt, response.extensions().get::<Problem>()).await;
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    shared.registry.operations().requests[usize::from(changes)].observe(began.elapsed());
    if let Some(count) = shared.registry.operations().admin_replies.get(usize::from(status / 100)) {
        count.fetch_add(1, Relaxed);
    }
    response
}

/// Lets everybody through, at their rate: on a listener for health and metrics alone.
pub(super) async fn open_guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map(|peer| peer.ip());
    if let Err(wait) = shared.limiter.known(from, "", Instant::now()) {
        return Problem::too_many(wait).into_response();
    }
    if let Err(problem) = names_host(&request) {
        return problem.into_response();
    }
    request.extensions_mut().insert(nobody(from));
    next.run(request).await
}

/// RFC 9112 §3.2: a request of HTTP/1.1 names its host, once, and as a host.
fn names_host(request: &Request) -> Result<(), Problem> {
    let host = asked::one(request.headers(), &HOST, "Host")?;
    let detail = match host {
        None if request.version() < Version::HTTP_11 => return Ok(()),
        None => "Host: found none, expected one: HTTP/1.1 needs it".to_owned(),
        // Without a host of its own a target is written with an empty one.
        Some(host) if host.is_empty() || host.to_str().is_ok_and(|host| host.parse::<Authority>().is_ok()) => return Ok(()),
        Some(host) => format!("Host: found {host:?}, expected a name or address, perhaps with a port"),
    };
    Err(Problem::bad_request("bad-header", detail).field("Host"))
}

/// Whose request it is, if they may make one now; else whose it is, as far as that is known, and why not.
fn identify(shared: &Shared, headers: &HeaderMap, from: Option<IpAddr>, free: bool) -> Result<Who, Box<(Who, Problem)>> {
    let who = if free {
        // Free paths change nothing: whoever asks them is nobody in particular.
        nobody(from)
    } else {
        authorise(shared, headers, from).map_err(|problem| {
            let slower = shared.limiter.stranger(from, Instant::now()).err();
            Box::new((nobody(from), slower.map_or(problem, Problem::too_many)))
        })?
    };
    let refused = |problem| Box::new((who.clone(), problem));
    let name = actor(headers, &who.token);
    shared.limiter.known(from, &who.token, Instant::now()).map_err(|wait| {
        let named = name.as_ref().ok().cloned().flatten().unwrap_or_else(|| who.name.clone());
        Box::new((Who { name: named, ..who.clone() }, Problem::too_many(wait)))
    })?;
    match name.map_err(refused)? {
        Some(name) => Ok(Who { name, ..who }),
        None => Ok(who),
    }
}

/// Somebody without a token.
fn nobody(from: Option<IpAddr>) -> Who {
    Who { name: String::new(), token: String::new(), role: Role::Read, zones: None, from, reason: None }
}

/// Exactly one `Authorization: Bearer TOKEN`; nothing else counts, a token in the query least of all.
fn authorise(shared: &Shared, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Who, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorised("expected one header \"Authorization: Bearer TOKEN\""));
    };
    let offered = match value.as_bytes().split_at_checked(7) {
        Some((scheme, offered)) if scheme.eq_ignore_ascii_case(b"bearer ") => offered.trim_ascii(),
        _ => return Err(Problem::unauthorised("Authorization: expected the scheme Bearer")),
    };
    if shared.token.matches(offered) {
        return Ok(Who { name: FILE_TOKEN.into(), token: FILE_TOKEN.into(), role: Role::Admin, ..nobody(from) });
    }
    let now = unix_now();
    match shared.handle.tokens().look_up(offered, now) {
        Ok(info) => {
            shared.handle.tokens().used(&info.id, now, from);
            Ok(Who { name: info.name, token: info.id, role: info.role, zones: info.zones, from, reason: None })
        }
        Err(denied) => Err(Problem::unauthorised(denied.words())),
    }
}

/// Whom the header says acts. What `%XX` stands for is meant, as long as it is UTF-8 that can be shown. Nobody else is the program itself.
fn actor(headers: &HeaderMap, token: &str) -> Result<Option<String>, Problem> {
    let bad = |detail: String| Err(Problem::bad_request("bad-header", format!("Meridian-Actor: {detail}")).field("Meridian-Actor"));
    let Some(value) = asked::one(headers, &HeaderName::from_static(ACTOR_HEADER), "Meridian-Actor")? else { return Ok(None) };
    let shown = |name: &str| !name.trim().is_empty() && !name.contains(|char| misleads(char) || hides(char));
    let name = asked::visible(value).map(|raw| {
        let decoded = percent_decode_str(raw).decode_utf8().ok().filter(|name| shown(name));
        decoded.map_or_else(|| raw.trim().to_owned(), |name| name.trim().to_owned())
    });
    match name {
        Some(name) if (1..=MAX_ACTOR_LEN).contains(&name.chars().count()) => match reserved(&name) {
            Some(why) if (&*name, token) != (FILE_TOKEN, FILE_TOKEN) => bad(why),
            _ => Ok(Some(name)),
        },
        _ => bad(format!("expected 1 to {MAX_ACTOR_LEN} visible characters, those beyond ASCII as the %XX of their UTF-8")),
    }
}

/// What a request is about in the words of the audit log, as far as its first line tells: action and target.
///
/// ```text
/// POST   /v1/overlays              overlay.lay       (the body tells)
/// DELETE /v1/overlays/7            overlay.revert    overlay 7
/// PATCH  /v1/overlays/7            overlay.amend     overlay 7
/// POST   /v1/overlays/7/promote    overlay.promote   overlay 7
/// POST   /v1/reload                reload
/// POST   /v1/failback              failback
/// POST   /v1/signals               signals           (the body tells)
/// POST   /v1/tokens                token.create
/// DELETE /v1/tokens/ab             token.revoke      token ab
/// PATCH  /v1/pools/a/b             overlay.lay       (the handler tells)
/// any other                        as it was written
/// ```
fn attempted(method: &Method, path: &str) -> (String, String) {
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let kept = |text: &str| text.chars().take(MAX_KEPT_PATH).collect::<String>();
    let of = |action: &str, target: String| (action.to_owned(), kept(&target));
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["v1", "overlays"]) => of("overlay.lay", String::new()),
        ("DELETE", ["v1", "overlays", id]) => of("overlay.revert", format!("overlay {id}")),
        ("PATCH", ["v1", "overlays", id]) => of("overlay.amend", format!("overlay {id}")),
        ("POST", ["v1", "overlays", id, "promote"]) => of("overlay.promote", format!("overlay {id}")),
        ("POST", ["v1", verb @ ("reload" | "failback" | "signals")]) => of(verb, String::new()),
        ("POST", ["v1", "tokens"]) => of("token.create", String::new()),
        ("DELETE", ["v1", "tokens", id]) => of("token.revoke", format!("token {id}")),
        ("PATCH", ["v1", "zones" | "policies" | "pools" | "endpoints" | "regions", ..]) => of("overlay.lay", String::new()),
        _ => (kept(&format!("{method} {path}")), String::new()),
    }
}

/// Keeps that a request was refused. Those of strangers, and reports, are kept as long as they come slowly; then they are counted, and the next one that is
/// kept tells how many.
async fn keep_refusal(shared: &Shared, who: &Who, action: &str, attempt: &Attempt, problem: Option<&Problem>) {
    let mut detail = problem.map_or(String::new(), |problem| problem.detail.chars().take(MAX_KEPT_DETAIL).collect());
    // Agents report every second, and go on when they are refused.
    let known = !who.token.is_empty() && action != "signals" && problem.is_none_or(|problem| problem.status != 429);
    if !known {
        if !shared.limiter.may_keep(Instant::now()) {
            shared.not_kept.fetch_add(1, Relaxed);
            return;
        }
        let missed = shared.not_kept.swap(0, Relaxed);
        if missed > 0 {
            detail = format!("{detail}; {missed} more before it were not kept");
        }
    }
    let outcome = problem.map_or("refused", |problem| problem.kind.trim_start_matches("urn:meridian:"));
    let (target, reason) = attempt.take();
    let entry = Entry::refused(who, action, &target, unix_now(), outcome, &detail);
    shared.handle.refused(Entry { reason, ..entry }).await;
}

/// A client that showed no certificate, or not one of the authorities of `admin.tls.client_ca`: its connection has ended before it could ask anything.
pub(super) async fn keep_unknown_client(shared: &Shared, from: Peer, error: &std::io::Error) {
    let found = match error.get_ref().and_then(|why| why.downcast_ref()) {
        Some(rustls::Error::NoCertificatesPresented) => "none".to_owned(),
        Some(why @ rustls::Error::InvalidCertificate(_)) => of_client(why),
        _ => return,
    };
    let detail = format!("certificate of the client: found {found}, expected one of an authority in admin.tls.client_ca");
    shared.registry.operations().admin_unauthorised.fetch_add(1, Relaxed);
    keep_refusal(shared, &nobody(Some(from.ip())), "connect", &Attempt::default(), Some(&Problem::unauthorised(&detail))).await;
}

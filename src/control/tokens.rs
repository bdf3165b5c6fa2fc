//! Tokens: who may ask what. The set is changed by the single writer alone; the admin listener looks offered tokens up and notes their use.
//!
//! A token reads `meridian_ID_SECRET`: the id (8 hexadecimal digits) finds it and may be shown, the secret is 256 random bits as 43 characters of
//! base64url. Kept is only the SHA-256 of the whole. A slow hash such as Argon2 protects what people choose, by making each guess dear; against
//! 2²⁵⁶ equally likely secrets no speed of guessing helps, and each request would pay for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, RwLock};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::api::Refusal;
use super::text::{check_expiry, check_optional_reason, seen};
use super::who::{ITSELF, Role, SIGNAL};
use crate::dns::Name;

/// Makes a token recognisable to secret scanners.
const PREFIX: &str = "meridian_";
/// Characters of an id.
const ID_LEN: usize = 8;
/// Random octets of a secret.
const SECRET_LEN: usize = 32;
/// Tokens at once, ended ones included: people and programs, not sessions.
pub const MAX_TOKENS: usize = 1000;
/// Characters of a name.
pub const MAX_NAME_LEN: usize = 100;
/// Zones of a scope.
const MAX_ZONES: usize = 100;
/// How long a token is good for when nothing is said: long enough for automation, short enough that forgotten ones end.
const DEFAULT_EXPIRY_S: u64 = 90 * 24 * 3600;
/// Ended tokens are listed for so long, for whoever wonders why a program was refused.
pub(super) const ENDED_FOR_S: u64 = 30 * 24 * 3600;
/// Id and name of the token in the file beside the state.
pub const FILE_TOKEN: &str = "admin";

/// Why nobody may be called so: it stands for the program itself, for whoever sends it signals, or for the token in the file.
pub fn reserved(name: &str) -> Option<String> {
    let is_taken = [ITSELF, SIGNAL, FILE_TOKEN].into_iter().any(|taken| seen(name).trim().eq_ignore_ascii_case(taken));
    is_taken.then(|| format!("found {name:?}, expected another name: the audit log means the program, a signal or the token in admin.token by it"))
}

/// What is known of a token, the secret excepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenInfo {
    /// 8 hexadecimal digits; `admin` for the token in the file.
    pub id: String,
    /// Whose it is; the actor of what it does unless the request says more.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Zones that it is confined to, without the final dot; absent for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
    /// Unix seconds.
    pub created: u64,
    /// Who made it.
    pub created_by: String,
    /// Unix seconds; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Unix seconds at which it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// Unix seconds of the last use, to about a minute after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<u64>,
    /// Where the last use came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last_from: Option<IpAddr>,
}

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SavedToken {
    /// What may be shown.
    pub info: TokenInfo,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
}

impl fmt::Debug for SavedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SavedToken({})", self.info.id)
    }
}

/// A request for a token.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whose it is; 1 to 100 visible ASCII characters.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Zones that it is confined to; absent for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
    /// A duration (`"30d"`), `"never"`, or absent for 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A token that was just made: the only time its secret is shown.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CreatedToken {
    /// What is known of it.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// The whole token, for the `Authorization` header; absent where an `Idempotency-Key` replays the reply, for it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What whoever asked may not have meant: the token is made all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreatedToken({})", self.info.id)
    }
}

/// Why an offered token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No token of this server.
    Unknown,
    /// It was good until its expiry.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl Denied {
    /// In a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Denied::Unknown => "the token is not one of this server",
            Denied::Expired => "the token has expired",
            Denied::Revoked => "the token was revoked",
        }
    }
}

/// The tokens of this server, but for the one in the file.
#[derive(Debug, Default)]
pub struct Tokens(RwLock<BTreeMap<String, Live>>);

#[derive(Debug)]
struct Live {
    saved: SavedToken,
    /// Unix seconds; 0 for never.
    used: AtomicU64,
    from: Mutex<Option<IpAddr>>,
}

impl Live {
    fn info(&self) -> TokenInfo {
        let used = self.used.load(Relaxed);
        let from = *self.from.lock().unwrap_or_else(PoisonError::into_inner);
        TokenInfo { last_used: (used > 0).then_some(used), last_from: from, ..self.saved.info.clone() }
    }
}

impl Tokens {
    /// Whose token `offered` is, at `now` (unix seconds). An unknown id takes as long as a known one, and a wrong secret as long wherever it is
    /// wrong.
    pub fn look_up(&self, offered: &[u8], now: u64) -> Result<TokenInfo, Denied> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let hash = hash_of(offered);
        let live = id_of(offered).and_then(|id| known.get(id));
        let matches: bool = live.map_or(&[0; 32], |live| &live.saved.hash).ct_eq(&hash).into();
        let Some(live) = live.filter(|_| matches) else { return Err(Denied::Unknown) };
        let info = &live.saved.info;
        ended(info, now).map_or_else(|| Ok(info.clone()), Err)
    }

    /// Why a token that was good opens nothing any more at `now` (unix seconds), by its id.
    pub fn denied(&self, id: &str, now: u64) -> Option<Denied> {
        if id == FILE_TOKEN {
            return None;
        }
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map_or(Some(Denied::Unknown), |live| ended(&live.saved.info, now))
    }

    /// Notes a use.
    pub fn used(&self, id: &str, now: u64, from: Option<IpAddr>) {
        if let Some(live) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            live.used.store(now, Relaxed);
            *live.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
        }
    }

    /// All of them, in order of age.
    pub fn list(&self) -> Vec<TokenInfo> {
        let mut all: Vec<TokenInfo> = self.0.read().unwrap_or_else(PoisonError::into_inner).values().map(Live::info).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    pub(super) fn get(&self, id: &str) -> Option<SavedToken> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).map(|live| SavedToken { info: live.info(), hash: live.saved.hash })
    }

    pub(super) fn put(&self, saved: SavedToken) {
        let used = AtomicU64::new(saved.info.last_used.unwrap_or(0));
        let live = Live { used, from: Mutex::new(saved.info.last_from), saved };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(live.saved.info.id.clone(), live);
    }

    /// Makes the set exactly these.
    pub(super) fn replace(&self, all: Vec<SavedToken>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
        all.into_iter().for_each(|saved| self.put(saved));
    }

    /// Those used since they were last kept, as they are to be kept now.
    pub(super) fn take_used(&self) -> Vec<SavedToken> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let moved = known.values_mut().filter(|live| live.used.load(Relaxed) > live.saved.info.last_used.unwrap_or(0));
        moved
            .map(|live| {
                live.saved.info = live.info();
                live.saved.clone()
            })
            .collect()
    }

    /// Forgets those that ended long before `now`; returns their ids.
    pub(super) fn forget_ended(&self, now: u64) -> Vec<String> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let ended = |info: &TokenInfo| [info.revoked, info.expires].into_iter().flatten().any(|at| at + ENDED_FOR_S <= now);
        known.extract_if(.., |_, live| ended(&live.saved.info)).map(|(id, _)| id).collect()
    }
}

fn ended(info: &TokenInfo, now: u64) -> Option<Denied> {
    match info {
        TokenInfo { revoked: Some(_), .. } => Some(Denied::Revoked),
        TokenInfo { expires: Some(at), .. } if *at <= now => Some(Denied::Expired),
        _ => None,
    }
}

/// Checks a request and makes the token. `now` is unix seconds.
pub(super) fn admit(new: &NewToken, by: &str, now: u64, known: &Tokens) -> Result<(SavedToken, String), Refusal> {
    let invalid = |field: &str, detail: String| Err(Refusal::Invalid { field: field.into(), detail });
    let name = new.name.trim();
    if name.is_empty() || name.len() > MAX_NAME_LEN || !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return invalid("name", format!("found {:?}, expected 1 to {MAX_NAME_LEN} visible ASCII characters", new.name));
    }
    if let Some(why) = reserved(name) {
        return invalid("name", why);
    }
    let zones = match &new.zones {
        None => None,
        Some(zones) if zones.is_empty() || zones.len() > MAX_ZONES => {
            return invalid("zones", format!("found {} zones, expected 1 to {MAX_ZONES} (leave it out for all)", zones.len()));
        }
        Some(zones) => {
            let mut names = Vec::new();
            for zone in zones {
                match Name::parse_absolute(zone) {
                    Ok(name) if !name.is_root() => names.push(name.to_lowercase().to_string().trim_end_matches('.').to_owned()),
                    _ => return invalid("zones", format!("found {zone:?}, expected the name of a zone")),
                }
            }
            names.sort();
            names.dedup();
            Some(names)
        }
    };
    let expires = check_expiry(new.expires.as_deref(), now, DEFAULT_EXPIRY_S)?;
    check_optional_reason(new.reason.as_deref())?;
    if known.0.read().unwrap_or_else(PoisonError::into_inner).len() >= MAX_TOKENS {
        return invalid("name", format!("there are {MAX_TOKENS} tokens, the limit; revoked and expired ones go after 30 days"));
    }
    let Some((id, token)) = random(known) else { return Err(Refusal::Store { detail: "the system gives no random numbers".into() }) };
    let info = TokenInfo {
        id,
        name: name.into(),
        role: new.role,
        zones,
        created: now,
        created_by: by.into(),
        expires,
        revoked: None,
        last_used: None,
        last_from: None,
    };
    Ok((SavedToken { info, hash: hash_of(token.as_bytes()) }, token))
}

/// An id that is free, and a token with it.
fn random(known: &Tokens) -> Option<(String, String)> {
    let (mut id, mut secret) = ([0; ID_LEN / 2], [0; SECRET_LEN]);
    loop {
        getrandom::fill(&mut id).ok()?;
        getrandom::fill(&mut secret).ok()?;
        let id = HEXLOWER.encode(&id);
        if known.get(&id).is_none() {
            let token = format!("{PREFIX}{id}_{}", BASE64URL_NOPAD.encode(&secret));
            return Some((id, token));
        }
    }
}

fn hash_of(token: &[u8]) -> [u8; 32] {
    digest(&SHA256, token).as_ref().try_into().unwrap_or([0; 32])
}

fn id_of(offered: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(offered).ok()?.strip_prefix(PREFIX)?;
    let (id, rest) = rest.split_at_checked(ID_LEN)?;
    rest.starts_with('_').then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::instructions;

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), role: Role::Operate, zones: None, expires: None, reason: None }
    }

    #[test]
    fn a_token_opens_until_it_ends() {
        let tokens = Tokens::default();
        let (saved, secret) = admit(&NewToken { expires: Some("1h".into()), ..new("ci") }, "ada", 1000, &tokens).expect("made");
        assert!(secret.len() == 61 && secret.starts_with(&format!("meridian_{}_", saved.info.id)), "{secret}");
        assert!(!format!("{saved:?}").contains(&secret[18..]));
        assert_eq!(tokens.look_up(secret.as_bytes(), 1001), Err(Denied::Unknown), "not before it is kept");
        tokens.put(saved.clone());
        assert_eq!(tokens.look_up(secret.as_bytes(), 1001), Ok(saved.info.clone()));
        for wrong in ["", "meridian_", &secret[..60], &format!("{secret}x"), &secret.to_uppercase(), &secret[9..], "meridian_00000000_x", "ä"] {
            assert_eq!(tokens.look_up(wrong.as_bytes(), 1001), Err(Denied::Unknown), "{wrong}");
        }
        assert_eq!(tokens.look_up(secret.as_bytes(), 1000 + 3600), Err(Denied::Expired));
        let denied = |tokens: &Tokens, at| tokens.denied(&saved.info.id, at);
        assert_eq!((denied(&tokens, 1001), denied(&tokens, 4600), tokens.denied(FILE_TOKEN, 4600)), (None, Some(Denied::Expired), None));
        tokens.put(SavedToken { info: TokenInfo { revoked: Some(1002), ..saved.info.clone() }, hash: saved.hash });
        assert_eq!((tokens.look_up(secret.as_bytes(), 1003), denied(&tokens, 1003)), (Err(Denied::Revoked), Some(Denied::Revoked)));
        assert_eq!(tokens.forget_ended(1003), Vec::<String>::new());
        assert_eq!(tokens.forget_ended(1002 + ENDED_FOR_S), [saved.info.id]);
        assert_eq!(tokens.look_up(secret.as_bytes(), 1003), Err(Denied::Unknown));
    }

    #[inline(never)]
    fn measured(tokens: &Tokens, offered: &[u8]) -> bool {
        std::hint::black_box(tokens).look_up(std::hint::black_box(offered), 1001).is_ok()
    }

    #[test]
    fn a_wrong_secret_costs_the_same_wherever_it_is_wrong() {
        let secret = format!("{PREFIX}0123abcd_{}", "s".repeat(43));
        if let Some(offered) = instructions::input() {
            let tokens = Tokens::default();
            let (saved, _) = admit(&new("ci"), "ada", 1000, &tokens).expect("made");
            tokens.put(SavedToken { info: TokenInfo { id: "0123abcd".into(), ..saved.info }, hash: hash_of(secret.as_bytes()) });
            std::hint::black_box(measured(&tokens, offered.as_bytes()));
            return;
        }
        let count = |offered: &str| instructions::counted("control::tokens::tests::a_wrong_secret_costs_the_same_wherever_it_is_wrong", offered);
        let wrong_at = |at: usize| secret.char_indices().map(|(index, char)| if index == at { 'x' } else { char }).collect::<String>();
        let counts: Vec<u64> = [18, 40, secret.len() - 1].into_iter().map(|at| count(&wrong_at(at))).collect();
        assert!(counts.iter().all(|one| *one == counts[0] && *one > 1000), "{counts:?}");
    }

    #[test]
    fn use_is_noted_and_kept_once() {
        let tokens = Tokens::default();
        let (saved, _) = admit(&new("ci"), "ada", 1000, &tokens).expect("made");
        let id = saved.info.id.clone();
        tokens.put(saved);
        assert!(tokens.take_used().is_empty());
        tokens.used(&id, 1005, Some([192, 0, 2, 1].into()));
        let kept = tokens.take_used();
        assert_eq!((kept[0].info.last_used, kept[0].info.last_from), (Some(1005), Some([192, 0, 2, 1].into())));
        assert!(tokens.take_used().is_empty());
        assert_eq!(tokens.list()[0].last_used, Some(1005));
    }

    #[test]
    fn bad_requests_name_their_field() {
        let zones = |zones: &[&str]| NewToken { zones: Some(zones.iter().map(ToString::to_string).collect()), ..new("x") };
        let expires = |text: &str| NewToken { expires: Some(text.into()), ..new("x") };
        for (request, field) in [
            (new(""), "name"),
            (new(" "), "name"),
            (new("a\nb"), "name"),
            (new("Zoë"), "name"),
            (new(&"x".repeat(101)), "name"),
            (zones(&[]), "zones"),
            (zones(&["."]), "zones"),
            (zones(&["a..b"]), "zones"),
            (new("meridian"), "name"),
            (new("Signal "), "name"),
            (new("admin"), "name"),
            (expires("soon"), "expires"),
            (expires("0s"), "expires"),
            (expires("4000d"), "expires"),
        ] {
            match admit(&request, "ada", 1000, &Tokens::default()) {
                Err(Refusal::Invalid { field: found, .. }) => assert_eq!(found, field, "{request:?}"),
                other => panic!("{request:?}: {other:?}"),
            }
        }
        let (saved, _) = admit(&zones(&["Example.COM.", "example.com", "a.example"]), "ada", 1000, &Tokens::default()).expect("made");
        assert_eq!(saved.info.zones, Some(vec!["a.example".into(), "example.com".into()]));
        let (saved, _) = admit(&zones(&["0/25.example", r"0\04725.example"]), "ada", 1000, &Tokens::default()).expect("made");
        assert_eq!(saved.info.zones, Some(vec![r"0\04725.example".into()]));
        let (saved, _) = admit(&expires("never"), "ada", 1000, &Tokens::default()).expect("made");
        assert_eq!(saved.info.expires, None);
    }
}

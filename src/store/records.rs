//! What is kept for all servers, as keys and values: overlays, the ids of those that ended, tokens, withdrawals.

use serde::{Deserialize, Serialize};

use super::shared::{Expect, Item, Transaction};
use super::{Saved, Write};
use crate::control::api::Overlay;
use crate::control::tokens::{SavedToken, TokenInfo};

const OVERLAYS: &str = "overlays/";
const ENDED: &str = "ended/";
const TOKENS: &str = "tokens/";
const WITHDRAWALS: &str = "withdrawals/";

/// How an overlay ended; its id stays taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `reverted`, `expired` or `promoted`.
    pub how: String,
    /// Who ended it.
    pub by: String,
    /// Unix seconds.
    pub at: u64,
}

#[derive(Serialize, Deserialize)]
struct Token {
    /// SHA-256, as hexadecimal digits.
    hash: String,
    info: TokenInfo,
}

/// In the order of their ids.
fn key(prefix: &str, id: u64) -> String {
    format!("{prefix}{id:020}")
}

/// The id of a key that [`key`] made.
fn id_of(prefix: &str, key: &str) -> Option<u64> {
    key.strip_prefix(prefix)?.parse().ok()
}

/// The id of an overlay's key.
pub(super) fn overlay_of(key: &str) -> Option<u64> {
    id_of(OVERLAYS, key).or_else(|| id_of(ENDED, key))
}

/// Removes the id of an overlay that ended long ago.
pub(super) fn forget_ended(id: u64) -> (String, Option<String>) {
    (key(ENDED, id), None)
}

/// Adds what a write comes to.
pub(super) fn add(write: Write, to: &mut Transaction) -> serde_json::Result<()> {
    match write {
        Write::PutOverlay(overlay) => {
            to.guards.push((key(ENDED, overlay.id), Expect::Absent));
            to.sets.push((key(OVERLAYS, overlay.id), Some(serde_json::to_string(&overlay)?)));
        }
        Write::EndOverlay { id, how, by, at } => {
            to.guards.push((key(OVERLAYS, id), Expect::Present));
            to.sets.push((key(OVERLAYS, id), None));
            to.sets.push((key(ENDED, id), Some(serde_json::to_string(&Ended { how, by, at })?)));
        }
        Write::PutToken(token) => {
            let SavedToken { info, hash } = *token;
            let hash = data_encoding::HEXLOWER.encode(&hash);
            to.sets.push((format!("{TOKENS}{}", info.id), Some(serde_json::to_string(&Token { hash, info })?)));
        }
        Write::ForgetToken(id) => to.sets.push((format!("{TOKENS}{id}"), None)),
        Write::Withdrawals { zone, at } => {
            let value = (!at.is_empty()).then(|| serde_json::to_string(&at)).transpose()?;
            to.sets.push((format!("{WITHDRAWALS}{zone}"), value));
        }
    }
    Ok(())
}

/// Takes what is kept. An overlay that cannot be read fails: what it withdraws would come back
/// unseen. A token that cannot be read opens nothing, withdrawals that cannot be read count for nothing, and a key of another program's is none of
/// ours: all of them are left as they are.
pub(super) fn take(items: Vec<Item>, saved: &mut Saved) -> serde_json::Result<()> {
    for Item { key, value, .. } in items {
        if let Some(id) = id_of(ENDED, &key) {
            saved.ended.insert(id, serde_json::from_str(&value).unwrap_or_default());
        } else if key.starts_with(OVERLAYS) {
            saved.overlays.push(serde_json::from_str::<Overlay>(&value)?);
        } else if key.starts_with(TOKENS) {
            saved.tokens.extend(token(&value));
        } else if let Some(zone) = key.strip_prefix(WITHDRAWALS) {
            let times: Vec<u64> = serde_json::from_str(&value).unwrap_or_default();
            saved.withdrawals.insert(zone.to_owned(), times);
        }
    }
    let last = saved.overlays.last().map(|overlay| overlay.id).max(saved.ended.last_key_value().map(|(id, _)| *id));
    saved.next_overlay_id = last.map_or(1, |last| last.saturating_add(1));
    Ok(())
}

fn token(value: &str) -> Option<SavedToken> {
    let Token { hash, info } = serde_json::from_str(value).ok()?;
    let hash = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok()?;
    Some(SavedToken { info, hash: hash.try_into().ok()? })
}

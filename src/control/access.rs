//! The single writer's part in access and audit: tokens made and revoked, entries kept, the log read.

use tokio::sync::oneshot;

use super::api::{Refusal, Role, Who};
use super::audit::{Entry, Page, Query};
use super::tokens::{self, CreatedToken, FILE_TOKEN, NewToken, SavedToken, TokenInfo};
use super::writer::{Done, Writer, unix_now};
use crate::store::Write;

/// A token that is in force once it is on disk.
pub(super) enum TokenChange {
    Create(SavedToken, String, oneshot::Sender<Result<CreatedToken, Refusal>>),
    Revoke(SavedToken, oneshot::Sender<Result<TokenInfo, Refusal>>),
}

impl Writer {
    /// An entry of this moment.
    pub(super) fn entry(&self, who: &Who, action: &str, target: &str) -> Entry {
        Entry { generation: Some(self.generation), reason: who.reason.clone(), ..Entry::done(who, action, target, unix_now()) }
    }

    /// Keeps an entry in the background, and logs it.
    pub(super) fn note(&self, entry: Entry) {
        log(&entry);
        self.keep_entry(entry);
    }

    /// Keeps an entry in the background.
    pub(super) fn keep_entry(&self, entry: Entry) {
        if self.store.absent().is_some() {
            return;
        }
        let (kept, done) = (self.store.change(Vec::new(), vec![entry]), self.done_sender.clone());
        tokio::spawn(async move {
            if let Err(error) = kept.await {
                let _ = done.send(Done::Trouble(error.to_string()));
            }
        });
    }

    /// Tells of entries as they reach the disk.
    pub(super) fn tell_news(&self) {
        let Some(mut kept) = self.store.kept() else { return };
        let news = self.ends.news.clone();
        tokio::spawn(async move {
            while kept.changed().await.is_ok() {
                let sequence = *kept.borrow_and_update();
                news.send_modify(|news| news.sequence = sequence);
            }
        });
    }

    /// One page of the log.
    pub(super) fn audit(&self, query: Query, reply: oneshot::Sender<Result<Page, Refusal>>) {
        let (store, queued) = (self.store.clone(), self.store.change(Vec::new(), Vec::new()));
        tokio::spawn(async move {
            // Behind what was noted before: who was just refused finds that, too.
            let page = match queued.await {
                Ok(_) => store.audit(query).await,
                Err(error) => Err(error),
            };
            let _ = reply.send(page.map_err(|error| Refusal::Store { detail: error.to_string() }));
        });
    }

    pub(super) fn create_token(&mut self, new: &NewToken, who: &Who, reply: oneshot::Sender<Result<CreatedToken, Refusal>>) {
        let made = may_give_access(who).and_then(|()| tokens::admit(new, &who.name, unix_now(), &self.ends.tokens));
        let (saved, secret) = match made {
            Ok(made) => made,
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let entry = self.entry(who, "token.create", &format!("token {}", saved.info.id));
        let entry = Entry { after: shown(&saved.info), reason: new.reason.clone(), ..entry };
        self.keep_token(TokenChange::Create(saved, secret, reply), entry);
    }

    pub(super) fn revoke_token(&mut self, id: &str, who: &Who, reply: oneshot::Sender<Result<TokenInfo, Refusal>>) {
        let found = may_give_access(who).and_then(|()| match self.ends.tokens.get(id) {
            Some(token) if token.info.revoked.is_none() => Ok(token),
            _ if id == FILE_TOKEN => {
                let detail = "the token of the file cannot be revoked here: remove admin.token beside the state and restart, and a new one is made";
                Err(Refusal::Invalid { field: "id".into(), detail: detail.into() })
            }
            _ => Err(Refusal::NotFound { what: format!("token {id:?} that is not revoked yet"), near: Vec::new() }),
        });
        match found {
            Ok(mut token) => {
                let entry = Entry { before: shown(&token.info), ..self.entry(who, "token.revoke", &format!("token {id}")) };
                token.info.revoked = Some(unix_now());
                self.keep_token(TokenChange::Revoke(token, reply), entry);
            }
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    fn keep_token(&mut self, change: TokenChange, entry: Entry) {
        let (TokenChange::Create(saved, ..) | TokenChange::Revoke(saved, _)) = &change;
        let kept = self.store.change(vec![Write::PutToken(Box::new(saved.clone()))], vec![entry.clone()]);
        let done = self.done_sender.clone();
        tokio::spawn(async move {
            let result = kept.await.map(|_| log(&entry)).map_err(|error| error.to_string());
            let _ = done.send(Done::Token { change, result });
        });
    }

    /// A token came back from the disk.
    pub(super) fn take_token(&mut self, change: TokenChange, result: Result<(), String>) {
        let refusal = result.err().map(|detail| Refusal::Store { detail });
        match (change, refusal) {
            (TokenChange::Create(_, _, reply), Some(refusal)) => drop(reply.send(Err(refusal))),
            (TokenChange::Revoke(_, reply), Some(refusal)) => drop(reply.send(Err(refusal))),
            (TokenChange::Create(saved, token, reply), None) => {
                self.ends.tokens.put(saved.clone());
                let _ = reply.send(Ok(CreatedToken { info: saved.info, token }));
            }
            (TokenChange::Revoke(saved, reply), None) => {
                self.ends.tokens.put(saved.clone());
                let _ = reply.send(Ok(saved.info));
            }
        }
    }

    /// What the tokens' last use comes to, for the next start; and those that ended long ago go.
    pub(super) fn token_writes(&self) -> Vec<Write> {
        let used = self.ends.tokens.take_used().into_iter().map(|token| Write::PutToken(Box::new(token)));
        used.chain(self.ends.tokens.forget_ended(unix_now()).into_iter().map(Write::ForgetToken)).collect()
    }

    /// Keeps the tokens' last use in the background.
    pub(super) fn keep_token_uses(&self) {
        if self.store.absent().is_some() {
            return;
        }
        let writes = self.token_writes();
        if !writes.is_empty() {
            let (kept, done) = (self.store.change(writes, Vec::new()), self.done_sender.clone());
            tokio::spawn(async move {
                if let Err(error) = kept.await {
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            });
        }
    }
}

/// Access is given and taken by those who have all of it: a confined admin could make tokens that reach further than its own.
fn may_give_access(who: &Who) -> Result<(), Refusal> {
    who.needs(Role::Admin)?;
    who.may_change_all()
}

fn shown(info: &TokenInfo) -> serde_json::Value {
    serde_json::json!({ "name": info.name, "role": info.role, "zones": info.zones, "expires": info.expires })
}

/// The entry as a line of the log. What came from outside is quoted: no line end, no control character gets through.
pub(super) fn log(entry: &Entry) {
    let Entry { action, target, actor, token, outcome, reason, detail, .. } = entry;
    let from = entry.from.map(|from| from.to_string()).unwrap_or_default();
    let (reason, detail) = (reason.as_deref().unwrap_or(""), detail.as_deref().unwrap_or(""));
    tracing::info!(target: "meridian::audit", ?action, ?target, ?actor, token, from, outcome, ?reason, ?detail, "audit");
}

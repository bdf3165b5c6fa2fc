//! The single writer's part in access and audit: tokens made and revoked, entries kept, the log read.

use tokio::sync::{oneshot, watch};

use super::api::{Refusal, Who};
use super::audit::{Entry, Page, Query};
use super::handle::News;
use super::tokens::{self, CreatedToken, FILE_TOKEN, NewToken, SavedToken, TokenInfo};
use super::unkept::Batch;
use super::writer::{Done, Writer};
use crate::dns::Name;
use crate::store::shared::{LOG, Revision};
use crate::store::{Store, StoreError, Write};

/// Tells of entries after `revision` until the store is closed, or until it has fallen behind.
async fn follow_log(store: &Store, revision: Revision, news: &watch::Sender<News>) -> Result<(), StoreError> {
    let mut commits = store.shared().watch(LOG, revision).await?;
    loop {
        let commit = commits.next().await?;
        if let Some(sequence) = commit.changes.iter().filter_map(|(key, _)| key.strip_prefix(LOG)?.parse().ok()).max() {
            news.send_modify(|news| news.sequence = sequence);
        }
    }
}

/// A token that is in force once it is on disk.
pub(super) enum TokenChange {
    Create(SavedToken, String, oneshot::Sender<Result<CreatedToken, Refusal>>),
    Revoke(SavedToken, oneshot::Sender<Result<TokenInfo, Refusal>>),
}

impl Writer {
    /// An entry of this moment.
    pub(super) fn entry(&self, who: &Who, action: &str, target: &str) -> Entry {
        Entry { generation: Some(self.generation), reason: who.reason.clone(), ..Entry::done(who, action, target, self.clock.unix()) }
    }

    /// Keeps an entry in the background, and logs it.
    pub(super) fn note(&self, entry: Entry) {
        log(&entry);
        self.keep_entry(entry);
    }

    /// Keeps an entry in the background.
    pub(super) fn keep_entry(&self, entry: Entry) {
        self.keep_entries(vec![entry]);
    }

    /// Keeps entries in the background, behind those that the disk has not taken so far.
    pub(super) fn keep_entries(&self, entries: Vec<Entry>) {
        if self.store.absent().is_some() {
            // A file that somebody else has at present takes them once it is free.
            if self.store.awaited().is_some() {
                self.unkept.hold(entries);
            }
            return;
        }
        if let Some(batch) = self.unkept.take_with(entries) {
            let (kept, done) = (self.write_batch(batch), self.done_sender.clone());
            tokio::spawn(async move {
                if let Err(error) = kept.await {
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            });
        }
    }

    /// Queues entries at once; what the disk does not take is held.
    fn write_batch(&self, batch: Batch) -> impl Future<Output = Result<u64, StoreError>> + Send + 'static {
        let (kept, unkept) = (self.store.change(Vec::new(), batch.entries(self.clock.unix())), self.unkept.clone());
        async move { kept.await.inspect_err(|_| unkept.give_back(batch)) }
    }

    /// What the disk has not taken so far, once more.
    pub(super) fn write_unkept(&self) -> impl Future<Output = ()> + Send + 'static {
        let batch = self.store.absent().is_none().then(|| self.unkept.take_with(Vec::new())).flatten();
        let kept = batch.map(|batch| self.write_batch(batch));
        async move {
            if let Some(kept) = kept {
                let _ = kept.await;
            }
        }
    }

    /// Tells of entries as they reach the disk, whoever wrote them; `revision` is what was read at the start.
    pub(super) fn tell_news(&self, mut revision: Revision) {
        if self.store.absent().is_some() {
            return;
        }
        let (store, news) = (self.store.clone(), self.ends.news.clone());
        tokio::spawn(async move {
            while let Err(StoreError::Compacted) = follow_log(&store, revision, &news).await {
                let Ok(now) = store.shared().get_all(LOG).await else { return };
                let Ok(page) = store.audit(Query { limit: 1, ..Query::default() }).await else { return };
                page.entries.iter().for_each(|entry| news.send_modify(|news| news.sequence = entry.sequence));
                revision = now.revision;
            }
        });
    }

    /// One page of the log.
    pub(super) fn audit(&self, query: Query, reply: oneshot::Sender<Result<Page, Refusal>>) {
        // Behind what was noted before: who was just refused finds that, too.
        let also = query.target.as_ref().map(|target| self.regions_of(target)).unwrap_or_default();
        let query = Query { also, ..query };
        let (store, tried, unkept) = (self.store.clone(), self.write_unkept(), self.unkept.clone());
        tokio::spawn(async move {
            tried.await;
            let page = store.audit(query).await.map(|page| {
                let of_start = |why: &str| match (store.awaited(), unkept.in_words()) {
                    (Some(_), Some(waiting)) => format!("these are the entries of the start, {waiting}: {why}"),
                    (Some(_), None) => format!("these are the entries of the start: {why}"),
                    (None, _) => format!("these are the entries of the start, what came later is in the program's own log alone: {why}"),
                };
                Page { incomplete: store.absent().map(of_start).or_else(|| unkept.in_words()), ..page }
            });
            let _ = reply.send(page.map_err(|error| Refusal::Unread { detail: error.to_string() }));
        });
    }

    pub(super) fn create_token(&mut self, new: &NewToken, who: &Who, reply: oneshot::Sender<Result<CreatedToken, Refusal>>) {
        let made = who.may_give_access().and_then(|()| tokens::admit(new, &who.name, self.clock.unix(), &self.ends.tokens));
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
        let found = who.may_give_access().and_then(|()| match self.ends.tokens.get(id) {
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
                token.info.revoked = Some(self.clock.unix());
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
                let warnings = saved.info.zones.iter().flatten().filter(|zone| !self.has_zone(zone));
                let warnings = warnings.map(|zone| format!("zone {zone} is not served here: until it is, the token reaches nothing in it")).collect();
                let _ = reply.send(Ok(CreatedToken { info: saved.info, token: Some(token), warnings }));
            }
            (TokenChange::Revoke(saved, reply), None) => {
                self.ends.tokens.put(saved.clone());
                let _ = reply.send(Ok(saved.info));
            }
        }
    }

    /// True for a zone of the files, whether it could be loaded or not.
    fn has_zone(&self, zone: &str) -> bool {
        Name::parse_absolute(zone).is_ok_and(|name| self.zones.contains_key(&name) || self.down.contains_key(&name))
    }

    /// What the tokens' last use comes to, for the next start; and those that ended long ago go.
    pub(super) fn token_writes(&self) -> Vec<Write> {
        let used = self.ends.tokens.take_used().into_iter().map(|token| Write::PutToken(Box::new(token)));
        let ended = if self.ages_count() { self.ends.tokens.forget_ended(self.clock.unix()) } else { Vec::new() };
        used.chain(ended.into_iter().map(Write::ForgetToken)).collect()
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

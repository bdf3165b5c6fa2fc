//! Pools of which so little is usable that health has no say within them (`panic`): told of when it begins and when it ends, and for as long as it lasts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::api::Who;
use super::audit::{Entry, Kind};
use super::state::ZoneState;
use super::writer::Writer;
use crate::dns::Name;
use crate::policy::plan::{PoolView, is_in_panic};

/// Those of one zone, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Panics {
    now: BTreeSet<Arc<str>>,
    /// To be told: which, and whether it is in panic from now on.
    news: Vec<(Arc<str>, bool)>,
}

impl Panics {
    /// Takes what is seen of a pool.
    pub(super) fn note(&mut self, id: &Arc<str>, panics: bool) {
        let is_new = if panics { self.now.insert(id.clone()) } else { self.now.remove(id) };
        if is_new {
            self.news.push((id.clone(), panics));
        }
    }
}

impl ZoneState {
    /// All that operators leave of a pool is handed out, be it usable or not.
    pub(super) fn is_in_panic(&self, at: usize) -> bool {
        let (pool, seen) = (self.model().pools.get(at), self.view.pools.get(at));
        pool.zip(seen).is_some_and(|(pool, seen)| is_in_panic(pool, seen))
    }
}

fn said(usable: usize, view: &PoolView, least: u8) -> String {
    format!("{usable} of {} endpoints usable, less than {least} % of it: all that operators leave in is handed out", view.endpoints.len())
}

impl Writer {
    /// Says which pools panic from now on, and which no longer do.
    pub(super) fn tell_panics(&mut self, name: &Name) {
        let Some(zone) = self.zones.get_mut(name) else { return };
        for (id, panics) in std::mem::take(&mut zone.panics.news) {
            let (action, detail) = match panics {
                true => ("health.panic", "so little of it is usable that all that operators leave in is handed out"),
                false => ("health.calm", "health has its say within it again"),
            };
            tracing::warn!(target: "meridian::health", pool = &*id, "{}: {detail}", if panics { "panic" } else { "calm" });
            let entry = Entry { kind: Kind::Health, detail: Some(detail.into()), ..self.entry(&Who::itself(), action, &id) };
            self.keep_entry(entry);
        }
    }

    /// Pools in panic, for whoever asks how the service is.
    pub(super) fn panic_trouble(&self) -> impl Iterator<Item = String> {
        let zones = self.zones.values().filter(|zone| !zone.panics.now.is_empty());
        zones.flat_map(|zone| {
            let pools = zone.model().pools.iter().zip(zone.view.pools.iter()).filter(move |(pool, _)| zone.panics.now.contains(&pool.id));
            pools.map(|(pool, view)| {
                let usable = view.endpoints.iter().filter(|endpoint| endpoint.is_usable()).count();
                format!("{} is in panic: {}", pool.id, said(usable, view, pool.panic.unwrap_or(0)))
            })
        })
    }
}

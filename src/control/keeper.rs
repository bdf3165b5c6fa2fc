//! Keeps last good versions and serials in the background, many in a transaction: each zone's newest, and none that is kept already.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::writer::Done;
use crate::config::{LoadedZone, Texts, ZoneSource};
use crate::store::{Serial, Store, StoreError, ZoneFile, ZoneFiles};

/// Zones that share a transaction. Their small texts are in memory meanwhile.
const MAX_BATCH: usize = 256;

/// What is to be kept of a zone.
enum Kept {
    Version(ZoneFiles),
    Serial(String, Serial),
}

/// Hands zones to the store.
pub(super) struct Keeper {
    queue: Option<mpsc::UnboundedSender<Kept>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// `versions`: what the last run kept, as a hash by zone.
    pub(super) fn start(store: Store, versions: BTreeMap<String, String>, done: mpsc::UnboundedSender<Done>) -> Keeper {
        let (sender, queue) = mpsc::unbounded_channel();
        let queue_end = (store.absent().is_none()).then_some(sender);
        Keeper { queue: queue_end, task: tokio::spawn(run(store, versions, done, queue)) }
    }

    /// Keeps the files of a zone that was taken; `texts` are those that need not be read again.
    pub(super) fn keep(&self, zone: &LoadedZone, texts: &Texts) {
        let (Some(queue), Some(name)) = (&self.queue, &zone.name) else { return };
        let file = |source: &ZoneSource| ZoneFile { path: source.path.clone(), hash: source.hash, text: texts.get(&source.path).cloned() };
        let files = zone.sources.iter().map(file).collect();
        let _ = queue.send(Kept::Version(ZoneFiles { zone: name.to_string(), content: format!("{:032x}", zone.content), files }));
    }

    /// Keeps the serial of a zone.
    pub(super) fn keep_serial(&self, zone: String, serial: Serial) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Kept::Serial(zone, serial));
        }
    }

    /// Waits until everything is kept.
    pub(super) async fn finish(&mut self) {
        self.queue = None;
        let _ = (&mut self.task).await;
    }
}

async fn run(store: Store, mut kept: BTreeMap<String, String>, done: mpsc::UnboundedSender<Done>, mut queue: mpsc::UnboundedReceiver<Kept>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, MAX_BATCH).await > 0 {
        // The newest of each zone counts.
        let (mut newest, mut serials) = (BTreeMap::new(), BTreeMap::new());
        for one in batch.drain(..) {
            match one {
                Kept::Version(files) => drop(newest.insert(files.zone.clone(), files)),
                Kept::Serial(zone, serial) => drop(serials.insert(zone, serial)),
            }
        }
        if !serials.is_empty()
            && let Err(error) = store.put_serials(serials).await
        {
            let _ = done.send(Done::Trouble(error.to_string()));
        }
        let wanted: Vec<ZoneFiles> = newest.into_values().filter(|files| kept.get(&files.zone) != Some(&files.content)).collect();
        if wanted.is_empty() {
            continue;
        }
        let names: Vec<(String, String)> = wanted.iter().map(|files| (files.zone.clone(), files.content.clone())).collect();
        for ((zone, content), result) in names.into_iter().zip(store.keep_zones(wanted).await) {
            match result {
                Ok(()) => {
                    kept.insert(zone, content);
                }
                // The reload that takes the change keeps it.
                Err(error @ StoreError::Changed { .. }) => tracing::info!(target: "meridian::store", zone, "{error}"),
                Err(error) => {
                    let _ = done.send(Done::Trouble(error.to_string()));
                }
            }
        }
    }
}

//! Host names, looked up by the system's resolver. That cannot be stopped: a name whose servers are silent holds a thread for ten seconds and more, however
//! short the check's timeout, and may not hold up the others.
//!
//! ```text
//! a name that was quick, or is new ─▶ one of QUICK_MAX places ─ after PATIENCE ─▶ one of SLOW_MAX places, as soon as one is free
//! a name that was slow last time ────────────────────────────────────────────────▶ one of SLOW_MAX places
//! one lookup of a name at a time: who asks for it meanwhile waits for that one
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::check::Progress;
use super::words::{self, Phase};
use crate::health::Failure;

/// Lookups at a time that have not shown to be slow.
const QUICK_MAX: usize = 32;
/// Lookups at a time that have: a thread each, which takes some 25 KB of memory.
const SLOW_MAX: usize = 1024;
/// From here on a lookup is slow: so many names that fall silent at once are told from the others at a hundred a second.
const PATIENCE: Duration = Duration::from_millis(300);
/// Of the thread of a lookup: what the system's resolver takes, several times.
const STACK: usize = 256 << 10;
/// Names that are remembered as slow.
const NAMES_MAX: usize = 4096;

type Found = Result<IpAddr, Failure>;

/// Where names are looked up, one for all checks.
#[derive(Clone, Debug)]
pub(super) struct Lookups(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    /// Names that are being looked up, and those that were slow last time, without.
    names: Mutex<HashMap<String, Option<watch::Receiver<Option<Found>>>>>,
}

impl Default for Lookups {
    fn default() -> Lookups {
        let (quick, slow) = (Arc::new(Semaphore::new(QUICK_MAX)), Arc::new(Semaphore::new(SLOW_MAX)));
        Lookups(Arc::new(Inner { quick, slow, names: Mutex::default() }))
    }
}

impl Lookups {
    /// The first address the system knows for `host`. Where this is given up, the lookup goes on by itself and holds its place.
    pub(super) async fn find(&self, host: &str, progress: &Progress) -> Found {
        self.find_by(host, progress, system).await
    }

    async fn find_by(&self, host: &str, progress: &Progress, resolve: fn(&str) -> Found) -> Found {
        let mut running = loop {
            let known = self.0.names().get(host).cloned();
            let (places, is_slow) = match known {
                Some(Some(running)) => break running,
                Some(None) => (&self.0.slow, true),
                None => (&self.0.quick, false),
            };
            let place = places.clone().acquire_owned().await.map_err(|_| gone(host))?;
            let mut names = self.0.names();
            // Somebody else may have begun while this waited.
            if names.get(host).is_none_or(Option::is_none) {
                let (tell, running) = watch::channel(None);
                names.insert(host.to_owned(), Some(running.clone()));
                tokio::spawn(run(self.0.clone(), host.to_owned(), place, is_slow, tell, resolve));
                break running;
            }
        };
        progress.enter(Phase::Resolve);
        let found = running.wait_for(Option::is_some).await.map_err(|_| gone(host))?;
        found.clone().unwrap_or_else(|| Err(gone(host)))
    }
}

#[cfg(test)]
impl Lookups {
    /// Takes all places.
    pub(super) fn fill(&self) {
        self.0.quick.forget_permits(QUICK_MAX);
    }
}

impl Inner {
    fn names(&self) -> MutexGuard<'_, HashMap<String, Option<watch::Receiver<Option<Found>>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(
    inner: Arc<Inner>,
    host: String,
    place: OwnedSemaphorePermit,
    is_slow: bool,
    tell: watch::Sender<Option<Found>>,
    resolve: fn(&str) -> Found,
) {
    let (name, (answer, mut looking)) = (host.clone(), oneshot::channel());
    let begun = std::thread::Builder::new().name("lookup".into()).stack_size(STACK).spawn(move || drop(answer.send(resolve(&name))));
    if let Err(error) = begun {
        inner.names().remove(&host);
        tell.send_replace(Some(Err(Failure::Internal(format!("lookup of \"{host}\": {error}")))));
        return;
    }
    let mut place = place;
    let (found, was_slow) = match timeout(PATIENCE, &mut looking).await {
        Ok(found) => (found, false),
        Err(_) if is_slow => (looking.await, true),
        Err(_) => tokio::select! {
            found = &mut looking => (found, true),
            slower = inner.slow.clone().acquire_owned() => {
                if let Ok(slower) = slower {
                    place = slower;
                }
                (looking.await, true)
            }
        },
    };
    let found = found.unwrap_or_else(|_| Err(gone(&host)));
    let mut names = inner.names();
    if was_slow {
        names.insert(host, None);
        if names.len() > NAMES_MAX {
            names.retain(|_, running| running.is_some());
        }
    } else {
        names.remove(&host);
    }
    drop(names);
    tell.send_replace(Some(found));
    drop(place);
}

fn system(host: &str) -> Found {
    match (host, 0).to_socket_addrs().map(|mut addrs| addrs.next()) {
        Ok(Some(addr)) => Ok(addr.ip()),
        Ok(None) => Err(Failure::Resolve(format!("no address for \"{host}\""))),
        Err(error) => Err(words::lookup_failure(host, &error)),
    }
}

fn gone(host: &str) -> Failure {
    Failure::Internal(format!("lookup of \"{host}\": it was given up"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    static HUNG: AtomicUsize = AtomicUsize::new(0);

    /// As a resolver whose servers are silent for some names.
    fn resolve(host: &str) -> Found {
        if host.starts_with("bad") {
            HUNG.fetch_add(1, Relaxed);
            #[allow(clippy::disallowed_methods, reason = "a lookup that hangs is what is tested")]
            std::thread::sleep(Duration::from_secs(3));
            return Err(Failure::Resolve("silent".into()));
        }
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    #[tokio::test]
    async fn names_that_hang_hold_up_no_others() {
        let lookups = Lookups::default();
        let progress = Arc::new(Progress::default());
        let ask = |host: String| {
            let (lookups, progress) = (lookups.clone(), progress.clone());
            tokio::spawn(async move { timeout(Duration::from_secs(2), lookups.find_by(&host, &progress, resolve)).await })
        };
        let bad = || (0..QUICK_MAX * 3).map(|at| ask(format!("bad{at}"))).collect::<Vec<_>>();
        // Each is asked for twice, and looked up once.
        let waiting = [bad(), bad()];
        // The first time they are in the way for as long as nobody knows them: three times as many as there are places.
        let good = timeout(Duration::from_secs(20), lookups.find_by("good", &progress, resolve)).await.expect("it comes to its turn");
        assert_eq!(good, Ok(Ipv4Addr::LOCALHOST.into()));
        for asked in waiting.into_iter().flatten() {
            assert!(asked.await.expect("no panic").is_err(), "who asks is not held longer than he waits");
        }
        let known = || lookups.0.names().clone();
        let all_end = async || {
            while known().values().any(Option::is_some) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        all_end().await;
        // All of those that began have been slow, and begin where they are in nobody's way.
        let again: Vec<_> = known().into_keys().map(ask).collect();
        while known().values().filter(|running| running.is_some()).count() < again.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(lookups.0.quick.available_permits(), QUICK_MAX, "{} hang", HUNG.load(Relaxed));
        assert_eq!(lookups.find_by("good", &progress, resolve).await, Ok(Ipv4Addr::LOCALHOST.into()));
        for asked in again {
            assert!(asked.await.expect("no panic").is_err());
        }
        // A name that is quick again is as any other.
        all_end().await;
        lookups.0.names().insert("good".into(), None);
        assert!(lookups.find_by("good", &progress, resolve).await.is_ok());
        assert!(!known().contains_key("good"));
    }
}

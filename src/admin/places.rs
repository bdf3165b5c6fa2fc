//! Places of the listener: whose connections have them, and which of them gives its place up when there is none left for one more.
//!
//! ```text
//! connection                                    gives way
//! has shown no good token yet (a stranger)      yes
//! of a token, nothing asked and unanswered      yes
//! of a token, the body of a request to come     yes: nothing has begun
//! of a token, a request under way               no: it comes to its end first
//! ```
//!
//! Connections of a token are one group, those of all strangers another. The largest group that has one that may give way loses one: of strangers the
//! oldest, from the network that has most; of a token the one that has been idle longest. So nobody locks others out, neither by opening many and saying
//! nothing nor with a token that opens little.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::rate::network;

/// All places that are taken.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Inner>);

#[derive(Default)]
struct Inner {
    all: Mutex<All>,
    /// One more may give way.
    idle: Notify,
}

#[derive(Default)]
struct All {
    /// Counts everything that happens.
    moment: u64,
    taken: BTreeMap<u64, Taken>,
}

impl All {
    fn first_to_go(&self) -> Option<u64> {
        let (mut groups, mut networks) = (HashMap::new(), HashMap::new());
        for taken in self.taken.values() {
            *groups.entry(taken.token.as_deref()).or_insert(0_usize) += 1;
            *networks.entry(taken.from).or_insert(0_usize) += usize::from(taken.token.is_none());
        }
        let may = self.taken.iter().filter(|(_, taken)| taken.token.is_none() || taken.asked <= taken.reading);
        let first = may.max_by_key(|(_, taken)| {
            let of_network = if taken.token.is_none() { networks[&taken.from] } else { 0 };
            (groups[&taken.token.as_deref()], of_network, Reverse(taken.since))
        });
        first.map(|(number, _)| *number)
    }
}

/// A place that is taken.
struct Taken {
    from: IpAddr,
    end: Arc<Notify>,
    /// Id of the token that it has shown; `None` for a stranger.
    token: Option<String>,
    /// Requests under way.
    asked: usize,
    /// Those of them whose body is read.
    reading: usize,
    /// When it came or was last done with a request.
    since: u64,
}

impl Places {
    /// One more connection.
    pub(super) fn take(&self, from: IpAddr) -> Arc<Place> {
        let end = Arc::new(Notify::new());
        let mut all = self.all();
        all.moment += 1;
        let number = all.moment;
        all.taken.insert(number, Taken { from: network(from), end: end.clone(), token: None, asked: 0, reading: 0, since: number });
        Arc::new(Place { number, end, places: self.clone() })
    }

    /// Ends one that may give way; false when there is none at present.
    pub(super) fn make_room(&self) -> bool {
        let mut all = self.all();
        let first = all.first_to_go().and_then(|number| all.taken.remove(&number));
        first.inspect(|taken| taken.end.notify_one()).is_some()
    }

    /// Returns when one more may give way than before.
    pub(super) async fn one_is_idle(&self) {
        self.0.idle.notified().await;
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection.
pub(super) struct Place {
    number: u64,
    end: Arc<Notify>,
    places: Places,
}

impl Place {
    /// Returns when it has to give way.
    pub(super) async fn given_up(&self) {
        self.end.notified().await;
    }

    /// It has shown this token.
    pub(super) fn known(&self, token: &str) {
        if let Some(taken) = self.places.all().taken.get_mut(&self.number)
            && taken.token.as_deref() != Some(token)
        {
            taken.token = Some(token.to_owned());
        }
    }

    /// A request has come; it is under way until what is returned is dropped. `None`: the place is given up, nothing may begin.
    pub(super) fn asked(self: &Arc<Place>) -> Option<Asking> {
        self.places.all().taken.get_mut(&self.number)?.asked += 1;
        Some(Asking(self.clone()))
    }
}

impl Place {
    /// The body of a request is read, until what is returned is dropped.
    pub(super) fn reading(self: &Arc<Place>) -> Reading {
        if let Some(taken) = self.places.all().taken.get_mut(&self.number) {
            taken.reading += 1;
        }
        self.places.0.idle.notify_one();
        Reading(self.clone())
    }

    /// It has not given way to another.
    pub(super) fn is_there(&self) -> bool {
        self.places.all().taken.contains_key(&self.number)
    }
}

/// A body that is read.
pub(super) struct Reading(Arc<Place>);

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(taken) = self.0.places.all().taken.get_mut(&self.0.number) {
            taken.reading = taken.reading.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all().taken.remove(&self.number);
    }
}

/// A request under way.
pub(super) struct Asking(Arc<Place>);

impl Drop for Asking {
    fn drop(&mut self) {
        let mut all = self.0.places.all();
        all.moment += 1;
        let now = all.moment;
        if let Some(taken) = all.taken.get_mut(&self.0.number) {
            taken.asked = taken.asked.saturating_sub(1);
            taken.since = now;
        }
        drop(all);
        self.0.places.0.idle.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b` are tokens, digits networks of strangers; a capital letter has a request under way. Who goes first?
    fn first(connections: &str) -> Option<usize> {
        let places = Places::default();
        let mut busy = Vec::new();
        let all: Vec<Arc<Place>> = connections
            .chars()
            .map(|who| {
                let place = places.take([192, 0, 2, who as u8].into());
                if who.is_ascii_alphabetic() {
                    place.known(&who.to_lowercase().to_string());
                }
                if who.is_ascii_uppercase() {
                    busy.push(place.asked().expect("a place"));
                }
                place
            })
            .collect();
        places.make_room().then(|| all.iter().position(|place| place.asked().is_none()).expect("one is gone"))
    }

    #[test]
    fn whoever_has_most_gives_way() {
        for (connections, expected) in [
            ("", None),
            ("ab", Some(0)),
            ("baa", Some(1)),
            ("bAa", Some(2)),
            ("bAA", Some(0)),
            ("BAA", None),
            // Strangers are one group, and of them the network with most.
            ("1aa", Some(1)),
            ("12aa", Some(0)),
            ("122aa", Some(1)),
            ("1AA", Some(0)),
        ] {
            assert_eq!(first(connections), expected, "{connections}");
        }
    }

    #[test]
    fn a_request_whose_body_is_to_come_gives_way() {
        let places = Places::default();
        let place = places.take([192, 0, 2, 1].into());
        place.known("a");
        let _asking = place.asked().expect("a place");
        let reading = place.reading();
        drop(reading);
        assert!(!places.make_room() && place.is_there());
        let _reading = place.reading();
        assert!(places.make_room() && !place.is_there());
    }

    #[test]
    fn the_one_that_was_idle_longest_goes_first() {
        let places = Places::default();
        let all = [places.take([192, 0, 2, 1].into()), places.take([192, 0, 2, 1].into())];
        all.iter().for_each(|place| place.known("a"));
        drop(all[0].asked());
        assert!(places.make_room());
        assert!(all[0].asked().is_some() && all[1].asked().is_none());
    }
}

//! What stands between one UDP thread and abuse: its limiter and its sockets' filters, kept in step with the configuration of the world that is served.
//!
//! Without `[rate_limit]` a batch pays one comparison for it. A new configuration makes a new limiter, in this thread, between two batches; that, a
//! change of the kernel's filter and a notice are the only times that anything is allocated.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::limiter::{Limiter, Load, Notice, SECOND, TICK, Verdict};
use super::program::{self, Prefixes};
use crate::answer::{Asked, CookieState, Dice, Kind, Reply, Transport, bad_cookie, truncate};
use crate::sys;
use crate::telemetry::ThreadCounters;
use crate::world::{RateLimit, World};

/// Notices that wait to be logged; what does not fit is not logged.
pub(super) const NOTICES: usize = 64;

/// How often there may be something to log.
const NOTICE_PERIOD: u64 = SECOND / 4;

/// From one filter to the next, at least: the kernel has to check and compile each.
const FILTER_PERIOD: u64 = SECOND / 20;

/// Kernel memory of a waiting query, about: 768 octets on loopback, 1 to 2 KiB with most network cards.
const QUEUED_LEN: u64 = 1024;

/// Of what is sent to us, we never suppose to see less than one in so many.
const MAX_SCALE: u64 = 64;

/// Which of the UDP threads this is, and what they have in common.
#[derive(Clone, Debug)]
pub struct Place {
    /// How many there are.
    pub(super) threads: usize,
    /// Secret, the same for all.
    pub(super) seed: u32,
    /// Where notices go.
    pub(super) notices: Option<mpsc::Sender<Notice>>,
}

impl Place {
    /// The only thread, with nobody to tell.
    pub fn alone() -> Place {
        Place { threads: 1, seed: 0, notices: None }
    }
}

/// The filter in the kernel, as far as this thread's sockets have one.
#[derive(Debug)]
struct Filter {
    prefixes: Prefixes,
    tick_at: u64,
    /// Datagrams received since the last tick.
    received: u64,
    /// Octets in the receive buffers at the last tick.
    queued: u64,
    /// The list has changed since the filter was made.
    stale: bool,
    filter_at: u64,
    blocked: usize,
}

/// One thread's guard.
#[derive(Debug)]
pub(super) struct Guard {
    place: Place,
    started: Instant,
    /// What `limiter` was made from.
    limits: Option<Arc<RateLimit>>,
    limiter: Option<Box<Limiter>>,
    filter: Option<Filter>,
    /// By socket: datagrams that the kernel had dropped when last looked at.
    dropped: Vec<u32>,
    /// Nanoseconds; of the current batch.
    now: u64,
    notices_at: u64,
}

impl Guard {
    pub(super) fn new(place: Place) -> Guard {
        Guard { place, started: Instant::now(), limits: None, limiter: None, filter: None, dropped: Vec::new(), now: 0, notices_at: 0 }
    }

    /// Before a batch: takes over the limits that hold now, and the time.
    #[inline]
    pub(super) fn begin(&mut self, limits: Option<&Arc<RateLimit>>, sockets: &[UdpSocket]) {
        if limits.map(Arc::as_ptr) != self.limits.as_ref().map(Arc::as_ptr) {
            self.change(limits, sockets);
        }
        if self.limiter.is_some() {
            self.read_clock();
        }
    }

    fn read_clock(&mut self) {
        // Times begin well after 0, so that "a second ago" always is one.
        self.now = self.started.elapsed().as_nanos() as u64 + 10 * SECOND;
    }

    #[cold]
    fn change(&mut self, limits: Option<&Arc<RateLimit>>, sockets: &[UdpSocket]) {
        // A reload that changes nothing forgives nobody.
        if limits != self.limits.as_ref() {
            let steered = steer(sockets, &self.place, limits.map(Arc::as_ref));
            self.limiter = limits.map(|limits| Box::new(Limiter::new(limits, self.place.threads, steered)));
            self.read_clock();
            self.dropped = sockets.iter().map(|socket| sys::buffered(socket).unwrap_or_default().dropped).collect();
            self.filter = limits.filter(|limits| limits.kernel_filter && !limits.log_only).map(|limits| Filter {
                prefixes: Prefixes { v4_len: limits.v4_len, v6_len: limits.v6_len, seed: self.place.seed },
                tick_at: self.now + TICK,
                received: 0,
                queued: 0,
                stale: true,
                filter_at: 0,
                blocked: 0,
            });
            if self.filter.is_none() {
                sockets.iter().for_each(|socket| drop(sys::detach_filter(socket)));
            }
        }
        self.limits = limits.cloned();
    }

    /// False when this query is not to be answered.
    #[inline]
    pub(super) fn admit(&mut self, asked: &Asked<'_>, counters: &ThreadCounters) -> bool {
        let Some(limiter) = &mut self.limiter else { return true };
        let admitted = limiter.query(asked.source, self.now);
        if !admitted {
            counters.dropped(Transport::Udp);
        }
        admitted
    }

    /// What becomes of a reply that stands in `buf`; `None` when it is not sent.
    #[inline]
    pub(super) fn pass(
        &mut self,
        world: &World,
        asked: &Asked<'_>,
        dice: &Dice,
        reply: Reply,
        buf: &mut [u8],
        counters: &ThreadCounters,
    ) -> Option<Reply> {
        let Some(limiter) = &mut self.limiter else { return Some(reply) };
        if reply.cookie == CookieState::Valid {
            // Who has had a reply of ours at this address is no victim of a forged one (RFC 7873 §1).
            return Some(reply);
        }
        match limiter.response(asked.source, reply.kind, reply.subject, self.now) {
            Verdict::Send => Some(reply),
            Verdict::Slip => {
                counters.slipped();
                let with_cookie = if reply.cookie == CookieState::ClientOnly { bad_cookie(world, asked, dice, buf) } else { None };
                Some(match (with_cookie, reply.kind) {
                    // Who is there comes back with the cookie, over UDP (RFC 7873 §5.2.3).
                    (Some(with_cookie), _) => with_cookie,
                    // An error with TC would be none; it is as small as it can be.
                    (None, Kind::Error) => reply,
                    (None, _) => truncate(&reply, buf),
                })
            }
            Verdict::Drop => {
                counters.dropped(Transport::Udp);
                None
            }
        }
    }

    /// After a batch of `received` datagrams (0: there were none for a while): counts, notices, the kernel's filter.
    #[inline]
    pub(super) fn end(&mut self, received: usize, sockets: &[UdpSocket], counters: &ThreadCounters) {
        let Some(limiter) = &mut self.limiter else { return };
        if limiter.has_counts() {
            let (limited, uncounted) = limiter.take_counts();
            counters.limited(&limited, uncounted);
        }
        if let Some(filter) = &mut self.filter {
            filter.received += received as u64;
        }
        if received == 0 {
            self.read_clock();
        }
        if self.now >= self.notices_at {
            self.tell();
        }
        if self.filter.as_ref().is_some_and(|filter| self.now >= filter.tick_at) {
            self.tick(sockets, counters);
        }
    }

    fn tell(&mut self) {
        self.notices_at = self.now + NOTICE_PERIOD;
        let (Some(limiter), notices) = (&mut self.limiter, &self.place.notices) else { return };
        limiter.notices(self.now, |notice| {
            if let Some(notices) = notices {
                let _ = notices.try_send(notice);
            }
        });
    }

    /// Looks how full the receive buffers are, and who fills them.
    #[cold]
    fn tick(&mut self, sockets: &[UdpSocket], counters: &ThreadCounters) {
        let (Some(limiter), Some(filter)) = (&mut self.limiter, &mut self.filter) else { return };
        let (mut dropped, mut queued, mut overloaded) = (0, 0, false);
        for (socket, before) in sockets.iter().zip(&mut self.dropped) {
            let Ok(buffered) = sys::buffered(socket) else { continue };
            dropped += u64::from(buffered.dropped.wrapping_sub(*before));
            *before = buffered.dropped;
            queued += u64::from(buffered.queued);
            // A quarter may be a leftover of the kernel's bookkeeping.
            overloaded |= buffered.queued > buffered.room / 8 * 3;
        }
        let more = queued.saturating_sub(std::mem::replace(&mut filter.queued, queued)) / QUEUED_LEN;
        let lost = if overloaded { dropped.saturating_sub(limiter.filtered()) + more } else { 0 };
        let scale = (1 + lost / filter.received.max(1)).min(MAX_SCALE) as u32;
        let ticks = (self.now - filter.tick_at) / TICK + 1;
        filter.tick_at += ticks * TICK;
        filter.received = 0;
        filter.stale |= limiter.tick(ticks, Load { overloaded, scale });
        if filter.stale && self.now >= filter.filter_at {
            filter.stale = false;
            filter.filter_at = self.now + FILTER_PERIOD;
            for socket in sockets {
                let v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
                // Where the kernel takes no filter there is none; the limits hold all the same.
                let _ = sys::attach_filter(socket, &program::filter(filter.prefixes, v6, limiter.blocked()));
            }
            let blocked = limiter.blocked().count();
            counters.filter(blocked as i64 - filter.blocked as i64);
            filter.blocked = blocked;
        }
        counters.kernel_dropped(dropped);
    }
}

/// Makes the kernel give all queries of a prefix to the same thread (or, without limits, by its own hash again); false when it does not.
fn steer(sockets: &[UdpSocket], place: &Place, limits: Option<&RateLimit>) -> bool {
    if place.threads == 1 {
        return true;
    }
    let threads = u32::try_from(place.threads).unwrap_or(u32::MAX);
    let steer_one = |socket: &UdpSocket| {
        let Some(limits) = limits else { return sys::detach_steering(socket) };
        let prefixes = Prefixes { v4_len: limits.v4_len, v6_len: limits.v6_len, seed: place.seed };
        sys::attach_steering(socket, &program::steering(prefixes, socket.local_addr()?.is_ipv6(), threads))
    };
    // Every thread says the same of the sockets that share an address, so that each knows whether it holds.
    sockets.iter().all(|socket| steer_one(socket).is_ok())
}

/// Logs what the threads have to say, until they are gone.
pub(super) async fn log(mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        tracing::info!(target: "meridian::rate_limit", "{notice}");
    }
}

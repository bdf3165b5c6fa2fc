//! Addresses that have proved nothing yet get no more than three times what has come from them (RFC 9000 §8.1).
//!
//! quinn-proto sends a whole datagram as long as one octet of that is left ("we always allow a full MTU", its `poll_transmit`), so a handshake whose client
//! does not answer comes to more than four times its first datagram at worst. Between quinn and its socket, what would go beyond the limit is dropped
//! here, as a network may; what has been dropped is sent again once the client has said more.
//!
//! ```text
//! enter ─▶ unproved: octets are counted ─ a datagram with a connection ID of ours ─▶ proved: free ─ leave, when its last connection has gone
//! ```
//!
//! Whoever names a connection ID that was sent to an address reads what comes there: those IDs have 64 random bits (RFC 9000 §8.1).

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller};

/// Octets of our connection IDs: 64 bits, which prove an address when they come back (RFC 9000 §8.1).
const ID_LEN: usize = 8;
/// What the first datagram of a client has at least (RFC 9000 §14.1); quinn takes no shorter one.
const MIN_INITIAL_LEN: u64 = 1200;
/// Times what has come (RFC 9000 §8.1).
const MAX_RATIO: u64 = 3;
/// Our connection IDs to one address that prove it; of more connections that begin at once from there, these do.
const MAX_IDS: usize = 8;
/// So long after the end of a handshake that came to nothing quinn may still say so, again and again: three of its probe timeouts
/// (RFC 9000 §10.2), which begin with a second.
const LINGER: Duration = Duration::from_secs(4);

/// The first octets of connection IDs, all of [`ID_LEN`].
type Id = [u8; ID_LEN];

/// Makes our connection IDs. quinn's own have 24 random bits and a checksum of them.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// For a system without chance.
    made: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = Id::default();
        if getrandom::fill(&mut id).is_err() {
            self.made += 1;
            id = self.made.to_be_bytes();
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// One address with connections.
#[derive(Debug, Default)]
struct Account {
    connections: usize,
    is_proved: bool,
    received: u64,
    sent: u64,
    ids: Vec<Id>,
}

/// All addresses with connections, of one socket.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_address: Mutex<HashMap<SocketAddr, Account>>,
    /// How many of them are not proved: none as a rule, and then no datagram takes the lock. Written under it.
    unproved: AtomicUsize,
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Account>> {
        // Nothing under this lock can panic half-way.
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many addresses have proved nothing.
    pub(super) fn unproved(&self) -> usize {
        self.unproved.load(Relaxed)
    }

    /// A connection begins, before anything is sent to it; `is_proved` when its client showed a token.
    pub(super) fn enter(self: &Arc<Accounts>, address: SocketAddr, is_proved: bool) -> Held {
        let mut all = self.lock();
        let account = all.entry(address).or_insert_with(|| {
            self.unproved.fetch_add(1, Relaxed);
            // Its first datagram came before anybody counted.
            Account { received: MIN_INITIAL_LEN, ..Account::default() }
        });
        account.connections += 1;
        if is_proved {
            self.prove(account);
        }
        drop(all);
        Held { accounts: self.clone(), address }
    }

    fn prove(&self, account: &mut Account) {
        if !account.is_proved {
            account.is_proved = true;
            account.ids = Vec::new();
            self.unproved.fetch_sub(1, Relaxed);
        }
    }

    fn is_proved(&self, address: SocketAddr) -> bool {
        self.lock().get(&address).is_none_or(|account| account.is_proved)
    }

    fn leave(&self, address: SocketAddr) {
        let mut all = self.lock();
        let Some(account) = all.get_mut(&address) else { return };
        account.connections -= 1;
        if account.connections == 0 {
            self.prove(account);
            all.remove(&address);
        }
    }

    /// Counts a datagram that has come.
    fn received(&self, address: SocketAddr, datagram: &[u8]) {
        if self.unproved() == 0 {
            return;
        }
        let mut all = self.lock();
        let Some(account) = all.get_mut(&address).filter(|account| !account.is_proved) else { return };
        account.received += datagram.len() as u64;
        if destination_of(datagram).is_some_and(|id| account.ids.contains(&id)) {
            self.prove(account);
        }
    }

    /// How many octets of these datagrams, `segment_len` octets each but perhaps the last, may go; they count as sent.
    fn may_send(&self, address: SocketAddr, contents: &[u8], segment_len: usize) -> usize {
        if self.unproved() == 0 {
            return contents.len();
        }
        let mut all = self.lock();
        let Some(account) = all.get_mut(&address).filter(|account| !account.is_proved) else { return contents.len() };
        let mut allowed = 0;
        for datagram in contents.chunks(segment_len.max(1)) {
            if account.sent + datagram.len() as u64 > MAX_RATIO * account.received {
                break;
            }
            account.sent += datagram.len() as u64;
            allowed += datagram.len();
            let known = source_of(datagram).filter(|id| !account.ids.contains(id) && account.ids.len() < MAX_IDS);
            account.ids.extend(known);
        }
        allowed
    }

    /// So many octets have not been sent after all.
    fn unsend(&self, address: SocketAddr, octets: usize) {
        if let Some(account) = self.lock().get_mut(&address) {
            account.sent = account.sent.saturating_sub(octets as u64);
        }
    }
}

/// A connection of an address, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    accounts: Arc<Accounts>,
    address: SocketAddr,
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.accounts.is_proved(self.address) {
            return self.accounts.leave(self.address);
        }
        let (accounts, address) = (self.accounts.clone(), self.address);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return accounts.leave(address) };
        runtime.spawn(async move {
            tokio::time::sleep(LINGER).await;
            accounts.leave(address);
        });
    }
}

/// The bit of long headers (RFC 9000 §17.2).
const LONG: u8 = 0x80;
/// In a long header: flags and version, then each connection ID behind its length.
const DESTINATION_AT: usize = 5;

/// A connection ID of [`ID_LEN`] octets behind its length, and what follows.
fn id_at(octets: &[u8]) -> Option<(Id, &[u8])> {
    let (length, rest) = octets.split_first()?;
    let (id, rest) = rest.split_first_chunk::<ID_LEN>()?;
    (usize::from(*length) == ID_LEN).then_some((*id, rest))
}

/// Whom a datagram is for, if it can be one of us.
fn destination_of(datagram: &[u8]) -> Option<Id> {
    match datagram.first()? & LONG {
        0 => datagram.get(1..)?.first_chunk().copied(),
        _ => Some(id_at(datagram.get(DESTINATION_AT..)?)?.0),
    }
}

/// The connection ID that a datagram of ours introduces.
fn source_of(datagram: &[u8]) -> Option<Id> {
    if datagram.first()? & LONG == 0 {
        return None;
    }
    let source_at = DESTINATION_AT + 1 + usize::from(*datagram.get(DESTINATION_AT)?);
    Some(id_at(datagram.get(source_at..)?)?.0)
}

/// A socket that keeps to the limit.
#[derive(Debug)]
pub(super) struct Thrifty {
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    pub(super) accounts: Arc<Accounts>,
}

impl AsyncUdpSocket for Thrifty {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment_len = transmit.segment_size.unwrap_or(transmit.contents.len());
        let allowed = self.accounts.may_send(transmit.destination, transmit.contents, segment_len);
        let Some(contents) = transmit.contents.get(..allowed).filter(|contents| !contents.is_empty()) else { return Ok(()) };
        let sent = self.socket.try_send(&Transmit { contents, ..transmit.clone() });
        if sent.is_err() {
            self.accounts.unsend(transmit.destination, allowed);
        }
        sent
    }

    fn poll_recv(&self, context: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(context, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(meta.iter()).take(received) {
            for datagram in buffer.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
                self.accounts.received(meta.addr, datagram);
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> SocketAddr {
        ([192, 0, 2, 1], 4711).into()
    }

    /// A long header that introduces `from`, padded.
    fn long(to: &[u8], from: &[u8], len: usize) -> Vec<u8> {
        let mut datagram = [&[0xc0, 0, 0, 0, 1, to.len() as u8][..], to, &[from.len() as u8], from].concat();
        datagram.resize(len, 0);
        datagram
    }

    #[test]
    fn rfc9000_section_8_1_three_times_and_no_octet_more() {
        let accounts = Arc::new(Accounts::default());
        assert_eq!(accounts.may_send(client(), &[0; 9000], 1200), 9000, "nobody begins there");
        let _held = accounts.enter(client(), false);
        // Octets to send, in datagrams of so many; how many go.
        for (len, segment_len, allowed) in [(1200, 1200, 1200), (2464, 1200, 2400), (1, 1, 0), (64, 64, 0)] {
            assert_eq!(accounts.may_send(client(), &long(b"client", b"serverid", len), segment_len), allowed, "{len}");
        }
        accounts.received(client(), &[0; 40]);
        assert_eq!(accounts.may_send(client(), &[0; 121], 121), 0);
        assert_eq!(accounts.may_send(client(), &[0; 120], 120), 120);
        accounts.unsend(client(), 120);
        assert_eq!(accounts.may_send(client(), &[0; 240], 120), 120, "what was not sent does not count");
        assert_eq!(accounts.may_send(([192, 0, 2, 2], 4711).into(), &[0; 9000], 1200), 9000, "others are free");
    }

    #[test]
    fn a_connection_id_of_ours_proves_the_address() {
        // What comes, and whether it proves the address.
        for (what, datagram, proves) in [
            ("a long header", long(b"serverid", b"client", 60), true),
            ("a short header", [&[0x40][..], b"serverid", &[0; 20]].concat(), true),
            ("another ID", long(b"serverie", b"client", 60), false),
            ("a longer ID", long(b"serverid9", b"client", 60), false),
            ("another short one", [&[0x40][..], b"xserverid"].concat(), false),
            ("half a header", b"\xc0\0\0\0\x01\x08serv".to_vec(), false),
            ("nothing", Vec::new(), false),
        ] {
            let accounts = Arc::new(Accounts::default());
            let _held = accounts.enter(client(), false);
            accounts.may_send(client(), &long(b"client", b"serverid", 1200), 1200);
            accounts.received(client(), &datagram);
            assert_eq!(accounts.unproved() == 0, proves, "{what}");
            assert_eq!(accounts.may_send(client(), &[0; 9000], 1200) == 9000, proves, "{what}");
        }
    }

    #[test]
    fn accounts_end_with_their_connections() {
        let accounts = Arc::new(Accounts::default());
        let (one, two) = (accounts.enter(client(), true), accounts.enter(client(), false));
        assert_eq!(accounts.unproved(), 0, "one of its connections proved it");
        drop(one);
        assert_eq!(accounts.may_send(client(), &[0; 9000], 1200), 9000);
        drop(two);
        let three = accounts.enter(client(), false);
        assert_eq!((accounts.unproved(), accounts.lock().len()), (1, 1), "and it has to be proved anew");
        drop(three);
        assert_eq!((accounts.unproved(), accounts.lock().len()), (0, 0));
    }

    #[tokio::test]
    async fn the_limit_holds_for_the_last_words_of_what_came_to_nothing() {
        let accounts = Arc::new(Accounts::default());
        drop(accounts.enter(client(), false));
        assert_eq!(accounts.may_send(client(), &[0; 9600], 1200), 3600);
    }
}

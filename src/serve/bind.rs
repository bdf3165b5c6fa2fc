//! Opening the sockets: all of them before anything is served, each failure with the address it concerns.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sys;

/// Receive buffer of each UDP socket. The system's usual 208 KiB overflow at 270 waiting queries, less than a millisecond of a busy core; this
/// holds some 5,000, about ten milliseconds. Much more would only queue queries that their senders have given up on.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Connections that wait to be accepted. The system caps it at `net.core.somaxconn`, 4,096 as a rule.
const BACKLOG: i32 = 1024;

/// What the kernel may hold per TCP connection in each direction; accepted sockets inherit it. It bounds what many connections can take together.
const TCP_BUFFER: usize = 128 << 10;

/// Port 0: how often to look for a port that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 32;

/// Threads that can be asked for: more than any machine has cores.
const MAX_THREADS: usize = 1024;

/// All sockets of the service, bound and not yet served.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<Bound>,
}

/// One address: a TCP listener and a UDP socket for each thread.
#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// It serves, but not quite as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The machine does not have this address (or its family).
    Missing(SocketAddr),
    /// Listed twice, or covered by the wildcard address `by`.
    Covered {
        /// As listed.
        address: SocketAddr,
        /// The entry that serves it.
        by: SocketAddr,
    },
    /// The kernel gave less receive buffer than asked for; bursts will lose queries.
    SmallBuffer {
        /// Octets wanted.
        wanted: usize,
        /// Octets given.
        given: usize,
    },
}

impl Warning {
    /// Whether somebody who was asked for by name goes without answers. The wildcard address of a family that the machine does not have is nobody's.
    pub fn is_outage(&self) -> bool {
        matches!(self, Warning::Missing(address) if !address.ip().is_unspecified())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Missing(address) => write!(f, "{address}: this machine has no such address; not listening there"),
            Warning::Covered { address, by } => write!(f, "{address}: already covered by {by}"),
            Warning::SmallBuffer { wanted, given } => {
                write!(f, "UDP receive buffers: the kernel gave {given} octets, wanted {wanted}; raise {}, or bursts lose queries", sys::BUFFER_LIMIT)
            }
        }
    }
}

/// Why nothing is served.
#[derive(Debug)]
pub enum BindError {
    /// No address was given.
    Empty,
    /// The machine has none of them.
    NoneLeft(Vec<SocketAddr>),
    /// Another process (perhaps another Meridian) listens there.
    InUse {
        /// Where.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
    },
    /// The system does not let this user listen there.
    Denied {
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    Failed {
        /// Where.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The system's words.
        error: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Empty => f.write_str("no address to listen on, expected at least one"),
            BindError::NoneLeft(addresses) => {
                f.write_str("this machine has none of the addresses to listen on:")?;
                addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
            BindError::InUse { address, transport } => {
                write!(f, "{address}: the {transport} port is in use by another process (another name server, or a second Meridian)")
            }
            BindError::Denied { address } => {
                write!(f, "{address}: not permitted; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE")
            }
            BindError::Failed { address, transport, error } => write!(f, "{address}: cannot listen on {transport}: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BindError::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Listeners {
    /// Binds UDP and TCP on every address of `listen`, for `threads` threads of each. An address that the machine lacks is a warning as long as another one
    /// serves; one in use is an error. Port 0 is any port that is free for both.
    pub fn bind(listen: &[SocketAddr], threads: usize) -> Result<(Listeners, Vec<Warning>), BindError> {
        let threads = threads.clamp(1, MAX_THREADS);
        let mut warnings = Vec::new();
        let mut bound: Vec<Bound> = Vec::new();
        let mut missing = Vec::new();
        let mut least_buffer = usize::MAX;
        if listen.is_empty() {
            return Err(BindError::Empty);
        }
        for (at, address) in listen.iter().copied().enumerate() {
            if let Some(by) = covering(listen, at) {
                warnings.push(Warning::Covered { address, by });
                continue;
            }
            match bind_one(address, threads) {
                Ok((one, buffer)) => {
                    least_buffer = least_buffer.min(buffer);
                    bound.push(one);
                }
                Err(BindError::Failed { error, .. }) if lacks_address(&error) => missing.push(address),
                Err(error) => return Err(error),
            }
        }
        if bound.is_empty() {
            return Err(BindError::NoneLeft(missing));
        }
        warnings.extend(missing.into_iter().map(Warning::Missing));
        if least_buffer < RECEIVE_BUFFER {
            warnings.push(Warning::SmallBuffer { wanted: RECEIVE_BUFFER, given: least_buffer });
        }
        Ok((Listeners { bound }, warnings))
    }

    /// Where the sockets are, with the ports that port 0 became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }

    /// For each thread its TCP listeners and its UDP sockets.
    pub(super) fn into_sockets(self) -> (Vec<Vec<TcpListener>>, Vec<Vec<UdpSocket>>) {
        let (tcp, udp) = self.bound.into_iter().map(|bound| (bound.tcp, bound.udp)).unzip();
        (by_thread(tcp), by_thread(udp))
    }
}

/// From sockets by address to sockets by thread.
fn by_thread<S>(by_address: Vec<Vec<S>>) -> Vec<Vec<S>> {
    let mut threads: Vec<Vec<S>> = by_address.first().map_or(&[][..], Vec::as_slice).iter().map(|_| Vec::new()).collect();
    for sockets in by_address {
        threads.iter_mut().zip(sockets).for_each(|(of_thread, socket)| of_thread.push(socket));
    }
    threads
}

/// A TCP listener that shares its address with nobody.
pub(super) fn listen_alone(address: SocketAddr) -> Result<TcpListener, BindError> {
    tcp_socket(address, false).and_then(listen_tcp).map_err(|error| told(address, "TCP", error))
}

/// A UDP socket that shares its address with nobody, and is as the system makes them.
pub(super) fn udp_alone(address: SocketAddr) -> Result<UdpSocket, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|error| told(address, "UDP", error))
}

/// The entry that makes entry `at` of the list superfluous: an earlier equal one, or the wildcard of its family anywhere.
fn covering(listen: &[SocketAddr], at: usize) -> Option<SocketAddr> {
    let address = listen.get(at)?;
    if address.port() == 0 {
        return None;
    }
    let equal = || listen.iter().take(at).find(|other| *other == address);
    let wildcard = |other: &&SocketAddr| other.ip().is_unspecified() && other.is_ipv4() == address.is_ipv4() && other.port() == address.port();
    let wider = || if address.ip().is_unspecified() { None } else { listen.iter().find(wildcard) };
    equal().or_else(wider).copied()
}

/// The errors that say "not on this machine": no such address, no such family, no such scope.
fn lacks_address(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::ENODEV | libc::ENXIO))
}

/// Binds one address; also says how much receive buffer the least of its sockets has.
fn bind_one(listen: SocketAddr, threads: usize) -> Result<(Bound, usize), BindError> {
    let mut attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let (reserved, address) = reserve_tcp(listen).map_err(|error| told(listen, "TCP", error))?;
        let tcp = match bind_tcp(reserved, address, threads) {
            Ok(tcp) => tcp,
            Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => continue,
            Err(error) => return Err(told(address, "TCP", error)),
        };
        match bind_udp(address, threads) {
            Ok((udp, buffer)) => return Ok((Bound { address, tcp, udp }, buffer)),
            Err(error) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(told(address, "UDP", error)),
        }
    }
}

fn told(address: SocketAddr, transport: &'static str, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, transport },
        io::ErrorKind::PermissionDenied => BindError::Denied { address },
        _ => BindError::Failed { address, transport, error },
    }
}

/// Takes an address without `SO_REUSEPORT` first: this fails if anybody else listens there, even one who would share. What it returns keeps the port
/// until the real listeners have it.
fn reserve_tcp(listen: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = tcp_socket(listen, false)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(listen);
    Ok((socket, address))
}

/// A listener for each thread on the same address. Where the kernel spreads connections over them by hash they are sockets of their own, and `reserved`
/// is closed; elsewhere they are `reserved`, and whoever comes first accepts.
fn bind_tcp(reserved: Socket, address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    if sys::SPREADS {
        let listen = |_| listen_tcp(tcp_socket(address, true)?);
        return (0..threads).map(listen).collect();
    }
    share(listen_tcp(reserved)?, threads, TcpListener::try_clone)
}

fn listen_tcp(socket: Socket) -> io::Result<TcpListener> {
    // Accepted connections inherit all of these. Replies are written whole; waiting for more to fill a segment would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(TCP_BUFFER)?;
    socket.set_recv_buffer_size(TCP_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One socket for all threads, a handle for each.
fn share<S>(socket: S, threads: usize, handle: impl Fn(&S) -> io::Result<S>) -> io::Result<Vec<S>> {
    let mut handles: Vec<S> = (1..threads).map(|_| handle(&socket)).collect::<io::Result<_>>()?;
    handles.push(socket);
    Ok(handles)
}

fn tcp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Only lets us start while connections of the last run linger; listeners without SO_REUSEPORT still exclude each other.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket for each thread on the same address: sockets of their own where the kernel spreads clients over them by hash, otherwise the same one.
fn bind_udp(address: SocketAddr, threads: usize) -> io::Result<(Vec<UdpSocket>, usize)> {
    // Without SO_REUSEPORT first: this fails if anybody else is there, even one who would share.
    let alone = udp_socket(address, false)?;
    if !sys::SPREADS {
        let given = sys::set_receive_buffer(&alone, RECEIVE_BUFFER)?;
        return Ok((share(alone.into(), threads, UdpSocket::try_clone)?, given));
    }
    drop(alone);
    let mut sockets = Vec::with_capacity(threads);
    let mut least = usize::MAX;
    for _ in 0..threads {
        let socket = udp_socket(address, true)?;
        least = least.min(sys::set_receive_buffer(&socket, RECEIVE_BUFFER)?);
        sockets.push(socket.into());
    }
    Ok((sockets, least))
}

fn udp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let v6 = address.is_ipv6();
    if v6 {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip().is_unspecified() {
        sys::receive_destination(&socket, v6)?;
    }
    sys::ignore_path_mtu(&socket, v6)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

//! The real program for tests: a folder of its own, the real binary on ports that the system chose, real sockets to ask it.
//!
//! [`Meridian::start`] writes the files, runs `meridian run` and returns when it serves; dropping it ends the process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

/// How long the program may take to serve, and anything else that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running program.
pub struct Meridian {
    child: Child,
    dir: tempfile::TempDir,
    /// First DNS address, UDP and TCP.
    pub dns: SocketAddr,
    /// The admin listener; port 0 when there is none.
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Meridian {
    /// Starts with these files (path relative to the folder, text). Without a `meridian.toml` among them there is [`CONFIG`].
    pub fn start(files: &[(&str, &str)]) -> Meridian {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("zones")).expect("a zone folder");
        if !files.iter().any(|(path, _)| *path == "meridian.toml") {
            write(dir.path(), "meridian.toml", CONFIG);
        }
        for (path, text) in files {
            write(dir.path(), path, text);
        }
        Self::start_in(dir)
    }

    /// Starts on a folder that is ready.
    pub fn start_in(dir: tempfile::TempDir) -> Meridian {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_meridian")), dir)
    }

    /// The same by a command that runs the program, perhaps in a place of its own.
    pub fn start_by(mut program: Command, dir: tempfile::TempDir) -> Meridian {
        let mut child = program
            .args(["run", "--config"])
            .arg(dir.path().join("meridian.toml"))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("its stderr");
        let into = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                into.lock().expect("the log").push(line);
            }
        });
        let began = Instant::now();
        let line = loop {
            if let Some(line) = log.lock().expect("the log").iter().find(|line| line.contains("serving DNS on")).cloned() {
                break line;
            }
            let ended = child.try_wait().expect("its state");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "not serving ({ended:?}): {:#?}", log.lock().expect("the log"));
            std::thread::sleep(Duration::from_millis(5));
        };
        let after = |word: &str| {
            let rest = line.split(word).nth(1).unwrap_or_else(|| panic!("{line}"));
            let text = rest.trim_start().split([',', ' ']).next().unwrap_or_default();
            text.parse().unwrap_or_else(|_| panic!("{text:?} in {line}"))
        };
        let admin = if line.contains("no admin listener") { SocketAddr::from(([0, 0, 0, 0], 0)) } else { after("admin on") };
        Meridian { dns: after("serving DNS on"), admin, child, dir, log }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder of its files.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces one file.
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        write(self.dir.path(), path, text)
    }

    /// What it said on stderr so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    /// Waits until a line on stderr has all of these words: what is said comes after what is done. Returns how many lines have them.
    pub fn says(&self, words: &[&str]) -> usize {
        let began = Instant::now();
        loop {
            let lines = self.log().iter().filter(|line| words.iter().all(|word| line.contains(word))).count();
            if lines > 0 {
                return lines;
            }
            assert!(began.elapsed() < PATIENCE, "not said: {words:?}: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM, and starts again on the same folder. The ports may be others.
    pub fn restart(mut self) -> Meridian {
        self.terminate();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a folder"));
        drop(self);
        Self::start_in(dir)
    }

    /// After SIGKILL: waits for the end, and starts again on the same folder. The ports may be others.
    pub fn restart_dead(mut self) -> Meridian {
        self.child.wait().expect("its end");
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a folder"));
        drop(self);
        Self::start_in(dir)
    }

    /// Sends SIGTERM and waits for the end; returns how long it took and the exit code.
    pub fn terminate(&mut self) -> (Duration, Option<i32>) {
        let began = Instant::now();
        self.signal("TERM");
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return (began.elapsed(), status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("did not end on SIGTERM: {:#?}", self.log());
    }

    /// Its folder, after its end.
    pub fn into_folder(mut self) -> tempfile::TempDir {
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a folder"))
    }

    /// SIGKILL, without a moment between.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Runs a client command (`status`, `reload`, …) against it: exit code and both outputs.
    pub fn command(&self, args: &[&str]) -> (i32, String, String) {
        self.command_by(Command::new(env!("CARGO_BIN_EXE_meridian")), args)
    }

    /// The same, by a command that runs the program.
    pub fn command_by(&self, mut program: Command, args: &[&str]) -> (i32, String, String) {
        let output = program
            .args(args)
            .args(["--config".as_ref(), self.dir.path().join("meridian.toml").as_os_str()])
            .args(["--server", &format!("http://{}", self.admin)])
            .current_dir(self.dir.path())
            .output()
            .expect("the program runs");
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The admin token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("state/admin.token")).expect("the token").trim().to_string()
    }

    /// Asks over UDP with a fresh socket.
    pub fn ask(&self, name: &str, rtype: RecordType) -> Message {
        Asker::new(self.dns).ask(name, rtype, None)
    }

    /// Asks over UDP on behalf of a client subnet.
    pub fn ask_for(&self, name: &str, rtype: RecordType, client: (IpAddr, u8)) -> Message {
        Asker::new(self.dns).ask(name, rtype, Some(client))
    }

    /// Asks over TCP with a fresh connection.
    pub fn ask_tcp(&self, name: &str, rtype: RecordType) -> Message {
        let packet = encode(name, rtype, 4711, None);
        let mut stream = TcpStream::connect(self.dns).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], &packet].concat()).expect("it takes the query");
        let mut len = [0; 2];
        stream.read_exact(&mut len).expect("a length");
        let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut octets).expect("a reply");
        Message::from_vec(&octets).expect("it decodes")
    }

    /// Waits until `is_so` holds of the answers' addresses; panics with the last answer when it does not come about. Returns how long it took.
    pub fn wait_for(&self, name: &str, rtype: RecordType, is_so: impl Fn(&[IpAddr]) -> bool) -> Duration {
        let asker = Asker::new(self.dns);
        let began = Instant::now();
        loop {
            let seen = addresses(&asker.ask(name, rtype, None));
            if is_so(&seen) {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{name} {rtype} still is {seen:?}: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Meridian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One UDP socket that asks.
pub struct Asker {
    socket: UdpSocket,
}

impl Asker {
    /// From any port to `server`.
    pub fn new(server: SocketAddr) -> Asker {
        let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).expect("a socket");
        socket.connect(server).expect("a way");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Asker { socket }
    }

    /// One question, one reply; an unanswered question is a failure.
    pub fn ask(&self, name: &str, rtype: RecordType, client: Option<(IpAddr, u8)>) -> Message {
        static ID: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
        let id = ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.socket.send(&encode(name, rtype, id, client)).expect("it can be sent");
        let mut buf = [0; 4096];
        loop {
            let len = self.socket.recv(&mut buf).unwrap_or_else(|error| panic!("{name} {rtype} got no answer: {error}"));
            let message = Message::from_vec(&buf[..len]).expect("it decodes");
            if message.metadata.id == id {
                return message;
            }
        }
    }
}

/// A query, with a client subnet if given.
#[allow(dead_code)]
pub fn encode(name: &str, rtype: RecordType, id: u16, client: Option<(IpAddr, u8)>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    if let Some((addr, len)) = client {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(addr, len, 0)));
        message.set_edns(edns);
    }
    message.to_bytes().expect("it encodes")
}

/// The addresses in the answer section.
pub fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(addr) => Some(IpAddr::V4(addr.0)),
        RData::AAAA(addr) => Some(IpAddr::V6(addr.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// The scope of the client-subnet option in a reply.
#[allow(dead_code)]
pub fn scope(message: &Message) -> Option<u8> {
    message.edns.as_ref()?.options().as_ref().iter().find_map(|(_, option)| match option {
        EdnsOption::Subnet(subnet) => Some(subnet.scope_prefix()),
        _ => None,
    })
}

pub fn write(dir: &Path, path: &str, text: &str) -> PathBuf {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
    std::fs::write(&path, text).expect("the file");
    if path.extension().is_some_and(|extension| extension == "key") {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    path
}

/// Ports that the system chooses.
pub const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nthreads = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n";

/// A port that is free for UDP and TCP at the time; who starts another program on it tries again when that program ends at once.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = tcp.local_addr().expect("its address");
        if UdpSocket::bind(addr).is_ok() {
            return addr.port();
        }
    }
}

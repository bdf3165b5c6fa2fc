//! Checks by a program of the operator's: only where `[health]` allows it. It runs without a shell, with an environment of its own, in a process group of
//! its own that is killed when the check ends, however it ends, and under limits of CPU, memory and files that what escapes it takes along.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::check::Progress;
use super::words::{self, Phase};
use crate::certs::words::foreign;
use crate::control::api::CheckTarget;
use crate::health::{Failure, Outcome};
use crate::policy::model::ExecCheck;
use crate::sys;

/// Programs at a time: each is a process, and what it costs nobody knows.
pub(super) const EXECS_MAX: usize = 16;
/// As much of what it says is kept.
const OUTPUT_MAX_BYTES: usize = 4096;
/// Octets of memory that each process may have: a program that asks one thing needs little, and sixteen that leak do not take the machine along.
const MEMORY_MAX_BYTES: u64 = 512 << 20;
/// Octets of a file that it writes: more is no check.
const FILE_MAX_BYTES: u64 = 64 << 20;
/// Files that each process may have open.
const FILES_MAX: u64 = 256;
/// Where it finds other programs.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What a program that has ended still has to say comes within this time, or is lost: something that it started may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Why none runs: the setting of now decides, not that under which a zone was loaded.
pub(super) const NOT_ALLOWED: &str = "programs are not run; [health] exec = true in meridian.toml allows it to all zones and libraries";

/// Runs it; exit code 0 passes.
pub(super) async fn exec(check: &ExecCheck, target: &CheckTarget, timeout: Duration, progress: &Progress) -> Outcome {
    progress.enter(Phase::Run);
    let [program, arguments @ ..] = &check.command[..] else { return Err(Failure::Internal("no program".to_owned())) };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C");
    let (address, host) = match target {
        CheckTarget::Address(address) | CheckTarget::Behind { at: address, .. } => (Some(address.to_string()), None),
        CheckTarget::Host(host) => (None, Some(host)),
        // Somebody reports of it; nobody asks.
        CheckTarget::Endpoint(_) => (None, None),
    };
    command.envs(address.map(|address| ("MERIDIAN_ADDRESS", address))).envs(host.map(|host| ("MERIDIAN_HOST", host)));
    command.env("MERIDIAN_TIMEOUT", timeout.as_secs_f64().to_string());
    if let Some(port) = check.port {
        command.env("MERIDIAN_PORT", port.to_string());
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| Failure::Internal(format!("{program}: {}", words::plain(&error.to_string()))))?;
    let cpu_s = timeout.as_secs() + 1;
    if let Some(id) = child.id() {
        sys::limit(id, sys::Limits { cpu_s, memory: MEMORY_MAX_BYTES, file: FILE_MAX_BYTES, files: FILES_MAX });
    }
    let mut group = Group { id: child.id(), child };
    let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
    let mut said = Vec::new();
    let ended = {
        let mut listening = std::pin::pin!(listen(out, err, &mut said));
        tokio::select! {
            ended = group.child.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, listening).await;
                ended
            }
            () = &mut listening => group.child.wait().await,
        }
    };
    let ended = ended.map_err(|error| Failure::Internal(format!("{program}: {}", words::plain(&error.to_string()))))?;
    if ended.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let said = if line.is_empty() { String::new() } else { format!(": {}", foreign(line)) };
    Err(Failure::Answer(match ended.code() {
        Some(code) => format!("exit code {code}{said}"),
        None => match ended.signal() {
            Some(libc::SIGXCPU) => format!("killed: it took more than {cpu_s} s of CPU time{said}"),
            Some(libc::SIGXFSZ) => format!("killed: it wrote a file of more than {} MiB{said}", FILE_MAX_BYTES >> 20),
            _ => format!("killed by a signal{said}"),
        },
    }))
}

/// Takes what it says on both ways, and throws away what is too much, so that it never waits for us.
async fn listen(out: Option<impl AsyncRead + Unpin>, err: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let (mut out, mut err) = (out, err);
    let (mut first, mut second) = ([0; 1024], [0; 1024]);
    while out.is_some() || err.is_some() {
        let piece = tokio::select! {
            read = read(&mut out, &mut first) => read.map(|len| &first[..len]),
            read = read(&mut err, &mut second) => read.map(|len| &second[..len]),
        };
        let room = OUTPUT_MAX_BYTES - said.len();
        said.extend(piece.unwrap_or_default().iter().take(room));
    }
}

/// Reads a piece; forgets a way that has ended.
async fn read(from: &mut Option<impl AsyncRead + Unpin>, piece: &mut [u8]) -> Option<usize> {
    let Some(stream) = from else { return std::future::pending().await };
    match stream.read(piece).await {
        Ok(len) if len > 0 => Some(len),
        _ => {
            *from = None;
            None
        }
    }
}

/// A program with all that it has started: killed when it goes out of sight.
struct Group {
    child: Child,
    /// Of the group, and of the program while it runs.
    id: Option<u32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        // While it has not been waited for, nobody else can have its number. Afterwards what it left behind holds the number of the group.
        if let Some(id) = self.id {
            sys::kill_group(id);
        }
    }
}

//! A network of the test's own: a namespace with nothing but a loopback interface, where every 127.0.0.0/8 address has a free port 53.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Set in the process that is within.
const INSIDE: &str = "MERIDIAN_TEST_IS_INSIDE";

/// Runs `body` in a process of its own, in a namespace with nothing but a loopback interface. `name` is the whole name of the test that calls this.
pub fn inside(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs (Debian: util-linux; scripts/test.sh sees to it)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status.signal().unwrap_or_default());
    assert!(said.contains("1 passed"), "{name} is no test: {said}");
}

/// Gone when dropped, with the processes that the test started in it having ended before.
pub struct Namespace {
    /// Its end of file ends `holder`.
    stdin: Option<ChildStdin>,
    holder: Child,
}

impl Namespace {
    /// Makes one; needs no privilege where user namespaces are allowed.
    pub fn new() -> Namespace {
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs (Debian: util-linux; scripts/test.sh sees to it)");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "up\n", "no network namespace can be made here");
        Namespace { stdin: holder.stdin.take(), holder }
    }

    /// The process that holds it: interfaces are moved to it by this number.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that runs in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--user", "--net", "--preserve-credentials", "--", program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.holder.wait();
    }
}

//! The README's commands give the answers it prints.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::meridian::Meridian;

/// The README promises changes within four seconds; a busy machine gets more.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);

struct Step {
    command: String,
    expected: String,
}

/// The commands of all `console` blocks, in order, with the output printed below each.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.into(), expected: String::new() }),
                None => {
                    let step = steps.last_mut().expect("output follows a command");
                    step.expected.push_str(line);
                    step.expected.push('\n');
                }
            },
        }
    }
    steps
}

/// Ends what the README leaves running in the background.
struct Background(Vec<Child>);

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn every_command_gives_the_printed_answer() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let readme = read("README.md");
    let steps = steps(&readme);
    assert!(steps.len() >= 20, "the README has commands");
    assert!(readme.contains("\ncargo run --release -- run\n") && readme.contains("\nscripts/test.sh\n"), "the two commands stand there");

    // The shipped sample, on ports of its own.
    let config =
        read("meridian.toml").replace("127.0.0.1:5300", "127.0.0.1:0").replace(", \"[::1]:5300\"", "").replace("127.0.0.1:8053", "127.0.0.1:0");
    let (zone, master, rtt) = (read("zones/example.com.toml"), read("zones/example.org.zone"), read("geodata/rtt.csv"));
    let dir = tempfile::tempdir().expect("a folder");
    for (path, text) in
        [("meridian.toml", &config), ("zones/example.com.toml", &zone), ("zones/example.org.zone", &master), ("geodata/rtt.csv", &rtt)]
    {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(path, text).expect("the file");
    }
    std::fs::copy(root.join("geodata/sample.mmdb"), dir.path().join("geodata/sample.mmdb")).expect("the database");
    let meridian = Meridian::start_in(dir);

    let own = format!("{} --server http://{}", env!("CARGO_BIN_EXE_meridian"), meridian.admin);
    let mut background = Background(Vec::new());
    for step in steps {
        let command = step.command.replace("-p 5300", &format!("-p {}", meridian.dns.port()));
        let command = match command.strip_prefix("target/release/meridian ") {
            Some(rest) => {
                let (words, redirect) = rest.split_once(" >").unwrap_or((rest, ""));
                let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
                format!(
                    "{} {name} {rest} {} {}",
                    env!("CARGO_BIN_EXE_meridian"),
                    own.split_once(' ').expect("a server").1,
                    if redirect.is_empty() { String::new() } else { format!(">{redirect}") }
                )
            }
            None => command,
        };
        let mut shell = Command::new("sh");
        shell.current_dir(meridian.path()).stdin(Stdio::null());
        if let Some(command) = command.strip_suffix('&') {
            // `exec`, so that ending the shell ends the server.
            shell.arg("-c").arg(format!("exec {command}")).stdout(Stdio::null()).stderr(Stdio::null());
            background.0.push(shell.spawn().expect("it starts"));
            continue;
        }
        shell.arg("-c").arg(&command);
        let began = Instant::now();
        loop {
            let output = shell.output().expect("it runs");
            let found = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && found == step.expected {
                break;
            }
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(began.elapsed() < SETTLES_WITHIN, "$ {}\nfound:\n{found}{stderr}\nexpected:\n{}", step.command, step.expected);
            assert!(step.command.starts_with("dig"), "$ {}\n{stderr}", step.command);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

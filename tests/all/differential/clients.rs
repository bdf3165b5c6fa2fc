//! The same questions by `dig` and `kdig`: replies as clients that nobody here wrote read them.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use meridian::dns::{Name, RecordType};
use meridian::zone::rdata;

use super::message::{Opt, Question, Rec, Reply, rcode_text};
use super::servers::HUNG;

/// Where the text of each reply begins.
const HEAD: &str = "->>HEADER<<-";
/// Never sent by these programs, or sent as something else than one question and one reply.
const NOT_ASKED: [u16; 9] = [0, 41, 128, 249, 250, 251, 252, 253, 254];

/// Whether the programs can put this question.
pub fn can_ask(question: &Question) -> bool {
    question.class == 1 && !NOT_ASKED.contains(&question.rtype.0) && question.way.edns != Some(0)
}

/// The flag of responses (RFC 1035 §4.1.1).
const QR: u16 = 0x8000;

/// Seconds that one process may take for all its questions.
const TIME: &str = "60";

/// All questions in one process; replies in their order, or that the server answers no more. What is no response is shown and asked for once more: it
/// is the program's own query. `dig` 9.18 sets `SO_REUSEPORT` on its UDP socket, and so does the server on its own; as both run as the same user, the
/// system counts the server's port among those that are free, and one socket in 37,000 (4 of 150,000 made that way) gets it and hears itself. Over
/// TCP that takes a port where nobody listens.
pub fn ask(program: &str, server: SocketAddr, questions: &[Question]) -> Vec<Result<Reply, String>> {
    let mut replies = ask_once(program, server, questions);
    for (reply, question) in replies.iter_mut().zip(questions) {
        if reply.as_ref().is_ok_and(|reply| reply.flags & QR == 0) {
            eprintln!("{program}, {server}: no response to {question:?}: {reply:?}");
            *reply = ask_once(program, server, std::slice::from_ref(question)).remove(0);
        }
    }
    replies
}

fn ask_once(program: &str, server: SocketAddr, questions: &[Question]) -> Vec<Result<Reply, String>> {
    let port = server.port().to_string();
    let mut command = Command::new("timeout");
    command.args([TIME, program]).args([&format!("@{}", server.ip()), "-p", &port]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let lines: Vec<Vec<String>> = questions.iter().map(|question| arguments(program, question)).collect();
    if program == "dig" {
        command.args(["-f", "-"]);
    } else {
        command.arg("+noidn").args(lines.concat());
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; `scripts/test.sh` installs it"));
    let mut stdin = child.stdin.take().expect("its stdin");
    let batch: String = lines.iter().map(|line| line.join(" ") + "\n").collect();
    let writer = std::thread::spawn(move || drop(stdin.write_all(batch.as_bytes())));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("no panic");
    let text = String::from_utf8_lossy(&output.stdout);
    let replies: Vec<&str> = text.split(HEAD).skip(1).collect();
    if replies.len() < questions.len() {
        eprintln!("{program} got no reply to some questions: {text}");
        return questions.iter().map(|_| Err(HUNG.into())).collect();
    }
    replies.into_iter().zip(questions).map(|(reply, question)| Ok(read(reply, question))).collect()
}

fn arguments(program: &str, question: &Question) -> Vec<String> {
    let way = question.way;
    let mut args = vec!["-q".to_string(), question.name.to_string(), "-t".into(), question.rtype.to_string(), "-c".into(), "IN".into()];
    let mut flag = |name: &str, on: bool| args.push(format!("+{}{name}", if on { "" } else { "no" }));
    flag("tcp", way.tcp);
    flag("ignore", true);
    flag("cookie", false);
    flag("adflag", false);
    flag("rec", way.recursion_desired);
    if program == "dig" {
        flag("idnin", false);
        flag("idnout", false);
        flag("tries=3", true);
    } else {
        flag("retry=2", true);
    }
    match way.edns {
        Some(size) => {
            flag(&format!("bufsize={size}"), true);
            flag("dnssec", way.dnssec_ok);
        }
        None => flag("edns", false),
    }
    args
}

/// Reads what a program prints of one reply.
fn read(text: &str, question: &Question) -> Reply {
    let after = |word: &str| text.split(word).nth(1).unwrap_or_default();
    let until = |text: &str, ends: &[char]| text.split(ends).next().unwrap_or_default().trim().to_string();
    let status = until(after("status: "), &[',', ';', '\n']);
    let rcode = (0..=16).find(|rcode| rcode_text(*rcode) == status).unwrap_or(999);
    let mut flags = 0;
    for word in until(after("lags: "), &[';']).split_whitespace() {
        let bits = [("qr", 0x8000), ("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ra", 0x0080), ("ad", 0x0020), ("cd", 0x0010)];
        flags |= bits.iter().find(|(name, _)| *name == word).map_or(0x0040, |(_, bit)| *bit);
    }
    let opt = text.contains("PSEUDOSECTION").then(|| {
        let section = after("PSEUDOSECTION");
        let line = section.lines().find(|line| line.contains("ersion: ")).unwrap_or_default();
        let size = line.to_lowercase().split("udp").nth(1).unwrap_or_default().chars().filter(char::is_ascii_digit).collect::<String>();
        let version = until(line.split("ersion: ").nth(1).unwrap_or_default(), &[',', ';']).parse().unwrap_or(255);
        let dnssec_ok = until(line.split("lags:").nth(1).unwrap_or_default(), &[';', ',']) == "do";
        Opt { size: size.parse().unwrap_or(0), version, dnssec_ok, rest_of_flags: 0, options: Vec::new() }
    });
    let asked = after("QUESTION SECTION:\n").trim_start_matches([';', ' ']).split_whitespace().next().unwrap_or_default();
    let mut octets = Name::parse_absolute(asked).map_or(Vec::new(), |name| name.as_wire().to_vec());
    octets.extend(question.rtype.0.to_be_bytes());
    octets.extend(question.class.to_be_bytes());
    let section = |name: &str| {
        let lines = text.split(&format!(";; {name} SECTION:\n")).nth(1).unwrap_or_default().lines();
        lines.take_while(|line| !line.is_empty() && !line.starts_with(';')).map(record).collect::<Vec<_>>()
    };
    let (answer, authority, additional) = (section("ANSWER"), section("AUTHORITY"), section("ADDITIONAL"));
    Reply { rcode, flags, question: octets, answer, authority, additional, opt, len: 0 }
}

/// Reads a record as a program prints it.
fn record(line: &str) -> Rec {
    let mut rest = line;
    let mut next = || {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        rest = tail;
        word
    };
    let (owner, ttl, class, rtype) = (next(), next(), next(), next());
    let rtype: RecordType = rtype.parse().unwrap_or_else(|_| panic!("type in {line:?}"));
    let mut data = rdata::parse(rtype, rest.trim(), &Name::root()).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    for span in rdata::names(rtype, &data.clone()) {
        let from = usize::from(span.offset);
        data[from..from + usize::from(span.len)].make_ascii_lowercase();
    }
    let owner = Name::parse_absolute(owner).unwrap_or_else(|error| panic!("{line:?}: {error}")).to_lowercase();
    Rec {
        owner: owner.as_wire().to_vec(),
        rtype,
        class: if class == "IN" { 1 } else { 0 },
        ttl: ttl.parse().unwrap_or_else(|_| panic!("TTL in {line:?}")),
        rdata: data,
    }
}

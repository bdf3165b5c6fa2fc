//! Every `curl` of `docs/admin.md`, run against the real program: it gets the status that the page says, or a good one where it says none, and the
//! reply that stands below it.
//!
//! What differs from run to run is not compared: times, sequences, generations, ids of tokens; `…` is anything.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::meridian::{CONFIG, Meridian};
use crate::operations::is_like;
use crate::rest::Rest;

/// What the page speaks of: half of the endpoints in one pool of the region `eu`, three quarters in the region.
const ZONE: &str = "[zone]\nname = \"example.com\"\nns = [\"ns1\"]\n[records]\nns1.A = \"192.0.2.53\"\n\
    [region]\neu = {}\n[pool.fra]\nregion = \"eu\"\nendpoints = [{ address = \"192.0.2.10\", weight = 4 }, \"192.0.2.11\"]\n\
    [pool.ber]\nregion = \"eu\"\nendpoints = [\"192.0.2.20\"]\n[pool.iad]\nendpoints = [\"198.51.100.10\"]\n\
    [policy.split]\npolicy = \"weighted\"\nto = { fra = 3, iad = 1 }\n[steer.api]\nuse = \"split\"\n\
    [steer.www]\npolicy = \"failover\"\nto = [\"fra\", \"ber\", \"iad\"]\nttl = 60\nfailback = \"manual\"\n\
    [steer.app]\npolicy = \"geo\"\nrules = [{ geo = [\"EU\"], to = [\"fra\"] }, { geo = [\"AS-TR\"], to = [\"ber\"] }]\ndefault = [\"iad\"]\n\
    [safety]\nmax_withdrawn = \"50%\"\n";

/// The id that the page gives to a token.
const TOKEN_ID: &str = "5f3a90c1";

/// Commands that stand together, and the reply below the last one.
struct Example {
    commands: Vec<String>,
    reply: Option<String>,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut fence, mut body, mut is_below) = (None::<String>, String::new(), false);
    for line in page.lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(language)) => (fence, body) = (Some(language.to_owned()), String::new()),
            (Some(language), Some("")) => {
                match (language.as_str(), is_below, examples.last_mut()) {
                    ("sh", ..) => {
                        let commands = body.replace("\\\n", " ").lines().map(str::to_owned).collect();
                        examples.push(Example { commands, reply: None });
                    }
                    ("", true, Some(example)) => example.reply = Some(body.clone()),
                    _ => {}
                }
                is_below = language == "sh";
                fence = None;
            }
            (Some(_), _) => body += &format!("{line}\n"),
            (None, None) => is_below &= line.is_empty(),
        }
    }
    examples
}

/// A server as the page finds it: six overlays have been there before, and the seventh is what the example is about. The id of the token that it is
/// about comes along.
fn server_for(example: &Example) -> (Meridian, Rest, String) {
    let server = Meridian::start(&[("zones/example.com.toml", ZONE), ("meridian.toml", CONFIG)]);
    let rest = Rest::new(&server);
    for _ in 0..6 {
        let id = rest.lay("example.com/ns1/A", json!({ "ttl": 30 }));
        rest.revert(id);
    }
    let text = example.commands.join("\n");
    if text.contains("/promote") {
        rest.lay("example.com/policy:split/iad", json!({ "weight": 9 }));
    } else if text.contains("/v1/overlays/7") {
        rest.lay("example.com/www", json!({ "ttl": 20 }));
    } else if text.contains("/v1/audit") {
        let body = json!({ "target": "example.com/fra/192.0.2.10", "set": { "weight": 7 }, "reason": "warming up" });
        rest.send(reqwest::Method::POST, "/v1/overlays", Some(body), Some(("Meridian-Actor", "ada")));
    }
    let id =
        if text.contains(TOKEN_ID) { rest.post("/v1/tokens", json!({ "name": "deploy", "role": "operate" }))["id"].clone() } else { Value::Null };
    (server, rest, id.as_str().unwrap_or(TOKEN_ID).to_owned())
}

/// A `curl` that writes down the heads of replies, and reads streams for a moment only.
fn curl_in(folder: &Path) {
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in */v1/events*) limit=\"--max-time 3\";; esac\nexec /usr/bin/curl -sS $limit -D {}/head \"$@\"\n",
        folder.display()
    );
    let path = folder.join("curl");
    std::fs::write(&path, text).expect("the file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// The JSON of the page: what it leaves out is marked by a member `…`.
fn as_json(text: &str) -> Value {
    let whole = text.replace("\n ", " ").replace(", …}", ",\"…\":0}").replace(",…}", ",\"…\":0}");
    serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {whole}"))
}

/// Texts with long numbers, which are times, taken out.
fn plain(text: &str) -> String {
    text.split_inclusive(|char: char| !char.is_ascii_digit())
        .map(|part| if part.trim_end_matches(|char: char| !char.is_ascii_digit()).len() > 8 { "N ".to_owned() } else { part.to_owned() })
        .collect()
}

fn same(expected: &Value, found: &Value, key: &str) -> Result<(), String> {
    let differs = || Err(format!("{key}: found {found}, expected {expected}"));
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let is_part = expected.contains_key("…");
            if let Some(more) = found.keys().find(|key| !is_part && !expected.contains_key(*key)) {
                return Err(format!("{key}: found a member {more} that the page does not show"));
            }
            expected.iter().filter(|(key, _)| *key != "…").try_for_each(|(key, value)| same(value, found.get(key).unwrap_or(&Value::Null), key))
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            expected.iter().zip(found).try_for_each(|(expected, found)| same(expected, found, key))
        }
        (Value::Number(_), Value::Number(_))
            if ["created", "expires", "generation", "sequence", "at", "next", "last_used"].contains(&key) || expected == found =>
        {
            Ok(())
        }
        (Value::String(_), Value::String(_)) if ["from", "token"].contains(&key) || (key == "id" && *expected == TOKEN_ID) => Ok(()),
        (Value::String(expected), Value::String(found)) if is_like(&plain(found), &plain(expected)) => Ok(()),
        _ if expected == found => Ok(()),
        _ => differs(),
    }
}

/// The reply as the page shows it: the head if it is shown, then JSON, or a stream of events.
fn check(command: &str, reply: &str, head: &str, body: &str) {
    let (shown_head, shown_body) = match reply.strip_prefix("HTTP/1.1 ").and_then(|_| reply.split_once("\n\n")) {
        Some((head, body)) => (head, body),
        None => ("", reply),
    };
    for line in shown_head.lines() {
        assert!(head.lines().any(|found| found.trim() == line), "$ {command}\nexpected {line:?} in\n{head}");
    }
    if shown_body.starts_with('{') {
        let found = serde_json::from_str(body).unwrap_or_else(|error| panic!("$ {command}\n{error}: {body}"));
        same(&as_json(shown_body.trim()), &found, "").unwrap_or_else(|why| panic!("$ {command}\n{why}\nfound {found}"));
        return;
    }
    // Events, between which others may stand.
    let mut lines = body.lines();
    for expected in shown_body.lines().filter(|line| !line.is_empty()) {
        let event = |line: &str| match (line.strip_prefix("data: "), expected.strip_prefix("data: ")) {
            (Some(found), Some(expected)) => serde_json::from_str(found).is_ok_and(|found| same(&as_json(expected), &found, "").is_ok()),
            _ => plain(line) == plain(expected) || (line.starts_with("id: ") && expected.starts_with("id: ")),
        };
        assert!(lines.any(event), "$ {command}\nexpected {expected} in\n{body}");
    }
}

#[test]
fn every_call_of_the_page_gets_the_reply_that_it_shows() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin.md")).expect("the page");
    let examples = examples(&page);
    let calls = examples.iter().flat_map(|example| &example.commands).filter(|command| command.contains("curl ")).count();
    assert_eq!((calls, examples.iter().filter(|example| example.reply.is_some()).count()), (page.matches("curl ").count(), 10), "none is left out");
    for example in &examples {
        let (server, rest, token_id) = server_for(example);
        let tools = tempfile::tempdir().expect("a folder");
        curl_in(tools.path());
        let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut settings = "token=$(cat state/admin.token)\n".to_owned();
        for (at, command) in example.commands.iter().enumerate() {
            if !command.starts_with("curl ") {
                settings += &format!("{command}\n");
                continue;
            }
            let is_stream = command.contains("/v1/events");
            let line = format!("{settings}{command}").replace("127.0.0.1:8053", &server.admin.to_string()).replace(TOKEN_ID, &token_id);
            let mut shell = Command::new("sh");
            let running = shell.current_dir(server.path()).env("PATH", &path).args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            if is_stream {
                // Something that it can tell.
                std::thread::sleep(Duration::from_secs(1));
                rest.lay("example.com/fra", json!({ "state": "up" }));
            }
            let output = running.and_then(|running| running.wait_with_output()).expect("it runs");
            let (head, body) = (std::fs::read_to_string(tools.path().join("head")).expect("a head"), String::from_utf8_lossy(&output.stdout));
            assert!(output.status.success() || is_stream, "$ {command}\n{body}");
            let reply = example.reply.as_ref().filter(|_| at + 1 == example.commands.len());
            let says_status = reply.is_some_and(|reply| reply.starts_with("HTTP/1.1 "));
            assert!(says_status || head.starts_with("HTTP/1.1 2"), "$ {command}\n{head}{body}");
            if let Some(reply) = reply {
                check(command, reply, &head, &body);
            }
        }
    }
}

#[test]
fn replies_are_compared_for_what_lasts() {
    for (expected, found, alike) in [
        (json!({ "a": 1 }), json!({ "a": 1 }), true),
        (json!({ "a": 1 }), json!({ "a": 2 }), false),
        (json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), false),
        (json!({ "a": 1, "…": 0 }), json!({ "a": 1, "b": 2 }), true),
        (json!({ "a": 1, "b": 2 }), json!({ "a": 1 }), false),
        (json!({ "at": 1_795_243_349 }), json!({ "at": 1 }), true),
        (json!({ "at": 1_795_243_349 }), json!({ "at": "x" }), false),
        (json!("expires 1795329749"), json!("expires 1795329999"), true),
        (json!("expires 1795329749"), json!("expired 1795329749"), false),
        (json!([1]), json!([1, 2]), false),
        (json!("a … c"), json!("a b c"), true),
    ] {
        assert_eq!(same(&expected, &found, "").is_ok(), alike, "{expected} {found}");
    }
}

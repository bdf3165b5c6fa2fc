//! `events`: what happens, as it happens.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::ConfigArg;
use super::client::{CallError, Client};
use super::commands::{finish, read};
use super::list_args::EventsArgs;
use super::table::clean;
use super::{access, complain, print};

/// Time between attempts to reach a server that is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The server sends a line of nothing every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// An event is a few KiB; a line that does not end is none of ours.
const MAX_EVENT_LEN: usize = 16 * 1024 * 1024;

/// `meridian events`: streams end after a while by themselves, so they are taken up again behind the last event that was seen.
pub(super) async fn events(config: &ConfigArg, args: EventsArgs) -> ExitCode {
    let json = args.connect.json;
    // Who asks for one kind of entry asks for nothing else; that the log has a gap is said in any case.
    let is_wanted = |event: &Event| args.kind.is_none() || event.name != "generation";
    let failed = |error| finish(json, Err(error), |_| Ok(String::new()));
    let client = match Client::new(config, &args.connect) {
        Ok(client) => client,
        Err(error) => return failed(error),
    };
    let mut query: Vec<(&str, &str)> = args.kind.map(|kind| ("kind", kind.word())).into_iter().collect();
    query.extend(args.target.as_deref().map(|target| ("target", target)));
    let (mut parser, mut has_begun) = (Parser { last: args.after, ..Parser::default() }, false);
    loop {
        match client.stream("/v1/events", &query, parser.last).await {
            Ok(mut stream) => {
                has_begun = true;
                parser.begin();
                // A server that says nothing any more is gone, whatever its connection says.
                while let Ok(Ok(Some(chunk))) = tokio::time::timeout(SILENCE, stream.chunk()).await {
                    let mut written = Ok(());
                    let mut tell = |event: Event| {
                        if written.is_ok() && is_wanted(&event) {
                            written = print(&if json { event.json() } else { event.line() });
                        }
                    };
                    if let Err(error) = parser.take(&chunk, &mut tell) {
                        return failed(error);
                    }
                    if let Err(unwritten) = written {
                        return unwritten.end();
                    }
                }
            }
            Err(error) if !has_begun || error.problem().is_some_and(|problem| problem.status < 500 && problem.status != 429) => return failed(error),
            Err(error) => {
                complain(&clean(&error.to_string()));
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// One event.
#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    data: Value,
}

impl Event {
    fn json(&self) -> String {
        format!("{}\n", json!({ "event": self.name, "data": self.data }))
    }

    fn line(&self) -> String {
        match self.name.as_str() {
            "generation" => format!("generation {} serves\n", self.data["generation"]),
            "end" => format!("the stream ends: {}\n", clean(self.data["why"].as_str().unwrap_or_default())),
            "gap" if self.data["newest"].is_u64() => {
                format!("the log ends at entry {}, before entry {}: another state file is in use\n", self.data["newest"], self.data["after"])
            }
            "gap" => format!("the log has dropped what was between entry {} and entry {}\n", self.data["after"], self.data["oldest"]),
            _ => match read(&self.data) {
                Ok(entry) => access::line(&entry),
                Err(_) => format!("{} {}\n", clean(&self.name), clean(&self.data.to_string())),
            },
        }
    }
}

/// Reads a stream of events (HTML §9.2.6) as our server writes it: a line a field, data on one line.
#[derive(Debug, Default)]
struct Parser {
    /// Id of the last whole event that had one.
    last: Option<u64>,
    line: Vec<u8>,
    id: Option<u64>,
    name: String,
    data: String,
}

impl Parser {
    /// A new stream: what was cut off comes again.
    fn begin(&mut self) {
        *self = Parser { last: self.last, ..Parser::default() };
    }

    fn take(&mut self, chunk: &[u8], tell: &mut dyn FnMut(Event)) -> Result<(), CallError> {
        for byte in chunk {
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    self.line(line.trim_end_matches('\r'), tell);
                }
                _ if self.line.len() >= MAX_EVENT_LEN => return Err(CallError::Unreachable("the reply is no stream of events".into())),
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, tell: &mut dyn FnMut(Event)) {
        let (field, value) = line.split_once(':').map_or((line, ""), |(field, value)| (field, value.strip_prefix(' ').unwrap_or(value)));
        match field {
            "id" => self.id = value.parse().ok(),
            "event" => self.name = value.into(),
            "data" => self.data = value.into(),
            "" if line.is_empty() => {
                let (id, name, data) = (self.id.take(), std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                self.last = id.or(self.last);
                if let Ok(data) = serde_json::from_str(&data) {
                    tell(Event { name, data });
                }
            }
            // Comments, which keep the connection alive, and `retry`.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = b"retry: 1000\n\nevent: generation\ndata: {\"generation\":12}\n\n: nothing new\n\nid: 41\nevent: change\ndata: {\"a\":\"x: y\"}\n\nid: 42\nevent: cha";
        for size in 1..text.len() {
            let (mut parser, mut seen) = (Parser { last: Some(40), ..Parser::default() }, Vec::new());
            for chunk in text.chunks(size) {
                parser.take(chunk, &mut |event| seen.push(event)).expect("it ends");
            }
            let event = |name: &str, data| Event { name: name.into(), data };
            assert_eq!(seen, [event("generation", json!({ "generation": 12 })), event("change", json!({ "a": "x: y" }))]);
            assert_eq!(parser.last, Some(41), "the event that was cut off comes again");
        }
    }
}

//! Waiting until something drained may be stopped.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::{finish, read, warn};
use super::table::clean;
use super::{Unwritten, print, show, tell};
use crate::control::api::{Applied, Overlay};
use crate::control::unix_now;

/// Time between looks.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds without a reply after which the server is given up: a restart takes less.
const MAX_AWAY_S: u64 = 60;

/// Lays a drain and waits for its end: with a bar on a terminal, else with a line whenever something changes.
pub(super) async fn drain(config: &ConfigArg, connect: &Connect, call: Call<'_>) -> ExitCode {
    let mut signals = Signals::new();
    let lay = async {
        let client = Client::new(config, connect)?;
        let applied: Applied = read(&client.call(call).await?)?;
        Ok((client, applied))
    };
    let laid = tokio::select! {
        laid = lay => laid,
        signal = signals.next() => {
            let text = format!("{signal}; the drain may be laid all the same: meridian overlay list shows it");
            return failed(connect.json, serde_json::json!({}), CallError::Ended(text));
        }
    };
    let (client, applied) = match laid {
        Ok(laid) => laid,
        Err(error) => return finish(connect.json, Err(error), |_| Ok(String::new())),
    };
    warn(&serde_json::json!(applied));
    // Whoever reads it may go; what is waited for is told by the exit code as well.
    if !connect.json
        && let Err(unwritten @ Unwritten::Failed(_)) = print(&show::applied(&applied, "laid", client.now()))
    {
        unwritten.end();
    }
    let mut wait = Wait { bar: bar(!connect.json && io::stderr().is_terminal()), json: connect.json, seen: applied.overlay };
    let result = tokio::select! {
        result = wait.watch(&client) => result,
        signal = signals.next() => Err(CallError::Ended(signal.into())),
    };
    wait.bar.finish_and_clear();
    match result {
        Ok(()) => finish(connect.json, Ok(serde_json::json!(wait.seen)), |_| {
            Ok(format!("overlay {}: {} is drained; it may be stopped\n", wait.seen.id, clean(&wait.seen.target)))
        }),
        Err(error) => {
            let text = format!("{error}; {}", wait.stands(client.now()));
            failed(connect.json, serde_json::json!(wait.seen), error.saying(text))
        }
    }
}

/// Says why it came to nothing; programs read it beside what was seen last.
fn failed(json: bool, mut last: serde_json::Value, error: CallError) -> ExitCode {
    if json {
        last["error"] = error.to_string().into();
        let _ = print(&format!("{last:#}\n"));
    }
    finish(false, Err(error), |_| Ok(String::new()))
}

/// Those that end a command, from now on; what cannot be listened to ends it as ever.
struct Signals([Option<Signal>; 2]);

impl Signals {
    fn new() -> Signals {
        Signals([SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok()))
    }

    /// What happened, in a word.
    async fn next(&mut self) -> &'static str {
        async fn came(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            () = came(interrupt) => "interrupted",
            () = came(terminate) => "terminated",
        }
    }
}

/// What is waited for.
struct Wait {
    bar: ProgressBar,
    json: bool,
    /// As it was last.
    seen: Overlay,
}

impl Wait {
    /// What goes on without this command, and what can be done about it.
    fn stands(&self, now: u64) -> String {
        let Overlay { id, target, .. } = &self.seen;
        let how = match words(&self.seen, now) {
            _ if self.seen.phase == "ended" => return format!("what overlay {id} withdrew is answered as the files and other overlays say"),
            (words, _) => words,
        };
        format!(
            "overlay {id} stays in force and goes on draining {} ({how}): meridian overlay list --watch shows it, meridian overlay revert {id} takes it back",
            clean(target)
        )
    }

    /// Until it is drained.
    async fn watch(&mut self, client: &Client) -> Result<(), CallError> {
        let path = format!("/v1/overlays/{}", self.seen.id);
        let began = client.now();
        let (mut away_since, mut said) = (None, String::new());
        loop {
            let looked = async { read::<Overlay>(&client.call(Call::new(Method::GET, &path)).await?) }.await;
            match looked {
                Ok(overlay) => {
                    away_since = None;
                    self.seen = overlay;
                    if self.seen.withdrawal.as_ref().is_some_and(|one| one.state == "drained") {
                        return Ok(());
                    }
                    if self.seen.phase == "without effect" && self.seen.began.is_some() && self.seen.withdrawal.is_none() {
                        let why = "what it was about is not in the files any more, and nobody knows until when caches hold it";
                        return Err(CallError::Ended(format!("overlay {} is without effect: {why}", self.seen.id)));
                    }
                    self.show(client.now(), began, &mut said);
                }
                Err(CallError::Refused(problem)) if problem.status == 404 => {
                    self.seen.phase = "ended".into();
                    return Err(CallError::Ended(format!("overlay {} ended before it was drained", self.seen.id)));
                }
                Err(error) => {
                    let away = unix_now().saturating_sub(*away_since.get_or_insert_with(unix_now));
                    if away >= MAX_AWAY_S {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn show(&self, now: u64, began: u64, said: &mut String) {
        let (text, key) = words(&self.seen, now);
        let end = expected_end(&self.seen, now).max(now + 1);
        self.bar.set_length(end.saturating_sub(began).max(1));
        self.bar.set_position(now.saturating_sub(began));
        self.bar.set_message(text.clone());
        if self.bar.is_hidden() && !self.json && key != *said {
            tell(&format!("{text}\n"));
            *said = key;
        }
    }
}

fn bar(shown: bool) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style)
}

/// When it will be over, as far as can be said: a ramp's end has still to be followed by what caches hold.
fn expected_end(overlay: &Overlay, now: u64) -> u64 {
    let safe = overlay.withdrawal.as_ref().and_then(|one| one.safe_to_stop_at);
    let ramp = overlay.ramp.as_ref().filter(|ramp| !ramp.done);
    let ramp_end = ramp.map(|ramp| ramp.began.unwrap_or(now) + ramp.over + ramp.held);
    safe.or(ramp_end).or(overlay.starts).unwrap_or(now + 1)
}

/// What to show, and what of it must change before it is said again.
fn words(overlay: &Overlay, now: u64) -> (String, String) {
    let withdrawal = overlay.withdrawal.as_ref();
    let hold = overlay.ramp.as_ref().and_then(|ramp| ramp.holding.as_ref());
    let still = withdrawal.filter(|one| !one.still_answered.is_empty()).map(|one| one.still_answered.join(", "));
    match (overlay.phase.as_str(), withdrawal.and_then(|one| one.safe_to_stop_at)) {
        ("without effect", None) => {
            let why = overlay.inactive.as_deref().map_or_else(String::new, clean);
            (format!("without effect at present: {why}"), format!("none {why}"))
        }
        ("waiting", _) => ("waits for its start".into(), "waiting".into()),
        ("holding", _) => {
            let why = hold.map_or("", |hold| hold.why.as_str());
            (format!("stands still: {why}"), format!("holding {why}"))
        }
        ("ramping", _) => {
            let left = expected_end(overlay, now).saturating_sub(now);
            (format!("gives its traffic up, {left} s to go"), "ramping".into())
        }
        (_, Some(safe)) if safe <= now => ("draining, not safe to stop yet".to_owned(), format!("safe {safe}")),
        (_, Some(safe)) => (format!("draining, safe to stop in {} s", safe.saturating_sub(now)), format!("safe {safe}")),
        (_, None) => {
            let names = still.unwrap_or_default();
            (format!("still handed out for {names}: nothing else is left there"), format!("still {names}"))
        }
    }
}

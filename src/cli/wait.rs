//! Waiting until something drained may be stopped.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;

use super::args::{ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::{finish, read, warn};
use super::{Unwritten, print, show};
use crate::control::api::{Applied, Overlay};
use crate::control::unix_now;

/// Time between looks.
const LOOK: Duration = Duration::from_secs(1);
/// Seconds without a reply after which the server is given up: a restart takes less.
const MAX_AWAY_S: u64 = 60;

/// Lays a drain and waits for its end: with a bar on a terminal, else with a line whenever something changes.
pub(super) async fn drain(config: &ConfigArg, connect: &Connect, call: Call<'_>) -> ExitCode {
    let laid = async {
        let client = Client::new(config, connect)?;
        let applied: Applied = read(&client.call(call).await?)?;
        Ok((client, applied))
    };
    let (client, applied) = match laid.await {
        Ok(laid) => laid,
        Err(error) => return finish(connect.json, Err(error), |_| Ok(String::new())),
    };
    warn(&serde_json::json!(applied));
    // Whoever reads it may go; what is waited for is told by the exit code as well.
    if !connect.json
        && let Err(unwritten @ Unwritten::Failed(_)) = print(&show::applied(&applied, "laid", unix_now()))
    {
        unwritten.end();
    }
    let result = tokio::select! {
        result = watch(&client, &applied.overlay, connect.json) => result,
        _ = tokio::signal::ctrl_c() => {
            let Overlay { id, target, .. } = &applied.overlay;
            Err(CallError::Ended(format!("interrupted; overlay {id} stays in force and goes on draining {target}: meridian overlay revert {id} takes it back")))
        }
    };
    finish(connect.json, result.map(|overlay| serde_json::json!(overlay)), |reply| {
        let overlay: Overlay = read(reply)?;
        Ok(format!("overlay {}: {} is drained; it may be stopped\n", overlay.id, overlay.target))
    })
}

async fn watch(client: &Client, laid: &Overlay, json: bool) -> Result<Overlay, CallError> {
    let path = format!("/v1/overlays/{}", laid.id);
    let began = unix_now();
    let bar = bar(!json && io::stderr().is_terminal());
    let (mut away_since, mut said) = (None, String::new());
    loop {
        let looked = async { read::<Overlay>(&client.call(Call::new(Method::GET, &path)).await?) }.await;
        match looked {
            Ok(overlay) => {
                away_since = None;
                let now = unix_now();
                let (text, key) = words(&overlay, now);
                if overlay.withdrawal.as_ref().is_some_and(|one| one.state == "drained") {
                    bar.finish_and_clear();
                    return Ok(overlay);
                }
                let end = expected_end(&overlay, now).max(now + 1);
                bar.set_length(end.saturating_sub(began).max(1));
                bar.set_position(now.saturating_sub(began));
                bar.set_message(text.clone());
                if bar.is_hidden() && !json && key != said {
                    eprintln!("{text}");
                    said = key;
                }
            }
            Err(error) => {
                let away = unix_now().saturating_sub(*away_since.get_or_insert_with(unix_now));
                let gone = matches!(&error, CallError::Refused(problem) if problem.status == 404);
                if gone || away >= MAX_AWAY_S {
                    bar.finish_and_clear();
                    return Err(if gone { CallError::Ended(format!("overlay {} ended before it was drained", laid.id)) } else { error });
                }
            }
        }
        tokio::time::sleep(LOOK).await;
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
        ("waiting", _) => ("waits for its start".into(), "waiting".into()),
        ("holding", _) => {
            let why = hold.map_or("", |hold| hold.why.as_str());
            (format!("stands still: {why}"), format!("holding {why}"))
        }
        ("ramping", _) => {
            let left = expected_end(overlay, now).saturating_sub(now);
            (format!("gives its traffic up, {left} s to go"), "ramping".into())
        }
        (_, Some(safe)) => (format!("draining, safe to stop in {} s", safe.saturating_sub(now)), format!("safe {safe}")),
        (_, None) => {
            let names = still.unwrap_or_default();
            (format!("still handed out for {names}: nothing else is left there"), format!("still {names}"))
        }
    }
}

//! Commands that talk to a running server: each is one call and one way to show its reply.

use std::path::Path;
use std::process::ExitCode;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::{Care, Change, Client as Command, ConfigArg, Connect, Lay, OverlayCommand, Owner, State};
use super::client::{Call, CallError, Client};
use super::list_args::Look;
use super::table::colours;
use super::{FAILED, REFUSED, access, complain, confirm, events, health, list, print, printed, rule, show, tell, wait};
use crate::app;
use crate::control::api::{Amend, Applied, Beyond, Difference, FailedBack, Forced, NewOverlay, Overlay, Promote, ReloadBody, Setting, Status};
use crate::control::explain::Wanted;

/// Runs one command.
pub(super) fn run(config: &ConfigArg, command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return FAILED.into();
        }
    };
    runtime.block_on(dispatch(config, command))
}

async fn dispatch(config: &ConfigArg, command: Command) -> ExitCode {
    match command {
        Command::Explain { name, rtype, client, offline, connect } => {
            let wanted = match Wanted::parse(&name, &rtype, client.as_deref().unwrap_or("")) {
                Ok(wanted) => wanted,
                Err(error) => return finish(connect.json, Err(CallError::Usage(format!("explain: {error}"))), |_| Ok(String::new())),
            };
            if offline {
                return explain_offline(&config.path, &wanted, connect.json);
            }
            let mut query = vec![("name", name.as_str()), ("type", rtype.as_str())];
            query.extend(client.as_deref().map(|client| ("client", client)));
            let call = Call { query: &query, ..Call::new(Method::GET, "/v1/explain") };
            one_call(config, &connect, call, |reply, _| Ok(explain_text(reply))).await
        }
        Command::Status { look: Look { watch, connect } } => {
            let fetch = async |client: &Client| client.call(Call::new(Method::GET, "/v1/status")).await;
            list::look(config, &connect, watch, fetch, |reply, now, colours| Ok(show::status(&read::<Status>(reply)?, now, colours))).await
        }
        Command::List(command) => list::list(config, command).await,
        Command::Health { endpoint: Some(endpoint), look, .. } => health::health(config, &endpoint, look).await,
        Command::Health { endpoint: None, which, look } => health::all(config, which, look).await,
        Command::CheckNow { endpoint, connect } => health::check_now(config, &endpoint, &connect).await,
        Command::Events(args) => events::events(config, args).await,
        Command::Ttl { target, seconds, lay } => lay_overlay(config, target, Setting::Ttl(seconds), Way::default(), lay).await,
        Command::Weight { target, weight, over, from, lay } => {
            lay_overlay(config, target, Setting::Weight(weight), Way { over, from, wait: false }, lay).await
        }
        Command::Override { target, state, lay } => {
            let forced = match state {
                State::Up => Forced::Up,
                State::Down => Forced::Down,
                State::Drain => Forced::Drain,
            };
            lay_overlay(config, target, Setting::State(forced), Way::default(), lay).await
        }
        Command::Drain { target, over, wait, lay } => {
            lay_overlay(config, target, Setting::State(Forced::Drain), Way { over, from: None, wait }, lay).await
        }
        Command::Rule(command) => rule::rule(config, command).await,
        Command::Overlay(command) => overlay(config, command).await,
        Command::Reload { zone, all, dry_run, yes, break_glass, change: Change { why, owner, connect } } => {
            reload(config, ReloadBody { zone, all, dry_run, break_glass, reason: why.text }, yes, &owner, &connect).await
        }
        Command::Failback { name, change } => failback(config, &name, &change).await,
        Command::Audit(args) => access::audit(config, args).await,
        Command::Token(command) => access::token(config, command).await,
    }
}

/// One call; prints the reply as JSON or as `show` makes it.
pub(super) async fn one_call(
    config: &ConfigArg,
    connect: &Connect,
    call: Call<'_>,
    show: impl FnOnce(&Value, u64) -> Result<String, CallError>,
) -> ExitCode {
    let client = match Client::new(config, connect) {
        Ok(client) => client,
        Err(error) => return finish(connect.json, Err(error), |_| Ok(String::new())),
    };
    finish(connect.json, client.call(call).await, |reply| show(reply, client.now()))
}

/// Prints what came of a call; the exit code says the same.
pub(super) fn finish(json: bool, reply: Result<Value, CallError>, show: impl FnOnce(&Value) -> Result<String, CallError>) -> ExitCode {
    if let (false, Ok(reply)) = (json, &reply) {
        warn(reply);
    }
    let text = reply.and_then(|reply| if json { Ok(format!("{reply:#}\n")) } else { show(&reply) });
    match text {
        Ok(text) => printed(&text),
        Err(error) => {
            if let (true, Some(problem)) = (json, error.problem()) {
                let _ = print(&format!("{:#}\n", json!(problem)));
            }
            complain(&super::table::clean(&error.to_string()));
            error.code().into()
        }
    }
}

/// What the server warns of, beside what it has done.
pub(super) fn warn(reply: &Value) {
    let warnings = reply["warnings"].as_array().into_iter().flatten().chain(reply.get("incomplete"));
    for warning in warnings.filter_map(Value::as_str) {
        complain(&format!("warning: {}", super::table::clean(warning)));
    }
}

pub(super) fn read<T: DeserializeOwned>(reply: &Value) -> Result<T, CallError> {
    T::deserialize(reply).map_err(|error| CallError::Unreachable(format!("the server's reply is of another version: {error}")))
}

/// How a change is reached.
#[derive(Default)]
pub(super) struct Way {
    over: Option<String>,
    from: Option<u16>,
    wait: bool,
}

/// Lays an overlay, or shows what it would do; asks first where it withdraws much.
pub(super) async fn lay_overlay(config: &ConfigArg, target: String, set: Setting, way: Way, lay: Lay) -> ExitCode {
    let Care { yes, break_glass, dry_run } = lay.care;
    let Way { over, from, wait } = way;
    let new = NewOverlay { expires: lay.expires, starts: lay.starts, over, from, break_glass, dry_run, ..NewOverlay::of(target, set, lay.reason) };
    let call = |body: &NewOverlay| Call { actor: lay.owner.actor(), body: Some(json!(body)), ..Call::new(Method::POST, "/v1/overlays") };
    if dry_run {
        return foresee(config, &lay.connect, call(&new), break_glass).await;
    }
    let withdraws = matches!(set, Setting::State(Forced::Down | Forced::Drain) | Setting::Weight(0));
    if withdraws && !yes {
        let first = NewOverlay { dry_run: true, ..new.clone() };
        if let Err(code) = confirm::ask(config, &lay.connect, call(&first), break_glass).await {
            return code;
        }
    }
    if wait {
        return wait::drain(config, &lay.connect, call(&new)).await;
    }
    one_call(config, &lay.connect, call(&new), |reply, now| Ok(show::applied(&read::<Applied>(reply)?, "laid", now))).await
}

/// A dry run; it ends as the change would.
async fn foresee(config: &ConfigArg, connect: &Connect, call: Call<'_>, break_glass: bool) -> ExitCode {
    let reply = async { Client::new(config, connect)?.call(call).await }.await;
    let forbidden = reply.as_ref().is_ok_and(|reply| is_forbidden(reply, break_glass));
    let code = finish(connect.json, reply, |reply| Ok(show::consequences(&read(reply)?)));
    if forbidden { REFUSED.into() } else { code }
}

/// A safety rule forbids what these are the consequences of.
fn is_forbidden(consequences: &Value, break_glass: bool) -> bool {
    !break_glass && consequences["broken"].as_array().is_some_and(|broken| !broken.is_empty())
}

async fn revert(config: &ConfigArg, id: u64, why: [Option<String>; 2], care: &Care, owner: &Owner, connect: &Connect) -> ExitCode {
    let [reason, over] = why;
    let path = format!("/v1/overlays/{id}");
    let glass = ("break_glass", "true");
    let dry: Vec<(&str, &str)> = over.as_deref().map(|over| ("over", over)).into_iter().chain([("dry_run", "true")]).collect();
    let call = |query| Call { actor: owner.actor(), query, ..Call::new(Method::DELETE, &path) };
    if care.dry_run {
        return foresee(config, connect, call(&dry), care.break_glass).await;
    }
    if !care.yes
        && let Err(code) = confirm::ask(config, connect, call(&dry), care.break_glass).await
    {
        return code;
    }
    let mut query: Vec<(&str, &str)> = reason.as_deref().map(|reason| ("reason", reason)).into_iter().collect();
    query.extend(care.break_glass.then_some(glass));
    query.extend(over.as_deref().map(|over| ("over", over)));
    let done = if over.is_some() { "on its way back" } else { "reverted" };
    one_call(config, connect, call(&query), |reply, now| Ok(show::applied(&read::<Applied>(reply)?, done, now))).await
}

async fn overlay(config: &ConfigArg, command: OverlayCommand) -> ExitCode {
    match command {
        OverlayCommand::List { look: Look { watch, connect } } => {
            let fetch = async |client: &Client| client.call(Call::new(Method::GET, "/v1/overlays")).await;
            list::look(config, &connect, watch, fetch, |reply, now, colours| {
                let overlays: Vec<Overlay> = read(&reply["overlays"])?;
                let shown = if overlays.is_empty() { "no overlays\n".into() } else { show::overlays(&overlays, now, colours) };
                Ok(shown + &beyond(reply, now)?)
            })
            .await
        }
        OverlayCommand::Show { id, connect } => {
            let path = format!("/v1/overlays/{id}");
            one_call(config, &connect, Call::new(Method::GET, &path), |reply, now| Ok(show::overlay(&read(reply)?, now))).await
        }
        OverlayCommand::Revert { id, reason, over, care, owner, connect } => revert(config, id, [reason, over], &care, &owner, &connect).await,
        OverlayCommand::Extend { id, expires, reason, owner, connect } => {
            let path = format!("/v1/overlays/{id}");
            let body = json!(Amend { expires: Some(expires), reason, seen: None });
            let call = Call { actor: owner.actor(), body: Some(body), ..Call::new(Method::PATCH, &path) };
            one_call(config, &connect, call, |reply, now| Ok(show::applied(&read::<Applied>(reply)?, "extended", now))).await
        }
        OverlayCommand::Promote { id, dry_run, change: Change { why, owner, connect } } => {
            let path = format!("/v1/overlays/{id}/promote");
            let call = Call { actor: owner.actor(), body: Some(json!(Promote { dry_run, reason: why.text })), ..Call::new(Method::POST, &path) };
            one_call(config, &connect, call, |reply, _| Ok(show::promoted(&read(reply)?))).await
        }
        OverlayCommand::Diff { connect } => {
            one_call(config, &connect, Call::new(Method::GET, "/v1/overlays/diff"), |reply, now| {
                let differences: Vec<Difference> = read(&reply["differences"])?;
                let beyond = beyond(reply, now)?;
                Ok(match differences.is_empty() {
                    true if beyond.is_empty() => "everything is as the files say\n".into(),
                    true => beyond,
                    false => show::differences(&differences, colours()) + &beyond,
                })
            })
            .await
        }
    }
}

/// What is laid beyond the zones of the token, as far as it reaches into them.
fn beyond(reply: &Value, now: u64) -> Result<String, CallError> {
    match &reply["beyond"] {
        Value::Null => Ok(String::new()),
        found => Ok(show::beyond(&read::<Vec<Beyond>>(found)?, now)),
    }
}

async fn reload(config: &ConfigArg, wanted: ReloadBody, yes: bool, owner: &Owner, connect: &Connect) -> ExitCode {
    let call = |wanted: &ReloadBody| Call { actor: owner.actor(), body: Some(json!(wanted)), ..Call::new(Method::POST, "/v1/reload") };
    let first = ReloadBody { dry_run: true, ..wanted.clone() };
    if !yes
        && !wanted.dry_run
        && let Err(code) = confirm::ask(config, connect, call(&first), wanted.break_glass).await
    {
        return code;
    }
    let reply = async { Client::new(config, connect)?.call(call(&wanted)).await }.await;
    let failed = reply.as_ref().is_ok_and(|report| report["failed"] == true);
    // A dry run ends as the reload would.
    let forbidden = reply.as_ref().is_ok_and(|report| is_forbidden(&report["consequences"], wanted.break_glass));
    let code = finish(connect.json, reply, |report| Ok(show::reload(&read(report)?, colours())));
    match () {
        () if forbidden => REFUSED.into(),
        () if failed => FAILED.into(),
        () => code,
    }
}

async fn failback(config: &ConfigArg, name: &str, Change { why, owner, connect }: &Change) -> ExitCode {
    let call = Call { actor: owner.actor(), body: Some(json!({ "name": name, "reason": why.text })), ..Call::new(Method::POST, "/v1/failback") };
    one_call(config, connect, call, |reply, _| {
        let FailedBack { generation, released } = read(reply)?;
        Ok(match released {
            0 => format!("nothing of {name} was held; generation {generation} serves\n"),
            _ => format!("{name} is free to fail back; generation {generation} serves\n"),
        })
    })
    .await
}

/// The part of a trace that is for people.
fn explain_text(reply: &Value) -> String {
    match reply["text"].as_str() {
        // Line ends are meant; anything else that moves the cursor is not.
        Some(text) => text.lines().map(|line| super::table::clean(line) + "\n").collect(),
        None => format!("{reply:#}\n"),
    }
}

/// Traces a decision against the files.
fn explain_offline(config: &Path, wanted: &Wanted, json: bool) -> ExitCode {
    match app::explain_offline(config, wanted) {
        Ok(explanation) => finish(json, Ok(json!(explanation)), |_| Ok(explanation.to_string())),
        Err(problems) => {
            problems.iter().for_each(|problem| tell(&format!("{problem}\n")));
            complain("explain: the files have errors");
            FAILED.into()
        }
    }
}

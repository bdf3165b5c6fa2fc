//! `health` and `check-now`: what the checks of an endpoint say, said, and would say now.

use std::fmt::Write;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::FAILED;
use super::args::{ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::{finish, read};
use super::list::{all_pages, look, segment, text, texts, word};
use super::list_args::{Look, WhichHealth};
use super::show::{ago, last_error, next_check, note, state_cell, until, usable_word};
use super::table::{Table, clean};
use crate::control::api::EndpointStatus;
use crate::health::machine::{CREDIT_LIMIT, LEAK_SUCCESSES, SUPPRESS_AT};

/// Where the health of an endpoint is; `command` wants to know it.
fn path(command: &str, endpoint: &str) -> Result<String, CallError> {
    let parts: Vec<&str> = endpoint.splitn(3, '/').collect();
    match parts[..] {
        [zone, pool, address] => Ok(format!("/v1/health/{}/{}/{}", segment(zone), segment(pool), segment(address))),
        _ => Err(CallError::Usage(format!("{command}: found {endpoint:?}, expected zone/pool/address"))),
    }
}

/// `meridian health` of all endpoints, or of those that filters leave.
pub(super) async fn all(config: &ConfigArg, which: WhichHealth, look_at: Look) -> ExitCode {
    let WhichHealth { zone, pool, region, state, usable, stale } = which;
    let filters = [("zone", zone), ("pool", pool), ("region", region), ("state", state), ("usable", usable), ("stale", stale)];
    let fetch = async |client: &Client| all_pages(client, "/v1/health", "endpoints", &filters).await;
    look(config, &look_at.connect, look_at.watch, fetch, all_text).await
}

fn all_text(reply: &Value, now: u64, colours: bool) -> Result<String, CallError> {
    let mut table = Table::new(&["ENDPOINT", "REGION", "STATE", "USABLE", "SINCE", "CHECKED", ">TOOK", "NEXT", "NOTE"]);
    let all = reply["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    for one in all {
        let endpoint: EndpointStatus = read(one)?;
        table.row([
            (&endpoint.id).into(),
            text(one, "region").into(),
            state_cell(&endpoint),
            usable_word(&endpoint).into(),
            endpoint.since.map_or(String::new(), |at| ago(at, now)).into(),
            endpoint.last_check.map_or(String::new(), |at| ago(at, now)).into(),
            endpoint.last_ms.map_or(String::new(), |ms| format!("{ms} ms")).into(),
            endpoint.next_check.map_or(String::new(), |at| next_check(at, now)).into(),
            note(&endpoint, now).into(),
        ]);
    }
    Ok(if all.is_empty() { "no endpoints\n".into() } else { table.render(colours) })
}

/// `meridian health`: an endpoint with all that its checks say and said.
pub(super) async fn health(config: &ConfigArg, endpoint: &str, look_at: Look) -> ExitCode {
    let path = match path("health", endpoint) {
        Ok(path) => path,
        Err(error) => return finish(look_at.connect.json, Err(error), |_| Ok(String::new())),
    };
    let fetch = async |client: &Client| client.call(Call::new(Method::GET, &path)).await;
    look(config, &look_at.connect, look_at.watch, fetch, |reply, now, colours| Ok(health_text(reply, now, colours))).await
}

fn health_text(reply: &Value, now: u64, colours: bool) -> String {
    let (endpoint, mut shown) = (&reply["endpoint"], String::new());
    let state = match (text(endpoint, "state"), text(endpoint, "forced")) {
        (state, forced) if forced.is_empty() => state,
        (state, forced) => format!("{state}, forced {forced}"),
    };
    let at = |name: &str, words: fn(u64, u64) -> String| endpoint[name].as_u64().map_or(String::new(), |at| words(at, now));
    let took = endpoint["last_ms"].as_u64().map_or(String::new(), |ms| format!(", took {ms} ms"));
    // Told of with what it does, where it does.
    let penalty = endpoint["penalty"].as_u64().filter(|penalty| *penalty > 0 && endpoint["suppressed_until"].is_null());
    let suppressed = endpoint["suppressed_until"].as_u64().map_or(String::new(), |_| format!(": it fell often (penalty {})", endpoint["penalty"]));
    for (name, value) in [
        ("endpoint", text(endpoint, "id")),
        ("state", if endpoint["stale"] == true { format!("{state} ({})", stale_words(endpoint)) } else { state }),
        ("usable", if endpoint["usable"] == true { "yes".into() } else { "no".into() }),
        ("since", at("since", ago)),
        ("checked", at("last_check", ago) + &took),
        ("next", at("next_check", next_check)),
        ("last error", read(endpoint).ok().and_then(|endpoint| last_error(&endpoint, now)).unwrap_or_default()),
        ("calculated", text(endpoint, "calculated")),
        ("advice", texts(&endpoint["advice"])),
        ("concerns", texts(&endpoint["concerns"])),
        ("usual", endpoint["usual_ms"].as_u64().map_or(String::new(), |ms| format!("{ms} ms"))),
        ("certificate", at("certificate_ends", ends)),
        ("faults", endpoint["faults"].as_u64().filter(|faults| *faults > 0).map_or(String::new(), faults_words)),
        (
            "penalty",
            penalty.map_or(String::new(), |penalty| format!("{penalty} for its falls, as of the last check; from {SUPPRESS_AT} on it is kept down")),
        ),
        ("kept down", at("suppressed_until", until) + &suppressed),
        ("kept in", text(endpoint, "kept_in")),
        ("checks", texts(&reply["checks"])),
        ("used by", used_by(reply)),
        ("reported", reported(&endpoint["reported"], now).trim_start_matches("reported ").to_owned()),
        ("of pool", reported(&reply["pool_reported"], now)),
    ] {
        if !value.is_empty() {
            let _ = writeln!(shown, "{name:<11} {}", clean(&value));
        }
    }
    let history = reply["history"].as_array().map_or(&[][..], Vec::as_slice);
    let recent = reply["recent"].as_array().map_or(&[][..], Vec::as_slice);
    if !recent.is_empty() {
        let mut table = Table::new(&["CHECKED", "STATE", ">TOOK", "RESULT", "CHECK"]);
        for tried in recent {
            let time = super::access::utc(tried["at"].as_u64().unwrap_or(0));
            let result = match (tried["passed"] == true, text(tried, "concern")) {
                (true, concern) if concern.is_empty() => "passed".into(),
                (true, concern) => format!("passed; {concern}"),
                (false, _) => text(tried, "error"),
            };
            table.row([time.into(), word(tried, "state"), format!("{} ms", tried["ms"]).into(), result.into(), text(tried, "check").into()]);
        }
        shown = shown + "\n" + &table.render(colours);
    }
    if let Some(why) = reply["history_incomplete"].as_str() {
        let _ = writeln!(shown, "\nwhat is kept of the past is not whole: {}", clean(why));
    }
    if let Some(count) = reply["check_shared_by"].as_u64() {
        let whose = match text(reply, "history_of") {
            one if one.is_empty() => "what it came to is told of others".to_owned(),
            one => format!("what it came to is told of {}", clean(&one)),
        };
        let _ = writeln!(shown, "\n{count} endpoints have this check, which are too many to tell of each: {whose}");
        if history.is_empty() {
            return shown;
        }
    }
    if history.is_empty() {
        shown.push_str("\nno check has come to another verdict\n");
        return shown;
    }
    let mut table = Table::new(&["TIME", "OF", "FROM", "TO", "WHY", "CHECK"]);
    for step in history {
        let time = super::access::utc(step["at"].as_u64().unwrap_or(0));
        let of = if step["of"] == "monitor" { format!("monitor {}", text(step, "monitor")) } else { text(step, "of") };
        table.row([time.into(), of.into(), word(step, "from"), word(step, "to"), text(step, "why").into(), text(step, "check").into()]);
    }
    shown + "\n" + &table.render(colours)
}

/// Why a state is none of now.
fn stale_words(endpoint: &Value) -> String {
    let why = text(endpoint, "stale_why");
    if why.is_empty() { "stale".into() } else { why }
}

/// Who is answered from it.
fn used_by(reply: &Value) -> String {
    let (named, all) = (reply["used_by"].as_array().map_or(0, Vec::len), reply["used_by_count"].as_u64().unwrap_or(0) as usize);
    let more = if all > named { format!(" and {} more names", all - named) } else { String::new() };
    texts(&reply["used_by"]) + &more
}

/// Faults that are not paid back yet.
fn faults_words(faults: u64) -> String {
    format!("{faults} of {CREDIT_LIMIT} on credit: every {LEAK_SUCCESSES} successes take one back, {CREDIT_LIMIT} take it down")
}

/// What is reported of a thing, on one line, with its age.
fn reported(of: &Value, now: u64) -> String {
    serde_json::from_value(of.clone()).map_or_else(|_| String::new(), |of| super::show::reported(&of, now))
}

/// `meridian check-now`: one run of every check of an endpoint, with the time of each part; ends with 1 when one failed that has a vote.
pub(super) async fn check_now(config: &ConfigArg, endpoint: &str, connect: &Connect) -> ExitCode {
    let reply = async {
        let path = path("check-now", endpoint)? + "/check";
        let client = Client::new(config, connect)?;
        let reply = client.call(Call::new(Method::POST, &path)).await?;
        Ok((reply, client.now()))
    };
    let (reply, now) = reply.await.map_or_else(|error| (Err(error), 0), |(reply, now)| (Ok(reply), now));
    let failed = reply.as_ref().is_ok_and(|reply| {
        reply["checks"].as_array().is_some_and(|checks| checks.iter().any(|check| check["passed"] != true && check["advisory"] != true))
    });
    let code = finish(connect.json, reply, |reply| Ok(checked_now(reply, now)));
    if failed { FAILED.into() } else { code }
}

/// When a certificate ends, in words.
fn ends(at: u64, now: u64) -> String {
    if at < now { format!("expired {}", ago(at, now)) } else { format!("expires {}", until(at, now)) }
}

fn checked_now(reply: &Value, now: u64) -> String {
    let mut shown = String::new();
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for check in array(&reply["checks"]) {
        let advisory = if check["advisory"] == true { " (advisory: no vote)" } else { "" };
        let _ = writeln!(shown, "{}{advisory}", clean(&text(&check, "check")));
        for part in array(&check["phases"]) {
            let _ = writeln!(shown, "  {:<11}{:>10.3} ms", clean(&text(&part, "phase")), part["ms"].as_f64().unwrap_or(0.0));
        }
        let _ = writeln!(shown, "  {:<11}{:>10.3} ms", "total", check["total_ms"].as_f64().unwrap_or(0.0));
        if let Some(at) = check["certificate_ends"].as_u64() {
            let _ = writeln!(shown, "  certificate {}", ends(at, now));
        }
        let _ = match check["passed"] == true {
            true => writeln!(shown, "  passed"),
            false => writeln!(shown, "  failed: {}", clean(&text(&check, "error"))),
        };
    }
    for check in array(&reply["waiting"]).iter().filter_map(Value::as_str) {
        let _ = writeln!(shown, "{}\n  not asked: it waits for reports; `meridian health` shows the last", clean(check));
    }
    if shown.is_empty() {
        shown.push_str("nothing checks this endpoint\n");
    }
    shown
}

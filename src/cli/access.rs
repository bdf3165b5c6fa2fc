//! `audit` and `token`: what they ask and how they show it.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::access_args::{AuditArgs, Role, TokenCommand};
use super::args::{Change, ConfigArg, Connect};
use super::client::{Call, CallError, Client};
use super::commands::{finish, one_call, read, warn};
use super::show::{ago, until};
use super::table::{Cell, Table, Tone, clean, colours};
use super::{FAILED, complain, print, tell};
use crate::control;
use crate::control::audit::{DONE, Entry, Kind, Page};
use crate::control::changes::WENT_PAST;
use crate::control::tokens::{CreatedToken, NewToken, TokenInfo};
use crate::control::who::ITSELF;

/// How often `--follow` looks.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// `meridian audit`.
pub(super) async fn audit(config: &ConfigArg, args: AuditArgs) -> ExitCode {
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    let kind = args.kind.map(|kind| kind.word().to_owned());
    for (name, value) in [
        ("since", &args.since),
        ("until", &args.until),
        ("actor", &args.actor),
        ("token", &args.by_token),
        ("target", &args.target),
        ("action", &args.action),
        ("outcome", &args.outcome),
        ("kind", &kind),
    ] {
        query.extend(value.as_deref().map(|value| (name, value)));
    }
    let client = match Client::new(config, &args.connect) {
        Ok(client) => client,
        Err(error) => return finish(args.connect.json, Err(error), |_| Ok(String::new())),
    };
    let first = client.call(Call { query: &query, ..Call::new(Method::GET, "/v1/audit") }).await;
    if !args.follow {
        return finish(args.connect.json, first, |page| {
            let page: Page = read(page)?;
            let mut text = table(page.entries.iter().rev(), colours());
            if page.next.is_some() {
                let _ = writeln!(text, "there are older ones: --limit, --until");
            }
            Ok(if page.entries.is_empty() { "no entries\n".into() } else { text })
        });
    }
    follow(&client, &query, args.connect.json, first).await
}

/// What there is, and then what comes; one entry a line.
async fn follow(client: &Client, query: &[(&str, &str)], json: bool, first: Result<Value, CallError>) -> ExitCode {
    let mut page: Page = match first.and_then(|page| read(&page)) {
        Ok(page) => page,
        Err(error) => return finish(json, Err(error), |_| Ok(String::new())),
    };
    page.entries.reverse();
    // 0 is before everything.
    let mut cursor = 0;
    loop {
        for entry in &page.entries {
            if let Err(unwritten) = print(&if json { format!("{}\n", json!(entry)) } else { line(entry) }) {
                return unwritten.end();
            }
            cursor = entry.sequence;
        }
        if page.next.is_none() || page.entries.is_empty() {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
        let after = cursor.to_string();
        let rest = query.iter().copied().filter(|(name, _)| cursor == 0 || *name != "since");
        let query: Vec<_> = rest.chain([("order", "oldest"), ("cursor", after.as_str())]).collect();
        let next = client.call(Call { query: &query, ..Call::new(Method::GET, "/v1/audit") }).await;
        page = match next.and_then(|page| read(&page)) {
            Ok(page) => page,
            Err(error) if error.problem().is_some_and(|problem| problem.status < 500) => return finish(json, Err(error), |_| Ok(String::new())),
            Err(error) => {
                complain(&clean(&error.to_string()));
                Page::default()
            }
        };
    }
}

fn table<'a>(entries: impl Iterator<Item = &'a Entry>, colours: bool) -> String {
    let mut table = Table::new(&["TIME", "WHO", "TOKEN", "FROM", "ACTION", "TARGET", "CHANGE", "OUTCOME", "WHY"]);
    for entry in entries {
        table.row(cells(entry));
    }
    table.render(colours)
}

/// One entry on a line of its own.
pub(super) fn line(entry: &Entry) -> String {
    let mut table = Table::new(&[""; 9]);
    table.row(cells(entry));
    // Without the empty titles.
    table.render(false).lines().skip(1).map(|line| format!("{line}\n")).collect()
}

fn cells(entry: &Entry) -> [Cell; 9] {
    let change = match (short(&entry.before), short(&entry.after)) {
        (before, after) if before.is_empty() => after,
        (before, after) if after.is_empty() => format!("{before} ended"),
        (before, after) => format!("{before} → {after}"),
    };
    let tone = match entry.kind {
        _ if entry.outcome != DONE => Tone::Bad,
        Kind::Health => Tone::of(entry.after.as_str().unwrap_or("")),
        _ => Tone::Good,
    };
    let why = [
        entry.check.as_deref(),
        entry.reason.as_deref(),
        // What people do says its reason; the rest of it stands in the columns before, but for the rules that it went past.
        entry.detail.as_deref().filter(|detail| {
            let is_told =
                entry.outcome == DONE && (entry.action.starts_with("overlay.") || entry.action.starts_with("token.")) && entry.actor != ITSELF;
            !is_told || detail.contains(WENT_PAST)
        }),
    ];
    [
        utc(entry.at).into(),
        (&entry.actor).into(),
        (&entry.token).into(),
        entry.from.map_or(String::new(), |from| from.to_string()).into(),
        (&entry.action).into(),
        (&entry.target).into(),
        change.into(),
        Cell::toned(entry.outcome.clone(), tone),
        why.into_iter().flatten().collect::<Vec<_>>().join("; ").into(),
    ]
}

/// A value in a few words: `weight 5`, `drain`, `read, example.com`; nothing for what does not fit a cell.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) if members.len() == 1 => {
            let (name, value) = members.iter().next().map_or(("", &Value::Null), |(name, value)| (name.as_str(), value));
            match value {
                Value::String(text) => text.clone(),
                other => format!("{name} {other}"),
            }
        }
        Value::Object(members) if members.contains_key("role") => {
            let zones =
                members["zones"].as_array().map(|zones| zones.iter().filter_map(Value::as_str).map(|zone| format!(", {zone}")).collect::<String>());
            format!("{}: {}{}", members["name"].as_str().unwrap_or(""), members["role"].as_str().unwrap_or(""), zones.unwrap_or_default())
        }
        _ => String::new(),
    }
}

/// Unix seconds as date and time of UTC, which is what the Z means (days to date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days).
pub(super) fn utc(at: u64) -> String {
    let (days, seconds) = (at / 86_400 + 719_468, at % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `meridian token`.
pub(super) async fn token(config: &ConfigArg, command: TokenCommand) -> ExitCode {
    match command {
        TokenCommand::Create { name, role, zones, expires, change: Change { why, owner, connect } } => {
            let role = match role {
                Role::Read => control::Role::Read,
                Role::Operate => control::Role::Operate,
                Role::Admin => control::Role::Admin,
            };
            let new = NewToken { name, role, zones: (!zones.is_empty()).then_some(zones), expires, reason: why.text };
            let call = Call { actor: owner.actor(), body: Some(json!(new)), ..Call::new(Method::POST, "/v1/tokens") };
            create_token(config, &connect, call).await
        }
        TokenCommand::List { connect } => {
            one_call(config, &connect, Call::new(Method::GET, "/v1/tokens"), |reply, now| {
                let tokens: Vec<TokenInfo> = read(&reply["tokens"])?;
                Ok(if tokens.is_empty() { "no tokens but the one in admin.token\n".into() } else { list(&tokens, now, colours()) })
            })
            .await
        }
        TokenCommand::Revoke { id, change: Change { why, owner, connect } } => {
            let path = format!("/v1/tokens/{id}");
            let query: Vec<(&str, &str)> = why.text.as_deref().map(|why| ("reason", why)).into_iter().collect();
            let call = Call { actor: owner.actor(), query: &query, ..Call::new(Method::DELETE, &path) };
            one_call(config, &connect, call, |reply, _| {
                let info: TokenInfo = read(reply)?;
                Ok(format!("token {} of {} revoked\n", info.id, clean(&info.name)))
            })
            .await
        }
    }
}

/// Makes a token and shows it. One that could not be shown is of use to nobody: it is taken back.
async fn create_token(config: &ConfigArg, connect: &Connect, call: Call<'_>) -> ExitCode {
    let owner = call.actor;
    if goes_nowhere() {
        let error = CallError::Usage("standard output is closed or /dev/null: a token is shown once, and would be lost; nothing was made".into());
        return finish(connect.json, Err(error), |_| Ok(String::new()));
    }
    let made = async {
        let client = Client::new(config, connect)?;
        let reply = client.call(call).await?;
        Ok((client, read::<CreatedToken>(&reply)?, reply))
    };
    let (client, made, reply) = match made.await {
        Ok(made) => made,
        Err(error) => return finish(connect.json, Err(error), |_| Ok(String::new())),
    };
    let CreatedToken { info, token, .. } = made;
    let text = if connect.json { format!("{reply:#}\n") } else { format!("{}\n", token.unwrap_or_default()) };
    let Err(unwritten) = print(&text) else {
        if !connect.json {
            warn(&reply);
            let end = info.expires.map_or("never expires".to_owned(), |at| format!("expires {}", until(at, client.now())));
            tell(&format!("token {} for {} made: {}, {end}; it is shown this once\n", info.id, clean(&info.name), reach(&info)));
        }
        return ExitCode::SUCCESS;
    };
    unwritten.end();
    let path = format!("/v1/tokens/{}", info.id);
    let taken_back = Call { actor: owner, query: &[("reason", "it could not be shown")], ..Call::new(Method::DELETE, &path) };
    match client.call(taken_back).await {
        Ok(_) => complain(&format!("token {} was made, could not be shown, and is revoked", info.id)),
        Err(error) => {
            complain(&format!("token {} was made, could not be shown, and is not revoked: {error}; say meridian token revoke {}", info.id, info.id))
        }
    }
    FAILED.into()
}

/// Whether nobody can read what is printed. (A standard output that is closed is `/dev/null` by the time that a program of Rust looks at it.)
fn goes_nowhere() -> bool {
    let out = io::stdout().as_fd().try_clone_to_owned().and_then(|out| File::from(out).metadata());
    let nowhere = fs::metadata("/dev/null");
    out.is_ok_and(|out| nowhere.is_ok_and(|nowhere| out.file_type().is_char_device() && out.rdev() == nowhere.rdev()))
}

fn reach(info: &TokenInfo) -> String {
    format!("{}, {}", info.role.word(), info.zones.as_ref().map_or("all zones".into(), |zones| zones.join(", ")))
}

fn list(tokens: &[TokenInfo], now: u64, colours: bool) -> String {
    let mut table = Table::new(&["ID", "NAME", "ROLE", "ZONES", "STATE", "MADE", "BY", "EXPIRES", "LAST USED", "FROM"]);
    for token in tokens {
        let state = match token {
            TokenInfo { revoked: Some(_), .. } => Cell::toned("revoked".into(), Tone::Bad),
            TokenInfo { expires: Some(at), .. } if *at <= now => Cell::toned("expired".into(), Tone::Warning),
            _ => Cell::toned("good".into(), Tone::Good),
        };
        table.row([
            (&token.id).into(),
            (&token.name).into(),
            token.role.word().into(),
            token.zones.as_ref().map_or("all".to_owned(), |zones| zones.join(", ")).into(),
            state,
            ago(token.created, now).into(),
            (&token.created_by).into(),
            token.expires.map_or("never".to_owned(), |at| if at <= now { ago(at, now) } else { until(at, now) }).into(),
            token.last_used.map_or("never".to_owned(), |at| ago(at, now)).into(),
            token.last_from.map_or(String::new(), |from| from.to_string()).into(),
        ]);
    }
    table.render(colours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_of_utc() {
        for (at, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_709_251_199, "2024-02-29 23:59:59Z"),
            (1_795_243_349, "2026-11-21 06:42:29Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(at), text);
        }
    }

    #[test]
    fn values_are_shown_in_a_few_words() {
        for (value, text) in [
            (json!({ "weight": 5 }), "weight 5"),
            (json!({ "state": "drain" }), "drain"),
            (json!("up"), "up"),
            (json!({ "name": "ci", "role": "read", "zones": ["a.example"], "expires": null }), "ci: read, a.example"),
            (json!({ "zones": [], "more": 0 }), ""),
            (Value::Null, ""),
        ] {
            assert_eq!(short(&value), text);
        }
    }
}

//! `rule`: rules of geo policies, taken out of service and put back.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::args::{Change, ConfigArg, Lay};
use super::client::{Call, CallError, Client};
use super::commands::{Way, finish, lay_overlay, read};
use super::list;
use super::list_args::Look;
use super::show;
use super::table::{Cell, Table, Tone};
use crate::admin::Problem;
use crate::control::api::{Applied, Overlay, Setting};
use crate::control::audit::plain_target;

#[derive(Debug, Subcommand)]
pub(super) enum RuleCommand {
    /// Lists rules of geo policies, with what disables them.
    #[command(after_help = "Examples:\n  meridian rule list\n  meridian rule list --zone example.com --watch")]
    List {
        /// Only those of this zone.
        #[arg(long, value_name = "ZONE")]
        zone: Option<String>,
        #[command(flatten)]
        look: Look,
    },
    /// Disables a rule: its clients get what they would without it.
    #[command(after_help = "\
Examples:
  meridian rule disable example.com/app geo=AS-TR --reason \"ticket 4711\"
  meridian rule disable example.com/policy:world net=10.0.0.0/8 --reason \"test from inside\" --expires 30m
  meridian rule disable example.com/app asn=64500 --reason \"new transit\" --dry-run

Any condition of a rule names it. Its clients come to the next most specific rule that they match, or to the default. A name whose clients would be left
with nothing is protected by the safety rule last_healthy.")]
    Disable {
        /// zone/name for a steered name that states its own policy, or zone/policy:NAME.
        #[arg(value_name = "POLICY")]
        place: String,
        /// One of the rule's conditions: geo=EU, geo=AS-TR, geo=NA-US-CA, asn=64500, net=10.0.0.0/8.
        #[arg(value_name = "CONDITION")]
        condition: String,
        #[command(flatten)]
        lay: Lay,
    },
    /// Enables a rule again: takes back every overlay that disables it, by whichever of its conditions.
    #[command(after_help = "Example:\n  meridian rule enable example.com/app geo=AS-TR --reason \"all well again\"")]
    Enable {
        /// As it was disabled: zone/name or zone/policy:NAME.
        #[arg(value_name = "POLICY")]
        place: String,
        /// Any condition of the rule.
        #[arg(value_name = "CONDITION")]
        condition: String,
        #[command(flatten)]
        change: Change,
    },
}

/// `meridian rule`.
pub(super) async fn rule(config: &ConfigArg, command: RuleCommand) -> ExitCode {
    match command {
        RuleCommand::List { zone, look: Look { watch, connect } } => {
            let filters = [("zone", zone), ("kind", Some("geo".to_owned()))];
            let fetch =
                async |client: &Client| list::all_pages(client, "/v1/policies", "policies", &filters).await.map(|policies| rules_of(&policies));
            list::look(config, &connect, watch, fetch, |reply, _, colours| Ok(table(&reply["rules"], colours))).await
        }
        RuleCommand::Disable { place, condition, lay } => {
            lay_overlay(config, format!("{place}/rule:{condition}"), Setting::Disabled(true), Way::default(), lay).await
        }
        RuleCommand::Enable { place, condition, change: Change { why, owner, connect } } => {
            let target = format!("{place}/rule:{condition}");
            let client = match Client::new(config, &connect) {
                Ok(client) => client,
                Err(error) => return finish(connect.json, Err(error), |_| Ok(String::new())),
            };
            finish(connect.json, enable(&client, &target, why.text.as_deref(), owner.actor()).await, |reply| {
                let all: Vec<Applied> = read(&reply["reverted"])?;
                Ok(all.iter().map(|applied| show::applied(applied, "reverted", client.now())).collect())
            })
        }
    }
}

fn rules_of(policies: &Value) -> Value {
    let policies = policies["policies"].as_array().into_iter().flatten();
    json!({ "rules": policies.filter_map(|policy| policy["rules"].as_array()).flatten().collect::<Vec<_>>() })
}

/// Every target that stands for a rule.
fn targets_of(rule: &Value) -> Vec<String> {
    let place = rule["id"].as_str().and_then(|id| id.split_once("/rule:")).map_or("", |(place, _)| place);
    let conditions = rule["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    conditions.map(|condition| format!("{place}/rule:{condition}")).collect()
}

fn table(rules: &Value, colours: bool) -> String {
    let rules = rules.as_array().map_or(&[][..], Vec::as_slice);
    let mut table = Table::new(&["RULE", "STATE", "TO", "CONDITIONS"]);
    for rule in rules {
        let state = match rule["disabled_by"].as_u64() {
            Some(id) => Cell::toned(format!("disabled by overlay {id}"), Tone::Warning),
            None => "".into(),
        };
        let mut conditions = list::texts(&rule["conditions"]);
        let (shown, all) = (rule["conditions"].as_array().map_or(0, Vec::len) as u64, rule["conditions_count"].as_u64().unwrap_or(0));
        if all > shown {
            conditions.push_str(&format!(" and {} more", all - shown));
        }
        table.row([rule["id"].as_str().unwrap_or("").into(), state, list::texts(&rule["to"]).into(), conditions.into()]);
    }
    if rules.is_empty() { "no rules\n".into() } else { table.render(colours) }
}

/// Takes back what disables the rule.
async fn enable(client: &Client, target: &str, reason: Option<&str>, actor: Option<&str>) -> Result<Value, CallError> {
    let reply = client.call(Call::new(Method::GET, "/v1/overlays")).await?;
    let overlays: Vec<Overlay> = read(&reply["overlays"])?;
    let filters = [("kind", Some("geo".to_owned()))];
    let rules = rules_of(&list::all_pages(client, "/v1/policies", "policies", &filters).await?);
    let is_same = |one: &str, other: &str| plain_target(one).eq_ignore_ascii_case(&plain_target(other));
    let mut targets = vec![target.to_owned()];
    let named = rules["rules"].as_array().into_iter().flatten().map(targets_of);
    targets.extend(named.filter(|all| all.iter().any(|one| is_same(one, target))).flatten());
    let disables = |overlay: &&Overlay| overlay.set == Setting::Disabled(true) && targets.iter().any(|one| is_same(one, &overlay.target));
    let ids = overlays.iter().filter(disables);
    let mut reverted = Vec::new();
    for overlay in ids {
        let path = format!("/v1/overlays/{}", overlay.id);
        let query: Vec<(&str, &str)> = reason.map(|reason| ("reason", reason)).into_iter().collect();
        reverted.push(client.call(Call { actor, query: &query, ..Call::new(Method::DELETE, &path) }).await?);
    }
    match reverted.is_empty() {
        true => {
            let detail = format!("no overlay disables {target}; see meridian rule list");
            Err(CallError::Refused(Box::new(Problem { detail, ..Problem::not_found(target, Vec::new()) })))
        }
        false => Ok(json!({ "reverted": reverted })),
    }
}

//! What reports may do: `signals` and `shed` of a pool, `trim` and kinds of a policy, and monitors that wait for reports.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::raw::{Kind, MonitorKeys, SteerKeys};
use super::source::Value;
use super::values::{percent, span};
use crate::health::passive::WINDOW;
use crate::policy::balance::{Law, Measure, NARROW, Shed};
use crate::policy::model::{MonitorKind, PushCheck, ShareRule};

/// Age of a report that says nothing of now, where nothing is said: three times what agents usually take.
const DEFAULT_STALE: Duration = Duration::from_secs(30);
/// Below so many percent of successes an endpoint is down.
const DEFAULT_DOWN: u8 = 50;
/// Below so many it is degraded.
const DEFAULT_DEGRADED: u8 = 90;
/// Fewer samples say nothing: of fifty calls of which 2 % fail by themselves, half fail in no lifetime.
const DEFAULT_SAMPLES: u32 = 50;
/// Samples that may be asked for.
const SAMPLES: RangeInclusive<i64> = 1..=1_000_000;
/// How long samples may weigh: less is noise, more is history.
const WINDOWS: RangeInclusive<Duration> = span(Duration::from_secs(10), Duration::from_secs(3600));

/// `push = true`.
pub(super) fn push(keys: &MonitorKeys) -> MonitorKind {
    MonitorKind::Push(PushCheck { stale: keys.stale.unwrap_or(DEFAULT_STALE), forget: keys.forget.unwrap_or(false) })
}

/// `signals = true`, `false`, or a table.
pub(super) fn share_rule(value: &Value<'_>) -> Option<ShareRule> {
    let mut rule = ShareRule { down: Some(DEFAULT_DOWN), degraded: Some(DEFAULT_DEGRADED), samples: DEFAULT_SAMPLES, window: WINDOW };
    if let Some(wanted) = value.as_bool() {
        return wanted.then_some(rule);
    }
    let table = value.table(" such as { down = \"50%\", samples = 50 }, true or false")?;
    if let Some(value) = table.take("down") {
        rule.down = share(&value);
    }
    rule.degraded = match table.take("degraded") {
        Some(value) => share(&value),
        None => rule.degraded.max(rule.down),
    };
    if let (Some(down), Some(degraded)) = (rule.down, rule.degraded)
        && down > degraded
    {
        value.error(format!("found down = {down}%, above degraded = {degraded}%; expected it to be at most that"));
    }
    rule.samples = table.take("samples").and_then(|value| value.integer(SAMPLES, "")).map_or(rule.samples, |samples| samples as u32);
    rule.window = table.take("window").and_then(|value| value.duration(&WINDOWS)).unwrap_or(rule.window);
    table.finish();
    Some(rule)
}

/// A share of successes in percent, or `false`.
fn share(value: &Value<'_>) -> Option<u8> {
    if value.as_bool() == Some(false) {
        return None;
    }
    let found = value.as_str().and_then(percent).filter(|share| (1..=99).contains(share));
    if found.is_none() {
        value.expected("a share of successes from \"1%\" to \"99%\", or false");
    }
    found
}

/// Loads that are aimed at, in percent of the capacity, where nothing is said: some room for what comes while nothing has moved yet.
const DEFAULT_TARGET: u8 = 85;

/// `{ target = "85%" }`, or `{ low = "50%", high = "100%" }`.
pub(super) fn shed(value: &Value<'_>) -> Option<Shed> {
    let like = " such as { target = \"85%\" }, or { low = \"50%\", high = \"100%\" }";
    let table = value.table(like)?;
    let [target, low, high] = ["target", "low", "high"].map(|key| table.take(key));
    let law = match (&target, &low, &high) {
        (Some(target), None, None) => loaded(target).map(Shed::Target),
        (None, Some(low), Some(high)) => match (loaded(low), loaded(high)) {
            (Some(low), Some(above)) if low >= above => {
                high.error(format!("found {above}%, expected more than low ({low}%)"));
                None
            }
            (Some(low), Some(high)) => Some(Shed::Marks { low, high }),
            _ => None,
        },
        _ => {
            table.error(format!("expected target, or low and high:{like}"));
            None
        }
    };
    table.finish();
    if law.is_some_and(|law| law.is_narrow(1.0)) {
        value.warning(NARROW);
    }
    law
}

/// `true`, or the load to aim at.
pub(super) fn trim(value: &Value<'_>) -> Option<u8> {
    if value.as_bool() == Some(true) { Some(DEFAULT_TARGET) } else { loaded(value) }
}

/// A load in percent of a capacity. More than all of it is a load that some bear.
fn loaded(value: &Value<'_>) -> Option<u8> {
    let number = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|number| number.trim_end().parse().ok());
    let found = number.filter(|percent| (1..=200).contains(percent));
    if found.is_none() {
        value.expected("a load from \"1%\" to \"200%\" of the capacity");
    }
    found
}

/// What moves the weights of a policy of this kind; `None` for kinds without weights.
pub(super) fn law(kind: Kind, keys: &SteerKeys) -> Option<Law> {
    match kind {
        Kind::Weighted => Some(keys.trim.as_ref().map_or(Law::Files, |trim| Law::Trim(trim.value))),
        Kind::LeastLoaded => Some(Law::Balance(Measure::Load)),
        Kind::LeastResponseTime => Some(Law::Balance(Measure::Latency)),
        _ => None,
    }
}

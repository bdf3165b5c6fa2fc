//! What moves the weights of what a name was answered from, and what safety rules keep: the parts of an explanation that files do not say.

use serde::{Deserialize, Serialize};

use super::overlays::zone_text;
use super::status::Seen;
use crate::health::State;
use crate::policy::balance::{Law, Measure};
use crate::policy::model::{Endpoint, PolicyIx, PolicyKind, Pool, PoolIx, ZoneModel};
use crate::policy::plan::EndpointView;
use crate::world::ZoneWorld;

/// Something that gets another share than its weight says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Factor {
    /// Id of an endpoint or a pool, or `zone/policy:NAME/child`.
    pub of: String,
    /// Of its weight, or of the traffic of a pool: 0 to 1.2.
    pub factor: f64,
    /// Why.
    pub why: String,
}

/// An endpoint that fails and is not withdrawn, because a safety rule forbids it: a last resort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeptIn {
    /// Its id.
    pub endpoint: String,
    /// The rule, in a sentence; `None` where nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl KeptIn {
    /// Puts the rule in.
    pub(super) fn ask(&mut self, seen: &Seen) {
        self.why = seen.why_kept(&self.endpoint).map(str::to_owned);
    }
}

/// What moves the shares of these policies' children, of these pools and of their endpoints. `taken` are those of the pools that are answered from.
pub(super) fn factors(zone: &ZoneWorld, policies: &[PolicyIx], pools: &[PoolIx], taken: &[PoolIx]) -> Vec<Factor> {
    let (model, view) = (&zone.model, &zone.view);
    let mut found = Vec::new();
    let is_mixed = policies.iter().any(|policy| mixes(&model.policy(*policy).kind));
    for ((policy, child), factor) in view.child_factors.iter().filter(|((policy, _), _)| policies.contains(policy)) {
        let PolicyKind::Weighted { law, .. } = &model.policy(*policy).kind else { continue };
        let why = match law {
            Law::Files => continue,
            Law::Trim(target) => format!("its load: trim = \"{target}%\""),
            Law::Balance(Measure::Load) => "its load beside that of the others: least-loaded".to_owned(),
            Law::Balance(Measure::Latency) => "its response time beside that of the others: least-response-time".to_owned(),
        };
        let of = format!("{}/policy:{}/{}", zone_text(&model.name), model.policy(*policy).name, model.child_name(*child));
        found.extend(moved(of, *factor, why));
    }
    for ix in pools {
        let (pool, Some(seen)) = (model.pool(*ix), view.pools.get(ix.0 as usize)) else { continue };
        let id = pool.id.to_string();
        found.extend(match pool.shed {
            // That it keeps all is what wants a reason.
            Some(law) if rounded(seen.yields - seen.drained) > 0.0 && is_last(model, policies, taken, *ix) => {
                let why = format!("it would leave a part to others for its load, but nobody comes after it: shed = {{ {law} }}");
                Some(Factor { of: id, factor: rounded(1.0 - seen.drained), why })
            }
            Some(law) => moved(id, 1.0 - seen.yields, format!("it leaves the rest to others for its load: shed = {{ {law} }}")),
            None => moved(id, 1.0 - seen.yields, "it is drained or brought back step by step".to_owned()),
        });
        let usable = pool.endpoints.iter().zip(&seen.endpoints).filter(|(_, seen)| seen.is_usable());
        let is_one = usable.clone().count() == 1;
        found.extend(
            usable.filter_map(|(endpoint, seen)| moved(endpoint.id.to_string(), seen.ramp, why_less(pool, seen, ramp_words(is_mixed, is_one)))),
        );
    }
    found
}

/// Nobody gets what the pool would leave: it answers alone, or is the last of a failover that is handed out.
fn is_last(model: &ZoneModel, policies: &[PolicyIx], taken: &[PoolIx], ix: PoolIx) -> bool {
    let kinds = || policies.iter().map(|policy| &model.policy(*policy).kind);
    let mut failovers = kinds().filter(|kind| matches!(kind, PolicyKind::Failover { .. })).peekable();
    let is_behind = |kind: &PolicyKind| {
        let mut below = kind.children().into_iter().rev().map(|child| model.pools_below(child));
        below.find(|below| below.iter().any(|ix| taken.contains(ix))).is_none_or(|last| last.contains(&ix))
    };
    let is_mixed = kinds().any(mixes);
    taken == [ix] || !is_mixed && failovers.peek().is_some() && failovers.all(is_behind)
}

/// Children share what comes, by their weights.
fn mixes(kind: &PolicyKind) -> bool {
    matches!(kind, PolicyKind::Weighted { .. } | PolicyKind::Multivalue { .. })
}

/// What a ramp does: it moves weights, and where nobody shares by weight it moves nothing.
fn ramp_words(is_mixed: bool, is_one: bool) -> &'static str {
    match (is_mixed, is_one) {
        (true, _) => "it ramps up after it was down",
        (false, true) => "it ramps up after it was down, but nobody shares with it here: it is given everything at once",
        (false, false) => "it ramps up after it was down, among the others of its pool; the pool is given everything at once",
    }
}

fn rounded(share: f32) -> f64 {
    (f64::from(share) * 1000.0).round() / 1000.0
}

fn moved(of: String, factor: f32, why: String) -> Option<Factor> {
    let factor = rounded(factor);
    (factor != 1.0).then_some(Factor { of, factor, why })
}

/// Why an endpoint gets less than its weight: for its health, for an operator, or both.
fn why_less(pool: &Pool, seen: &EndpointView, ramp: &str) -> String {
    let healthy = seen.ramp / (1.0 - seen.drained).max(f32::EPSILON);
    let burden = f32::from(pool.degraded_weight) / 100.0;
    let for_health = (healthy < 0.999).then(|| match seen.state {
        // What is suspect keeps the share that it had.
        State::Degraded | State::Suspect if burden < 1.0 && (healthy - burden).abs() < 0.001 => {
            format!("it is degraded: degraded_weight = \"{}%\"", pool.degraded_weight)
        }
        _ => ramp.to_owned(),
    });
    let for_operators = (seen.drained > 0.0).then(|| "it is drained or brought back step by step".to_owned());
    for_health.into_iter().chain(for_operators).collect::<Vec<_>>().join("; ")
}

/// Endpoints of these pools that safety rules keep.
pub(super) fn kept_in(zone: &ZoneWorld, pools: &[PoolIx]) -> Vec<KeptIn> {
    let of_pool = |ix: &PoolIx| {
        let seen = zone.view.pools.get(ix.0 as usize).into_iter().flat_map(|pool| &pool.endpoints);
        let all: Vec<(&Endpoint, &EndpointView)> = zone.model.pool(*ix).endpoints.iter().zip(seen).collect();
        all.into_iter().filter(|(_, seen)| seen.is_last_resort()).map(|(endpoint, _)| KeptIn { endpoint: endpoint.id.to_string(), why: None })
    };
    pools.iter().flat_map(of_pool).collect()
}

//! `POST /v1/signals`: what agents, balancers and callers report.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::{Json, Router, routing};
use serde::{Deserialize, Serialize};

use super::asked::By;
use super::body::json;
use super::{Problem, Shared};
use crate::control::Role;
use crate::control::api::{Report, Taken};
use crate::control::reports::MAX_REPORTS;

/// The path.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/v1/signals", routing::post(report))
}

/// Reports of one call.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ReportsBody {
    /// 1 to 500.
    reports: Vec<Report>,
}

/// Takes what is reported of endpoints, pools and regions. Nothing of it is kept on disk but what it changes.
#[utoipa::path(
    post,
    path = "/v1/signals",
    summary = "Report states, successes, response times and loads",
    request_body = ReportsBody,
    responses((status = 200, description = "done", body = Taken))
)]
async fn report(By { shared, who, attempt }: By, request: Request) -> Result<Json<Taken>, Problem> {
    let body: ReportsBody = json(&shared, request).await?;
    who.needs(Role::Operate)?;
    let count = body.reports.len();
    if !(1..=MAX_REPORTS).contains(&count) {
        return Err(Problem::invalid("reports", format!("found {count} reports, expected 1 to {MAX_REPORTS}")));
    }
    attempt.of(&body.reports[0].target, None);
    body.reports.iter().enumerate().try_for_each(|(at, report)| report.check(at))?;
    shared.limiter.reports(count, Instant::now()).map_err(Problem::too_many_reports)?;
    Ok(Json(shared.handle.report(body.reports, who).await?))
}

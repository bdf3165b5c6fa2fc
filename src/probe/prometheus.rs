//! Checks by a query of Prometheus: one request to its HTTP API, and its value held against what is expected. Whatever keeps a value from coming is the
//! trouble of whoever was asked, and nothing is said of the endpoint then.
//!
//! ```text
//! no connection, timeout, TLS, a status, an error of PromQL    no verdict
//! no series, or NaN                                            as `on_empty` says; no verdict by default
//! several series                                               no verdict: which of them is meant?
//! a value from long ago                                        no verdict
//! a value within all bounds                                    passes
//! any other value                                              fails
//! ```

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::check::{Means, Progress, Way, client, url};
use super::tls::TlsRoots;
use super::words::{self, Phase};
use crate::certs::words::foreign;
use crate::config::Reach;
use crate::control::api::{CheckSpec, CheckTarget};
use crate::control::unix_now;
use crate::health::{Failure, Outcome};
use crate::policy::model::{HttpVersion, OnEmpty, PrometheusCheck};

/// Where instant queries are asked.
const PATH: &str = "/api/v1/query";
/// As much of a reply is read: one series has its labels and a number, and more than some of them is a mistake in the query.
const REPLY_MAX_BYTES: usize = 64 * 1024;
/// A token is a line.
const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Prometheus itself gives values up to five minutes old (`--query.lookback-delta`) and says the time of its answer; what is older comes out of somebody's
/// cache.
const MAX_AGE_S: f64 = 300.0;
/// Numbers are shown with so many digits behind the point at most, where they are not small.
const SHOWN_DIGITS: i32 = 4;

/// Asks, and judges.
pub(super) async fn prometheus(check: &PrometheusCheck, spec: &CheckSpec, means: &Means, progress: &Arc<Progress>) -> Outcome {
    let (status, body) = ask(check, spec, means, progress).await.map_err(not_of_the_endpoint)?;
    judge(check, status, &body, unix_now())
}

/// What went wrong on the way to a Prometheus is not the endpoint's.
pub(super) fn not_of_the_endpoint(failure: Failure) -> Failure {
    match failure {
        Failure::Internal(_) | Failure::NoNetwork(_) | Failure::NoVerdict(_) | Failure::Answer(_) => failure,
        other => no_verdict(&other.to_string()),
    }
}

fn no_verdict(why: &str) -> Failure {
    Failure::NoVerdict(format!("Prometheus: {why}"))
}

async fn ask(check: &PrometheusCheck, spec: &CheckSpec, means: &Means, progress: &Arc<Progress>) -> Result<(u16, Vec<u8>), Failure> {
    let monitor = &spec.monitor;
    let ip = match check.host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => means.lookups.find(&check.host, progress).await?,
    };
    let token = match &check.token_file {
        Some(file) => Some(bearer(file, &means.reach).await?),
        None => None,
    };
    progress.enter(Phase::Connect);
    let way = Way { to: (ip, monitor.port).into(), from: monitor.source_for(ip) };
    let scheme = if check.tls.is_some() { "https" } else { "http" };
    let mut url = url(scheme, &check.host, &format!("{}{PATH}", check.prefix), way.to)
        .ok_or_else(|| Failure::Internal(format!("\"{}\" and \"{}\" make no URL", check.host, check.prefix)))?;
    // It need not go on when nobody listens any more.
    let timeout = format!("{}ms", monitor.timeout.as_millis());
    url.query_pairs_mut().append_pair("query", &query_of(check, &spec.target)).append_pair("timeout", &timeout);
    let tls = check.tls.as_ref().map_or_else(TlsRoots::nobody, |tls| means.tls.config(tls, progress)).map_err(Failure::Internal)?;
    let client = client(tls, HttpVersion::Http11, way, progress).map_err(|error| Failure::Internal(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &check.headers {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) else {
            return Err(Failure::Internal("a header of the check is none".into()));
        };
        headers.insert(name, value);
    }
    headers.extend(token.map(|token| (AUTHORIZATION, token)));
    let fail = |error: reqwest::Error| words::failure(&error, progress.phase());
    let mut response = client.get(url).headers(headers).send().await.map_err(fail)?;
    progress.enter(Phase::Body);
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fail)? {
        if body.len() + chunk.len() > REPLY_MAX_BYTES {
            return Err(no_verdict(&format!("the reply is longer than {REPLY_MAX_BYTES} octets: the query finds too much")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// The query for what is checked.
fn query_of(check: &PrometheusCheck, target: &CheckTarget) -> String {
    match target {
        CheckTarget::Address(address) | CheckTarget::Behind { own: address, .. } => check.query_for(&address.to_string()),
        CheckTarget::Host(host) => check.query_for(host),
        // Somebody reports of it; nobody asks.
        CheckTarget::Endpoint(_) => check.query.clone(),
    }
}

/// The token that the file holds now: it may have been replaced since the last check.
async fn bearer(file: &Path, reach: &Arc<Reach>) -> Result<HeaderValue, Failure> {
    let (path, reach) = (file.to_owned(), reach.clone());
    let read = tokio::task::spawn_blocking(move || reach.read(&path, TOKEN_MAX_BYTES)).await;
    let shown = file.display();
    let octets = match read {
        Ok(Ok(octets)) if octets.len() <= TOKEN_MAX_BYTES => octets,
        Ok(Ok(_)) => return Err(Failure::Internal(format!("{shown} is too long for a token"))),
        Ok(Err(why)) => return Err(Failure::Internal(format!("{shown}: {why}"))),
        Err(error) => return Err(Failure::Internal(error.to_string())),
    };
    let text = String::from_utf8_lossy(&octets);
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim())).map_err(|_| Failure::Internal(format!("{shown} holds no token")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a reply says of the endpoint.
fn judge(check: &PrometheusCheck, status: u16, body: &[u8], now_unix: u64) -> Outcome {
    let reply: Value = serde_json::from_slice(body).unwrap_or_default();
    if reply["status"] == "error" {
        let part = |name: &str| foreign(reply[name].as_str().unwrap_or_default());
        return Err(no_verdict(&format!("{}: {}", part("errorType"), part("error"))));
    }
    if status != 200 {
        return Err(no_verdict(&format!("HTTP status {status}")));
    }
    let data = &reply["data"];
    let sample = match (data["resultType"].as_str(), data["result"].as_array().map(Vec::as_slice)) {
        (Some("scalar"), Some(_)) => &data["result"],
        (Some("vector"), Some([])) => return empty(check, "no series"),
        (Some("vector"), Some([one])) => &one["value"],
        (Some("vector"), Some(several)) => {
            let text = format!("{} series, expected one: put sum(…) or the like around it, or name $address in it", several.len());
            return Err(no_verdict(&text));
        }
        (Some(kind), _) => return Err(no_verdict(&format!("the query gives a {}, expected one number", foreign(kind)))),
        _ => return Err(no_verdict("that is no reply of its HTTP API")),
    };
    let number = sample[1].as_str().and_then(|text| text.parse::<f64>().ok());
    let (Some(at), Some(number)) = (sample[0].as_f64(), number) else { return Err(no_verdict("the value is no number")) };
    let age = now_unix as f64 - at;
    if age > MAX_AGE_S {
        return Err(no_verdict(&format!("the value is {age:.0} s old by this machine's clock")));
    }
    if number.is_nan() {
        return empty(check, "NaN");
    }
    match check.expected.iter().find(|bound| !bound.holds(number)) {
        Some(bound) => Err(Failure::Answer(format!("found {}, expected {bound}", shown(number)))),
        None => Ok(()),
    }
}

fn empty(check: &PrometheusCheck, what: &str) -> Outcome {
    match check.on_empty {
        OnEmpty::Unknown => Err(no_verdict(what)),
        OnEmpty::Pass => Ok(()),
        OnEmpty::Fail => Err(Failure::Answer(format!("found {what}"))),
    }
}

/// A number to be read: rounded where nothing is lost by it.
fn shown(number: f64) -> String {
    let factor = 10f64.powi(SHOWN_DIGITS);
    let rounded = (number * factor).round() / factor;
    if number.abs() < 1.0 / factor.sqrt() || !rounded.is_finite() { number.to_string() } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::model::Bound;

    fn check_of(expected: &[&str], on_empty: OnEmpty) -> PrometheusCheck {
        PrometheusCheck {
            host: "prometheus.example.com".into(),
            prefix: String::new(),
            query: "up{instance=\"$address:9100\"}".into(),
            expected: expected.iter().filter_map(|text| Bound::parse(text)).collect(),
            on_empty,
            headers: Vec::new(),
            token_file: None,
            tls: None,
            stale: Duration::from_secs(60),
            forget: true,
        }
    }

    #[test]
    fn a_reply_is_a_verdict_only_if_it_is_one_number_of_now() {
        const NOW: u64 = 1_700_000_000;
        let words = |outcome: Outcome| outcome.map_or_else(|failure| failure.to_string(), |()| "ok".into());
        let said = |status: u16, body: &str, on_empty: OnEmpty| words(judge(&check_of(&[">= 0.5", "< 2"], on_empty), status, body.as_bytes(), NOW));
        let vector = |series: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#);
        let one = |value: &str| vector(&format!(r#"{{"metric":{{"job":"web"}},"value":[{NOW}.25,"{value}"]}}"#));
        for (value, expected) in [
            ("1", "ok"),
            ("0.5", "ok"),
            ("1.5e0", "ok"),
            ("0", "answer: found 0, expected >= 0.5"),
            ("2", "answer: found 2, expected < 2"),
            ("0.123456", "answer: found 0.1235, expected >= 0.5"),
            ("1e-7", "answer: found 0.0000001, expected >= 0.5"),
            ("+Inf", "answer: found inf, expected < 2"),
            ("-Inf", "answer: found -inf, expected >= 0.5"),
            ("NaN", "no verdict: Prometheus: NaN"),
            ("", "no verdict: Prometheus: the value is no number"),
        ] {
            assert_eq!(said(200, &one(value), OnEmpty::Unknown), expected, "{value}");
        }
        for (status, body, expected) in [
            (200, format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{NOW},"1"]}}}}"#), "ok"),
            (200, vector(""), "no verdict: Prometheus: no series"),
            (200, vector("{},{}"), "no verdict: Prometheus: 2 series, expected one: put sum(…) or the like around it, or name $address in it"),
            (200, vector(r#"{"metric":{},"histogram":[1,{}]}"#), "no verdict: Prometheus: the value is no number"),
            (200, one("1").replace("1700000000", "1699999000"), "no verdict: Prometheus: the value is 1000 s old by this machine's clock"),
            (
                200,
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.into(),
                "no verdict: Prometheus: the query gives a matrix, expected one number",
            ),
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error: unclosed\nbrace"}"#.into(),
                "no verdict: Prometheus: bad_data: 1:4: parse error: unclosed\u{fffd}brace",
            ),
            (302, String::new(), "no verdict: Prometheus: HTTP status 302"),
            (401, "<html>who are you?</html>".into(), "no verdict: Prometheus: HTTP status 401"),
            (200, "<html>hello</html>".into(), "no verdict: Prometheus: that is no reply of its HTTP API"),
            (200, "{}".into(), "no verdict: Prometheus: that is no reply of its HTTP API"),
        ] {
            assert_eq!(said(status, &body, OnEmpty::Unknown), expected, "{body}");
        }
        for (on_empty, none, nan) in [(OnEmpty::Pass, "ok", "ok"), (OnEmpty::Fail, "answer: found no series", "answer: found NaN")] {
            assert_eq!((said(200, &vector(""), on_empty), said(200, &one("NaN"), on_empty)), (none.into(), nan.into()), "{on_empty:?}");
        }
    }

    #[test]
    fn the_address_stands_in_the_query() {
        let check = check_of(&["> 0"], OnEmpty::Unknown);
        assert!(check.is_of_endpoint());
        assert_eq!(query_of(&check, &CheckTarget::Address([192, 0, 2, 1].into())), "up{instance=\"192.0.2.1:9100\"}");
        assert_eq!(query_of(&check, &CheckTarget::Host("a.example.net".into())), "up{instance=\"a.example.net:9100\"}");
    }

    #[test]
    fn whatever_goes_wrong_on_the_way_is_no_verdict() {
        for failure in [Failure::Connect("connection refused".into()), Failure::Timeout("connect"), Failure::Tls("x".into()), Failure::Status(500)] {
            let words = failure.to_string();
            let failure = not_of_the_endpoint(failure);
            assert!(failure.is_no_verdict());
            assert_eq!(failure.to_string(), format!("no verdict: Prometheus: {words}"));
        }
    }
}

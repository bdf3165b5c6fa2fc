//! `/metrics`: Prometheus text format 0.0.4. Names end in their unit, counters in `_total`; labels are bounded by the configuration.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering::Relaxed;

use super::Shared;
use crate::control::api::{EndpointStatus, Forced, Overlay, PoolStatus, Reported, Status};
use crate::control::unix_now;
use crate::telemetry::operations::{BOUNDS_US, CHECK_KINDS, CHECK_OUTCOMES, Histogram, Operations, REQUEST_KINDS};
use crate::telemetry::{ConnectionTotals, LIMIT_CLASSES, LogTotals, Registry, Totals};

/// Media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures of this moment.
pub(super) fn text(shared: &Shared, status: &Status) -> String {
    let checks = shared.handle.checks().borrow().len();
    let mut page = Page::default();
    process(&mut page, status, checks, shared.registry.log().lost());
    transports(&mut page, &shared.registry.totals());
    query_log(&mut page, &shared.registry.totals().query_log);
    operations(&mut page, shared.registry.operations(), shared.handle.stalled());
    zones(&mut page, status, &shared.registry);
    pools(&mut page, status, &shared.registry);
    policies(&mut page, status, &shared.registry);
    endpoints(&mut page, status);
    reported(&mut page, status);
    let mut family = page.counter("meridian_admin_replies_total", "Replies of the admin listener by the first digit of their status.");
    for (digit, count) in shared.registry.operations().admin_replies.iter().enumerate().skip(2) {
        family.sample(&[("class", &format!("{digit}xx"))], count.load(Relaxed));
    }
    page.counter(
        "meridian_admin_unauthorised_total",
        "Requests to the admin listener without the right token, connections without the right certificate.",
    )
    .sample(&[], shared.registry.operations().admin_unauthorised.load(Relaxed));
    page.0
}

fn process(page: &mut Page, status: &Status, checks: usize, lost: u64) {
    let now = unix_now();
    page.gauge("meridian_build_info", "Always 1; the version is in the label.").sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("meridian_start_time_seconds", "Unix time of the start.").sample(&[], status.started);
    page.gauge("meridian_uptime_seconds", "Since the start.").sample(&[], now.saturating_sub(status.started));
    page.gauge("meridian_generation", "Generation of the world in service.").sample(&[], status.generation);
    page.gauge("meridian_degraded_reasons", "Things that are wrong with the service itself; see status.").sample(&[], status.degraded.len());
    page.counter("meridian_log_lines_lost_total", "Lines of the log that standard error did not take.").sample(&[], lost);
    let mut family = page.gauge("meridian_overlays", "Overlays that are neither reverted nor expired, by whether they have an effect.");
    let mut counts = OVERLAY_STATES.map(|state| (state, 0));
    for overlay in &status.overlays {
        let state = overlay_state(overlay);
        counts.iter_mut().filter(|(other, _)| *other == state).for_each(|(_, count)| *count += 1);
    }
    counts.iter().for_each(|(state, count)| family.sample(&[("state", state)], count));
    let mut family = page.gauge("meridian_certificate_expiry_timestamp_seconds", "Unix time at which the certificate of a listener ends.");
    for certificate in &status.certificates {
        family.sample(&[("listener", &certificate.listener)], certificate.expires);
    }
    page.gauge("meridian_checks", "Distinct checks that run.").sample(&[], checks);
    page.gauge("meridian_health_frozen", "1 while what fails withdraws nothing, because so much fails at once that whoever tells may be wrong.")
        .sample(&[], u8::from(status.health.frozen_since.is_some()));
    let mut family = page.gauge("meridian_health_protection", "1 for what tells this server's own trouble from that of the endpoints.");
    if !status.health.protection.is_empty() {
        family.sample(&[("by", &status.health.protection)], 1);
    }
    page.gauge("meridian_checks_unable", "Checks that could not run when they should have run last.").sample(&[], status.health.unable);
    page.gauge("meridian_checks_unable_by_clock", "Of these, those whose certificates are not valid by this machine's clock, which may be wrong.")
        .sample(&[], status.health.unable_by_clock);
    let mut family = page.gauge("meridian_health_reference_up", "1 for a reference whose last check passed.");
    for reference in &status.health.references {
        family.sample(&[("address", &reference.address)], u8::from(reference.answers));
    }
    let endpoints = || status.pools.iter().flat_map(|pool| &pool.endpoints);
    page.gauge("meridian_endpoints_kept_in", "Endpoints whose checks fail, but that safety rules keep as a last resort.")
        .sample(&[], endpoints().filter(|endpoint| endpoint.kept_in.is_some()).count());
    page.gauge("meridian_endpoints_suppressed", "Endpoints that are kept down because they fell often.")
        .sample(&[], endpoints().filter(|endpoint| endpoint.suppressed_until.is_some()).count());
}

/// Where overlays stand, as `meridian_overlays` counts them.
const OVERLAY_STATES: [&str; 5] = ["active", "waiting", "held", "outranked", "inactive"];

/// What waits though it should have begun is held by a rule, what stands still by a rule or by health.
fn overlay_state(overlay: &Overlay) -> &'static str {
    match overlay.phase.as_str() {
        "waiting" if overlay.inactive.is_none() => "waiting",
        "waiting" | "holding" => "held",
        "outranked" => "outranked",
        "without effect" => "inactive",
        _ => "active",
    }
}

fn transports(page: &mut Page, totals: &Totals) {
    let transports = totals.transports();
    let help = |name| match name {
        "queries" => "DNS messages received.",
        "truncated" => "Replies with TC.",
        "dropped" => "Messages that got no reply on purpose.",
        "malformed" => "Messages that are no proper query.",
        "panics" => "Engine panics; each cost one reply.",
        "send_errors" => "Replies that the kernel did not take.",
        "receive_errors" => "Receive calls that failed.",
        _ => "Receive calls that brought something.",
    };
    for (index, (name, _)) in totals.udp.named().iter().enumerate() {
        let mut family = page.counter(&format!("meridian_{name}_total"), help(name));
        for (transport, totals) in transports {
            family.sample(&[("transport", transport)], totals.named()[index].1);
        }
    }
    let mut family = page.counter("meridian_replies_total", "DNS replies by response code.");
    for (transport, totals) in transports {
        for (rcode, count) in totals.by_rcode() {
            family.sample(&[("transport", transport), ("rcode", &rcode)], count);
        }
    }
    let mut family = page.counter("meridian_rate_limited_total", "Replies and queries over their rate limit, by class.");
    for (class, count) in LIMIT_CLASSES.iter().zip(totals.limited) {
        family.sample(&[("class", class)], count);
    }
    page.counter("meridian_rate_limit_slipped_total", "Of them, replies that were sent cut short.").sample(&[], totals.slipped);
    page.counter("meridian_rate_limit_uncounted_total", "Replies and queries that could not be counted: the table was full.")
        .sample(&[], totals.uncounted);
    page.counter("meridian_udp_kernel_dropped_total", "Datagrams that the kernel dropped on our sockets: by the filter, or for lack of room.")
        .sample(&[], totals.kernel_dropped);
    page.gauge("meridian_udp_blocked_prefixes", "Prefixes that the filter in the kernel blocks now.").sample(&[], totals.filtered);
    page.gauge("meridian_tcp_connections", "TCP connections of clients, open now.").sample(&[], totals.tcp_connections.open);
    for (name, help, count) in [
        ("meridian_tcp_accepted_total", "TCP connections accepted.", totals.tcp_connections.accepted),
        ("meridian_tcp_evicted_total", "TCP connections closed to make room.", totals.tcp_connections.evicted),
        ("meridian_tcp_timed_out_total", "TCP connections closed by a deadline.", totals.tcp_connections.timed_out),
        ("meridian_tcp_accept_errors_total", "Failed accept calls.", totals.tcp_connections.accept_errors),
    ] {
        page.counter(name, help).sample(&[], count);
    }
    let mut family = page.gauge("meridian_connection_places", "Connections of clients that there is room for.");
    for (transport, connections) in [("tcp", &totals.tcp_connections)].into_iter().chain(totals.encrypted()) {
        family.sample(&[("transport", transport)], connections.places);
    }
    encrypted(page, totals);
}

/// Connections of the encrypted transports.
fn encrypted(page: &mut Page, totals: &Totals) {
    let mut family = page.gauge("meridian_encrypted_connections", "Connections of clients over TLS, HTTPS and QUIC, open now.");
    for (transport, connections) in totals.encrypted() {
        family.sample(&[("transport", transport)], connections.open);
    }
    let mut family = page.gauge("meridian_encrypted_handshakes", "Of them, those in their handshake.");
    for (transport, connections) in totals.encrypted() {
        family.sample(&[("transport", transport)], connections.in_handshake);
    }
    type Get = fn(&ConnectionTotals) -> u64;
    let counters: [(&str, &str, Get); 7] = [
        ("accepted", "Connections over TLS, HTTPS and QUIC that were accepted.", |of| of.accepted),
        ("evicted", "Of them, those closed to make room.", |of| of.evicted),
        ("evicted_handshakes", "Of those closed to make room, those that were in their handshake.", |of| of.evicted_handshakes),
        ("timed_out", "Of them, those closed by a deadline.", |of| of.timed_out),
        ("handshake_errors", "Of them, those whose handshake failed.", |of| of.handshake_errors),
        ("refused_queries", "Queries over HTTPS and QUIC that were refused because too many octets of others waited.", |of| of.refused_queries),
        ("accept_errors", "Failed accept calls of the listeners for TLS, HTTPS and QUIC.", |of| of.accept_errors),
    ];
    for (name, help, get) in counters {
        let mut family = page.counter(&format!("meridian_encrypted_{name}_total"), help);
        for (transport, connections) in totals.encrypted() {
            family.sample(&[("transport", transport)], get(connections));
        }
    }
}

fn query_log(page: &mut Page, totals: &LogTotals) {
    page.counter("meridian_query_log_sampled_total", "Replies that were chosen for the query log.").sample(&[], totals.sampled);
    let mut family =
        page.counter("meridian_query_log_dropped_total", "Of them, those that are not in it: a ring was full, or the file was not writable.");
    family.sample(&[("reason", "full")], totals.dropped);
    family.sample(&[("reason", "write")], totals.lost);
    for (name, help, count) in [
        ("meridian_query_log_written_total", "Of them, those that were written.", totals.written),
        ("meridian_query_log_written_bytes_total", "Octets of those that were written.", totals.octets),
        ("meridian_query_log_rotations_total", "Files of the query log that were set aside.", totals.rotations),
        ("meridian_query_log_errors_total", "Failed tries to open, write or rotate the query log.", totals.errors),
    ] {
        page.counter(name, help).sample(&[], count);
    }
}

fn operations(page: &mut Page, operations: &Operations, stalled: u64) {
    let mut family = page.family("meridian_check_duration_seconds", "How long checks took, by kind of monitor and how they ended.", "histogram");
    for (kind, by_outcome) in CHECK_KINDS.iter().zip(&operations.checks) {
        for (outcome, histogram) in CHECK_OUTCOMES.iter().zip(by_outcome) {
            // As with response codes: what never occurred is left out.
            if histogram.read().0.last() != Some(&0) {
                family.histogram(&[("kind", kind), ("outcome", outcome)], histogram);
            }
        }
    }
    page.family("meridian_check_lateness_seconds", "How much later checks began than they were due.", "histogram")
        .histogram(&[], &operations.late_checks);
    page.gauge("meridian_config_last_load_successful", "1 if the last load or reload had no errors.")
        .sample(&[], u8::from(operations.loaded.load(Relaxed)));
    page.gauge("meridian_config_last_load_timestamp_seconds", "Unix time of the last load or reload without errors; 0 when there was none.")
        .sample(&[], operations.loaded_unix.load(Relaxed));
    page.counter("meridian_safety_passed_total", "Changes that went past a safety rule: with break_glass, by SIGHUP, or by the end of an overlay.")
        .sample(&[], operations.past_safety.load(Relaxed));
    page.counter(
        "meridian_safety_held_total",
        "Planned changes that a safety rule did not let begin, and ramps that it did not let come to their end.",
    )
    .sample(&[], operations.held_by_safety.load(Relaxed));
    page.counter("meridian_store_errors_total", "Times that the state could not be kept.").sample(&[], operations.store_errors.load(Relaxed));
    page.gauge("meridian_store_stalled_seconds", "For how long the disk of the state has not answered; 0 while it does.").sample(&[], stalled);
    page.family("meridian_publish_duration_seconds", "How long it took to make and publish a generation.", "histogram")
        .histogram(&[], &operations.publications);
    let mut family = page.counter("meridian_reports_total", "Reports: those that were taken, and those that name nothing that there is.");
    for (result, count) in ["taken", "ignored"].iter().zip(&operations.reports) {
        family.sample(&[("result", result)], count.load(Relaxed));
    }
    let help = "From a request to the admin listener to its reply: of a change, until it is kept and published.";
    let mut family = page.family("meridian_admin_request_duration_seconds", help, "histogram");
    for (kind, histogram) in REQUEST_KINDS.iter().zip(&operations.requests) {
        family.histogram(&[("kind", kind)], histogram);
    }
}

fn zones(page: &mut Page, status: &Status, registry: &Registry) {
    let mut family = page.counter("meridian_zone_queries_total", "Queries answered from a zone.");
    status.zones.iter().for_each(|zone| family.sample(&[("zone", &zone.name)], registry.slot(zone.slot)));
    let mut family = page.gauge("meridian_zone_state", "1 for the state a zone is in: serving, kept or failed.");
    status.zones.iter().for_each(|zone| family.sample(&[("zone", &zone.name), ("state", &zone.state)], 1));
    let mut family = page.gauge("meridian_zone_serial", "SOA serial.");
    status.zones.iter().for_each(|zone| family.sample(&[("zone", &zone.name)], zone.serial));
    let mut family = page.gauge("meridian_zone_records", "Static records.");
    status.zones.iter().for_each(|zone| family.sample(&[("zone", &zone.name)], zone.records));
}

/// A metric of one thing: name, help, and how to read it.
type Figure<Of, Value> = (&'static str, &'static str, fn(&Of) -> Value);

fn pools(page: &mut Page, status: &Status, registry: &Registry) {
    let mut family = page.counter("meridian_pool_queries_total", "Queries for which a pool was chosen.");
    status.pools.iter().for_each(|pool| family.sample(&[("pool", &pool.id)], registry.slot(pool.slot)));
    let mut family = page.gauge("meridian_pool_health", "1 for the health a pool is in: healthy, degraded or critical.");
    status.pools.iter().for_each(|pool| family.sample(&[("pool", &pool.id), ("health", &pool.health)], 1));
    let mut family = page.gauge("meridian_pool_kept_ratio", "Share of its traffic that a pool keeps; the rest is left to others.");
    status.pools.iter().for_each(|pool| family.sample(&[("pool", &pool.id)], pool.kept));
    let withdrawn: fn(&PoolStatus) -> usize =
        |pool| pool.endpoints.iter().filter(|endpoint| matches!(endpoint.forced, Some(Forced::Down | Forced::Drain))).count();
    let figures: [Figure<PoolStatus, usize>; 5] = [
        ("meridian_pool_panic", "1 while so little of a pool is usable that all of it is handed out.", |pool| pool.panic.into()),
        ("meridian_pool_endpoints", "Endpoints of a pool.", |pool| pool.endpoints.len()),
        ("meridian_pool_withdrawn_endpoints", "Endpoints of a pool that operators have drained or taken down.", withdrawn),
        ("meridian_pool_usable_endpoints", "Endpoints that may be handed out.", |pool| pool.usable),
        ("meridian_pool_needed_endpoints", "Usable endpoints below which the pool is critical.", |pool| pool.needed),
    ];
    for (name, help, figure) in figures {
        let mut family = page.gauge(name, help);
        status.pools.iter().for_each(|pool| family.sample(&[("pool", &pool.id)], figure(pool)));
    }
}

fn policies(page: &mut Page, status: &Status, registry: &Registry) {
    let mut family = page.counter("meridian_policy_queries_total", "Queries that the policy of a steered name decided.");
    let named = status.policies.iter().filter_map(|slot| Some((registry.name(*slot)?, *slot)));
    named.for_each(|(name, slot)| family.sample(&[("policy", name.trim_start_matches("policy "))], registry.slot(slot)));
}

/// What is reported: of things that there are alone.
fn reported(page: &mut Page, status: &Status) {
    let pools = status.pools.iter().filter_map(|pool| Some(("pool", &pool.id, pool.reported.as_ref()?)));
    let endpoints = status.pools.iter().flat_map(|pool| &pool.endpoints).filter_map(|one| Some(("endpoint", &one.id, one.reported.as_ref()?)));
    let all: Vec<(&str, &String, &Reported)> = pools.chain(endpoints).collect();
    let figures: [Figure<Reported, Option<f64>>; 7] = [
        ("meridian_reported_timestamp_seconds", "Unix time of the last report of a pool or endpoint.", |of| Some(of.at as f64)),
        ("meridian_reported_success_ratio", "Successes among the calls that are reported, those of long ago weighing little.", |of| of.success_share),
        ("meridian_reported_latency_seconds", "Response time as it was reported last.", |of| of.latency_ms.map(|ms| ms / 1000.0)),
        ("meridian_reported_latency_smoothed_seconds", "The mean over 15 s that weights are moved by.", |of| {
            of.latency_smoothed_ms.map(|ms| ms / 1000.0)
        }),
        ("meridian_reported_load", "Load as it was reported last, in the unit of its capacity.", |of| of.load),
        ("meridian_reported_load_smoothed", "The mean over 15 s that weights are moved by.", |of| of.load_smoothed),
        ("meridian_reported_capacity", "Capacity that is reported.", |of| of.capacity),
    ];
    for (name, help, figure) in figures {
        let mut family = page.gauge(name, help);
        for (label, id, of) in &all {
            figure(of).into_iter().for_each(|value| family.sample(&[(label, id)], value));
        }
    }
}

fn endpoints(page: &mut Page, status: &Status) {
    let all = || status.pools.iter().flat_map(|pool| &pool.endpoints);
    let mut family = page.gauge("meridian_endpoint_state", "1 for the state that checks see: unknown, up, degraded, suspect, down or ramp.");
    all().for_each(|endpoint| family.sample(&[("endpoint", &endpoint.id), ("state", &endpoint.state)], 1));
    let figures: [Figure<EndpointStatus, Option<f64>>; 8] = [
        ("meridian_endpoint_faults_on_credit", "Faults that successes have not paid back yet; the sixth takes it down.", |endpoint| {
            (endpoint.faults > 0).then(|| f64::from(endpoint.faults))
        }),
        ("meridian_endpoint_usable", "1 if it may be handed out.", |endpoint| Some(f64::from(u8::from(endpoint.usable)))),
        ("meridian_endpoint_forced", "1 if an operator forces its state.", |endpoint| Some(f64::from(u8::from(endpoint.forced.is_some())))),
        ("meridian_endpoint_weight", "Weight in effect.", |endpoint| Some(f64::from(endpoint.weight))),
        ("meridian_endpoint_last_check_timestamp_seconds", "Unix time of the last finished check.", |endpoint| {
            endpoint.last_check.map(|at| at as f64)
        }),
        ("meridian_endpoint_last_check_duration_seconds", "How long the last finished check took.", |endpoint| {
            endpoint.last_ms.map(|ms| ms as f64 / 1000.0)
        }),
        ("meridian_endpoint_usual_check_duration_seconds", "How long its checks usually take, over hours.", |endpoint| {
            endpoint.usual_ms.map(|ms| ms as f64 / 1000.0)
        }),
        ("meridian_endpoint_certificate_expiry_timestamp_seconds", "Unix time of the end of the certificate that it shows.", |endpoint| {
            endpoint.certificate_ends.map(|at| at as f64)
        }),
    ];
    let mut family =
        page.counter("meridian_endpoint_checks_total", "Checks of an endpoint by result; those that could not be carried out are neither.");
    for endpoint in all() {
        for (result, count) in ["passed", "failed"].iter().zip(endpoint.checks.into_iter().flatten()) {
            family.sample(&[("endpoint", &endpoint.id), ("result", result)], count);
        }
    }
    for (name, help, figure) in figures {
        let mut family = page.gauge(name, help);
        all().for_each(|endpoint| {
            if let Some(value) = figure(endpoint) {
                family.sample(&[("endpoint", &endpoint.id)], value);
            }
        });
    }
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "counter")
    }

    fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, "gauge")
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: &mut self.0, name: name.to_owned() }
    }
}

/// One metric and its samples.
struct Family<'a> {
    page: &'a mut String,
    name: String,
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let (counts, sum) = histogram.read();
        let bounds = BOUNDS_US.iter().map(|us| (*us as f64 / 1e6).to_string()).chain(["+Inf".to_string()]);
        for (bound, count) in bounds.zip(counts) {
            self.line("_bucket", &[labels, &[("le", &*bound)]].concat(), count);
        }
        self.line("_sum", labels, sum);
        self.line("_count", labels, counts.last().copied().unwrap_or(0));
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.page.push_str(&self.name);
        self.page.push_str(suffix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.page, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            escape(self.page, text);
            self.page.push('"');
        }
        let _ = writeln!(self.page, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// Backslash, quote and line end, as the format asks.
fn escape(page: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            other => page.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_has_buckets_that_add_up() {
        let (mut page, histogram) = (Page::default(), Histogram::default());
        [300, 700, 20_000_000].map(std::time::Duration::from_micros).into_iter().for_each(|took| histogram.observe(took));
        page.family("m_seconds", "Help.", "histogram").histogram(&[("a", "b")], &histogram);
        let text = page.0;
        for line in ["le=\"0.0005\"} 1", "le=\"0.001\"} 2", "le=\"10\"} 2", "le=\"+Inf\"} 3"] {
            assert!(text.contains(&format!("m_seconds_bucket{{a=\"b\",{line}\n")), "{line}: {text}");
        }
        assert!(
            text.contains("# TYPE m_seconds histogram\n") && text.ends_with("m_seconds_sum{a=\"b\"} 20.001\nm_seconds_count{a=\"b\"} 3\n"),
            "{text}"
        );
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.gauge("m", "Help.").sample(&[("a", "x\\y\"z\nq"), ("b", "")], 1.5);
        assert_eq!(page.0, "# HELP m Help.\n# TYPE m gauge\nm{a=\"x\\\\y\\\"z\\nq\",b=\"\"} 1.5\n");
    }
}

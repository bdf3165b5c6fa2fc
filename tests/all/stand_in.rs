//! A running admin listener over a stand-in for `control`, which answers requests by a few fixed rules. Tests of what `control` really does
//! belong with the real one; these are about HTTP and the command line.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use meridian::admin::{Explainer, Limits, Server, Token};
use meridian::control::Who;
use meridian::control::api::{
    Applied, Consequences, EndpointStatus, FailedBack, HealthStatus, NewOverlay, Overlay, PoolStatus, Refusal, ReloadReport, Status, ZoneReload,
    ZoneStatus,
};
use meridian::control::audit::Entry;
use meridian::control::handle::{Ends, Event, channel};
use meridian::telemetry::Registry;
use meridian::world::{Published, World};
use tokio::sync::oneshot;

/// The token of every stand-in.
pub(crate) const TOKEN: &str = "meridian_test-token-that-is-long-enough";

/// A running listener. Dropping it stops it.
pub(crate) struct StandIn {
    pub(crate) addr: SocketAddr,
    pub(crate) registry: Registry,
    /// What the audit log was told of refusals.
    pub(crate) refused: Arc<Mutex<Vec<Entry>>>,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

impl StandIn {
    /// On a free port of loopback, with one zone and one pool.
    pub(crate) async fn start() -> StandIn {
        StandIn::with(Limits::default(), Token::given(TOKEN)).await
    }

    pub(crate) async fn with(limits: Limits, token: Token) -> StandIn {
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind").with_limits(limits);
        let addr = server.addr();
        let registry = Registry::new();
        let status = status(&registry);
        let world = World { generation: status.generation, ..World::default() };
        let (handle, ends) = channel(Arc::new(Published::new(world)));
        let refused = Arc::default();
        tokio::spawn(answer_requests(ends, status, Arc::clone(&refused)));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let serving = tokio::spawn(server.serve(handle, Arc::new(Fixed), registry.clone(), token, stopped));
        StandIn { addr, registry, refused, stop: Some(stop), serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.await.expect("no panic");
    }
}

/// Explains one name.
struct Fixed;

impl Explainer for Fixed {
    fn explain(&self, name: &str, rtype: &str, client: &str, _: &Who) -> Result<serde_json::Value, Refusal> {
        if name != "app.example.com" {
            return Err(Refusal::NotFound { what: format!("zone for {name:?}"), near: vec!["app.example.com".into()] });
        }
        Ok(serde_json::json!({ "name": name, "type": rtype, "client": client, "text": format!("{name} {rtype} for {client}\n") }))
    }
}

fn endpoint(address: &str, state: &str, last_error: Option<&str>) -> EndpointStatus {
    EndpointStatus {
        id: format!("example.com/fra/{address}"),
        target: address.into(),
        state: state.into(),
        stale: false,
        forced: None,
        usable: state != "down",
        weight: 1,
        monitors: vec!["web".into()],
        since: Some(1_700_000_000),
        last_check: Some(1_700_000_100),
        last_ms: Some(12),
        next_check: Some(1_700_000_110),
        last_error: last_error.map(str::to_owned),
        last_error_at: None,
        calculated: None,
        advice: Vec::new(),
        concerns: Vec::new(),
        usual_ms: None,
        certificate_ends: None,
        penalty: 0,
        faults: 0,
        stale_why: None,
        suppressed_until: None,
        kept_in: None,
        reported: None,
        checks: Some([7, 1]),
    }
}

fn status(registry: &Registry) -> Status {
    Status {
        generation: 41,
        started: 1_700_000_000,
        version: "0.1.0".into(),
        certificates: Vec::new(),
        connections: Vec::new(),
        restart: Vec::new(),
        degraded: vec!["geo database geodata/x.mmdb: not found; clients are not located.".into()],
        health: HealthStatus::default(),
        zones: vec![ZoneStatus {
            name: "example.com.".into(),
            file: "zones/example.com.toml".into(),
            serial: 1_700_000_000,
            records: 7,
            steered: vec!["app.example.com.".into()],
            state: "serving".into(),
            why: None,
            slot: registry.assign("zone example.com."),
            queries: None,
        }],
        policies: vec![registry.assign("policy example.com/policy:split")],
        pools: vec![PoolStatus {
            id: "example.com/fra".into(),
            region: Some("eu".into()),
            health: "degraded".into(),
            usable: 1,
            needed: 1,
            endpoints: vec![endpoint("192.0.2.10", "up", None), endpoint("192.0.2.11", "down", Some("connect: connection \"refused\""))],
            reported: None,
            kept: 1.0,
            panic: false,
            warnings: Vec::new(),
            slot: registry.assign("pool example.com/fra"),
            queries: 0,
        }],
        overlays: Vec::new(),
    }
}

async fn answer_requests(mut ends: Ends, mut kept: Status, refused: Arc<Mutex<Vec<Entry>>>) {
    let mut next = 1;
    while let Some(event) = ends.events.recv().await {
        let mut status = Status { generation: kept.generation + 1, ..kept.clone() };
        match event {
            Event::Overlay(new, who, reply) => {
                let result = lay(&mut status, &mut next, new, who.name);
                kept = status;
                let _ = reply.send(result);
            }
            Event::Revert(id, _, _, reply) => {
                let at = status.overlays.iter().position(|overlay| overlay.id == id);
                let result = match at {
                    Some(at) => Ok(applied(status.overlays.remove(at), status.generation)),
                    None => Err(Refusal::NotFound { what: format!("overlay {id}"), near: Vec::new() }),
                };
                kept = status;
                let _ = reply.send(result);
            }
            Event::Reload { wanted, reply, .. } => {
                let _ = reply.send(reload(&status, wanted.zone, wanted.all));
            }
            Event::Failback(name, who, reply) => {
                let known = name == "example.com/www" && !who.name.is_empty();
                let refusal = Refusal::NotFound { what: format!("steered name or policy {name:?}"), near: vec!["example.com/www".into()] };
                let _ = reply.send(if known { Ok(FailedBack { generation: status.generation, released: 1 }) } else { Err(refusal) });
            }
            Event::Refused(entry) => refused.lock().expect("entries").push(*entry),
            Event::Status(reply) => drop(reply.send(kept.clone().into())),
            Event::Overlays(which, reply) => drop(reply.send(Ok(which.pick(kept.overlays.iter().cloned(), |overlay| overlay)))),
            Event::KnowState(reply) => drop(reply.send(Ok(()))),
            // Nothing is ever withdrawn here.
            Event::Foresee(new, _, reply) if new.target == "example.com/fro" => {
                let _ = reply.send(Err(Refusal::NotFound { what: "pool \"example.com/fro\"".into(), near: vec!["example.com/fra".into()] }));
            }
            Event::Foresee(_, _, reply) | Event::ForeseeRevert(.., reply) => drop(reply.send(Ok(Consequences::default()))),
            _ => {}
        }
    }
}

fn lay(status: &mut Status, next: &mut u64, new: NewOverlay, owner: String) -> Result<Applied, Refusal> {
    match new.target.as_str() {
        "example.com/fro" => return Err(Refusal::NotFound { what: "pool \"example.com/fro\"".into(), near: vec!["example.com/fra".into()] }),
        "disk/full" => return Err(Refusal::Store { detail: "database or disk is full".into() }),
        "disk/hangs" => return Err(Refusal::Stalled { detail: "the disk of the state has not answered for 11 s".into() }),
        "stop/now" => return Err(Refusal::Stopping),
        _ if new.reason.is_empty() => {
            return Err(Refusal::Invalid { field: "reason".into(), detail: "found nothing, expected 1 to 500 characters".into() });
        }
        _ => {}
    }
    let expires = if new.expires.as_deref() == Some("never") { None } else { Some(1_900_000_000) };
    let overlay = Overlay { owner, reason: new.reason, created: 1_700_000_200, expires, ..Overlay::of(*next, new.target, new.set) };
    *next += 1;
    status.overlays.push(overlay.clone());
    Ok(applied(overlay, status.generation))
}

fn applied(overlay: Overlay, generation: u64) -> Applied {
    Applied { overlay, generation, then: None, broke: Vec::new(), warnings: Vec::new() }
}

fn reload(status: &Status, zone: Option<String>, all_or_nothing: bool) -> Result<ReloadReport, Refusal> {
    let taken = |zone: &str, outcome: &str, why: Option<&str>| ZoneReload { zone: zone.into(), outcome: outcome.into(), why: why.map(str::to_owned) };
    match zone.as_deref() {
        None => Ok(ReloadReport {
            generation: status.generation,
            zones: vec![taken("example.com.", if all_or_nothing { "unchanged" } else { "taken" }, None)],
            ..ReloadReport::default()
        }),
        Some("broken.example") => Ok(ReloadReport {
            generation: status.generation,
            zones: vec![taken("broken.example.", "kept", Some("its files have 1 problem"))],
            problems: vec!["zones/broken.toml:3: ttl: found \"x\", expected seconds".into()],
            failed: true,
            ..ReloadReport::default()
        }),
        Some(zone) => Err(Refusal::NotFound { what: format!("zone {zone:?}"), near: vec!["example.com.".into()] }),
    }
}

/// A client that needs no provider of cryptography of the whole process, and no proxy.
pub(crate) fn http_client() -> reqwest::Client {
    // No connection is used twice: nobody looks at those that wait between two calls, and the server may just have closed one.
    http_client_keeping(0)
}

/// The same that keeps so many connections for its next calls.
pub(crate) fn http_client_keeping(idle: usize) -> reqwest::Client {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().pool_max_idle_per_host(idle).build().expect("client")
}

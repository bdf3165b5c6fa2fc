//! Calls of the admin interface for tests that are not async.

use reqwest::Method;
use serde_json::{Value, json};

use crate::meridian::Meridian;
use crate::stand_in::http_client;

/// A client of one running program.
pub struct Rest {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Rest {
    pub fn new(meridian: &Meridian) -> Rest {
        Rest::of(meridian, &meridian.token())
    }

    /// A client with a token that is not where others find it.
    pub fn of(meridian: &Meridian, token: &str) -> Rest {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Rest { runtime, client: http_client(), base: format!("http://{}", meridian.admin), token: token.into() }
    }

    /// The same with another token.
    pub fn with_token(&self, token: &str) -> Rest {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Rest { runtime, client: http_client(), base: self.base.clone(), token: token.into() }
    }

    /// One call: status and JSON.
    pub fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        self.send(method, path, body, None)
    }

    /// The same with one more header.
    pub fn send(&self, method: Method, path: &str, body: Option<Value>, header: Option<(&str, &str)>) -> (u16, Value) {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            if let Some(body) = body {
                request = request.json(&body);
            }
            let response = request.send().await.expect("a reply");
            let status = response.status().as_u16();
            (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or(Value::Null))
        })
    }

    /// The ETag of what is there.
    pub fn tag(&self, path: &str) -> String {
        self.header(path, "etag")
    }

    /// A header of a reply.
    pub fn header(&self, path: &str, name: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send();
        let response = self.runtime.block_on(response).expect("a reply");
        response.headers()[name].to_str().expect("text").to_owned()
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.call(Method::GET, path, None);
        assert_eq!(status, 200, "{value}");
        value
    }

    /// A page that is no JSON.
    pub fn text(&self, path: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send();
        self.runtime.block_on(async { response.await.expect("a reply").text().await.expect("a body") })
    }

    /// `POST`; must do.
    pub fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.call(Method::POST, path, Some(body));
        assert!(matches!(status, 200 | 201), "{status} {value}");
        value
    }

    /// Lays an overlay for an hour; returns its id.
    pub fn lay(&self, target: &str, set: Value) -> u64 {
        let laid = self.post("/v1/overlays", json!({ "target": target, "set": set, "reason": "test", "expires": "1h" }));
        laid["id"].as_u64().expect("an id")
    }

    /// Lays one for an hour past whatever safety rule forbids it; returns its id.
    pub fn force(&self, target: &str, set: Value) -> u64 {
        let body = json!({ "target": target, "set": set, "reason": "test", "expires": "1h", "break_glass": true });
        self.post("/v1/overlays", body)["id"].as_u64().expect("an id")
    }

    /// Lays one that is refused; status and problem.
    pub fn refused(&self, target: &str, set: Value) -> (u16, String) {
        let (status, problem) = self.call(Method::POST, "/v1/overlays", Some(json!({ "target": target, "set": set, "reason": "test" })));
        assert!(status >= 400, "{problem}");
        (status, problem["detail"].as_str().unwrap_or_default().to_owned())
    }

    /// An overlay as it is shown now.
    pub fn overlay(&self, id: u64) -> Value {
        self.get(&format!("/v1/overlays/{id}"))
    }

    /// Looks at an overlay until `is_so` holds of it; `Value::Null` when it is gone.
    pub fn wait(&self, id: u64, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = std::time::Instant::now();
        loop {
            let (status, overlay) = self.call(Method::GET, &format!("/v1/overlays/{id}"), None);
            let overlay = if status == 404 { Value::Null } else { overlay };
            if is_so(&overlay) {
                return overlay;
            }
            assert!(began.elapsed() < crate::meridian::PATIENCE, "{overlay}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    pub fn revert(&self, id: u64) {
        let (status, value) = self.call(Method::DELETE, &format!("/v1/overlays/{id}"), None);
        assert_eq!(status, 200, "{value}");
    }

    /// An endpoint in the status, by id.
    pub fn endpoint(&self, id: &str) -> Value {
        let status = self.get("/v1/status");
        let mut endpoints = status["pools"].as_array().expect("pools").iter().flat_map(|pool| pool["endpoints"].as_array().expect("endpoints"));
        endpoints.find(|endpoint| endpoint["id"] == id).unwrap_or_else(|| panic!("no {id} in {status}")).clone()
    }
}

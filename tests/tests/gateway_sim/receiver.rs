//! A tiny receiver of webhooks, and a client for the simulator.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use posto_tests::gateway_sim::{Fault, FaultRule, GatewaySim, SimConfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::timeout};

/// How long a condition may take to come true on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
pub(crate) const SECRET: &str = "segredo-do-gateway";
pub(crate) const HOOK_SECRET: &str = "segredo-do-webhook";
pub(crate) const CHANNEL: &str = "Pixel12 Digital";
pub(crate) const AURORA: &str = "5547999900011";
pub(crate) const AURORA_CHAT: &str = "554799900011@c.us";

#[derive(Default)]
struct Shared {
    events: Mutex<Vec<(HeaderMap, Value)>>,
    refusals: Mutex<VecDeque<StatusCode>>,
    arrived: Notify,
}

/// Collects webhooks on a port of its own.
pub(crate) struct Receiver {
    pub(crate) url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let routes = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            url,
            shared,
            server,
        }
    }

    /// Answers the next webhooks with these statuses.
    pub(crate) fn refuse_next(&self, statuses: &[StatusCode]) {
        self.shared.refusals.lock().unwrap().extend(statuses);
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let events = self.shared.events.lock().unwrap();
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        let events = self.shared.events.lock().unwrap();
        events.iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// Waits until so many webhooks were accepted, and returns them.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Value> {
        let waited = timeout(BOUND, async {
            loop {
                let arrived = self.shared.arrived.notified();
                let events = self.events();
                if events.len() >= count {
                    return events;
                }
                arrived.await;
            }
        })
        .await;
        waited.unwrap_or_else(|_| {
            panic!(
                "{} of {count} webhooks: {:?}",
                self.events().len(),
                names(&self.events())
            )
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> StatusCode {
    if let Some(refusal) = shared.refusals.lock().unwrap().pop_front() {
        return refusal;
    }
    let event = serde_json::from_str(&body).unwrap();
    shared.events.lock().unwrap().push((headers, event));
    shared.arrived.notify_waiters();
    StatusCode::OK
}

/// "echo" and "ack N" for each webhook.
pub(crate) fn names(events: &[Value]) -> Vec<String> {
    let name = |event: &Value| match event["event"].as_str().unwrap() {
        "message.ack" => format!("ack {}", event["raw"]["payload"]["ack"]),
        "message.sent" => "echo".to_owned(),
        other => other.to_owned(),
    };
    events.iter().map(name).collect()
}

/// A simulator, its receiver and a client.
pub(crate) struct World {
    pub(crate) sim: GatewaySim,
    pub(crate) hooks: Receiver,
    pub(crate) http: reqwest::Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SimConfig)) -> Self {
        let hooks = Receiver::start().await;
        let mut config = SimConfig::for_tests(SECRET);
        config.webhook_url = Some(hooks.url.clone());
        config.webhook_secret = Some(HOOK_SECRET.to_owned());
        change(&mut config);
        let sim = GatewaySim::start(config).await.unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(BOUND)
            .build()
            .unwrap();
        Self { sim, hooks, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sim.url())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        self.try_post(path, body).await.unwrap()
    }

    pub(crate) async fn try_post(
        &self,
        path: &str,
        body: Value,
    ) -> reqwest::Result<reqwest::Response> {
        let request = self.http.post(self.url(path)).json(&body);
        request.header("x-gateway-secret", SECRET).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.http.get(self.url(path));
        let request = request.header("x-gateway-secret", SECRET);
        request.send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    pub(crate) async fn send(&self, to: &str, text: &str) -> reqwest::Response {
        self.post("/api/messages", text_body(to, text)).await
    }

    pub(crate) async fn try_send(&self, to: &str) -> reqwest::Result<reqwest::Response> {
        self.try_post("/api/messages", text_body(to, "oi")).await
    }

    /// Sends once under a fault of one call and returns status and body.
    pub(crate) async fn send_under(&self, rule: FaultRule) -> (u16, String) {
        self.sim.set_fault(rule.times(1));
        let answer = self.send(AURORA, "oi").await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// `went_out` of every listed message.
    pub(crate) fn went_out(&self) -> Vec<bool> {
        let messages = self.sim.messages();
        messages.iter().map(|message| message.went_out).collect()
    }
}

pub(crate) fn text_body(to: &str, text: &str) -> Value {
    json!({ "channel": CHANNEL, "to": to, "text": text })
}

pub(crate) fn rule(fault: Fault) -> FaultRule {
    FaultRule::new(fault)
}

/// Waits until `condition` holds; fails after [`BOUND`].
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let waited = timeout(BOUND, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the condition came true in time");
}

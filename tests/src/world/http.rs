//! What a scenario says to Posto over HTTP.

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

use super::{ADMIN_TOKEN, ASAAS_TOKEN, BILLING_TOKEN, WEBHOOK_SECRET, World};

/// An answer of Posto.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, null when it is no JSON.
    pub body: Value,
}

impl Answer {
    /// A text of the body by its JSON pointer.
    ///
    /// # Panics
    /// When there is none: the scenario expected it.
    #[must_use]
    pub fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found
            .unwrap_or_else(|| panic!("{pointer} is no text in {}", self.body))
            .to_owned()
    }
}

impl World {
    /// Posts one event, or an array of them, as source `billing`.
    pub async fn post(&self, event: &Value) -> Answer {
        self.post_bytes(
            BILLING_TOKEN,
            "application/json",
            event.to_string().into_bytes(),
        )
        .await
    }

    /// Posts one event with a credential.
    pub async fn post_as(&self, token: &str, event: &Value) -> Answer {
        self.post_bytes(token, "application/json", event.to_string().into_bytes())
            .await
    }

    /// Posts bytes to `/api/events`.
    pub async fn post_bytes(&self, token: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let request = self
            .http
            .post(format!("{}/api/events", self.api))
            .bearer_auth(token)
            .header(CONTENT_TYPE, content_type)
            .body(body);
        answer(request).await
    }

    /// Posts a body to the gateway's door.
    pub async fn post_webhook(&self, body: &Value) -> Answer {
        self.post_webhook_as(WEBHOOK_SECRET, body).await
    }

    /// Posts a body to the gateway's door with a secret.
    pub async fn post_webhook_as(&self, secret: &str, body: &Value) -> Answer {
        let request = self
            .http
            .post(format!("{}/api/whatsapp/webhook", self.api))
            .header("x-gateway-secret", secret)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        answer(request).await
    }

    /// Posts a body to Asaas's door.
    pub async fn post_asaas(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.post_asaas_as(ASAAS_TOKEN, body).await
    }

    /// Posts a body to Asaas's door with a token.
    pub async fn post_asaas_as(&self, token: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self
            .http
            .post(format!("{}/webhook/asaas", self.api))
            .header("asaas-access-token", token)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        answer(request).await
    }

    /// Asks the public listener as source `billing`.
    pub async fn get(&self, path: &str) -> Answer {
        answer(
            self.http
                .get(format!("{}{path}", self.api))
                .bearer_auth(BILLING_TOKEN),
        )
        .await
    }

    /// Asks the operators' listener.
    pub async fn admin(&self, path: &str) -> Answer {
        answer(
            self.http
                .get(format!("{}{path}", self.admin))
                .bearer_auth(ADMIN_TOKEN),
        )
        .await
    }

    /// Gives the operators' listener an order.
    pub async fn order(&self, path: &str, body: &Value) -> Answer {
        let request = self
            .http
            .post(format!("{}{path}", self.admin))
            .bearer_auth(ADMIN_TOKEN)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string());
        answer(request).await
    }

    /// The address of the operators' listener.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin
    }

    /// A number that a process counts: the name with its labels in the order of the alphabet, as
    /// its metrics page writes them. 0 while it has not counted.
    ///
    /// # Panics
    /// When the process never ran, or answers something else.
    pub async fn metric(&self, process: &str, series: &str) -> f64 {
        let ops = self
            .ops
            .get(process)
            .expect("because the scenario started it");
        let request = self.http.get(format!("http://{ops}/metrics"));
        let response = request.send().await.expect("because the process is up");
        let page = response.text().await.expect("because the page is text");
        page.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    /// The address of the public listener.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// A plain HTTP client.
    #[must_use]
    pub const fn client(&self) -> &reqwest::Client {
        &self.http
    }
}

/// Sends a request and reads its answer.
///
/// # Panics
/// When nobody answers: the scenario cannot go on.
pub async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request
        .send()
        .await
        .expect("because the world's listeners are up");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response
        .bytes()
        .await
        .expect("because an answer has a body, an empty one at least");
    Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }
}

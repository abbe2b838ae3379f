//! One operation: a method of an address with its handler, and what is said of it.

use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::parameter::Parameter;
use super::problems;
use crate::api::problem::Code;

/// Makes the schema of a type, or a reference to it.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a caller may show; one of those that an operation names is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// A source's key.
    SourceKey,
    /// The same in a header of its own.
    EventSecret,
    /// A signature of the body.
    Signature,
    /// What the gateway was told to send.
    GatewaySecret,
    /// The same in its other header.
    WebhookSecret,
    /// What Asaas was told to send.
    AsaasToken,
    /// The same in its other header.
    XAsaasToken,
    /// What the public link of a service order carries.
    OrderLink,
    /// The same in a header.
    OrderToken,
    /// The operators' token.
    AdminToken,
}

impl Security {
    const ALL: [Self; 10] = [
        Self::SourceKey,
        Self::EventSecret,
        Self::Signature,
        Self::GatewaySecret,
        Self::WebhookSecret,
        Self::AsaasToken,
        Self::XAsaasToken,
        Self::OrderLink,
        Self::OrderToken,
        Self::AdminToken,
    ];

    /// The schemes that it asks for, all of them, with what each of them is.
    fn parts(self) -> Vec<(&'static str, Value)> {
        let header = |name: &str, about: &str| json!({"type": "apiKey", "in": "header", "name": name, "description": about});
        match self {
            Self::SourceKey => vec![(
                "sourceKey",
                json!({"type": "http", "scheme": "bearer", "description": "A key of the source (`ingest admin keys create`), or the bootstrap key."}),
            )],
            Self::EventSecret => vec![(
                "eventSecret",
                header(
                    "X-Event-Secret",
                    "The source's key, in a header of its own.",
                ),
            )],
            Self::Signature => vec![
                (
                    "webhookSignature",
                    header(
                        "webhook-signature",
                        "Standard Webhooks 1.0.0: `v1,` and the base64 of the HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{raw body}`.",
                    ),
                ),
                (
                    "webhookId",
                    header(
                        "webhook-id",
                        "The same for every repeat; the key of the event unless there is an `Idempotency-Key`.",
                    ),
                ),
                (
                    "webhookTimestamp",
                    header(
                        "webhook-timestamp",
                        "Unix seconds of this very try, within five minutes of now.",
                    ),
                ),
            ],
            Self::GatewaySecret => vec![(
                "gatewaySecret",
                header(
                    "X-Gateway-Secret",
                    "The secret that the gateway was given with the address.",
                ),
            )],
            Self::WebhookSecret => vec![(
                "webhookSecret",
                header("X-Webhook-Secret", "The same in its other header."),
            )],
            Self::AsaasToken => vec![(
                "asaasToken",
                header(
                    "asaas-access-token",
                    "The token that Asaas was given with the address.",
                ),
            )],
            Self::XAsaasToken => vec![(
                "xAsaasToken",
                header("x-asaas-access-token", "The same in its other header."),
            )],
            Self::OrderLink => vec![(
                "orderLink",
                json!({"type": "apiKey", "in": "query", "name": "token", "description": "The token of a service order, as its public link has it; it opens that order's chat alone."}),
            )],
            Self::OrderToken => vec![(
                "orderToken",
                header("X-Order-Token", "The same in a header."),
            )],
            Self::AdminToken => vec![(
                "adminToken",
                json!({"type": "http", "scheme": "bearer", "description": "The operators' token (`POSTO_ADMIN_TOKEN`)."}),
            )],
        }
    }

    fn requirement(self) -> Value {
        let parts = self.parts().into_iter();
        let members: Map<String, Value> = parts
            .map(|(name, _)| (name.to_owned(), json!([])))
            .collect();
        members.into()
    }

    /// Every scheme.
    pub(super) fn schemes() -> Value {
        let all = Self::ALL.into_iter().flat_map(Self::parts);
        let members: Map<String, Value> = all
            .map(|(name, scheme)| (name.to_owned(), scheme))
            .collect();
        members.into()
    }
}

/// What an operation reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(Vec<Content>);

/// One content type of a body.
#[derive(Clone, Debug)]
struct Content {
    media: &'static str,
    schema: SchemaOf,
    examples: Vec<(&'static str, Value)>,
}

impl Body {
    /// JSON of a type.
    pub(crate) fn json<T: JsonSchema + ?Sized>() -> Self {
        Self::default().or::<T>("application/json")
    }

    /// Or that, as another content type.
    pub(crate) fn or<T: JsonSchema + ?Sized>(mut self, media: &'static str) -> Self {
        let schema: SchemaOf = SchemaGenerator::subschema_for::<T>;
        self.0.push(Content {
            media,
            schema,
            examples: Vec::new(),
        });
        self
    }

    /// With an example of the content type that was named last.
    pub(crate) fn example(mut self, name: &'static str, value: Value) -> Self {
        if let Some(content) = self.0.last_mut() {
            content.examples.push((name, value));
        }
        self
    }

    fn described(&self, schemas: &mut SchemaGenerator) -> Value {
        let of = |content: &Content| {
            let mut said = json!({"schema": (content.schema)(schemas)});
            if !content.examples.is_empty() {
                let examples = content.examples.iter();
                let examples: Map<String, Value> = examples
                    .map(|(name, value)| ((*name).to_owned(), json!({"value": value})))
                    .collect();
                said["examples"] = examples.into();
            }
            (content.media.to_owned(), said)
        };
        let content: Map<String, Value> = self.0.iter().map(of).collect();
        json!({"required": true, "content": content})
    }
}

/// One answer that is no problem.
struct Answer {
    status: u16,
    about: &'static str,
    media: &'static str,
    schema: SchemaOf,
    headers: Vec<(&'static str, &'static str)>,
    links: Vec<(&'static str, &'static str, &'static str)>,
}

/// A method of an address.
pub(crate) struct Operation<S> {
    pub(super) handler: MethodRouter<S>,
    method: &'static str,
    id: String,
    tag: &'static str,
    summary: String,
    about: String,
    security: &'static [Security],
    parameters: Vec<Parameter>,
    body: Option<Body>,
    answers: Vec<Answer>,
    problems: &'static [Code],
}

/// `GET`, with the operation's unique id and what it does in a few words.
pub(crate) fn get<H, T, S>(
    id: impl Into<String>,
    summary: impl Into<String>,
    handler: H,
) -> Operation<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Operation::new("get", routing::get(handler), id.into(), summary.into())
}

/// `PUT`, likewise.
pub(crate) fn put<H, T, S>(
    id: impl Into<String>,
    summary: impl Into<String>,
    handler: H,
) -> Operation<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Operation::new("put", routing::put(handler), id.into(), summary.into())
}

/// `POST`, likewise.
pub(crate) fn post<H, T, S>(
    id: impl Into<String>,
    summary: impl Into<String>,
    handler: H,
) -> Operation<S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    Operation::new("post", routing::post(handler), id.into(), summary.into())
}

impl<S> Operation<S> {
    fn new(method: &'static str, handler: MethodRouter<S>, id: String, summary: String) -> Self {
        Self {
            handler,
            method,
            id,
            tag: "posto",
            summary,
            about: String::new(),
            security: &[],
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: &[],
        }
    }

    /// The group in which it is shown.
    pub(crate) fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// More about it, in Markdown.
    pub(crate) fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// What a caller must show, any one of them.
    pub(crate) fn secured(mut self, security: &'static [Security]) -> Self {
        self.security = security;
        self
    }

    /// What it reads of the address and of the headers.
    pub(crate) fn parameters(mut self, parameters: impl IntoIterator<Item = Parameter>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// What it reads of the body.
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// An answer in JSON.
    pub(crate) fn answer<T: JsonSchema + ?Sized>(self, status: u16, about: &'static str) -> Self {
        self.answer_as::<T>(status, about, "application/json")
    }

    /// An answer of another content type.
    pub(crate) fn answer_as<T: JsonSchema + ?Sized>(
        mut self,
        status: u16,
        about: &'static str,
        media: &'static str,
    ) -> Self {
        self.answers.push(Answer {
            status,
            about,
            media,
            schema: SchemaGenerator::subschema_for::<T>,
            headers: Vec::new(),
            links: Vec::new(),
        });
        self
    }

    /// What the answer that was named last leads to: an operation, and where its parameter stands.
    pub(crate) fn leads_to(
        mut self,
        operation: &'static str,
        parameter: &'static str,
        place: &'static str,
    ) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.links.push((operation, parameter, place));
        }
        self
    }

    /// A header that the answer that was named last may have.
    pub(crate) fn header(mut self, name: &'static str, about: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, about));
        }
        self
    }

    /// Every problem that it may answer.
    pub(crate) fn problems(mut self, problems: &'static [Code]) -> Self {
        self.problems = problems;
        self
    }

    /// Its method, and what is said of it.
    pub(super) fn described(
        &self,
        path: &str,
        schemas: &mut SchemaGenerator,
    ) -> (&'static str, Value) {
        let mut responses = problems::responses(self.problems, schemas);
        for answer in &self.answers {
            let headers: Map<String, Value> = answer
                .headers
                .iter()
                .map(|(name, about)| {
                    let said = json!({"description": about, "schema": {"type": "string"}});
                    ((*name).to_owned(), said)
                })
                .collect();
            let mut said = json!({
                "description": answer.about,
                "content": {answer.media: {"schema": (answer.schema)(schemas)}},
            });
            if !headers.is_empty() {
                said["headers"] = headers.into();
            }
            for (operation, parameter, place) in &answer.links {
                let parameters = json!({*parameter: format!("$response.body#{place}")});
                said["links"][*operation] =
                    json!({"operationId": operation, "parameters": parameters});
            }
            // An answer of the status of a problem is one of two.
            match responses.get_mut(&answer.status.to_string()) {
                Some(problem) => {
                    problem["content"][answer.media] = said["content"][answer.media].take();
                    let both = format!(
                        "{} Or: {}",
                        answer.about,
                        problem["description"].as_str().unwrap_or_default()
                    );
                    problem["description"] = both.into();
                }
                None => {
                    responses.insert(answer.status.to_string(), said);
                }
            }
        }
        let mut said = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        });
        if !self.about.is_empty() {
            said["description"] = self.about.as_str().into();
        }
        if !self.security.is_empty() {
            said["security"] = self.security.iter().map(|s| s.requirement()).collect();
        }
        let in_path = path.split('/').filter(|part| part.starts_with('{')).count();
        debug_assert_eq!(
            in_path,
            self.parameters.iter().filter(|p| p.is_in_path()).count(),
            "{path}"
        );
        if !self.parameters.is_empty() {
            said["parameters"] = self.parameters.iter().map(Parameter::described).collect();
        }
        if let Some(body) = &self.body {
            said["requestBody"] = body.described(schemas);
        }
        (self.method, said)
    }
}

//! The problems of an operation as its answers: one for each status, with the codes that it may
//! carry and the headers that come with it.

use std::collections::BTreeMap;

use schemars::generate::SchemaGenerator;
use serde_json::{Map, Value, json};

use crate::api::problem::{Code, ProblemBody};

/// The answers, by status.
pub(super) fn responses(codes: &[Code], schemas: &mut SchemaGenerator) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(*code);
    }
    let problem = schemas.subschema_for::<ProblemBody<'static>>();
    by_status
        .into_iter()
        .map(|(status, codes)| {
            let titles: Vec<&str> = codes.iter().map(|code| code.title()).collect();
            let texts: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
            let narrowed =
                json!({"properties": {"status": {"const": status}, "code": {"enum": texts}}});
            let mut said = json!({
                "description": format!("{}.", titles.join(". Or: ")),
                "content": {"application/problem+json": {"schema": {"allOf": [problem, narrowed]}}},
            });
            let headers = headers(&codes);
            if !headers.is_empty() {
                said["headers"] = headers.into();
            }
            (status.to_string(), said)
        })
        .collect()
}

/// The headers of a status; one is required where every code of it brings it.
fn headers(codes: &[Code]) -> Map<String, Value> {
    let header = |about: &str, schema: Value, bring: &[Code]| {
        let required = codes.iter().all(|code| bring.contains(code));
        json!({"description": about, "required": required, "schema": schema})
    };
    let all = [
        (
            "WWW-Authenticate",
            &[Code::Unauthenticated][..],
            "How to authenticate.",
            json!({"type": "string"}),
        ),
        (
            "Retry-After",
            &[Code::RateLimited, Code::AddressShutOut, Code::Unavailable],
            "Seconds until one may come again.",
            json!({"type": "string", "pattern": "^[0-9]+$"}),
        ),
        (
            "RateLimit-Policy",
            &[Code::RateLimited],
            "The limit that was met: its name, quota `q` and window `w` in seconds (draft-ietf-httpapi-ratelimit-headers).",
            json!({"type": "string"}),
        ),
        (
            "RateLimit",
            &[Code::RateLimited],
            "What is left of it, `r`, and when it is whole again, `t`, in seconds.",
            json!({"type": "string"}),
        ),
    ];
    all.into_iter()
        .filter(|(_, bring, ..)| codes.iter().any(|code| bring.contains(code)))
        .map(|(name, bring, about, schema)| (name.to_owned(), header(about, schema, bring)))
        .collect()
}

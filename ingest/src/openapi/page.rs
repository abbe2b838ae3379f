//! The document and the page to read it. The page is ours and needs nothing from anywhere else: a
//! browser without a way out shows it, and its policy forbids it to ask elsewhere.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sha2::{Digest as _, Sha256};

use super::operation::{Operation, get};
use super::{DOCUMENT, PAGE};

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

static WHOLE: LazyLock<Bytes> = LazyLock::new(|| {
    let page = HTML
        .replace("{{document}}", DOCUMENT)
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT);
    Bytes::from(page)
});

/// Only what stands on the page itself runs, and it may ask for the document alone.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; connect-src 'self'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// An OpenAPI document.
struct Document;

impl JsonSchema for Document {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Document".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An OpenAPI document.",
            "type": "object",
            "required": ["openapi", "info", "paths", "components"],
            "properties": {"openapi": {"const": "3.1.0"}},
        })
    }
}

pub(super) fn document<S>(written: Arc<OnceLock<Bytes>>) -> Operation<S>
where
    S: Clone + Send + Sync + 'static,
{
    let handler = async move || {
        let document = written.get().cloned().unwrap_or_default();
        ([(CONTENT_TYPE, "application/json")], document).into_response()
    };
    get("getDescription", "This document", handler)
        .tag("description")
        .answer::<Document>(200, "What this listener takes and answers.")
}

pub(super) fn page<S>() -> Operation<S>
where
    S: Clone + Send + Sync + 'static,
{
    let handler = async || {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY.as_str()),
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, WHOLE.clone()).into_response()
    };
    get("readDescription", "This document, to be read", handler)
        .tag("description")
        .about(format!(
            "A page that shows `{DOCUMENT}`. `{PAGE}` needs nothing from elsewhere."
        ))
        .answer_as::<str>(200, "The page.", "text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_nobody_else_for_anything() {
        let page = String::from_utf8(WHOLE.to_vec()).unwrap();
        assert!(page.contains("lang=\"pt-BR\"") && !page.contains("{{"));
        for outside in [
            "http://",
            "https://",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "eval(",
        ] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(!POLICY.contains("unsafe"));
    }
}

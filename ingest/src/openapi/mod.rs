//! What the listeners take and answer, said once: a route is mounted together with its description,
//! so that neither is there without the other. The document is OpenAPI 3.1; the schemas of its
//! answers come from the types that are written to the wire.
//!
//! It knows no route; those of each listener are described beside their handlers.

mod operation;
mod page;
mod parameter;
mod problems;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::MethodRouter;
use bytes::Bytes;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

pub(crate) use operation::{Body, Operation, Security, get, post, put};
pub(crate) use parameter::Parameter;

/// Where a listener has its document.
pub(crate) const DOCUMENT: &str = "/openapi.json";
/// Where a listener has the page to read it.
pub(crate) const PAGE: &str = "/docs";

/// The routes of a listener, and what is said of them.
pub(crate) struct Api<S> {
    title: &'static str,
    about: &'static str,
    router: Router<S>,
    paths: Map<String, Value>,
    schemas: SchemaGenerator,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// A listener without routes.
    pub(crate) fn new(title: &'static str, about: &'static str) -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let settings = settings.with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            title,
            about,
            router: Router::new(),
            paths: Map::new(),
            schemas: settings.into_generator(),
        }
    }

    /// With an address that takes these methods.
    pub(crate) fn route<const N: usize>(
        mut self,
        path: &str,
        operations: [Operation<S>; N],
    ) -> Self {
        let mut methods = MethodRouter::new();
        let mut item = Map::new();
        for operation in operations {
            let (method, said) = operation.described(path, &mut self.schemas);
            item.insert(method.to_owned(), said);
            methods = methods.merge(operation.handler);
        }
        self.paths.insert(path.to_owned(), item.into());
        self.router = self.router.route(path, methods);
        self
    }

    /// The routes with two more, the document and the page to read it; and the document.
    pub(crate) fn finish(self) -> (Router<S>, Value) {
        // The document tells of these two as well, so it is there a moment after them.
        let written: Arc<OnceLock<Bytes>> = Arc::default();
        let mut all = self
            .route(DOCUMENT, [page::document(Arc::clone(&written))])
            .route(PAGE, [page::page()]);
        let document = json!({
            "openapi": "3.1.0",
            "info": {"title": all.title, "version": env!("CARGO_PKG_VERSION"), "description": all.about},
            "paths": all.paths,
            "components": {
                "schemas": all.schemas.take_definitions(true),
                "securitySchemes": Security::schemes(),
            },
        });
        written.get_or_init(|| Bytes::from(document.to_string()));
        (all.router, document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admin, api};

    /// Every reference of a value.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members
                    .values()
                    .for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn operations(document: &Value) -> Vec<(String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, said)| (format!("{method} {path}"), said))
        });
        all.collect()
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_says_what_it_answers() {
        for document in [api::document(), admin::document()] {
            let mut found = Vec::new();
            references(&document, &mut found);
            assert!(found.len() > 10);
            for reference in found {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            let mut ids = Vec::new();
            for (name, said) in operations(&document) {
                ids.push(said["operationId"].as_str().unwrap().to_owned());
                assert!(!said["summary"].as_str().unwrap().is_empty(), "{name}");
                let answers = said["responses"].as_object().unwrap();
                assert!(
                    answers.keys().any(|status| status.starts_with('2')),
                    "{name}"
                );
                for scheme in said["security"].as_array().into_iter().flatten() {
                    for scheme in scheme.as_object().unwrap().keys() {
                        let place = format!("/components/securitySchemes/{scheme}");
                        assert!(document.pointer(&place).is_some(), "{name}: {scheme}");
                    }
                }
                // Whoever must show something is told when it is wrong.
                let shut = said.get("security").is_some();
                assert_eq!(shut, answers.contains_key("401"), "{name}");
            }
            let all = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), all, "ids are unique");
        }
    }

    #[test]
    fn what_is_named_in_an_address_is_described_and_nothing_else_is() {
        for document in [api::document(), admin::document()] {
            for (name, said) in operations(&document) {
                let mut named: Vec<&str> = name
                    .split('/')
                    .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                    .collect();
                let parameters = said["parameters"].as_array();
                let mut described: Vec<&str> = parameters
                    .into_iter()
                    .flatten()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                named.sort_unstable();
                described.sort_unstable();
                assert_eq!(named, described, "{name}");
            }
        }
    }

    #[test]
    fn the_public_document_tells_nothing_of_the_operators_listener() {
        let public = api::document();
        let paths: Vec<_> = public["paths"].as_object().unwrap().keys().collect();
        assert!(paths.iter().all(|path| !path.starts_with("/admin")));
        assert!(
            paths.iter().any(|path| *path == "/webhook/whapi_cloud"),
            "{paths:?}"
        );
        assert!(!public.to_string().contains("/admin/"));
    }
}

//! What the two listeners serve, as a list: it is read from their descriptions, without which nothing is
//! mounted, so that a walk over it leaves no route out.

use serde_json::Value;

/// One thing that a listener answers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// The path, with `{…}` where an id stands.
    pub path: String,
}

/// The routes of the public listener.
#[must_use]
pub fn public() -> Vec<Route> {
    listed(&crate::api::document())
}

/// The routes of the operators' listener.
#[must_use]
pub fn admin() -> Vec<Route> {
    listed(&crate::admin::document())
}

fn listed(document: &Value) -> Vec<Route> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let routes = paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, _)| Route {
            method: method.to_ascii_uppercase(),
            path: path.clone(),
        })
    });
    routes.collect()
}

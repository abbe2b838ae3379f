//! The routes of the two listeners, written down while they are made: what a listener serves can be
//! walked, and a walk that leaves one out is found out.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodRouter, get, post, put};

/// One thing that a listener answers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// The path, with `{…}` where an id stands.
    pub path: &'static str,
}

/// The routes of the public listener.
#[must_use]
pub fn public() -> Vec<Route> {
    crate::api::routes().list
}

/// The routes of the operators' listener.
#[must_use]
pub fn admin() -> Vec<Route> {
    crate::admin::routes().list
}

/// A router in the making, with the list of what it serves.
pub(crate) struct Routes<S> {
    router: Router<S>,
    list: Vec<Route>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No route yet.
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            list: Vec::new(),
        }
    }

    /// Answers `GET path`.
    pub(crate) fn get<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(&Method::GET, path, get(handler))
    }

    /// Answers `POST path`.
    pub(crate) fn post<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(&Method::POST, path, post(handler))
    }

    /// Answers `PUT path`.
    pub(crate) fn put<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.add(&Method::PUT, path, put(handler))
    }

    /// And those.
    pub(crate) fn merge(mut self, others: Self) -> Self {
        self.router = self.router.merge(others.router);
        self.list.extend(others.list);
        self
    }

    fn add(mut self, method: &Method, path: &'static str, answering: MethodRouter<S>) -> Self {
        self.router = self.router.route(path, answering);
        self.list.push(Route {
            method: method.to_string(),
            path,
        });
        self
    }

    /// The router.
    pub(crate) fn into_router(self) -> Router<S> {
        self.router
    }
}

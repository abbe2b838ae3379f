//! Signed requests (Standard Webhooks 1.0.0): whoever made the signature of the raw body is asking.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use shared::source::standard_webhooks::{self, SignatureError, Signed};

use super::auth::{self, Caller};
use super::problem::{Code, Problem};
use super::{ApiState, LARGEST_EVENT, address_forbidden, read_body, shut_out};

/// Whether a request is to be judged by its signature: it has one, and no key.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    standard_webhooks::is_signed(headers) && !auth::presents_a_key(headers)
}

impl ApiState {
    /// Finds who signed a request, and answers it as it came: its body had to be read for that. What
    /// is wrong without the body is told before it is read, and so is an address that is shut out.
    ///
    /// # Errors
    /// Nobody whom we know did, or not now, or from an address that the source may not speak from;
    /// or a limit is met, or the body cannot be read.
    pub(super) async fn admit_signed(
        &self,
        request: Request,
        client: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<(Caller, Request), Problem> {
        if let Some(seconds) = self.guard.shut_out(client) {
            return Err(shut_out(seconds));
        }
        self.guard.take_request(client).map_err(Problem::of_limit)?;
        let headers = request.headers().clone();
        let signed = Signed::of(&headers, now).map_err(|error| self.unsigned(client, error))?;
        let directory = self.directory.get();
        if directory.signing_keys(now).next().is_none() {
            return Err(self.unsigned(client, SignatureError::Wrong));
        }
        let body = read_body(request, LARGEST_EVENT).await?;
        let signer = directory
            .signing_keys(now)
            .find(|key| signed.verify(key.secret.expose(), &body).is_ok())
            .ok_or_else(|| self.unsigned(client, SignatureError::Wrong))?;
        let credential = &signer.credential;
        if !directory.lets_in(&credential.source_system, client) {
            return Err(address_forbidden());
        }
        self.uses.mark(credential.id, now);
        let mut read = Request::new(Body::from(body));
        *read.headers_mut() = headers;
        Ok((Caller::Known(Arc::clone(credential)), read))
    }

    /// Counts it like any other failure to authenticate; what was wrong with the signature is told.
    fn unsigned(&self, client: IpAddr, error: SignatureError) -> Problem {
        match self.stranger(client) {
            problem if problem.code == Code::Unauthenticated => {
                Problem::new(Code::Unauthenticated, error.to_string())
            }
            shut_out => shut_out,
        }
    }
}

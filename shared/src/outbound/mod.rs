//! Requests to addresses that somebody configured: one way to make their client, so that none of
//! them reaches where it should not (SSRF), follows a redirect, or reads without end.
//!
//! Knows nothing of what is asked. Invariant: an address is looked at when it is connected to, not
//! before; connections that are kept alive cost nothing more.

mod address;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, Url};

pub use address::{AddressGuard, AddressRefused};
use resolver::GuardedResolver;

use crate::domain::network::Network;

/// No request takes longer, whatever its own limit is: a list of the gateway's may take 90 s.
const LONGEST_REQUEST: Duration = Duration::from_secs(120);

/// The settings of outgoing requests.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutboundArgs {
    /// Networks beside the public internet that requests may go to, separated by commas.
    #[arg(long, env = "OUTBOUND_ALLOW", value_delimiter = ',')]
    pub outbound_allow: Vec<Network>,
}

impl OutboundArgs {
    /// Which addresses requests may go to.
    #[must_use]
    pub fn guard(&self) -> AddressGuard {
        AddressGuard::allowing(self.outbound_allow.iter().copied().collect())
    }
}

/// Begins a client for requests to the host of `base`. Installs ring as the process's TLS provider
/// unless one is installed. What it may add are times and connections: no redirect is followed (it
/// would take secrets elsewhere), no proxy of the environment is used (likewise), nothing is asked
/// twice, and names lead to admitted addresses alone.
///
/// # Errors
/// `base` is an address that no request may go to: tell whoever configured it.
pub fn client_for(base: &Url, guard: &AddressGuard) -> Result<ClientBuilder, AddressRefused> {
    guard.check(base)?;
    // An error means that a provider is installed already, and any provider will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let resolver = GuardedResolver {
        guard: guard.clone(),
    };
    let builder = Client::builder()
        .user_agent(concat!("posto/", env!("CARGO_PKG_VERSION")))
        .timeout(LONGEST_REQUEST)
        .dns_resolver(Arc::new(resolver))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only();
    Ok(if base.scheme() == "http" {
        // The platform's verifier refuses to be built on a machine without CA certificates, which a
        // slim container is; plain http needs none of them.
        builder.tls_certs_only([])
    } else {
        builder
    })
}

/// Reads a body, `most` bytes of it and no more.
///
/// # Errors
/// It broke off, or its time was over.
pub async fn read_body(response: &mut Response, most: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < most {
        match response.chunk().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    body.truncate(most);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn loopback() -> AddressGuard {
        let allowed = ["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap());
        AddressGuard::allowing(allowed.into_iter().collect())
    }

    /// The server under the name `localhost`.
    fn by_name(server: &MockServer) -> Url {
        let mut url: Url = server.uri().parse().unwrap();
        url.set_host(Some("localhost")).unwrap();
        url
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
        let server = MockServer::start().await;
        Mock::given(path("/"))
            .respond_with(ResponseTemplate::new(200))
            .mount(&server)
            .await;
        let url = by_name(&server);
        let http = client_for(&url, &AddressGuard::default())
            .unwrap()
            .build()
            .unwrap();
        let error = http.get(url.clone()).send().await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        assert!(format!("{error:?}").contains("AddressRefused"), "{error:?}");
        assert_eq!(
            server.received_requests().await.map(|all| all.len()),
            Some(0)
        );

        let http = client_for(&url, &loopback()).unwrap().build().unwrap();
        assert_eq!(http.get(url).send().await.unwrap().status(), 200);
        let literal = server.uri().parse().unwrap();
        assert_eq!(
            client_for(&literal, &AddressGuard::default()).err(),
            Some(AddressRefused)
        );
    }

    #[tokio::test]
    async fn no_redirect_is_followed_and_no_more_is_read_than_asked_for() {
        let server = MockServer::start().await;
        let away = ResponseTemplate::new(302)
            .insert_header("location", "/elsewhere")
            .set_body_bytes(vec![7; 100_000]);
        Mock::given(path("/"))
            .respond_with(away)
            .expect(1)
            .mount(&server)
            .await;
        let url: Url = server.uri().parse().unwrap();
        let http = client_for(&url, &loopback()).unwrap().build().unwrap();
        let mut response = http.get(url).send().await.unwrap();
        assert_eq!(response.status(), 302);
        assert_eq!(read_body(&mut response, 1000).await.unwrap(), [7; 1000]);
        assert_eq!(
            server.received_requests().await.map(|all| all.len()),
            Some(1)
        );
    }
}

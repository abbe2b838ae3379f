//! Where the gateway is and how to speak to it.

use std::time::Duration;

use clap::Args;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::outbound::{AddressGuard, AddressRefused, OutboundArgs};

/// Connect time limit of every request (facts §1.2).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The command line's and the environment's part of the configuration.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "WPP Gateway")]
pub struct WppArgs {
    /// Address of the WPP Gateway; its API may live on a port of its own (`:8443`)
    #[arg(
        id = "wpp_gateway_base_url",
        long = "wpp-gateway-base-url",
        env = "WPP_GATEWAY_BASE_URL",
        default_value = "https://wpp.pixel12digital.com.br"
    )]
    pub base_url: String,

    /// Secret that the WPP Gateway expects of us
    #[arg(
        id = "wpp_gateway_secret",
        long = "wpp-gateway-secret",
        env = "WPP_GATEWAY_SECRET",
        hide_env_values = true
    )]
    pub secret: Option<SecretString>,
}

impl WppArgs {
    /// The client's configuration; `send_timeout` is the `EVENT_PROCESSING_TIMEOUT` of the
    /// process, which bounds a send of a text (product 8.5), and `outbound` says where requests may go.
    ///
    /// # Errors
    /// No secret is set: the gateway cannot be spoken to.
    pub fn config(
        &self,
        send_timeout: Duration,
        outbound: &OutboundArgs,
    ) -> Result<WppConfig, WppConfigError> {
        let secret = self.secret.clone().ok_or(WppConfigError::SecretMissing)?;
        Ok(WppConfig {
            send_timeout,
            guard: outbound.guard(),
            ..WppConfig::new(self.base_url.clone(), secret)
        })
    }
}

/// Everything that the client needs to know.
#[derive(Clone, Debug)]
pub struct WppConfig {
    /// Address of the gateway, with a path prefix if it has one.
    pub base_url: String,
    /// The value of `X-Gateway-Secret`.
    pub secret: SecretString,
    /// Time limit of name resolution, TCP and TLS together. At most half of the request's own
    /// limit is used: what runs out before the connection stands is *not sent*, and the two must
    /// not run out at once.
    pub connect_timeout: Duration,
    /// Time limit of one send of a text, from the first byte to the last of the answer.
    pub send_timeout: Duration,
    /// Which addresses the gateway may be at.
    pub guard: AddressGuard,
}

impl WppConfig {
    /// The configuration with the time limits of facts §1.2, for a gateway of the public internet.
    #[must_use]
    pub fn new(base_url: impl Into<String>, secret: SecretString) -> Self {
        Self {
            base_url: base_url.into(),
            secret,
            connect_timeout: CONNECT_TIMEOUT,
            send_timeout: Duration::from_secs(30),
            guard: AddressGuard::default(),
        }
    }

    /// The address, checked.
    pub(super) fn url(&self) -> Result<Url, WppConfigError> {
        let url = Url::parse(self.base_url.trim()).map_err(|_| WppConfigError::BaseUrl)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        plain.then_some(url).ok_or(WppConfigError::BaseUrl)
    }

    /// The secret as a header that no Debug output shows.
    pub(super) fn secret_header(&self) -> Result<HeaderValue, WppConfigError> {
        let secret = self.secret.expose_secret();
        if secret.trim().is_empty() {
            return Err(WppConfigError::SecretMissing);
        }
        let mut header =
            HeaderValue::from_str(secret).map_err(|_| WppConfigError::SecretUnwritable)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The client cannot be made; the process should not start. No text of these shows a value.
#[derive(Debug, thiserror::Error)]
pub enum WppConfigError {
    /// Give an address without credentials, query and fragment.
    #[error(
        "WPP_GATEWAY_BASE_URL is no http(s) address of a host (without credentials, query or fragment)"
    )]
    BaseUrl,
    /// Allow its network in `OUTBOUND_ALLOW`, if it is meant.
    #[error("WPP_GATEWAY_BASE_URL leads to an address that requests may not go to")]
    Address(#[source] AddressRefused),
    /// Set the secret.
    #[error("WPP_GATEWAY_SECRET is empty")]
    SecretMissing,
    /// Mostly a line break at the end of a secret that came from a file.
    #[error("WPP_GATEWAY_SECRET has a character that no header may carry (a line break?)")]
    SecretUnwritable,
    /// A limit of zero would fail every request.
    #[error("a time limit of the WPP Gateway is zero")]
    ZeroTimeout,
    /// TLS could not be set up; mostly the machine has no CA certificates (`ca-certificates`).
    #[error("the HTTP client of the WPP Gateway cannot be built (are CA certificates installed?)")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        wpp: WppArgs,
    }

    #[test]
    fn only_a_plain_address_of_a_host_is_taken() {
        for (base_url, ok) in [
            ("https://wpp.pixel12digital.com.br", true),
            ("https://wpp.example:8443/", true),
            ("http://127.0.0.1:3000/prefix", true),
            (" http://localhost:1 ", true),
            ("wpp.example:8443", false),
            ("ftp://wpp.example", false),
            ("https://user:pass@wpp.example", false),
            ("https://wpp.example/?a=b", false),
            ("https://wpp.example/#x", false),
            ("", false),
        ] {
            let config = WppConfig::new(base_url, SecretString::from("s"));
            assert_eq!(config.url().is_ok(), ok, "{base_url}");
        }
    }

    #[test]
    fn a_secret_that_no_header_carries_is_told_without_being_shown() {
        for secret in ["", "  ", "line\nbreak", "tail\n"] {
            let error = WppConfig::new("http://localhost", SecretString::from(secret))
                .secret_header()
                .expect_err("refused");
            assert!(secret.trim().is_empty() || !error.to_string().contains(secret));
        }
    }

    #[test]
    fn the_secret_shows_in_no_debug_output_and_no_help() {
        let cli = Cli::try_parse_from(["posto", "--wpp-gateway-secret", "hush-hush"])
            .unwrap_or_else(|error| panic!("{error}"));
        let config = cli
            .wpp
            .config(Duration::from_secs(5), &OutboundArgs::default())
            .unwrap();
        assert_eq!(config.send_timeout, Duration::from_secs(5));
        let header = config.secret_header().expect("a header");
        let shown = format!("{:?} {config:?} {header:?}", cli.wpp);
        assert!(!shown.contains("hush-hush"), "{shown}");
        let command = <Cli as clap::CommandFactory>::command();
        let secret = command
            .get_arguments()
            .find(|arg| arg.get_id() == "wpp_gateway_secret")
            .expect("the argument");
        assert!(secret.is_hide_env_values_set());
    }
}

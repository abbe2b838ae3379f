//! Which address a request really comes from: the peer's, or, where the peer is a proxy that ops
//! trust, the one that this proxy saw. What strangers write into headers counts for nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{Extensions, HeaderMap};
use clap::ValueEnum;
use shared::domain::network::Networks;

/// So many proxies in a row are looked through, no more.
const MOST_HOPS: usize = 16;

/// The header in which the trusted proxies tell of the client. One alone is read: where a proxy
/// writes the one, a client may forge the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// Whom a request's headers are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Networks,
    pub(crate) header: ProxyHeader,
}

impl Proxies {
    /// The address of the client: the right-most one that is no trusted proxy's. Where a proxy
    /// tells what cannot be read, it is that proxy's own.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if self.trusted.is_empty() || !self.trusted.contains(peer) {
            return peer;
        }
        let told = match self.header {
            ProxyHeader::XForwardedFor => forwarded_for(headers),
            ProxyHeader::Forwarded => forwarded(headers),
        };
        let mut nearest = peer;
        for hop in told.into_iter().rev().take(MOST_HOPS) {
            let Some(address) = hop else { return nearest };
            nearest = address;
            if !self.trusted.contains(address) {
                break;
            }
        }
        nearest
    }

    /// As [`Self::client`], of a request with its extensions.
    pub(crate) fn client_of(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0.ip());
        self.client(peer, headers)
    }

    /// As [`Self::client`], of a request.
    pub(crate) fn client_of_request(&self, request: &Request) -> IpAddr {
        self.client_of(request.extensions(), request.headers())
    }
}

/// The hops of `X-Forwarded-For`, in order; none is one that cannot be read.
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for");
    lines
        .into_iter()
        .flat_map(|line| {
            let text = line.to_str().unwrap_or("?");
            text.split(',').map(|hop| address(hop.trim()))
        })
        .collect()
}

/// The hops of `Forwarded` (RFC 7239 §4), in order.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all("forwarded");
    lines
        .into_iter()
        .flat_map(|line| {
            let text = line.to_str().unwrap_or("?");
            text.split(',').map(|element| {
                let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
                let mut hops = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
                address(hops.next()?.1.trim().trim_matches('"'))
            })
        })
        .collect()
}

/// An address as proxies write it: plain, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let found = plain.or_else(with_port).or_else(in_brackets)?;
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(trusted: &[&str], header: ProxyHeader, peer: &str, lines: &[&str]) -> String {
        let proxies = Proxies {
            trusted: trusted.iter().map(|text| text.parse().unwrap()).collect(),
            header,
        };
        let name = match header {
            ProxyHeader::XForwardedFor => "x-forwarded-for",
            ProxyHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_hop_that_no_trusted_proxy_is() {
        let proxies = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        for (peer, lines, wanted) in [
            // Whoever is no trusted proxy speaks for itself alone.
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("::ffff:203.0.113.9", &[], "203.0.113.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // What the client wrote stands to the left and is not believed.
            (
                "10.0.0.1",
                &["1.1.1.1, 198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            (
                "10.0.0.1",
                &["1.1.1.1", "198.51.100.1", "10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("2001:db8:ffff::1", &["2001:db8::7"], "2001:db8::7"),
            // What cannot be read is not looked through.
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            let header = ProxyHeader::XForwardedFor;
            assert_eq!(
                client(&proxies, header, peer, lines),
                wanted,
                "{peer} {lines:?}"
            );
        }
    }

    #[test]
    fn forwarded_is_read_where_it_is_the_proxies_header() {
        let proxies = ["10.0.0.0/8"];
        for (lines, wanted) in [
            (
                &["for=1.1.1.1, for=198.51.100.1;proto=https"][..],
                "198.51.100.1",
            ),
            (&["by=10.0.0.1; For=\"[2001:db8::7]:4711\""], "2001:db8::7"),
            (&["for=198.51.100.1", "for=10.0.0.2"], "198.51.100.1"),
            (&["for=198.51.100.1, for=_hidden"], "10.0.0.1"),
            (&["proto=https"], "10.0.0.1"),
        ] {
            let header = ProxyHeader::Forwarded;
            assert_eq!(
                client(&proxies, header, "10.0.0.1", lines),
                wanted,
                "{lines:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_an_untrusted_peer_somebody_else(line in "[ -~]{0,60}") {
            let header = ProxyHeader::XForwardedFor;
            prop_assert_eq!(client(&["10.0.0.0/8"], header, "203.0.113.9", &[&line]), "203.0.113.9");
            // And none makes a trusted one panic.
            let _ = client(&["10.0.0.0/8"], header, "10.0.0.1", &[&line]);
            let _ = client(&["10.0.0.0/8"], ProxyHeader::Forwarded, "10.0.0.1", &[&line]);
        }
    }
}

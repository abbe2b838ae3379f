//! Which addresses a request may go to (SSRF): those of the public internet, and those that ops
//! allow. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::domain::network::Networks;

/// Networks of IPv4 that are not of the public internet (IANA IPv4 Special-Purpose Address
/// Registry; multicast, RFC 5771; reserved, RFC 1112).
const NOT_PUBLIC_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Behind a carrier's NAT, where clouds keep their metadata too.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of IPv6 only 2000::/3 is given out (RFC 3513), so loopback, private, link-local, multicast and
/// the addresses of NAT64 (64:ff9b::/96, 64:ff9b:1::/48) lie outside; these within it are not public.
const NOT_PUBLIC_V6: &[(Ipv6Addr, u32)] = &[
    // Protocol assignments, with Teredo, ORCHID and benchmarking.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4 carries any IPv4 address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Which addresses requests may go to.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    allowed: Networks,
}

/// No request goes there: ops have to allow its network in `OUTBOUND_ALLOW`, if it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no request may go to an address that is not public, unless OUTBOUND_ALLOW names its network"
)]
pub struct AddressRefused;

impl AddressGuard {
    /// The public internet, and these.
    #[must_use]
    pub const fn allowing(allowed: Networks) -> Self {
        Self { allowed }
    }

    /// Whether a request may go to an address.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.contains(address)
    }

    /// Looks at an address that names no host but is one: no resolver sees it. One with a name is
    /// looked at when it is connected to.
    ///
    /// # Errors
    /// No request may go there.
    pub fn check(&self, url: &Url) -> Result<(), AddressRefused> {
        // `Url` has read every other way to write an address: 0x7f.1, 2130706433.
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(address) if !self.admits(address) => Err(AddressRefused),
            _ => Ok(()),
        }
    }
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            !NOT_PUBLIC_V4
                .iter()
                .any(|(network, length)| (bits ^ network.to_bits()) >> (32 - length) == 0)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let given_out = bits >> 125 == 0b001;
            given_out
                && !NOT_PUBLIC_V6
                    .iter()
                    .any(|(network, length)| (bits ^ network.to_bits()) >> (128 - length) == 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "52.67.12.206",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1",
            "2001:200::1",
            "2a00::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_address_in_whatever_spelling_is_looked_at_and_a_name_is_left_to_the_resolver() {
        let guard = AddressGuard::default();
        for refused in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://[fd00::1]/",
            "http://0/",
        ] {
            let url = refused.parse().unwrap();
            assert_eq!(guard.check(&url), Err(AddressRefused), "{refused}");
        }
        for passed in [
            "https://1.1.1.1/",
            "https://[2606:4700::1]/",
            "http://localhost/",
            "https://wpp.example:8443/",
        ] {
            assert_eq!(guard.check(&passed.parse().unwrap()), Ok(()), "{passed}");
        }
    }

    #[test]
    fn what_ops_allow_is_admitted_and_nothing_beside_it() {
        let allowed = ["127.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let guard = AddressGuard::allowing(allowed.into_iter().collect());
        for (address, admitted) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("fd00::1", true),
            ("1.1.1.1", true),
            ("10.0.0.1", false),
            ("::1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(
                guard.admits(address.parse().unwrap()),
                admitted,
                "{address}"
            );
        }
    }
}

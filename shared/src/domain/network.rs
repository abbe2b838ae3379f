//! Networks of addresses: who may come from where, and where a request may go to.

// Addresses alone, nothing that opens a socket.
use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// From where Asaas posts, as it publishes (facts B1); its sandbox may use others.
pub const ASAAS: [&str; 4] = [
    "52.67.12.206",
    "18.230.8.159",
    "54.94.136.112",
    "54.94.183.101",
];

/// One network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is no network like `203.0.113.0/24`, and no address; the caller should mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address or a CIDR like 203.0.113.0/24 or 2001:db8::/32")]
pub struct InvalidNetwork;

impl Network {
    /// Whether an address lies in it. IPv4 written as IPv6 (`::ffff:203.0.113.9`) is IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let network = text.parse::<IpNet>();
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network.map_err(|_| InvalidNetwork)?.trunc() {
            IpNet::V6(mapped) if mapped.prefix_len() >= 96 => {
                let plain = mapped.network().to_ipv4_mapped().and_then(|address| {
                    let network = Ipv4Net::new(address, mapped.prefix_len() - 96);
                    network.ok().map(|network| Self(IpNet::V4(network)))
                });
                Ok(plain.unwrap_or(Self(IpNet::V6(mapped))))
            }
            network => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            self.0.addr().fmt(f)
        } else {
            self.0.fmt(f)
        }
    }
}

/// Some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Whether an address lies in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// True when there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_in_whatever_form_they_come() {
        for (network, address, inside) in [
            ("203.0.113.0/24", "203.0.113.9", true),
            ("203.0.113.0/24", "::ffff:203.0.113.9", true),
            ("203.0.113.7/24", "203.0.113.200", true),
            ("203.0.113.0/24", "203.0.114.1", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("::ffff:203.0.113.0/120", "203.0.113.9", true),
            ("::ffff:203.0.113.7", "203.0.113.7", true),
            ("2001:db8::/32", "2001:db8:1::5", true),
            ("2001:db8::/32", "2001:db9::5", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            (" 10.0.0.0/8 ", "10.255.0.1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused_and_what_is_one_is_written_as_it_is_read() {
        for wrong in [
            "",
            "localhost",
            "203.0.113.0/33",
            "203.0.113",
            "::/129",
            "1.2.3.4/x",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(InvalidNetwork), "{wrong}");
        }
        for (text, written) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("2001:DB8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
        for address in ASAAS {
            assert_eq!(address.parse::<Network>().unwrap().to_string(), address);
        }
    }
}

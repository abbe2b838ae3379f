//! Looks names up when a connection is made, and leaves out every address that no request may go to.
//! Whoever owns a name may change its addresses at any time, so looking earlier proves nothing.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressGuard, AddressRefused};

/// The system's resolver, with the guard behind it.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver {
    pub(super) guard: AddressGuard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            // The port is the connector's to set.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let admitted = admitted(&guard, found.collect())?;
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

fn admitted(
    guard: &AddressGuard,
    mut found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, AddressRefused> {
    let some = !found.is_empty();
    found.retain(|address| guard.admits(address.ip()));
    if some && found.is_empty() {
        return Err(AddressRefused);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_names_addresses_only_the_admitted_are_connected_to() {
        let guard = AddressGuard::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = vec![
            address("10.0.0.1:0"),
            address("1.1.1.1:0"),
            address("[::1]:0"),
        ];
        assert_eq!(admitted(&guard, mixed), Ok(vec![address("1.1.1.1:0")]));
        assert_eq!(
            admitted(&guard, vec![address("127.0.0.1:0")]),
            Err(AddressRefused)
        );
        assert_eq!(admitted(&guard, Vec::new()), Ok(Vec::new()));
    }
}

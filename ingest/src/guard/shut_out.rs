//! Addresses that fail to authenticate again and again are shut out, each time for twice as long.
//! Every process counts for itself and decides at once; the table `ip_blocks` makes it one decision,
//! which operators see and undo.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::store::{StoreError, ip_blocks};
use sqlx::PgPool;

/// Failures further apart than this are not "again and again".
const WINDOW: Duration = Duration::from_secs(300);
/// The most addresses whose failures are counted at one time; newcomers beyond are not, until some
/// of these are through their window. An entry takes some 100 bytes.
const MOST_COUNTED: usize = 50_000;

/// The settings of shutting out.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShutOutArgs {
    /// So many failed authentications of one address within 5 minutes shut it out; 0 never does.
    #[arg(long, env = "SHUT_OUT_AFTER", default_value_t = 30)]
    pub shut_out_after: u32,
}

/// Who failed how often, and who is shut out.
#[derive(Debug)]
pub(crate) struct ShutOuts {
    after: u32,
    /// Spares the lock while nobody is shut out, which is mostly.
    any: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    failures: HashMap<IpAddr, Failures>,
    shut: HashMap<IpAddr, Instant>,
    /// Shut out here and not written yet.
    news: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl ShutOuts {
    pub(crate) fn new(args: ShutOutArgs) -> Self {
        Self {
            after: args.shut_out_after,
            any: AtomicBool::new(false),
            known: Mutex::default(),
        }
    }

    /// For how many seconds more an address is shut out.
    pub(crate) fn left(&self, address: IpAddr) -> Option<u64> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let until = *self.known().shut.get(&place(address))?;
        let left = until.checked_duration_since(Instant::now())?;
        Some(left.as_secs() + 1)
    }

    /// Counts a failed authentication. True when it shuts the address out.
    pub(crate) fn failed(&self, address: IpAddr) -> bool {
        self.failed_at(address, Instant::now())
    }

    fn failed_at(&self, address: IpAddr, now: Instant) -> bool {
        if self.after == 0 {
            return false;
        }
        let address = place(address);
        let mut known = self.known();
        if known.shut.get(&address).is_some_and(|until| now < *until) {
            return false;
        }
        if known.failures.len() >= MOST_COUNTED && !known.failures.contains_key(&address) {
            let recent = |failures: &Failures| now.duration_since(failures.since) < WINDOW;
            known.failures.retain(|_, failures| recent(failures));
            if known.failures.len() >= MOST_COUNTED {
                return false;
            }
        }
        let fresh = Failures {
            count: 0,
            since: now,
        };
        let failures = known.failures.entry(address).or_insert(fresh);
        if now.duration_since(failures.since) >= WINDOW {
            *failures = fresh;
        }
        failures.count += 1;
        if failures.count < self.after {
            return false;
        }
        known.failures.remove(&address);
        // The table says for how long, as soon as it is told.
        known.shut.insert(address, now + ip_blocks::SHORTEST);
        known.news.push(address);
        self.any.store(true, Ordering::Relaxed);
        true
    }

    /// Tells the table whom this process shut out, and learns of everybody who is: other processes
    /// shut out too, and operators let in again. Answers how many are shut out.
    pub(crate) async fn sync(&self, pool: &PgPool) -> Result<usize, StoreError> {
        let news = std::mem::take(&mut self.known().news);
        let told = tell(pool, &news).await;
        let mut known = self.known();
        match told {
            Ok(all) => {
                let now = Instant::now();
                let untold = known.news.clone();
                known.shut.retain(|address, _| untold.contains(address));
                let all = all.into_iter().filter_map(|block| {
                    let left = Duration::try_from_secs_f64(block.seconds_left).ok()?;
                    Some((read(&block.address)?, now + left))
                });
                known.shut.extend(all);
            }
            Err(error) => {
                known.news.extend(news);
                return Err(error);
            }
        }
        self.any.store(!known.shut.is_empty(), Ordering::Relaxed);
        Ok(known.shut.len())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn tell(pool: &PgPool, news: &[IpAddr]) -> Result<Vec<ip_blocks::Shut>, StoreError> {
    let mut conn = pool.acquire().await?;
    if !news.is_empty() {
        let mut addresses: Vec<String> = news.iter().map(|address| written(*address)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        ip_blocks::shut_out(&mut conn, &addresses).await?;
    }
    ip_blocks::forget(&mut conn).await?;
    ip_blocks::all_shut(&mut conn).await
}

/// What counts as one address: an IPv6 client has a /64 to itself, mostly.
pub(super) fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << 64);
            Ipv6Addr::from_bits(network).into()
        }
    }
}

/// As the table has it.
pub(crate) fn written(address: IpAddr) -> String {
    match place(address) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}

/// An address as the table has it, or as an operator writes it.
pub(crate) fn read(text: &str) -> Option<IpAddr> {
    let address = text.strip_suffix("/64").unwrap_or(text);
    address.parse().ok().map(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shut_outs(after: u32) -> ShutOuts {
        ShutOuts::new(ShutOutArgs {
            shut_out_after: after,
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_shut_out_when_it_failed_often_enough_in_a_short_time() {
        let shut_outs = shut_outs(3);
        let (one, other) = (address("203.0.113.9"), address("203.0.113.10"));
        assert!(!shut_outs.failed(one) && !shut_outs.failed(one));
        assert!(!shut_outs.failed(other));
        assert_eq!(shut_outs.left(one), None);
        assert!(shut_outs.failed(one));
        assert!(
            shut_outs
                .left(one)
                .is_some_and(|left| (59..=61).contains(&left))
        );
        assert!(shut_outs.left(address("::ffff:203.0.113.9")).is_some());
        assert_eq!(shut_outs.left(other), None);
        // Told once, not at each further failure.
        assert!(!shut_outs.failed(one));
        assert_eq!(shut_outs.known().news, [one]);
    }

    #[test]
    fn failures_that_are_far_apart_shut_nobody_out() {
        let shut_outs = shut_outs(2);
        let one = address("203.0.113.9");
        let begin = Instant::now();
        for n in 0..10 {
            assert!(!shut_outs.failed_at(one, begin + WINDOW * n));
        }
        let never = super::ShutOuts::new(ShutOutArgs { shut_out_after: 0 });
        assert!((0..1000).all(|_| !never.failed(one)));
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_is_written_so() {
        let shut_outs = shut_outs(2);
        assert!(!shut_outs.failed(address("2001:db8:1:2::1")));
        assert!(shut_outs.failed(address("2001:db8:1:2::2")));
        assert!(shut_outs.left(address("2001:db8:1:2:ffff::")).is_some());
        assert!(shut_outs.left(address("2001:db8:1:3::1")).is_none());
        for (text, kept) in [
            ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(written(address(text)), kept);
            assert_eq!(read(kept), Some(place(address(text))));
        }
        assert_eq!(read("203.0.113.0/24"), None);
    }

    #[test]
    fn however_many_addresses_fail_the_memory_of_them_is_bounded() {
        let shut_outs = shut_outs(2);
        let begin = Instant::now();
        for n in 0..(MOST_COUNTED as u32 + 1000) {
            assert!(!shut_outs.failed_at(std::net::Ipv4Addr::from_bits(n).into(), begin));
        }
        assert_eq!(shut_outs.known().failures.len(), MOST_COUNTED);
        let later = begin + WINDOW;
        shut_outs.failed_at(address("2001:db8::1"), later);
        assert_eq!(
            shut_outs.known().failures.len(),
            1,
            "the old ones are through"
        );
    }
}

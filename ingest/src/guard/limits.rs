//! How much an address, a source, a tenant, and a source of one type may bring in a time. Each
//! process counts for itself: behind a balancer with n processes, n times as much may pass.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use shared::domain::ids::TenantId;
use shared::runtime::cli;

use super::shut_out::{place, written};

/// The longest window that is taken.
const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// So many in so long a time; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    quota: NonZeroU32,
    window: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no rate like 600/60s");
        let (quota, window) = text.split_once('/').ok_or_else(wrong)?;
        let quota = quota.trim().parse().map_err(|_| wrong())?;
        let window = cli::duration(window.trim())?;
        if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) {
            return Err(format!("{text:?}: a window is 1s to 24h long"));
        }
        Ok(Self { quota, window })
    }
}

/// A limit for all, and other ones for some: `600/60s,billing=6000/60s`; `off` is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    usual: Option<Rate>,
    special: Vec<(String, Option<Rate>)>,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = |text: &str| match text.trim() {
            "off" => Ok(None),
            text => text.parse().map(Some),
        };
        let mut parts = text.split(',');
        let usual = rate(parts.next().unwrap_or_default())?;
        let special = parts.map(|part| match part.rsplit_once('=') {
            Some((name, own)) => Ok((name.trim().to_owned(), rate(own)?)),
            None => Err(format!("{part:?} is no exception like billing=6000/60s")),
        });
        Ok(Self {
            usual,
            special: special.collect::<Result<_, _>>()?,
        })
    }
}

/// The settings of the limits.
#[derive(Clone, Debug, clap::Args)]
pub struct LimitArgs {
    /// Requests of one address, whoever it says it is; another limit for some: `600/60s,203.0.113.9=off`.
    #[arg(long, env = "LIMIT_ADDRESS", default_value = "600000/60s")]
    pub limit_address: Limit,
    /// Events of one source; another limit for some: `600/60s,billing=6000/60s`.
    #[arg(long, env = "LIMIT_SOURCE", default_value = "600000/60s")]
    pub limit_source: Limit,
    /// Events of one tenant; another limit for some: `600/60s,17=6000/60s`.
    #[arg(long, env = "LIMIT_TENANT", default_value = "600000/60s")]
    pub limit_tenant: Limit,
    /// Events of one type of one source; another limit for some: `600/60s,billing:invoice.paid=6000/60s`.
    #[arg(long, env = "LIMIT_SOURCE_TYPE", default_value = "600000/60s")]
    pub limit_source_type: Limit,
}

/// A limit was met: what was brought was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// The name of the policy: `address`, `source`, `tenant`, `source-type`.
    pub(crate) policy: &'static str,
    quota: u32,
    window_seconds: u64,
    /// After so many seconds one may come again; 1 at least.
    pub(crate) retry_after: u64,
}

impl Exceeded {
    /// The field `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn policy_field(&self) -> String {
        let Self {
            policy,
            quota,
            window_seconds,
            ..
        } = self;
        format!("\"{policy}\";q={quota};w={window_seconds}")
    }

    /// The field `RateLimit`.
    pub(crate) fn field(&self) -> String {
        format!("\"{}\";r=0;t={}", self.policy, self.retry_after)
    }
}

type Buckets = RateLimiter<u64, DashMapStateStore<u64>, MonotonicClock>;

/// One policy at work. Keys are kept as hashes: they are as long as callers make them.
struct Policy {
    name: &'static str,
    hasher: RandomState,
    usual: Option<(Rate, Buckets)>,
    special: HashMap<u64, Option<(Rate, Buckets)>>,
}

impl Policy {
    fn new(name: &'static str, limit: &Limit) -> Self {
        let hasher = RandomState::new();
        let special = limit.special.iter();
        let special = special.map(|(key, rate)| (hasher.hash_one(key), rate.map(buckets)));
        Self {
            name,
            usual: limit.usual.map(buckets),
            special: special.collect(),
            hasher,
        }
    }

    /// The buckets that a key's text stands in.
    fn of<'a>(&'a self, text: &str) -> Option<&'a (Rate, Buckets)> {
        let own = (!self.special.is_empty())
            .then(|| self.special.get(&self.hasher.hash_one(text)))
            .flatten();
        own.map_or(self.usual.as_ref(), Option::as_ref)
    }

    fn take(&self, buckets: Option<&(Rate, Buckets)>, key: impl Hash) -> Result<(), Exceeded> {
        let Some((rate, buckets)) = buckets else {
            return Ok(());
        };
        buckets
            .check_key(&self.hasher.hash_one(key))
            .map_err(|until| Exceeded {
                policy: self.name,
                quota: rate.quota.get(),
                window_seconds: rate.window.as_secs(),
                retry_after: until
                    .wait_time_from(MonotonicClock.now())
                    .as_secs_f64()
                    .ceil()
                    .max(1.0) as u64,
            })
    }

    fn forget(&self) {
        let special = self.special.values().flatten();
        for (_, buckets) in self.usual.iter().chain(special) {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

fn buckets(rate: Rate) -> (Rate, Buckets) {
    // A window of a second at least and a quota that is not zero have a period that is not zero,
    // unless the quota is over 10^9 in a second: then the shortest there is.
    let period = (rate.window / rate.quota.get()).max(Duration::from_nanos(1));
    let quota = Quota::with_period(period)
        .unwrap_or(Quota::per_second(rate.quota))
        .allow_burst(rate.quota);
    let buckets = RateLimiter::dashmap_with_clock(quota, MonotonicClock);
    (rate, buckets)
}

/// The limits at work.
pub(crate) struct Limits {
    address: Policy,
    source: Policy,
    tenant: Policy,
    source_type: Policy,
}

impl Limits {
    pub(crate) fn new(args: &LimitArgs) -> Self {
        Self {
            address: Policy::new("address", &args.limit_address),
            source: Policy::new("source", &args.limit_source),
            tenant: Policy::new("tenant", &args.limit_tenant),
            source_type: Policy::new("source-type", &args.limit_source_type),
        }
    }

    /// Takes one request of an address; one of IPv6 counts with its /64.
    pub(crate) fn take_request(&self, address: IpAddr) -> Result<(), Exceeded> {
        let (policy, address) = (&self.address, place(address));
        let own = match policy.special.is_empty() {
            true => policy.usual.as_ref(),
            false => policy.of(&written(address)),
        };
        policy.take(own, address)
    }

    /// Takes one event: of its source, its tenant, and its source's type.
    pub(crate) fn take_event(
        &self,
        source: &str,
        tenant: Option<TenantId>,
        event_type: &str,
    ) -> Result<(), Exceeded> {
        self.source.take(self.source.of(source), source)?;
        if let Some(tenant) = tenant {
            let policy = &self.tenant;
            // A number has a text only where some have limits of their own.
            let own = match policy.special.is_empty() {
                true => policy.usual.as_ref(),
                false => policy.of(&tenant.to_string()),
            };
            policy.take(own, tenant)?;
        }
        let policy = &self.source_type;
        let own = match policy.special.is_empty() {
            true => policy.usual.as_ref(),
            false => policy.of(&format!("{source}:{event_type}")),
        };
        policy.take(own, (source, event_type))
    }

    /// Forgets whoever has its whole quota again. Between two calls there are no more keys than
    /// were brought, and at rest there are none.
    pub(crate) fn forget(&self) {
        for policy in [&self.address, &self.source, &self.tenant, &self.source_type] {
            policy.forget();
        }
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        let policies = [&self.address, &self.source, &self.tenant, &self.source_type];
        let usual = policies
            .into_iter()
            .filter_map(|policy| policy.usual.as_ref());
        usual.map(|(_, buckets)| buckets.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(address: &str, source: &str, tenant: &str, source_type: &str) -> Limits {
        Limits::new(&LimitArgs {
            limit_address: address.parse().unwrap(),
            limit_source: source.parse().unwrap(),
            limit_tenant: tenant.parse().unwrap(),
            limit_source_type: source_type.parse().unwrap(),
        })
    }

    #[test]
    fn a_rate_and_its_exceptions_are_read_and_nonsense_is_told() {
        let limit: Limit = "600/60s, billing=6000/1m,chat=off".parse().unwrap();
        assert_eq!(limit.usual, Some("600/60s".parse().unwrap()));
        assert_eq!(
            limit.special[0],
            ("billing".to_owned(), Some("6000/60s".parse().unwrap()))
        );
        assert_eq!(limit.special[1], ("chat".to_owned(), None));
        assert_eq!("off".parse::<Limit>().unwrap().usual, None);
        for wrong in [
            "",
            "600",
            "0/60s",
            "-1/60s",
            "600/0s",
            "600/500ms",
            "600/60s,billing",
            "600/2000m",
        ] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_key_has_its_own_quota_and_meets_the_first_limit_that_is_used_up() {
        let limits = limits(
            "2/60s,203.0.113.1=off",
            "3/60s,loud=5/60s",
            "2/60s,7=off",
            "2/60s",
        );
        let one = "203.0.113.9".parse().unwrap();
        assert!(limits.take_request(one).is_ok() && limits.take_request(one).is_ok());
        let exceeded = limits.take_request(one).unwrap_err();
        assert_eq!(exceeded.policy_field(), "\"address\";q=2;w=60");
        assert!((29..=30).contains(&exceeded.retry_after), "{exceeded:?}");
        assert!(exceeded.field().starts_with("\"address\";r=0;t="));
        assert!(limits.take_request("203.0.113.10".parse().unwrap()).is_ok());

        let own = "203.0.113.1".parse().unwrap();
        assert!((0..100).all(|_| limits.take_request(own).is_ok()));
        let of_one_client = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"];
        let taken = of_one_client.map(|text| limits.take_request(text.parse().unwrap()).is_ok());
        assert_eq!(taken, [true, true, false], "a /64 is one address");

        let met = |source: &str, tenant: Option<i64>, event_type: &str| {
            let taken = limits.take_event(source, tenant.map(TenantId), event_type);
            taken.err().map(|exceeded| exceeded.policy)
        };
        assert_eq!(met("billing", Some(1), "a"), None);
        assert_eq!(met("billing", Some(1), "a"), None);
        assert_eq!(met("billing", Some(1), "b"), Some("tenant"));
        assert_eq!(met("billing", Some(2), "b"), Some("source"));
        assert_eq!(met("chat", Some(7), "a"), None);
        assert_eq!(met("chat", Some(7), "a"), None);
        assert_eq!(met("chat", Some(7), "a"), Some("source-type"));
        for event_type in ["a", "b", "c", "d", "e"] {
            assert_eq!(met("loud", None, event_type), None);
        }
        assert_eq!(met("loud", None, "f"), Some("source"));
    }

    #[test]
    fn nothing_is_counted_where_a_limit_is_off_and_nothing_is_kept_of_whoever_is_through() {
        let free = limits("off", "off", "off", "off");
        for n in 0..10_000 {
            assert!(free.take_event("billing", Some(TenantId(n)), "a").is_ok());
        }
        assert_eq!(free.keys(), 0);
        let fast = limits("1000000/1s", "off", "off", "off");
        for n in 0..1000_u32 {
            assert!(
                fast.take_request(std::net::Ipv4Addr::from(n).into())
                    .is_ok()
            );
        }
        // A microsecond gives back what each took.
        std::thread::yield_now();
        fast.forget();
        assert_eq!(fast.keys(), 0);
    }
}

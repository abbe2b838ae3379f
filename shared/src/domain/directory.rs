//! Who and what is configured: tenants, sending accounts, rules, templates and credentials, as
//! one immutable snapshot that a process works with until the next one.

// Addresses alone, nothing that opens a socket.
use core::net::IpAddr;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::credential::{Credential, SigningKey};
use super::ids::TenantId;
use super::module::Switches;
use super::network::Networks;
use super::rule::Rule;
use super::template::TemplateBook;

/// A customer of the agency.
#[derive(Clone)]
pub struct Tenant {
    /// PixelHub's number.
    pub id: TenantId,
    /// Name, for a company its registered one.
    pub name: String,
    /// The name that a company is known by.
    pub trade_name: Option<String>,
    /// As it was entered; parse before use.
    pub phone: Option<String>,
    /// See `domain::address`.
    pub phone_match_key: Option<String>,
    /// Archived tenants are known, but nothing is matched to them.
    pub archived: bool,
}

impl fmt::Debug for Tenant {
    /// Neither name nor phone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Tenant {
    /// The name to greet with.
    #[must_use]
    pub fn calling_name(&self) -> &str {
        self.trade_name.as_deref().unwrap_or(&self.name)
    }
}

/// An account of ours at a provider, for WhatsApp a number.
#[derive(Clone, Debug)]
pub struct ChannelAccount {
    /// The slug; never changes.
    pub id: String,
    /// As the provider spells it; case and spaces count.
    pub provider_account: String,
    /// What people call it.
    pub display_name: String,
    /// Our own number there, where known.
    pub own_phone: Option<String>,
    /// A disabled account sends nothing.
    pub enabled: bool,
}

/// The slug of an account: lower case, without white space. `Pixel12 Digital` and
/// `pixel12digital` are one account (facts §1.1).
#[must_use]
pub fn account_slug(raw: &str) -> String {
    raw.chars()
        .filter(|c| !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Keyed hash of a message's text, the last resort to tell an echo of ours from what somebody
/// typed on the phone. White space does not count: providers trim and fold it.
#[must_use]
pub fn text_hash(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("because HMAC takes a key of any length");
    for word in text.split_whitespace() {
        mac.update(word.as_bytes());
        mac.update(b" ");
    }
    mac.finalize().into_bytes().to_vec()
}

/// The snapshot.
#[derive(Clone, Default)]
pub struct Directory {
    /// Grows with every change of the configuration.
    pub version: i64,
    /// Every tenant.
    pub tenants: HashMap<TenantId, Arc<Tenant>>,
    /// Every account by slug.
    pub accounts: HashMap<String, Arc<ChannelAccount>>,
    /// Other slugs of accounts.
    pub aliases: HashMap<String, String>,
    /// The accounts of a tenant, the default one first.
    pub tenant_accounts: HashMap<TenantId, Vec<String>>,
    /// Whose a customer of Asaas is.
    pub asaas_customers: HashMap<String, TenantId>,
    /// Whose an account at Asaas is, where one tenant has it for itself.
    pub asaas_accounts: HashMap<String, TenantId>,
    /// Enabled rules, in no particular order.
    pub rules: Vec<Arc<Rule>>,
    /// Active templates, compiled.
    pub templates: Arc<TemplateBook>,
    /// Bearer credentials by the SHA-256 of their key.
    pub credentials: HashMap<[u8; 32], Arc<Credential>>,
    /// The hashes of a source's keys, by its name; filled by [`Self::indexed`].
    pub keys_by_source: HashMap<String, Vec<[u8; 32]>>,
    /// What a source may sign with, by its name; the newest first.
    pub signing_keys: HashMap<String, Vec<SigningKey>>,
    /// Enabled sources.
    pub sources: Vec<String>,
    /// From where a source may speak, for those that may not from everywhere.
    pub networks: HashMap<String, Networks>,
    /// Who serves PixelHub's modules.
    pub switches: Switches,
    /// Keys the hashes of message texts, see [`text_hash`].
    pub hash_key: Vec<u8>,
    /// Active tenants by phone; filled by [`Self::indexed`].
    pub by_match_key: HashMap<String, Vec<TenantId>>,
}

impl fmt::Debug for Directory {
    /// Which one it is; what it holds is personal in part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Builds the look-ups after the fields were filled.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        for tenant in self.tenants.values().filter(|tenant| !tenant.archived) {
            if let Some(key) = &tenant.phone_match_key {
                self.by_match_key
                    .entry(key.clone())
                    .or_default()
                    .push(tenant.id);
            }
        }
        for (hash, credential) in &self.credentials {
            let source = credential.source_system.clone();
            self.keys_by_source.entry(source).or_default().push(*hash);
        }
        for candidates in self.by_match_key.values_mut() {
            candidates.sort_unstable();
        }
        self
    }

    /// The account that a provider's name, a slug or an alias means.
    #[must_use]
    pub fn account(&self, raw: &str) -> Option<&Arc<ChannelAccount>> {
        let slug = account_slug(raw);
        self.accounts
            .get(&slug)
            .or_else(|| self.accounts.get(self.aliases.get(&slug)?))
    }

    /// Whether a source may speak from an address.
    #[must_use]
    pub fn lets_in(&self, source: &str, address: IpAddr) -> bool {
        let networks = self.networks.get(source);
        networks.is_none_or(|networks| networks.contains(address))
    }

    /// What enabled sources may sign with now; the caller tries each, for a signed request does not
    /// say who signed it. None: signed requests are refused.
    pub fn signing_keys(&self, now: DateTime<Utc>) -> impl Iterator<Item = &SigningKey> {
        let enabled = self
            .sources
            .iter()
            .filter_map(|source| self.signing_keys.get(source));
        enabled
            .flatten()
            .filter(move |key| key.credential.is_alive(now))
    }

    /// The keys that open a provider's own door now, with their SHA-256: those of the enabled
    /// source that are bound to no tenant and no type, for the door brings whatever the provider has.
    pub fn door_keys(
        &self,
        source: &str,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = (&[u8; 32], &Arc<Credential>)> {
        let keys = self.keys_by_source.get(source);
        let enabled = self.sources.iter().any(|name| name == source);
        let found = keys.filter(|_| enabled).into_iter().flatten();
        found
            .filter_map(|hash| self.credentials.get_key_value(hash))
            .filter(move |(_, key)| {
                key.is_alive(now) && key.tenants.is_empty() && key.event_types.is_empty()
            })
    }

    /// The active tenants with that phone, in the order of their numbers. More than one is no
    /// tenant: nobody guesses (product 4.2).
    #[must_use]
    pub fn tenants_with_phone(&self, match_key: &str) -> &[TenantId] {
        self.by_match_key.get(match_key).map_or(&[], Vec::as_slice)
    }

    /// The account that a tenant's messages leave through: the default one, or its only one.
    /// Never another: a wrong number is worse than none (incident 24, 42).
    #[must_use]
    pub fn sending_account(&self, tenant: TenantId) -> Option<&Arc<ChannelAccount>> {
        let first = self.tenant_accounts.get(&tenant)?.first()?;
        self.accounts.get(first).filter(|account| account.enabled)
    }
}

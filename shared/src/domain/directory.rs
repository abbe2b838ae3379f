//! Who and what is configured: tenants, sending accounts, rules, templates and credentials, as
//! one immutable snapshot that a process works with until the next one.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ids::TenantId;
use super::rule::Rule;
use super::template::TemplateBook;

/// A customer of the agency.
#[derive(Clone, Debug)]
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

/// What a secret opens.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The source it speaks for.
    pub source_system: String,
    /// The one tenant it may speak for, or all.
    pub tenant_id: Option<TenantId>,
    /// When it ends.
    pub valid_until: Option<DateTime<Utc>>,
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
#[derive(Clone, Debug, Default)]
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
    /// Credentials by the SHA-256 of their secret.
    pub credentials: HashMap<[u8; 32], Arc<Credential>>,
    /// Enabled sources.
    pub sources: Vec<String>,
    /// Keys the hashes of message texts, see [`text_hash`].
    pub hash_key: Vec<u8>,
    /// Active tenants by phone; filled by [`Self::indexed`].
    pub by_match_key: HashMap<String, Vec<TenantId>>,
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

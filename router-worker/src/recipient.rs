//! Whom a message is for and which account it leaves through. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use shared::domain::address::Phone;
use shared::domain::directory::{ChannelAccount, Directory, Tenant};
use shared::domain::event::{NormalisedEvent, NormalisedKind};
use shared::domain::failure::FailureCode;
use shared::domain::ids::TenantId;

/// Whose event it is, and how that was found (product 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantFinding {
    /// The tenant, if exactly one is right.
    pub(crate) tenant: Option<TenantId>,
    /// `explicit`, `invoice`, `asaas_customer`, `external_reference`, `asaas_account` or
    /// `contact_phone`; `ambiguous_phone`, `unresolved` or `none`; or [`CONTRADICTION`].
    pub(crate) how: &'static str,
    /// Those it might be, for a person to choose.
    pub(crate) candidates: Vec<TenantId>,
}

/// Two things that name a tenant name two tenants.
pub(crate) const CONTRADICTION: &str = "tenant_mismatch";

impl TenantFinding {
    /// True when nothing may be done with the event until a person has looked.
    pub(crate) fn is_contradiction(&self) -> bool {
        self.how == CONTRADICTION
    }
}

/// Finds the tenant: what the source, the invoice and a payment provider's books say, if all that
/// say anything say the same; else the only active tenant with the contact's phone. Never by
/// channel (facts §0.1), never by name (incident 10).
pub(crate) fn tenant(
    event: &NormalisedEvent,
    invoice_owner: Option<TenantId>,
    directory: &Directory,
) -> TenantFinding {
    let named = named(event, invoice_owner, directory);
    match named.first() {
        Some((how, tenant)) if named.iter().all(|(_, other)| other == tenant) => TenantFinding {
            tenant: Some(*tenant),
            how,
            candidates: Vec::new(),
        },
        Some(_) => {
            let mut candidates: Vec<TenantId> = named.iter().map(|(_, tenant)| *tenant).collect();
            candidates.sort_unstable();
            candidates.dedup();
            TenantFinding {
                tenant: None,
                how: CONTRADICTION,
                candidates,
            }
        }
        None => match &event.kind {
            NormalisedKind::Books(books) => nobody(if books.names_somebody() {
                "unresolved"
            } else {
                "none"
            }),
            _ => by_phone(event, directory),
        },
    }
}

/// Everything that names a tenant, the surest first.
fn named(
    event: &NormalisedEvent,
    invoice_owner: Option<TenantId>,
    directory: &Directory,
) -> Vec<(&'static str, TenantId)> {
    let mut named = Vec::new();
    let mut say = |how, tenant: Option<TenantId>| named.extend(tenant.map(|tenant| (how, tenant)));
    say("explicit", event.tenant_id);
    say("invoice", invoice_owner);
    if let NormalisedKind::Books(books) = &event.kind {
        let of =
            |ids: &HashMap<String, TenantId>, id: &Option<String>| ids.get(id.as_deref()?).copied();
        say(
            "asaas_customer",
            of(&directory.asaas_customers, &books.customer),
        );
        // A number that nobody has is a slip of whoever wrote the reference.
        let known = |tenant: &TenantId| directory.tenants.contains_key(tenant);
        say("external_reference", books.named_tenant.filter(known));
        say(
            "asaas_account",
            of(&directory.asaas_accounts, &books.account),
        );
    }
    named
}

const fn nobody(how: &'static str) -> TenantFinding {
    TenantFinding {
        tenant: None,
        how,
        candidates: Vec::new(),
    }
}

fn by_phone(event: &NormalisedEvent, directory: &Directory) -> TenantFinding {
    let phone = event
        .contact
        .as_ref()
        .filter(|contact| !contact.is_group)
        .and_then(|contact| contact.phone.as_ref());
    let candidates = phone.map_or(&[][..], |phone| {
        directory.tenants_with_phone(&phone.match_key())
    });
    match candidates {
        [] => nobody("unresolved"),
        [only] => TenantFinding {
            tenant: Some(*only),
            how: "contact_phone",
            candidates: Vec::new(),
        },
        several => TenantFinding {
            tenant: None,
            how: "ambiguous_phone",
            candidates: several.to_vec(),
        },
    }
}

/// A phone to send to: the one the event names, else the tenant's own.
///
/// # Errors
/// The code to show; there is nobody to send to.
pub(crate) fn phone(
    event: &NormalisedEvent,
    tenant: Option<&Tenant>,
) -> Result<Phone, FailureCode> {
    if let Some(contact) = &event.contact {
        return contact.phone.clone().ok_or(FailureCode::RecipientInvalid);
    }
    let own = tenant
        .and_then(|tenant| tenant.phone.as_deref())
        .ok_or(FailureCode::RecipientMissing)?;
    Phone::parse_brazil(own).map_err(|_| FailureCode::RecipientInvalid)
}

/// The account to send through: the one the event names, else the tenant's. Never another one
/// (incidents 24 and 42).
///
/// # Errors
/// The code to show; ops have to configure an account.
pub(crate) fn account(
    event: &NormalisedEvent,
    tenant: Option<TenantId>,
    directory: &Directory,
) -> Result<Arc<ChannelAccount>, FailureCode> {
    let named = event.channel_account.as_deref();
    let found = match named {
        Some(name) => directory.account(name).filter(|account| account.enabled),
        None => tenant.and_then(|tenant| directory.sending_account(tenant)),
    };
    found.cloned().ok_or(FailureCode::ChannelNotConfigured)
}

//! Whom a message is for and which account it leaves through. Pure.

use shared::domain::address::Phone;
use shared::domain::directory::{ChannelAccount, Directory, Tenant};
use shared::domain::event::NormalisedEvent;
use shared::domain::failure::FailureCode;
use shared::domain::ids::TenantId;
use std::sync::Arc;

/// Whose event it is, and how that was found (product 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantFinding {
    /// The tenant, if exactly one is right.
    pub(crate) tenant: Option<TenantId>,
    /// `explicit`, `contact_phone`, `ambiguous_phone` or `unresolved`.
    pub(crate) how: &'static str,
    /// Those it might be, for a person to choose.
    pub(crate) candidates: Vec<TenantId>,
}

/// Finds the tenant: the one that the source named, else the only active one with the contact's
/// phone. Never by channel (facts §0.1), never by name (incident 10).
pub(crate) fn tenant(event: &NormalisedEvent, directory: &Directory) -> TenantFinding {
    if event.tenant_id.is_some() {
        return TenantFinding {
            tenant: event.tenant_id,
            how: "explicit",
            candidates: Vec::new(),
        };
    }
    let phone = event
        .contact
        .as_ref()
        .filter(|contact| !contact.is_group)
        .and_then(|contact| contact.phone.as_ref());
    let candidates = phone.map_or(&[][..], |phone| {
        directory.tenants_with_phone(&phone.match_key())
    });
    match candidates {
        [] => TenantFinding {
            tenant: None,
            how: "unresolved",
            candidates: Vec::new(),
        },
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

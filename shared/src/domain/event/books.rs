//! What a payment provider tells: whose a thing is, and how a charge stands.

use chrono::NaiveDate;

use crate::domain::ids::TenantId;

/// A fact of a payment provider's books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// The provider's id of the customer.
    pub customer: Option<String>,
    /// The provider's id of the account that tells it.
    pub account: Option<String>,
    /// The tenant that our own reference on the thing names; it may not exist.
    pub named_tenant: Option<TenantId>,
    /// The charge that it is about.
    pub charge: Option<Charge>,
}

impl Books {
    /// True when it says in any way whose it is.
    #[must_use]
    pub const fn names_somebody(&self) -> bool {
        self.customer.is_some()
            || self.account.is_some()
            || self.named_tenant.is_some()
            || self.charge.is_some()
    }
}

/// A charge, as an event shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How it stands; `None` when the event does not tell.
    pub status: Option<ChargeStatus>,
    /// The day on which it is due.
    pub due: Option<NaiveDate>,
}

/// How a charge stands, in the words that the team knows (facts §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChargeStatus {
    /// Open.
    Pending,
    /// Open, and its day is past.
    Overdue,
    /// Confirmed or received.
    Paid,
    /// Deleted, refunded or charged back: nothing is owed.
    Canceled,
}

impl ChargeStatus {
    /// The text in decisions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Overdue => "overdue",
            Self::Paid => "paid",
            Self::Canceled => "canceled",
        }
    }
}

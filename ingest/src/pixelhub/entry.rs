//! Who may enter the chat of a service order: whoever carries the order's token, and PixelHub's server.
//! A number alone opens nothing, and what is somebody else's is not there (facts §7, its notes).

use sha2::{Digest, Sha256};
use shared::domain::ids::TenantId;
use shared::store::chat_reading::{self, ChatThread};
use shared::store::service_orders::{self, Order};

use super::answers::Refusal;
use super::visit::Visit;
use crate::api::auth::Caller;

/// Nobody's token is longer, in bytes.
const LONGEST_TOKEN: usize = 512;

/// Who entered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guest<'a> {
    /// The customer, by the order's public link.
    Customer,
    /// PixelHub's server.
    Server(&'a Caller),
}

impl Guest<'_> {
    /// Whose messages of a chat are shown. Notes of systems and tools are not the customer's.
    pub(super) const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Customer => &["user", "assistant"],
            Self::Server(_) => &["system", "user", "assistant", "tool"],
        }
    }

    /// The scope of the keys of what the guest tells.
    pub(super) fn scope(self, tenant: Option<TenantId>) -> i64 {
        match self {
            // The token is bound to the order, and the order to its tenant.
            Self::Customer => tenant.map_or(0, |tenant| tenant.0),
            Self::Server(caller) => caller.scope(tenant),
        }
    }
}

/// The chat with that number, if it is the guest's.
pub(super) async fn to_thread(
    visit: &Visit,
    thread: i64,
) -> Result<(ChatThread, Guest<'_>), Refusal> {
    const NOT_FOUND: Refusal = Refusal::NotFound("Conversa não encontrada");
    let guest = match visit.token() {
        Some(token) => {
            let order = order_of(visit, token)
                .await?
                .ok_or_else(|| visit.unknown())?;
            if order.thread_id != Some(thread) {
                return Err(NOT_FOUND);
            }
            Guest::Customer
        }
        None => Guest::Server(visit.credential()?),
    };
    let found = visit
        .ask(async |conn| chat_reading::find(conn, thread).await)
        .await?;
    let found = found.ok_or(NOT_FOUND)?;
    match guest {
        Guest::Server(caller) if !caller.may_name(found.tenant_id.map(TenantId)) => Err(NOT_FOUND),
        guest => Ok((found, guest)),
    }
}

/// The order that a request to the chat's page names, if it is the guest's.
pub(super) async fn to_order(visit: &Visit) -> Result<(Order, Guest<'_>), Refusal> {
    if let Some(token) = visit.token() {
        return match order_of(visit, token).await? {
            Some(order) => Ok((order, Guest::Customer)),
            // Counted like every key that opens nothing, and told as PixelHub did.
            None => match visit.unknown() {
                Refusal::Unauthenticated => Err(Refusal::OrderNotFound),
                shut_out => Err(shut_out),
            },
        };
    }
    let Some(number) = visit.query.number("order_id") else {
        return Err(Refusal::OrderNotFound);
    };
    let caller = visit.credential()?;
    let order = visit
        .ask(async |conn| service_orders::find(conn, number).await)
        .await?;
    let own = |order: &Order| caller.may_name(order.tenant_id.map(TenantId));
    let order = order.filter(own).ok_or(Refusal::OrderNotFound)?;
    Ok((order, Guest::Server(caller)))
}

/// Whose request it says to be, for a switch of one tenant; nothing is proved by that.
pub(super) async fn tenant_named(visit: &Visit) -> Result<Option<TenantId>, Refusal> {
    let order = match (visit.token(), visit.parameter("order_id")) {
        (Some(token), _) => order_of(visit, token).await?,
        (None, Some(number)) => {
            visit
                .ask(async |conn| service_orders::find(conn, number).await)
                .await?
        }
        (None, None) => None,
    };
    if let Some(order) = order {
        return Ok(order.tenant_id.map(TenantId));
    }
    let Some(thread) = visit.parameter("thread_id") else {
        return Ok(None);
    };
    let found = visit
        .ask(async |conn| chat_reading::find(conn, thread).await)
        .await?;
    Ok(found.and_then(|found| found.tenant_id).map(TenantId))
}

async fn order_of(visit: &Visit, token: &str) -> Result<Option<Order>, Refusal> {
    if token.len() > LONGEST_TOKEN {
        return Ok(None);
    }
    let hash: [u8; 32] = Sha256::digest(token).into();
    visit
        .ask(async |conn| service_orders::find_by_token(conn, hash).await)
        .await
}

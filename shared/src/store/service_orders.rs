//! `service_orders`, and the chat thread of one.

use std::fmt;

use sqlx::PgConnection;

use super::StoreResult;

/// An order to be set.
#[derive(Clone)]
pub struct OrderRow {
    /// PixelHub's number.
    pub id: i64,
    /// Whose it is, where that is known.
    pub tenant_id: Option<i64>,
    /// PixelHub's own word.
    pub status: String,
    /// What the customer is called.
    pub customer_name: Option<String>,
    /// What becomes of the public link.
    pub link: Link,
}

/// What becomes of an order's public link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It stays as it is.
    Kept,
    /// It opens nothing any more.
    Taken,
    /// The token with this SHA-256 opens it.
    Given([u8; 32]),
}

impl fmt::Debug for OrderRow {
    /// Neither name nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderRow")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Sets an order.
///
/// # Errors
/// See [`super::StoreError`]; the tenant must be known, and no other order may have the token.
pub async fn set(conn: &mut PgConnection, row: &OrderRow) -> StoreResult<()> {
    let token = match &row.link {
        Link::Given(sha256) => Some(sha256.as_slice()),
        Link::Kept | Link::Taken => None,
    };
    sqlx::query!(
        "insert into service_orders (id, tenant_id, status, customer_name, token_sha256) values ($1, $2, $3, $4, $5)
         on conflict (id) do update
         set tenant_id = excluded.tenant_id, status = excluded.status, customer_name = excluded.customer_name,
             token_sha256 = case when $6 then service_orders.token_sha256 else excluded.token_sha256 end,
             updated_at = now()",
        row.id,
        row.tenant_id,
        row.status,
        row.customer_name,
        token,
        row.link == Link::Kept,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An order, as its chat needs it.
#[derive(Clone)]
pub struct Order {
    /// PixelHub's number.
    pub id: i64,
    /// Whose it is, where that is known.
    pub tenant_id: Option<i64>,
    /// PixelHub's own word.
    pub status: String,
    /// What the customer is called.
    pub customer_name: Option<String>,
    /// Its chat, once there is one.
    pub thread_id: Option<i64>,
}

impl fmt::Debug for Order {
    /// Not the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("id", &self.id)
            .field("tenant_id", &self.tenant_id)
            .finish_non_exhaustive()
    }
}

/// The order with that number.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find(conn: &mut PgConnection, id: i64) -> StoreResult<Option<Order>> {
    let order = sqlx::query_as!(
        Order,
        r#"select o.id, o.tenant_id, o.status, o.customer_name, t.id as "thread_id?"
           from service_orders o left join chat_threads t on t.order_id = o.id where o.id = $1"#,
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(order)
}

/// The order whose public link carries the token with that SHA-256. It is found by the hash, so the time
/// taken tells nothing of the token.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find_by_token(
    conn: &mut PgConnection,
    sha256: [u8; 32],
) -> StoreResult<Option<Order>> {
    let order = sqlx::query_as!(
        Order,
        r#"select o.id, o.tenant_id, o.status, o.customer_name, t.id as "thread_id?"
           from service_orders o left join chat_threads t on t.order_id = o.id where o.token_sha256 = $1"#,
        &sha256[..],
    )
    .fetch_optional(conn)
    .await?;
    Ok(order)
}

/// The chat thread of an order, made where there is none; the event that asked for it gives its trace.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn open_thread(
    conn: &mut PgConnection,
    order: &Order,
    (source_system, trace_id): (&str, &str),
) -> StoreResult<i64> {
    sqlx::query!(
        "insert into chat_threads (kind, order_id, customer_id, contact_name, source_system, trace_id)
         values ('order', $1, $2, $3, $4, $5) on conflict (order_id) where order_id is not null do nothing",
        order.id,
        order.tenant_id,
        order.customer_name,
        source_system,
        trace_id,
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!("select id from chat_threads where order_id = $1", order.id)
        .fetch_one(conn)
        .await?;
    Ok(id)
}

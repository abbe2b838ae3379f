//! Decisions about events of which nobody knew whose they are, and what is done with them once
//! somebody does. Nothing is decided again: only the tenant of the decision is filled in.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// A decision without a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Unresolved {
    /// The decision.
    pub routing_id: Uuid,
    /// The event.
    pub event_id: Uuid,
}

/// A decision whose tenant was found out.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The decision.
    pub routing_id: Uuid,
    /// Whose it is.
    pub tenant_id: i64,
    /// How that was found.
    pub how: &'static str,
}

/// How many decisions wait for a tenant.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn count(conn: &mut PgConnection) -> StoreResult<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from routings
           where tenant_id is null and source_system = 'asaas' and decision -> 'tenant' ->> 'how' = 'unresolved'"#
    )
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// The next page of them, by id.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn page(
    conn: &mut PgConnection,
    after: Uuid,
    limit: i64,
) -> StoreResult<Vec<Unresolved>> {
    let rows = sqlx::query_as!(
        Unresolved,
        "select id as routing_id, event_id from routings
         where tenant_id is null and source_system = 'asaas' and decision -> 'tenant' ->> 'how' = 'unresolved'
               and id > $1
         order by id limit $2",
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Fills in tenants, with the time at which they were found; answers the decisions that had none
/// until now. Another process may have been quicker.
///
/// Invariant: `found` is sorted by routing.
///
/// # Errors
/// See [`super::StoreError`]; on a conflict the whole transaction is repeated.
pub async fn resolve(
    conn: &mut PgConnection,
    found: &[Resolution],
    now: DateTime<Utc>,
) -> StoreResult<Vec<Uuid>> {
    let ids: Vec<Uuid> = found.iter().map(|it| it.routing_id).collect();
    let tenants: Vec<i64> = found.iter().map(|it| it.tenant_id).collect();
    let hows: Vec<&str> = found.iter().map(|it| it.how).collect();
    let rows = sqlx::query_scalar!(
        "update routings r
         set tenant_id = i.tenant_id,
             decision = r.decision || jsonb_build_object('tenant', jsonb_build_object(
                 'id', i.tenant_id, 'how', i.how, 'candidates', '[]'::jsonb, 'found_at', $4::timestamptz))
         from unnest($1::uuid[], $2::bigint[], $3::text[]) as i(id, tenant_id, how)
         where r.id = i.id and r.tenant_id is null
         returning r.id",
        &ids,
        &tenants,
        &hows as &[&str],
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

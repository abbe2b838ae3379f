//! The ledger (design §1, "Ledger"): where every event and delivery stands, and which rows
//! contradict each other.
//!
//! Invariant: no statement here counts a whole table. What is unsettled is read through partial
//! indexes and up to a limit; what is settled is counted page by page, in `ledger_books`.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// Work that waits, of one queue in one state.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The work queue's name.
    pub queue: String,
    /// `queued` (a message is out), `retry` (due later), `held`, `claimed`, `unknown`; of receipts
    /// `pending` and `unbound`.
    pub state: String,
    /// How many, up to the limit.
    pub depth: i64,
    /// The longest wait in seconds; of `retry` how long the most overdue has been due.
    pub oldest_s: f64,
}

/// Deliveries and receipts that are not settled, up to `limit` of each state.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn waiting(conn: &mut PgConnection, limit: i64) -> StoreResult<Vec<Waiting>> {
    let rows = sqlx::query_as!(
        Waiting,
        r#"select queue as "queue!", state as "state!", count(*) as "depth!",
                  greatest(0, extract(epoch from now() - min(since)))::double precision as "oldest_s!"
           from (
               (select 'hub.deliveries.' || channel as queue, 'queued' as state, updated_at as since
                from deliveries where state = 'queued' and next_attempt_at is null
                order by dispatched_at limit $1)
               union all
               (select 'hub.deliveries.' || channel, 'retry', next_attempt_at
                from deliveries where state = 'queued' and next_attempt_at is not null
                order by next_attempt_at limit $1)
               union all
               (select 'hub.deliveries.' || channel, 'held', updated_at
                from deliveries where state = 'held' limit $1)
               union all
               (select 'hub.deliveries.' || channel, 'claimed', updated_at
                from deliveries where state = 'claimed' order by updated_at limit $1)
               union all
               (select 'hub.deliveries.' || channel, 'unknown', updated_at
                from deliveries where state = 'unknown' order by updated_at limit $1)
               union all
               (select 'hub.receipts', 'pending', created_at
                from receipts where state = 'pending' order by dispatched_at limit $1)
               union all
               (select 'hub.receipts', 'unbound', created_at
                from receipts where state = 'unbound' order by id limit $1)
           ) w group by queue, state order by queue, state"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Letters that wait for a person, of one queue and failure code.
#[derive(Clone, Debug)]
pub struct OpenLetters {
    /// The work queue's name.
    pub queue: String,
    /// Why.
    pub failure_code: String,
    /// How many, up to the limit of all together.
    pub open: i64,
}

/// Letters that nobody has redriven or discarded, up to `limit`.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn open_letters(conn: &mut PgConnection, limit: i64) -> StoreResult<Vec<OpenLetters>> {
    let rows = sqlx::query_as!(
        OpenLetters,
        r#"select queue, failure_code, count(*) as "open!"
           from (select queue, failure_code from dead_letters where state = 'dead'
                 order by created_at limit $1) l
           group by queue, failure_code order by queue, failure_code"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// A row that contradicts another one.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// What is wrong, a closed set of names.
    pub finding: String,
    /// The row.
    pub id: Uuid,
}

/// Rows of unsettled work that no lawful sequence of commits leaves behind, up to `limit` of each
/// kind. Claim and conclusion each move attempt and delivery in one transaction, so no snapshot
/// may show one without the other.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn contradictions(
    conn: &mut PgConnection,
    limit: i64,
) -> StoreResult<Vec<Contradiction>> {
    let rows = sqlx::query_as!(
        Contradiction,
        r#"(select 'attempt_past_lease' as "finding!", a.id as "id!" from delivery_attempts a
            where a.outcome = 'open' and a.lease_until < now() - interval '10 seconds'
            order by a.lease_until limit $1)
           union all
           (select 'attempt_without_claim', a.id
            from delivery_attempts a join deliveries d on d.id = a.delivery_id
            where a.outcome = 'open' and d.generation = a.generation and d.attempt_count = a.number
              and d.state in ('queued', 'held', 'unknown') limit $1)
           union all
           (select 'attempt_never_asked_for', a.id
            from delivery_attempts a join deliveries d on d.id = a.delivery_id
            where a.outcome = 'open'
              and (a.generation > d.generation
                   or (a.generation = d.generation and a.number > d.attempt_count)) limit $1)
           union all
           (select 'two_open_attempts', a.delivery_id from delivery_attempts a
            where a.outcome = 'open' group by a.delivery_id, a.generation having count(*) > 1 limit $1)
           union all
           (select 'claim_without_attempt', d.id from deliveries d
            where d.state = 'claimed'
              and not exists (select 1 from delivery_attempts a
                              where a.delivery_id = d.id and a.generation = d.generation
                                and a.number = d.attempt_count and a.outcome = 'open') limit $1)
           union all
           (select 'queued_and_never_dispatched', d.id from deliveries d
            where d.state = 'queued' and d.next_attempt_at is null and d.dispatched_at is null limit $1)
           union all
           (select 'held_without_account', d.id from deliveries d
            where d.state = 'held' and not exists (select 1 from channels c where c.id = d.channel_id)
            limit $1)"#,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Work that was dispatched and has no message in the outbox.
#[derive(Clone, Debug)]
pub struct Dispatched {
    /// The work queue that its message should be in.
    pub queue: String,
    /// The subject.
    pub id: Uuid,
}

/// Deliveries and receipts that were dispatched more than `margin_s` ago, wait and have no outbox
/// row, up to `limit` of each kind: if their queue is empty, their message is lost (design §1.8).
///
/// # Errors
/// See [`super::StoreError`].
pub async fn dispatched(
    conn: &mut PgConnection,
    margin_s: f64,
    limit: i64,
) -> StoreResult<Vec<Dispatched>> {
    let rows = sqlx::query_as!(
        Dispatched,
        r#"(select 'hub.deliveries.' || d.channel as "queue!", d.id as "id!" from deliveries d
            where d.state = 'queued' and d.next_attempt_at is null
              and d.dispatched_at < now() - make_interval(secs => $1)
              and not exists (select 1 from outbox o where o.subject_id = d.id)
            order by d.dispatched_at limit $2)
           union all
           (select 'hub.receipts', r.id from receipts r
            where r.state = 'pending' and r.dispatched_at < now() - make_interval(secs => $1)
              and not exists (select 1 from outbox o where o.subject_id = r.id)
            order by r.dispatched_at limit $2)"#,
        margin_s,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The events after a mark, as far as one look goes.
#[derive(Clone, Debug)]
pub struct EventWindow {
    /// Events looked at.
    pub seen: i64,
    /// Of them, those with their first routing.
    pub routed: i64,
    /// The first of those without one, at most twenty, oldest first.
    pub unrouted: Vec<Uuid>,
    /// Seconds since the oldest of them came.
    pub oldest_s: f64,
    /// Of the unrouted: older than the margin and without an outbox row.
    pub dispatched: Vec<Uuid>,
    /// Every event up to here has its routing and is old enough for none to be committed late.
    pub closed_up_to: Option<Uuid>,
    /// How many those are.
    pub closed: i64,
}

/// Looks at up to `limit` events after `after`. An event's id is made before its transaction
/// commits, so the newest `late_s` seconds are never closed.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn event_window(
    conn: &mut PgConnection,
    after: Uuid,
    (late_s, margin_s): (f64, f64),
    limit: i64,
) -> StoreResult<EventWindow> {
    // The inner limits keep the planner from reading either table as a whole; what does not depend
    // on a row stands in a query of its own, so that it is computed once.
    let row = sqlx::query_as!(
        EventWindow,
        r#"with page as materialized (
               select e.id, r.hit is not null as routed
               from (select id from communication_events where id > $1 order by id limit $4) e
               left join lateral (select 1 as hit from routings r where r.event_id = e.id and r.run = 0 limit 1) r on true
           ), waits as materialized (
               select id from page where not routed order by id
           ), closed as materialized (
               select id from page
               where id < (select least(hub_uuid_floor(now() - make_interval(secs => $2)),
                                        (select id from waits limit 1)))
           )
           select (select count(*) from page) as "seen!",
                  (select count(*) from page where routed) as "routed!",
                  array(select id from waits order by id limit 20) as "unrouted!",
                  coalesce(extract(epoch from now()) - (
                      select ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0
                      from waits order by id limit 1), 0)::double precision as "oldest_s!",
                  array(select w.id from waits w
                        where w.id < (select hub_uuid_floor(now() - make_interval(secs => $3)))
                          and not exists (select 1 from outbox o where o.subject_id = w.id)
                        order by w.id limit 20) as "dispatched!",
                  (select id from closed order by id desc limit 1) as closed_up_to,
                  (select count(*) from closed) as "closed!""#,
        after,
        late_s,
        margin_s,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(row)
}

/// A page of a walk.
#[derive(Clone, Debug)]
pub struct Page {
    /// Rows on it.
    pub size: i64,
    /// The last of them.
    pub last: Option<Uuid>,
    /// How many stand in which state, an object.
    pub states: Value,
    /// Rows of the page that are wrong, an object of arrays of ids, at most twenty each.
    pub wrong: Value,
}

/// Counts the states of up to `limit` deliveries after `after`, and finds those whose times or
/// letters contradict their state.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn deliveries_page(
    conn: &mut PgConnection,
    after: Uuid,
    limit: i64,
) -> StoreResult<Page> {
    let page = sqlx::query_as!(
        Page,
        r#"with page as materialized (
               select id, state, generation, sent_at, settled_at from deliveries
               where id > $1 order by id limit $2
           )
           select (select count(*) from page) as "size!",
                  (select id from page order by id desc limit 1) as last,
                  coalesce((select jsonb_object_agg(state, n)
                            from (select state, count(*) as n from page group by state) s), '{}') as "states!",
                  jsonb_build_object(
                      'settled_without_time', array(
                          select id from page
                          where (state in ('queued', 'held', 'claimed', 'unknown')) = (settled_at is not null)
                            and state not in ('suppressed', 'cancelled', 'simulated') limit 20),
                      'sent_without_time', array(
                          select id from page
                          where state in ('sent', 'delivered', 'read') and sent_at is null limit 20),
                      'dead_without_letter', array(
                          select p.id from page p
                          left join lateral (select 1 as hit from dead_letters l
                                             where l.subject_kind = 'delivery' and l.subject_id = p.id
                                               and l.generation = p.generation limit 1) l on true
                          where p.state = 'dead' and l.hit is null limit 20)
                  ) as "wrong!""#,
        after,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(page)
}

/// Counts the states of up to `limit` routings after `after`, and finds those that have other
/// deliveries than they planned.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn routings_page(conn: &mut PgConnection, after: Uuid, limit: i64) -> StoreResult<Page> {
    let page = sqlx::query_as!(
        Page,
        r#"with page as materialized (
               select r.id, r.state, d.made,
                      case when jsonb_typeof(r.decision -> 'deliveries') = 'array'
                           then jsonb_array_length(r.decision -> 'deliveries') else 0 end as planned
               from (select id, state, decision from routings where id > $1 order by id limit $2) r
               left join lateral (select count(*) as made from deliveries d where d.routing_id = r.id) d on true
           )
           select (select count(*) from page) as "size!",
                  (select id from page order by id desc limit 1) as last,
                  coalesce((select jsonb_object_agg(state, n)
                            from (select state, count(*) as n from page group by state) s), '{}') as "states!",
                  jsonb_build_object(
                      'plan_without_delivery', array(select id from page where made < planned limit 20),
                      'delivery_without_plan', array(select id from page where made > planned limit 20)
                  ) as "wrong!""#,
        after,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(page)
}

/// How far the walk through a table has come.
#[derive(Clone, Debug)]
pub struct Book {
    /// The next page begins after it.
    pub up_to: Uuid,
    /// What the walk has counted so far.
    pub counting: Value,
    /// What the last whole walk counted.
    pub counted: Option<Value>,
    /// When that one ended.
    pub counted_at: Option<DateTime<Utc>>,
}

/// Takes a book to turn its page; none while another instance does.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_book(conn: &mut PgConnection, book: &str) -> StoreResult<Option<Book>> {
    let row = sqlx::query_as!(
        Book,
        "select up_to, counting, counted, counted_at from ledger_books where book = $1
         for update skip locked",
        book,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Reads a book.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn read_book(conn: &mut PgConnection, book: &str) -> StoreResult<Book> {
    let row = sqlx::query_as!(
        Book,
        "select up_to, counting, counted, counted_at from ledger_books where book = $1",
        book,
    )
    .fetch_one(conn)
    .await?;
    Ok(row)
}

/// Writes a book that was taken in the same transaction. `counted` is what a walk that has just
/// ended came to.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn write_book(
    conn: &mut PgConnection,
    book: &str,
    (up_to, counting): (Uuid, &Value),
    counted: Option<&Value>,
) -> StoreResult<()> {
    sqlx::query!(
        "update ledger_books
         set up_to = $2, counting = $3, counted = coalesce($4, counted),
             counted_at = case when $4::jsonb is null then counted_at else now() end
         where book = $1",
        book,
        up_to,
        counting,
        counted,
    )
    .execute(conn)
    .await?;
    Ok(())
}

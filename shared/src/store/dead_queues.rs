//! What the tidy pass asks about the copies in the dead queues, and when it looks at all: each
//! look counts against the dead queue's own delivery limit (design §3).

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;

/// How long a look may take, in seconds; until then nobody else looks through the same queue.
const LOOK_LEASE_S: f64 = 120.0;
/// How long a queue is left alone after a look, in seconds; doubled for each look in vain.
const REST_S: f64 = 5.0;
/// How often a copy is looked for that a whole look does not find.
const MOST_LOOKS: i32 = 3;

/// Takes the queues that hold copies of letters settled at least `age_s` seconds ago, and that
/// nobody looks through now; each is leased for one look.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn take_untidy(conn: &mut PgConnection, age_s: f64) -> StoreResult<Vec<String>> {
    let queues = sqlx::query_scalar!(
        "insert into dead_queue_looks as q (queue, leased_until)
         select distinct queue, now() + make_interval(secs => $2) from dead_letters
         where state <> 'dead' and tidied_at is null and settled_at <= now() - make_interval(secs => $1)
         on conflict (queue) do update set leased_until = excluded.leased_until
             where q.leased_until <= now()
         returning q.queue",
        age_s,
        LOOK_LEASE_S,
    )
    .fetch_all(conn)
    .await?;
    Ok(queues)
}

/// The letters of a queue whose copies are looked for: settled at least `age_s` seconds ago, and
/// published. One whose copy is still in the outbox comes next time.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn untidy_letters(
    conn: &mut PgConnection,
    queue: &str,
    age_s: f64,
) -> StoreResult<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select l.id from dead_letters l
         where l.queue = $1 and l.state <> 'dead' and l.tidied_at is null
           and l.settled_at <= now() - make_interval(secs => $2)
           and not exists (select 1 from outbox o
                           where o.subject_id in (l.subject_id, l.id) and o.target like 'dead:%')",
        queue,
        age_s,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// What is known of a copy's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOf {
    /// A letter that waits for a person.
    Open,
    /// A letter that is settled.
    Settled,
}

/// The states of letters by their ids; those that are not there are not answered.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn letters(conn: &mut PgConnection, ids: &[Uuid]) -> StoreResult<Vec<(Uuid, CopyOf)>> {
    let rows = sqlx::query!(
        r#"select id, state = 'dead' as "open!" from dead_letters where id = any($1)"#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, copy_of(row.open)))
        .collect())
}

/// What the broker's own letters are told by: they carry no id.
pub type Subject = (String, Uuid, i32);

/// The same by (kind, subject, generation), with the ids of the letters.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn letters_of_subjects(
    conn: &mut PgConnection,
    subjects: &[(&'static str, Uuid, i32)],
) -> StoreResult<Vec<(Subject, (Uuid, CopyOf))>> {
    let kinds: Vec<String> = subjects.iter().map(|one| one.0.to_owned()).collect();
    let ids: Vec<Uuid> = subjects.iter().map(|one| one.1).collect();
    let generations: Vec<i32> = subjects.iter().map(|one| one.2).collect();
    let rows = sqlx::query!(
        r#"select l.id, l.subject_kind, l.subject_id as "subject_id!", l.generation, l.state = 'dead' as "open!"
           from unnest($1::text[], $2::uuid[], $3::integer[]) as i(kind, id, generation)
           join dead_letters l on l.subject_kind = i.kind and l.subject_id = i.id and l.generation = i.generation
                              and l.subject_id is not null"#,
        &kinds,
        &ids,
        &generations,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let subject = (row.subject_kind, row.subject_id, row.generation);
            (subject, (row.id, copy_of(row.open)))
        })
        .collect())
}

/// True while a letter of the broker waits whose bytes are no message of ours. Its copy names
/// nothing, so none such is dropped until all of them are settled.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn has_open_nameless(conn: &mut PgConnection, queue: &str) -> StoreResult<bool> {
    let open = sqlx::query_scalar!(
        r#"select exists (select 1 from dead_letters
                          where state = 'dead' and subject_kind = 'message' and made_by = 'broker' and queue = $1)
               as "open!""#,
        queue,
    )
    .fetch_one(conn)
    .await?;
    Ok(open)
}

/// What a look through a queue came to.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// Settled letters whose copies were dropped.
    pub dropped: Vec<Uuid>,
    /// Settled letters of which a whole look found no copy. Somebody else may hold it just now (a
    /// person who looks, a shovel), so it is looked for some more times.
    pub missing: Vec<Uuid>,
    /// Nothing was found although something was to be found: the queue rests longer each time.
    pub in_vain: bool,
}

/// Ends a look: remembers what was found, and lets the queue rest.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn finish_look(conn: &mut PgConnection, queue: &str, looked: &Looked) -> StoreResult<()> {
    sqlx::query!(
        "update dead_letters
         set tidy_looks = tidy_looks + 1,
             tidied_at = case when id = any($1) or tidy_looks + 1 >= $3 then now() end
         where id = any($1) or id = any($2)",
        &looked.dropped,
        &looked.missing,
        MOST_LOOKS,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update dead_queue_looks
         set idle_looks = case when $2 then least(idle_looks + 1, 8) else 0 end,
             leased_until = now() + make_interval(secs => $3 * case when $2 then 2 ^ least(idle_looks + 1, 8) else 1 end)
         where queue = $1",
        queue,
        looked.in_vain,
        REST_S,
    )
    .execute(conn)
    .await?;
    Ok(())
}

const fn copy_of(open: bool) -> CopyOf {
    if open { CopyOf::Open } else { CopyOf::Settled }
}

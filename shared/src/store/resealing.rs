//! Seals again what was sealed with another key, or not at all, page by page in the background.
//!
//! [`turn_page`] is one of the two functions that may write `communication_events` after an event was
//! accepted (design §1.6): it writes the same content in another form, and nothing else.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{StoreResult, media};
use crate::sealing::{Column, Keyring, Place};

/// The most rows of a page that is sealed.
const PAGE: i64 = 100;
/// The most bytes of a page of events, unless a single one has more.
const PAGE_BYTES: i64 = 8 << 20;

/// A table that holds sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// `communication_events`
    Events,
    /// `deliveries`
    Deliveries,
    /// `receipts`
    Receipts,
    /// `chat_messages`
    ChatMessages,
    /// `media`
    Media,
}

impl Book {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Events,
        Self::Deliveries,
        Self::Receipts,
        Self::ChatMessages,
        Self::Media,
    ];

    /// Its name, also as a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Deliveries => "deliveries",
            Self::Receipts => "receipts",
            Self::ChatMessages => "chat_messages",
            Self::Media => "media",
        }
    }
}

/// How far the walk through a book has come, locked.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Where the next page begins, as the book's id is written.
    pub up_to: String,
    /// How many values this walk sealed.
    pub resealed: i64,
    /// Whether a whole walk found nothing to seal.
    pub is_clean: bool,
}

/// Locks the walk through a book that seals with that key; one of another key begins anew. `None` while
/// another process turns a page of it. For the rest of the transaction the connection works as the login
/// itself: what may rewrite an event is the owner's (design §1.6).
///
/// # Errors
/// See [`super::StoreError`].
pub async fn lock_walk(
    conn: &mut PgConnection,
    book: Book,
    key_id: &str,
) -> StoreResult<Option<Walk>> {
    sqlx::query!("set local role none")
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query!(
        r#"select key_id, up_to, resealed, clean_since is not null as "is_clean!" from sealing_walks
           where book = $1 for update skip locked"#,
        book.as_str(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        if row.key_id.as_deref() == Some(key_id) {
            Walk {
                up_to: row.up_to,
                resealed: row.resealed,
                is_clean: row.is_clean,
            }
        } else {
            Walk {
                up_to: String::new(),
                resealed: 0,
                is_clean: false,
            }
        }
    }))
}

/// Keeps how far a walk has come.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn store_walk(
    conn: &mut PgConnection,
    book: Book,
    key_id: &str,
    walk: &Walk,
) -> StoreResult<()> {
    sqlx::query!(
        "update sealing_walks
         set key_id = $2, up_to = $3, resealed = $4,
             clean_since = case when $5 then coalesce(clean_since, now()) end
         where book = $1",
        book.as_str(),
        key_id,
        walk.up_to,
        walk.resealed,
        walk.is_clean,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets every walk begin anew: something was found that they had passed.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn walk_again(conn: &mut PgConnection) -> StoreResult<()> {
    sqlx::query!(
        "update sealing_walks set key_id = null, up_to = '', resealed = 0, clean_since = null"
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A page that was turned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turned {
    /// The last id of the page; `None` when the book ends with it. What is written behind it meanwhile is
    /// sealed by whoever writes it.
    pub up_to: Option<String>,
    /// How many values were sealed.
    pub resealed: i64,
}

/// Seals what a page of a book holds in clear or sealed with another key than the one that seals now. Its
/// rows are locked in the order of their ids, as all writers do. A sealed value that does not open ends it:
/// it would be lost with its key.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn turn_page(
    conn: &mut PgConnection,
    book: Book,
    after: &str,
    seals: &Keyring,
) -> StoreResult<Turned> {
    let Some(key_id) = seals.active() else {
        return Ok(Turned::default());
    };
    match book {
        Book::Events => events(conn, uuid_of(after), (key_id, seals)).await,
        Book::Deliveries => deliveries(conn, uuid_of(after), (key_id, seals)).await,
        Book::Receipts => receipts(conn, uuid_of(after), (key_id, seals)).await,
        Book::ChatMessages => chat_messages(conn, number_of(after), (key_id, seals)).await,
        Book::Media => files(conn, hash_of(after), (key_id, seals)).await,
    }
}

/// A walk begins before every id.
pub(super) fn uuid_of(after: &str) -> Uuid {
    after.parse().unwrap_or_default()
}

pub(super) fn number_of(after: &str) -> i64 {
    after.parse().unwrap_or_default()
}

pub(super) fn hash_of(after: &str) -> Vec<u8> {
    hex::decode(after).unwrap_or_default()
}

async fn events(
    conn: &mut PgConnection,
    after: Uuid,
    (key_id, seals): (&str, &Keyring),
) -> StoreResult<Turned> {
    let page = sqlx::query!(
        r#"select id, sum(size) over (order by id)::bigint as "size!"
           from (select id, octet_length(body) + coalesce(pg_column_size(payload), 0) as size
                 from communication_events where id > $1 order by id limit $2) p
           order by id"#,
        after,
        PAGE,
    )
    .fetch_all(&mut *conn)
    .await?;
    let within = page.iter().take_while(|row| row.size <= PAGE_BYTES).count();
    let within = within.max(1);
    let Some(last) = page.get(within - 1).map(|row| row.id) else {
        return Ok(Turned::default());
    };
    let follows = within < page.len() || is_full(page.len());
    let due = sqlx::query!(
        "select id, body, payload from communication_events
         where id > $1 and id <= $2
           and ((hub_sealed_with(body) is distinct from $3 and octet_length(body) > 0)
                or (payload is not null and hub_sealed_with(payload) is distinct from $3))
         order by id for update",
        after,
        last,
        key_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let (mut ids, mut bodies, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
    for row in due {
        let place = |column| Place::new(column, row.id);
        let body = seals.open_bytes(place(Column::EventBody), row.body)?;
        let payload: Option<Value> = row
            .payload
            .map(|kept| seals.open_json(place(Column::EventPayload), kept))
            .transpose()?;
        ids.push(row.id);
        bodies.push(
            seals
                .seal_bytes(place(Column::EventBody), &body)
                .into_owned(),
        );
        payloads.push(payload.as_ref().map(|payload| {
            seals
                .seal_json(place(Column::EventPayload), payload)
                .into_owned()
        }));
    }
    if !ids.is_empty() {
        sqlx::query!(
            "update communication_events e set body = i.body, payload = i.payload
             from unnest($1::uuid[], $2::bytea[], $3::jsonb[]) as i(id, body, payload)
             where e.id = i.id and e.id > $4 and e.id <= $5",
            &ids,
            &bodies,
            &payloads as &[Option<Value>],
            after,
            last,
        )
        .execute(conn)
        .await?;
    }
    Ok(turned(follows.then(|| last.to_string()), ids.len()))
}

async fn deliveries(
    conn: &mut PgConnection,
    after: Uuid,
    (key_id, seals): (&str, &Keyring),
) -> StoreResult<Turned> {
    let page = sqlx::query_scalar!(
        "select id from deliveries where id > $1 order by id limit $2",
        after,
        PAGE,
    )
    .fetch_all(&mut *conn)
    .await?;
    let Some(last) = page.last().copied() else {
        return Ok(Turned::default());
    };
    let follows = is_full(page.len());
    let due = sqlx::query!(
        r#"select id, body_text as "text!" from deliveries
           where id > $1 and id <= $2 and body_text <> '' and hub_sealed_with(body_text) is distinct from $3
           order by id for update"#,
        after,
        last,
        key_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let due = due.into_iter().map(|row| (row.id, row.text));
    let (ids, texts) = sealed_texts(due, Column::DeliveryText, seals)?;
    sqlx::query!(
        "update deliveries d set body_text = i.body_text
         from unnest($1::uuid[], $2::text[]) as i(id, body_text) where d.id = i.id",
        &ids,
        &texts,
    )
    .execute(conn)
    .await?;
    Ok(turned(follows.then(|| last.to_string()), ids.len()))
}

async fn receipts(
    conn: &mut PgConnection,
    after: Uuid,
    (key_id, seals): (&str, &Keyring),
) -> StoreResult<Turned> {
    let page = sqlx::query_scalar!(
        "select id from receipts where id > $1 order by id limit $2",
        after,
        PAGE,
    )
    .fetch_all(&mut *conn)
    .await?;
    let Some(last) = page.last().copied() else {
        return Ok(Turned::default());
    };
    let follows = is_full(page.len());
    let due = sqlx::query!(
        r#"select id, body_text as "text!" from receipts
           where id > $1 and id <= $2 and body_text <> '' and hub_sealed_with(body_text) is distinct from $3
           order by id for update"#,
        after,
        last,
        key_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let due = due.into_iter().map(|row| (row.id, row.text));
    let (ids, texts) = sealed_texts(due, Column::ReceiptText, seals)?;
    sqlx::query!(
        "update receipts r set body_text = i.body_text
         from unnest($1::uuid[], $2::text[]) as i(id, body_text) where r.id = i.id",
        &ids,
        &texts,
    )
    .execute(conn)
    .await?;
    Ok(turned(follows.then(|| last.to_string()), ids.len()))
}

async fn chat_messages(
    conn: &mut PgConnection,
    after: i64,
    (key_id, seals): (&str, &Keyring),
) -> StoreResult<Turned> {
    let page = sqlx::query_scalar!(
        "select id from chat_messages where id > $1 order by id limit $2",
        after,
        PAGE,
    )
    .fetch_all(&mut *conn)
    .await?;
    let Some(last) = page.last().copied() else {
        return Ok(Turned::default());
    };
    let follows = is_full(page.len());
    let due = sqlx::query!(
        "select id, event_id, content from chat_messages
         where id > $1 and id <= $2 and content <> '' and hub_sealed_with(content) is distinct from $3
         order by id for update",
        after,
        last,
        key_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let ids: Vec<i64> = due.iter().map(|row| row.id).collect();
    let due = due.into_iter().map(|row| (row.event_id, row.content));
    let (_, texts) = sealed_texts(due, Column::ChatText, seals)?;
    sqlx::query!(
        "update chat_messages m set content = i.content
         from unnest($1::bigint[], $2::text[]) as i(id, content) where m.id = i.id",
        &ids,
        &texts,
    )
    .execute(conn)
    .await?;
    Ok(turned(follows.then(|| last.to_string()), ids.len()))
}

async fn files(
    conn: &mut PgConnection,
    after: Vec<u8>,
    (key_id, seals): (&str, &Keyring),
) -> StoreResult<Turned> {
    let page = sqlx::query!(
        r#"select sha256, sum(size_bytes) over (order by sha256)::bigint as "size!"
           from (select sha256, size_bytes from media where sha256 > $1 order by sha256 limit $2) p
           order by sha256"#,
        after,
        PAGE,
    )
    .fetch_all(&mut *conn)
    .await?;
    let within = page.iter().take_while(|row| row.size <= PAGE_BYTES).count();
    let within = within.max(1);
    let Some(last) = page.get(within - 1).map(|row| row.sha256.clone()) else {
        return Ok(Turned::default());
    };
    let follows = within < page.len() || is_full(page.len());
    let due = sqlx::query!(
        "select sha256, bytes from media
         where sha256 > $1 and sha256 <= $2 and hub_sealed_with(bytes) is distinct from $3
         order by sha256 for update",
        after,
        last,
        key_id,
    )
    .fetch_all(&mut *conn)
    .await?;
    let (mut hashes, mut sealed) = (Vec::new(), Vec::new());
    for row in due {
        let place = media::place(&row.sha256);
        let bytes = seals.open_bytes(place, row.bytes)?;
        sealed.push(seals.seal_bytes(place, &bytes).into_owned());
        hashes.push(row.sha256);
    }
    sqlx::query!(
        "update media m set bytes = i.bytes from unnest($1::bytea[], $2::bytea[]) as i(sha256, bytes)
         where m.sha256 = i.sha256",
        &hashes,
        &sealed,
    )
    .execute(conn)
    .await?;
    Ok(turned(follows.then(|| hex::encode(last)), hashes.len()))
}

/// Texts with the rows that they are bound to, sealed with the key that seals now.
fn sealed_texts(
    due: impl Iterator<Item = (Uuid, String)>,
    column: Column,
    seals: &Keyring,
) -> StoreResult<(Vec<Uuid>, Vec<String>)> {
    let (mut rows, mut texts) = (Vec::new(), Vec::new());
    for (row, kept) in due {
        let place = Place::new(column, row);
        let clear = seals.open_text(place, kept)?;
        rows.push(row);
        texts.push(seals.seal_text(place, &clear).into_owned());
    }
    Ok((rows, texts))
}

/// A page that is not full is the last: under traffic one without any row would never come.
fn is_full(rows: usize) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows >= PAGE)
}

fn turned(up_to: Option<String>, resealed: usize) -> Turned {
    Turned {
        up_to,
        resealed: i64::try_from(resealed).unwrap_or(i64::MAX),
    }
}

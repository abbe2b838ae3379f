//! `chat_threads` and `chat_messages`: a message and its thread's counters, in one transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::event::ContentKind;
use crate::sealing::{Column, Keyring, Place};

/// Which thread a message belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadRef {
    /// The thread of a contact, or of a group, on one of our accounts; made when it is not there.
    Contact {
        /// The account's slug.
        channel_id: String,
        /// The key of the contact.
        contact_key: String,
    },
    /// The thread of a service order; made when it is not there.
    Order(i64),
    /// A thread that must exist.
    Existing(i64),
}

/// A message for a thread.
#[derive(Clone, Debug)]
pub struct NewChatMessage {
    /// The thread.
    pub thread: ThreadRef,
    /// `system`, `assistant`, `user` or `tool`.
    pub role: String,
    /// `contact`, `device` or `hub`.
    pub origin: String,
    /// The text.
    pub content: String,
    /// The provider's key id.
    pub message_id: Option<String>,
    /// The delivery that brought it.
    pub delivery_id: Option<Uuid>,
    /// The event that it came of.
    pub event_id: Uuid,
    /// The trace.
    pub trace_id: String,
    /// Groups events.
    pub correlation_id: Option<String>,
    /// The source.
    pub source_system: String,
    /// When it was written.
    pub occurred_at: DateTime<Utc>,
    /// The contact's address, as the provider gave it.
    pub contact_address: Option<String>,
    /// The contact's name; never ours.
    pub contact_name: Option<String>,
    /// The tenant.
    pub customer_id: Option<i64>,
    /// More about the message: its media, its participant.
    pub metadata: serde_json::Value,
}

impl NewChatMessage {
    /// True for what could not be decrypted yet; the same message comes again with its content.
    fn is_placeholder(&self) -> bool {
        self.metadata["content"] == ContentKind::Undecrypted.as_str()
    }

    /// An empty text is kept as it is: the fuller one that takes its place is known by it.
    fn kept_content(&self, seals: &Keyring) -> String {
        let place = Place::new(Column::ChatText, self.event_id);
        seals.seal_text(place, &self.content).into_owned()
    }
}

/// Appends messages. Answers, in their order, the thread of each; `None` where the thread does
/// not exist. A message that is there already changes nothing, its counters neither; unless what is
/// there is only the placeholder of what comes now (facts §0.6), which becomes it in place.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn append(
    conn: &mut PgConnection,
    messages: &[NewChatMessage],
    seals: &Keyring,
) -> StoreResult<Vec<Option<i64>>> {
    let contacts = contact_threads(conn, messages).await?;
    let orders = order_threads(conn, messages).await?;
    let existing = existing_threads(conn, messages).await?;
    let threads: Vec<Option<i64>> = messages
        .iter()
        .map(|message| match &message.thread {
            ThreadRef::Contact {
                channel_id,
                contact_key,
            } => contacts
                .get(&(channel_id.clone(), contact_key.clone()))
                .copied(),
            ThreadRef::Order(order) => orders.get(order).copied(),
            ThreadRef::Existing(thread) => existing.contains(thread).then_some(*thread),
        })
        .collect();
    insert_messages(conn, messages, &threads, seals).await?;
    Ok(threads)
}

/// Makes the missing threads of contacts; the arrays are sorted by the key they may collide on.
async fn contact_threads(
    conn: &mut PgConnection,
    messages: &[NewChatMessage],
) -> StoreResult<BTreeMap<(String, String), i64>> {
    let mut wanted: BTreeMap<(String, String), &NewChatMessage> = BTreeMap::new();
    for message in messages {
        if let ThreadRef::Contact {
            channel_id,
            contact_key,
        } = &message.thread
        {
            wanted
                .entry((channel_id.clone(), contact_key.clone()))
                .or_insert(message);
        }
    }
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let channels: Vec<String> = wanted.keys().map(|key| key.0.clone()).collect();
    let keys: Vec<String> = wanted.keys().map(|key| key.1.clone()).collect();
    macro_rules! column {
        ($map:expr) => {
            &wanted.values().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into chat_threads (kind, channel_id, contact_key, contact_address, customer_id, source_system,
                                   trace_id, correlation_id)
         select case when i.contact_key like 'group:%' then 'group' else 'contact' end, i.*
         from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[])
              as i(channel_id, contact_key, contact_address, customer_id, source_system, trace_id, correlation_id)
         on conflict (channel_id, contact_key) where contact_key is not null do nothing",
        &channels,
        &keys,
        column!(|m| m.contact_address.clone()) as &[Option<String>],
        column!(|m| m.customer_id) as &[Option<i64>],
        column!(|m| m.source_system.clone()) as &[String],
        column!(|m| m.trace_id.clone()) as &[String],
        column!(|m| m.correlation_id.clone()) as &[Option<String>],
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"select t.id, t.channel_id as "channel_id!", t.contact_key as "contact_key!"
           from chat_threads t join unnest($1::text[], $2::text[]) as i(channel_id, contact_key)
             on t.channel_id = i.channel_id and t.contact_key = i.contact_key"#,
        &channels,
        &keys,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ((row.channel_id, row.contact_key), row.id))
        .collect())
}

async fn order_threads(
    conn: &mut PgConnection,
    messages: &[NewChatMessage],
) -> StoreResult<BTreeMap<i64, i64>> {
    let mut wanted: BTreeMap<i64, &NewChatMessage> = BTreeMap::new();
    for message in messages {
        if let ThreadRef::Order(order) = message.thread {
            wanted.entry(order).or_insert(message);
        }
    }
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let orders: Vec<i64> = wanted.keys().copied().collect();
    macro_rules! column {
        ($map:expr) => {
            &wanted.values().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into chat_threads (kind, order_id, customer_id, source_system, trace_id, correlation_id)
         select 'order', i.* from unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) as i
         on conflict (order_id) where order_id is not null do nothing",
        &orders,
        column!(|m| m.customer_id) as &[Option<i64>],
        column!(|m| m.source_system.clone()) as &[String],
        column!(|m| m.trace_id.clone()) as &[String],
        column!(|m| m.correlation_id.clone()) as &[Option<String>],
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        r#"select id, order_id as "order_id!" from chat_threads where order_id = any($1)"#,
        &orders,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.order_id, row.id)).collect())
}

async fn existing_threads(
    conn: &mut PgConnection,
    messages: &[NewChatMessage],
) -> StoreResult<Vec<i64>> {
    let wanted: Vec<i64> = messages
        .iter()
        .filter_map(|message| match message.thread {
            ThreadRef::Existing(thread) => Some(thread),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    Ok(
        sqlx::query_scalar!("select id from chat_threads where id = any($1)", &wanted)
            .fetch_all(conn)
            .await?,
    )
}

/// Inserts the messages, and moves each thread's counters by what was really inserted.
async fn insert_messages(
    conn: &mut PgConnection,
    messages: &[NewChatMessage],
    threads: &[Option<i64>],
    seals: &Keyring,
) -> StoreResult<()> {
    let mut rows: Vec<(i64, &NewChatMessage)> = messages
        .iter()
        .zip(threads)
        .filter_map(|(message, thread)| Some(((*thread)?, message)))
        .collect();
    // Of two that are one message, the fuller; one statement must not meet a row twice.
    rows.sort_by_key(|(thread, message)| {
        let id = message.message_id.clone();
        (*thread, id, message.is_placeholder())
    });
    rows.dedup_by(|later, kept| {
        later.1.message_id.is_some()
            && (later.0, &later.1.message_id) == (kept.0, &kept.1.message_id)
    });
    if rows.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &rows.iter().map($map).collect::<Vec<_>>()
        };
    }
    // In the order of their ids, so that two batches cannot deadlock on the counters.
    sqlx::query!(
        "select id from chat_threads where id = any($1) order by id for no key update",
        column!(|r| r.0) as &[i64],
    )
    .fetch_all(&mut *conn)
    .await?;
    sqlx::query!(
        "with input as (
             select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[],
                                  $8::text[], $9::text[], $10::timestamptz[], $11::jsonb[], $12::text[], $13::bigint[])
                 as i(thread_id, role, origin, content, message_id, delivery_id, event_id, trace_id, correlation_id,
                      occurred_at, metadata, contact_name, customer_id)
         ), added as (
             insert into chat_messages as m (thread_id, role, origin, content, message_id, delivery_id, event_id, trace_id,
                                        correlation_id, occurred_at, metadata)
             select thread_id, role, origin, content, message_id, delivery_id, event_id, trace_id, correlation_id,
                    occurred_at, metadata
             from input i
             where i.delivery_id is null
                   or not exists (select 1 from chat_messages d where d.delivery_id = i.delivery_id)
             on conflict (thread_id, message_id) where message_id is not null do update
             set content = excluded.content, delivery_id = excluded.delivery_id, event_id = excluded.event_id,
                 trace_id = excluded.trace_id, correlation_id = excluded.correlation_id,
                 occurred_at = excluded.occurred_at,
                 metadata = excluded.metadata || jsonb_build_object('revises', m.event_id)
             where (m.metadata ->> 'content' = 'undecrypted'
                    and excluded.metadata ->> 'content' is distinct from 'undecrypted')
                   or (m.origin = 'device' and m.content = '' and excluded.content <> '')
             returning m.thread_id, m.origin, m.occurred_at, m.xmax = 0 as is_new,
                       m.metadata ->> 'content' is not distinct from 'undecrypted' as is_placeholder
         ), counted as (
             -- Nobody can read a placeholder: it is shown, and counts as unread once its text is there.
             select thread_id, count(*) filter (where is_new) as messages,
                    count(*) filter (where origin = 'contact' and not is_placeholder) as unread,
                    max(occurred_at) as last_at, bool_or(origin = 'device') as by_device
             from added group by thread_id
         ), named as (
             select distinct on (thread_id) thread_id, contact_name from input
             where contact_name is not null order by thread_id, occurred_at desc
         ), owned as (
             -- What we typed on the phone names no tenant; whoever answers may be known.
             select thread_id, min(customer_id) as customer_id from input group by thread_id
         )
         update chat_threads t
         set message_count = t.message_count + c.messages::integer,
             unread_count = t.unread_count + c.unread::integer,
             last_message_at = greatest(t.last_message_at, c.last_at),
             status = case when t.status = 'closed' and c.unread > 0 then 'open' else t.status end,
             automation_paused_at = case when c.by_device then now() else t.automation_paused_at end,
             contact_name = coalesce(n.contact_name, t.contact_name),
             customer_id = coalesce(t.customer_id, o.customer_id),
             updated_at = now()
         from counted c left join named n on n.thread_id = c.thread_id
                        left join owned o on o.thread_id = c.thread_id
         where t.id = c.thread_id",
        column!(|r| r.0) as &[i64],
        column!(|r| r.1.role.clone()) as &[String],
        column!(|r| r.1.origin.clone()) as &[String],
        column!(|r| r.1.kept_content(seals)) as &[String],
        column!(|r| r.1.message_id.clone()) as &[Option<String>],
        column!(|r| r.1.delivery_id) as &[Option<Uuid>],
        column!(|r| r.1.event_id) as &[Uuid],
        column!(|r| r.1.trace_id.clone()) as &[String],
        column!(|r| r.1.correlation_id.clone()) as &[Option<String>],
        column!(|r| r.1.occurred_at) as &[DateTime<Utc>],
        column!(|r| r.1.metadata.clone()) as &[serde_json::Value],
        column!(|r| r.1.contact_name.clone()) as &[Option<String>],
        column!(|r| r.1.customer_id) as &[Option<i64>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! What is sealed with which key: the count that decides whether a key may go.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::StoreResult;
use super::resealing::{Book, hash_of, number_of, uuid_of};

/// The most rows of a page.
const COUNT_PAGE: i64 = 2000;

/// How many values of a book are sealed with which key, `None` for those in clear; empty ones do not
/// count. Goes through the whole book, page by page.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn count(
    conn: &mut PgConnection,
    book: Book,
) -> StoreResult<BTreeMap<Option<String>, i64>> {
    let mut counted = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page: Vec<CountRow> = match book {
            Book::Events => {
                sqlx::query_as!(
                    CountRow,
                    r#"with page as (select id, body, payload from communication_events
                                     where id > $1 order by id limit $2)
                       select (select id from page order by id desc limit 1)::text as last, v.key_id, count(v.is_value) as "values!"
                       from page left join lateral (
                           select hub_sealed_with(body) as key_id, true as is_value where octet_length(body) > 0
                           union all select hub_sealed_with(payload), true where payload is not null) v on true
                       group by v.key_id"#,
                    uuid_of(&after),
                    COUNT_PAGE,
                )
                .fetch_all(&mut *conn)
                .await?
            }
            Book::Deliveries => {
                sqlx::query_as!(
                    CountRow,
                    r#"with page as (select id, body_text from deliveries where id > $1 order by id limit $2)
                       select (select id from page order by id desc limit 1)::text as last,
                              hub_sealed_with(body_text) as key_id,
                              count(*) filter (where body_text <> '') as "values!"
                       from page group by 2"#,
                    uuid_of(&after),
                    COUNT_PAGE,
                )
                .fetch_all(&mut *conn)
                .await?
            }
            Book::Receipts => {
                sqlx::query_as!(
                    CountRow,
                    r#"with page as (select id, body_text from receipts where id > $1 order by id limit $2)
                       select (select id from page order by id desc limit 1)::text as last,
                              hub_sealed_with(body_text) as key_id,
                              count(*) filter (where body_text <> '') as "values!"
                       from page group by 2"#,
                    uuid_of(&after),
                    COUNT_PAGE,
                )
                .fetch_all(&mut *conn)
                .await?
            }
            Book::ChatMessages => {
                sqlx::query_as!(
                    CountRow,
                    r#"with page as (select id, content from chat_messages where id > $1 order by id limit $2)
                       select (select id from page order by id desc limit 1)::text as last,
                              hub_sealed_with(content) as key_id,
                              count(*) filter (where content <> '') as "values!"
                       from page group by 2"#,
                    number_of(&after),
                    COUNT_PAGE,
                )
                .fetch_all(&mut *conn)
                .await?
            }
            Book::Media => {
                sqlx::query_as!(
                    CountRow,
                    r#"with page as (select sha256, bytes from media where sha256 > $1 order by sha256 limit $2)
                       select encode((select sha256 from page order by sha256 desc limit 1), 'hex') as last,
                              hub_sealed_with(bytes) as key_id, count(*) as "values!"
                       from page group by 2"#,
                    hash_of(&after),
                    COUNT_PAGE,
                )
                .fetch_all(&mut *conn)
                .await?
            }
        };
        let Some(last) = page.first().and_then(|row| row.last.clone()) else {
            return Ok(counted);
        };
        after = last;
        for row in page {
            *counted.entry(row.key_id).or_default() += row.values;
        }
    }
}

struct CountRow {
    last: Option<String>,
    key_id: Option<String>,
    values: i64,
}

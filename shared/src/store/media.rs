//! `media`: files by the hash of their bytes, each once.

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreResult;
use crate::domain::event::InlineMedia;
use crate::sealing::{Column, Keyring, Place};

/// Where a file's bytes belong: half of its hash is as good as an id.
pub(super) fn place(sha256: &[u8]) -> Place {
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(sha256) {
        *to = *from;
    }
    Place::new(Column::MediaBytes, Uuid::from_bytes(id))
}

/// Keeps files that are not there yet, in the order of their hashes, so that two batches cannot deadlock.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn insert(
    conn: &mut PgConnection,
    mut files: Vec<&InlineMedia>,
    seals: &Keyring,
) -> StoreResult<()> {
    files.sort_by_key(|file| file.sha256);
    files.dedup_by_key(|file| file.sha256);
    if files.is_empty() {
        return Ok(());
    }
    macro_rules! column {
        ($map:expr) => {
            &files.iter().map($map).collect::<Vec<_>>()
        };
    }
    sqlx::query!(
        "insert into media (sha256, mime, size_bytes, bytes)
         select * from unnest($1::bytea[], $2::text[], $3::bigint[], $4::bytea[])
         on conflict (sha256) do nothing",
        column!(|file| file.sha256.to_vec()) as &[Vec<u8>],
        column!(|file| file.mime.to_owned()) as &[String],
        column!(|file| i64::try_from(file.bytes.len()).unwrap_or(i64::MAX)) as &[i64],
        column!(|file| seals
            .seal_bytes(place(&file.sha256), &file.bytes)
            .into_owned()) as &[Vec<u8>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A file that is kept.
#[derive(Clone, Debug)]
pub struct StoredMedia {
    /// Its MIME type, by its first bytes.
    pub mime: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// The file of that hash.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn find(
    conn: &mut PgConnection,
    sha256: &[u8],
    seals: &Keyring,
) -> StoreResult<Option<StoredMedia>> {
    let row = sqlx::query_as!(
        StoredMedia,
        "select mime, bytes from media where sha256 = $1",
        sha256,
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(StoredMedia {
            bytes: seals.open_bytes(place(sha256), row.bytes)?,
            mime: row.mime,
        })
    })
    .transpose()
}

//! What is kept beside a message on a thread, pure.

use serde_json::{Map, Value, json};
use shared::domain::event::{ContentKind, MediaRef, NormalisedEvent};

/// What a message's text does not tell: its kind, its file, and who of a group wrote it.
pub(super) fn of(event: &NormalisedEvent, content: ContentKind) -> Value {
    let mut metadata = Map::new();
    metadata.insert("content".to_owned(), json!(content.as_str()));
    if let Some(media) = &event.media {
        metadata.insert("media".to_owned(), media_metadata(media));
    }
    if let Some(participant) = event
        .contact
        .as_ref()
        .and_then(|contact| contact.participant.as_ref())
    {
        metadata.insert(
            "participant".to_owned(),
            json!(participant.jid.contact_key()),
        );
        metadata.insert("participant_name".to_owned(), json!(participant.name));
    }
    Value::Object(metadata)
}

/// A thumbnail is not the picture: that is still to be fetched.
fn media_metadata(media: &MediaRef) -> Value {
    let is_whole = media.is_inline && media.sha256.is_some();
    let mut told = json!({
        "kind": media.kind.as_str(),
        "mime": media.mime,
        "state": if is_whole { "stored" } else { "pending" },
    });
    if let Some(sha256) = &media.sha256 {
        let name = if is_whole {
            "sha256"
        } else {
            "thumbnail_sha256"
        };
        told[name] = json!(sha256);
    }
    told
}

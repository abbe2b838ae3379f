//! Files in payloads: the gateway puts whole voice notes, and thumbnails of pictures, as base64 where a text
//! should be (facts §1.4, Media). They are taken out before the event is stored, and kept by their hash.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::domain::event::InlineMedia;
use crate::domain::text::embedded_media;

/// With or without the padding: engines differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// The member that tells a reference. An object stands where only a text can: no contact can write one.
const REFERENCE: &str = "media_sha256";

/// Takes the files out of a value, wherever they stand, and leaves a reference in the place of each.
/// Answers each file once.
pub(super) fn take_out(value: &mut Value) -> Vec<InlineMedia> {
    let mut taken = Vec::new();
    walk(value, &mut taken);
    taken.sort_by_key(|media| media.sha256);
    taken.dedup_by_key(|media| media.sha256);
    taken
}

fn walk(value: &mut Value, taken: &mut Vec<InlineMedia>) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| walk(member, taken)),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, taken)),
        Value::String(text) => {
            let Some(media) = file(text) else { return };
            *value = json!({
                REFERENCE: hex::encode(media.sha256),
                "mime": media.mime,
                "bytes": media.bytes.len(),
            });
            taken.push(media);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The file that a text is; `None` for words, and for what does not decode: that stays as it came.
fn file(text: &str) -> Option<InlineMedia> {
    let mime = embedded_media(text)?;
    let text = text.trim();
    let encoded = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    let bytes = if encoded.contains(char::is_whitespace) {
        let dense: String = encoded.split_whitespace().collect();
        BASE64.decode(dense).ok()?
    } else {
        BASE64.decode(encoded).ok()?
    };
    (!bytes.is_empty()).then(|| InlineMedia {
        sha256: Sha256::digest(&bytes).into(),
        mime,
        bytes,
    })
}

/// What a reference tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// The hash, in hexadecimal.
    pub(super) sha256: &'a str,
    /// The MIME type.
    pub(super) mime: &'a str,
    /// The size of the file.
    pub(super) bytes: u64,
}

impl<'a> Reference<'a> {
    /// The reference that stands in the place of a text.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        Some(Self {
            sha256: value.get(REFERENCE)?.as_str()?,
            mime: value.get("mime")?.as_str()?,
            bytes: value.get("bytes")?.as_u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_out_wherever_they_stand_and_each_is_kept_once() {
        let ogg = "T2dnUwACAAAAAAAAAAAAAAAAAAAAAAA=";
        let mut value = json!({"message": {"text": ogg}, "raw": {"payload": {"body": ogg, "caption": "oi",
            "thumb": "data:image/png;base64,iVBORw0KGgo="}}, "list": ["/9j/AAECAwQFBgcICQoL\n"]});
        let taken = take_out(&mut value);
        assert_eq!(taken.len(), 3);
        let reference = Reference::of(&value["message"]["text"]).unwrap();
        assert_eq!((reference.mime, reference.bytes), ("audio/ogg", 23));
        assert_eq!(value["message"]["text"], value["raw"]["payload"]["body"]);
        assert_eq!(value["raw"]["payload"]["caption"], "oi");
        for media in &taken {
            let hash: [u8; 32] = Sha256::digest(&media.bytes).into();
            assert_eq!(media.sha256, hash);
        }
        assert!(!value.to_string().contains("base64"));
        assert!(
            take_out(&mut value).is_empty(),
            "nothing is left to be taken"
        );
        let voice = taken.iter().find(|media| media.mime == "audio/ogg");
        assert_eq!(
            format!("{:?}", voice.unwrap()),
            "InlineMedia(audio/ogg, 23 bytes)"
        );
    }

    #[test]
    fn words_and_what_does_not_decode_stay_as_they_came() {
        let words = json!([
            "Bom dia!",
            "/9j/ (base64 of the whole file)",
            "T2dnUwACAAAAA==A",
            "3EB0A80000000000000008"
        ]);
        let mut value = words.clone();
        assert!(take_out(&mut value).is_empty());
        assert_eq!(value, words);
    }

    #[test]
    fn a_text_is_no_reference_however_it_looks() {
        let forged = json!("{\"media_sha256\":\"00\",\"mime\":\"image/jpeg\",\"bytes\":1}");
        assert_eq!(Reference::of(&forged), None);
    }
}

//! The keys of a process: the first seals, each opens what it sealed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde_json::Value;
use uuid::Uuid;

use super::envelope::{self, Kept};
use super::place::{Column, Place};

/// How long a key is, in bytes.
pub const KEY_BYTES: usize = 32;
/// The longest id of a key, in characters.
pub const LONGEST_KEY_ID: usize = 32;
/// How long a nonce is, in bytes.
const NONCE_BYTES: usize = 24;
/// What is sealed to prove that a key is the one that the database knows by its id.
const PROOF: &[u8] = b"posto sealing key";

/// The keys cannot be used as they are: mend the setting, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not `id:key,id:key`.
    #[error("PAYLOAD_KEYS is no list like id:base64,id:base64 (entry {0})")]
    Form(usize),
    /// An id with other signs, or none.
    #[error("the id of a key has 1 to 32 of a-z, 0-9, - and _ (entry {0} of PAYLOAD_KEYS)")]
    Id(usize),
    /// Not 32 bytes of base64, or bytes that nobody drew.
    #[error("key {id} is not 32 random bytes in base64: make one with `openssl rand -base64 32`")]
    Key {
        /// The key's id.
        id: String,
    },
    /// One id names two keys.
    #[error("PAYLOAD_KEYS names key {id} twice")]
    Twice {
        /// The key's id.
        id: String,
    },
    /// `PAYLOAD_KEYS` and `PAYLOAD_KEYS_FILE`.
    #[error("set either PAYLOAD_KEYS or PAYLOAD_KEYS_FILE, not both")]
    Both,
    /// The file cannot be read.
    #[error("PAYLOAD_KEYS_FILE cannot be read: {0}")]
    File(String),
    /// The database holds values of a key that this process does not have.
    #[error(
        "the database holds what is sealed with key {id}, and PAYLOAD_KEYS does not name it: add it behind the first, or end its use (`ingest admin sealing status`)"
    )]
    Missing {
        /// The key's id.
        id: String,
    },
    /// The key of that id is another one than the database was sealed with.
    #[error(
        "key {id} of PAYLOAD_KEYS is not the key that the database was sealed with under that id: nothing would open; give the right one back"
    )]
    Wrong {
        /// The key's id.
        id: String,
    },
}

/// A sealed value does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This process does not have the key: start it with the key, the value is whole.
    #[error("it is sealed with key {id}, which PAYLOAD_KEYS does not name")]
    NoKey {
        /// The key's id.
        id: String,
    },
    /// It was changed, or belongs to another row: look for its copy in a backup.
    #[error("it does not open with key {id}: it was changed, or is not of this row")]
    Damaged {
        /// The key's id.
        id: String,
    },
    /// A newer version of the form: run a newer binary.
    #[error("it is kept in a form that this version does not know")]
    UnknownForm,
}

impl OpenError {
    /// True when the same value opens later: with the key, or in a newer binary.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::Damaged { .. })
    }
}

/// A key that the database knows: what it sealed may still be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id.
    pub id: String,
    /// A known value, sealed with it.
    pub proof: Vec<u8>,
}

/// The keys of a process; none: nothing is sealed. Cheap to clone, prints ids only.
#[derive(Clone, Default)]
pub struct Keyring(Option<Arc<[Key]>>);

struct Key {
    id: String,
    header: String,
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// No keys: what is written stays in clear.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Reads `id:base64,id:base64`; the first seals. Line breaks separate as commas do. Nothing in it
    /// means no keys.
    ///
    /// # Errors
    /// The list cannot be read, or a key is none.
    pub fn parse(list: &str) -> Result<Self, KeyringError> {
        let mut keys: Vec<Key> = Vec::new();
        let entries = list.split([',', '\n']).map(str::trim);
        for (place, entry) in (1..).zip(entries.filter(|entry| !entry.is_empty())) {
            let (id, secret) = entry.split_once(':').ok_or(KeyringError::Form(place))?;
            if !is_key_id(id) {
                return Err(KeyringError::Id(place));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(KeyringError::Twice { id: id.to_owned() });
            }
            keys.push(Key::new(id, secret.trim())?);
        }
        Ok(Self((!keys.is_empty()).then(|| keys.into())))
    }

    /// The id of the key that seals; `None` where nothing is sealed.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.keys().first().map(|key| key.id.as_str())
    }

    /// The ids of all keys, the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys().iter().map(|key| key.id.as_str())
    }

    fn keys(&self) -> &[Key] {
        self.0.as_deref().unwrap_or_default()
    }

    /// What is to be kept of bytes.
    #[must_use]
    pub fn seal_bytes<'a>(&self, place: Place, clear: &'a [u8]) -> Cow<'a, [u8]> {
        match self.keys().first() {
            // An empty value tells nothing, and SQL may ask for it.
            Some(key) if !clear.is_empty() => {
                let mut kept = key.header.clone().into_bytes();
                kept.extend(key.seal(place, clear));
                Cow::Owned(kept)
            }
            _ if envelope::looks_kept(clear) => {
                Cow::Owned([envelope::clear_header().as_bytes(), clear].concat())
            }
            _ => Cow::Borrowed(clear),
        }
    }

    /// What is to be kept of a text.
    #[must_use]
    pub fn seal_text<'a>(&self, place: Place, clear: &'a str) -> Cow<'a, str> {
        match self.keys().first() {
            Some(key) if !clear.is_empty() => {
                Cow::Owned(key.header.clone() + &STANDARD.encode(key.seal(place, clear.as_bytes())))
            }
            _ if envelope::looks_kept(clear.as_bytes()) => {
                Cow::Owned(envelope::clear_header() + clear)
            }
            _ => Cow::Borrowed(clear),
        }
    }

    /// What is to be kept of a JSON value: sealed, it is a JSON text.
    #[must_use]
    pub fn seal_json<'a>(&self, place: Place, clear: &'a Value) -> Cow<'a, Value> {
        match (self.active(), clear) {
            (Some(_), clear) => {
                let text = clear.to_string();
                Cow::Owned(Value::String(self.seal_text(place, &text).into_owned()))
            }
            (None, Value::String(text)) if envelope::looks_kept(text.as_bytes()) => {
                Cow::Owned(Value::String(envelope::clear_header() + text))
            }
            (None, clear) => Cow::Borrowed(clear),
        }
    }

    /// The bytes that are kept so.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_bytes(&self, place: Place, kept: Vec<u8>) -> Result<Vec<u8>, OpenError> {
        match envelope::read(&kept) {
            Kept::Clear(clear) if clear.len() == kept.len() => Ok(kept),
            Kept::Clear(clear) => Ok(clear.to_vec()),
            Kept::Sealed {
                header,
                key_id,
                rest,
            } => self.key(key_id)?.open(place, header, rest),
            Kept::Unknown => Err(OpenError::UnknownForm),
        }
    }

    /// The text that is kept so.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_text(&self, place: Place, kept: String) -> Result<String, OpenError> {
        match envelope::read(kept.as_bytes()) {
            Kept::Clear(clear) if clear.len() == kept.len() => Ok(kept),
            // Cut behind ASCII, so that it is a text still.
            Kept::Clear(clear) => Ok(String::from_utf8_lossy(clear).into_owned()),
            Kept::Sealed {
                header,
                key_id,
                rest,
            } => {
                let key = self.key(key_id)?;
                let sealed = STANDARD.decode(rest).map_err(|_| key.damaged())?;
                let clear = key.open(place, header, &sealed)?;
                String::from_utf8(clear).map_err(|_| key.damaged())
            }
            Kept::Unknown => Err(OpenError::UnknownForm),
        }
    }

    /// The JSON value that is kept so.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_json(&self, place: Place, kept: Value) -> Result<Value, OpenError> {
        let Value::String(text) = kept else {
            return Ok(kept);
        };
        let Some(id) = envelope::sealed_with(text.as_bytes()).map(str::to_owned) else {
            return self.open_text(place, text).map(Value::String);
        };
        let clear = self.open_text(place, text)?;
        serde_json::from_str(&clear).map_err(|_| OpenError::Damaged { id })
    }

    /// A known value sealed with the key that seals, for others to prove their key by.
    #[must_use]
    pub fn proof(&self) -> Option<Registered> {
        let id = self.active()?.to_owned();
        let proof = self.seal_bytes(proof_place(), PROOF).into_owned();
        Some(Registered { id, proof })
    }

    /// Whether this process may work with a database that knows these keys: it must have each of them, and
    /// none under a wrong id.
    ///
    /// # Errors
    /// [`KeyringError::Missing`] or [`KeyringError::Wrong`]: do not start, a person has to give the keys back.
    pub fn check(&self, registered: &[Registered]) -> Result<(), KeyringError> {
        for known in registered {
            let id = known.id.clone();
            if !self.ids().any(|own| own == id) {
                return Err(KeyringError::Missing { id });
            }
            let named_by_itself = envelope::sealed_with(&known.proof) == Some(id.as_str());
            match self.open_bytes(proof_place(), known.proof.clone()) {
                Ok(proof) if named_by_itself && proof == PROOF => {}
                _ => return Err(KeyringError::Wrong { id }),
            }
        }
        Ok(())
    }

    fn key(&self, id: &str) -> Result<&Key, OpenError> {
        let found = self.keys().iter().find(|key| key.id == id);
        found.ok_or_else(|| OpenError::NoKey { id: id.to_owned() })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Key {
    fn new(id: &str, secret: &str) -> Result<Self, KeyringError> {
        let unfit = || KeyringError::Key { id: id.to_owned() };
        let bytes = STANDARD.decode(secret).map_err(|_| unfit())?;
        // Equal bytes are a placeholder that somebody forgot.
        let drawn = bytes.iter().any(|byte| *byte != bytes[0]);
        if bytes.len() != KEY_BYTES || !drawn {
            return Err(unfit());
        }
        Ok(Self {
            id: id.to_owned(),
            header: envelope::header(id),
            cipher: XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| unfit())?,
        })
    }

    fn seal(&self, place: Place, clear: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let bound = place.bound_to(self.header.as_bytes());
        let payload = Payload {
            msg: clear,
            aad: &bound,
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .expect("because only 256 GiB are too much for the cipher");
        [&nonce[..], &sealed].concat()
    }

    fn open(&self, place: Place, header: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (nonce, sealed) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(|| self.damaged())?;
        let bound = place.bound_to(header);
        let payload = Payload {
            msg: sealed,
            aad: &bound,
        };
        self.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| self.damaged())
    }

    fn damaged(&self) -> OpenError {
        OpenError::Damaged {
            id: self.id.clone(),
        }
    }
}

const fn proof_place() -> Place {
    Place::new(Column::Proof, Uuid::nil())
}

fn is_key_id(id: &str) -> bool {
    let lawful = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    !id.is_empty() && id.len() <= LONGEST_KEY_ID && id.chars().all(lawful)
}

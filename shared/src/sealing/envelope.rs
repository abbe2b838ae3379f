//! The form of a sealed value, `MARK 1 : key id : nonce ciphertext tag`; what follows the second colon is
//! bytes in a column of bytes, and base64 in a column of text.
//!
//! A value in clear is kept as it is. One that happens to begin with the mark is kept behind `MARK 0 :`, so
//! that nobody can pass a text for a sealed one. SQL reads the key's id too: `hub_sealed_with` in the
//! migrations.

/// Begins whatever is not kept as it came. A control character: no JSON begins with it, nor does what
/// people write.
pub(super) const MARK: &str = "\u{2}PS";
/// Behind the mark: in clear after all.
const CLEAR: &str = "0:";
/// Behind the mark: sealed, in the first version of the form.
const SEALED: &str = "1:";

/// A value as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept<'a> {
    /// In clear.
    Clear(&'a [u8]),
    /// Sealed.
    Sealed {
        /// Everything before the nonce.
        header: &'a [u8],
        /// The id of the key.
        key_id: &'a str,
        /// Nonce, ciphertext and tag, or their base64.
        rest: &'a [u8],
    },
    /// Behind a mark that this binary does not know: of a newer one.
    Unknown,
}

/// Tells what a kept value is.
pub(super) fn read(kept: &[u8]) -> Kept<'_> {
    let Some(behind) = kept.strip_prefix(MARK.as_bytes()) else {
        return Kept::Clear(kept);
    };
    if let Some(clear) = behind.strip_prefix(CLEAR.as_bytes()) {
        return Kept::Clear(clear);
    }
    let sealed = behind.strip_prefix(SEALED.as_bytes()).and_then(|named| {
        let end = named.iter().position(|b| *b == b':')?;
        let key_id = std::str::from_utf8(&named[..end]).ok()?;
        let rest = &named[end + 1..];
        let header = &kept[..kept.len() - rest.len()];
        Some(Kept::Sealed {
            header,
            key_id,
            rest,
        })
    });
    sealed.unwrap_or(Kept::Unknown)
}

/// The id of the key that a kept value is sealed with; `None` for what is in clear.
#[must_use]
pub fn sealed_with(kept: &[u8]) -> Option<&str> {
    match read(kept) {
        Kept::Sealed { key_id, .. } => Some(key_id),
        Kept::Clear(_) | Kept::Unknown => None,
    }
}

/// Whether a value in clear has to be kept behind a mark.
pub(super) fn looks_kept(clear: &[u8]) -> bool {
    clear.starts_with(MARK.as_bytes())
}

/// The header of a value in clear that [`looks_kept`].
pub(super) fn clear_header() -> String {
    format!("{MARK}{CLEAR}")
}

/// The header of a value sealed with that key.
pub(super) fn header(key_id: &str) -> String {
    format!("{MARK}{SEALED}{key_id}:")
}

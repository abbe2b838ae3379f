//! Bodies that providers cannot mend: what Node writes and a proxy cuts.

use std::borrow::Cow;

/// Node writes half of a surrogate pair as an escape when it cut a text within an emoji; and a
/// proxy may cut within a character. Both become U+FFFD, so that the message is not lost.
pub(super) fn mend(bytes: &[u8]) -> Cow<'_, [u8]> {
    let text = match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => Cow::Borrowed(bytes),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    if !text
        .windows(3)
        .any(|w| matches!(w, [b'\\', b'u', b'd' | b'D']))
    {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (unit, width) = match (text[at], escape_at(&text, at)) {
            (b'\\', None) => (None, 2),
            (_, None) => (None, 1),
            (_, Some(unit)) => (Some(unit), 6),
        };
        let pair = |unit| {
            matches!(unit, 0xD800..=0xDBFF)
                && matches!(escape_at(&text, at + 6), Some(0xDC00..=0xDFFF))
        };
        let end = text.len();
        match unit {
            Some(unit) if pair(unit) => {
                out.extend_from_slice(&text[at..at + 12]);
                at += 12;
            }
            Some(0xD800..=0xDFFF) => {
                out.extend_from_slice(br"\ufffd");
                at += width;
            }
            _ => {
                out.extend_from_slice(&text[at..end.min(at + width)]);
                at += width;
            }
        }
    }
    Cow::Owned(out)
}

/// The code unit of a `\uXXXX` escape that starts here.
fn escape_at(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..)?.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

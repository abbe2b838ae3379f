//! Texts that people wrote: carried without being printed, and told from bytes in disguise.

use std::fmt;

/// The words of a message. Printing it tells its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    /// The text without NUL characters, which PostgreSQL cannot hold; `None` when nothing
    /// readable is left.
    #[must_use]
    pub fn new(raw: &str) -> Option<Self> {
        let text = without_nul(raw);
        (!text.trim().is_empty()).then_some(Self(text))
    }

    /// The words, in clear: for a thread or a send, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageText({} chars)", self.0.chars().count())
    }
}

/// The text without NUL characters.
#[must_use]
pub fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// A name as sessions and channels compare: lower case, without white space ("Pixel12 Digital"
/// is `pixel12digital`, facts §1.1). Accents stay, they tell channels apart.
#[must_use]
pub fn fold_name(raw: &str) -> String {
    raw.chars()
        .filter(|c| !c.is_whitespace() && *c != '\0')
        .flat_map(char::to_lowercase)
        .collect()
}

/// The MIME type of a file that stands as base64 where a text should be; `None` for words.
///
/// Gateways put whole voice notes and picture thumbnails there (facts §1.4, Media). A known
/// magic, a `data:` URL, or a long text of the base64 alphabet alone tells.
#[must_use]
pub fn embedded_media(text: &str) -> Option<&'static str> {
    const LONG: usize = 256;
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("data:") {
        let head = rest.get(..rest.len().min(100)).unwrap_or(rest);
        return head.contains(";base64,").then(|| mime_of_data_url(rest));
    }
    if text.len() < 12 || !is_base64(text) {
        return None;
    }
    let known = MAGICS
        .iter()
        .find(|(magic, _)| text.starts_with(magic))
        .map(|(_, mime)| *mime);
    known.or_else(|| {
        (text.len() >= LONG && looks_random(text)).then_some("application/octet-stream")
    })
}

/// First bytes of the files that are met, as base64 spells them.
const MAGICS: [(&str, &str); 9] = [
    ("T2dnUw", "audio/ogg"),
    ("/9j/", "image/jpeg"),
    ("iVBORw0KGgo", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
    ("SUQz", "audio/mpeg"),
    ("AAAAIGZ0eX", "video/mp4"),
    ("AAAAHGZ0eX", "video/mp4"),
];

fn is_base64(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\r' | b'\n'))
}

/// People laugh at length ("kkkk…"), but not with half the alphabet.
fn looks_random(text: &str) -> bool {
    let mut seen = [false; 256];
    text.bytes().for_each(|b| seen[usize::from(b)] = true);
    seen.iter().filter(|seen| **seen).count() >= 24
}

fn mime_of_data_url(rest: &str) -> &'static str {
    match rest.split([';', '/']).next() {
        Some("audio") => "audio/ogg",
        Some("image") => "image/jpeg",
        Some("video") => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_prints_its_length_only() {
        let text = MessageText::new("olá\0!").unwrap();
        assert_eq!(format!("{text:?}"), "MessageText(4 chars)");
        assert_eq!(text.expose(), "olá!");
        assert_eq!(MessageText::new(" \0\n"), None);
    }

    #[test]
    fn names_fold_without_spaces_and_capitals_but_with_accents() {
        assert_eq!(fold_name("Pixel12 Digital"), "pixel12digital");
        assert_eq!(fold_name("Canal Com Espaço"), "canalcomespaço");
    }

    #[test]
    fn files_in_the_place_of_words_are_told_from_words() {
        for (text, wanted) in [
            ("T2dnUwACAAAAAAAAAAAAAAAAAAAAAAA=", Some("audio/ogg")),
            ("/9j/AAECAwQFBgcICQoL", Some("image/jpeg")),
            ("data:image/png;base64,iVBORw0KGgo=", Some("image/jpeg")),
            ("data: amanhã às 10", None),
            ("Bom dia!", None),
            ("/9j/", None),
            ("T2dnUw é o começo de um OGG", None),
            ("pneumoultramicroscopicossilicovulcanoconiotico", None),
        ] {
            assert_eq!(embedded_media(text), wanted, "{text}");
        }
        assert!(embedded_media(&"ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7".repeat(9)).is_some());
        assert!(embedded_media(&"kkk ".repeat(100)).is_none());
        assert!(embedded_media(&"k".repeat(300)).is_none());
    }
}

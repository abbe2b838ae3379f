//! The page of a service order's chat. Pure: data in, HTML out; every text of a person is escaped.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use shared::store::chat_reading::ChatLine;
use shared::store::service_orders::Order;

const PAGE: &str = include_str!("page/order.html");
const SCRIPT: &str = include_str!("page/order.js");
const STYLE: &str = include_str!("page/order.css");

/// What the browser may do on the page: its own script and style, told by their hashes, and requests to
/// where it came from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let (script, style) = (hash(SCRIPT), hash(STYLE));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
});

/// The value of `Content-Security-Policy`.
pub(super) fn policy() -> HeaderValue {
    HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The page of an order. Who came without the order's token only reads: the page has nothing to write with.
pub(super) fn of(order: &Order, thread: i64, lines: &[ChatLine], can_write: bool) -> String {
    let last = lines.iter().map(|line| line.id).max().unwrap_or_default();
    let messages: String = lines.iter().map(message).collect();
    let name = order.customer_name.as_deref().unwrap_or_default();
    let greeting = if name.is_empty() {
        "Olá!".to_owned()
    } else {
        format!("Olá, {}!", escape(name))
    };
    fill(
        PAGE,
        &[
            ("style", STYLE),
            ("script", SCRIPT),
            ("order", &order.id.to_string()),
            ("status", &escape(&order.status)),
            ("greeting", &greeting),
            ("thread", &thread.to_string()),
            ("last", &last.to_string()),
            ("messages", &messages),
            ("form", if can_write { "" } else { "hidden" }),
            ("reading", if can_write { "hidden" } else { "" }),
        ],
    )
}

fn message(line: &ChatLine) -> String {
    let side = if line.role == "user" { "user" } else { "team" };
    let at = line.created_at.to_rfc3339();
    format!(
        "<li class=\"{side}\" data-event=\"{}\"><p>{}</p><time datetime=\"{at}\"></time></li>",
        line.event_id,
        escape(&line.content)
    )
}

/// Puts values where the page names them, in one go: what a value holds is never looked through.
fn fill(page: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(page.len() * 2);
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once("}}") else {
            rest = after;
            break;
        };
        let value = values.iter().find(|(own, _)| *own == name.trim());
        filled.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            sign => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use shared::domain::ids::EventId;

    use super::*;

    fn order(name: &str) -> Order {
        Order {
            id: 77,
            tenant_id: None,
            status: "aberto".to_owned(),
            customer_name: Some(name.to_owned()),
            thread_id: Some(5),
        }
    }

    fn line(role: &str, content: &str) -> ChatLine {
        ChatLine {
            id: 9,
            thread_id: 5,
            role: role.to_owned(),
            content: content.to_owned(),
            event_id: EventId::generate().0,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_people_write_never_becomes_part_of_the_page() {
        let hostile = "<script>alert('x')</script> {{thread}} & \"y\"";
        let page = of(&order(hostile), 5, &[line("user", hostile)], true);
        let written =
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; {{thread}} &amp; &quot;y&quot;";
        assert_eq!(page.matches(written).count(), 2, "the name and the message");
        assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    }

    #[test]
    fn every_place_of_the_page_is_filled() {
        let page = of(&order("Ana"), 5, &[line("assistant", "Oi")], true);
        assert!(!page.contains("{{") && !page.contains("}}"), "{page}");
        for piece in [
            "Olá, Ana!",
            "Pedido 77",
            "data-thread=\"5\"",
            "data-last=\"9\"",
            "class=\"team\"",
        ] {
            assert!(page.contains(piece), "{piece} in {page}");
        }
    }

    #[test]
    fn the_policy_names_the_scripts_and_the_styles_own_hashes() {
        let policy = policy();
        let policy = policy.to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(policy.starts_with("default-src 'none'"));
    }

    #[test]
    fn who_came_without_a_token_has_nothing_to_write_with() {
        assert!(of(&order("Ana"), 5, &[], false).contains("<form id=\"write\" hidden>"));
        assert!(of(&order("Ana"), 5, &[], true).contains("<form id=\"write\" >"));
    }
}

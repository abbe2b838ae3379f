//! The events that PixelHub's addresses make, and what makes two of them one. Pure.

use serde_json::{Value, json};
use shared::domain::address::{Phone, contact_key_of};
use shared::domain::event::{Body, Direction, IncomingEvent, Key, body_sha256, canonical_sha256};
use shared::domain::ids::TenantId;

use super::SOURCE;
use super::answers::Refusal;
use super::params::Params;

/// A person sent a WhatsApp message by hand, and PixelHub tells of it.
pub(super) const LOGGED: &str = "whatsapp.message.logged";
/// A customer wrote in the chat of a service order.
pub(super) const RECEIVED: &str = "chat.message.received";
/// The chat of a service order was opened for the first time.
pub(super) const OPENED: &str = "chat.thread.opened";

/// The longest text that is taken, in characters. WhatsApp's own limit is 65,536; nobody types as much.
pub(super) const LONGEST_TEXT: usize = 10_000;
/// The longest name of a template, in characters.
pub(super) const LONGEST_NAME: usize = 200;

/// A message that was sent by hand.
#[derive(Clone, PartialEq)]
pub(super) struct Logged {
    pub(super) tenant: TenantId,
    payload: Value,
    contact_key: String,
}

impl Logged {
    /// # Errors
    /// The parameter at fault.
    pub(super) fn read(params: &Params) -> Result<Self, Refusal> {
        let tenant = params
            .number("tenant_id")
            .ok_or(Refusal::Invalid("tenant_id", "tenant_id é obrigatório"))?;
        let raw = params
            .text_or_number("phone_raw")
            .ok_or(Refusal::Invalid("phone_raw", "phone_raw é obrigatório"))?;
        let phone = Phone::parse_brazil(&raw)
            .map_err(|_| Refusal::Invalid("phone_raw", "Telefone inválido"))?;
        let message = text(params, "message")?;
        let template = match params.has("template_id") {
            false => None,
            true => Some(
                params
                    .number("template_id")
                    .ok_or(Refusal::Invalid("template_id", "Template inválido"))?,
            ),
        };
        let name = params.text("template_name");
        if name.is_some_and(|name| !is_lawful(name, LONGEST_NAME)) {
            return Err(Refusal::Invalid("template_name", "Template inválido"));
        }
        Ok(Self {
            tenant: TenantId(tenant),
            payload: json!({"phone": raw, "message": message, "template_id": template, "template_name": name}),
            contact_key: contact_key_of(&phone),
        })
    }

    /// The event. PixelHub gives a log no id: without a key of the caller's, what says the same within
    /// 24 hours is a repeat, as at the generic door.
    pub(super) fn event(self, key: Option<&str>) -> IncomingEvent {
        let key = match key {
            Some(key) => Key::caller(format!("generic-log:{key}")),
            None => Key::content(canonical_sha256(&json!({
                "event_type": LOGGED, "tenant_id": self.tenant.0, "payload": self.payload,
            }))),
        };
        IncomingEvent {
            direction: Some(Direction::Outbound),
            contact_key: Some(self.contact_key),
            ..event(LOGGED, Some(self.tenant), self.payload, Some(key))
        }
    }
}

/// What a customer wrote.
///
/// # Errors
/// There is no text, or it is too long.
pub(super) fn text<'a>(params: &'a Params, name: &'static str) -> Result<&'a str, Refusal> {
    let text = params
        .text(name)
        .ok_or(Refusal::Invalid(name, "message é obrigatório"))?;
    if is_lawful(text, LONGEST_TEXT) {
        Ok(text)
    } else {
        Err(Refusal::Invalid(
            name,
            "A mensagem é longa demais ou tem caracteres inválidos",
        ))
    }
}

/// The event of a chat message. Equal words are no repeat: a customer says "sim" to each question, so a
/// message without a key is a message of its own. A key is the chat's: nobody meets another's.
pub(super) fn received(
    (thread, order): (i64, Option<i64>),
    tenant: Option<TenantId>,
    text: &str,
    key: Option<&str>,
) -> IncomingEvent {
    let payload = json!({"thread_id": thread, "order_id": order, "role": "user", "text": text});
    let key = key.map(|key| Key::caller(format!("chat:{thread}:{key}")));
    IncomingEvent {
        direction: Some(Direction::Inbound),
        ..event(RECEIVED, tenant, payload, key)
    }
}

/// The event of a chat that was opened: once for each order.
pub(super) fn opened(order: i64, tenant: Option<TenantId>) -> IncomingEvent {
    let key = Key::natural(format!("chat:order:{order}:opened"));
    event(OPENED, tenant, json!({"order_id": order}), Some(key))
}

/// PostgreSQL holds no U+0000, and a person types none.
fn is_lawful(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.contains('\0')
}

/// What is kept as the body is what was read: a request may carry an order's token besides.
fn event(
    event_type: &str,
    tenant_id: Option<TenantId>,
    payload: Value,
    key: Option<Key>,
) -> IncomingEvent {
    IncomingEvent {
        source_system: SOURCE.to_owned(),
        event_type: event_type.to_owned(),
        source_event_id: None,
        key,
        body_sha256: body_sha256(event_type, tenant_id, &payload),
        tenant_id,
        trace_id: None,
        correlation_id: None,
        causation_id: None,
        occurred_at: None,
        body: Body::Redacted(payload.to_string().into_bytes()),
        payload: Some(payload),
        metadata: json!({}),
        provider_message_id: None,
        channel_account: None,
        direction: None,
        contact_key: None,
        invoice_key: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &str) -> Params {
        Params::of_pairs(pairs.as_bytes())
    }

    const GOOD: &str = "tenant_id=1&phone_raw=(47)+99990-0011&message=Bom+dia";

    #[test]
    fn a_log_needs_tenant_phone_and_message_and_takes_a_template() {
        for (pairs, wrong) in [
            (GOOD.to_owned(), None),
            (format!("{GOOD}&template_id=3"), None),
            (format!("{GOOD}&template_id="), None),
            (GOOD.replace("tenant_id=1", ""), Some("tenant_id")),
            (
                GOOD.replace("tenant_id=1", "tenant_id=x"),
                Some("tenant_id"),
            ),
            (GOOD.replace("(47)+99990-0011", ""), Some("phone_raw")),
            (GOOD.replace("(47)+99990-0011", "123"), Some("phone_raw")),
            (GOOD.replace("Bom+dia", "+"), Some("message")),
            (GOOD.replace("Bom+dia", "a%00b"), Some("message")),
            (
                GOOD.replace("Bom+dia", &"x".repeat(10_001)),
                Some("message"),
            ),
            (format!("{GOOD}&template_id=abc"), Some("template_id")),
            (format!("{GOOD}&template_id=0"), Some("template_id")),
            (format!("{GOOD}&template_name=a%00"), Some("template_name")),
        ] {
            let read = Logged::read(&params(&pairs));
            let fault = read.as_ref().err().and_then(Refusal::parameter);
            assert_eq!(
                fault,
                wrong,
                "{}",
                pairs.chars().take(80).collect::<String>()
            );
            assert_eq!(read.is_ok(), wrong.is_none());
        }
    }

    #[test]
    fn a_log_without_a_key_is_known_by_its_content_and_the_address_stays_as_it_was_given() {
        let log = |pairs: &str, key| Logged::read(&params(pairs)).ok().unwrap().event(key);
        let one = log(GOOD, None);
        assert_eq!(one.payload.as_ref().unwrap()["phone"], "(47) 99990-0011");
        assert_eq!(one.contact_key.as_deref(), Some("tel:554799900011"));
        assert_eq!(one.key, log(GOOD, None).key);
        assert_ne!(one.key, log(&GOOD.replace("dia", "tarde"), None).key);
        assert_ne!(
            one.key,
            log(&GOOD.replace("tenant_id=1", "tenant_id=2"), None).key
        );
        let key = log(GOOD, Some("k1")).key.unwrap();
        assert_eq!(key.expose(), "generic-log:k1");
    }

    #[test]
    fn chat_messages_meet_only_by_a_key_of_their_own_chat() {
        let write = |thread, key| received((thread, Some(9)), None, "sim", key).key;
        assert_eq!(write(1, None), None);
        assert_eq!(write(1, Some("k")), write(1, Some("k")));
        assert_ne!(write(1, Some("k")), write(2, Some("k")));
        assert_eq!(opened(9, None).key, opened(9, Some(TenantId(1))).key);
        assert_ne!(opened(9, None).key, opened(10, None).key);
    }

    #[test]
    fn what_is_kept_as_the_body_is_the_payload_alone() {
        let event = received((1, None), None, "oi", None);
        let Body::Redacted(body) = &event.body else {
            panic!("the request itself is kept")
        };
        let kept: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(Some(kept), event.payload);
    }
}

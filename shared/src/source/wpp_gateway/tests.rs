mod properties;
mod samples;
mod shapes;

use super::*;
use crate::domain::event::NormalisedKind;

macro_rules! fixtures {
    ($($folder:literal / $name:literal),+ $(,)?) => {
        /// Every sample, by its name.
        const FIXTURES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../fixtures/", $folder, "/", $name, ".json")))),+
        ];
    };
}

fixtures! {
    "wpp_gateway"/"01_wpp_text_known_tenant_no_ninth_digit",
    "wpp_gateway"/"03_wpp_text_lid_sender_mapped",
    "wpp_gateway"/"04_wpp_text_lid_sender_unmapped",
    "wpp_gateway"/"05_wpp_group_text_lid_author",
    "wpp_gateway"/"08_wpp_image_thumbnail_in_text_with_caption",
    "wpp_gateway"/"10_wpp_fromme_typed_on_phone",
    "wpp_gateway"/"11_wpp_message_sent_echo_of_api_send",
    "wpp_gateway"/"12_wpp_ciphertext_placeholder_first",
    "wpp_gateway"/"13_wpp_ciphertext_resolved_chat_same_id",
    "wpp_gateway"/"15_wpp_ack_2_delivered",
    "wpp_gateway"/"17_wpp_ack_1_late_must_not_regress",
    "wpp_gateway"/"19_wpp_connection_update_is_contact_presence",
    "wpp_gateway"/"20_wpp_connection_update_session_dropped",
    "wpp_gateway"/"22_wpp_text_phone_matches_two_tenants",
    "wpp_gateway"/"25_wpp_e2e_notification_no_conversation",
    "wpp_gateway"/"27_wpp_minimal_shape_channel_key",
    "wpp_gateway"/"connection-update-presence-trap",
    "wpp_gateway"/"connection-update-session-down",
    "wpp_gateway"/"message-ack",
    "wpp_gateway"/"message-audio-base64-in-text",
    "wpp_gateway"/"message-group",
    "wpp_gateway"/"message-text-lid",
    "wppconnect"/"closesession",
    "wppconnect"/"incomingcall",
    "wppconnect"/"logoutsession",
    "wppconnect"/"onack-delivered",
    "wppconnect"/"onack-of-received-message",
    "wppconnect"/"onmessage-chat",
    "wppconnect"/"onmessage-chat-chatid-object",
    "wppconnect"/"onmessage-image-autodownload",
    "wppconnect"/"onpresencechanged",
    "wppconnect"/"onreactionmessage",
    "wppconnect"/"onrevokedmessage",
    "wppconnect"/"phonecode",
    "wppconnect"/"qrcode",
    "wppconnect"/"status-find-disconnected",
    "wppconnect"/"status-find-inchat",
    "wppconnect"/"status-find-without-session",
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_770_301_000, 0).unwrap()
}

fn sample(name: &str) -> &'static [u8] {
    let found = FIXTURES.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("no sample {name}"))
        .1
        .as_bytes()
}

fn event_of(body: &[u8]) -> IncomingEvent {
    match WppGateway.read(body, now()).unwrap() {
        Reading::Events(mut events) if events.len() == 1 => events.remove(0),
        other => panic!("one event, not {other:?}"),
    }
}

fn normalised_of(event: &IncomingEvent, received: &[u8]) -> NormalisedEvent {
    let body = match &event.body {
        Body::AsReceived => received,
        Body::Redacted(bytes) | Body::Lightened { body: bytes, .. } => bytes,
    };
    WppGateway
        .normalise(&StoredEvent {
            source_system: &event.source_system,
            event_type: &event.event_type,
            tenant_id: event.tenant_id,
            payload: event.payload.as_ref(),
            body,
            occurred_at: event.occurred_at,
            received_at: now(),
        })
        .unwrap()
}

/// The event and what the router makes of it.
fn story(body: &[u8]) -> (IncomingEvent, NormalisedEvent) {
    let event = event_of(body);
    let normalised = normalised_of(&event, body);
    (event, normalised)
}

fn told(name: &str) -> (IncomingEvent, NormalisedEvent) {
    story(sample(name))
}

fn of(value: Value) -> (IncomingEvent, NormalisedEvent) {
    story(value.to_string().as_bytes())
}

fn key(event: &IncomingEvent) -> &str {
    event.key.as_ref().unwrap().expose()
}

fn words(normalised: &NormalisedEvent) -> Option<&str> {
    normalised.text.as_ref().map(|text| text.expose())
}

/// All that is read, in clear: the samples' data is invented.
fn summary(body: &[u8]) -> Value {
    let reading = WppGateway.read(body, now()).unwrap();
    if let Reading::Drop(reason) = reading {
        return json!({ "dropped": reason.as_str() });
    }
    let (event, read) = story(body);
    json!({
        "event_type": event.event_type,
        "key": key(&event),
        "origin": format!("{:?}", event.key.as_ref().unwrap().origin()),
        "source_event_id": event.source_event_id,
        "correlation_id": event.correlation_id,
        "occurred_at": event.occurred_at,
        "provider_message_id": event.provider_message_id,
        "channel_account": event.channel_account,
        "direction": event.direction.map(Direction::as_str),
        "contact_key": event.contact_key,
        "metadata": event.metadata,
        "redacted_body": event.redacted_body(),
        "payload_kept_whole": event.payload == serde_json::from_slice(body).ok(),
        "normalised": {
            "text": words(&read),
            "contact": read.contact.as_ref().map(|contact| json!({
                "address": contact.address,
                "phone": contact.phone.as_ref().map(|phone| phone.expose()),
                "contact_key": contact.contact_key,
                "name": contact.name,
                "is_group": contact.is_group,
                "participant": contact.participant.as_ref().map(|p| json!([p.jid.expose(), p.name])),
            })),
            "media": read.media.as_ref().map(|media| json!({
                "kind": media.kind.as_str(),
                "mime": media.mime,
                "bytes": media.bytes,
                "file_name": media.file_name,
                "message_id": media.message_id,
                "is_inline": media.is_inline,
                "sha256": media.sha256,
            })),
            "kind": format!("{:?}", read.kind),
        }
    })
}

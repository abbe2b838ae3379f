//! What each sample must become.

use super::*;
use crate::domain::delivery::Evidence;
use crate::domain::event::{ContentKind, SentMessage, SessionState};

#[test]
fn every_sample_becomes_what_its_snapshot_says() {
    for (name, text) in FIXTURES {
        insta::assert_json_snapshot!(*name, summary(text.as_bytes()));
    }
}

#[test]
fn no_sample_is_left_out_and_each_of_the_index_has_its_own_test() {
    let own = include_str!("samples.rs");
    let mut found = 0;
    for folder in ["wpp_gateway", "wppconnect"] {
        let path = format!(
            "{}/src/source/fixtures/{folder}",
            env!("CARGO_MANIFEST_DIR")
        );
        for entry in std::fs::read_dir(path).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let Some(name) = file.strip_suffix(".json") else {
                continue;
            };
            assert!(
                FIXTURES.iter().any(|(known, _)| *known == name),
                "{folder}/{file} is in no list"
            );
            // Those with a number stand in the index of what each must become.
            let number = name.split('_').next().unwrap();
            if number.bytes().all(|b| b.is_ascii_digit()) {
                let test = own
                    .lines()
                    .any(|line| line.starts_with("fn ") && line.contains(&format!("s{number}_")));
                assert!(test, "{file} has no test of its own");
            }
            found += 1;
        }
    }
    assert_eq!(found, FIXTURES.len());
}

#[test]
fn s01_a_text_is_an_inbound_message_of_its_phone_with_the_words_as_they_are() {
    let (event, read) = told("01_wpp_text_known_tenant_no_ninth_digit");
    assert_eq!(event.event_type, INBOUND_MESSAGE);
    assert_eq!(
        key(&event),
        "wpp:pixel12digital:in:3EB0A10000000000000001:message"
    );
    assert_eq!(event.channel_account.as_deref(), Some("Pixel12 Digital"));
    assert_eq!(event.direction, Some(Direction::Inbound));
    assert_eq!(event.contact_key.as_deref(), Some("tel:554799900011"));
    assert_eq!(event.occurred_at.unwrap().timestamp(), 1_770_300_001);
    assert_eq!(
        event.correlation_id.as_deref(),
        Some("00000000-0000-4000-8000-000000001001")
    );
    assert_eq!(event.tenant_id, None, "a channel never implies the tenant");
    assert_eq!(
        words(&read),
        Some("Bom dia! Consegue me mandar a 2ª via do boleto?")
    );
    let contact = read.contact.unwrap();
    assert_eq!(
        contact.phone.unwrap().expose(),
        "554799900011",
        "never rewritten"
    );
    assert_eq!(contact.name.as_deref(), Some("Aurora Padaria"));
}

#[test]
fn s03_s04_a_lid_is_a_contact_of_its_own_and_never_a_phone() {
    for (name, lid) in [
        ("03_wpp_text_lid_sender_mapped", "111122223333444"),
        ("04_wpp_text_lid_sender_unmapped", "999988887777666"),
    ] {
        let (event, read) = told(name);
        assert_eq!(event.contact_key, Some(format!("lid:{lid}")));
        let contact = read.contact.unwrap();
        assert_eq!(contact.phone, None);
        assert_eq!(
            contact.address,
            format!("{lid}@lid"),
            "the reply address stays"
        );
    }
}

#[test]
fn s05_a_group_message_belongs_to_the_group_and_names_its_author() {
    for name in ["05_wpp_group_text_lid_author", "message-group"] {
        let (event, read) = told(name);
        assert_eq!(event.event_type, INBOUND_MESSAGE);
        let contact = read.contact.unwrap();
        assert!(contact.is_group);
        assert_eq!(
            contact.contact_key.as_deref(),
            Some("group:120363000000000001")
        );
        assert_eq!(contact.name, None, "the author's name is not the group's");
        let author = contact.participant.unwrap();
        assert!(author.jid.contact_key().starts_with("lid:"));
        assert!(author.name.is_some());
    }
}

#[test]
fn s08_the_thumbnail_of_a_picture_is_not_its_text_and_not_the_picture() {
    let (_, read) = told("08_wpp_image_thumbnail_in_text_with_caption");
    assert_eq!(words(&read), Some("segue o comprovante"));
    let media = read.media.unwrap();
    assert_eq!(
        (media.kind, media.mime.as_deref()),
        (ContentKind::Image, Some("image/jpeg"))
    );
    assert!(!media.is_inline);
    let (event, _) = told("08_wpp_image_thumbnail_in_text_with_caption");
    let Body::Lightened { body, media: taken } = event.body else {
        panic!("the thumbnail is kept beside the event");
    };
    assert_eq!(taken.len(), 1, "three times the same");
    assert_eq!(media.sha256, Some(hex::encode(taken[0].sha256)));
    assert!(!String::from_utf8(body).unwrap().contains("/9j/"));
    assert!(!event.payload.unwrap().to_string().contains("/9j/"));
    let received = Sha256::digest(sample("08_wpp_image_thumbnail_in_text_with_caption"));
    assert_eq!(event.metadata["body_sha256"], hex::encode(received));
    assert_eq!(
        media.message_id.as_deref(),
        Some("false_554799900011@c.us_3EB0A80000000000000008")
    );
}

#[test]
fn s10_what_is_typed_on_the_phone_is_ours_to_a_counterpart_that_is_not_named_like_us() {
    let (event, read) = told("10_wpp_fromme_typed_on_phone");
    assert_eq!(event.event_type, OUTBOUND_MESSAGE);
    assert_eq!(event.direction, Some(Direction::Outbound));
    let contact = read.contact.unwrap();
    assert_eq!(contact.phone.unwrap().expose(), "5521977700099");
    assert_eq!(contact.name, None);
    assert!(matches!(read.kind, NormalisedKind::DeviceMessage(_)));
    assert_eq!(
        read.text.unwrap().expose(),
        "Oi! Aqui é da Pixel, retornando seu contato."
    );
}

#[test]
fn s11_the_echo_of_a_send_carries_the_gateways_correlation_id() {
    let (event, read) = told("11_wpp_message_sent_echo_of_api_send");
    assert_eq!(event.event_type, OUTBOUND_MESSAGE);
    assert_eq!(event.correlation_id.as_deref(), Some("corr-send-0011"));
    assert_eq!(words(&read), None);
    assert_eq!(read.occurred_at.timestamp(), 1_770_300_540);
    assert_eq!(
        read.kind,
        NormalisedKind::Echo(SentMessage {
            key_id: Some("3EB0B20000000000000011".to_owned()),
            gateway_correlation_id: Some("corr-send-0011".to_owned()),
            delivery_id: None,
            content: ContentKind::Text,
            level: Some(1),
        })
    );
}

#[test]
fn s12_s13_a_placeholder_and_its_text_are_two_events_of_one_message() {
    let (placeholder, first) = told("12_wpp_ciphertext_placeholder_first");
    let (resolved, second) = told("13_wpp_ciphertext_resolved_chat_same_id");
    assert_eq!(
        placeholder.provider_message_id,
        resolved.provider_message_id
    );
    assert_ne!(placeholder.key, resolved.key);
    assert!(matches!(
        first.kind,
        NormalisedKind::InboundMessage {
            content: ContentKind::Undecrypted,
            ..
        }
    ));
    assert_eq!(first.text, None);
    assert_eq!(
        words(&second),
        Some("Olá! Tenho uma loja de moda e quero um site.")
    );
}

#[test]
fn s15_s17_acks_of_two_levels_are_two_events_about_the_echoed_message() {
    let (delivered, second) = told("15_wpp_ack_2_delivered");
    let (late, first) = told("17_wpp_ack_1_late_must_not_regress");
    let (echo, _) = told("11_wpp_message_sent_echo_of_api_send");
    assert_eq!(delivered.provider_message_id, echo.provider_message_id);
    assert_ne!(delivered.key, late.key);
    for (event, read, wanted) in [
        (delivered, second, Evidence::Delivered),
        (late, first, Evidence::Sent),
    ] {
        assert_eq!(event.event_type, DELIVERY_ACK);
        assert!(matches!(
            read.kind,
            NormalisedKind::Ack { from_me: true, evidence: Some(evidence), .. } if evidence == wanted
        ));
    }
}

#[test]
fn s19_the_presence_of_a_contact_is_dropped() {
    for name in [
        "19_wpp_connection_update_is_contact_presence",
        "connection-update-presence-trap",
        "onpresencechanged",
    ] {
        assert_eq!(
            WppGateway.read(sample(name), now()),
            Ok(Reading::Drop(DropReason::Presence)),
            "{name}"
        );
    }
    let bare = json!({"event": "connection.update", "session": {"id": "s"},
        "connection": {"status": "unavailable"}, "raw": {"payload": {"id": "5521977700099@c.us"}}});
    assert!(matches!(
        WppGateway.read(bare.to_string().as_bytes(), now()),
        Ok(Reading::Drop(_))
    ));
}

#[test]
fn s20_a_dropped_session_is_down_and_each_drop_is_its_own_event() {
    let (event, read) = told("20_wpp_connection_update_session_dropped");
    assert_eq!(event.event_type, CONNECTION_UPDATE);
    assert_eq!(
        key(&event),
        "wpp:pixel12digital:session:desconnectedmobile:1770300730001"
    );
    assert_eq!(
        read.kind,
        NormalisedKind::Session {
            state: SessionState::Down,
            raw_status: "desconnectedMobile".to_owned(),
        }
    );
    let state = |name: &str| match told(name).1.kind {
        NormalisedKind::Session { state, .. } => state,
        other => panic!("{name}: {other:?}"),
    };
    for down in [
        "connection-update-session-down",
        "closesession",
        "logoutsession",
        "qrcode",
        "phonecode",
        "status-find-disconnected",
    ] {
        assert_eq!(state(down), SessionState::Down, "{down}");
    }
    for up in ["status-find-inchat", "status-find-without-session"] {
        assert_eq!(state(up), SessionState::Up, "{up}");
    }
}

#[test]
fn s22_a_phone_of_two_tenants_stays_without_tenant() {
    let (event, read) = told("22_wpp_text_phone_matches_two_tenants");
    assert_eq!((event.tenant_id, read.tenant_id), (None, None));
    assert_eq!(event.contact_key.as_deref(), Some("tel:555381600044"));
}

#[test]
fn s25_a_notice_of_whatsapp_is_a_system_event() {
    let (event, read) = told("25_wpp_e2e_notification_no_conversation");
    assert_eq!(event.event_type, SYSTEM);
    assert_eq!(
        read.kind,
        NormalisedKind::System {
            notice: "e2e_notification".to_owned()
        }
    );
    let status = json!({"event": "message", "session": {"id": "s"},
        "message": {"id": "false_status@broadcast_3EB0", "from": "status@broadcast", "text": "x"}});
    assert_eq!(of(status).0.event_type, SYSTEM);
}

#[test]
fn s27_the_minimal_shape_is_accepted_and_flagged_as_a_test() {
    let (event, read) = told("27_wpp_minimal_shape_channel_key");
    assert_eq!(event.event_type, INBOUND_MESSAGE);
    assert_eq!(
        key(&event),
        "wpp:pixel12digital:in:test_69616252037c3:message"
    );
    assert_eq!(event.contact_key.as_deref(), Some("tel:551188800022"));
    assert_eq!(event.metadata["test_id"], true);
    assert_eq!(words(&read), Some("teste curto"));
}

#[test]
fn the_bytes_of_a_voice_note_never_become_its_text() {
    let (event, read) = told("message-audio-base64-in-text");
    assert_eq!(event.event_type, INBOUND_MESSAGE);
    assert_eq!(read.text, None);
    let media = read.media.unwrap();
    assert_eq!((media.kind, media.is_inline), (ContentKind::Voice, true));
    assert!(media.sha256.is_some(), "kept by its hash");
    assert_eq!(
        told("onmessage-image-autodownload")
            .1
            .text
            .unwrap()
            .expose(),
        "comprovante"
    );
}

use proptest::prelude::*;
use serde_json::Value;

use super::phone::AREA_CODES;
use super::*;

fn digits(raw: &str) -> Result<String, InvalidPhone> {
    Phone::parse_brazil(raw).map(|phone| phone.expose().to_owned())
}

#[test]
fn phones_as_people_write_them_become_digits_with_country_code() {
    for (raw, wanted) in [
        ("(47) 99990-0011", "5547999900011"),
        ("47 9990-0033", "554799900033"),
        ("11 98880-0022", "5511988800022"),
        ("5547999900011", "5547999900011"),
        ("554799900011", "554799900011"),
        ("+55 47 99990-0011", "5547999900011"),
        ("+55 (47) 9990-0011", "554799900011"),
        ("(+55) 47 99990-0011", "5547999900011"),
        ("(55) 99999-0000", "5555999990000"),
        ("55999990000", "5555999990000"),
        ("5533334444", "555533334444"),
        ("+5555999990000", "5555999990000"),
        ("047 99990-0011", "5547999900011"),
        ("(047) 3333-4444", "554733334444"),
        ("0 15 47 99990-0011", "5547999900011"),
        (
            "\u{202a}+55\u{a0}47\u{a0}99990\u{2011}0011\u{202c}",
            "5547999900011",
        ),
        ("+1 415 555 2671", "14155552671"),
        ("+351 912 345 678", "351912345678"),
        ("2178901234", "552178901234"),
    ] {
        assert_eq!(digits(raw).as_deref(), Ok(wanted), "{raw}");
    }
}

#[test]
fn what_cannot_be_a_phone_is_refused_with_its_reason() {
    use InvalidPhone::{AreaCode, Length, NotANumber, Subscriber};
    for (raw, wanted) in [
        ("", NotANumber),
        ("abc", NotANumber),
        ("(47) 9999O-0011", NotANumber),
        ("47 99990-0011 / 47 99990-0012", Length),
        ("47 99990-0011 ramal 2", NotANumber),
        ("5547999900011@c.us", NotANumber),
        ("+55+47999900011", NotANumber),
        ("٤٧٩٩٩٩٠٠٠١١", NotANumber),
        ("99990-0011", Length),
        ("14155552671234", Length),
        ("111122223333444", Length),
        ("+1234567", Length),
        ("+1234567890123456", Length),
        ("+55 11", Length),
        ("20 99999-8888", AreaCode),
        ("5520999998888", AreaCode),
        ("11 86123-4567", Subscriber),
        ("47 1990-0011", Subscriber),
        ("5511861234567", Subscriber),
    ] {
        assert_eq!(digits(raw), Err(wanted), "{raw}");
    }
    assert!(digits(&"4".repeat(100_000)).is_err());
}

#[test]
fn the_cases_of_the_conventions_hold() {
    let cases: Value = serde_json::from_str(include_str!(
        "../../source/fixtures/brazil/phone-cases.json"
    ))
    .unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let national = case["national"].as_str().unwrap();
        let class = case["class"].as_str().unwrap();
        let parsed = Phone::parse_brazil(national);
        let legacy = case.get("canonical").and_then(Value::as_str);
        match (parsed, legacy) {
            (Ok(phone), Some(canonical)) => {
                assert_eq!(phone.expose(), format!("55{national}"), "never rewritten");
                assert_eq!(
                    phone.match_key(),
                    Phone::parse_brazil(canonical).unwrap().match_key()
                );
            }
            (Ok(_), None) => assert!(!class.contains("INVALID"), "{national}"),
            (Err(_), _) => assert!(class.starts_with("INVALID"), "{national}: {class}"),
        }
    }
    for case in cases["jid_candidates"].as_array().unwrap() {
        let phone = Phone::parse_brazil(case["e164"].as_str().unwrap()).unwrap();
        for candidate in case["try"].as_array().unwrap() {
            let jid = Jid::parse(candidate.as_str().unwrap()).unwrap();
            assert_eq!(jid.contact_key(), contact_key_of(&phone));
        }
    }
}

#[test]
fn every_form_of_a_whatsapp_address_has_its_kind_and_key() {
    use JidKind::{Broadcast, Group, Lid, Newsletter, Phone};
    for (raw, kind, key) in [
        ("554799900011@c.us", Phone, "tel:554799900011"),
        ("5547999900011@c.us", Phone, "tel:554799900011"),
        ("5547999900011:12@s.whatsapp.net", Phone, "tel:554799900011"),
        ("5547999900011@S.WhatsApp.net", Phone, "tel:554799900011"),
        ("14155552671@c.us", Phone, "tel:14155552671"),
        ("5511988800022", Phone, "tel:551188800022"),
        ("111122223333444@lid", Lid, "lid:111122223333444"),
        ("111122223333444:3@lid", Lid, "lid:111122223333444"),
        ("55112222333344@lid", Lid, "lid:55112222333344"),
        ("111122223333444", Lid, "lid:111122223333444"),
        ("5511222233334445", Lid, "lid:5511222233334445"),
        ("120363000000000001@g.us", Group, "group:120363000000000001"),
        (
            "554799900011-1412345678@g.us",
            Group,
            "group:554799900011-1412345678",
        ),
        ("status@broadcast", Broadcast, "broadcast:status"),
        ("stories", Broadcast, "broadcast:status"),
        (
            "120363111111111111@newsletter",
            Newsletter,
            "newsletter:120363111111111111",
        ),
    ] {
        let jid = Jid::parse(raw).unwrap_or_else(|_| panic!("{raw}"));
        assert_eq!(
            (jid.kind(), jid.contact_key().as_str()),
            (kind, key),
            "{raw}"
        );
        assert_eq!(jid.expose(), raw, "the address as given is kept");
    }
    for raw in [
        "",
        "@",
        "@c.us",
        "0@c.us",
        "abc@c.us",
        "12:ab@c.us",
        "1@2@c.us",
        "123456",
        "joao",
        "fulano@example.com",
        "(47) 99990-0011",
        "-1@g.us",
    ] {
        assert_eq!(Jid::parse(raw), Err(InvalidJid), "{raw}");
    }
}

#[test]
fn message_ids_are_read_by_their_third_segment() {
    let key = MessageKey::parse("true_554799900011@c.us_3EB0B20000000000000011").unwrap();
    assert_eq!(key.from_me, Some(true));
    assert_eq!(key.key_id, "3EB0B20000000000000011");
    assert_eq!(key.chat.unwrap().contact_key(), "tel:554799900011");
    assert_eq!(key.participant, None);

    let group = "false_120363000000000001@g.us_2AE6A50000000000000005_222233334444555@lid";
    let key = MessageKey::parse(group).unwrap();
    assert_eq!(key.key_id, "2AE6A50000000000000005");
    assert_eq!(
        key.participant.as_ref().unwrap().contact_key(),
        "lid:222233334444555"
    );
    assert_eq!(key.expose(), group);

    for bare in ["3EB0B2", "test_69616252037c3", "ABC123", "wamid.HBgM_x_y"] {
        let key = MessageKey::parse(bare).unwrap();
        assert_eq!((key.from_me, key.key_id.as_str()), (None, bare));
    }
    for bad in ["", "  ", "a b", "true_1@c.us_", "a\u{0}b"] {
        assert_eq!(MessageKey::parse(bad), Err(InvalidMessageKey), "{bad:?}");
    }
}

#[test]
fn printing_an_address_shows_no_phone() {
    let phone = Phone::parse_brazil("(47) 99990-0011").unwrap();
    let jid = Jid::parse("5547999900011@c.us").unwrap();
    let lid = Jid::parse("111122223333444@lid").unwrap();
    let key = MessageKey::parse("true_5547999900011@c.us_3EB0B2").unwrap();
    let printed = format!("{phone} {phone:?} {jid} {jid:?} {lid} {lid:?} {key:?}");
    for clear in ["99990", "5547999900011", "47999900011", "111122223333444"] {
        assert!(!printed.contains(clear), "{printed}");
    }
}

fn national() -> impl Strategy<Value = (String, String)> {
    (
        proptest::sample::select(AREA_CODES.to_vec()),
        60_000_000_u32..=99_999_999,
    )
        .prop_map(|(area, local)| (area.to_string(), local.to_string()))
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>(), near in "[0-9+() .@:_a-z-]{0,40}") {
        for text in [text, near] {
            let _ = Phone::parse_brazil(&text);
            if let Ok(jid) = Jid::parse(&text) {
                let _ = (jid.phone(), jid.contact_key(), format!("{jid}{jid:?}"));
            }
            if let Ok(key) = MessageKey::parse(&text) {
                let _ = (key.expose(), format!("{key:?}"));
            }
        }
    }

    #[test]
    fn the_ninth_digit_is_never_touched_and_never_matters((area, local) in national()) {
        let with = Phone::parse_brazil(&format!("({area}) 9{}-{}", &local[..4], &local[4..])).unwrap();
        let without = Phone::parse_brazil(&format!("{area}{local}")).unwrap();
        prop_assert_eq!(with.expose(), format!("55{area}9{local}"));
        prop_assert_eq!(without.expose(), format!("55{area}{local}"));
        prop_assert_eq!(with.match_key(), without.match_key());
    }

    #[test]
    fn a_parsed_phone_parses_to_itself((area, local) in national()) {
        let phone = Phone::parse_brazil(&format!("{area}9{local}")).unwrap();
        prop_assert_eq!(Phone::parse_brazil(phone.expose()).unwrap(), phone.clone());
        prop_assert_eq!(Phone::parse_brazil(&format!("+{}", phone.expose())).unwrap(), phone);
    }

    #[test]
    fn an_address_reads_back_from_its_canonical_spelling(
        user in "[1-9][0-9]{9,14}",
        server in proptest::sample::select(vec!["c.us", "s.whatsapp.net", "lid", "g.us", "newsletter"]),
    ) {
        let jid = Jid::parse(&format!("{user}@{server}")).unwrap();
        let again = Jid::parse(&jid.expose_canonical()).unwrap();
        prop_assert_eq!(again.contact_key(), jid.contact_key());
        prop_assert_eq!(again.kind(), jid.kind());
    }

    #[test]
    fn a_message_id_reads_back_from_its_full_spelling(
        from_me in any::<bool>(), user in "[1-9][0-9]{9,12}", id in "[0-9A-F]{10,32}",
    ) {
        let text = format!("{from_me}_{user}@c.us_{id}");
        let key = MessageKey::parse(&text).unwrap();
        prop_assert_eq!(key.expose(), text);
        prop_assert_eq!(key.key_id, id);
    }
}

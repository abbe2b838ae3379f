//! WhatsApp addresses as the gateway makes them from the `to` of a send.
//!
//! Knows digits and suffixes only; nothing of channels, messages or HTTP.

/// Area codes up to this one kept the ninth digit in WhatsApp ids (facts §0.11).
const LAST_DDD_WITH_NINTH_DIGIT: u32 = 28;

/// The chat id (JID) that WhatsApp uses for `to`, or `None` when the gateway would refuse it.
///
/// Digits become `…@c.us`, more than 14 of them `…@lid` (conventions A4); an address that has a
/// known suffix already is taken as it is. Brazilian numbers follow the ninth-digit rule of facts
/// §0.11: kept for DDD 11–28, dropped elsewhere.
pub fn chat_jid(to: &str) -> Option<String> {
    if let Some((user, server)) = to.split_once('@') {
        let known = matches!(server, "c.us" | "g.us" | "lid" | "s.whatsapp.net");
        let user_is_plain = user
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'-');
        return (known && !user.is_empty() && user_is_plain).then(|| to.to_owned());
    }
    if !to.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match to.len() {
        8..=14 => Some(format!("{}@c.us", without_foreign_ninth_digit(to))),
        15..=20 => Some(format!("{to}@lid")),
        _ => None,
    }
}

/// What two spellings of one address have in common: country, DDD and the last eight digits of a
/// Brazilian phone, the whole JID otherwise. Faults and look-ups compare by it.
pub fn match_key(address: &str) -> String {
    let Some(jid) = chat_jid(address) else {
        return address.to_owned();
    };
    let Some((user, "c.us" | "s.whatsapp.net")) = jid.split_once('@') else {
        return jid;
    };
    match user.as_bytes() {
        digits if digits.starts_with(b"55") && matches!(digits.len(), 12 | 13) => {
            format!("{}{}", &user[..4], &user[user.len() - 8..])
        }
        _ => user.to_owned(),
    }
}

fn without_foreign_ninth_digit(digits: &str) -> String {
    let is_brazilian_mobile =
        digits.len() == 13 && digits.starts_with("55") && digits.as_bytes()[4] == b'9';
    let keeps_it = digits
        .get(2..4)
        .and_then(|ddd| ddd.parse::<u32>().ok())
        .is_some_and(|ddd| ddd <= LAST_DDD_WITH_NINTH_DIGIT);
    if is_brazilian_mobile && !keeps_it {
        format!("{}{}", &digits[..4], &digits[5..])
    } else {
        digits.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ninth_digit_stays_for_ddd_11_to_28_and_goes_elsewhere() {
        for (to, jid) in [
            ("5547999900011", "554799900011@c.us"),
            ("554799900011", "554799900011@c.us"),
            ("5511988880022", "5511988880022@c.us"),
            ("5528999990000", "5528999990000@c.us"),
            ("5531999990000", "553199990000@c.us"),
            ("551133334444", "551133334444@c.us"),
            ("14155550100", "14155550100@c.us"),
        ] {
            assert_eq!(chat_jid(to).as_deref(), Some(jid), "{to}");
        }
    }

    #[test]
    fn lids_and_groups_keep_their_kind() {
        for (to, jid) in [
            ("111122223333444", "111122223333444@lid"),
            ("111122223333444@lid", "111122223333444@lid"),
            ("120363000000000001@g.us", "120363000000000001@g.us"),
            ("5547999900011@c.us", "5547999900011@c.us"),
        ] {
            assert_eq!(chat_jid(to).as_deref(), Some(jid), "{to}");
        }
    }

    #[test]
    fn an_address_that_is_no_address_is_refused() {
        for to in [
            "",
            "+5547999900011",
            "(47) 99990-0011",
            "123",
            "@c.us",
            "x@y.z",
        ] {
            assert_eq!(chat_jid(to), None, "{to}");
        }
    }

    #[test]
    fn both_spellings_of_a_number_have_one_key() {
        assert_eq!(match_key("5547999900011"), match_key("554799900011@c.us"));
        assert_eq!(match_key("5511988880022"), match_key("551188880022"));
        assert_ne!(match_key("5547999900011"), match_key("5547999900012"));
        assert_eq!(match_key("111122223333444"), "111122223333444@lid");
    }
}

//! From Asaas's names of events to ours: `PAYMENT_OVERDUE` is `asaas.payment.overdue`. The set is
//! open: a name that nobody knows yet is an event like any other.

/// The longest name that is taken for one.
const LONGEST: usize = 80;

/// How names begin, and the family that it makes them of (conventions §B3).
const FAMILIES: [(&str, &str); 13] = [
    ("PAYMENT_", "payment"),
    ("SUBSCRIPTION_", "subscription"),
    ("INVOICE_", "invoice"),
    ("TRANSFER_", "transfer"),
    ("BILL_", "bill"),
    ("RECEIVABLE_ANTICIPATION_", "anticipation"),
    ("MOBILE_PHONE_RECHARGE_", "mobile_phone_recharge"),
    ("ACCOUNT_STATUS_", "account_status"),
    ("CHECKOUT_", "checkout"),
    ("BALANCE_VALUE_", "balance"),
    ("INTERNAL_TRANSFER_", "internal_transfer"),
    ("ACCESS_TOKEN_", "access_token"),
    ("PIX_AUTOMATIC_RECURRING_", "pix_automatic"),
];

/// Whether a text may be the name of a kind of event. It becomes a label of logs, metrics and
/// broker messages, so no number that could be a phone or a CPF may be one.
pub(super) fn is_name(text: &str) -> bool {
    let digits = |run: &str| run.len();
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text
            .split(|c: char| !c.is_ascii_digit())
            .map(digits)
            .all(|run| run < 8)
}

/// The event type of a name.
pub(super) fn event_type(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    let known = FAMILIES
        .iter()
        .find_map(|(prefix, family)| Some((*family, name.strip_prefix(prefix)?)));
    let (family, rest) = match known {
        Some((family, rest)) if !rest.is_empty() => (family, rest),
        _ => ("other", name.as_str()),
    };
    format!("asaas.{family}.{}", rest.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_known_name_has_a_type_of_its_own_family_and_unknown_ones_have_one_too() {
        let list: Value =
            serde_json::from_str(include_str!("../fixtures/asaas/events-enum.json")).unwrap();
        let names: Vec<&str> = ["values", "added_after", "seen_in_the_wild_not_in_enum"]
            .iter()
            .flat_map(|part| list[part].as_array().unwrap())
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(names.len(), 114);
        let types: BTreeSet<String> = names.iter().map(|name| event_type(name)).collect();
        assert_eq!(types.len(), names.len(), "no two kinds become one");
        for (name, event_type) in names.iter().map(|name| (name, event_type(name))) {
            assert!(is_name(name), "{name}");
            assert!(!event_type.starts_with("asaas.other."), "{event_type}");
            assert!(event_type.len() <= 100, "{event_type}");
        }
        for (name, wanted) in [
            ("PAYMENT_OVERDUE", "asaas.payment.overdue"),
            ("payment_overdue", "asaas.payment.overdue"),
            ("PAYMENT_SPLIT_DONE", "asaas.payment.split_done"),
            (
                "PIX_AUTOMATIC_RECURRING_PAYMENT_INSTRUCTION_REFUSED",
                "asaas.pix_automatic.payment_instruction_refused",
            ),
            ("PAYMENT_", "asaas.other.payment_"),
            ("LOAN_GRANTED", "asaas.other.loan_granted"),
        ] {
            assert_eq!(event_type(name), wanted);
        }
        for name in [
            "",
            "PAYMENT OVERDUE",
            "PAGAMENTO_É",
            "TEL_5547999900011",
            "a\0",
        ] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(!is_name(&"A".repeat(81)));
    }
}

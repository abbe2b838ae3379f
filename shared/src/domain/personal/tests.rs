use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::address::Phone;

fn cases() -> Value {
    serde_json::from_str(include_str!("../../source/fixtures/brazil/mask-cases.json")).unwrap()
}

/// All three ways in which a value may come into a log or an answer.
fn shown(value: &(impl std::fmt::Display + std::fmt::Debug + serde::Serialize)) -> [String; 3] {
    [
        value.to_string(),
        format!("{value:?}"),
        serde_json::to_value(value)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned(),
    ]
}

#[test]
fn every_way_to_print_shows_the_masked_form_of_the_conventions() {
    let cases = cases();
    let given = |noun: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        cases[noun]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| (text(&case["in"]), text(&case["out"])))
            .collect()
    };
    for (raw, wanted) in given("cpf") {
        assert_eq!(shown(&Cpf::parse(&raw).unwrap()), [&*wanted; 3]);
        assert_eq!(shown(&TaxId::parse(&raw).unwrap()), [&*wanted; 3]);
    }
    for (raw, wanted) in given("phone") {
        assert_eq!(shown(&Phone::parse_brazil(&raw).unwrap()), [&*wanted; 3]);
    }
    for (raw, wanted) in given("email") {
        assert_eq!(shown(&Email::parse(&raw).unwrap()), [&*wanted; 3]);
    }
    assert_eq!(
        shown(&Cnpj::parse("12.abc.345/01de-35").unwrap()),
        ["12.ABC.***/****-35"; 3]
    );
    assert_eq!(shown(&Token::new(" $aact_prod_000 ").unwrap()), ["***"; 3]);
    for (raw, wanted) in [
        (
            "https://www.asaas.com/i/pay_1?x=2",
            "https://www.asaas.com/***",
        ),
        ("https://pay.example?id=503", "https://pay.example/***"),
        ("https://pay.example", "https://pay.example"),
    ] {
        assert_eq!(shown(&BillLink::parse(raw).unwrap()), [wanted; 3]);
    }
}

#[test]
fn numbers_of_companies_are_judged_by_their_check_digits_numeric_and_alphanumeric_alike() {
    let cases = cases();
    for noun in ["cnpj_numeric", "cnpj_alphanumeric"] {
        for case in cases[noun].as_array().unwrap() {
            let raw = case["in"].as_str().unwrap();
            let valid = case["valid"].as_bool().unwrap();
            assert_eq!(Cnpj::parse(raw).is_ok(), valid, "{raw}");
            assert_eq!(TaxId::parse(raw).is_ok(), valid, "{raw}");
        }
    }
    assert_eq!(
        Cnpj::parse("12ABC34501DE35").unwrap().expose(),
        "12ABC34501DE35"
    );
}

#[test]
fn what_is_no_document_is_refused_with_the_reason_and_without_the_value() {
    use InvalidDocument::{CheckDigits, Form};
    for (raw, wanted) in [
        ("123.456.789-00", CheckDigits),
        ("111.111.111-11", CheckDigits),
        ("12345678908", CheckDigits),
        ("123.456.789/09", Form),
        ("123456.789-09", Form),
        ("1234567890", Form),
        ("1234567890A", Form),
        ("", Form),
        ("１２３.456.789-09", Form),
    ] {
        assert_eq!(Cpf::parse(raw).err(), Some(wanted), "{raw}");
        assert!(raw.is_empty() || !wanted.to_string().contains(raw));
    }
    for (raw, wanted) in [
        ("00.000.000/0000-00", CheckDigits),
        ("12.ABC.345/01DE-3X", CheckDigits),
        ("12.ABC.345-01DE/35", Form),
        ("12 ABC 345 01DE35", Form),
    ] {
        assert_eq!(Cnpj::parse(raw).err(), Some(wanted), "{raw}");
    }
}

#[test]
fn an_email_that_no_server_takes_is_refused() {
    use InvalidEmail::{Form, Host, Length, Signs};
    for (raw, wanted) in [
        ("fulano", Form),
        ("@example.com", Form),
        ("a@b@example.com", Form),
        (".a@example.com", Form),
        ("a..b@example.com", Form),
        ("a@example", Host),
        ("a@-example.com", Host),
        ("a@example..com", Host),
        ("a b@example.com", Signs),
        ("a@example.com\r\nBcc: b@example.com", Signs),
        ("Fulano <a@example.com>", Signs),
        ("a@example.com,b@example.com", Signs),
        (&format!("{}@example.com", "a".repeat(65)), Length),
        (&format!("a@{}.com", "b.".repeat(130)), Length),
    ] {
        assert_eq!(Email::parse(raw).err(), Some(wanted), "{raw:?}");
    }
    for raw in [
        "a+boletos@sub.example.com.br",
        "josé@exemplo.com.br",
        "o'brien@example.com",
    ] {
        assert_eq!(Email::parse(raw).unwrap().expose(), raw);
    }
}

#[test]
fn a_link_with_a_password_or_another_scheme_is_none() {
    use InvalidBillLink::{Form, Host, Scheme};
    for (raw, wanted) in [
        ("javascript:alert(1)", Scheme),
        ("ftp://example.com/x", Scheme),
        ("www.asaas.com/i/1", Scheme),
        ("https:///i/1", Host),
        ("https://user:secret@example.com/i/1", Host),
        ("https://pay.example/ i", Form),
    ] {
        assert_eq!(BillLink::parse(raw).err(), Some(wanted), "{raw}");
    }
}

#[test]
fn they_are_read_from_json_by_the_same_rules() {
    let cpf: Cpf = serde_json::from_value(json!("123.456.789-09")).unwrap();
    assert_eq!(cpf.expose(), "12345678909");
    let phone: Phone = serde_json::from_value(json!("(47) 99990-0011")).unwrap();
    assert_eq!(phone.expose(), "5547999900011");
    let error = serde_json::from_value::<Cpf>(json!("123.456.789-00")).unwrap_err();
    assert!(!error.to_string().contains("123"), "{error}");
    assert!(serde_json::from_value::<Token>(json!(" ")).is_err());
}

proptest! {
    #[test]
    fn one_changed_digit_makes_no_other_cpf(base in "[0-9]{9}", at in 0_usize..11, by in 1_u8..10) {
        let digits: Option<String> = (0..100)
            .map(|check| format!("{base}{check:02}"))
            .find(|digits| Cpf::parse(digits).is_ok());
        let Some(digits) = digits else { return Ok(()) };
        let mut changed = digits.clone().into_bytes();
        changed[at] = b'0' + (changed[at] - b'0' + by) % 10;
        let changed = String::from_utf8(changed).unwrap();
        // The first check digit stands for both ten and eleven as 0, so that another digit may hide behind
        // it; a changed check digit alone never passes.
        if at >= 9 {
            prop_assert!(Cpf::parse(&changed).is_err());
        }
        let read = Cpf::parse(&digits).unwrap();
        prop_assert_eq!(read.expose(), digits.as_str());
    }

    #[test]
    fn nothing_that_was_read_shows_more_than_its_mask(raw in "\\PC{0,40}") {
        if let Ok(email) = Email::parse(&raw) {
            let name = raw.trim().split('@').next().unwrap();
            prop_assert!(name.chars().count() < 2 || !email.to_string().contains(name));
        }
        if let Ok(id) = TaxId::parse(&raw) {
            prop_assert!(!id.to_string().contains(id.expose()));
        }
    }
}

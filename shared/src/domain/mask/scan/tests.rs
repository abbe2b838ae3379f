use proptest::prelude::*;

use super::*;

fn check(cases: &[(&str, &str)]) {
    for (given, wanted) in cases {
        assert_eq!(mask_text(given), *wanted, "{given}");
    }
}

#[test]
fn phones_are_masked_in_every_punctuation() {
    check(&[
        ("ligue (47) 99990-0011 hoje", "ligue +55 47 9****-0011 hoje"),
        ("47 99990-0011", "+55 47 9****-0011"),
        ("47999900011", "+55 47 9****-0011"),
        ("+55 47 99990-0011", "+55 47 9****-0011"),
        ("+55 (47) 9 9990-0011.", "+55 47 9****-0011."),
        ("+5547999900011", "+55 47 9****-0011"),
        ("5547999900011", "+55 47 9****-0011"),
        ("554799900011", "+55 47 ****-0011"),
        ("55 47 9990 0011", "+55 47 ****-0011"),
        ("(047) 3333-4444", "+55 47 ****-4444"),
        ("99990-0011", "9****-0011"),
        ("9 9990-0011", "9****-0011"),
        ("3333-4444", "****-4444"),
        ("+1 415 555 2671", "***2671"),
        ("+55\u{a0}47\u{a0}99990\u{2011}0011", "+55 47 9****-0011"),
        (
            "de 47 99990-0011 ou 47 99990-0012",
            "de +55 47 9****-0011 ou +55 47 9****-0012",
        ),
        ("111122223333444", "***3444"),
    ]);
}

#[test]
fn documents_addresses_links_and_credentials_are_masked() {
    check(&[
        ("CPF 123.456.789-09.", "CPF ***.456.789-**."),
        ("CPF 12345678909", "CPF ***.456.789-**"),
        ("CPF 123 456 789 09", "CPF ***.456.789-**"),
        ("CNPJ 00.000.000/0001-91", "CNPJ 00.000.***/****-91"),
        ("CNPJ 00000000000191", "CNPJ 00.000.***/****-91"),
        ("CNPJ 12.ABC.345/01DE-35", "CNPJ 12.ABC.***/****-35"),
        ("CNPJ 12.abc.345/01de-35", "CNPJ 12.ABC.***/****-35"),
        ("CNPJ 12ABC34501DE35", "CNPJ 12.ABC.***/****-35"),
        ("12.345.ABC/01DE-35", "12.345.***/****-35"),
        ("fulano@example.com", "f***@example.com"),
        ("<fulano.tal+x@mail.example.com>", "<f***@mail.example.com>"),
        ("a@b@c.example", "a***@c.example"),
        ("a@12.ABC.345/01DE-35", "a@12.ABC.***/****-35"),
        ("fulano@example.com.1", "f***@example.com.1"),
        ("5547999900011@c.us", "***0011@c.us"),
        ("111122223333444@lid", "***3444@lid"),
        (
            "https://pay.example/i/503?t=abc ok",
            "https://pay.example/*** ok",
        ),
        ("veja https://pay.example.", "veja https://pay.example."),
        (
            "(https://pay.example:8443/x)",
            "(https://pay.example:8443/***",
        ),
        (
            "postgres://posto:hunter2@db.example/posto",
            "postgres://db.example/***",
        ),
        (
            "https://5547999900011.example/",
            "https://+55 47 9****-0011.example/***",
        ),
        ("www.asaas.example/i/503", "www.asaas.example/***"),
        ("wa.me/5547999900011", "wa.me/***"),
        ("Authorization: Bearer abcdef", "Authorization: Bearer ***"),
        ("token=abc123&x=1", "token=***&x=1"),
        ("X-Gateway-Secret: hunter2", "X-Gateway-Secret: ***"),
        ("\"apikey\":\"abc\"", "\"apikey\":\"***\""),
        ("senha: hunter2", "senha: ***"),
        (
            "$aact_prod_000MzkwODA2MWY2OGM3MWRlMDU2NWM3MzJlNzZmNGZhZGY6",
            "***",
        ),
        ("posto_AbCdEfGhIjKlMnOpQrStUvWxYz_-AbCdEfGhIjKlMnOpQ", "***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***"),
        (
            "pague 34191.79001 01043.510047 91020.150008 5 84410026000.",
            "pague ***6000.",
        ),
        ("34191790010104351004791020150008584410026000123", "***0123"),
        (
            "83640000001-1 33120138000-2 81288462711-6 08013618155-1",
            "***1551",
        ),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "***"),
        ("9f86d081884c7d659a2feaa0c55ad015", "***"),
    ]);
}

#[test]
fn ordinary_words_amounts_dates_and_ids_survive() {
    for text in [
        "Olá, Padaria Aurora! Sua fatura de R$ 1.234,56 venceu em 27/01/2026.",
        "2026-01-27T10:30:00Z",
        "Pedido 12345, fatura 503, CEP 89010-000, nº 00005101",
        "7b0d6f0e-0000-4000-8000-000000000039",
        "2025-2026",
        "billing.invoice.overdue",
        "posto_worker posto_config_changed",
        "pagamento-da-fatura-de-janeiro-de-2026",
        "a senha é secreta; qual token?",
        "ABCDEFGHIJKL12",
        "12ABC34501DE00",
        "km/h, e/ou, 24/7",
        "às 10h @ sala 3",
        "👍🏽 não-é-nada — ok…",
        "",
    ] {
        assert_eq!(mask_text(text), text);
    }
}

#[test]
fn hostile_texts_cost_linear_time() {
    // A quadratic scanner would need minutes for these.
    for piece in [
        "a@", "a.", "@", "://", "a://", "a.bb/", "1", "1 ", "1.", "(", "+", "9-", "token", "a-1",
        "=", "9999-", "é", "a:a@", "/", "$",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        assert!(mask_text(&text).len() <= text.len() * 8 + 64);
    }
}

fn markers() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "(47) 99990-0011",
        "47 99990-0011",
        "47999900011",
        "+55 47 99990-0011",
        "5547999900011",
        "554799900011",
        "123.456.789-09",
        "12345678909",
        "00.000.000/0001-91",
        "12.ABC.345/01DE-35",
        "fulano@example.com",
        "5547999900011@c.us",
        "https://pay.example/i/503",
        "34191.79001 01043.510047 91020.150008 5 84410026000",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_marker_survives_within_any_text(
        before in "\\PC{0,24}", marker in markers(), after in "\\PC{0,24}",
    ) {
        let masked = mask_text(&format!("{before}{marker}{after}"));
        prop_assert!(!masked.contains(marker), "{masked}");
    }

    #[test]
    fn no_marker_survives_among_look_alikes(
        before in "[0-9a-f .()+@:/_=$-]{0,24}", marker in markers(), after in "[0-9a-f .()+@:/_=-]{0,24}",
    ) {
        let masked = mask_text(&format!("{before}{marker}{after}"));
        prop_assert!(!masked.contains(marker), "{masked}");
    }

    #[test]
    fn any_text_is_masked_without_panic(text in any::<String>()) {
        let _ = mask_text(&text);
    }
}

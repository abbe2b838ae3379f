//! Masking of JSON: by the name of a member where the name tells what the value is, by the look
//! of the text elsewhere.

use serde_json::{Number, Value};

use super::{HIDDEN, mask_cnpj, mask_cpf, mask_email, mask_phone, mask_text};
use crate::domain::address::is_area_code;

/// What the name of a member says about its value.
#[derive(Clone, Copy)]
enum Kind {
    /// Never shown, whatever its type.
    Secret,
    Phone,
    Document,
    Email,
    /// Masked by its look.
    Free,
}

/// A copy for reading, in which personal and secret values are masked; names of members that
/// look personal too. Keeps the shape of the value.
#[must_use]
pub fn mask_json(value: &Value) -> Value {
    masked(value, Kind::Free)
}

fn masked(value: &Value, kind: Kind) -> Value {
    match (value, kind) {
        (Value::Null | Value::Bool(_), _) => value.clone(),
        (Value::String(text), Kind::Secret) if text.is_empty() => value.clone(),
        (_, Kind::Secret) => HIDDEN.into(),
        (Value::Array(items), _) => items.iter().map(|item| masked(item, kind)).collect(),
        (Value::Object(members), _) => members
            .iter()
            .map(|(name, member)| (mask_text(name), masked(member, kind_of(name))))
            .collect(),
        (Value::String(text), _) => string(text, kind).into(),
        (Value::Number(number), Kind::Free) => loose_number(number),
        (Value::Number(number), _) => string(&number.to_string(), kind).into(),
    }
}

fn string(text: &str, kind: Kind) -> String {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let signs = text.bytes().filter(u8::is_ascii_alphanumeric).count();
    match kind {
        Kind::Phone if text.contains('@') => mask_text(text),
        Kind::Phone if digits >= 7 => mask_phone(text),
        Kind::Document if digits == 11 && signs == 11 => mask_cpf(text),
        Kind::Document if signs == 14 => mask_cnpj(text),
        Kind::Document if !text.is_empty() => HIDDEN.to_owned(),
        Kind::Email if text.contains('@') => mask_email(text),
        Kind::Email if !text.is_empty() => HIDDEN.to_owned(),
        _ => mask_text(text),
    }
}

/// A number under a name that says nothing: hidden when it can only be a phone or a CPF. Ten
/// digits are an epoch second, thirteen that do not start with 55 an epoch millisecond.
fn loose_number(number: &Number) -> Value {
    let text = number.to_string();
    let national = match text.len() {
        12 | 13 => text.strip_prefix("55"),
        11 => return string(&text, Kind::Free).into(),
        _ => None,
    };
    match national {
        Some(national) if national.get(..2).is_some_and(is_area_code) => mask_phone(&text).into(),
        _ => Value::Number(number.clone()),
    }
}

fn kind_of(name: &str) -> Kind {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match plain.as_str() {
        "authorization" | "cookie" | "setcookie" | "password" | "passwd" | "senha" | "apikey"
        | "qrcode" | "qr" | "urlcode" | "phonecode" | "pairingcode" | "mediakey" | "base64"
        | "base64ptt" | "mediabase64" | "jpegthumbnail" => Kind::Secret,
        // What a bill is paid with, or a card: whoever reads it sees whose it is, or pays with it.
        "pixcopiaecola"
        | "copiaecola"
        | "encodedimage"
        | "identificationfield"
        | "linhadigitavel"
        | "barcode"
        | "codigodebarras"
        | "creditcardnumber"
        | "cardnumber"
        | "ccv"
        | "cvv" => Kind::Secret,
        "phone" | "phonenormalized" | "phoneraw" | "mobile" | "mobilephone" | "telefone"
        | "celular" | "whatsapp" | "wid" | "jid" | "remotejid" | "chatid" | "from" | "to"
        | "author" | "participant" | "peerjid" | "wuid" => Kind::Phone,
        "cpf" | "cnpj" | "cpfcnpj" | "cnpjcpf" | "document" | "documento" | "taxid" => {
            Kind::Document
        }
        "email" | "mail" | "emailaddress" => Kind::Email,
        secret
            if secret.ends_with("token")
                || secret.ends_with("secret")
                || secret.ends_with("password")
                || secret.ends_with("apikey")
                || secret.ends_with("signature") =>
        {
            Kind::Secret
        }
        phone if phone.ends_with("phone") || phone.ends_with("telefone") => Kind::Phone,
        _ => Kind::Free,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_masked_by_name_and_texts_by_look() {
        let masked = mask_json(&json!({
            "invoice_id": 503,
            "phone": "(47) 99990-0011",
            "to": 47999900011_i64,
            "cpf": "12345678909",
            "cpfCnpj": "12.ABC.345/01DE-35",
            "email": "fulano@example.com",
            "text": "meu CPF é 123.456.789-09",
            "customer_name": "Padaria Aurora",
            "X-Gateway-Secret": "hunter2hunter2",
            "creditCardToken": "a",
            "messageSecret": [1, 2, 3],
            "mediaKey": "MEDIAKEYFIXTURE=",
            "webhook-signature": "v1,abc",
            "identificationField": "0",
            "encodedImage": "iVBOR",
            "creditCard": {"creditCardNumber": "8829", "creditCardBrand": "VISA"},
            "invoice_url": "https://pay.example/i/503?x=1",
            "t": 1_770_300_001,
            "t_ms": 1_770_300_666_490_i64,
            "anything": 5_547_999_900_011_i64,
            "nested": [{"remoteJid": "5547999900011@c.us"}],
            "5547999900011": true,
            "qrcode": "",
            "none": null
        }));
        insta::assert_json_snapshot!(masked);
    }

    proptest! {
        #[test]
        fn no_marker_survives_in_any_member(
            name in "[a-zA-Z_]{1,12}|phone|to|cpf|email|text|token|5547999900011",
            marker in "5547999900011|47999900011|123\\.456\\.789-09|fulano@example\\.com",
            before in "\\PC{0,12}",
        ) {
            let value = json!([{ name.clone(): format!("{before}{marker}") }, { name: { "deep": [marker] } }]);
            let masked = mask_json(&value).to_string();
            prop_assert!(!masked.contains(&marker), "{masked}");
            prop_assert!(!masked.contains("5547999900011"), "{masked}");
        }
    }
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

/// `id:key` of a key made of the numbers from `first`.
fn entry(id: &str, first: u8) -> String {
    let key: Vec<u8> = (first..).take(KEY_BYTES).collect();
    format!("{id}:{}", STANDARD.encode(key))
}

fn keys(entries: &[(&str, u8)]) -> Keyring {
    let list: Vec<String> = entries
        .iter()
        .map(|(id, first)| entry(id, *first))
        .collect();
    Keyring::parse(&list.join(",")).unwrap()
}

const ROW: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const TEXT: Place = Place::new(Column::DeliveryText, ROW);

#[test]
fn the_cipher_is_the_one_of_the_draft() {
    // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce: Vec<u8> = (0x40..0x58).collect();
    let aad = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
    let clear = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let sealed = XChaCha20Poly1305::new_from_slice(&key)
        .unwrap()
        .encrypt(
            &XNonce::try_from(&nonce[..]).unwrap(),
            Payload {
                msg: clear,
                aad: &aad,
            },
        )
        .unwrap();
    assert_eq!(
        hex::encode(sealed),
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
         21f9664c97637da9768812f615c68b13b52e\
         c0875924c1c7987947deafd8780acf49"
    );
}

#[test]
fn what_was_sealed_by_the_first_version_opens_for_ever() {
    // Made by this very form; a change of it needs another version number.
    let header = "\u{2}PS1:k1:";
    let nonce = [7_u8; 24];
    let key: Vec<u8> = (1..).take(KEY_BYTES).collect();
    let mut bound = header.as_bytes().to_vec();
    bound.extend_from_slice(b"deliveries.body_text\0");
    bound.extend_from_slice(ROW.as_bytes());
    let sealed = XChaCha20Poly1305::new_from_slice(&key)
        .unwrap()
        .encrypt(
            &XNonce::from(nonce),
            Payload {
                msg: "olá".as_bytes(),
                aad: &bound,
            },
        )
        .unwrap();
    let kept = format!(
        "{header}{}",
        STANDARD.encode([&nonce[..], &sealed].concat())
    );
    assert_eq!(keys(&[("k1", 1)]).open_text(TEXT, kept).unwrap(), "olá");
}

#[test]
fn without_keys_everything_is_kept_as_it_is() {
    let off = Keyring::off();
    assert_eq!(off.active(), None);
    for text in ["", "olá", "{\"a\":1}"] {
        assert_eq!(off.seal_text(TEXT, text), text);
        assert_eq!(off.seal_bytes(TEXT, text.as_bytes()), text.as_bytes());
    }
    let value = json!({"a": ["b", null]});
    assert_eq!(*off.seal_json(TEXT, &value), value);
    assert_eq!(Keyring::parse(" \n,").unwrap().active(), None);
}

#[test]
fn a_text_that_passes_itself_for_a_sealed_one_stays_the_text_that_it_is() {
    let on = keys(&[("k1", 1)]);
    let forged = on.seal_text(TEXT, "segredo").into_owned();
    for seals in [Keyring::off(), keys(&[("k2", 2)]), on] {
        for text in [forged.as_str(), "\u{2}PS", "\u{2}PS0:x", "\u{2}PS9:x"] {
            let kept = seals.seal_text(TEXT, text).into_owned();
            assert_eq!(seals.open_text(TEXT, kept).unwrap(), text);
            let kept = seals.seal_bytes(TEXT, text.as_bytes()).into_owned();
            assert_eq!(seals.open_bytes(TEXT, kept).unwrap(), text.as_bytes());
            let value = Value::from(text);
            let kept = seals.seal_json(TEXT, &value).into_owned();
            assert_eq!(seals.open_json(TEXT, kept).unwrap(), value);
        }
    }
}

#[test]
fn a_value_opens_in_its_row_and_column_alone() {
    let seals = keys(&[("k1", 1)]);
    let kept = seals.seal_text(TEXT, "olá").into_owned();
    let damaged = OpenError::Damaged {
        id: "k1".to_owned(),
    };
    for place in [
        Place::new(Column::DeliveryText, Uuid::from_u128(2)),
        Place::new(Column::ChatText, ROW),
    ] {
        assert_eq!(seals.open_text(place, kept.clone()), Err(damaged.clone()));
    }
    assert!(!damaged.is_transient());
}

#[test]
fn another_key_of_the_same_id_opens_nothing_and_an_unknown_one_is_named() {
    let kept = keys(&[("k1", 1)]).seal_text(TEXT, "olá").into_owned();
    assert!(matches!(
        keys(&[("k1", 2)]).open_text(TEXT, kept.clone()),
        Err(OpenError::Damaged { .. })
    ));
    for seals in [Keyring::off(), keys(&[("k2", 1)])] {
        let error = seals.open_text(TEXT, kept.clone()).unwrap_err();
        assert_eq!(
            error,
            OpenError::NoKey {
                id: "k1".to_owned()
            }
        );
        assert!(error.is_transient());
    }
    let rotated = keys(&[("k2", 2), ("k1", 1)]);
    assert_eq!(rotated.active(), Some("k2"));
    assert_eq!(rotated.open_text(TEXT, kept).unwrap(), "olá");
    let unknown = "\u{2}PS7:k1:AAAA".to_owned();
    assert_eq!(
        rotated.open_text(TEXT, unknown),
        Err(OpenError::UnknownForm)
    );
}

#[test]
fn lists_that_are_none_are_refused_without_showing_a_key() {
    let good = entry("k1", 1);
    let secret = good.split_once(':').unwrap().1;
    let zeros = STANDARD.encode([0; 32]);
    let short = STANDARD.encode([1, 2, 3]);
    for (list, wanted) in [
        (secret.to_owned(), KeyringError::Form(1)),
        (format!("{good},{secret}"), KeyringError::Form(2)),
        (format!("K1:{secret}"), KeyringError::Id(1)),
        (format!(":{secret}"), KeyringError::Id(1)),
        (
            format!("{good},{good}"),
            KeyringError::Twice { id: "k1".into() },
        ),
        (
            "k1:not-base64!".to_owned(),
            KeyringError::Key { id: "k1".into() },
        ),
        (format!("k1:{zeros}"), KeyringError::Key { id: "k1".into() }),
        (format!("k1:{short}"), KeyringError::Key { id: "k1".into() }),
    ] {
        let error = Keyring::parse(&list).unwrap_err();
        assert_eq!(error, wanted);
        assert!(!error.to_string().contains(secret), "{error}");
    }
    assert_eq!(
        format!("{:?}", keys(&[("k2", 2), ("k1", 1)])),
        r#"["k2", "k1"]"#
    );
}

#[test]
fn a_process_without_the_keys_of_the_database_does_not_start() {
    let old = keys(&[("k1", 1)]).proof().unwrap();
    let new = keys(&[("k2", 2)]).proof().unwrap();
    let known = [old.clone(), new.clone()];
    assert_eq!(Keyring::off().check(&[]), Ok(()));
    assert_eq!(keys(&[("k2", 2), ("k1", 1)]).check(&known), Ok(()));
    // A key that the database does not know yet may be there: it is about to be rolled out.
    assert_eq!(
        keys(&[("k1", 1), ("k3", 3)]).check(std::slice::from_ref(&old)),
        Ok(())
    );
    let missing = |id: &str| Err(KeyringError::Missing { id: id.to_owned() });
    let wrong = |id: &str| Err(KeyringError::Wrong { id: id.to_owned() });
    assert_eq!(Keyring::off().check(&known), missing("k1"));
    assert_eq!(keys(&[("k1", 1)]).check(&known), missing("k2"));
    assert_eq!(keys(&[("k1", 9), ("k2", 2)]).check(&known), wrong("k1"));
    // A proof that another key made is none.
    let swapped = Registered {
        id: "k1".to_owned(),
        proof: new.proof,
    };
    assert_eq!(keys(&[("k1", 1), ("k2", 2)]).check(&[swapped]), wrong("k1"));
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens_as_it_was_and_shows_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "\\PC{0,60}",
        on in any::<bool>(),
    ) {
        let seals = if on { keys(&[("k2", 2), ("k1", 1)]) } else { Keyring::off() };
        let kept = seals.seal_bytes(TEXT, &bytes).into_owned();
        prop_assert_eq!(sealed_with(&kept), (on && !bytes.is_empty()).then_some("k2"));
        prop_assert_eq!(seals.open_bytes(TEXT, kept).unwrap(), bytes);
        let kept = seals.seal_text(TEXT, &text).into_owned();
        if on && text.len() > 3 {
            prop_assert!(!kept.contains(&text));
            prop_assert_ne!(&kept, &*seals.seal_text(TEXT, &text), "no nonce comes twice");
        }
        prop_assert_eq!(seals.open_text(TEXT, kept).unwrap(), text.clone());
        let value = json!({"text": text, "n": [1, null]});
        let kept = seals.seal_json(TEXT, &value).into_owned();
        prop_assert_eq!(seals.open_json(TEXT, kept).unwrap(), value);
    }

    #[test]
    fn one_changed_bit_anywhere_is_found_out(
        clear in proptest::collection::vec(any::<u8>(), 1..80),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let seals = keys(&[("k1", 1)]);
        let kept = seals.seal_bytes(TEXT, &clear).into_owned();
        let header = "\u{2}PS1:k1:".len();
        let mut changed = kept.clone();
        // Behind the mark: a changed mark makes it a value in clear, which shows nothing either.
        let at = header + at.index(kept.len() - header);
        changed[at] ^= 1 << bit;
        let opened = seals.open_bytes(TEXT, changed);
        let damaged = matches!(opened, Err(OpenError::Damaged { .. }));
        prop_assert!(damaged, "{:?}", opened);
        let cut = kept[..kept.len() - 1].to_vec();
        let is_damaged = matches!(seals.open_bytes(TEXT, cut), Err(OpenError::Damaged { .. }));
        prop_assert!(is_damaged);
    }
}

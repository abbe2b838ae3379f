//! Values that name a person or open a door: each is read once, at the door, and prints masked ever
//! after (product 8.4, conventions D4). A phone is one of them and lives with the addresses.
//!
//! Invariant: `Debug`, `Display` and `Serialize` show the masked form, so that no log line, no answer and
//! no message carries the clear one by accident. Whoever stores or sends it writes `expose()`, which greps
//! well. What was masked is never read again.

mod bill_link;
mod document;
mod email;
mod token;

pub use bill_link::{BillLink, InvalidBillLink};
pub use document::{Cnpj, Cpf, InvalidDocument, TaxId};
pub use email::{Email, InvalidEmail};
pub use token::Token;

/// Lets a type show nothing but its masked form, and be read by its parser.
///
/// `$show` makes the masked form of a `&$name`; `$parse` reads a `&str`.
macro_rules! prints_masked {
    ($name:ty, $show:expr, $parse:expr) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$show(self))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$show(self))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$show(self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let raw = <String as serde::Deserialize>::deserialize(deserializer)?;
                // The errors of these parsers tell what is wrong and never repeat the value.
                $parse(&raw).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(in crate::domain) use prints_masked;

#[cfg(test)]
mod tests;

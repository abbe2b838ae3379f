//! A service order, as a file of reference data has it. Pure.

use anyhow::ensure;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use shared::store::service_orders::{Link, OrderRow};

/// The shortest token that nobody guesses, in characters.
const SHORTEST_TOKEN: usize = 16;

/// One order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderData {
    /// PixelHub's number.
    pub(crate) id: i64,
    #[serde(default)]
    tenant_id: Option<i64>,
    #[serde(default = "open")]
    status: String,
    #[serde(default)]
    customer_name: Option<String>,
    /// What the public link carries. Absent: as it is; null: the link opens nothing any more.
    #[serde(default, deserialize_with = "given")]
    token: Option<Option<String>>,
}

fn open() -> String {
    "open".to_owned()
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl std::fmt::Debug for OrderData {
    /// Neither name nor token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrderData")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl OrderData {
    /// The row; of the token its hash.
    ///
    /// # Errors
    /// The number or the status cannot be one, or the token is too short to be a secret.
    pub(crate) fn row(&self) -> anyhow::Result<OrderRow> {
        let (id, status) = (self.id, self.status.trim());
        ensure!(id > 0, "{id} is no number of a service order");
        ensure!(!status.is_empty(), "service order {id} has an empty status");
        let link = match &self.token {
            None => Link::Kept,
            Some(None) => Link::Taken,
            Some(Some(token)) => {
                let token = token.trim();
                ensure!(
                    token.chars().count() >= SHORTEST_TOKEN,
                    "the token of service order {id} has fewer than {SHORTEST_TOKEN} characters"
                );
                Link::Given(Sha256::digest(token).into())
            }
        };
        let name = self.customer_name.as_deref().map(str::trim);
        Ok(OrderRow {
            id,
            tenant_id: self.tenant_id,
            status: status.to_owned(),
            customer_name: name.filter(|name| !name.is_empty()).map(str::to_owned),
            link,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: &str) -> anyhow::Result<OrderRow> {
        serde_json::from_str::<OrderData>(json)?.row()
    }

    #[test]
    fn of_a_token_only_the_hash_goes_on_and_absent_is_another_thing_than_null() {
        let token = "0123456789abcdef";
        let link = |json: &str| row(json).unwrap().link;
        assert_eq!(link(r#"{"id":7}"#), Link::Kept);
        assert_eq!(link(r#"{"id":7,"token":null}"#), Link::Taken);
        assert_eq!(
            link(&format!(r#"{{"id":7,"token":"{token}"}}"#)),
            Link::Given(Sha256::digest(token).into())
        );
    }

    #[test]
    fn what_cannot_be_an_order_is_refused_and_its_token_is_not_told() {
        for json in [
            r#"{"id":0}"#,
            r#"{"id":7,"status":" "}"#,
            r#"{"id":7,"token":"short-secret"}"#,
            r#"{"id":7,"colour":"red"}"#,
            r#"{"tenant_id":7}"#,
        ] {
            let error = row(json).err().unwrap_or_else(|| panic!("{json} is taken"));
            assert!(!format!("{error:#}").contains("short-secret"), "{error:#}");
        }
    }
}

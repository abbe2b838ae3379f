//! From where a source may speak, set by the command line and by the admin API alike.

use serde_json::json;
use shared::domain::network::{ASAAS, InvalidNetwork, Network};
use shared::store::audit::{self, Author, NewAudit};
use shared::store::{StoreError, sources};
use sqlx::{Connection as _, PgConnection};

/// Lists of networks that are ready.
pub(crate) const PRESETS: [&str; 1] = ["asaas"];

/// The networks of a ready list.
pub(crate) fn preset(name: &str) -> Option<Vec<String>> {
    (name == "asaas").then(|| ASAAS.map(str::to_owned).to_vec())
}

/// The order was not carried out; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworksError {
    /// Look at the list.
    #[error("there is no source {0:?}")]
    UnknownSource(String),
    /// The network at that place of the list.
    #[error("entry {0} is no network")]
    Invalid(usize, #[source] InvalidNetwork),
    /// The database is unwell.
    #[error("the database did not do it")]
    Store(#[from] StoreError),
    /// The transaction could not be begun or ended.
    #[error("the database did not do it")]
    Transaction(#[from] sqlx::Error),
}

/// Sets from where a source may speak, and answers the networks as they are kept; none is from
/// everywhere. Leaves a line in the audit log.
pub(crate) async fn set(
    conn: &mut PgConnection,
    source: &str,
    networks: &[String],
    author: Author<'_>,
) -> Result<Vec<String>, NetworksError> {
    let mut written = Vec::with_capacity(networks.len());
    for (place, text) in networks.iter().enumerate() {
        let network: Network = text
            .parse()
            .map_err(|error| NetworksError::Invalid(place, error))?;
        written.push(network.to_string());
    }
    let mut tx = conn.begin().await?;
    if !sources::set_networks(&mut tx, source, &written).await? {
        return Err(NetworksError::UnknownSource(source.to_owned()));
    }
    let line = NewAudit {
        action: "source_networks_set",
        subject_kind: "source",
        subject_id: None,
        trace_id: None,
        detail: json!({"source": source, "networks": written}),
    };
    audit::insert(&mut tx, author, &[line]).await?;
    tx.commit().await?;
    tracing::info!(source, "the networks of a source were set");
    Ok(written)
}

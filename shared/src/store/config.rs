//! Loads the configuration into a `Directory`, and keeps it fresh: a notification makes the cache
//! quick, a comparison of versions every 30 s makes it right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{StoreResult, credentials, modules};
use crate::domain::directory::{ChannelAccount, Directory, Tenant};
use crate::domain::expression::Expression;
use crate::domain::ids::TenantId;
use crate::domain::network::Networks;
use crate::domain::rule::Rule;
use crate::domain::template::{Template, TemplateBook};
use crate::runtime::telemetry::chain;

/// How often versions are compared, whatever was notified.
const COMPARE_EVERY: Duration = Duration::from_secs(30);

/// The current directory of this process; cheap to clone and to read.
#[derive(Clone, Debug)]
pub struct DirectoryCache {
    current: watch::Receiver<Arc<Directory>>,
}

impl DirectoryCache {
    /// Loads the directory and keeps it fresh until `stopping`.
    ///
    /// # Errors
    /// The first load failed; try again when the database is well.
    pub async fn start(pool: PgPool, stopping: CancellationToken) -> StoreResult<Self> {
        let first = load(&mut *pool.acquire().await?).await?;
        let (sender, current) = watch::channel(Arc::new(first));
        tokio::spawn(keep_fresh(pool, sender, stopping));
        Ok(Self { current })
    }

    /// The directory as of now.
    #[must_use]
    pub fn get(&self) -> Arc<Directory> {
        Arc::clone(&self.current.borrow())
    }
}

async fn keep_fresh(
    pool: PgPool,
    current: watch::Sender<Arc<Directory>>,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() && !current.is_closed() {
        let followed = tokio::select! {
            followed = follow(&pool, &current) => followed,
            () = stopping.cancelled() => return,
            () = current.closed() => return,
        };
        if let Err(error) = followed {
            tracing::warn!(error = %chain(&error), "the configuration cannot be followed, trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Listens on a connection of its own. A lost connection may have lost notifications, so every
/// beginning compares first.
async fn follow(pool: &PgPool, current: &watch::Sender<Arc<Directory>>) -> StoreResult<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen("posto_config").await?;
    loop {
        reload_if_newer(pool, current).await?;
        match tokio::time::timeout(COMPARE_EVERY, listener.try_recv()).await {
            Ok(Ok(Some(_))) | Err(_) => {}
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
        }
    }
}

async fn reload_if_newer(
    pool: &PgPool,
    current: &watch::Sender<Arc<Directory>>,
) -> StoreResult<()> {
    let mut conn = pool.acquire().await?;
    let version = version(&mut conn).await?;
    if version == current.borrow().version {
        return Ok(());
    }
    let fresh = load(&mut conn).await?;
    tracing::info!(version = fresh.version, "the configuration was reloaded");
    current.send_replace(Arc::new(fresh));
    Ok(())
}

async fn version(conn: &mut PgConnection) -> StoreResult<i64> {
    Ok(sqlx::query_scalar!("select version from config_version")
        .fetch_one(conn)
        .await?)
}

/// Loads the whole configuration. The version is read first: a change in between is met again at
/// the next comparison.
///
/// # Errors
/// See [`super::StoreError`].
pub async fn load(conn: &mut PgConnection) -> StoreResult<Directory> {
    let version = version(conn).await?;
    let tenants = sqlx::query!(
        r#"select id, name, trade_name, phone, phone_match_key, archived_at is not null as "archived!" from tenants"#
    )
    .fetch_all(&mut *conn)
    .await?
    .into_iter()
    .map(|row| {
        let id = TenantId(row.id);
        let tenant = Tenant {
            id,
            name: row.name,
            trade_name: row.trade_name,
            phone: row.phone,
            phone_match_key: row.phone_match_key,
            archived: row.archived,
        };
        (id, Arc::new(tenant))
    })
    .collect();
    let accounts = sqlx::query_as!(
        ChannelAccount,
        "select id, provider_account, display_name, own_phone, enabled from channels"
    )
    .fetch_all(&mut *conn)
    .await?
    .into_iter()
    .map(|account| (account.id.clone(), Arc::new(account)))
    .collect();
    let aliases = sqlx::query!("select alias, channel_id from channel_aliases")
        .fetch_all(&mut *conn)
        .await?
        .into_iter()
        .map(|row| (row.alias, row.channel_id))
        .collect();
    let mut tenant_accounts: HashMap<TenantId, Vec<String>> = HashMap::new();
    let rows = sqlx::query!(
        "select tenant_id, channel_id from tenant_message_channels where enabled
         order by tenant_id, is_default desc, id"
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        tenant_accounts
            .entry(TenantId(row.tenant_id))
            .or_default()
            .push(row.channel_id);
    }
    let mut sources = Vec::new();
    let mut allowed = HashMap::new();
    let rows = sqlx::query!("select name, networks from sources where enabled")
        .fetch_all(&mut *conn)
        .await?;
    for row in rows {
        if !row.networks.is_empty() {
            allowed.insert(row.name.clone(), networks(&row.name, &row.networks));
        }
        sources.push(row.name);
    }
    let (mut asaas_customers, mut asaas_accounts) = (HashMap::new(), HashMap::new());
    let rows = sqlx::query!(
        r#"select asaas_id, tenant_id, kind = 'customer' as "is_customer!" from tenant_asaas_ids"#
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        let ids = if row.is_customer {
            &mut asaas_customers
        } else {
            &mut asaas_accounts
        };
        ids.insert(row.asaas_id, TenantId(row.tenant_id));
    }
    let hash_key = sqlx::query_scalar!("select hash_key from installation")
        .fetch_one(&mut *conn)
        .await?;
    let keyring = credentials::load(conn).await?;
    Ok(Directory {
        version,
        hash_key,
        tenants,
        accounts,
        aliases,
        tenant_accounts,
        asaas_customers,
        asaas_accounts,
        rules: rules(conn).await?,
        templates: Arc::new(TemplateBook::compile(templates(conn).await?)),
        credentials: keyring.bearer,
        signing_keys: keyring.signing,
        sources,
        networks: allowed,
        switches: modules::load(conn).await?,
        ..Directory::default()
    }
    .indexed())
}

/// What cannot be read lets nobody in: a list that is there is never taken for none.
fn networks(source: &str, texts: &[String]) -> Networks {
    let read = texts.iter().filter_map(|text| match text.parse() {
        Ok(network) => Some(network),
        Err(_) => {
            tracing::error!(
                source,
                "a network of the source cannot be read: set them again"
            );
            None
        }
    });
    read.collect()
}

async fn rules(conn: &mut PgConnection) -> StoreResult<Vec<Arc<Rule>>> {
    let rows = sqlx::query!(
        "select id, name, event_type, source_system, tenant_id, condition, channel, template, template_expr,
                priority, needs_ai, needs_human
         from routing_rules where enabled order by id"
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            Arc::new(Rule {
                id: row.id,
                name: row.name,
                event_type: row.event_type,
                source_system: row.source_system,
                tenant_id: row.tenant_id.map(TenantId),
                condition: row.condition.as_deref().map(Expression::compile),
                channel: row.channel.parse().ok(),
                template: row.template,
                template_expr: row.template_expr.as_deref().map(Expression::compile),
                priority: row.priority,
                needs_ai: row.needs_ai,
                needs_human: row.needs_human,
            })
        })
        .collect())
}

async fn templates(conn: &mut PgConnection) -> StoreResult<Vec<Template>> {
    let rows = sqlx::query!(
        "select id, key, channel, locale, version, body, variables, lane, unknown_policy
         from message_templates where active order by locale = 'pt-BR', id"
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Template {
                id: row.id,
                key: row.key,
                channel: row.channel.parse().ok()?,
                locale: row.locale,
                version: row.version,
                body: row.body,
                variables: serde_json::from_value(row.variables).unwrap_or_default(),
                lane: row.lane,
                unknown_policy: row.unknown_policy,
            })
        })
        .collect())
}

//! The commands that are no service: migrate, check-config, import. Those about keys are in
//! `key_commands`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgMatches, CommandFactory as _};
use serde::Deserialize;
use shared::domain::address::Phone;
use shared::domain::directory::account_slug;
use shared::domain::personal::Email;
use shared::runtime::cli;
use shared::runtime::clock::{Clock as _, SystemClock};
use shared::store::config;
use shared::store::import::{self, TenantRow};
use shared::store::invoices;
use shared::store::pool::{self, DatabaseArgs};
use shared::store::sealing_keys;
use shared::store::service_orders;
use sqlx::Connection as _;

use crate::cli::{Cli, Described, RunArgs};
use crate::order_data::OrderData;
use crate::{admin, api};

/// How long `check-config` waits for the database.
const KEYS_BOUND: Duration = Duration::from_secs(5);

/// Applies pending migrations.
///
/// # Errors
/// The database cannot be reached, or a migration failed; nothing of that one is kept.
pub async fn migrate(args: &DatabaseArgs) -> anyhow::Result<()> {
    let pool = pool::open(args, pool::COMMAND_STATEMENT)?;
    pool::migrate(&pool).await?;
    pool.close().await;
    Ok(())
}

/// What a listener takes and answers, as OpenAPI 3.1.
#[must_use]
pub fn openapi(listener: Described) -> String {
    let document = match listener {
        Described::Public => api::document(),
        Described::Admin => admin::document(),
    };
    format!("{document:#}")
}

/// The effective settings, with secrets hidden, and what an operator should know about them. The
/// keys of sources are in the database: it is asked where it answers.
pub async fn check_config(args: &RunArgs, matches: &ArgMatches) -> String {
    let settings = cli::effective_of(Cli::command(), matches);
    let mut remarks = args.remarks();
    match tokio::time::timeout(KEYS_BOUND, doors_of_sources(args)).await {
        Ok(Ok(shut)) => remarks.extend(shut),
        Ok(Err(error)) => remarks.push(format!("the keys of sources are not known: {error:#}")),
        Err(_) => remarks.push("the keys of sources are not known: no answer in time".to_owned()),
    }
    remarks.extend(sealing_keys::remark(&args.database, &args.sealing).await);
    let remarks: String = remarks
        .iter()
        .map(|remark| format!("note: {remark}\n"))
        .collect();
    cli::table(&settings) + &remarks
}

async fn doors_of_sources(args: &RunArgs) -> anyhow::Result<Option<String>> {
    let pool = pool::open(&args.database, KEYS_BOUND)?;
    let directory = config::load(&mut *pool.acquire().await?).await?;
    pool.close().await;
    Ok(args.remark_about_keys(&directory, SystemClock.now()))
}

/// Reference data, as the file has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceData {
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    channels: Vec<ChannelData>,
    #[serde(default)]
    tenants: Vec<TenantData>,
    #[serde(default)]
    invoices: Vec<InvoiceData>,
    #[serde(default)]
    service_orders: Vec<OrderData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelData {
    /// As the gateway spells it.
    provider_account: String,
    #[serde(default)]
    own_phone: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantData {
    id: i64,
    name: String,
    #[serde(default)]
    trade_name: Option<String>,
    #[serde(default = "company")]
    person_type: String,
    #[serde(default)]
    phone: Option<String>,
    #[serde(default)]
    email: Option<String>,
    /// Accounts that its messages may leave through, the default one first.
    #[serde(default)]
    channels: Vec<String>,
    /// Its customers at Asaas, `cus_…`; one CPF may have several.
    #[serde(default)]
    asaas_customers: Vec<String>,
    /// Accounts at Asaas that it has for itself.
    #[serde(default)]
    asaas_accounts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InvoiceData {
    /// PixelHub's number.
    id: i64,
    tenant_id: i64,
    /// The charge at Asaas, `pay_…`.
    #[serde(default)]
    asaas_payment_id: Option<String>,
}

fn company() -> String {
    "pj".to_owned()
}

/// Sets reference data from a file, all of it or nothing.
///
/// # Errors
/// The file cannot be read, or names something that does not exist; nothing was changed.
pub async fn import(args: &DatabaseArgs, file: &Path) -> anyhow::Result<String> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let data: ReferenceData = serde_json::from_str(&text)
        .with_context(|| format!("{} is not reference data", file.display()))?;
    let pool = pool::open(args, pool::COMMAND_STATEMENT)?;
    let mut conn = pool.acquire().await?;
    let mut tx = conn.begin().await?;
    for source in &data.sources {
        import::source(&mut tx, source).await?;
    }
    for channel in &data.channels {
        let id = account_slug(&channel.provider_account);
        import::channel(
            &mut tx,
            &id,
            &channel.provider_account,
            channel.own_phone.as_deref(),
        )
        .await?;
        for alias in &channel.aliases {
            import::channel_alias(&mut tx, &account_slug(alias), &id).await?;
        }
    }
    for tenant in &data.tenants {
        import::tenant(&mut tx, &tenant_row(tenant)?).await?;
        for (place, channel) in tenant.channels.iter().enumerate() {
            import::tenant_channel(&mut tx, tenant.id, &account_slug(channel), place == 0)
                .await
                .with_context(|| {
                    format!("tenant {} names a channel that is not there", tenant.id)
                })?;
        }
        for (kind, ids) in [
            ("customer", &tenant.asaas_customers),
            ("account", &tenant.asaas_accounts),
        ] {
            for id in ids {
                let id = id.trim();
                ensure!(!id.is_empty(), "tenant {} has an empty Asaas id", tenant.id);
                import::asaas_id(&mut tx, kind, id, tenant.id).await?;
            }
        }
    }
    for invoice in &data.invoices {
        let key = format!("invoice:{}", invoice.id);
        let charge = invoice.asaas_payment_id.as_deref().map(str::trim);
        let charge = charge.map(|id| format!("asaas:{id}"));
        invoices::set(&mut tx, &key, charge.as_deref(), invoice.tenant_id)
            .await
            .with_context(|| format!("invoice {} names a tenant that is not there", invoice.id))?;
    }
    for order in &data.service_orders {
        service_orders::set(&mut tx, &order.row()?)
            .await
            .with_context(|| {
                format!(
                    "service order {} names a tenant that is not there, or a token of another",
                    order.id
                )
            })?;
    }
    if !data.invoices.is_empty() {
        import::tell(&mut tx).await?;
    }
    tx.commit().await?;
    drop(conn);
    pool.close().await;
    Ok(format!(
        "{} sources, {} channels, {} tenants, {} invoices, {} service orders",
        data.sources.len(),
        data.channels.len(),
        data.tenants.len(),
        data.invoices.len(),
        data.service_orders.len()
    ))
}

fn tenant_row(tenant: &TenantData) -> anyhow::Result<TenantRow> {
    let phone = tenant.phone.as_deref().map(Phone::parse_brazil).transpose();
    let Ok(phone) = phone else {
        bail!("the phone of tenant {} cannot be one", tenant.id)
    };
    let email = tenant.email.as_deref().map(str::trim);
    let email = email.filter(|email| !email.is_empty()).map(Email::parse);
    let email = email
        .transpose()
        .with_context(|| format!("the e-mail of tenant {} cannot be one", tenant.id))?;
    Ok(TenantRow {
        id: tenant.id,
        name: tenant.name.clone(),
        trade_name: tenant.trade_name.clone(),
        person_type: tenant.person_type.clone(),
        phone: tenant.phone.clone(),
        phone_match_key: phone.map(|phone| phone.match_key()),
        email: email.map(|email| email.expose().to_owned()),
    })
}

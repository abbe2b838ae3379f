//! What reached the gateway, asked of the simulator.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::event::number_of;
use super::post::Window;
use crate::gateway_sim::Arrival;

/// How often the simulator is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long nothing may arrive before the run is given up.
const STALLED_AFTER: Duration = Duration::from_secs(90);
/// Arrivals of one page.
const PAGE: usize = 50_000;

/// The simulator, as the load tool sees it.
#[derive(Clone, Debug)]
pub struct Gateway {
    http: reqwest::Client,
    url: String,
}

impl Gateway {
    /// The simulator at an address.
    #[must_use]
    pub const fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url }
    }

    /// Changes settings of the simulator.
    ///
    /// # Errors
    /// It refuses them.
    pub async fn set(&self, settings: &Value) -> anyhow::Result<()> {
        self.order("settings", settings).await
    }

    /// Makes every answer to these recipients slow.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn slow_down(&self, recipients: &[String], by: Duration) -> anyhow::Result<()> {
        let fault = json!({ "fault": "slow_answer", "to": recipients, "delay_ms": by.as_millis() });
        self.order("faults", &fault).await
    }

    async fn order(&self, what: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self
            .http
            .post(format!("{}/_sim/{what}", self.url))
            .json(body)
            .send()
            .await?;
        ensure!(
            answer.status().is_success(),
            "the simulator answers {} to {what}",
            answer.status()
        );
        Ok(())
    }

    /// How many messages went out, and how many webhooks wait.
    async fn counts(&self) -> anyhow::Result<(usize, u64)> {
        let stats: Value = self
            .http
            .get(format!("{}/_sim/stats", self.url))
            .send()
            .await?
            .json()
            .await?;
        let count = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64);
        let out = count("/sends/went_out").context("the simulator counts")?;
        Ok((
            usize::try_from(out)?,
            count("/webhooks/waiting").unwrap_or_default(),
        ))
    }

    /// Waits until so many messages have arrived and all their webhooks were taken, letting more be
    /// posted as they arrive.
    ///
    /// # Errors
    /// Nothing arrives any more.
    pub async fn until_arrived(&self, expected: usize, window: &Window) -> anyhow::Result<()> {
        let (mut known, mut moved_at) = (0, Instant::now());
        loop {
            let (arrived, webhooks) = self.counts().await?;
            if arrived > known {
                window.arrived(arrived - known);
                (known, moved_at) = (arrived, Instant::now());
            }
            if known >= expected && webhooks == 0 {
                return Ok(());
            }
            ensure!(
                moved_at.elapsed() < STALLED_AFTER,
                "{known} of {expected} messages arrived, then nothing"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// When each event's message arrived, in microseconds of Unix time, by the event's number.
    ///
    /// # Errors
    /// A message arrived twice, or belongs to no event of this run: Posto broke its word.
    pub async fn arrivals(&self, events: usize) -> anyhow::Result<Vec<Option<i64>>> {
        let mut at_us = vec![None; events];
        let mut since = 0;
        loop {
            let page = format!("{}/_sim/arrivals?since={since}&limit={PAGE}", self.url);
            let page: Vec<Arrival> = self.http.get(page).send().await?.json().await?;
            for (recipient, arrived_us) in &page {
                let nth = number_of(recipient).context("a message for nobody of ours")?;
                let at = at_us
                    .get_mut(usize::try_from(nth)?)
                    .context("a message for nobody of ours")?;
                ensure!(
                    at.replace(*arrived_us).is_none(),
                    "event {nth} was sent twice"
                );
            }
            since += page.len();
            if page.len() < PAGE {
                return Ok(at_us);
            }
        }
    }
}

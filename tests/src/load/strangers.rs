//! Posts with a wrong key, as fast as they are answered: what somebody does who guesses, or whose key
//! was revoked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::event::Events;
use super::post::Target;
use crate::plain_http::PlainHttp;

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// How many posts were made.
    pub posts: u64,
    /// How many a second.
    pub per_s: f64,
    /// How many were answered with which status; 0 is no answer.
    pub by_status: BTreeMap<u16, u64>,
}

/// A flood that is on its way.
#[derive(Debug)]
pub struct Flood {
    begun: Instant,
    over: Arc<AtomicBool>,
    posting: JoinSet<BTreeMap<u16, u64>>,
}

impl Flood {
    /// Begins to post over so many connections.
    ///
    /// # Errors
    /// The address is no plain HTTP.
    pub fn begin(target: &Target, connections: u32) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(&target.url)?.join("/api/events")?;
        let headers =
            "content-type: application/json\r\nauthorization: Bearer a-wrong-key-of-nobody\r\n";
        let http = PlainHttp::new(&url, headers).context("the address is no plain HTTP")?;
        let http = Arc::new(http);
        let over = Arc::new(AtomicBool::new(false));
        let body: Arc<[u8]> = Events::new().body(0, 1).into();
        let mut posting = JoinSet::new();
        for _ in 0..connections {
            let (http, over, body) = (Arc::clone(&http), Arc::clone(&over), Arc::clone(&body));
            posting.spawn(async move {
                let mut by_status = BTreeMap::new();
                while !over.load(Ordering::Relaxed) {
                    let status = http.post(&body).await.unwrap_or_default();
                    *by_status.entry(status).or_default() += 1;
                }
                by_status
            });
        }
        Ok(Self {
            begun: Instant::now(),
            over,
            posting,
        })
    }

    /// Ends it.
    pub async fn end(self) -> Refused {
        self.over.store(true, Ordering::Relaxed);
        let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
        for own in self.posting.join_all().await {
            for (status, posts) in own {
                *by_status.entry(status).or_default() += posts;
            }
        }
        let posts = by_status.values().sum();
        #[expect(
            clippy::cast_precision_loss,
            reason = "runs have far fewer than 2^52 posts"
        )]
        let per_s = posts as f64 / self.begun.elapsed().as_secs_f64();
        Refused {
            posts,
            per_s,
            by_status,
        }
    }
}

//! The gateway's channels (WhatsApp sessions), the webhook registrations and the LID map.
//!
//! Small and rarely written: it is kept whole in `state.json` and replaced at each change.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{lock, messages::replace_file};
use crate::plain_http::PlainHttp;

/// State of a channel's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Session {
    Connected,
    Disconnected,
    QrRequired,
}

impl Session {
    /// The gateway's word for it (facts §1.6).
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::QrRequired => "qr_required",
        }
    }
}

/// One channel, as the API handlers see it at one moment.
#[derive(Clone)]
pub(super) struct Channel {
    /// Its id, which is its name too; exact, with spaces and capitals.
    pub(super) id: Arc<str>,
    /// Phone number of the session, digits.
    pub(super) own_number: Arc<str>,
    pub(super) session: Session,
    webhook: Option<Arc<Target>>,
}

impl Channel {
    /// The JID of the channel's own number.
    pub(super) fn own_jid(&self) -> String {
        format!("{}@c.us", self.own_number)
    }
}

/// Where webhooks go.
pub(super) struct Target {
    pub(super) url: reqwest::Url,
    /// Headers that carry the registration's secret, else the simulator's own.
    pub(super) headers: HeaderMap,
    /// The short way, for plain HTTP.
    pub(super) plain: Option<PlainHttp>,
    registration: Registration,
    /// Set when the receiver could not be reached: nobody tries before then.
    pub(super) not_before: Mutex<Instant>,
}

/// A registration as it is asked for and kept.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Registration {
    pub(super) url: String,
    #[serde(default)]
    pub(super) secret: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    channels: Vec<KeptChannel>,
    #[serde(default)]
    webhook: Option<Registration>,
    #[serde(default)]
    lids: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct KeptChannel {
    id: String,
    own_number: String,
    session: Session,
    #[serde(default)]
    webhook: Option<Registration>,
}

/// All channels of the gateway.
pub(super) struct Channels {
    inner: RwLock<Inner>,
    file: Option<PathBuf>,
    next_own_number: AtomicU64,
    default_secret: Option<String>,
    default_target: Option<Arc<Target>>,
}

struct Inner {
    channels: Vec<Channel>,
    webhook: Option<Arc<Target>>,
    lids: BTreeMap<String, String>,
}

impl Channels {
    /// Loads what `file` keeps and adds the `sessions` that it does not know, connected.
    ///
    /// # Errors
    /// `file` is there but unreadable or damaged: mend or remove it. `webhook` is no URL.
    pub(super) fn load(
        file: Option<PathBuf>,
        sessions: &[String],
        webhook: Option<Registration>,
    ) -> io::Result<Self> {
        let kept = match file.as_deref().map(std::fs::read) {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes)?,
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => Kept::default(),
        };
        let default_secret = webhook.as_ref().and_then(|it| it.secret.clone());
        let target = |registration: Option<Registration>| {
            registration
                .map(|it| target(it, default_secret.as_deref()))
                .transpose()
        };
        let mut channels = Vec::new();
        let mut next_own_number = FIRST_OWN_NUMBER;
        for it in kept.channels {
            next_own_number = next_own_number.max(it.own_number.parse().unwrap_or(0) + 1);
            channels.push(Channel {
                id: it.id.into(),
                own_number: it.own_number.into(),
                session: it.session,
                webhook: target(it.webhook)?,
            });
        }
        let loaded = Self {
            inner: RwLock::new(Inner {
                channels,
                webhook: target(kept.webhook)?,
                lids: kept.lids,
            }),
            file,
            next_own_number: AtomicU64::new(next_own_number),
            default_target: target(webhook)?,
            default_secret,
        };
        for session in sessions {
            if loaded.find(session).is_none() {
                loaded.create(session, Session::Connected);
            }
        }
        Ok(loaded)
    }

    /// The channel with exactly this id.
    pub(super) fn find(&self, id: &str) -> Option<Channel> {
        let inner = self.read();
        inner.channels.iter().find(|it| &*it.id == id).cloned()
    }

    /// Every channel, in order of creation.
    pub(super) fn all(&self) -> Vec<Channel> {
        self.read().channels.clone()
    }

    /// Where the webhooks of a channel go: its own registration, else the global one, else the one
    /// that the simulator was started with.
    pub(super) fn target_of(&self, id: &str) -> Option<Arc<Target>> {
        let inner = self.read();
        let own = inner.channels.iter().find(|it| &*it.id == id);
        own.and_then(|it| it.webhook.clone())
            .or_else(|| inner.webhook.clone())
            .or_else(|| self.default_target.clone())
    }

    /// Adds a channel; one that is there stays as it is.
    pub(super) fn create(&self, id: &str, session: Session) {
        let number = self.next_own_number.fetch_add(1, Ordering::Relaxed);
        self.change(|inner| {
            if inner.channels.iter().all(|it| &*it.id != id) {
                inner.channels.push(Channel {
                    id: id.into(),
                    own_number: number.to_string().into(),
                    session,
                    webhook: None,
                });
            }
        });
    }

    /// Removes a channel.
    pub(super) fn remove(&self, id: &str) {
        self.change(|inner| inner.channels.retain(|it| &*it.id != id));
    }

    /// Moves a channel's session to another state.
    pub(super) fn set_session(&self, id: &str, session: Session) {
        self.change(|inner| {
            for channel in inner.channels.iter_mut().filter(|it| &*it.id == id) {
                channel.session = session;
            }
        });
    }

    /// Connects every session.
    pub(super) fn connect_all(&self) {
        self.change(|inner| {
            for channel in &mut inner.channels {
                channel.session = Session::Connected;
            }
        });
    }

    /// Registers a webhook, for one channel or for all.
    ///
    /// # Errors
    /// The URL is none: tell the caller.
    pub(super) fn register(
        &self,
        channel: Option<&str>,
        registration: Registration,
    ) -> io::Result<()> {
        let target = target(registration, self.default_secret.as_deref())?;
        self.change(|inner| match channel {
            None => inner.webhook = Some(target),
            Some(id) => {
                for channel in inner.channels.iter_mut().filter(|it| &*it.id == id) {
                    channel.webhook = Some(Arc::clone(&target));
                }
            }
        });
        Ok(())
    }

    /// Remembers whose phone a LID is.
    pub(super) fn learn_lid(&self, lid: &str, phone: &str) {
        self.change(|inner| {
            inner.lids.insert(lid.to_owned(), phone.to_owned());
        });
    }

    /// The phone behind a LID.
    pub(super) fn phone_of(&self, lid: &str) -> Option<String> {
        self.read().lids.get(lid).cloned()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut inner);
        if let Some(file) = &self.file
            && let Err(error) = inner.keep(file)
        {
            tracing::error!(%error, "the state of the channels cannot be written");
        }
    }
}

impl Inner {
    fn keep(&self, file: &std::path::Path) -> io::Result<()> {
        let kept = Kept {
            channels: self
                .channels
                .iter()
                .map(|it| KeptChannel {
                    id: it.id.to_string(),
                    own_number: it.own_number.to_string(),
                    session: it.session,
                    webhook: it.webhook.as_deref().map(|it| it.registration.clone()),
                })
                .collect(),
            webhook: self.webhook.as_deref().map(|it| it.registration.clone()),
            lids: self.lids.clone(),
        };
        replace_file(file, &serde_json::to_vec_pretty(&kept)?)
    }
}

fn target(registration: Registration, default_secret: Option<&str>) -> io::Result<Arc<Target>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let url = reqwest::Url::parse(&registration.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(|| invalid("the webhook is no URL"))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut lines = "content-type: application/json\r\n".to_owned();
    if let Some(secret) = registration.secret.as_deref().or(default_secret) {
        let value = HeaderValue::from_str(secret)
            .map_err(|_| invalid("the webhook's secret cannot stand in a header"))?;
        // Receivers read one name or the other (facts §1.4).
        for name in ["x-gateway-secret", "x-webhook-secret"] {
            headers.insert(name, value.clone());
            lines.push_str(&format!("{name}: {secret}\r\n"));
        }
    }
    Ok(Arc::new(Target {
        plain: PlainHttp::new(&url, &lines),
        url,
        headers,
        registration,
        not_before: Mutex::new(Instant::now()),
    }))
}

impl Target {
    /// When the receiver may be tried again.
    pub(super) fn opens_at(&self) -> Instant {
        *lock(&self.not_before)
    }
}

/// Own number of the first channel; the samples' "Pixel12 Digital" has it.
const FIRST_OWN_NUMBER: u64 = 554_733_000_001;

//! What was sent through the simulator: the list behind `GET /_sim/messages`, and its journal.
//!
//! Each message is kept as the very JSON that the list answers and that the journal holds, so that
//! a hundred thousand of them cost one string each and no serialisation to read.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{faults::Fault, jid, lock};

/// One POST that the gateway took in, as `GET /_sim/messages` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// WhatsApp id of the message, `true_<chat>_<KEYID>`.
    pub id: String,
    /// Channel that it was sent through.
    pub channel: String,
    /// Recipient as the caller gave it.
    pub to: String,
    /// Text or caption.
    pub text: String,
    /// `text`, `image`, `audio`, `document`, `video`, …
    pub r#type: String,
    /// When it arrived, RFC 3339 UTC, to the microsecond.
    pub at: String,
    /// The caller's `X-Request-Id`.
    pub request_id: Option<String>,
    /// The caller's `metadata`, as it was.
    pub metadata: Option<Value>,
    /// Whether it left for the recipient.
    pub went_out: bool,
    /// The `correlationId` of the answer and of the echo.
    pub correlation_id: String,
    /// Chat id that WhatsApp made of `to`.
    pub chat: String,
    /// Faults that it met.
    pub faults: Vec<Fault>,
    /// Webhooks that follow it, in order.
    pub webhooks: Vec<Step>,
}

/// One webhook of a message's story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The echo that carries the WhatsApp id.
    Echo,
    /// An ack of this level.
    Ack(i8),
}

/// A listed message: its JSON, and what the list is searched by.
pub(super) struct Entry {
    recipient_key: Box<str>,
    went_out: bool,
    arrival: Arrival,
    json: Box<str>,
}

/// Who a message was for, as the caller gave it, and when it arrived, in microseconds of Unix time.
pub type Arrival = (Box<str>, i64);

impl Entry {
    fn new(message: &Message) -> serde_json::Result<Self> {
        Ok(Self {
            recipient_key: jid::match_key(&message.chat).into(),
            went_out: message.went_out,
            arrival: (message.to.as_str().into(), arrived_us(&message.at)),
            json: serde_json::to_string(message)?.into(),
        })
    }

    /// The message as JSON.
    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// Whether it left.
    pub(super) fn went_out(&self) -> bool {
        self.went_out
    }

    /// When it arrived, and for whom.
    pub(super) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// Whether it was for the recipient with this match key.
    pub(super) fn is_for(&self, recipient_key: &str) -> bool {
        &*self.recipient_key == recipient_key
    }
}

fn arrived_us(at: &str) -> i64 {
    DateTime::parse_from_rfc3339(at).map_or(0, |at| at.timestamp_micros())
}

/// All messages in order of arrival.
pub(super) struct Messages {
    inner: Mutex<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    list: Vec<Arc<Entry>>,
    journal: Option<mpsc::Sender<Line>>,
}

enum Line {
    Message(Arc<Entry>),
    Told(String),
    Wiped,
}

#[derive(Serialize, Deserialize)]
struct Told {
    told: String,
}

impl Messages {
    /// A list that lives in memory only.
    pub(super) fn in_memory() -> Self {
        Self {
            inner: Mutex::new(Inner {
                list: Vec::new(),
                journal: None,
            }),
            writer: Mutex::new(None),
        }
    }

    /// Reads the journal at `path` and goes on writing it. Also returns the messages whose webhooks
    /// had not all been delivered.
    ///
    /// # Errors
    /// The file cannot be read or opened for appending: give a directory that can be written.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Message>)> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        if bytes.last().is_some_and(|last| *last != b'\n') {
            // A kill in the middle of a write leaves half a line; the next one must not join it.
            file.write_all(b"\n")?;
        }
        let (list, untold) = read_journal(&bytes);
        let (sender, receiver) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("sim-journal".to_owned())
            .spawn(move || write_journal(file, &receiver))?;
        let messages = Self {
            inner: Mutex::new(Inner {
                list,
                journal: Some(sender),
            }),
            writer: Mutex::new(Some(writer)),
        };
        Ok((messages, untold))
    }

    /// Lists a message and hands it to the journal; their order is the same in both.
    pub(super) fn push(&self, message: &Message) {
        let entry = match Entry::new(message) {
            Ok(entry) => Arc::new(entry),
            Err(error) => {
                tracing::error!(%error, "a message could not be listed");
                return;
            }
        };
        let mut inner = lock(&self.inner);
        inner.write(Line::Message(Arc::clone(&entry)));
        inner.list.push(entry);
    }

    /// Notes that the whole story of a message has been told, so that a restart does not repeat it.
    pub(super) fn told(&self, id: &str) {
        lock(&self.inner).write(Line::Told(id.to_owned()));
    }

    /// The messages from number `since` on.
    pub(super) fn since(&self, since: usize) -> Vec<Arc<Entry>> {
        let inner = lock(&self.inner);
        inner.list.get(since..).unwrap_or_default().to_vec()
    }

    /// How many messages are listed.
    pub(super) fn len(&self) -> usize {
        lock(&self.inner).list.len()
    }

    /// Forgets all messages, on disk too.
    pub(super) fn wipe(&self) {
        let mut inner = lock(&self.inner);
        inner.write(Line::Wiped);
        inner.list = Vec::new();
    }

    /// Writes what is still on its way to the journal and closes it. Blocks for that long.
    pub(super) fn close(&self) {
        lock(&self.inner).journal = None;
        if let Some(writer) = lock(&self.writer).take()
            && writer.join().is_err()
        {
            tracing::error!("the journal of messages ended badly");
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    fn write(&self, line: Line) {
        if let Some(journal) = &self.journal {
            // The writer only ends when this sender does.
            let _ = journal.send(line);
        }
    }
}

fn read_journal(bytes: &[u8]) -> (Vec<Arc<Entry>>, Vec<Message>) {
    let mut list = Vec::new();
    let mut messages = Vec::new();
    let mut told = HashSet::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(message) = serde_json::from_slice::<Message>(line) {
            list.extend(Entry::new(&message).map(Arc::new));
            if !message.webhooks.is_empty() {
                messages.push(message);
            }
        } else if let Ok(Told { told: id }) = serde_json::from_slice(line) {
            told.insert(id);
        }
    }
    messages.retain(|message| !told.contains(&message.id));
    (list, messages)
}

/// Writes lines as they come: all that wait go out in one write, so the file is never behind by
/// more than the write before.
fn write_journal(mut file: File, lines: &mpsc::Receiver<Line>) {
    let mut failed = false;
    let mut buffer = Vec::new();
    while let Ok(first) = lines.recv() {
        let mut result = Ok(());
        for line in std::iter::once(first).chain(lines.try_iter().take(4096)) {
            match line {
                Line::Message(entry) => buffer.extend_from_slice(entry.json.as_bytes()),
                Line::Told(told) => {
                    if serde_json::to_writer(&mut buffer, &Told { told }).is_err() {
                        continue;
                    }
                }
                Line::Wiped => {
                    buffer.clear();
                    result = file.set_len(0);
                    continue;
                }
            }
            buffer.push(b'\n');
        }
        result = result.and_then(|()| file.write_all(&buffer));
        buffer.clear();
        if let Err(error) = result
            && !std::mem::replace(&mut failed, true)
        {
            tracing::error!(%error, "the journal of messages cannot be written");
        }
    }
}

/// Replaces a small file so that a reader sees the old or the new one, never half of it.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    fs::rename(fresh, path)
}

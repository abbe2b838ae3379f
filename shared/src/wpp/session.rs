//! How a session says whether it is connected. Each version of the wrapper says it elsewhere
//! (facts §1.2, §1.6), and reading the wrong path once blocked all sends (incident 35). So the
//! state is advisory: "connected" is not proof of anything (facts §0.7).

use serde_json::Value;

use super::{excerpt, texts};

/// What a session said of itself, boiled down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// It claims to be able to send.
    Connected,
    /// It says that it cannot.
    Disconnected,
    /// A person has to scan a QR code.
    QrRequired,
    /// Starting, or a word that nobody has seen; no reason to stop sending.
    Unknown,
}

/// The state of a session, with the word it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// The state.
    pub state: SessionState,
    /// The gateway's own word, shortened, for the operator.
    pub raw: Option<String>,
}

/// A channel that the gateway lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayChannel {
    /// The id, exactly as the gateway spells it (case and spaces matter there, facts §1.1).
    pub id: String,
    /// The name, when it has one of its own.
    pub name: Option<String>,
    /// The state of its session.
    pub status: SessionStatus,
}

impl SessionState {
    /// Reads a state's word. "available" and "unavailable" are a *contact's* presence
    /// (conventions A0.2), so they are unknown words here.
    fn from_word(word: &str) -> Self {
        match texts::fold(word).trim() {
            "connected" | "open" | "authenticated" | "inchat" | "islogged" | "ready" | "online"
            | "working" => Self::Connected,
            "disconnected" | "close" | "closed" | "notlogged" | "disconnectedmobile"
            | "desconnectedmobile" | "phonenotconnected" | "browserclose" | "serverclose"
            | "autoclosecalled" | "deletetoken" | "logout" | "auth_failure" | "offline"
            | "stopped" | "failed" | "not_connected" => Self::Disconnected,
            "qr_required" | "qrcode" | "qr" | "qr_code" | "scan_qr_code" | "qrreadfail"
            | "qrreaderror" | "unpaired" => Self::QrRequired,
            _ => Self::Unknown,
        }
    }
}

impl SessionStatus {
    /// A state that was told by a failure's code, not by a status field.
    pub(super) fn disconnected(raw: String) -> Self {
        Self {
            state: SessionState::Disconnected,
            raw: Some(raw),
        }
    }

    /// Reads every shape of facts §1.2: the channel's own object first, then the wrapped one,
    /// then the root. The first word that means something wins; else the first word at all.
    pub(super) fn read(body: &Value) -> Self {
        let places = [
            body.pointer("/data/channel"),
            body.get("channel"),
            body.get("session"),
            body.get("data"),
            Some(body),
        ];
        let mut found = places.into_iter().flatten().filter_map(Self::of_object);
        let first = found.next();
        match first {
            Some(status) if status.state != SessionState::Unknown => status,
            first => found
                .find(|status| status.state != SessionState::Unknown)
                .or(first)
                .unwrap_or(Self {
                    state: SessionState::Unknown,
                    raw: None,
                }),
        }
    }

    fn of_object(object: &Value) -> Option<Self> {
        let mut unknown = None;
        for key in ["status", "connection", "state", "connected"] {
            let Some(status) = object.get(key).and_then(Self::of_field) else {
                continue;
            };
            if status.state != SessionState::Unknown {
                return Some(status);
            }
            unknown.get_or_insert(status);
        }
        unknown
    }

    fn of_field(field: &Value) -> Option<Self> {
        match field {
            Value::Bool(connected) => Some(Self {
                state: if *connected {
                    SessionState::Connected
                } else {
                    SessionState::Disconnected
                },
                raw: Some(connected.to_string()),
            }),
            Value::String(word) => Some(Self {
                state: SessionState::from_word(word),
                raw: Some(excerpt::of_text(word).chars().take(64).collect()),
            }),
            // `connection: {status}`.
            Value::Object(_) => Self::of_object(field),
            _ => None,
        }
    }
}

/// The channels of a list, wherever the list is. `None` when there is no list at all, which is
/// not the same as an empty one.
pub(super) fn read_channels(body: &Value) -> Option<Vec<GatewayChannel>> {
    let list = [
        Some(body),
        body.get("channels"),
        body.pointer("/data/channels"),
        body.get("data"),
        body.get("sessions"),
    ]
    .into_iter()
    .flatten()
    .find_map(Value::as_array)?;
    Some(list.iter().filter_map(read_channel).collect())
}

fn read_channel(item: &Value) -> Option<GatewayChannel> {
    let text = |key: &str| {
        item.get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    // An old list is one of bare names.
    let id = item.as_str().or_else(|| {
        ["id", "channel_id", "channel", "session", "name"]
            .into_iter()
            .find_map(text)
    })?;
    Some(GatewayChannel {
        id: id.to_owned(),
        name: text("name").map(str::to_owned),
        status: SessionStatus::read(item),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::SessionState::*;
    use super::*;

    #[test]
    fn a_state_is_read_from_every_shape() {
        for (body, state) in [
            (
                json!({"success": true, "channel": {"id": "a", "status": "connected"}}),
                Connected,
            ),
            (
                json!({"success": true, "channel": {"status": "disconnected"}}),
                Disconnected,
            ),
            (
                json!({"success": true, "channel": {"connection": "open"}}),
                Connected,
            ),
            (
                json!({"data": {"channel": {"status": "qr_required"}}}),
                QrRequired,
            ),
            (json!({"data": {"status": "CONNECTED"}}), Connected),
            (json!({"status": "connected"}), Connected),
            (json!({"connection": "authenticated"}), Connected),
            (json!({"connection": {"status": "close"}}), Disconnected),
            (json!({"connected": true}), Connected),
            (json!({"connected": false}), Disconnected),
            (json!({"status": true, "message": "Connected"}), Connected),
            (json!({"status": "QRCODE"}), QrRequired),
            (json!({"status": "INITIALIZING"}), Unknown),
            (json!({"status": "inChat"}), Connected),
            (json!({"status": "desconnectedMobile"}), Disconnected),
            // The envelope's own word is not the session's.
            (
                json!({"status": "success", "connected": false}),
                Disconnected,
            ),
            (
                json!({"success": true, "channel": "a", "status": "connected"}),
                Connected,
            ),
            // A contact's presence is not the session's (conventions A0.2).
            (json!({"connection": {"status": "unavailable"}}), Unknown),
            (json!({"success": true}), Unknown),
            (json!([]), Unknown),
        ] {
            assert_eq!(SessionStatus::read(&body).state, state, "{body}");
        }
    }

    #[test]
    fn a_word_nobody_knows_is_shown_and_not_judged() {
        let status = SessionStatus::read(&json!({"channel": {"status": "dreaming"}}));
        assert_eq!(status.state, Unknown);
        assert_eq!(status.raw.as_deref(), Some("dreaming"));
    }

    #[test]
    fn a_list_is_found_wherever_it_is() {
        for body in [
            json!({"success": true, "channels": [{"id": "Pixel12 Digital", "name": "P", "status": "connected"}]}),
            json!({"data": {"channels": [{"id": "Pixel12 Digital", "name": "P", "status": "open"}]}}),
            json!({"data": [{"channel": "Pixel12 Digital", "name": "P", "connected": true}]}),
            json!([{"channel_id": "Pixel12 Digital", "name": "P", "connection": "CONNECTED"}]),
        ] {
            let channels = read_channels(&body).expect("a list");
            assert_eq!(channels.len(), 1, "{body}");
            assert_eq!(channels[0].id, "Pixel12 Digital");
            assert_eq!(channels[0].name.as_deref(), Some("P"));
            assert_eq!(channels[0].status.state, Connected, "{body}");
        }
        assert_eq!(read_channels(&json!({"channels": []})), Some(vec![]));
        assert_eq!(
            read_channels(&json!({"channels": ["a"]})).expect("a list")[0].id,
            "a"
        );
        assert_eq!(read_channels(&json!({"success": true})), None);
    }
}

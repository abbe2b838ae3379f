//! Where a sealed value belongs: it opens there and nowhere else.

use uuid::Uuid;

/// A column that may hold sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// `communication_events.body`
    EventBody,
    /// `communication_events.payload`
    EventPayload,
    /// `deliveries.body_text`
    DeliveryText,
    /// `receipts.body_text`
    ReceiptText,
    /// `chat_messages.content`
    ChatText,
    /// `media.bytes`
    MediaBytes,
    /// `sealing_keys.proof`
    Proof,
}

impl Column {
    /// Its name. Invariant: never changes, else what was sealed under it does not open any more.
    const fn name(self) -> &'static str {
        match self {
            Self::EventBody => "communication_events.body",
            Self::EventPayload => "communication_events.payload",
            Self::DeliveryText => "deliveries.body_text",
            Self::ReceiptText => "receipts.body_text",
            Self::ChatText => "chat_messages.content",
            Self::MediaBytes => "media.bytes",
            Self::Proof => "sealing_keys.proof",
        }
    }
}

/// A value's column and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    column: Column,
    row: Uuid,
}

impl Place {
    /// The value of `column` in the row of that id. A chat message has no id before it is written: it goes
    /// by the id of its event, which is written with its text and never without it.
    #[must_use]
    pub const fn new(column: Column, row: Uuid) -> Self {
        Self { column, row }
    }

    /// What is authenticated beside the value: the header of its form, the column, the row.
    pub(super) fn bound_to(self, header: &[u8]) -> Vec<u8> {
        let mut bound = header.to_vec();
        bound.extend_from_slice(self.column.name().as_bytes());
        bound.push(0);
        bound.extend_from_slice(self.row.as_bytes());
        bound
    }
}

//! What operators read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use shared::domain::ids::DeliveryId;
use shared::store::credentials::CredentialLine;
use shared::store::dead_letter_search::{LetterGroup, LetterStory};
use shared::store::ip_blocks::BlockLine;
use shared::store::modules::SwitchLine;
use shared::store::settle::DeliveryLine;
use shared::store::sources::SourceLine;
use uuid::Uuid;

/// A page of letters.
#[derive(Serialize, JsonSchema)]
pub(super) struct LetterPage {
    /// The letters.
    pub(super) dead_letters: Vec<LetterStory>,
    /// `after` of the next page; none where this is the last.
    pub(super) next: Option<Uuid>,
}

/// Letters, counted.
#[derive(Serialize, JsonSchema)]
pub(super) struct LetterGroups {
    /// The largest first.
    pub(super) groups: Vec<LetterGroup>,
    /// All of them together.
    pub(super) total: i64,
}

/// What became of an order about letters.
#[derive(Serialize, JsonSchema)]
pub(super) struct OrderReport {
    /// Nothing was done, only counted.
    pub(super) dry_run: bool,
    /// Letters that the order meant.
    pub(super) matched: usize,
    /// All of them were looked at.
    pub(super) complete: bool,
    /// How many letters each outcome has.
    pub(super) outcomes: BTreeMap<&'static str, usize>,
    /// How those go on that were redriven.
    pub(super) ways: BTreeMap<&'static str, usize>,
    /// The first letters that were left as they are.
    pub(super) refused: Vec<RefusedLetter>,
}

/// A letter that was left as it is.
#[derive(Serialize, JsonSchema)]
pub(super) struct RefusedLetter {
    /// The letter.
    pub(super) letter_id: Uuid,
    /// Why, as a stable text.
    pub(super) outcome: &'static str,
    /// Why, for a person.
    pub(super) detail: &'static str,
}

/// A page of deliveries.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeliveryPage {
    /// The deliveries.
    pub(super) deliveries: Vec<DeliveryLine>,
    /// `after` of the next page; none where this is the last.
    pub(super) next: Option<Uuid>,
}

/// A delivery that was settled by hand.
#[derive(Serialize, JsonSchema)]
pub(super) struct Settled {
    /// The delivery.
    pub(super) delivery_id: DeliveryId,
    /// What the operator found.
    pub(super) outcome: &'static str,
    /// Where it stands now.
    pub(super) state: &'static str,
    /// It is sent once more.
    pub(super) resend: bool,
}

/// A page of keys.
#[derive(Serialize, JsonSchema)]
pub(super) struct KeyPage {
    /// The keys.
    pub(super) keys: Vec<CredentialLine>,
    /// `after` of the next page; none where this is the last.
    pub(super) next: Option<i64>,
}

/// A key.
#[derive(Serialize, JsonSchema)]
pub(super) struct OneKey {
    /// The key.
    pub(super) key: CredentialLine,
}

/// A key that was made just now.
#[derive(Serialize, JsonSchema)]
pub(super) struct MadeKey<'a> {
    /// The key.
    pub(super) key: CredentialLine,
    /// Its secret, shown this once.
    pub(super) secret: &'a str,
}

/// The sources.
#[derive(Serialize, JsonSchema)]
pub(super) struct Sources {
    /// In the order of their names.
    pub(super) sources: Vec<SourceLine>,
}

/// From where a source may speak.
#[derive(Serialize, JsonSchema)]
pub(super) struct Networks {
    /// The source.
    pub(super) source: String,
    /// As they are kept; none is from everywhere.
    pub(super) networks: Vec<String>,
}

/// The addresses that were shut out.
#[derive(Serialize, JsonSchema)]
pub(super) struct Blocks {
    /// Those that end last first.
    pub(super) blocks: Vec<BlockLine>,
}

/// An address that was let in again.
#[derive(Serialize, JsonSchema)]
pub(super) struct Lifted {
    /// The address, or the /64.
    pub(super) address: String,
}

/// Who serves PixelHub's modules.
#[derive(Serialize, JsonSchema)]
pub(super) struct Modules {
    /// Every module.
    pub(super) modules: Vec<&'static str>,
    /// The mode of a module without a switch.
    pub(super) default: &'static str,
    /// The switches, those for all first.
    pub(super) switches: Vec<SwitchLine>,
}

/// The sending accounts.
#[derive(Serialize, JsonSchema)]
pub(super) struct Channels {
    /// Those that are enabled.
    pub(super) channels: Vec<ChannelLine>,
}

/// A sending account and how its session stands.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChannelLine {
    /// The account's slug.
    pub(super) id: String,
    /// As the provider spells it.
    pub(super) provider_account: String,
    /// `unknown`, `up` or `down`.
    pub(super) session: String,
    /// How many deliveries it holds.
    pub(super) held: i64,
}

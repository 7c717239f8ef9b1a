//! The way in which changes and deletions are found.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::call::Call;
use super::value_types::Span;
use crate::pointer::Pointer;

/// The way in which changes are found.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangeDetection {
    /// The vendor filters by `${watermark}`, inclusively.
    Filter {
        /// A poll reads this far back before the covered time.
        overlap: Option<Span>,
        /// The vendor's bound is exclusive: this is taken off the bound.
        exclusive: Option<Span>,
    },
    /// The vendor lists the newest first; reading stops at the covered time.
    ScanDesc {
        /// A poll reads this far back before the covered time.
        overlap: Option<Span>,
    },
    /// The vendor gives an opaque token, put where `${sync_token}` stands.
    SyncToken {
        /// The place of the token on the last page.
        from: Pointer,
    },
    /// A numbered history; the number stands where `${sync_token}` does. The first scan only reads the current number.
    HistoryId {
        /// The call that reads the history's current number.
        start: Box<Call>,
        /// The place of the number in that answer.
        start_from: Pointer,
        /// The place of the number on a page.
        from: Pointer,
    },
    /// The vendor offers nothing: every scan reads everything, and fingerprints are compared.
    FullScanHash,
}

/// The way in which deletions are found.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// A record is marked as deleted.
    pub flag: Option<DeletionFlag>,
    /// A complete listing lacks the record.
    pub absence: Option<Absence>,
}

/// The mark of a deleted record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeletionFlag {
    /// The place of the mark in a record.
    pub pointer: Pointer,
    /// The value that means deleted.
    #[schemars(with = "serde_json::Value")]
    pub equals: Value,
}

/// Deletions found because a complete listing lacks the record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// The time from one complete listing to the next: a day by default.
    pub every: Option<Span>,
    /// No complete listing is made for this alone: the vendor reports deletions, and only a listing that follows a lost
    /// cursor has any to find. `sweepInterval` in a configuration asks for more.
    #[serde(default)]
    pub only_after_reset: bool,
    /// The proof that the record is deleted.
    #[serde(default)]
    pub confirm: Confirm,
    /// A listing that lacks more than this share is held for approval: 0.2 by default.
    pub max_share: Option<f64>,
}

/// The proof that an absent record is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Reading it by id is answered with 404 or 410.
    #[default]
    #[serde(rename = "get_404")]
    Get404,
    /// Reading it by id finds no record.
    ReadEmpty,
    /// There is no proof; absence is enough.
    None,
}

/// Lists of operations inside an entry of a history.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationLists {
    /// Lists of created records.
    #[serde(default)]
    pub created: Vec<Pointer>,
    /// Lists of changed records.
    #[serde(default)]
    pub updated: Vec<Pointer>,
    /// Lists of deleted records.
    #[serde(default)]
    pub deleted: Vec<Pointer>,
    /// The place of the record in an item of such a list.
    pub record: Pointer,
    /// The place of the entry's number, which differs from one change of a record to the next.
    pub version: Pointer,
}

/// The value that differs between versions of a record.
///
/// Its `Debug` text is part of every stored fingerprint (`reader.rs`), so names and fields must stay as they are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(description = "The value that differs between versions of a record.")]
pub struct Fingerprint {
    /// The value here (a version, an etag); the whole record by default.
    pub pointer: Option<Pointer>,
    /// Members that change by themselves and are left out.
    #[serde(default)]
    pub exclude: Vec<Pointer>,
}

//! A vendor's record as a poll reads it, and a change as detection finds it.
//!
//! A record keeps its own bytes: only id, stamps and declared fields are read out of them, and the very bytes
//! travel on to the event and the body that is signed.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::EventId;

/// The way in which the vendor lists a record: by a flag in it, or by the list that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListedAs {
    /// As a present state: stamps and the index decide.
    State,
    /// As created.
    Created,
    /// As updated.
    Updated,
    /// As deleted: a tombstone, a cancelled stub, an entry of a list of deletions.
    Deleted,
}

/// One record of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The vendor's id as text; numbers are written out. Becomes `objectId`.
    pub id: String,
    /// The fan-out partition it was listed in (a calendar, a store), empty when there is none.
    /// Ids are unique within a partition only.
    pub partition: String,
    /// The record's own bytes, a slice of the page.
    pub raw: Bytes,
    /// The date of the last change, by the vendor.
    pub updated: Option<DateTime<Utc>>,
    /// The date of creation, by the vendor.
    pub created: Option<DateTime<Utc>>,
    /// Equal fingerprints mean nothing changed: of a version, an etag, or the content.
    pub fingerprint: u64,
    /// The way in which the vendor lists it.
    pub listed_as: ListedAs,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeKind {
    /// First seen and made since.
    Created,
    /// Known, or older than what is covered.
    Updated,
    /// Gone.
    Deleted,
}

impl ChangeKind {
    /// The word on the wire: `CREATED`, `UPDATED`, `DELETED`.
    pub fn word(self) -> &'static str {
        match self {
            ChangeKind::Created => "CREATED",
            ChangeKind::Updated => "UPDATED",
            ChangeKind::Deleted => "DELETED",
        }
    }
}

/// One change: a fact that is emitted once, under one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Derived from instance, resource, partition, record id and revision.
    pub event: EventId,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The record's id; `objectId` on the wire.
    pub id: String,
    /// See [`Record::partition`].
    pub partition: String,
    /// Counts the changes of this record, from 1. Travels as `sequence`, so that a receiver can drop a stale event.
    pub revision: u32,
    /// The record's updated stamp, or the best the poll has; `date` on the wire.
    pub date: Option<DateTime<Utc>>,
    /// The record's own bytes. Of a record whose absence was noticed, an object with nothing but its id.
    pub raw: Bytes,
}

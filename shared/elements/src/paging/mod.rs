//! Paging: the position of the next page of a listing.
//!
//! Each paging kind has a file here that implements [`Pager`] for its table of the element file. A new kind is a file
//! here, its table and a variant of [`Paging`] in `definition/paging.rs`, and a line in `pager`.

mod keyset;
mod link_header;
mod next_url;
mod offset;
mod token;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::definition::{ChangeDetection, Paging, Resource, ZoneSource};
use crate::fault::Fault;
use crate::pointer::Wanted;
use crate::reader::Row;

/// The position of a page. It is stored between two pages of a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    /// The first page.
    First,
    /// The page of a token.
    Token(String),
    /// The page after a number of records.
    Offset(u64),
    /// The page at a URL.
    Url(String),
    /// The page `offset` records after the first record of timestamp `from`.
    Keyset {
        /// The timestamp; `None` for the start of an unbounded listing.
        from: Option<DateTime<Utc>>,
        /// The number of records with this timestamp to skip.
        offset: u64,
        /// The ids of records with this timestamp that earlier pages returned.
        given: BTreeSet<String>,
    },
    /// There is no further page.
    End,
}

impl Position {
    /// Returns the position, unless it is the one of the page that was read: such a listing would never end.
    ///
    /// # Errors
    /// The two positions are the same.
    fn after(self, current: &Position) -> Result<Position, Fault> {
        match self == *current && self != Position::End {
            true => Err(Fault::retry("the vendor's next page is this page")),
            false => Ok(self),
        }
    }
}

/// The behavior of a paging kind.
pub(crate) trait Pager {
    /// Most records on a page.
    fn size(&self) -> u32;

    /// Adds the values that this kind needs of each page.
    fn want(&self, fields: &mut PageFields);

    /// The position of the first page. `lower` is the lower bound of the listing.
    fn first(&self, _lower: Option<DateTime<Utc>>) -> Position {
        Position::First
    }

    /// The position after a page. Removes rows that an earlier page returned.
    ///
    /// # Errors
    /// The vendor's answers lead to no next page.
    fn next(&self, page: &mut PageRead<'_>) -> Result<Position, Fault>;

    /// Returns true if the pages come in ascending order of the updated timestamp.
    fn is_ordered_by_stamp(&self) -> bool {
        false
    }
}

impl Paging {
    /// The behavior of this paging kind; `None` for a listing of one page.
    pub(crate) fn pager(&self) -> Option<&dyn Pager> {
        match self {
            Paging::None => None,
            Paging::Token(token) => Some(token),
            Paging::OffsetTotal(offset) => Some(offset),
            Paging::NextUrl(url) => Some(url),
            Paging::LinkHeader(link) => Some(link),
            Paging::Keyset(keyset) => Some(keyset),
        }
    }

    /// Returns true if the pages come in ascending order of the updated timestamp.
    pub(crate) fn is_ordered_by_stamp(&self) -> bool {
        self.pager().is_some_and(Pager::is_ordered_by_stamp)
    }
}

/// A page that was read, as a pager sees it.
pub(crate) struct PageRead<'a> {
    /// The position of this page.
    pub position: &'a Position,
    /// The text at [`PageFields::next`], if it is not empty.
    pub next: Option<String>,
    /// The headers of the answer.
    pub headers: &'a HeaderMap,
    /// The number of records on the page, unreadable ones included.
    pub count: usize,
    /// The number of records in all, if the vendor names it.
    pub total: Option<u64>,
    /// The records that could be read.
    pub rows: &'a mut Vec<Row>,
    /// The page size of requests. A pager may raise it up to `largest_page`.
    pub page_size: &'a mut u32,
    /// Most records to ask for.
    pub largest_page: u32,
}

impl PageRead<'_> {
    /// Returns true if the page has fewer records than requested.
    fn is_short(&self) -> bool {
        self.count < *self.page_size as usize
    }
}

/// The values to find on each page. It is built once for a poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageFields {
    /// The walk that finds them, and the list of records.
    pub wanted: Wanted,
    /// The slot of the next token or URL.
    pub next: Option<usize>,
    /// The slot of the vendor's cursor.
    pub token: Option<usize>,
    /// The slot of the number of records in all.
    pub total: Option<usize>,
    /// The slots of time zones.
    pub zones: Vec<usize>,
}

impl PageFields {
    pub(crate) fn new(resource: &Resource) -> Self {
        let mut fields = Self::default();
        fields.wanted.want_each(&resource.records.pointer);
        if let Some(pager) = resource.page.pager() {
            pager.want(&mut fields);
        }
        if let ChangeDetection::SyncToken { from } | ChangeDetection::HistoryId { from, .. } = &resource.change {
            fields.token = Some(fields.wanted.want(from));
        }
        for source in &resource.time.zone {
            if let ZoneSource::Response(pointer) = source {
                fields.zones.push(fields.wanted.want(pointer));
            }
        }
        fields
    }
}

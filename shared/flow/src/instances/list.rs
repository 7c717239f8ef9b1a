//! An organization's instances, page by page.

use std::pin::pin;

use domain::id::OrganizationId;
use domain::limits::PAGE_SIZE;
use futures::TryStreamExt;
use store::records::instance::{self, InstanceRecord, ListingRecord};
use store::{Cursor, Listed, RecordError, Store, Stored};

use super::InstanceError;
use crate::ports::Ports;

/// The instances that are asked for, and the stretch of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListingQuery {
    /// Only those that have all of these tags.
    pub tags: Vec<String>,
    /// Only those whose name, tags or element contain this, in whatever case.
    pub search: Option<String>,
    /// Only those of this element.
    pub element: Option<String>,
    /// At most this many.
    pub page_size: usize,
    /// Starts after this place: [`Listed::next`] of the page before.
    pub after: Option<Cursor<ListingRecord>>,
}

impl ListingQuery {
    fn matches(&self, entry: &ListingRecord) -> bool {
        let contains = |text: &str, word: &str| text.to_lowercase().contains(word);
        self.tags.iter().all(|tag| entry.tags.contains(tag))
            && self.element.as_ref().is_none_or(|element| *element == entry.element)
            && self.search.as_ref().map(|word| word.to_lowercase()).is_none_or(|word| {
                contains(&entry.name, &word)
                    || contains(&entry.element, &word)
                    || entry.tags.iter().any(|tag| contains(tag, &word))
            })
    }
}

/// The instances that match.
///
/// # Errors
/// The store failed, or a record is damaged.
pub async fn list(
    ports: &Ports,
    organization: OrganizationId,
    query: &ListingQuery,
) -> Result<Listed<InstanceRecord, ListingRecord>, InstanceError> {
    let (entries, next) = entries(&*ports.store, organization, query).await?;
    let ids: Vec<_> = entries.iter().map(|entry| entry.record.id).collect();
    let found = instance::get_many(&*ports.store, &ids).await?;
    let mut entries: Vec<InstanceRecord> = found.into_iter().map(|stored| stored.record).collect();
    // An instance that went between the two reads is left out.
    entries.retain(|record| record.organization == organization && !record.deleted);
    entries.sort_by_key(|record| record.id);
    Ok(Listed { entries, next })
}

/// The entries of the listing that match, and the cursor of the next page.
async fn entries(
    store: &dyn Store,
    organization: OrganizationId,
    query: &ListingQuery,
) -> Result<(Vec<Stored<ListingRecord>>, Option<Cursor<ListingRecord>>), RecordError> {
    let wanted = query.page_size.clamp(1, PAGE_SIZE);
    let mut entries: Vec<Stored<ListingRecord>> = Vec::new();
    let mut pages = pin!(instance::listing(organization).pages_after(store, query.after.as_ref()));
    while let Some(page) = pages.try_next().await? {
        for entry in page.into_iter().filter(|entry| query.matches(&entry.record)) {
            if entries.len() == wanted {
                // There is one more, so the next page will not be empty.
                let next = entries.last().map(Stored::cursor);
                return Ok((entries, next));
            }
            entries.push(entry);
        }
    }
    Ok((entries, None))
}

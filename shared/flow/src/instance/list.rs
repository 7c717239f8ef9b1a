//! An organization's instances, page by page.

use domain::id::OrganizationId;
use domain::limits::PAGE_SIZE;

use super::InstanceError;
use crate::ports::{Key, Ports, Range};
use crate::table::{self, InstanceRecord, ListingRecord, instance_key, organization_partition};

/// Which instances, and which stretch of them.
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
    pub after: Option<String>,
}

/// A page of a listing.
#[derive(Debug)]
pub struct Listed<T> {
    /// Ordered by id.
    pub entries: Vec<T>,
    /// Where the next page starts. None: there is none.
    pub next: Option<String>,
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

/// The instances that match, whole.
pub async fn list(
    ports: &Ports,
    organization: OrganizationId,
    query: &ListingQuery,
) -> Result<Listed<InstanceRecord>, InstanceError> {
    let page = entries(ports, organization, query).await?;
    let keys: Vec<Key> = page.entries.iter().map(|entry| instance_key(entry.id)).collect();
    let items = ports.store.get_many(&keys).await?;
    let mut records = items.iter().map(table::read).collect::<Result<Vec<InstanceRecord>, _>>()?;
    // An instance that went between the two reads is left out.
    records.retain(|record| record.organization == organization && !record.deleted);
    records.sort_by_key(|record| record.id);
    Ok(Listed { entries: records, next: page.next })
}

/// What the listing itself says of the instances that match.
async fn entries(
    ports: &Ports,
    organization: OrganizationId,
    query: &ListingQuery,
) -> Result<Listed<ListingRecord>, InstanceError> {
    let wanted = query.page_size.clamp(1, PAGE_SIZE);
    let partition = organization_partition(organization);
    let range = Range::prefix("INST#");
    let mut listed = Listed { entries: Vec::new(), next: None };
    let mut after = query.after.clone();
    loop {
        let page = ports.store.query(&partition, &range, after.as_deref()).await?;
        for item in &page.items {
            let entry: ListingRecord = table::read(item)?;
            if !query.matches(&entry) {
                continue;
            }
            if listed.entries.len() == wanted {
                // There is one more, so the next page will not be empty.
                listed.next =
                    listed.entries.last().map(|last: &ListingRecord| table::listing_key(organization, last.id).sk);
                return Ok(listed);
            }
            listed.entries.push(entry);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(listed),
        }
    }
}

//! A plan: a configured resource with every choice made, so that carrying it out needs no further one.

mod conditions;
mod find;
mod partitions;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::configuration::ResourceConfiguration;
use domain::configuration::keys::POLLER_CONFIGURATION;
use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, Warning, below};
use domain::zone::Zone;
use serde_json::{Map, Value};

use crate::catalog::Element;
use crate::connection::Connection;
use crate::definition::{Absence, ChangeDetection, Confirm, Hydrate, Resource, ZoneSource};
use crate::paging::PageFields;
use crate::pointer::Pointer;
use crate::reader::RecordReader;

pub(crate) use conditions::Condition;
pub use partitions::Partitions;

use conditions::{Conditions, read_conditions};
use find::find_resource;
use partitions::{PartitionSource, partition_source};

/// Records on a page, unless the element or the configuration says otherwise.
const USUAL_PAGE_SIZE: u32 = 100;
/// A poll reads this far back before the covered time, unless the element says otherwise.
const USUAL_OVERLAP: Duration = Duration::from_secs(120);
/// The time from one complete listing to the next, unless the element or the configuration says otherwise.
const USUAL_SWEEP: Duration = Duration::from_secs(86_400);
/// The share of records that one listing may delete without approval, unless the element or the configuration says
/// otherwise.
const USUAL_DELETE_SHARE: f64 = 0.2;

/// A resource to poll.
#[derive(Debug, Clone)]
pub struct Plan {
    element: Arc<Element>,
    /// The index of the resource in the element.
    resource: usize,
    name: String,
    pub(crate) url: Option<PollUrl>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) page_size: u32,
    overlap: TimeDelta,
    sweep: Option<Duration>,
    max_delete_share: f64,
    /// Records are identified by the vendor's id, not by a field of the configuration.
    own_id: bool,
    partitions: PartitionSource,
    zone: Option<Zone>,
    pub(crate) records: RecordReader,
    pub(crate) page: PageFields,
}

/// The way in which changes are found, without its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStrategy {
    /// The vendor filters by a lower bound.
    Filter,
    /// The vendor lists the newest first; reading stops at the covered time.
    ScanDesc,
    /// The vendor keeps an opaque token.
    SyncToken,
    /// A numbered history that begins now; there is no complete listing.
    HistoryId,
    /// Every scan is a complete listing.
    FullScanHash,
}

/// The problems and warnings found while a plan is made.
struct Findings {
    /// The path of the configured entry.
    path: String,
    problems: Vec<FieldProblem>,
    warnings: Vec<Warning>,
}

impl Findings {
    fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.warnings.push(Warning::new(below(&self.path, field), message));
    }

    fn warn_date(&mut self, field: &str, message: impl Into<String>) {
        self.warnings.push(Warning::new(below(&below(&self.path, "datesConfiguration"), field), message));
    }
}

impl Plan {
    /// Makes the plan of an entry of `event.poller.configuration`. `configuration` is the instance's; it has values for
    /// `{placeholders}` of the URL, by their names.
    ///
    /// # Errors
    /// Every part that cannot be carried out, with valid alternatives.
    pub fn resolve(
        element: &Arc<Element>,
        name: &str,
        entry: &ResourceConfiguration,
        configuration: &Map<String, Value>,
    ) -> Result<(Plan, Vec<Warning>), Vec<FieldProblem>> {
        let path = below(&below("configuration", POLLER_CONFIGURATION), name);
        let mut findings = Findings { path, problems: Vec::new(), warnings: Vec::new() };
        let url = entry.url.as_ref();
        let index = find_resource(element, name, url, &mut findings).map_err(|problem| vec![problem])?;
        let resource = &element.resources[index];
        if resource.aliases.iter().any(|alias| alias == name) {
            findings.warnings.push(Warning::new(&findings.path, format!("it is read as {}", resource.name)));
        }
        let Conditions { all: conditions, zone: macro_zone } =
            url.map(|url| read_conditions(resource, url, &mut findings)).unwrap_or_default();
        let configured_zone =
            [&entry.updated, &entry.created].into_iter().flatten().find_map(|field| field.zone.clone());
        let partitions = partition_source(element, resource, url, configuration, &mut findings);
        let page_size = page_size(element, resource, entry, &mut findings);
        let id_field = id_field(resource, entry, &mut findings);
        check_dates(resource, entry, &mut findings);
        if !findings.problems.is_empty() {
            return Err(findings.problems);
        }
        let absence = resource.delete.absence.as_ref();
        let max_delete_share = entry.max_delete_share.or(absence.and_then(|absence| absence.max_share));
        let plan = Plan {
            element: Arc::clone(element),
            resource: index,
            name: name.to_owned(),
            url: entry.url.clone(),
            conditions,
            page_size,
            overlap: overlap(element, resource, entry),
            sweep: absence.and_then(|absence| sweep_interval(absence, entry)),
            max_delete_share: max_delete_share.unwrap_or(USUAL_DELETE_SHARE),
            own_id: id_field.is_none(),
            partitions,
            zone: configured_zone.or(macro_zone),
            records: RecordReader::new(resource, id_field, entry.updated.as_ref(), entry.created.as_ref()),
            page: PageFields::new(resource),
        };
        Ok((plan, findings.warnings))
    }

    /// Makes the plan of a resource as the element's file has it.
    fn of_element(element: &Arc<Element>, name: &str) -> Result<Plan, Vec<FieldProblem>> {
        let entry = ResourceConfiguration::default();
        Plan::resolve(element, name, &entry, &Map::new()).map(|(plan, _)| plan)
    }

    /// Returns the element.
    pub fn element(&self) -> &Arc<Element> {
        &self.element
    }

    /// Returns the resource of the element's file.
    pub fn resource(&self) -> &Resource {
        &self.element.resources[self.resource]
    }

    /// Returns the name of the configured entry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns `objectType` of an event.
    pub fn object_type(&self) -> &str {
        self.resource().object_type.as_deref().unwrap_or(&self.name)
    }

    /// Returns the way in which changes are found.
    pub fn change_strategy(&self) -> ChangeStrategy {
        match self.resource().change {
            ChangeDetection::Filter { .. } => ChangeStrategy::Filter,
            ChangeDetection::ScanDesc { .. } => ChangeStrategy::ScanDesc,
            ChangeDetection::SyncToken { .. } => ChangeStrategy::SyncToken,
            ChangeDetection::HistoryId { .. } => ChangeStrategy::HistoryId,
            ChangeDetection::FullScanHash => ChangeStrategy::FullScanHash,
        }
    }

    /// Returns the time that a poll reads back before the covered time, `pollDelay` included. Zero, apart from
    /// `pollDelay`, if the vendor keeps the cursor.
    pub fn overlap(&self) -> TimeDelta {
        self.overlap
    }

    /// Returns the time from one complete listing to the next; `None` if absence proves nothing.
    pub fn sweep_every(&self) -> Option<Duration> {
        self.sweep.filter(|_| self.own_id)
    }

    /// Returns the share (0 to 1) of records above which a deletion is held for approval.
    pub fn max_delete_share(&self) -> f64 {
        self.max_delete_share
    }

    /// Returns the proof that an absent record is deleted; `None` if absence proves nothing.
    pub fn confirm(&self) -> Option<Confirm> {
        let absence = self.resource().delete.absence.as_ref()?;
        // The vendor has no call that reads a record by another id than its own.
        if self.own_id { Some(absence.confirm) } else { None }
    }

    /// Returns true if records are read one by one after listing.
    pub fn hydrates(&self) -> bool {
        matches!(self.resource().hydrate, Hydrate::ById { .. })
    }

    /// Returns true if the updated timestamp moves with every change, so that it can be filtered by.
    pub fn updated_reliable(&self) -> bool {
        matches!(self.resource().change, ChangeDetection::Filter { .. } | ChangeDetection::ScanDesc { .. })
    }

    /// Returns the order of the vendor's list, written like `orderBy`; `None` if it is unknown.
    pub(crate) fn own_order(&self) -> Option<String> {
        let resource = self.resource();
        let updated = resource.time.updated.as_ref()?.as_str().trim_start_matches('/').replace('/', ".");
        match resource.change {
            _ if resource.page.is_ordered_by_stamp() => Some(format!("{updated} asc")),
            ChangeDetection::ScanDesc { .. } => Some(format!("{updated} desc")),
            _ => None,
        }
    }

    /// Returns the partitions, each of which is listed.
    pub fn partitions(&self, connection: &Connection) -> Partitions {
        match &self.partitions {
            PartitionSource::Single => Partitions::Single,
            PartitionSource::Fixed(values) => Partitions::Fixed(values.clone()),
            PartitionSource::Connection(field) => Partitions::Fixed(connection.many(field)),
            PartitionSource::Parent(plan) | PartitionSource::Chunk(plan, _) => Partitions::Parent(plan.clone()),
        }
    }

    /// Returns the partitions that the ids of a parent's records make.
    pub fn partitions_of(&self, parent_ids: &[String]) -> Vec<String> {
        match &self.partitions {
            PartitionSource::Chunk(_, size) => {
                let mut ids = parent_ids.to_vec();
                ids.sort();
                ids.chunks((*size).max(1)).map(|chunk| chunk.join(",")).collect()
            }
            _ => parent_ids.to_vec(),
        }
    }

    /// Returns the partition as part of a record's identity: empty for a chunk, because ids are unique across chunks.
    pub fn identity<'a>(&self, partition: &'a str) -> &'a str {
        if matches!(self.partitions, PartitionSource::Chunk(..)) { "" } else { partition }
    }

    /// Returns the zone of timestamps without offset. `reported` is the zone on a page of this listing.
    pub(crate) fn zone(&self, connection: &Connection, reported: Option<&str>) -> Zone {
        let configured = || {
            let from_account = || Zone::parse(connection.plain("time_zone")?).ok();
            self.zone.clone().or_else(from_account)
        };
        let sources = &self.resource().time.zone;
        let found = sources.iter().find_map(|source| match source {
            ZoneSource::Config => configured(),
            ZoneSource::Response(_) => Zone::parse(reported?).ok(),
            ZoneSource::Fixed(zone) => Some(zone.clone()),
        });
        found.or_else(|| if sources.is_empty() { configured() } else { None }).unwrap_or(Zone::GMT)
    }
}

/// The number of records to request for a page.
fn page_size(element: &Element, resource: &Resource, entry: &ResourceConfiguration, findings: &mut Findings) -> u32 {
    let most = resource.page.pager().map(|pager| pager.size());
    match (entry.page_size, most) {
        (Some(asked), Some(most)) if asked > most => {
            findings.warn("pageSize", format!("{most} is the most; it is used"));
            most
        }
        (Some(asked), _) => asked.max(1),
        (None, Some(most)) => most,
        (None, None) => element.defaults.page_size.unwrap_or(USUAL_PAGE_SIZE),
    }
}

/// The time that a poll reads back before the covered time, `pollDelay` included.
fn overlap(element: &Element, resource: &Resource, entry: &ResourceConfiguration) -> TimeDelta {
    let overlap = match &resource.change {
        ChangeDetection::Filter { overlap, .. } | ChangeDetection::ScanDesc { overlap } => {
            overlap.or(element.defaults.overlap).map_or(USUAL_OVERLAP, |span| span.0)
        }
        ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. } | ChangeDetection::FullScanHash => {
            Duration::ZERO
        }
    };
    TimeDelta::from_std(overlap + Duration::from_secs(u64::from(entry.poll_delay_s))).unwrap_or_default()
}

/// The configured id field, if it is another one than the element's.
fn id_field<'e>(resource: &Resource, entry: &'e ResourceConfiguration, findings: &mut Findings) -> Option<&'e str> {
    let field = entry.id_field.as_deref()?;
    let ids: Vec<&str> = resource.records.id.iter().map(|pointer| pointer.as_str()).collect();
    let ids = ids.join(" or ");
    if resource.records.id_words.iter().any(|word| word == field) {
        findings.warn("idField", format!("no record has {field:?}; {ids} is used"));
        return None;
    }
    if resource.records.id.contains(&Pointer::dotted(field)) {
        return None;
    }
    let message = format!(
        "records that have no such member are known by {ids}; deletions are emitted only where the vendor reports them, \
         because a record cannot be asked for by this id"
    );
    findings.warn("idField", message);
    Some(field)
}

/// Warns about date fields that have no effect.
fn check_dates(resource: &Resource, entry: &ResourceConfiguration, findings: &mut Findings) {
    if matches!(resource.change, ChangeDetection::FullScanHash) && entry.updated.is_some() {
        let message = "the vendor keeps no date of the last change; changes are found by comparing contents";
        findings.warn_date("updatedDateField", message);
    } else if let (Some(updated), Some(created)) = (&entry.updated, &entry.created)
        && updated.field == created.field
    {
        let message = format!("{} is both dates, so a record is new when it was never seen before", created.field);
        findings.warn_date("createdDateField", message);
    }
}

/// The time from one complete listing to the next; `None` if none is made for deletions alone.
fn sweep_interval(absence: &Absence, entry: &ResourceConfiguration) -> Option<Duration> {
    match entry.sweep_minutes {
        Some(minutes) => Some(Duration::from_secs(60 * u64::from(minutes))),
        None if absence.only_after_reset => None,
        None => Some(absence.every.map_or(USUAL_SWEEP, |span| span.0)),
    }
}

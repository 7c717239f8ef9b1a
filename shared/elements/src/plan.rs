//! What one configured resource means for its element, with every choice made: carrying a plan out needs no further one.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::ceql::{Expression, Operator};
use domain::configuration::ResourceConfiguration;
use domain::configuration::keys::POLLER_CONFIGURATION;
use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, Warning, below, nearest};
use domain::zone::Zone;
use serde_json::{Map, Value};

use crate::catalog::Element;
use crate::connection::Connection;
use crate::definition::{ChangeDetection, Confirm, Fanout, Hydrate, Paging, Resource, Target, Where, ZoneSource};
use crate::pointer::Wanted;
use crate::reader::RecordReader;

/// Records on a page where neither element nor configuration say.
const USUAL_PAGE_SIZE: u32 = 100;
/// How far a poll reads back before what is covered, where the element does not say.
const USUAL_OVERLAP: Duration = Duration::from_secs(120);
/// How often a complete listing looks for deletions, where nobody says.
const USUAL_SWEEP: Duration = Duration::from_secs(86_400);
/// The share of records that one listing may delete unasked, where nobody says.
const USUAL_DELETE_SHARE: f64 = 0.2;

/// A resource to poll.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) element: Arc<Element>,
    place: usize,
    name: String,
    pub(crate) url: Option<PollUrl>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) page_size: u32,
    overlap: TimeDelta,
    sweep: Option<Duration>,
    max_delete_share: f64,
    own_id: bool,
    partitions: PartitionSource,
    zone: Option<Zone>,
    pub(crate) records: RecordReader,
    pub(crate) page: PageFields,
}

/// A comparison of `where`, or a parameter, that goes somewhere else than into the bounds. Its text is filled in at
/// each poll: the comparison at this place of the clause, or the parameter at this place of the query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub target: Target,
    pub attribute: String,
    pub operator: Option<Operator>,
}

/// How changes are found, as callers need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeStrategy {
    /// The vendor filters by a lower bound.
    Filter,
    /// Newest first, until what is covered.
    ScanDesc,
    /// The vendor keeps an opaque token.
    SyncToken,
    /// A numbered history that begins now; there is no complete listing.
    HistoryId,
    /// Every pass is a complete listing.
    FullScanHash,
}

/// What a listing is made for.
#[derive(Debug, Clone)]
pub enum Partitions {
    /// Once; the partition is the empty text.
    Single,
    /// Once for each of these.
    Fixed(Vec<String>),
    /// For the records of another resource: list it completely and give its ids to [`Plan::partitions_of`].
    Parent(Box<Plan>),
}

#[derive(Debug, Clone)]
enum PartitionSource {
    Single,
    Fixed(Vec<String>),
    Connection(String),
    Parent(Box<Plan>),
    Chunk(Box<Plan>, usize),
}

/// Everything that is wanted of a page, compiled once for a poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageFields {
    pub wanted: Wanted,
    pub next: Option<usize>,
    pub token: Option<usize>,
    pub total: Option<usize>,
    pub zones: Vec<usize>,
}

impl PageFields {
    fn new(resource: &Resource) -> Self {
        let mut reader = Self::default();
        reader.wanted.want_each(&resource.records.pointer);
        match &resource.page {
            Paging::Token { from, .. } | Paging::NextUrl { from, .. } => reader.next = Some(reader.wanted.want(from)),
            Paging::Keyset { more, .. } => reader.next = more.as_ref().map(|more| reader.wanted.want(more)),
            Paging::OffsetTotal { total, .. } => reader.total = Some(reader.wanted.want(total)),
            Paging::None | Paging::LinkHeader { .. } => {}
        }
        if let ChangeDetection::SyncToken { from } | ChangeDetection::HistoryId { from, .. } = &resource.change {
            reader.token = Some(reader.wanted.want(from));
        }
        for source in &resource.time.zone {
            if let ZoneSource::Response(pointer) = source {
                reader.zones.push(reader.wanted.want(pointer));
            }
        }
        reader
    }
}

impl Plan {
    /// Decides what an entry of `event.poller.configuration` means. `configuration` is the instance's, in which values
    /// for `{placeholders}` of the URL are looked up by their name.
    ///
    /// # Errors
    /// Everything that cannot be carried out, with what would work.
    pub fn resolve(
        element: &Arc<Element>,
        name: &str,
        entry: &ResourceConfiguration,
        configuration: &Map<String, Value>,
    ) -> Result<(Plan, Vec<Warning>), Vec<FieldProblem>> {
        let path = below(&below("configuration", POLLER_CONFIGURATION), name);
        let mut warnings = Vec::new();
        let place = find(element, name, entry.url.as_ref(), &path, &mut warnings).map_err(|problem| vec![problem])?;
        let resource = &element.resources[place];
        let mut problems = Vec::new();

        if resource.aliases.iter().any(|alias| alias == name) {
            warnings.push(Warning::new(&path, format!("it is read as {}", resource.name)));
        }
        let mut zone = [&entry.updated, &entry.created].into_iter().flatten().find_map(|field| field.zone.clone());
        let conditions = match &entry.url {
            None => Vec::new(),
            Some(url) => {
                let (conditions, macro_zone) = conditions(resource, url, &path, &mut problems, &mut warnings);
                zone = zone.or(macro_zone);
                conditions
            }
        };
        let partitions = partitions(element, resource, entry.url.as_ref(), configuration, &path, &mut problems);

        let most = resource.page.size();
        let usual = element.defaults.page_size.unwrap_or(USUAL_PAGE_SIZE);
        let page_size = match (entry.page_size, most) {
            (Some(asked), Some(most)) if asked > most => {
                warnings.push(Warning::new(below(&path, "pageSize"), format!("{most} is the most; it is used")));
                most
            }
            (Some(asked), _) => asked.max(1),
            (None, Some(most)) => most,
            (None, None) => usual,
        };
        let overlap = match &resource.change {
            ChangeDetection::Filter { overlap, .. } | ChangeDetection::ScanDesc { overlap } => {
                overlap.or(element.defaults.overlap).map_or(USUAL_OVERLAP, |span| span.0)
            }
            _ => Duration::ZERO,
        };
        let overlap = overlap + Duration::from_secs(u64::from(entry.poll_delay_s));

        let ids: Vec<&str> = resource.records.id.iter().map(|pointer| pointer.as_str()).collect();
        let ids = ids.join(" or ");
        let known = |field: &&str| {
            let other = resource.records.id_words.iter().any(|word| word == field);
            if other {
                warnings.push(Warning::new(below(&path, "idField"), format!("no record has {field:?}; {ids} is used")));
            }
            !other && !resource.records.id.contains(&crate::pointer::Pointer::dotted(field))
        };
        let id_field = entry.id_field.as_deref().filter(known);
        if id_field.is_some() {
            let message = format!(
                "records that have no such member are known by {ids}; deletions are told only where the vendor reports \
                 them, because a record cannot be asked for by this id"
            );
            warnings.push(Warning::new(below(&path, "idField"), message));
        }
        if matches!(resource.change, ChangeDetection::FullScanHash) && entry.updated.is_some() {
            let message = "the vendor keeps no date of the last change; changes are found by comparing contents";
            warnings.push(Warning::new(below(&below(&path, "datesConfiguration"), "updatedDateField"), message));
        } else if let (Some(updated), Some(created)) = (&entry.updated, &entry.created)
            && updated.field == created.field
        {
            let message = format!("{} is both dates, so a record is new when it was never seen before", created.field);
            warnings.push(Warning::new(below(&below(&path, "datesConfiguration"), "createdDateField"), message));
        }
        let absence = resource.delete.absence.as_ref();
        let every = match entry.sweep_minutes {
            Some(minutes) => Duration::from_secs(60 * u64::from(minutes)),
            None => absence.and_then(|absence| absence.every).map_or(USUAL_SWEEP, |span| span.0),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let plan = Plan {
            element: Arc::clone(element),
            place,
            name: name.to_owned(),
            url: entry.url.clone(),
            conditions,
            page_size,
            overlap: TimeDelta::from_std(overlap).unwrap_or_default(),
            sweep: absence.filter(|it| !it.only_after_reset || entry.sweep_minutes.is_some()).map(|_| every),
            max_delete_share: entry
                .max_delete_share
                .or(absence.and_then(|absence| absence.max_share))
                .unwrap_or(USUAL_DELETE_SHARE),
            own_id: id_field.is_none(),
            partitions,
            zone,
            records: RecordReader::new(resource, id_field, entry.updated.as_ref(), entry.created.as_ref()),
            page: PageFields::new(resource),
        };
        Ok((plan, warnings))
    }

    /// The plan of a resource as the element's file has it.
    fn of(element: &Arc<Element>, name: &str) -> Result<Plan, Vec<FieldProblem>> {
        let entry = ResourceConfiguration::default();
        Plan::resolve(element, name, &entry, &Map::new()).map(|(plan, _)| plan)
    }

    /// The element.
    pub fn element(&self) -> &Arc<Element> {
        &self.element
    }

    /// The resource of the element's file.
    pub fn resource(&self) -> &Resource {
        &self.element.resources[self.place]
    }

    /// The name of the configured entry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands in `objectType` of an event.
    pub fn object_type(&self) -> &str {
        self.resource().object_type.as_deref().unwrap_or(&self.name)
    }

    /// How changes are found.
    pub fn change_strategy(&self) -> ChangeStrategy {
        match self.resource().change {
            ChangeDetection::Filter { .. } => ChangeStrategy::Filter,
            ChangeDetection::ScanDesc { .. } => ChangeStrategy::ScanDesc,
            ChangeDetection::SyncToken { .. } => ChangeStrategy::SyncToken,
            ChangeDetection::HistoryId { .. } => ChangeStrategy::HistoryId,
            ChangeDetection::FullScanHash => ChangeStrategy::FullScanHash,
        }
    }

    /// How far a poll reads back before what is covered, `pollDelay` included. Zero where the vendor keeps the cursor.
    pub fn overlap(&self) -> TimeDelta {
        self.overlap
    }

    /// How often a complete listing looks for deletions; `None` where absence proves nothing.
    pub fn sweep_every(&self) -> Option<Duration> {
        self.sweep.filter(|_| self.own_id)
    }

    /// A listing that would delete more than this share (0 to 1) is held for approval.
    pub fn max_delete_share(&self) -> f64 {
        self.max_delete_share
    }

    /// What proves that an absent record is gone; `None` where absence proves nothing.
    pub fn confirm(&self) -> Option<Confirm> {
        let absence = self.resource().delete.absence.as_ref()?;
        // A record cannot be asked for by an id that is not the vendor's.
        if self.own_id { Some(absence.confirm) } else { None }
    }

    /// Whether records are read one by one after listing.
    pub fn hydrates(&self) -> bool {
        matches!(self.resource().hydrate, Hydrate::ById { .. })
    }

    /// Whether the vendor itself reports deletions.
    pub fn told_deletions(&self) -> bool {
        self.resource().delete.flag.is_some() || self.resource().ops.is_some()
    }

    /// Whether records have a stamp of their making apart from that of their last change.
    pub fn created_reliable(&self) -> bool {
        self.records.two_stamps()
    }

    /// Whether the stamp of the last change moves with every change, so that it can be filtered by.
    pub fn updated_reliable(&self) -> bool {
        matches!(self.resource().change, ChangeDetection::Filter { .. } | ChangeDetection::ScanDesc { .. })
    }

    /// The order in which the list comes by itself, as `orderBy` has it; `None` where the vendor does not say.
    pub(crate) fn own_order(&self) -> Option<String> {
        let resource = self.resource();
        let updated = resource.time.updated.as_ref()?.as_str().trim_start_matches('/').replace('/', ".");
        match (&resource.page, &resource.change) {
            (Paging::Keyset { .. }, _) => Some(format!("{updated} asc")),
            (_, ChangeDetection::ScanDesc { .. }) => Some(format!("{updated} desc")),
            _ => None,
        }
    }

    /// What the listing is made for.
    pub fn partitions(&self, connection: &Connection) -> Partitions {
        match &self.partitions {
            PartitionSource::Single => Partitions::Single,
            PartitionSource::Fixed(values) => Partitions::Fixed(values.clone()),
            PartitionSource::Connection(field) => Partitions::Fixed(connection.many(field)),
            PartitionSource::Parent(plan) | PartitionSource::Chunk(plan, _) => Partitions::Parent(plan.clone()),
        }
    }

    /// The partitions that the parent's record ids make.
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

    /// The partition as part of a record's identity: ids of a chunk are unique beyond it.
    pub fn identity<'a>(&self, partition: &'a str) -> &'a str {
        if matches!(self.partitions, PartitionSource::Chunk(..)) { "" } else { partition }
    }

    /// The zone of stamps without offset. `told` is what the vendor said in this pass.
    pub(crate) fn zone(&self, connection: &Connection, told: Option<&str>) -> Zone {
        let configured = || {
            let from_account = || Zone::parse(connection.plain("time_zone")?).ok();
            self.zone.clone().or_else(from_account)
        };
        let sources = &self.resource().time.zone;
        let found = sources.iter().find_map(|source| match source {
            ZoneSource::Config => configured(),
            ZoneSource::Response(_) => Zone::parse(told?).ok(),
            ZoneSource::Fixed(zone) => Some(zone.clone()),
        });
        found.or_else(|| if sources.is_empty() { configured() } else { None }).unwrap_or(Zone::GMT)
    }
}

/// The resource that the URL's path names, else the one that the entry's name names.
fn find(
    element: &Element,
    name: &str,
    url: Option<&PollUrl>,
    path: &str,
    warnings: &mut Vec<Warning>,
) -> Result<usize, FieldProblem> {
    let by_name = |wanted: &str| {
        let resource = element.resource(wanted)?;
        element.resources.iter().position(|other| std::ptr::eq(other, resource))
    };
    let paths = || element.resources.iter().flat_map(|resource| &resource.hub_paths).map(String::as_str);
    let Some(url) = url else {
        return by_name(name).ok_or_else(|| {
            let names = element.resources.iter().map(|resource| resource.name.as_str());
            let near = nearest(name, names.clone()).map_or(String::new(), |near| format!("; the nearest is {near}"));
            let names: Vec<&str> = names.collect();
            let expected = format!("an entry with a url, or the name of one of {}{near}", names.join(", "));
            FieldProblem::new(path, "{}", expected)
        });
    };
    let asked: Vec<&str> = url.path().split('/').collect();
    let matching = |exact: bool| {
        element.resources.iter().position(|resource| {
            resource.hub_paths.iter().any(|path| {
                let parts: Vec<&str> = path.split('/').collect();
                parts.len() == asked.len()
                    && parts.iter().zip(&asked).all(|(part, asked)| part == asked || (!exact && part.starts_with('{')))
            })
        })
    };
    let place = matching(true).or_else(|| matching(false)).or_else(|| by_name(url.path()));
    let place = place.ok_or_else(|| {
        let near = nearest(url.path(), paths()).map_or(String::new(), |near| format!("; the nearest is {near}"));
        let known: Vec<&str> = paths().collect();
        FieldProblem::new(
            below(path, "url"),
            url.as_str(),
            format!("a path of {}: {}{near}", element.key, known.join(", ")),
        )
    })?;
    if let Some(named) = by_name(name)
        && named != place
    {
        let message =
            format!("the entry is named {name}, but its url lists {}; the url counts", element.resources[place].name);
        warnings.push(Warning::new(below(path, "url"), message));
    }
    Ok(place)
}

/// What the URL's conditions set. A bound set by a macro is what the listing sets anyway.
fn conditions(
    resource: &Resource,
    url: &PollUrl,
    path: &str,
    problems: &mut Vec<FieldProblem>,
    warnings: &mut Vec<Warning>,
) -> (Vec<Condition>, Option<Zone>) {
    let field = below(path, "url");
    let mut conditions = Vec::new();
    let mut zone = None;
    let comparisons = match url.where_clause().map(Expression::all_of) {
        None => Vec::new(),
        Some(Some(comparisons)) => comparisons,
        Some(None) => {
            problems.push(FieldProblem::new(field, url.as_str(), "conditions joined by AND; the vendor has no OR"));
            return (conditions, zone);
        }
    };
    for comparison in comparisons {
        match target(resource, &comparison.attribute, comparison.operator) {
            Err(expected) => {
                let read = format!("{} {}", comparison.attribute, comparison.operator.as_str());
                problems.push(FieldProblem::new(&field, read, expected));
            }
            Ok(target) => {
                let value = comparison.values.first().map(|value| value.text());
                if let (Target::Watermark, Some(only)) = (&target, value.and_then(|value| value.single_macro())) {
                    zone = Some(only.zone().clone()).filter(|zone| *zone != Zone::GMT && zone.as_str() != "UTC");
                }
                let attribute = comparison.attribute.clone();
                conditions.push(Condition { target, attribute, operator: Some(comparison.operator) });
            }
        }
    }
    for (name, _) in url.query() {
        match target(resource, name, Operator::Equal) {
            Ok(target) => conditions.push(Condition { target, attribute: name.clone(), operator: None }),
            Err(_) => {
                let message = format!("the parameter {name} means nothing here and is left out");
                warnings.push(Warning::new(&field, message));
            }
        }
    }
    (conditions, zone)
}

/// What a condition sets, or the conditions that would work.
pub(crate) fn target(resource: &Resource, attribute: &str, operator: Operator) -> Result<Target, String> {
    let sensible = |target: &Target| match target {
        Target::Watermark => matches!(operator, Operator::Equal | Operator::Greater | Operator::GreaterOrEqual),
        Target::Upper => matches!(operator, Operator::Equal | Operator::Less | Operator::LessOrEqual),
        Target::Query(_) | Target::Body(_) => operator == Operator::Equal,
    };
    let found = match resource.wheres.get(attribute) {
        Some(Where::Any(target)) => Some(target).filter(|target| sensible(target)),
        Some(Where::ByOperator(by)) => by.get(operator.as_str()),
        None => None,
    };
    found.cloned().ok_or_else(|| {
        let works: Vec<String> = resource
            .wheres
            .iter()
            .map(|(name, how)| match how {
                Where::Any(Target::Watermark) => format!("{name} with = > >="),
                Where::Any(Target::Upper) => format!("{name} with = < <="),
                Where::Any(_) => format!("{name} with ="),
                Where::ByOperator(by) => {
                    format!("{name} with {}", by.keys().map(String::as_str).collect::<Vec<_>>().join(" "))
                }
            })
            .collect();
        match works.is_empty() {
            true => format!("no condition: {} cannot be filtered", resource.name),
            false => format!("one of {}", works.join(", ")),
        }
    })
}

/// What the listing is made for: a value in the URL's path, a configuration key, or what the element says.
fn partitions(
    element: &Arc<Element>,
    resource: &Resource,
    url: Option<&PollUrl>,
    configuration: &Map<String, Value>,
    path: &str,
    problems: &mut Vec<FieldProblem>,
) -> PartitionSource {
    let parent = |name: &str, problems: &mut Vec<FieldProblem>| match Plan::of(element, name) {
        Ok(plan) => Some(Box::new(plan)),
        Err(more) => {
            problems.extend(more);
            None
        }
    };
    match &resource.fanout {
        Fanout::None => PartitionSource::Single,
        Fanout::List { from } => PartitionSource::Connection(from.clone()),
        Fanout::Chunk { resource, size } => parent(resource, problems)
            .map_or(PartitionSource::Single, |plan| PartitionSource::Chunk(plan, *size as usize)),
        Fanout::Parent { resource: of, param } => {
            let hole = format!("{{{param}}}");
            let in_path = url.and_then(|url| {
                let asked: Vec<&str> = url.path().split('/').collect();
                resource.hub_paths.iter().find_map(|path| {
                    let parts: Vec<&str> = path.split('/').collect();
                    let at = parts.iter().position(|part| *part == hole)?;
                    (parts.len() == asked.len()).then(|| asked[at].to_owned())
                })
            });
            if let Some(value) = in_path.filter(|value| !value.starts_with('{')) {
                return PartitionSource::Fixed(vec![value]);
            }
            match configuration.get(param) {
                Some(Value::String(text)) if !text.trim().is_empty() => PartitionSource::Fixed(
                    text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect(),
                ),
                Some(Value::Array(many)) => {
                    PartitionSource::Fixed(many.iter().map(crate::template::plain_text).collect())
                }
                Some(Value::Number(number)) => PartitionSource::Fixed(vec![number.to_string()]),
                None | Some(Value::Null | Value::String(_)) => {
                    parent(of, problems).map_or(PartitionSource::Single, PartitionSource::Parent)
                }
                Some(other) => {
                    let field = below("configuration", param);
                    let expected = format!("a text or a list of texts for {hole} in {}", below(path, "url"));
                    problems.push(FieldProblem::new(field, other, expected));
                    PartitionSource::Single
                }
            }
        }
    }
}

//! Rehearsal: a polling configuration tried against the live vendor. It stores nothing, sends nothing to a callback,
//! and says in plain words what is wrong before the configuration is switched on.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Timelike, Utc};
use domain::configuration::ResourceConfiguration;
use domain::id::InstanceId;
use domain::problem::{FieldProblem, Warning};
use domain::record::{ListedAs, Record};
use elements::Fault;
use elements::listing::{Cursor, Listing, RecordPage, ScanMode};
use elements::plan::{ChangeStrategy, Partitions, Plan};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Map, Value};

use super::InstanceError;
use super::body::InstanceBody;
use super::check::{check, choose_element};
use super::checked::LoginGiven;
use super::login::{log_in, prove};
use super::record::merged_with;
use super::update::log_in_again;
use crate::accounts::auth::Caller;
use crate::service::{FlowError, Service};
use crate::vendor::{Session, VendorError};

/// Time for all resources together: an answer has to leave the gateway within 30 seconds.
const TIME_FOR_ALL: Duration = Duration::from_secs(24);
/// Resources that are tried at once.
const TRIED_AT_ONCE: usize = 8;
/// Records shown of each resource.
const SAMPLES: usize = 3;
/// A stamp further ahead of the vendor's own clock than this cannot be a clock gone wrong: its zone is.
const ZONE_DOUBT: TimeDelta = TimeDelta::minutes(20);

/// The result of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsal {
    /// One entry for each resource, in the order of their names.
    pub resources: Vec<Rehearsed>,
    /// Values that were read differently from how they were written.
    pub warnings: Vec<Warning>,
}

/// The result of trying one resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rehearsed {
    /// Name in `event.poller.configuration`.
    pub resource: String,
    /// Records on the first page.
    pub records: usize,
    /// A few of them, as an event would name them.
    pub samples: Vec<Sample>,
    /// Precision of the vendor's stamps: `milliseconds`, `seconds` or `minutes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<&'static str>,
    /// Mistakes, in words.
    pub problems: Vec<String>,
    /// Facts that are worth knowing and no mistakes.
    pub findings: Vec<String>,
    /// The reason why nothing could be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A record as its event would name it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// `objectId`.
    pub object_id: String,
    /// `date`: when it was updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// Tries the configuration of an instance that does not exist yet. A login that gives a code cannot be tried: codes
/// work once, and this would be the once.
///
/// # Errors
/// Everything that [`super::create`] would refuse, and elements that need a code.
pub async fn rehearse_new(service: &Service, body: InstanceBody) -> Result<Rehearsal, InstanceError> {
    let until = service.ports.now() + TIME_FOR_ALL;
    let mut configuration = body.configuration.unwrap_or_default();
    let provider_data = body.provider_data.unwrap_or_default();
    let given = LoginGiven { provider_data: &provider_data, tokens_given: body.tokens_given, needed: false };
    let element = choose_element(&service.catalog, body.element.as_deref());
    let checked = check(element, &mut configuration, given)?;
    if elements::auth::grants_code(&checked.element)
        && elements::auth::needs_tokens(&checked.element, &checked.connection)
    {
        let expected = "an instance that is logged in: a code works only once; make the instance with \
                        event.notification.enabled false, then POST /instances/{id}/rehearse";
        return Err(InstanceError::Invalid(vec![FieldProblem::new("providerData.code", "a login by code", expected)]));
    }
    let login = log_in(service, &checked, &configuration, given).await?;
    let session = prove(login.session(service, &checked, None)).await?.for_rehearsal(until);
    let resources = Trial { session, configuration }.all(checked.settings.resources).await?;
    Ok(Rehearsal { resources, warnings: checked.warnings })
}

/// Tries what an instance would poll if `body` were merged into it: with the login it has, or with the credentials in
/// the body where they make it another account.
///
/// # Errors
/// Everything that [`super::update`] would refuse.
pub async fn rehearse(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    body: InstanceBody,
) -> Result<Rehearsal, InstanceError> {
    let until = service.ports.now() + TIME_FOR_ALL;
    let (record, mut configuration) = merged_with(service, caller, id, body.configuration.as_ref()).await?;
    let nothing = Map::new();
    let given = LoginGiven { provider_data: &nothing, tokens_given: false, needed: false };
    let checked = check(choose_element(&service.catalog, Some(&record.element)), &mut configuration, given)?;
    let (login, connection) = log_in_again(service, &record, &checked, &configuration, given).await?;
    let mut session = login.session(service, &checked, Some(id)).for_rehearsal(until);
    session.learn(connection);
    session.renew_if_due().await?;
    let resources = Trial { session, configuration }.all(checked.settings.resources).await?;
    Ok(Rehearsal { resources, warnings: checked.warnings })
}

/// A configuration that is tried, resource by resource.
struct Trial<'a> {
    /// Each resource is tried in a clone of it.
    session: Session<'a>,
    configuration: Map<String, Value>,
}

impl Trial<'_> {
    async fn all(
        &self,
        resources: impl IntoIterator<Item = (String, ResourceConfiguration)>,
    ) -> Result<Vec<Rehearsed>, FlowError> {
        stream::iter(resources)
            .map(async |(resource, configured)| {
                let mut rehearsed = Rehearsed { resource, ..Rehearsed::default() };
                match self.one(self.session.clone(), &configured, &mut rehearsed).await {
                    Ok(()) => {}
                    Err(VendorError::Flow(error)) => return Err(error),
                    Err(error) => rehearsed.failure = Some(error.to_string()),
                }
                Ok(rehearsed)
            })
            .buffered(TRIED_AT_ONCE)
            .try_collect()
            .await
    }

    async fn one(
        &self,
        mut session: Session<'_>,
        configured: &ResourceConfiguration,
        out: &mut Rehearsed,
    ) -> Result<(), VendorError> {
        let (plan, _) = Plan::resolve(session.element(), &out.resource, configured, &self.configuration)
            .map_err(VendorError::Misconfigured)?;
        let Some(partition) = first_partition(&mut session, &plan).await? else {
            out.findings.push("the parent listing is empty, so there is nothing to list yet".into());
            return Ok(());
        };
        let page = first_page(&mut session, &plan, ScanMode::Complete, &Cursor::Start, None, &partition).await?;
        out.records = page.records.len();
        out.samples = page.records.iter().take(SAMPLES).map(sample).collect();
        out.problems.extend(page.problems.iter().map(|problem| match problem.sample.is_empty() {
            true => problem.what.clone(),
            false => format!("{} ({})", problem.what, problem.sample),
        }));
        if page.records.is_empty() && page.problems.is_empty() {
            out.findings.push("the vendor lists no records yet: dates and ids could not be tried".into());
        }
        weigh_stamps(&plan, &page, out);
        if plan.change_strategy() == ChangeStrategy::Filter {
            try_filter(&mut session, &plan, &page, &partition, out).await?;
        }
        Ok(())
    }
}

/// Precision of the stamps, and whether their zone can be right.
fn weigh_stamps(plan: &Plan, page: &RecordPage, out: &mut Rehearsed) {
    let stamps: Vec<DateTime<Utc>> = page.records.iter().filter_map(|record| record.updated).collect();
    if stamps.is_empty() {
        if !page.records.is_empty() && plan.updated_reliable() {
            out.problems.push("no record has a date that can be read at updatedDateField".into());
        }
        return;
    }
    let finest = |whole: fn(&DateTime<Utc>) -> bool| stamps.iter().all(whole);
    out.precision = Some(match () {
        () if finest(|stamp| stamp.second() == 0 && stamp.nanosecond() == 0) => "minutes",
        () if finest(|stamp| stamp.nanosecond() == 0) => "seconds",
        () => "milliseconds",
    });
    if out.precision == Some("minutes") && stamps.len() > SAMPLES {
        out.findings.push("stamps are cut to minutes: several edits within one may be told as one".into());
    }
    let newest = stamps.iter().max();
    if let (Some(newest), Some(clock)) = (newest, page.server_date)
        && *newest > clock + ZONE_DOUBT
    {
        let ahead = (*newest - clock).num_minutes();
        out.problems.push(format!(
            "the newest record is dated {ahead} minutes ahead of the vendor's own clock: the time zone of \
             updatedDateField is not the vendor's"
        ));
    }
}

/// Checks that the vendor's filter filters, and that it includes records of the very bound.
async fn try_filter(
    session: &mut Session<'_>,
    plan: &Plan,
    page: &RecordPage,
    partition: &str,
    out: &mut Rehearsed,
) -> Result<(), VendorError> {
    let Some(newest) = page.records.iter().filter_map(|record| record.updated).max() else { return Ok(()) };
    let cursor = Cursor::Watermark(newest);
    let beyond = newest + TimeDelta::days(1);
    let after = first_page(session, plan, ScanMode::Changes, &cursor, Some(beyond), partition).await?;
    let older = after.records.iter().filter(|record| record.updated.is_some_and(|updated| updated < beyond)).count();
    if older > 0 {
        out.problems.push(format!(
            "the vendor ignores the filter: {older} records older than the bound came back; polls drop them \
             themselves and read more than they need"
        ));
        return Ok(());
    }
    let at = first_page(session, plan, ScanMode::Changes, &cursor, Some(newest), partition).await?;
    // A page that is not the whole listing need not hold the newest record.
    if page.done && !at.records.iter().any(|record| record.updated == Some(newest)) {
        out.findings.push(
            "the vendor compares strictly: a record of the very bound is left out; polls read back further for it"
                .into(),
        );
    }
    Ok(())
}

async fn first_partition(session: &mut Session<'_>, plan: &Plan) -> Result<Option<String>, VendorError> {
    match plan.partitions(session.connection()) {
        Partitions::Single => Ok(Some(String::new())),
        Partitions::Fixed(names) => Ok(names.into_iter().next()),
        Partitions::Parent(parent) => {
            let page = first_page(session, &parent, ScanMode::Complete, &Cursor::Start, None, "").await?;
            let living = page.records.into_iter().filter(|record| record.listed_as != ListedAs::Deleted);
            let ids: Vec<String> = living.map(|record| record.id).collect();
            Ok(plan.partitions_of(&ids).into_iter().next())
        }
    }
}

async fn first_page(
    session: &mut Session<'_>,
    plan: &Plan,
    mode: ScanMode,
    cursor: &Cursor,
    lower: Option<DateTime<Utc>>,
    partition: &str,
) -> Result<RecordPage, VendorError> {
    let mut listing = Listing::start(plan, mode, cursor, lower, partition, session.now());
    // A second request where the vendor wants a smaller page or names its time zone first.
    for _ in 0..4 {
        let request = listing.request(plan, &session.context())?;
        let response = session.send(request).await?;
        match listing.read(plan, &session.context(), &response) {
            Ok(page) if page.records.is_empty() && !page.done => {}
            Ok(page) => return Ok(page),
            Err(Fault::ShrinkPage | Fault::RestartScan { .. }) => {}
            Err(fault) => session.renew_after(fault).await?,
        }
    }
    Err(VendorError::NoPage)
}

fn sample(record: &Record) -> Sample {
    let text = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    Sample { object_id: record.id.clone(), date: record.updated.map(text), created: record.created.map(text) }
}

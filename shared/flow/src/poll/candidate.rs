//! The candidates of a page: the records that are to be judged, read in full where the listing only names them.

use chrono::{DateTime, Utc};
use domain::index::{hash_of, key_of};
use domain::record::{ListedAs, Record};
use elements::plan::Plan;
use elements::single::{self, Hydrated};
use store::records::seen::Seen;

use super::batch::{Candidate, version_of};
use super::draft::Draft;
use crate::vendor::{Session, VendorError};

/// Drops the records of a page that were judged before: those below the listing's lower bound, and those that were
/// listed last time in the same version. A complete listing notes in `seen` all that exist.
pub(super) fn filter_seen(
    records: Vec<Record>,
    lower: Option<DateTime<Utc>>,
    mut seen: Option<&mut Seen>,
    draft: &mut Draft,
) -> Vec<Candidate> {
    draft.report.records += records.len() as u64;
    let mut candidates = Vec::with_capacity(records.len());
    for record in records {
        let key = key_of(&record.partition, &record.id);
        let hash = hash_of(&key);
        if let Some(seen) = seen.as_deref_mut()
            && record.listed_as != ListedAs::Deleted
        {
            seen.insert(hash);
        }
        // A listing newest first ends with a page that reaches below the bound.
        if lower.is_some_and(|lower| record.updated.is_some_and(|updated| updated < lower)) {
            draft.report.suppressed += 1;
        } else if draft.state.recent.contains(hash, version_of(&record)) {
            draft.batch.note_listed(&record, hash);
            draft.report.suppressed += 1;
        } else {
            candidates.push(Candidate { record, key, hash });
        }
    }
    candidates
}

/// Reads each record by its id, for listings that name records without their content. Records that are gone are left
/// out.
pub(super) async fn hydrate(
    session: &mut Session<'_>,
    plan: &Plan,
    named: Vec<Candidate>,
) -> Result<Vec<Candidate>, VendorError> {
    let mut whole = Vec::with_capacity(named.len());
    for candidate in named {
        let asked = session.ask(
            |context| single::hydrate_request(plan, context, &candidate.record),
            |context, response| single::hydrated(plan, context, &candidate.record, response),
        );
        match asked.await? {
            Some(Hydrated::Record(record)) => whole.push(Candidate { record, ..candidate }),
            Some(Hydrated::Gone) => {}
            None => whole.push(candidate),
        }
    }
    Ok(whole)
}

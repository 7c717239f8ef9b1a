//! Deletions by absence: records that a complete listing lacked are weighed, asked for by id, and only then emitted.

use bytes::Bytes;
use domain::detect::{self, Absent, Missing};
use domain::index::{hash_of, parts_of};
use domain::record::{ChangeKind, ListedAs, Record};
use elements::single::{self, Confirmation};
use store::records::resource::Held;
use store::records::seen::Seen;

use super::error::PassError;
use super::report::PROBLEMS_SHOWN;
use super::run::Run;

/// After a complete listing: records that are known and were not listed are gone, if asking for them by id says so too.
pub(super) async fn look_for_missing(
    run: &mut Run<'_>,
    partition: &str,
    seen: &Seen,
    pass: &detect::Pass,
) -> Result<(), PassError> {
    let plan = &run.target.plan;
    if plan.confirm().is_none() || !run.draft.state.index_is_complete {
        return Ok(());
    }
    run.committer.index.load_everything(&*run.request.service.ports.store).await?;
    if plan.identity(partition) != partition {
        // Other listings hold records of the same identity: this one alone lacks them.
        return Ok(());
    }
    let mut absent = Absent::default();
    run.committer.index.each(|key, entry| {
        if parts_of(key).0 == partition && !entry.gone {
            absent.count(key, seen.contains(hash_of(key)));
        }
    });
    let is_approved = run.draft.state.held.as_ref().is_some_and(|held| held.approved);
    let share = if is_approved { 1.0 } else { plan.max_delete_share() };
    run.draft.progress.swept = true;
    match Missing::of_complete_listing(absent, share) {
        Missing::Held(absent) => hold(run, &absent),
        Missing::ToConfirm(absent) => {
            let left = absent.count - confirm_each(run, absent.named, pass).await?;
            run.draft.progress.unconfirmed |= left > 0;
            if left > 0 && is_approved {
                // An approval holds until all of it is emitted.
                run.draft.progress.held.clone_from(&run.draft.state.held);
            }
        }
    }
    Ok(())
}

/// Holds a mass deletion until someone approves.
fn hold(run: &mut Run<'_>, absent: &Absent) {
    run.draft.report.held += absent.count;
    let names = absent.named.iter().take(PROBLEMS_SHOWN).map(|key| parts_of(key).1.to_owned());
    let since = run.draft.state.held.as_ref().map_or(run.request.began, |held| held.since);
    let none = Held { since, missing: 0, known: 0, sample: Vec::new(), approved: false };
    let held = run.draft.progress.held.get_or_insert(none);
    held.missing += absent.count;
    held.known += absent.known;
    held.sample.extend(names);
    held.sample.truncate(PROBLEMS_SHOWN);
}

/// Asks for records by id until the time or the number of questions is used up. Returns the number of those asked for.
async fn confirm_each(run: &mut Run<'_>, keys: Vec<String>, pass: &detect::Pass) -> Result<u64, PassError> {
    let mut asked = 0;
    for key in keys {
        if run.confirmations_left == 0 || run.request.service.ports.now() >= run.request.until {
            break;
        }
        run.confirmations_left -= 1;
        confirm(run, key, pass).await?;
        run.committer.renew_lease(&mut run.draft).await?;
        asked += 1;
    }
    Ok(asked)
}

async fn confirm(run: &mut Run<'_>, key: String, pass: &detect::Pass) -> Result<(), PassError> {
    let (partition, id) = parts_of(&key);
    let plan = &run.target.plan;
    let asked = run.target.session.ask(
        |context| single::confirm_request(plan, context, id, partition),
        |context, response| single::confirmed(plan, context, response),
    );
    if let Some(Confirmation::Present) = asked.await? {
        run.draft.report.problem("not listed, but there when asked for by id", id);
        return Ok(());
    }
    let Some(known) = run.committer.index.get(hash_of(&key), &key) else { return Ok(()) };
    let entry = detect::absent(known, pass);
    let stub = Record {
        id: id.to_owned(),
        partition: partition.to_owned(),
        raw: Bytes::from(serde_json::json!({ "id": id }).to_string()),
        updated: None,
        created: None,
        fingerprint: known.fingerprint,
        listed_as: ListedAs::Deleted,
    };
    let change = detect::change_of(&stub, ChangeKind::Deleted, entry, pass);
    run.draft.batch.emit(change, key, entry, &mut run.draft.report);
    Ok(())
}

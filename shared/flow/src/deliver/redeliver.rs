//! Sending again what people ask for, and sending a test.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::event::event_id;
use domain::id::{DeliveryId, InstanceId, OrganizationId};
use domain::record::{Change, ChangeKind};
use store::records::delivery::retry_entry;
use store::records::instance;
use store::{Commit, commit};

use super::query::Found;
use super::retry::{Retry, send};
use super::{DeliveryError, failed, resume};
use crate::deliver::outbox::{ElementLabel, Outbox, Safeguard};
use crate::job::{DeliveryJob, Queued};
use crate::ports::Ports;
use store::records::instance::InstanceRecord;

/// Sends deliveries again, whatever became of them before: under the same ids, with the same bytes, signed again.
/// Their callbacks are resumed, for whoever asks says that they work. Answers how many set out.
///
/// # Errors
/// The store failed; those before have set out.
pub async fn redeliver(ports: &Ports, found: &[Found]) -> Result<usize, DeliveryError> {
    let mut sent = 0;
    let mut resumed: Vec<(OrganizationId, String)> = Vec::new();
    // The oldest first: the order in which they were committed.
    let mut in_order: Vec<&Found> = found.iter().collect();
    in_order.sort_by(|a, b| a.place().cmp(b.place()));
    for one in in_order {
        let stored = instance::key(one.row.instance).get(&*ports.store).await.map_err(failed("an instance"))?;
        let Some(callback) = stored.and_then(|stored| stored.record.callback) else { continue };
        let callback = (one.row.organization, callback.url);
        if !resumed.contains(&callback) {
            resume(ports, callback.0, &callback.1).await?;
            resumed.push(callback);
        }
        // What waits in the backlog comes with the backlog.
        if one.row.in_backlog || send_again(ports, one).await? {
            sent += 1;
        }
    }
    Ok(sent)
}

/// False: it changed meanwhile, and is on its way by itself.
async fn send_again(ports: &Ports, one: &Found) -> Result<bool, DeliveryError> {
    let now = ports.now();
    let mut row = one.row.clone();
    let job = DeliveryJob {
        organization: row.organization,
        instance: row.instance,
        row: one.place().to_owned(),
        delivery: row.id.clone(),
        retry_minute: None,
    };
    let retry = Retry::at(&job, now, now);
    let old = row.retry_minute.filter(|minute| *minute != retry.minute);
    (row.status, row.retry_steps, row.step_ends) = (Default::default(), 0, None);
    (row.updated_at, row.due, row.retry_minute) = (now, Some(now), Some(retry.minute));
    let mut writes = vec![one.read.clone().map(|()| row.clone()).replace(&row), retry.entry()];
    writes.extend(old.map(|minute| retry_entry(row.instance, &row.id, minute).delete()));
    match commit(&*ports.store, &writes).await.map_err(failed("a delivery to be sent again"))? {
        Commit::Done => {
            send(ports, retry.message().into_iter().collect()).await;
            Ok(true)
        }
        Commit::Lost { .. } => Ok(false),
    }
}

/// The name of a test event's resource and object type.
pub const TEST_RESOURCE: &str = "pollux-test";

/// The change of a test event.
pub(super) fn test_change(ports: &Ports, instance: InstanceId, now: DateTime<Utc>) -> Change {
    let id = format!("test-{:016x}", ports.ambient.random());
    let raw = serde_json::json!({ "id": id, "message": "A test event: nothing changed.", "sentAt": now });
    Change {
        event: event_id(instance, TEST_RESOURCE, "", &id, 1),
        kind: ChangeKind::Created,
        id,
        partition: String::new(),
        revision: 1,
        date: Some(now),
        raw: raw.to_string().into(),
    }
}

/// Files and sends an event that says it is a test, through everything that a real one goes through. None: the
/// instance has no callback, and the test is only kept.
///
/// # Errors
/// The store failed, and nothing is on its way.
pub async fn send_test(
    ports: &Ports,
    instance: &InstanceRecord,
    element: ElementLabel<'_>,
) -> Result<Option<DeliveryId>, DeliveryError> {
    let now = ports.now();
    let change = test_change(ports, instance.id, now);
    let (poll_date, safeguard) = (now, Safeguard::entry(now));
    let (resource, object_type) = (TEST_RESOURCE, TEST_RESOURCE);
    let mut sent = None;
    for outgoing in (Outbox { instance, element, resource, object_type, poll_date, now, safeguard }).file(&[change]) {
        let written = commit(&*ports.store, &outgoing.writes).await.map_err(failed("a test event"))?;
        if let (Commit::Done, Some(job)) = (written, outgoing.job) {
            send(ports, vec![job.message(Duration::ZERO)]).await;
            sent = Some(job.delivery);
        }
    }
    Ok(sent)
}

//! The backlog of a callback as a whole: how it is doing, and letting it go.

use chrono::{DateTime, TimeDelta, Utc};
use domain::backlog::{Release, ReleasedFrom, Waiting};
use domain::callback::CallbackState;
use domain::circuit::{Circuit, Disabled};
use domain::id::OrganizationId;
use serde::Serialize;
use store::port::Write;
use store::records::callback::{self, BacklogEntry, CallbackKey};
use store::records::delivery::{Status, row_key};
use store::{Attempts, Change, Commit, RecordError, commit, update, write_each};

use super::context::{first_of, front, state_of};
use super::retry::{Retry, send};
use super::{DeliveryError, failed};
use crate::job::DeliveryJob;
use crate::ports::{Message, Ports};

/// Transactions that one call makes at most to let a backlog go; what is left goes with the next delivery that arrives.
const MOST_ROUNDS: usize = 12;

/// The writes and messages of those that are let go. `front` are the entries of the backlog that were read.
pub(super) fn releases(
    key: &CallbackKey,
    front: &[BacklogEntry],
    released: &[Release],
    now: DateTime<Utc>,
) -> (Vec<Write>, Vec<Message>) {
    let (mut writes, mut messages) = (Vec::new(), Vec::new());
    for release in released {
        let job = match release.from {
            ReleasedFrom::Backlog => {
                writes.push(key.entry(&release.key).take());
                front.iter().map(|entry| &entry.job).find(|job| job.key() == release.key).cloned()
            }
            // Its entry of before goes when the outcome is filed.
            ReleasedFrom::Flight => DeliveryJob::of_key(key.organization(), &release.key, None),
        };
        if let Some(retry) = job.map(|job| Retry::at(&job, release.at, now)) {
            writes.push(retry.entry());
            messages.extend(retry.message());
        }
    }
    (writes, messages)
}

/// Goes on letting a backlog go where one transaction was not enough, because all that it read had to follow others.
/// Answers how many were let go.
pub(super) async fn drain(ports: &Ports, key: &CallbackKey) -> Result<usize, DeliveryError> {
    let mut count = 0;
    for _ in 0..MOST_ROUNDS {
        let read = state_of(ports, key).await?;
        let mut state: CallbackState = read.record().cloned().unwrap_or_default();
        if state.wants() == 0 {
            break;
        }
        let (front, now) = (front(ports, key, &state).await?, ports.now());
        if front.is_empty() {
            state.backlog_is_empty(0);
        }
        let waiting: Vec<Waiting> = front.iter().map(BacklogEntry::waiting).collect();
        let released = state.release(&waiting, now);
        let (mut writes, messages) = releases(key, &front, &released, now);
        writes.extend(callback::change(&read, &state));
        if writes.is_empty() {
            // All that could come wait for others.
            break;
        }
        match commit(&*ports.store, &writes).await.map_err(failed("the backlog of a callback"))? {
            Commit::Done => {
                count += released.len();
                send(ports, messages).await;
            }
            Commit::Lost { .. } => {}
        }
    }
    Ok(count)
}

/// The health of a callback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallbackView {
    /// `ok`, `failing`, `open` (one probes, the rest wait) or `disabled`.
    pub status: &'static str,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// When the first of them was.
    pub failing_since: Option<DateTime<Utc>>,
    /// When the next probe is due, while it is open.
    pub next_probe: Option<DateTime<Utc>>,
    /// The reason why it is disabled, and since when.
    pub disabled: Option<Disabled>,
    /// The number of deliveries in the backlog.
    pub waiting: u32,
}

/// The health of a callback of an organization.
///
/// # Errors
/// The store failed, or what it has cannot be read.
pub async fn callback_view(
    ports: &Ports,
    organization: OrganizationId,
    url: &str,
) -> Result<CallbackView, DeliveryError> {
    let read = state_of(ports, &CallbackKey::of(organization, url)).await?;
    let state = read.record().cloned().unwrap_or_default();
    let failures = state.circuit.failures();
    let status = match &state.circuit {
        Circuit::Disabled(..) => "disabled",
        Circuit::Open(..) => "open",
        Circuit::Closed(_) if failures.count == 0 => "ok",
        Circuit::Closed(_) => "failing",
    };
    Ok(CallbackView {
        status,
        failures: failures.count,
        failing_since: failures.since,
        next_probe: state.circuit.open().map(|open| open.next_probe),
        disabled: state.circuit.disabled().cloned(),
        waiting: state.backlog.waiting,
    })
}

/// True if a callback of an organization is disabled.
pub(super) async fn is_disabled(ports: &Ports, organization: OrganizationId, url: &str) -> Result<bool, DeliveryError> {
    let read = state_of(ports, &CallbackKey::of(organization, url)).await?;
    Ok(read.record().is_some_and(CallbackState::is_disabled))
}

/// Somebody says that the callback works again: it is tried as if it had never failed, and its backlog drains.
/// Answers how many set out at once; each that arrives lets the next go.
///
/// # Errors
/// The store failed, or what it has cannot be read.
pub async fn resume(ports: &Ports, organization: OrganizationId, url: &str) -> Result<usize, DeliveryError> {
    let key = CallbackKey::of(organization, url);
    let state = key.state();
    let resumed = update(&*ports.store, &*ports.ambient, Attempts::many(), &state, async |read| {
        let mut state: CallbackState = read.record().cloned().unwrap_or_default();
        state.resume(ports.now());
        Ok::<_, RecordError>(match callback::change(&read, &state) {
            Some(write) => Change::Write(vec![write], ()),
            None => Change::Keep(()),
        })
    });
    resumed.await.map_err(failed("the state of a callback"))?;
    drain(ports, &key).await
}

/// The callback `url` is no longer anybody's, or its instances point elsewhere now: whatever waits in its backlog is
/// filed to be tried again, wherever that goes, spread over time. To be called after the change is stored.
/// Answers how many there were.
///
/// # Errors
/// The store failed, or what it has cannot be read; those before are filed.
pub async fn release_backlog(ports: &Ports, organization: OrganizationId, url: &str) -> Result<usize, DeliveryError> {
    let key = CallbackKey::of(organization, url);
    let mut released = 0;
    loop {
        let front = first_of(ports, &key).await?;
        if front.is_empty() {
            break;
        }
        for entry in front {
            let now = ports.now();
            // Four a second, in order.
            let at = now + TimeDelta::milliseconds(250 * released as i64);
            let retry = Retry::at(&entry.job, at, now);
            let mut writes = vec![key.entry(&entry.job.key()).delete()];
            let stored = row_key(&entry.job).get(&*ports.store).await.map_err(failed("a delivery"))?;
            if let Some(stored) = stored.filter(|stored| stored.record.in_backlog) {
                let mut row = stored.record.clone();
                (row.status, row.in_backlog) = (Status::Waiting, false);
                (row.due, row.retry_minute) = (Some(at), Some(retry.minute));
                writes.push(stored.replace(&row));
                writes.push(retry.entry());
            }
            match commit(&*ports.store, &writes).await.map_err(failed("the backlog of a callback"))? {
                Commit::Done => {
                    released += 1;
                    send(ports, retry.message().into_iter().collect()).await;
                }
                // Somebody handles this very delivery; it is read again.
                Commit::Lost { .. } => {}
            }
        }
    }
    write_each(&*ports.store, &[key.state().delete()]).await.map_err(failed("the state of a callback"))?;
    Ok(released)
}

//! The stored state of a callback and its line, and the one transaction that moves a delivery: between its row,
//! the `RETRY#` minutes and the line.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::breaker::{CallbackState, Disabled, Ticket, Whom};
use domain::id::{InstanceId, OrganizationId};
use domain::retry_minute::RetryMinute;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::coalesce::coalesce;
use super::row::{DeliveryRow, Status, row_key};
use super::{DeliveryError, store};
use crate::fields::Chain;
use crate::job::{DeliveryJob, Queued};
use crate::outbox::{KEPT, entry_minute, expiring, retry_entry};
use crate::ports::{Condition, Key, LONGEST_QUEUE_DELAY, Message, Ports, QueueName, Range, StoreError, Write};
use crate::table::{put, read, replace, retry_key};

/// Tries to write a state that others write too. They are a few attempts that end at the same moment.
const MOST_TRIES: usize = 12;

/// Heads of the line read at once.
const HEADS: usize = 8;

/// Where the state of a callback and its line are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    organization: OrganizationId,
    partition: String,
}

impl Place {
    pub(super) fn of(organization: OrganizationId, url: &str) -> Self {
        let hash: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { organization, partition: format!("CALLBACK#{organization}#{hash}") }
    }

    fn state_key(&self) -> Key {
        Key::new(self.partition.clone(), "STATE")
    }

    pub(super) fn line_key(&self, ticket: &str) -> Key {
        Key::new(self.partition.clone(), format!("WAIT#{ticket}"))
    }

    /// Where it is noted who stands last in line for a record; only of callbacks that want no more than the newest.
    pub(super) fn newest_key(&self, record: u64) -> Key {
        Key::new(self.partition.clone(), format!("NEWEST#{record:016x}"))
    }

    pub(super) async fn read(&self, ports: &Ports) -> Result<Stored, DeliveryError> {
        let item = ports.store.get(&self.state_key()).await.map_err(store("the state of a callback"))?;
        Ok(match item {
            Some(item) => Stored { state: read(&item)?, version: Some(item.version) },
            None => Stored::default(),
        })
    }

    async fn heads(&self, ports: &Ports) -> Result<Vec<InLine>, DeliveryError> {
        let range = Range::prefix("WAIT#").limit(HEADS);
        let page = ports.store.query(&self.partition, &range, None).await.map_err(store("the line of a callback"))?;
        page.items.iter().map(|item| read(item).map_err(DeliveryError::from)).collect()
    }
}

/// A state as it was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) state: CallbackState,
    version: Option<u64>,
}

impl Stored {
    fn check(&self, place: &Place) -> Write {
        let condition = self.version.map_or(Condition::Absent, Condition::Version);
        Write::Check { key: place.state_key(), condition }
    }

    /// The write that leaves `state` in its place; none when nothing changes.
    fn write(&self, place: &Place, state: &CallbackState) -> Option<Write> {
        if *state == self.state {
            return None;
        }
        Some(match self.version {
            Some(version) if state.is_healthy() => {
                Write::Delete { key: place.state_key(), condition: Condition::Version(version) }
            }
            Some(version) => replace(place.state_key(), version, state),
            None => put(place.state_key(), 1, state, Condition::Absent),
        })
    }
}

/// An entry of the line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InLine {
    job: DeliveryJob,
    pub(super) records: Vec<u64>,
}

/// A delivery's ticket: sorts by when it was committed.
pub(super) fn ticket_of(job: &DeliveryJob) -> Ticket {
    format!("{}#{}", job.row.strip_prefix("DLV#").unwrap_or(&job.row), job.instance)
}

/// The job of a delivery that is known by its ticket.
pub(super) fn job_of(
    organization: OrganizationId,
    ticket: &str,
    retry_minute: Option<RetryMinute>,
) -> Option<DeliveryJob> {
    let (row, instance) = ticket.rsplit_once('#')?;
    DeliveryJob::of_row(organization, InstanceId(instance.parse().ok()?), format!("DLV#{row}"), retry_minute)
}

/// Where a delivery goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filing {
    /// To be tried at this instant.
    At(DateTime<Utc>),
    /// Into the line of its callback.
    Line,
    /// Nowhere: it is settled.
    Settled,
    /// Where it is. The job at hand was a stale copy, and its entry goes if it is not the live one.
    Stale,
    /// Where it is: the attempt is about to begin, and others wait for its outcome. It gets an entry if it has none.
    Stay,
}

/// What a move left behind.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// To be sent now that the transaction is through.
    messages: Vec<Message>,
    /// How many came out of the line.
    pub(super) released: usize,
    /// It was not filed, for newer ones tell of all its records.
    pub(super) superseded: bool,
}

/// How a move ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// As decided.
    Moved(Moved),
    /// Somebody else wrote the row meanwhile, or what made a copy stale: whatever was decided is void.
    Outrun,
}

/// The minute to file a try at `at` under, and the delay of the message that normally gets there first.
/// A message can wait 15 minutes: within these its entry is only a safeguard and comes later by [`GRACE`].
fn schedule(at: DateTime<Utc>, now: DateTime<Utc>) -> (RetryMinute, Option<Duration>) {
    let wait = (at - now).max(TimeDelta::zero());
    // Whole seconds, rounded up: a message must not come early.
    let seconds = (wait.num_milliseconds() as u64).div_ceil(1000);
    let delay = Duration::from_secs(seconds);
    if delay <= LONGEST_QUEUE_DELAY {
        (entry_minute(at.max(now)), Some(delay))
    } else {
        // An entry is read as its minute begins, so the first minute that begins after the instant.
        (RetryMinute::at(at) + 1, None)
    }
}

/// The minute to file a job under that is sent at once.
pub(super) fn schedule_now(now: DateTime<Utc>) -> RetryMinute {
    schedule(now, now).0
}

/// Sends what the transaction before it has made safe. What the queue does not take comes by its entry.
pub(super) async fn send(ports: &Ports, messages: Vec<Message>) {
    if messages.is_empty() {
        return;
    }
    for outcome in ports.queue.send(QueueName::Deliveries, messages).await {
        if let Err(error) = outcome {
            tracing::warn!(error = %Chain(&error), "a delivery waits for its retry entry");
        }
    }
}

/// A delivery at hand: its row as it was read, and the state of the callback it goes to.
pub(super) struct Scene<'a> {
    pub(super) ports: &'a Ports,
    pub(super) job: &'a DeliveryJob,
    /// None: there is no row any more, or nothing of it changes.
    pub(super) row: Option<(DeliveryRow, u64)>,
    /// None: there is no callback.
    pub(super) callback: Option<(Place, Stored)>,
    /// The callback wants only the newest of what waits.
    pub(super) coalesce: bool,
}

impl Scene<'_> {
    /// Decides and writes. `decide` changes row and state and says where the delivery goes; it is asked again when
    /// the state was changed by others in between, and must depend on nothing else.
    pub(super) async fn decide(
        &mut self,
        mut decide: impl FnMut(Option<&mut DeliveryRow>, &mut CallbackState) -> Filing,
    ) -> Result<Ending, DeliveryError> {
        for _ in 0..MOST_TRIES {
            let mut row = self.row.as_ref().map(|(row, _)| row.clone());
            let mut state = self.callback.as_ref().map(|(_, stored)| stored.state.clone()).unwrap_or_default();
            let mut filing = decide(row.as_mut(), &mut state);
            let now = self.ports.now();
            let mut moved = Moved::default();
            let (mut writes, mut older) = (Vec::new(), Vec::new());
            if let (true, Some((place, _)), Some(row)) = (self.coalesce, &self.callback, row.as_mut()) {
                (filing, older) = coalesce(self.ports, place, self.job, row, &mut state, filing, now).await?;
                moved.superseded = row.status == Status::Superseded;
            }
            self.file(filing, row.as_mut(), now, &mut writes, &mut moved);
            writes.extend(older);
            // What must hold of this very delivery comes first.
            let about_it = |write: &&Write| write.key().sk == self.job.row || matches!(write, Write::Check { .. });
            let about_it = writes.iter().take_while(about_it).count();
            if let Some((place, stored)) = &self.callback {
                let joining = u32::from(filing == Filing::Line);
                drain(self.ports, place, &mut state, joining, now, &mut writes, &mut moved).await?;
                match stored.write(place, &state) {
                    Some(write) => writes.push(write),
                    // What makes a copy stale must still be so when its entry goes, and a line that is joined must still be
                    // one: with nobody in front, nobody would draw it out.
                    None if matches!(filing, Filing::Stale | Filing::Line) => writes.push(stored.check(place)),
                    None => {}
                }
            }
            // Where nothing changes, nothing need be so.
            let idle = writes.iter().all(|write| matches!(write, Write::Check { .. }));
            match if idle { Ok(()) } else { self.ports.store.transact(&writes).await } {
                Ok(()) => {
                    send(self.ports, std::mem::take(&mut moved.messages)).await;
                    if let Some((place, _)) = &self.callback
                        && state.wants() > 0
                    {
                        moved.released += drive(self.ports, place).await?;
                    }
                    return Ok(Ending::Moved(moved));
                }
                // A copy that was stale may be the live one by now.
                Err(StoreError::Conflict { index }) if index < about_it || filing == Filing::Stale => {
                    return Ok(Ending::Outrun);
                }
                Err(StoreError::Conflict { .. }) => {
                    if let Some((place, stored)) = &mut self.callback {
                        *stored = place.read(self.ports).await?;
                    }
                }
                Err(source) => return Err(store("the outcome of an attempt")(source)),
            }
        }
        Err(DeliveryError::Contended)
    }

    /// The writes for the delivery itself. The row's put is the first.
    fn file(
        &self,
        filing: Filing,
        row: Option<&mut DeliveryRow>,
        now: DateTime<Utc>,
        writes: &mut Vec<Write>,
        moved: &mut Moved,
    ) {
        let (job, place) = (self.job, self.callback.as_ref().map(|(place, _)| place));
        let mut old: Vec<RetryMinute> = job.retry_minute.into_iter().collect();
        let live = row.as_ref().and_then(|row| row.retry_minute);
        if filing == Filing::Stay {
            if job.retry_minute.is_none() {
                writes.push(retry_entry(job, schedule_now(now)));
            }
            return;
        }
        let mut kept = None;
        let mut filed = None;
        match (filing, row) {
            (Filing::Stale | Filing::Stay, _) => {
                kept = live;
                writes.extend(
                    self.row.as_ref().map(|(_, version)| Write::Check {
                        key: row_key(job),
                        condition: Condition::Version(*version),
                    }),
                );
                // It may be that the dispatcher has moved the live entry here, and that this machine's clock is slow:
                // one of the two must stay.
                writes.extend(live.filter(|live| Some(*live) != job.retry_minute).map(|live| Write::Check {
                    key: retry_key(live, job.instance, &job.delivery.0),
                    condition: Condition::Present,
                }));
            }
            (_, None) => {}
            (filing, Some(row)) => {
                old.extend(live);
                (row.updated_at, row.due, row.retry_minute, row.in_line) = (now, None, None, false);
                if let Filing::At(at) = filing {
                    let (minute, delay) = schedule(at, now);
                    (row.due, row.retry_minute, kept) = (Some(at), Some(minute), Some(minute));
                    let job = DeliveryJob { retry_minute: Some(minute), ..job.clone() };
                    filed = Some(retry_entry(&job, minute));
                    moved.messages.extend(delay.map(|delay| job.message(delay)));
                }
                if let (Filing::Line, Some(place)) = (filing, place) {
                    row.in_line = true;
                    let entry = InLine { job: job.clone(), records: row.records() };
                    let write = put(place.line_key(&ticket_of(job)), 1, &entry, Condition::Unconditional);
                    filed = Some(expiring(write, Some(row.created_at + KEPT)));
                }
                if let Some((_, version)) = &self.row {
                    let expires_at = Some(row.created_at + KEPT);
                    writes.push(expiring(replace(row_key(job), *version, row), expires_at));
                }
            }
        }
        old.sort_unstable();
        old.dedup();
        writes.extend(old.into_iter().filter(|minute| Some(*minute) != kept).map(|minute| Write::Delete {
            key: retry_key(minute, job.instance, &job.delivery.0),
            condition: Condition::Unconditional,
        }));
        writes.extend(filed);
    }
}

/// Takes as many out of the line as the state wants, as writes and messages.
#[allow(clippy::too_many_arguments)]
async fn drain(
    ports: &Ports,
    place: &Place,
    state: &mut CallbackState,
    joining: u32,
    now: DateTime<Utc>,
    writes: &mut Vec<Write>,
    moved: &mut Moved,
) -> Result<(), DeliveryError> {
    if state.wants() == 0 {
        return Ok(());
    }
    let mut line = if state.waiting > 0 { place.heads(ports).await? } else { Vec::new() };
    if line.is_empty() {
        state.line_is_empty(joining);
    }
    // What is taken out for another reason in this very transaction is still read.
    line.retain(|entry| !writes.iter().any(|write| *write.key() == place.line_key(&ticket_of(&entry.job))));
    let heads: Vec<(Ticket, Vec<u64>)> =
        line.iter().map(|entry| (ticket_of(&entry.job), entry.records.clone())).collect();
    for release in state.release(&heads, now) {
        let (retry_minute, delay) = schedule(release.at, now);
        let job = match release.whom {
            Whom::Head(head) => {
                writes.push(Write::Delete { key: place.line_key(&heads[head].0), condition: Condition::Present });
                Some(DeliveryJob { retry_minute: Some(retry_minute), ..line[head].job.clone() })
            }
            // Its entry of before goes when the outcome is filed.
            Whom::Flight(ticket) => job_of(place.organization, &ticket, Some(retry_minute)),
        };
        if let Some(job) = job {
            writes.push(retry_entry(&job, retry_minute));
            moved.messages.extend(delay.map(|delay| job.message(delay)));
        }
        moved.released += 1;
    }
    Ok(())
}

/// Goes on draining where one transaction was not enough, because all heads it read had to follow others.
async fn drive(ports: &Ports, place: &Place) -> Result<usize, DeliveryError> {
    let mut released = 0;
    for _ in 0..MOST_TRIES {
        let stored = place.read(ports).await?;
        let mut state = stored.state.clone();
        if state.wants() == 0 {
            break;
        }
        let (mut writes, mut moved) = (Vec::new(), Moved::default());
        drain(ports, place, &mut state, 0, ports.now(), &mut writes, &mut moved).await?;
        writes.extend(stored.write(place, &state));
        if writes.is_empty() {
            // All that could come wait for others.
            break;
        }
        match ports.store.transact(&writes).await {
            Ok(()) => {
                released += moved.released;
                send(ports, moved.messages).await;
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(source) => return Err(store("the line of a callback")(source)),
        }
    }
    Ok(released)
}

/// What is to be told of a callback.
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
    /// Why it is disabled and since when.
    pub disabled: Option<Disabled>,
    /// How many deliveries stand in line.
    pub waiting: u32,
}

/// How a callback of an organization is doing.
pub async fn callback_view(
    ports: &Ports,
    organization: OrganizationId,
    url: &str,
) -> Result<CallbackView, DeliveryError> {
    let state = Place::of(organization, url).read(ports).await?.state;
    let status = match (&state.disabled, &state.open, state.failures) {
        (Some(_), _, _) => "disabled",
        (None, Some(_), _) => "open",
        (None, None, 0) => "ok",
        (None, None, _) => "failing",
    };
    Ok(CallbackView {
        status,
        failures: state.failures,
        failing_since: state.failing_since,
        next_probe: state.open.map(|open| open.next_probe),
        disabled: state.disabled,
        waiting: state.waiting,
    })
}

/// Somebody says that the callback works again: it is tried as if it had never failed, and its line drains.
/// Answers how many set out at once; each that arrives draws the next.
pub async fn resume(ports: &Ports, organization: OrganizationId, url: &str) -> Result<usize, DeliveryError> {
    let place = Place::of(organization, url);
    for _ in 0..MOST_TRIES {
        let stored = place.read(ports).await?;
        let mut state = stored.state.clone();
        state.resume(ports.now());
        let Some(write) = stored.write(&place, &state) else { break };
        match ports.store.transact(&[write]).await {
            Ok(()) => break,
            Err(StoreError::Conflict { .. }) => {}
            Err(source) => return Err(store("the state of a callback")(source)),
        }
    }
    drive(ports, &place).await
}

/// The callback `url` is no longer anybody's, or its instances point elsewhere now: whatever stands in its line is
/// filed to be tried again, wherever that goes, spread over time. To be called after the change is stored.
/// Answers how many there were.
pub async fn release_line(ports: &Ports, organization: OrganizationId, url: &str) -> Result<usize, DeliveryError> {
    let place = Place::of(organization, url);
    let mut released = 0;
    loop {
        let line = place.heads(ports).await?;
        if line.is_empty() {
            break;
        }
        for entry in line {
            let ticket = ticket_of(&entry.job);
            let now = ports.now();
            // Four a second, in order.
            let at = now + TimeDelta::milliseconds(250 * released as i64);
            let (minute, delay) = schedule(at, now);
            let job = DeliveryJob { retry_minute: Some(minute), ..entry.job };
            let mut writes = vec![Write::Delete { key: place.line_key(&ticket), condition: Condition::Unconditional }];
            if let Some(item) = ports.store.get(&row_key(&job)).await.map_err(store("a delivery"))? {
                let mut row: DeliveryRow = read(&item)?;
                if row.in_line {
                    (row.status, row.in_line, row.due, row.retry_minute) =
                        (Status::Waiting, false, Some(at), Some(minute));
                    writes.push(expiring(replace(item.key.clone(), item.version, &row), item.expires_at));
                    writes.push(retry_entry(&job, minute));
                }
            }
            match ports.store.transact(&writes).await {
                Ok(()) => {
                    released += 1;
                    send(ports, delay.map(|delay| job.message(delay)).into_iter().collect()).await;
                }
                // Somebody handles this very delivery; it is read again.
                Err(StoreError::Conflict { .. }) => {}
                Err(source) => return Err(store("the line of a callback")(source)),
            }
        }
    }
    let delete = Write::Delete { key: place.state_key(), condition: Condition::Unconditional };
    ports.store.transact(&[delete]).await.map_err(store("the state of a callback"))?;
    Ok(released)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::tests::now;

    #[test]
    fn what_comes_soon_has_a_message_and_its_entry_is_a_safeguard() {
        let at = |milliseconds| now() + TimeDelta::milliseconds(milliseconds);
        let minute = RetryMinute::at(now());
        for (milliseconds, expected) in [
            (0, (minute + 2, Some(0))),
            (-5000, (minute + 2, Some(0))),
            (1200, (minute + 2, Some(2))),
            (60_000, (minute + 3, Some(60))),
            (900_000, (minute + 17, Some(900))),
            (901_000, (minute + 16, None)),
            (3_600_000, (minute + 61, None)),
        ] {
            let (filed, delay) = schedule(at(milliseconds), now());
            assert_eq!((filed, delay.map(|delay| delay.as_secs())), expected, "{milliseconds}");
        }
        assert_eq!(schedule_now(now()), minute + 2);
    }
}

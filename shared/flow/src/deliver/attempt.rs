//! One attempt at one delivery, from the job to the row that says what came of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::callback::{Admission, CallbackState};
use domain::transition::{Disposition, Event};
use serde::Serialize;
use store::records::delivery::{Attempt, DeliveryRow, Schedule, Status, body_of};
use store::records::instance::InstanceRecord;
use store::{RecordKey, write_each};

use super::commit::{Committed, Done, commit_transition};
use super::context::{DeliveryContext, Target};
use super::limits::CallbackLimits;
use super::request::SignedRequest;
use super::retry::send;
use super::{DeliveryError, failed};
use crate::fields;
use crate::job::{DeliveryJob, Queued};
use crate::ports::Ports;

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It did not work and will be tried again at this instant.
    RetryAt(DateTime<Utc>),
    /// It waits behind others and was not sent.
    Waiting,
    /// Newer ones tell of all its records, and the callback wants only those.
    Superseded,
    /// It will not be sent by itself any more.
    Queued,
    /// It had been settled before.
    AlreadySettled,
    /// A stale copy of a job whose time has not come.
    NotDue,
    /// Row or instance are gone.
    Gone,
    /// As many attempts at this callback as may be are under way here: the job was put back.
    PutBack,
    /// Another copy of the job got there first.
    Outrun,
}

/// The report of [`deliver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The outcome of the job.
    pub outcome: Outcome,
    /// The attempt, if there was one.
    pub attempt: Option<Attempt>,
    /// The number of other deliveries that it released.
    pub released: usize,
    /// When the delivery was committed, and when this attempt was wanted: that much later it was made. None without an
    /// attempt.
    pub since: Option<Since>,
}

/// The instants that an attempt is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The delivery's commit.
    pub committed: DateTime<Utc>,
    /// When the attempt was due. None for one that came out of the backlog or was moved up.
    pub due: Option<DateTime<Utc>>,
}

impl DeliveryReport {
    fn without_attempt(outcome: Outcome) -> Self {
        Self { outcome, attempt: None, released: 0, since: None }
    }
}

/// Makes one attempt, unless there is a reason not to, and commits what follows.
///
/// The order: read, claim the probe if the callback is down, send, then write row, retry entry, callback state and
/// whoever is let go in one transaction, then send their messages. A crash before the transaction repeats the attempt,
/// one after it loses messages only.
///
/// # Errors
/// Store, vault or data trouble of our own. The job should come again.
pub async fn deliver(
    ports: &Ports,
    limits: &CallbackLimits,
    job: &DeliveryJob,
) -> Result<DeliveryReport, DeliveryError> {
    let (mut context, Target { instance, url }) = DeliveryContext::read(ports, job).await?;
    let (Some(instance), Some(row)) = (instance, context.row.as_ref().map(|row| row.record.clone())) else {
        // The row is left to its expiry; it belongs to nobody now.
        context.row = None;
        return without_attempt(&mut context, Event::Removed, Outcome::Gone).await;
    };
    tracing::Span::current().record(fields::TRACE, &row.trace);
    let state = context.state();
    match row.schedule() {
        // A stale copy: the backlog is where it is, and only the backlog brings it back.
        Schedule::Backlog if !state.backlog.is_in_flight(&context.key) => {
            return without_attempt(&mut context, Event::Stale, Outcome::Waiting).await;
        }
        Schedule::Settled => return without_attempt(&mut context, Event::Settled, Outcome::AlreadySettled).await,
        Schedule::Now | Schedule::At(_) | Schedule::Backlog => {}
    }
    let Some(url) = url.filter(|_| instance.callback.is_some() && !instance.disabled) else {
        return without_attempt(&mut context, Event::SetAside, Outcome::Queued).await;
    };
    // The callback's state may have moved it up since the row was written.
    let moved_up = state.backlog.due_of(&context.key);
    if let Schedule::At(due) = row.schedule()
        && moved_up.map_or(due, |up| up.min(due)) > ports.now()
    {
        return without_attempt(&mut context, Event::Stale, Outcome::NotDue).await;
    }
    if let Some(refused) = admit(&mut context, &row, &state).await? {
        return Ok(refused);
    }
    let Some(_permit) = limits.enter(&*ports.ambient, &url).await else {
        // The entry stays; the delay lets those under way end. Chance keeps the returning ones apart.
        let delay = Duration::from_secs(5 + ports.ambient.random() % 10);
        send(ports, vec![job.message(delay)]).await;
        return Ok(DeliveryReport::without_attempt(Outcome::PutBack));
    };
    let wanted = row.due.unwrap_or(row.created_at);
    let due = (!row.in_backlog && moved_up.is_none_or(|up| up >= wanted)).then_some(wanted);
    let report = attempt(&mut context, limits.deadline(), &instance, &url, &row).await?;
    Ok(DeliveryReport { since: Some(Since { committed: row.created_at, due }), ..report })
}

/// Settles a delivery as `queued`, whatever state it is in, and removes the retry entry under which it was found.
/// Answers whether it was under way.
///
/// # Errors
/// Store or data trouble.
pub async fn set_aside(
    ports: &Ports,
    job: &DeliveryJob,
    entry: Option<&RecordKey<DeliveryJob>>,
) -> Result<bool, DeliveryError> {
    let (mut context, _) = DeliveryContext::read(ports, job).await?;
    let under_way = context.row.as_ref().is_some_and(|row| !row.record.status.is_settled());
    if under_way {
        commit_transition(&mut context, Event::SetAside, 0, None).await?;
    }
    let removed: Vec<_> = entry.map(RecordKey::delete).into_iter().collect();
    write_each(&*ports.store, &removed).await.map_err(failed("a retry entry"))?;
    Ok(under_way)
}

/// Commits what follows for a delivery that is not attempted.
async fn without_attempt(
    context: &mut DeliveryContext<'_>,
    event: Event<'_>,
    outcome: Outcome,
) -> Result<DeliveryReport, DeliveryError> {
    Ok(match commit_transition(context, event, 0, None).await? {
        Committed::Done(Done { released, .. }) => {
            DeliveryReport { released, ..DeliveryReport::without_attempt(outcome) }
        }
        Committed::Outrun => DeliveryReport::without_attempt(Outcome::Outrun),
    })
}

/// Asks the callback's state; answers the report of a delivery that may not be sent. The next probe has that written
/// before it is sent, so that there is one.
async fn admit(
    context: &mut DeliveryContext<'_>,
    row: &DeliveryRow,
    before: &CallbackState,
) -> Result<Option<DeliveryReport>, DeliveryError> {
    let mut state = before.clone();
    let admission = state.admit(&context.key, &row.records(), context.ports.now());
    if admission == Admission::Send && state == *before {
        return Ok(None);
    }
    let done = match commit_transition(context, Event::Ready, 0, None).await? {
        Committed::Done(done) => done,
        Committed::Outrun => return Ok(Some(DeliveryReport::without_attempt(Outcome::Outrun))),
    };
    if done.disposition == Disposition::Send {
        context.read_callback().await?;
        return Ok(None);
    }
    let outcome = if done.status == Status::Superseded { Outcome::Superseded } else { Outcome::Waiting };
    Ok(Some(DeliveryReport { released: done.released, ..DeliveryReport::without_attempt(outcome) }))
}

/// Makes the attempt and commits what follows.
async fn attempt(
    context: &mut DeliveryContext<'_>,
    deadline: Duration,
    instance: &InstanceRecord,
    url: &str,
    row: &DeliveryRow,
) -> Result<DeliveryReport, DeliveryError> {
    let ports = context.ports;
    let body = body_of(&*ports.store, row).await?;
    let result = SignedRequest::send_row(ports, deadline, instance, url, row, body).await?;
    let policy = instance.callback.as_ref().map(|callback| callback.failure_policy).unwrap_or_default();
    let mut attempt = Attempt { number: row.attempts_made + 1, ..result.attempt() };
    let event = Event::Attempted(result.outcome(), policy);
    let (outcome, released) = match commit_transition(context, event, ports.ambient.random(), Some(&attempt)).await? {
        Committed::Done(done) => {
            attempt.next = done.next_attempt;
            let outcome = match (done.status, done.next_attempt) {
                (Status::Delivered, _) => Outcome::Delivered,
                (Status::Superseded, _) => Outcome::Superseded,
                (_, Some(at)) => Outcome::RetryAt(at),
                (Status::Queued, None) => Outcome::Queued,
                (_, None) => Outcome::Waiting,
            };
            (outcome, done.released)
        }
        // Another copy of the job was tried at the same time and has noted its own outcome.
        Committed::Outrun => (Outcome::Outrun, 0),
    };
    Ok(DeliveryReport { outcome, attempt: Some(attempt), released, since: None })
}

/// The form of a report in a log line.
impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Outcome::Delivered => "delivered",
            Outcome::RetryAt(_) => "retry",
            Outcome::Waiting => "waiting",
            Outcome::Superseded => "superseded",
            Outcome::Queued => "queued",
            Outcome::AlreadySettled => "already settled",
            Outcome::NotDue => "not due",
            Outcome::Gone => "gone",
            Outcome::PutBack => "put back",
            Outcome::Outrun => "outrun",
        })
    }
}

//! What the steps of one job share: the ports, the job, and what was read for it.

use chrono::{DateTime, Utc};
use domain::backlog::{Neighbors, Waiting};
use domain::callback::CallbackState;
use domain::delivery::{Delivery, DeliveryKey};
use domain::transition::{Disposition, Transition};
use store::records::callback::{BacklogEntry, CallbackKey};
use store::records::delivery::{DeliveryRow, row_and_instance};
use store::records::instance::InstanceRecord;
use store::{Snapshot, Stored, get_many};

use super::{DeliveryError, failed};
use crate::job::DeliveryJob;
use crate::ports::Ports;

/// The first of the backlog that are read at once.
const FRONT: usize = 8;

/// A delivery at work.
pub(super) struct DeliveryContext<'a> {
    pub(super) ports: &'a Ports,
    pub(super) job: &'a DeliveryJob,
    /// The delivery's key behind its callback.
    pub(super) key: DeliveryKey,
    /// The row as it was read. None: the delivery or its instance is gone.
    pub(super) row: Option<Stored<DeliveryRow>>,
    /// Its callback. None: it has none to go to.
    pub(super) callback: Option<CallbackAsRead>,
    /// The callback wants only the newest state of each record.
    pub(super) coalesces: bool,
}

/// A callback and its state as it was read.
pub(super) struct CallbackAsRead {
    pub(super) key: CallbackKey,
    pub(super) state: Snapshot<CallbackState>,
}

/// The instance's part of a delivery.
pub(super) struct Target {
    pub(super) instance: Option<InstanceRecord>,
    /// The callback that the delivery goes to, or went to when it was filed.
    pub(super) url: Option<String>,
}

impl<'a> DeliveryContext<'a> {
    /// Reads what a job is about: its row and instance by one read, then the state of its callback.
    pub(super) async fn read(ports: &'a Ports, job: &'a DeliveryJob) -> Result<(Self, Target), DeliveryError> {
        let read = row_and_instance(&*ports.store, job).await;
        let (row, instance) = read.map_err(failed("a delivery and its instance"))?;
        let current = instance.as_ref().and_then(|instance| instance.callback.as_ref());
        let filed_for = row.as_ref().and_then(|row| row.record.callback.clone());
        let url = current.map(|callback| callback.url.clone()).or(filed_for);
        let coalesces = current.is_some_and(|callback| callback.coalesce);
        let mut context = Self { ports, job, key: job.key(), row, callback: None, coalesces };
        if let Some(url) = &url {
            let key = CallbackKey::of(job.organization, url);
            context.callback = Some(CallbackAsRead { state: state_of(ports, &key).await?, key });
        }
        Ok((context, Target { instance, url }))
    }

    /// Reads the state of the callback again.
    pub(super) async fn read_callback(&mut self) -> Result<(), DeliveryError> {
        if let Some(callback) = &mut self.callback {
            callback.state = state_of(self.ports, &callback.key).await?;
        }
        Ok(())
    }

    /// The state of the callback; that of a healthy one where there is none.
    pub(super) fn state(&self) -> CallbackState {
        self.callback.as_ref().and_then(|callback| callback.state.record().cloned()).unwrap_or_default()
    }

    /// The part of the delivery that a transition reads.
    pub(super) fn delivery(&self) -> Delivery {
        let key = self.key.clone();
        match &self.row {
            Some(row) => row.record.state(key),
            None => Delivery { key, records: Vec::new(), status: Default::default(), progress: Default::default() },
        }
    }

    /// Compares the delivery with those that wait, where its callback wants only the newest.
    pub(super) async fn coalesce(&self, next: &mut Transition, now: DateTime<Utc>) -> Result<(), DeliveryError> {
        let Some(callback) = self.callback.as_ref().filter(|_| self.coalesces && self.row.is_some()) else {
            return Ok(());
        };
        let neighbors = match next.disposition {
            Disposition::Backlog => neighbors(self.ports, &callback.key, &next.delivery).await?,
            _ => Neighbors::default(),
        };
        next.coalesce(&neighbors, now);
        Ok(())
    }

    /// Lets others go, as many as the callback wants. Answers the entries of the backlog that were read.
    pub(super) async fn release(
        &self,
        next: &mut Transition,
        now: DateTime<Utc>,
    ) -> Result<Vec<BacklogEntry>, DeliveryError> {
        let Some(callback) = self.callback.as_ref().filter(|_| next.callback.wants() > 0) else {
            return Ok(Vec::new());
        };
        let front = front(self.ports, &callback.key, &next.callback).await?;
        let waiting: Vec<Waiting> = front.iter().map(BacklogEntry::waiting).collect();
        next.release(&waiting, now);
        Ok(front)
    }
}

/// The state of a callback.
pub(super) async fn state_of(ports: &Ports, key: &CallbackKey) -> Result<Snapshot<CallbackState>, DeliveryError> {
    key.state().snapshot(&*ports.store).await.map_err(failed("the state of a callback"))
}

/// The first deliveries of a backlog; none, and no read, where the state knows of none.
pub(super) async fn front(
    ports: &Ports,
    key: &CallbackKey,
    state: &CallbackState,
) -> Result<Vec<BacklogEntry>, DeliveryError> {
    match state.backlog.waiting {
        0 => Ok(Vec::new()),
        _ => first_of(ports, key).await,
    }
}

/// The first deliveries of a backlog.
pub(super) async fn first_of(ports: &Ports, key: &CallbackKey) -> Result<Vec<BacklogEntry>, DeliveryError> {
    let page = key.backlog().limit(FRONT).first_page(&*ports.store).await;
    let page = page.map_err(failed("the backlog of a callback"))?;
    Ok(page.into_iter().map(|stored| stored.record).collect())
}

/// The deliveries in the backlog that share records with one that joins it.
async fn neighbors(ports: &Ports, key: &CallbackKey, delivery: &Delivery) -> Result<Neighbors, DeliveryError> {
    let mut neighbors = Neighbors::default();
    read_newest(ports, key, &delivery.records, &mut neighbors).await?;
    let mut newest: Vec<&DeliveryKey> = neighbors.newest.values().collect();
    newest.sort();
    newest.dedup();
    let keys: Vec<_> = newest.into_iter().map(|delivery| key.entry(delivery)).collect();
    let entries = get_many(&*ports.store, keys).await.map_err(failed("the backlog of a callback"))?;
    let waiting = entries.into_iter().map(|entry| entry.record.waiting());
    neighbors.waiting = waiting.map(|waiting| (waiting.key, waiting.records)).collect();
    if !neighbors.supersede(&delivery.key, &delivery.records) {
        let unknown = neighbors.unknown_records();
        read_newest(ports, key, &unknown, &mut neighbors).await?;
    }
    Ok(neighbors)
}

/// Reads which delivery joined the backlog last for each of the records.
async fn read_newest(
    ports: &Ports,
    key: &CallbackKey,
    records: &[u64],
    neighbors: &mut Neighbors,
) -> Result<(), DeliveryError> {
    let mut records = records.to_vec();
    records.sort_unstable();
    records.dedup();
    let keys: Vec<_> = records.iter().map(|record| key.newest(*record)).collect();
    let read = get_many(&*ports.store, keys.iter().cloned())
        .await
        .map_err(failed("the newest in the backlog of a callback"))?;
    for (record, key) in records.into_iter().zip(keys) {
        if let Some(stored) = read.iter().find(|stored| stored.key() == key) {
            neighbors.newest.insert(record, stored.record.clone());
        }
    }
    Ok(())
}

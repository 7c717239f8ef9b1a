//! A callback as it is stored: its state, the entries of its backlog, and the newest of these for each record.

use domain::backlog::Waiting;
use domain::callback::CallbackState;
use domain::delivery::DeliveryKey;
use domain::id::OrganizationId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::job::DeliveryJob;
use crate::pages::Section;
use crate::port::{Key, Range, Write};
use crate::record::{RecordKey, Snapshot};

/// Names a callback: one URL of one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackKey {
    organization: OrganizationId,
    partition: String,
}

/// A delivery in the backlog of its callback.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BacklogEntry {
    /// The job that will bring it.
    pub job: DeliveryJob,
    /// Names of the records inside.
    pub records: Vec<u64>,
}

impl BacklogEntry {
    /// The part of it that decisions need.
    pub fn waiting(&self) -> Waiting {
        Waiting { key: self.job.key(), records: self.records.clone() }
    }
}

impl CallbackKey {
    /// The key of an organization's callback.
    pub fn of(organization: OrganizationId, url: &str) -> Self {
        let hash: String = Sha256::digest(url).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { organization, partition: format!("CALLBACK#{organization}#{hash}") }
    }

    /// The organization.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    fn record<T>(&self, sk: String) -> RecordKey<T> {
        RecordKey::of(Key::new(self.partition.clone(), sk))
    }

    /// Key of the state, which is absent while the callback is healthy.
    pub fn state(&self) -> RecordKey<CallbackState> {
        self.record("STATE".to_owned())
    }

    /// Key of a delivery's entry in the backlog.
    pub fn entry(&self, delivery: &DeliveryKey) -> RecordKey<BacklogEntry> {
        self.record(format!("WAIT#{delivery}"))
    }

    /// The backlog, in the order in which it was committed.
    pub fn backlog(&self) -> Section<BacklogEntry> {
        Section::of(self.partition.clone(), Range::prefix("WAIT#"))
    }

    /// Key of the delivery that joined the backlog last for a record; only of callbacks that want no more than the
    /// newest.
    pub fn newest(&self, record: u64) -> RecordKey<DeliveryKey> {
        self.record(format!("NEWEST#{record:016x}"))
    }
}

/// Writes the state of a callback in place of the one that was read. None: nothing changes.
pub fn change(read: &Snapshot<CallbackState>, state: &CallbackState) -> Option<Write> {
    let unchanged = read.record().map_or_else(|| state.is_healthy(), |before| before == state);
    match (unchanged, state.is_healthy()) {
        (true, _) => None,
        (false, true) => read.delete(),
        (false, false) => Some(read.put(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored keys stay as they are: these literals may never change.
    #[test]
    fn everything_of_a_callback_lies_in_its_partition() {
        let key = CallbackKey::of(OrganizationId(7), "https://a.example/hook");
        let delivery = DeliveryKey::new("1767603600000#d#42");
        let keys = [key.state().as_key(), key.entry(&delivery).as_key(), key.newest(26).as_key()].map(Key::clone);
        assert_eq!(keys.clone().map(|key| key.sk), ["STATE", "WAIT#1767603600000#d#42", "NEWEST#000000000000001a"]);
        assert!(keys.iter().all(|one| one.pk == key.partition), "{keys:?}");
        assert!(key.partition.starts_with("CALLBACK#7#") && key.partition.len() == "CALLBACK#7#".len() + 32);
    }
}

//! The step of an instance from one state to the next, written.

use chrono::{DateTime, Utc};
use store::records::audit::AuditRecord;
use store::records::instance::{self, InstanceRecord};
use store::records::resource::{self, ResourceRecord};
use store::records::{schedule, tokens};
use store::{Attempts, Commit, RecordError, Store, Stored, Write, commit, write_each};

use super::InstanceError;
use super::diff::ResourceDiff;
use super::login::Login;
use crate::accounts::limits::Allowance;
use crate::poll::handed_over;
use crate::service::Service;
use crate::vendor::tokens::seal;

/// Writes that fit in a transaction.
const TRANSACTION: usize = 100;

/// A change of an instance, decided and not yet written.
pub(super) struct Transition<'a> {
    /// The instance as it was read.
    pub before: &'a Stored<InstanceRecord>,
    /// The instance as it is to be.
    pub after: &'a InstanceRecord,
    /// The change of its tokens.
    pub login: &'a Login,
    /// The limits that the change was decided by.
    pub allowance: &'a Allowance,
    /// The entry of the audit trail. It is left out where no key changed.
    pub entry: &'a AuditRecord,
}

impl Transition<'_> {
    /// Writes the step; answers the resources that now need a first poll. None: the instance or the state of a resource
    /// was changed by others in between, so the change has to be decided again.
    ///
    /// It is one transaction wherever it fits. A larger change adds first and removes last: a slot without its resource
    /// is a poll that finds nothing to do.
    pub(super) async fn commit(&self, service: &Service) -> Result<Option<Vec<String>>, InstanceError> {
        let store = &*service.ports.store;
        let now = service.ports.now();
        let diff = ResourceDiff::between(&self.before.record, self.after);
        let core = self.core(service).await?;
        let additions = self.additions(store, &diff, now).await?;
        let removals = self.removals(store, &diff, now).await?;
        if core.len() + additions.len() + removals.len() <= TRANSACTION {
            if is_lost(store, &[core, additions, removals].concat()).await? {
                return Ok(None);
            }
        } else {
            for batch in additions.chunks(TRANSACTION).chain([&*core]) {
                if is_lost(store, batch).await? {
                    return Ok(None);
                }
            }
            self.remove_each(service, &diff, removals).await?;
        }
        for resource in diff.removed.keys() {
            remove_index(store, self.after, resource).await?;
        }
        Ok(Some(diff.started().cloned().collect()))
    }

    /// The instance, its listing, its tokens and the entry of the audit trail.
    async fn core(&self, service: &Service) -> Result<Vec<Write>, InstanceError> {
        let record = self.after;
        let mut writes = vec![self.allowance.unchanged(), self.before.replace(record), instance::listing_write(record)];
        if !self.entry.keys.is_empty() {
            writes.push(self.entry.write(record.organization, &record.id.to_string(), self.before.version()));
        }
        let key = tokens::key(record.id);
        match self.login {
            // Conditional, so that a refresh under way neither overwrites the new tokens nor is overwritten unseen.
            Login::Tokens(new) => {
                let sealed = seal(service, record.id, new).await?;
                writes.push(key.snapshot(&*service.ports.store).await?.put(&sealed));
            }
            Login::NotNeeded => writes.push(key.delete()),
            Login::Unchanged => {}
        }
        Ok(writes)
    }

    /// Slots and fresh states of resources that are new, moved or restarted. The indexes of those that start are gone
    /// then.
    async fn additions(
        &self,
        store: &dyn Store,
        diff: &ResourceDiff,
        now: DateTime<Utc>,
    ) -> Result<Vec<Write>, InstanceError> {
        let record = self.after;
        let moved = diff.moved.iter().map(|(resource, moved)| (resource, &moved.to));
        let slots = diff.added.iter().chain(moved);
        let mut writes: Vec<Write> =
            slots.map(|(resource, interval)| schedule::join(record, resource, *interval)).collect();
        for resource in diff.started() {
            // The version is read before the index goes and compared when the state is written: a poll that commits in
            // between makes this change start over instead of leaving its index behind.
            let state = resource::key(record.id, resource).snapshot(store).await?;
            remove_index(store, record, resource).await?;
            let fresh = ResourceRecord::restarted(record.created_at, now);
            writes.push(state.put(&match state.record() {
                Some(earlier) => fresh.succeeding(earlier),
                None => fresh,
            }));
        }
        if !matches!(self.login, Login::Unchanged) {
            for resource in &diff.continued {
                writes.extend(awakened(store, record, resource).await?);
            }
        }
        Ok(writes)
    }

    /// The removal of old slots, and of the states of resources that are gone.
    async fn removals(
        &self,
        store: &dyn Store,
        diff: &ResourceDiff,
        now: DateTime<Utc>,
    ) -> Result<Vec<Write>, RecordError> {
        let record = self.after;
        let moved = diff.moved.iter().map(|(resource, moved)| (resource, &moved.from));
        let slots = diff.removed.iter().chain(moved);
        let mut writes: Vec<Write> =
            slots.map(|(resource, interval)| schedule::leave(record.id, resource, *interval)).collect();
        for resource in diff.removed.keys() {
            let Some(state) = resource::key(record.id, resource).get(store).await? else { continue };
            writes.extend(handed_over::entries(record, &state.record, now));
            writes.push(state.delete());
        }
        Ok(writes)
    }

    /// Carries out the removals of a change that is written, however often the states move meanwhile.
    async fn remove_each(
        &self,
        service: &Service,
        diff: &ResourceDiff,
        mut removals: Vec<Write>,
    ) -> Result<(), InstanceError> {
        let (store, ambient) = (&*service.ports.store, &*service.ports.ambient);
        let mut attempts = Attempts::few();
        loop {
            let mut some_lost = false;
            for batch in removals.chunks(TRANSACTION) {
                some_lost |= is_lost(store, batch).await?;
            }
            if !some_lost {
                return Ok(());
            }
            attempts.lost(ambient).await.map_err(RecordError::from)?;
            removals = self.removals(store, diff, service.ports.now()).await?;
        }
    }
}

async fn is_lost(store: &dyn Store, writes: &[Write]) -> Result<bool, RecordError> {
    Ok(commit(store, writes).await? != Commit::Done)
}

async fn remove_index(store: &dyn Store, record: &InstanceRecord, resource: &str) -> Result<(), RecordError> {
    Ok(write_each(store, &instance::index_removal(store, record.id, resource).await?).await?)
}

/// The state of a resource that waited because of the old login and waits no longer. None: it did not wait.
async fn awakened(store: &dyn Store, record: &InstanceRecord, resource: &str) -> Result<Option<Write>, RecordError> {
    let Some(stored) = resource::key(record.id, resource).get(store).await? else { return Ok(None) };
    let waited = stored.record.skip_until.is_some();
    Ok(waited.then(|| stored.replace(&ResourceRecord { skip_until: None, ..stored.record.clone() })))
}

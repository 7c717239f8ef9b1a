//! Deletions by absence: what a complete listing lacked, weighed, asked for by id, and only then told.

use bytes::Bytes;
use domain::detect::{self, Absent, Missing, Pass};
use domain::index::{hash_of, parts_of};
use domain::record::{ChangeKind, Record, Told};
use elements::single::{self, Confirmation};

use super::report::PROBLEMS_SHOWN;
use super::seen::Seen;
use super::state::Held;
use super::{Run, Stop};

/// Confirmations of missing records in one poll; the rest waits for the next complete listing, which is made at once.
pub(super) const CONFIRMATIONS_PER_POLL: usize = 1000;

impl Run<'_> {
    /// After a complete listing: what is known and was not listed is gone, if asking for it by id says so too.
    pub(super) async fn look_for_missing(&mut self, partition: &str, seen: &Seen, pass: &Pass) -> Result<(), Stop> {
        if self.plan.confirm().is_none() || !self.loaded.state.index_is_complete {
            return Ok(());
        }
        let store = self.service.ports.store.clone();
        self.index.load_everything(&*store).await?;
        if self.plan.identity(partition) != partition {
            // Other listings hold records of the same identity: this one alone lacks them.
            return Ok(());
        }
        let mut absent = Absent::default();
        self.index.each(|key, entry| {
            if parts_of(key).0 == partition && !entry.gone {
                absent.count(key, seen.contains(hash_of(key)));
            }
        });
        let approved = self.loaded.state.held.as_ref().is_some_and(|held| held.approved);
        let share = if approved { 1.0 } else { self.plan.max_delete_share() };
        self.so_far.swept = true;
        match Missing::of_complete_listing(absent, share) {
            Missing::Held(absent) => {
                self.report.held += absent.count;
                let names = absent.named.iter().take(PROBLEMS_SHOWN).map(|key| parts_of(key).1.to_owned());
                let since = self.loaded.state.held.as_ref().map_or(self.began, |held| held.since);
                let none = Held { since, missing: 0, known: 0, sample: Vec::new(), approved: false };
                let held = self.so_far.held.get_or_insert(none);
                held.missing += absent.count;
                held.known += absent.known;
                held.sample.extend(names);
                held.sample.truncate(PROBLEMS_SHOWN);
            }
            Missing::ToConfirm(absent) => {
                let mut left = absent.count;
                for key in absent.named {
                    if self.confirmations == 0 || self.service.ports.now() >= self.until {
                        break;
                    }
                    self.confirmations -= 1;
                    self.confirm(key, pass).await?;
                    self.take().await?;
                    left -= 1;
                }
                self.so_far.unconfirmed |= left > 0;
                if left > 0 && approved {
                    // What was approved stays so until all of it is told.
                    self.so_far.held.clone_from(&self.loaded.state.held);
                }
            }
        }
        Ok(())
    }

    async fn confirm(&mut self, key: String, pass: &Pass) -> Result<(), Stop> {
        let (partition, id) = parts_of(&key);
        let asked = self.session.ask(
            |context| single::confirm_request(&self.plan, context, id, partition),
            |context, response| single::confirmed(&self.plan, context, response),
        );
        if let Some(Confirmation::Present) = asked.await? {
            self.report.problem("not listed, but there when asked for by id", id);
            return Ok(());
        }
        let Some(known) = self.index.get(hash_of(&key), &key) else { return Ok(()) };
        let entry = detect::absent(known, pass);
        let stub = Record {
            id: id.to_owned(),
            partition: partition.to_owned(),
            raw: Bytes::from(serde_json::json!({ "id": id }).to_string()),
            updated: None,
            created: None,
            fingerprint: known.fingerprint,
            told: Told::Deleted,
        };
        let change = detect::change_of(&stub, ChangeKind::Deleted, entry, pass);
        self.tell(change, key, entry);
        Ok(())
    }
}

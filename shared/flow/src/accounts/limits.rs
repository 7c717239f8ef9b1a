//! Limits of an organization: how many instances, how many resources in each, polled how often.
//!
//! Limits and the count of instances are one record, which every creation and removal writes on condition of its
//! version: however many race, none slips past. Where no limit was ever set there is no such record and nothing is
//! counted; setting the first counts what is there, and counts again when something came in between.

use std::collections::BTreeMap;

use domain::configuration::keys::POLLER_CONFIGURATION;
use domain::id::OrganizationId;
use domain::problem::{FieldProblem, below};
use store::records::account::{Limits, LimitsRecord, limits_key, organization_key};
use store::records::audit::{Action, AuditRecord, By};
use store::records::instance;
use store::{Attempts, Change, RecordError, Snapshot, Write, update};

use super::AccountError;
use crate::ports::Ports;

/// An organization's limits as they were read.
#[derive(Debug, Clone)]
pub struct Allowance {
    record: LimitsRecord,
    snapshot: Snapshot<LimitsRecord>,
}

impl Allowance {
    /// An organization's limits now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn read(ports: &Ports, organization: OrganizationId) -> Result<Self, RecordError> {
        let snapshot = limits_key(organization).snapshot(&*ports.store).await?;
        Ok(Self { record: snapshot.record().copied().unwrap_or_default(), snapshot })
    }

    /// The stored limits and count, if any limit was ever set.
    pub fn record(&self) -> Option<LimitsRecord> {
        self.snapshot.record().copied()
    }

    /// Checks that there is room for one more instance.
    ///
    /// # Errors
    /// The limit, in words.
    pub fn one_more(&self) -> Result<(), FieldProblem> {
        match self.record.limits.instances {
            Some(most) if self.record.instances >= most => {
                let read = format!("one more than {}", self.record.instances);
                Err(FieldProblem::new("instances", read, format!("at most {most} instances in this organization")))
            }
            _ => Ok(()),
        }
    }

    /// Checks the polling of an instance: resources with the minutes between their polls. What it was allowed to do
    /// `before` it may go on doing.
    ///
    /// # Errors
    /// Every limit that is passed, in words.
    pub fn polling(
        &self,
        before: &BTreeMap<String, u16>,
        after: &BTreeMap<String, u16>,
    ) -> Result<(), Vec<FieldProblem>> {
        let limits = self.record.limits;
        let path = below("configuration", POLLER_CONFIGURATION);
        let mut problems = Vec::new();
        if let Some(most) = limits.resources
            && after.len() > most as usize
            && after.len() > before.len()
        {
            let expected = format!("at most {most} resources in an instance of this organization");
            problems.push(FieldProblem::new(&path, format!("{} resources", after.len()), expected));
        }
        let least = limits.smallest_interval.unwrap_or_default();
        for (resource, interval) in after.iter().filter(|(_, interval)| **interval < least) {
            if before.get(resource).is_none_or(|was| interval < was) {
                let expected = format!("at least {least} minutes between polls in this organization");
                problems.push(FieldProblem::new(below(&path, resource), format!("{interval} minutes"), expected));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Belongs into a transaction that was decided upon by these limits.
    pub fn unchanged(&self) -> Write {
        self.snapshot.unchanged()
    }

    /// Belongs into a transaction that makes an instance, or begins to remove one.
    pub fn counting(&self, change: i32) -> Write {
        match self.snapshot.record() {
            Some(record) => {
                let instances = record.instances.saturating_add_signed(change);
                self.snapshot.put(&LimitsRecord { instances, ..*record })
            }
            None => self.unchanged(),
        }
    }
}

/// Sets an organization's limits; answers them with the count they begin with. What it has beyond them stays.
///
/// # Errors
/// There is no such organization; instances came and went at every try to count them; or the store failed.
pub async fn set(ports: &Ports, organization: OrganizationId, limits: Limits) -> Result<LimitsRecord, AccountError> {
    if organization_key(organization).get(&*ports.store).await?.is_none() {
        return Err(AccountError::Absent);
    }
    let key = limits_key(organization);
    // From its first record on, whoever makes or removes an instance moves the version; so it is there before counting.
    update(&*ports.store, &*ports.ambient, Attempts::many(), &key, async |snapshot| match snapshot.record() {
        Some(_) => Ok(Change::Keep(())),
        None => Ok::<_, AccountError>(Change::Write(vec![snapshot.put(&LimitsRecord::default())], ())),
    })
    .await?;
    update(&*ports.store, &*ports.ambient, Attempts::many(), &key, async |snapshot| {
        let record = LimitsRecord { limits, instances: count(ports, organization).await? };
        let entry = AuditRecord::new(ports.now(), By::Operator, Action::LimitsSet);
        let writes = vec![snapshot.put(&record), entry.write(organization, "LIMITS", snapshot.version())];
        Ok(Change::Write(writes, record))
    })
    .await
}

/// Number of instances, without those that are being removed.
async fn count(ports: &Ports, organization: OrganizationId) -> Result<u32, RecordError> {
    let listed = instance::listing(organization).all(&*ports.store).await?;
    let ids: Vec<_> = listed.iter().map(|entry| entry.record.id).collect();
    let instances = instance::get_many(&*ports.store, &ids).await?;
    Ok(u32::try_from(instances.iter().filter(|instance| !instance.record.deleted).count()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use store::records::account::Limits;

    use super::*;
    use crate::testing::TestPorts;

    fn allowance(record: LimitsRecord) -> Allowance {
        Allowance { record, snapshot: limits_key(OrganizationId(1)).none() }
    }

    #[test]
    fn what_was_allowed_before_may_go_on_and_not_grow() {
        let limits = Limits { resources: Some(1), smallest_interval: Some(5), ..Limits::default() };
        let record = LimitsRecord { limits, instances: 0 };
        let allowance = allowance(record);
        let polling = |before: &[(&str, u16)], after: &[(&str, u16)]| {
            let map = |list: &[(&str, u16)]| list.iter().map(|(name, minutes)| (name.to_string(), *minutes)).collect();
            allowance.polling(&map(before), &map(after)).map_err(|problems| problems.len())
        };
        assert_eq!(polling(&[], &[("a", 5)]), Ok(()));
        assert_eq!(polling(&[], &[("a", 5), ("b", 5)]), Err(1));
        assert_eq!(polling(&[("a", 5), ("b", 5)], &[("a", 5), ("c", 5)]), Ok(()), "as many as before");
        assert_eq!(polling(&[("a", 5), ("b", 5)], &[("a", 5), ("b", 5), ("c", 5)]), Err(1));
        assert_eq!(polling(&[], &[("a", 4)]), Err(1));
        assert_eq!(polling(&[("a", 4)], &[("a", 4)]), Ok(()), "as often as before");
        assert_eq!(polling(&[("a", 4)], &[("a", 3)]), Err(1));
    }

    #[test]
    fn an_organization_may_have_so_many_instances() {
        let one_more = |instances, most| {
            let record = LimitsRecord { limits: Limits { instances: most, ..Limits::default() }, instances };
            allowance(record).one_more().is_ok()
        };
        assert_eq!([one_more(1, Some(2)), one_more(2, Some(2)), one_more(3, Some(2))], [true, false, false]);
        assert!(one_more(u32::MAX, None));
    }

    #[tokio::test]
    async fn who_does_not_exist_has_no_limits() {
        let ports = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked")).ports();
        let set = set(&ports, OrganizationId(99), Limits::default()).await;
        assert!(matches!(set, Err(AccountError::Absent)), "{set:?}");
    }
}

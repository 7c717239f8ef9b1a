//! What an organization may have: how many instances, how many resources in each, polled how often.
//!
//! Limits and the count of instances are one item, which every creation and removal writes on condition of its
//! version: however many race, none slips past. Where no limit was ever set there is no such item and nothing is
//! counted; setting the first counts what is there, and counts again when something came in between.

use std::collections::BTreeMap;

use domain::id::OrganizationId;
use domain::problem::{FieldProblem, below};
use serde::{Deserialize, Serialize};

use crate::audit::{Action, AuditRecord, By};
use crate::ports::{Condition, Ports, StoreError, Write, query_all};
use crate::principal::{AdministerError, organization_exists};
use crate::table::{
    self, InstanceRecord, ListingRecord, Unreadable, account_limits_key, instance_key, organization_partition,
};

/// Times that limits are counted anew when instances come and go meanwhile.
const ATTEMPTS: usize = 50;

/// What an organization may have at most. None: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Resources that one instance polls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<u32>,
    /// Minutes between polls of a resource, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_interval: Option<u16>,
}

/// The stored item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsRecord {
    /// What it may have.
    pub limits: Limits,
    /// The instances it has, those that are being removed left out.
    pub instances: u32,
}

/// An organization's limits as they were read.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    organization: OrganizationId,
    record: LimitsRecord,
    /// None: nothing is stored and nothing is counted.
    version: Option<u64>,
}

/// Why limits cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The table refused or was busy.
    #[error("reading an organization's limits")]
    Store(#[from] StoreError),
    /// The stored item is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Allowance {
    /// An organization's limits now.
    pub async fn read(ports: &Ports, organization: OrganizationId) -> Result<Self, LimitsError> {
        let item = ports.store.get(&account_limits_key(organization)).await?;
        Ok(match item {
            Some(item) => Self { organization, record: table::read(&item)?, version: Some(item.version) },
            None => Self { organization, record: LimitsRecord::default(), version: None },
        })
    }

    /// What is stored, if anything is.
    pub fn record(&self) -> Option<LimitsRecord> {
        self.version.map(|_| self.record)
    }

    /// Whether there is room for one more instance.
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

    /// Whether an instance may poll so: resources with the minutes between their polls. What it was allowed to do
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
        let path = below("configuration", "event.poller.configuration");
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
        let condition = self.version.map_or(Condition::Absent, Condition::Version);
        Write::Check { key: account_limits_key(self.organization), condition }
    }

    /// Belongs into a transaction that makes an instance, or begins to remove one.
    pub fn counting(&self, change: i32) -> Write {
        let Some(version) = self.version else { return self.unchanged() };
        let record = LimitsRecord { instances: self.record.instances.saturating_add_signed(change), ..self.record };
        table::replace(account_limits_key(self.organization), version, &record)
    }
}

/// Sets an organization's limits; answers them with the count they begin with. What it has beyond them stays.
///
/// # Errors
/// There is no such organization; it was too busy to be counted; or the table failed.
pub async fn set(ports: &Ports, organization: OrganizationId, limits: Limits) -> Result<LimitsRecord, AdministerError> {
    if !organization_exists(ports, organization).await? {
        return Err(AdministerError::Absent);
    }
    let key = account_limits_key(organization);
    for _ in 0..ATTEMPTS {
        let Some(item) = ports.store.get(&key).await? else {
            // From here on whoever makes or removes an instance moves the version.
            let begun = table::insert(key.clone(), &LimitsRecord::default());
            match ports.store.transact(&[begun]).await {
                Ok(()) | Err(StoreError::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let record = LimitsRecord { limits, instances: count(ports, organization).await? };
        let entry = AuditRecord::new(ports.now(), By::Operator, Action::LimitsSet);
        let writes =
            [table::replace(key.clone(), item.version, &record), entry.write(organization, "LIMITS", item.version)];
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(record),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdministerError::Raced)
}

/// The instances there are, without those that are being removed.
async fn count(ports: &Ports, organization: OrganizationId) -> Result<u32, AdministerError> {
    let listed = query_all(&*ports.store, &organization_partition(organization), "INST#").await?;
    let entries = listed.iter().map(table::read::<ListingRecord>).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<_> = entries.iter().map(|entry| instance_key(entry.id)).collect();
    let items = ports.store.get_many(&keys).await?;
    let records = items.iter().map(table::read::<InstanceRecord>).collect::<Result<Vec<_>, _>>()?;
    Ok(u32::try_from(records.iter().filter(|record| !record.deleted).count()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPorts;

    #[test]
    fn what_was_allowed_before_may_go_on_and_not_grow() {
        let limits = Limits { resources: Some(1), smallest_interval: Some(5), ..Limits::default() };
        let record = LimitsRecord { limits, instances: 0 };
        let allowance = Allowance { organization: OrganizationId(1), record, version: Some(1) };
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
            Allowance { organization: OrganizationId(1), record, version: Some(1) }.one_more().is_ok()
        };
        assert_eq!([one_more(1, Some(2)), one_more(2, Some(2)), one_more(3, Some(2))], [true, false, false]);
        assert!(one_more(u32::MAX, None));
    }

    #[tokio::test]
    async fn who_does_not_exist_has_no_limits() {
        let ports = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked")).ports();
        let set = set(&ports, OrganizationId(99), Limits::default()).await;
        assert!(matches!(set, Err(AdministerError::Absent)), "{set:?}");
    }
}

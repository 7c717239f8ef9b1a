//! Who changed what, and when: an entry for every change that a person made, in the transaction of the change itself.
//!
//! Written by the steps that change things; read by people. An entry names the keys that changed and never a value,
//! so that no secret can stand in one. Not noted: what the system does by itself, which the states and deliveries tell.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};

use crate::instance::Listed;
use crate::ports::{Condition, Ports, Range, StoreError, Write};
use crate::table::{self, Unreadable, audit_key, organization_partition};

/// How long an entry is kept: a year, and a month to look back at it.
pub const KEPT: TimeDelta = TimeDelta::days(396);

/// Entries that one call looks through for those of an instance.
const LOOKED_THROUGH: usize = 4000;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum By {
    /// A user of the organization, through the API.
    User {
        /// Which.
        user: UserId,
    },
    /// Whoever runs the service, by `pollux admin`.
    Operator,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// An instance was made.
    #[serde(rename = "instance.created")]
    InstanceCreated,
    /// Its configuration, name, tags or login were changed.
    #[serde(rename = "instance.updated")]
    InstanceUpdated,
    /// It was removed.
    #[serde(rename = "instance.deleted")]
    InstanceDeleted,
    /// It was switched on.
    #[serde(rename = "instance.enabled")]
    InstanceEnabled,
    /// It was switched off.
    #[serde(rename = "instance.disabled")]
    InstanceDisabled,
    /// It got a new token.
    #[serde(rename = "instance.token.rotated")]
    TokenRotated,
    /// Its callbacks are signed with a new secret.
    #[serde(rename = "instance.signing-secret.rotated")]
    SigningSecretRotated,
    /// Deletions that were held are to be told.
    #[serde(rename = "instance.deletions.approved")]
    DeletionsApproved,
    /// Deletions that were held are not to be told.
    #[serde(rename = "instance.deletions.rejected")]
    DeletionsRejected,
    /// The organization was made.
    #[serde(rename = "organization.created")]
    OrganizationCreated,
    /// Its secrets work again, and its instances are polled.
    #[serde(rename = "organization.enabled")]
    OrganizationEnabled,
    /// Its secrets work no more, and its instances rest.
    #[serde(rename = "organization.disabled")]
    OrganizationDisabled,
    /// It got a new secret.
    #[serde(rename = "organization.secret.rotated")]
    OrganizationSecretRotated,
    /// Its secret works no more.
    #[serde(rename = "organization.secret.revoked")]
    OrganizationSecretRevoked,
    /// It may have more, or less.
    #[serde(rename = "organization.limits.set")]
    LimitsSet,
    /// A user was made.
    #[serde(rename = "user.created")]
    UserCreated,
    /// A user's secret works again.
    #[serde(rename = "user.enabled")]
    UserEnabled,
    /// A user's secret works no more until the user is enabled.
    #[serde(rename = "user.disabled")]
    UserDisabled,
    /// A user got a new secret.
    #[serde(rename = "user.secret.rotated")]
    UserSecretRotated,
    /// A user's secret works no more.
    #[serde(rename = "user.secret.revoked")]
    UserSecretRevoked,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// When.
    pub at: DateTime<Utc>,
    /// Who did it.
    pub by: By,
    /// What was done.
    pub action: Action,
    /// To which instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// To which user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// To which resource of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The keys of the configuration that changed; `name`, `tags` and `login` beside them. Never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

impl AuditRecord {
    /// An entry without particulars.
    pub fn new(at: DateTime<Utc>, by: By, action: Action) -> Self {
        Self { at, by, action, instance: None, user: None, resource: None, keys: Vec::new() }
    }

    /// The same, about an instance.
    pub fn of_instance(self, instance: InstanceId) -> Self {
        Self { instance: Some(instance), ..self }
    }

    /// The same, about a user.
    pub fn of_user(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The write that belongs into the transaction of the change. `subject` and `version` name the item that the change
    /// wrote and the version that it had before, 0 if it is new, so that two changes in one millisecond have two entries
    /// and a repeated one has one.
    pub fn write(&self, organization: OrganizationId, subject: &str, version: u64) -> Write {
        let key = audit_key(organization, self.at, subject, version);
        let mut write = table::put(key, 1, self, Condition::Unconditional);
        if let Write::Put { item, .. } = &mut write {
            item.expires_at = Some(self.at + KEPT);
        }
        write
    }
}

/// Why the trail cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The table refused or was busy.
    #[error("reading the audit trail")]
    Store(#[from] StoreError),
    /// A stored entry is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// An organization's entries, or those about one instance, the youngest first. A page may hold fewer than `size` and
/// still have a next one.
pub async fn list(
    ports: &Ports,
    organization: OrganizationId,
    instance: Option<InstanceId>,
    size: usize,
    after: Option<String>,
) -> Result<Listed<AuditRecord>, AuditError> {
    let (partition, now) = (organization_partition(organization), ports.now());
    let range = Range::prefix(table::AUDIT_PREFIX).descending();
    let mut listed = Listed { entries: Vec::new(), next: None };
    let (mut after, mut seen) = (after, 0);
    loop {
        let page = ports.store.query(&partition, &range, after.as_deref()).await?;
        for item in &page.items {
            seen += 1;
            let record: AuditRecord = table::read(item)?;
            let wanted = instance.is_none_or(|instance| record.instance == Some(instance));
            if wanted && item.expires_at.is_none_or(|at| at > now) {
                listed.entries.push(record);
            }
            if listed.entries.len() == size || seen == LOOKED_THROUGH {
                listed.next = Some(item.key.sk.clone());
                return Ok(listed);
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ports::Store;
    use crate::testing::TestPorts;

    const OURS: OrganizationId = OrganizationId(7);

    fn world() -> TestPorts {
        TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked"))
    }

    fn entry(test: &TestPorts) -> AuditRecord {
        AuditRecord::new(test.ports().now(), By::Operator, Action::InstanceUpdated)
    }

    async fn write(test: &TestPorts, entries: impl IntoIterator<Item = AuditRecord>) {
        let writes: Vec<Write> =
            entries.into_iter().zip(1..).map(|(entry, version)| entry.write(OURS, "subject", version)).collect();
        assert!(test.store.write_each(&writes).await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_entry_names_its_instance_and_its_user() {
        let test = world();
        let entry = entry(&test);
        let (of_instance, of_user) = (entry.clone().of_instance(InstanceId(3)), entry.clone().of_user(UserId(4)));
        assert_eq!((of_instance.instance, of_instance.user), (Some(InstanceId(3)), None));
        assert_eq!((of_user.instance, of_user.user), (None, Some(UserId(4))));
        write(&test, [entry, of_instance.clone(), of_user.clone()]).await;
        let all = list(&test.ports(), OURS, None, 10, None).await.expect("the trail");
        assert_eq!((all.entries.len(), all.next), (3, None));
        assert!(all.entries.contains(&of_user));
        let one = list(&test.ports(), OURS, Some(InstanceId(3)), 10, None).await.expect("the trail");
        assert_eq!(one.entries, [of_instance]);
    }

    #[tokio::test]
    async fn a_page_goes_on_where_the_one_before_ended() {
        let test = world();
        write(&test, (0..5).map(|_| entry(&test))).await;
        let (mut after, mut sizes) = (None, Vec::new());
        for _ in 0..3 {
            let page = list(&test.ports(), OURS, None, 2, after).await.expect("the trail");
            sizes.push(page.entries.len());
            after = page.next;
        }
        assert_eq!((sizes, after), (vec![2, 2, 1], None));
    }

    #[tokio::test]
    async fn one_call_looks_through_so_many_and_says_that_there_are_more() {
        let test = world();
        write(&test, (0..LOOKED_THROUGH + 1).map(|_| entry(&test).of_instance(InstanceId(1)))).await;
        let page = list(&test.ports(), OURS, Some(InstanceId(2)), 10, None).await.expect("the trail");
        assert!(page.entries.is_empty() && page.next.is_some());
        let rest = list(&test.ports(), OURS, Some(InstanceId(2)), 10, page.next).await.expect("the trail");
        assert_eq!((rest.entries.len(), rest.next), (0, None));
    }

    #[tokio::test]
    async fn what_is_too_old_is_not_shown_though_the_table_has_it() {
        let test = world();
        write(&test, [entry(&test)]).await;
        let count = async || list(&test.ports(), OURS, None, 10, None).await.expect("the trail").entries.len();
        test.ambient.advance((KEPT - TimeDelta::seconds(1)).to_std().expect("a year"));
        assert_eq!(count().await, 1);
        test.ambient.advance(Duration::from_secs(1));
        assert_eq!(count().await, 0);
    }
}

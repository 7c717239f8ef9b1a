//! Reading the audit trail. Entries are written by the steps that change things; see [`store::records::audit`].

use domain::id::{InstanceId, OrganizationId};
use futures::TryStreamExt;
use store::records::audit::{AuditRecord, of_organization};
use store::{Cursor, Listed, RecordError};

use crate::ports::Ports;

/// Number of entries that one call reads at most while it looks for those of an instance.
const MOST_READ: usize = 4000;

/// An organization's entries, or those about one instance, newest first. A page may hold fewer than `size` and still
/// have a next one.
///
/// # Errors
/// The store failed.
pub async fn list(
    ports: &Ports,
    organization: OrganizationId,
    instance: Option<InstanceId>,
    size: usize,
    after: Option<&Cursor<AuditRecord>>,
) -> Result<Listed<AuditRecord>, RecordError> {
    let now = ports.now();
    let mut listed = Listed { entries: Vec::new(), next: None };
    let mut read = 0;
    let mut pages = std::pin::pin!(of_organization(organization).descending().pages_after(&*ports.store, after));
    while let Some(page) = pages.try_next().await? {
        for stored in page {
            read += 1;
            let cursor = stored.cursor();
            let wanted = instance.is_none_or(|instance| stored.record.instance == Some(instance));
            if wanted && !stored.is_expired(now) {
                listed.entries.push(stored.record);
            }
            if listed.entries.len() == size || read == MOST_READ {
                listed.next = Some(cursor);
                return Ok(listed);
            }
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use domain::id::UserId;
    use store::records::audit::{Action, By, RETENTION};
    use store::{Store, Version, Write};

    use super::*;
    use crate::testing::TestPorts;

    const OURS: OrganizationId = OrganizationId(7);

    fn test_ports() -> TestPorts {
        TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked"))
    }

    fn entry(test: &TestPorts) -> AuditRecord {
        AuditRecord::new(test.ports().now(), By::Operator, Action::InstanceUpdated)
    }

    async fn write(test: &TestPorts, entries: impl IntoIterator<Item = AuditRecord>) {
        let writes: Vec<Write> = entries
            .into_iter()
            .enumerate()
            .map(|(n, entry)| entry.write(OURS, &format!("subject{n}"), Version::default()))
            .collect();
        assert!(test.store.write_each(&writes).await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_entry_names_its_instance_and_its_user() {
        let test = test_ports();
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
        let test = test_ports();
        write(&test, (0..5).map(|_| entry(&test))).await;
        let (mut after, mut sizes) = (None, Vec::new());
        for _ in 0..3 {
            let page = list(&test.ports(), OURS, None, 2, after.as_ref()).await.expect("the trail");
            sizes.push(page.entries.len());
            after = page.next;
        }
        assert_eq!((sizes, after), (vec![2, 2, 1], None));
    }

    #[tokio::test]
    async fn one_call_looks_through_so_many_and_says_that_there_are_more() {
        let test = test_ports();
        write(&test, (0..MOST_READ + 1).map(|_| entry(&test).of_instance(InstanceId(1)))).await;
        let page = list(&test.ports(), OURS, Some(InstanceId(2)), 10, None).await.expect("the trail");
        assert!(page.entries.is_empty() && page.next.is_some());
        let rest = list(&test.ports(), OURS, Some(InstanceId(2)), 10, page.next.as_ref()).await.expect("the trail");
        assert_eq!((rest.entries.len(), rest.next), (0, None));
    }

    #[tokio::test]
    async fn what_is_too_old_is_not_shown_though_the_table_has_it() {
        let test = test_ports();
        write(&test, [entry(&test)]).await;
        let count = async || list(&test.ports(), OURS, None, 10, None).await.expect("the trail").entries.len();
        test.ambient.advance((RETENTION - TimeDelta::seconds(1)).to_std().expect("a year"));
        assert_eq!(count().await, 1);
        test.ambient.advance(Duration::from_secs(1));
        assert_eq!(count().await, 0);
    }
}

//! Retry entries stand under real minutes, however fast the polling schedule runs.

use domain::id::UserId;
use domain::wheel::Wheel;

use super::*;
use crate::accounts::auth::Caller;
use crate::instances::remove;
use crate::service::Service;

#[tokio::test]
async fn a_removed_instance_releases_its_backlog_under_real_minutes() {
    let mut harness = DeliveryHarness::answering(410);
    for n in 0..3 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    harness.drain().await;
    harness.test.ambient.advance(Duration::from_secs(300));
    let service = Service { wheel: Wheel::turning(Duration::from_secs(1)), ..harness.test.service() };
    let caller = Caller { organization: instance(None).organization, user: UserId(9), instance: None };
    remove(&service, &caller, instance(None).id).await.unwrap();
    let keys = harness.test.store.items().into_iter().map(|item| item.key.pk);
    let filed: Vec<String> = keys.filter(|pk| pk.starts_with("RETRY#")).collect();
    let minute = Wheel::default().minute_of(harness.ports.now() + GRACE);
    assert_eq!(filed, [format!("RETRY#{minute}"), format!("RETRY#{minute}"), format!("RETRY#{minute}")]);
}

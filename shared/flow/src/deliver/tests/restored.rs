//! A table brought back from a point in time: whatever was under way is set aside, and nothing is left that brings it.

use super::*;
use crate::poll::state::ResourceRecord;
use crate::restore::{Restored, restore};
use crate::schedule::dispatch;
use store::codec::{insert, read};
use store::keys::resource_key;
use store::records::account::{OrganizationRecord, SecretSlot, organization_key};
use store::records::delivery::file_retry;

impl DeliveryHarness {
    /// The table knows whose the instance is, and what the dispatcher has done.
    async fn to_be_restored(status: u16) -> Self {
        let harness = Self::answering(status);
        let record = OrganizationRecord {
            id: instance(None).organization,
            name: "Shop".into(),
            created_at: now(),
            secret: SecretSlot::new(String::new()),
        };
        harness.write(&[organization_key(record.id).insert(&record)]);
        dispatch(&harness.test.service(), now()).await.expect("a dispatched minute");
        harness
    }

    /// Commits one delivery of a record of this name, whose job was lost.
    fn lost(&self, record: &str, safeguard: Safeguard) -> DeliveryJob {
        let filed = filed_with(Some(URL), &[change(record, 1, "{}")], now(), safeguard);
        let [job] = &self.carry_out(filed)[..] else { panic!("one") };
        job.clone()
    }
}

#[tokio::test]
async fn whatever_is_under_way_is_set_aside_wherever_it_is_filed() {
    let harness = DeliveryHarness::to_be_restored(200).await;
    let dispatched_until = RetryMinute::at(now());
    let highest = TimeDelta::seconds(STEPS.into_iter().max().expect("steps") * 6 / 5);
    let ahead = RetryMinute::at(now() + highest) + 1;
    // Before what was dispatched, where the dispatcher looks once more; at it; and as far ahead as the schedule reaches.
    for (n, minute) in [dispatched_until - 3, dispatched_until, dispatched_until + 1, ahead].into_iter().enumerate() {
        harness.lost(&n.to_string(), Safeguard::Entry(minute));
    }
    let named = harness.lost("handed over", Safeguard::NextPoll);
    // One that the receiver has is not under way, whatever was left of it.
    let settled = harness.lost("settled", Safeguard::NextPoll);
    deliver(&harness.ports, &harness.limits, &settled).await.expect("delivered");
    harness.write(&[file_retry(&settled, dispatched_until + 2)]);
    let handed_over = vec![named.row.clone(), settled.row.clone()];
    let state = ResourceRecord { has_baseline: true, handed_over, ..ResourceRecord::default() };
    let key = resource_key(instance(None).id, "orders");
    harness.write(&[insert(key.clone(), &state)]);

    let lost = now() + TimeDelta::hours(1);
    let restored = restore(&harness.ports, lost).await.expect("restored");
    assert_eq!(restored, Restored { instances: 1, resources: 1, deliveries: 5 });
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1), ("queued", 5)]));
    assert_eq!(harness.items_under("RETRY#"), 0);
    let state: ResourceRecord = read(&harness.test.store.get(&key).await.unwrap().unwrap()).unwrap();
    assert_eq!((state.has_baseline, state.emitted_until, state.handed_over.len()), (false, Some(lost), 0));

    let again = restore(&harness.ports, lost).await.expect("restored");
    assert_eq!(again, Restored { instances: 1, resources: 1, deliveries: 0 });
}

#[tokio::test]
async fn a_backlog_is_set_aside_one_after_another() {
    let mut harness = DeliveryHarness::to_be_restored(503).await;
    for n in 0..12 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
        harness.drain().await;
    }
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("open", 6));
    let restored = restore(&harness.ports, now()).await.expect("restored");
    assert_eq!((restored.deliveries, harness.items_under("RETRY#")), (12, 0));
    assert_eq!(harness.statuses().await, BTreeMap::from([("queued", 12)]));
    harness.answers(200);
    let so_far = harness.requests().len();
    harness.pass(TimeDelta::hours(1)).await;
    assert_eq!(harness.requests().len(), so_far, "nothing sets out by itself");
}

#[tokio::test]
async fn a_table_without_a_hand_has_no_deliveries_under_way() {
    let harness = DeliveryHarness::answering(200);
    assert_eq!(restore(&harness.ports, now()).await.expect("restored"), Restored::default());
}

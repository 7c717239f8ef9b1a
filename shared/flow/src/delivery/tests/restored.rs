//! A table brought back from a point in time: whatever was under way is set aside, and nothing is left that brings it.

use super::*;
use crate::dispatch::dispatch;
use crate::poll::state::ResourceRecord;
use crate::restore::{Restored, restore};
use crate::table::{insert, read, resource_key};
use store::records::account::{OrganizationRecord, SecretSlot, organization_key};
use store::records::delivery::file_retry;

impl World {
    /// The table knows whose the instance is, and what the dispatcher has done.
    async fn to_be_restored(status: u16) -> Self {
        let world = Self::answering(status);
        let record = OrganizationRecord {
            id: instance(None).organization,
            name: "Shop".into(),
            created_at: now(),
            secret: SecretSlot::new(String::new()),
        };
        world.write(&[organization_key(record.id).insert(&record)]);
        dispatch(&world.test.service(), now()).await.expect("a hand");
        world
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
    let world = World::to_be_restored(200).await;
    let hand = RetryMinute::at(now());
    let highest = TimeDelta::seconds(STEPS.into_iter().max().expect("rungs") * 6 / 5);
    let ahead = RetryMinute::at(now() + highest) + 1;
    // Behind the hand, where the dispatcher looks once more; under it; and as far ahead as the ladder reaches.
    for (n, minute) in [hand - 3, hand, hand + 1, ahead].into_iter().enumerate() {
        world.lost(&n.to_string(), Safeguard::Entry(minute));
    }
    let named = world.lost("handed over", Safeguard::NextPoll);
    // One that the receiver has is not under way, whatever was left of it.
    let settled = world.lost("settled", Safeguard::NextPoll);
    deliver(&world.ports, &world.limits, &settled).await.expect("delivered");
    world.write(&[file_retry(&settled, hand + 2)]);
    let handed_over = vec![named.row.clone(), settled.row.clone()];
    let state = ResourceRecord { has_baseline: true, handed_over, ..ResourceRecord::default() };
    let key = resource_key(instance(None).id, "orders");
    world.write(&[insert(key.clone(), &state)]);

    let lost = now() + TimeDelta::hours(1);
    let restored = restore(&world.ports, lost).await.expect("restored");
    assert_eq!(restored, Restored { instances: 1, resources: 1, deliveries: 5 });
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 1), ("queued", 5)]));
    assert_eq!(world.items_under("RETRY#"), 0);
    let state: ResourceRecord = read(&world.test.store.get(&key).await.unwrap().unwrap()).unwrap();
    assert_eq!((state.has_baseline, state.emitted_until, state.handed_over.len()), (false, Some(lost), 0));

    let again = restore(&world.ports, lost).await.expect("restored");
    assert_eq!(again, Restored { instances: 1, resources: 1, deliveries: 0 });
}

#[tokio::test]
async fn a_line_is_set_aside_one_after_another() {
    let mut world = World::to_be_restored(503).await;
    for n in 0..12 {
        world.commit(&[change(&n.to_string(), 1, "{}")], true);
        world.drain().await;
    }
    let view = callback_view(&world.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("open", 6));
    let restored = restore(&world.ports, now()).await.expect("restored");
    assert_eq!((restored.deliveries, world.items_under("RETRY#")), (12, 0));
    assert_eq!(world.statuses().await, BTreeMap::from([("queued", 12)]));
    world.answers(200);
    let so_far = world.requests().len();
    world.pass(TimeDelta::hours(1)).await;
    assert_eq!(world.requests().len(), so_far, "nothing sets out by itself");
}

#[tokio::test]
async fn a_table_without_a_hand_has_no_deliveries_under_way() {
    let world = World::answering(200);
    assert_eq!(restore(&world.ports, now()).await.expect("restored"), Restored::default());
}

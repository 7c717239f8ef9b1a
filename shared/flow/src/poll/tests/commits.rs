//! Tests of transactions: what one takes, and what lies between two of them.

use super::super::Outcome;
use super::*;
use crate::ports::{Message, QueueName};
use crate::testing::Fault;
use store::records::record_index::RecordIndex;

/// The number of stored entries, in all buckets.
async fn entries(world: &PollHarness) -> u64 {
    let mut index = RecordIndex::of(ID, &world.job.resource, &world.state().await);
    index.load_everything(&*world.test.store).await.expect("an index");
    let mut count = 0;
    index.each(|_, _| count += 1);
    count
}

/// The numbers of events of the notifications, fewest first.
async fn events_of_each(world: &PollHarness) -> Vec<usize> {
    let mut events: Vec<usize> = world.deliveries().await.iter().map(|row| row.events.len()).collect();
    events.sort_unstable();
    events
}

#[tokio::test]
async fn every_record_of_a_first_pass_is_remembered_however_many_buckets_they_take() {
    for (count, transactions) in [(0, 1), (30, 1), (960, 1), (984, 2), (3000, 2)] {
        let world = PollHarness::polled("ledger", "balances", json!({}), count).await;
        assert_eq!((world.state().await.entries, entries(&world).await), (count as u64, count as u64));
        // The instance and the state were put there by two more.
        assert_eq!(world.test.store.operations().transactions - 2, transactions, "{count} records");
    }
}

#[tokio::test]
async fn what_is_found_fills_notifications_of_ten_and_transactions_of_a_hundred() {
    let world = PollHarness::polled("ledger", "balances", json!({}), 480).await;
    world.pass(MINUTE * 5);
    world.test.store.forget_operations();
    world.vendor().rows.extend((0..45).map(|n| row(&format!("new{n}"), 1)));
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.created, report.notifications, report.suppressed), (45, 5, 480));
    assert_eq!(events_of_each(&world).await, [5, 10, 10, 10, 10]);
    assert_eq!(world.test.store.operations().transactions, 1, "two dozen buckets and ten rows fit");
    assert_eq!(world.test.queue.len(QueueName::Deliveries), 5);

    world.pass(MINUTE * 5);
    world.vendor().rows.extend((0..995).map(|n| row(&format!("newer{n}"), 2)));
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.created, report.notifications), (Outcome::Committed, 995, 100));
    assert_eq!((entries(&world).await, world.emitted().await.len()), (1520, 1040));
}

#[tokio::test]
async fn records_share_a_notification_up_to_half_a_megabyte() {
    let world = PollHarness::polled("ledger", "balances", json!({}), 0).await;
    world.pass(MINUTE * 5);
    let sizes = [200_000, 200_000, 200_000, 600_000, 600_000, 100];
    world.vendor().rows =
        sizes.iter().enumerate().map(|(place, size)| heavy(&format!("r{place}"), place as i64, *size)).collect();
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.notifications), (Outcome::Committed, 5));
    assert_eq!(events_of_each(&world).await, [1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn a_transaction_takes_no_more_than_the_table_does() {
    for sizes in [vec![600_000; 10], vec![2_600_000, 3_800_000, 10]] {
        let world = PollHarness::polled("ledger", "balances", json!({}), 0).await;
        world.pass(MINUTE * 5);
        world.vendor().rows =
            sizes.iter().enumerate().map(|(place, size)| heavy(&format!("r{place}"), place as i64, *size)).collect();
        // The memory's table refuses more than 4 MB, as the real one does.
        let report = world.poll(Mode::Scheduled).await;
        assert_eq!((report.outcome, report.created), (Outcome::Committed, sizes.len() as u64));
        assert_eq!(world.emitted().await.len(), sizes.len());
    }
}

/// The number of rows in the table whenever the vendor is asked for another page.
fn watch(world: &PollHarness) -> Arc<Mutex<Vec<usize>>> {
    let (store, seen) = (Arc::clone(&world.test.store), Arc::<Mutex<Vec<usize>>>::default());
    let of_vendor = Arc::clone(&seen);
    world.intercept(move |_| {
        let rows = store.items().iter().filter(|item| item.key.sk.starts_with("DLV#")).count();
        of_vendor.lock().expect("whole").push(rows);
        None
    });
    seen
}

#[tokio::test]
async fn what_a_long_listing_finds_is_committed_on_the_way() {
    // Two thousand changes, or sixteen megabytes, are as much as memory is to hold.
    for (count, size, most, wanted) in [(2050, 0, 500, vec![0, 0, 0, 0, 200]), (5, 4_200_000, 1, vec![0, 0, 0, 0, 4])] {
        let world = PollHarness::polled("ledger", "balances", json!({}), 0).await;
        world.pass(MINUTE * 5);
        let record = |n: usize| {
            let mut record = row(&format!("r{n}"), 1);
            record["text"] = json!("x".repeat(size));
            record
        };
        world.vendor().rows = (0..count).map(record).collect();
        world.vendor().most = most;
        let seen = watch(&world);
        let report = world.poll(Mode::Scheduled).await;
        assert_eq!((report.outcome, report.created), (Outcome::Committed, count as u64));
        assert_eq!(*seen.lock().expect("whole"), wanted, "{count} records of {size} bytes");
    }
}

#[tokio::test]
async fn what_was_committed_on_the_way_is_no_memory_of_what_was_listed_before() {
    // A record is changed and changed back, and the commit of the first change lies between the two.
    let world = PollHarness::new("ledger", "feed", json!({})).await;
    world.vendor().rows = vec![json!({"id": "a", "v": 1})];
    world.poll(Mode::Scheduled).await;
    world.pass(MINUTE * 5);
    {
        let mut vendor = world.vendor();
        vendor.rows.push(json!({"id": "a", "v": 2}));
        vendor.rows.extend((0..5).map(|n| json!({"id": format!("b{n}"), "v": 1})));
        vendor.rows.push(json!({"id": "a", "v": 1}));
        vendor.most = 1;
    }
    world.breaks_off_at(6);
    let report = world.poll(NOW).await;
    assert_eq!((report.outcome, report.pages), (Outcome::Failed, 7));
    assert_eq!(world.emitted().await.len(), 6, "what was read before the failure is emitted");
    let samples = world.state().await.lateness.samples();
    assert_eq!(samples, 0, "a feed has no stamps that could be late");
    world.vendor().intercept = None;
    let report = world.poll(NOW).await;
    assert_eq!((report.outcome, report.updated), (Outcome::Committed, 1), "the way back is a change, too");
}

#[tokio::test]
async fn how_late_records_come_is_kept_with_what_is_committed_on_the_way() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.extend((0..7).map(|n| row(&format!("new{n}"), 60 + n)));
    world.vendor().most = 1;
    world.breaks_off_at(7);
    assert_eq!(world.poll(NOW).await.outcome, Outcome::Failed);
    assert_eq!(world.state().await.lateness.samples(), 6);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_sends_nothing_and_loses_nothing() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.push(row("new", 60));
    world.test.store.plan_faults(|number| (number == 0).then_some(Fault::AnswerLost));
    let job = PollJob { minute: world.service.wheel.minute_of(world.now()), ..world.job.clone() };
    let until = world.now() + TimeDelta::hours(1);
    let failed = poll(&world.service, &job, Mode::Scheduled, until).await;
    assert!(failed.is_err(), "nobody knows whether it was written: {failed:?}");
    let waiting: Vec<Message> = world.test.queue.take(QueueName::Deliveries, 10);
    assert_eq!(waiting, [], "the retry entry brings it");
    assert_eq!(world.poll(NOW).await.created, 0, "it is known");
    assert_eq!(world.emitted().await, ["CREATED new #1"]);
}

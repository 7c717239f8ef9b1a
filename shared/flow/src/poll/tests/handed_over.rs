//! Tests of deliveries that a resource's state names instead of a retry entry.

use domain::configuration::NotificationFormat;
use domain::retry_minute::RetryMinute;
use store::records::delivery::Status;
use store::records::instance::CallbackRecord;

use super::super::Outcome;
use super::*;
use crate::deliver::outbox::GRACE;
use crate::ports::QueueName;

/// A resource that was polled once, whose next poll finds so many records more.
async fn with_changes(format: NotificationFormat, interval: u16, changes: usize) -> PollHarness {
    let world = PollHarness::polled("ledger", "entries", json!({"intervalMinutes": interval}), 1).await.in_the_cloud();
    let mut record = world.instance().await;
    let callback = record.callback.take().expect("a callback");
    record.callback = Some(CallbackRecord { format, ..callback });
    world.store(&record).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.extend((0..changes).map(|n| row(&format!("new{n}"), 60)));
    world
}

fn retry_entries(world: &PollHarness) -> usize {
    world.test.store.items().iter().filter(|item| item.key.pk.starts_with("RETRY#")).count()
}

#[tokio::test]
async fn a_state_names_a_few_deliveries_of_what_is_polled_often_and_the_others_have_an_entry() {
    for (format, interval, changes, named, entries) in [
        (NotificationFormat::Elements, 5, 10, 1, 0),
        (NotificationFormat::Elements, 15, 10, 1, 0),
        (NotificationFormat::Elements, 16, 10, 0, 1),
        (NotificationFormat::Elements, 5, 60, 4, 2),
        (NotificationFormat::CloudEvents, 5, 4, 4, 0),
        // A group is named as a whole or not at all.
        (NotificationFormat::CloudEvents, 5, 5, 0, 5),
    ] {
        let world = with_changes(format, interval, changes).await;
        assert_eq!(world.poll(NOW).await.outcome, Outcome::Committed);
        let found = (world.state().await.handed_over.len(), retry_entries(&world));
        assert_eq!(found, (named, entries), "{changes} changes in {format:?}, every {interval} minutes");
        assert_eq!(world.test.queue.len(QueueName::Deliveries), named + entries);
    }
    // A queue that ends with the process loses what it holds at once, not once in a lifetime.
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.pass(MINUTE * 5);
    world.vendor().rows.push(row("new", 60));
    world.poll(NOW).await;
    assert_eq!((world.state().await.handed_over.len(), retry_entries(&world)), (0, 1));
}

/// A delivery that was named, whose row then became what `change` makes of it, looked after so long after its commit.
async fn looked_after(change: impl FnOnce(&mut DeliveryRow), later: TimeDelta) -> PollHarness {
    let world = with_changes(NotificationFormat::Elements, 5, 1).await;
    world.poll(NOW).await;
    assert_eq!(world.test.queue.take(QueueName::Deliveries, 10).len(), 1);
    let stored = world.stored_deliveries().await.remove(0);
    let mut row = stored.record.clone();
    change(&mut row);
    world.write(&[stored.replace(&row)]).await;
    world.pass(later);
    // It is not outrun by its own looking after.
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::Committed);
    world
}

#[tokio::test]
async fn the_next_poll_brings_what_nobody_attempted_and_forgets_the_rest() {
    let found = |world: &PollHarness| (retry_entries(world), world.test.queue.len(QueueName::Deliveries));
    let young = looked_after(|_| {}, GRACE - TimeDelta::milliseconds(1)).await;
    assert_eq!((young.state().await.handed_over.len(), found(&young)), (1, (0, 0)), "its job may be on its way");
    let old = looked_after(|_| {}, GRACE).await;
    assert_eq!((old.state().await.handed_over.len(), found(&old)), (0, (1, 1)), "its job was lost");

    let later = GRACE * 2;
    for (what, world) in [
        (
            "has an entry",
            looked_after(|row| row.retry_minute = Some(RetryMinute::at(DateTime::UNIX_EPOCH)), later).await,
        ),
        ("waits in line", looked_after(|row| row.in_backlog = true, later).await),
        ("arrived", looked_after(|row| row.status = Status::Delivered, later).await),
    ] {
        assert_eq!((world.state().await.handed_over.len(), found(&world)), (0, (0, 0)), "{what}");
    }
}

#[tokio::test]
async fn what_is_committed_on_the_way_and_what_a_new_life_begins_with_is_looked_after_too() {
    let world = with_changes(NotificationFormat::Elements, 5, 7).await;
    world.vendor().most = 1;
    world.breaks_off_at(7);
    assert_eq!(world.poll(NOW).await.outcome, Outcome::Failed);
    assert_eq!((world.emitted().await.len(), world.state().await.handed_over.len()), (6, 1));

    world.vendor().intercept = None;
    world.poll(NOW).await;
    let before = world.state().await.handed_over;
    assert_eq!(before.len(), 2);
    world.configure(json!({"idField": "at"})).await;
    assert!(world.poll(NOW).await.baseline);
    let after = world.state().await.handed_over;
    assert!(before.iter().all(|row| after.contains(row)), "known by other ids, and still to be delivered: {after:?}");
}

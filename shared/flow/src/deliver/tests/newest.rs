//! A callback that wants only the newest: which of those that wait are needless, and which are not.

use super::*;
use crate::deliver::outbox::KEPT;

impl DeliveryHarness {
    /// The callback is down, wants only the newest, and has its probe: whoever comes joins the backlog.
    async fn with_a_backlog() -> Self {
        let mut harness = Self::answering(503);
        harness.store_instance(&wants_only_the_newest());
        for n in 0..6 {
            harness.wait_with(&[&format!("failing {n}")], 1).await;
        }
        harness
    }

    /// One that tells of these records comes and has to wait.
    async fn wait_with(&mut self, records: &[&str], revision: u32) -> DeliveryJob {
        let changes: Vec<Change> = records.iter().map(|record| change(record, revision, "{}")).collect();
        let job = self.commit(&changes, true).remove(0);
        self.drain().await;
        self.test.ambient.advance(Duration::from_millis(1));
        job
    }

    async fn status_of(&self, job: &DeliveryJob) -> Status {
        query::one(&self.ports, job.instance, &job.delivery).await.unwrap().unwrap().row.status
    }
}

#[tokio::test]
async fn one_that_tells_of_another_record_stays_until_that_has_a_newer_one_too() {
    let mut harness = DeliveryHarness::with_a_backlog().await;
    let both = harness.wait_with(&["a", "b"], 1).await;
    let newer_a = harness.wait_with(&["a"], 2).await;
    assert_eq!(harness.status_of(&both).await, Status::Waiting, "nothing newer tells of b");
    let newer_b = harness.wait_with(&["b"], 2).await;
    assert_eq!(harness.status_of(&both).await, Status::Superseded, "the two tell of both");
    for newest in [&newer_a, &newer_b] {
        assert_eq!(harness.status_of(newest).await, Status::Waiting);
    }
    let beside = harness.test.store.items().into_iter().filter(|item| {
        item.key.pk.starts_with("CALLBACK#") && (item.key.sk.starts_with("WAIT#") || item.key.sk.starts_with("NEWEST#"))
    });
    let left: Vec<TimeDelta> = beside.map(|item| item.expires_at.expect("an end") - KEPT - now()).collect();
    assert!(left.len() >= 4 && left.iter().all(|since| since.num_seconds() == 0), "{left:?}");
    harness.answers(200);
    harness.pass(TimeDelta::minutes(20)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 8), ("superseded", 1)]));
}

#[tokio::test]
async fn one_whose_job_is_late_finds_itself_superseded() {
    let mut harness = DeliveryHarness::with_a_backlog().await;
    let late = harness.commit(&[change("a", 1, "{}")], false).remove(0);
    harness.test.ambient.advance(Duration::from_millis(1));
    let newer = harness.wait_with(&["a"], 2).await;
    harness.send(std::slice::from_ref(&late));
    harness.drain().await;
    assert_eq!(harness.reports.last().map(|report| &report.outcome), Some(&Outcome::Superseded));
    assert_eq!(
        (harness.status_of(&late).await, harness.status_of(&newer).await),
        (Status::Superseded, Status::Waiting)
    );
    let view = callback_view(&harness.ports, late.organization, URL).await.unwrap();
    assert_eq!(view.waiting, 1);
}

#[tokio::test]
async fn one_that_fails_and_is_not_the_newest_is_not_tried_again() {
    let mut harness = DeliveryHarness::answering(500);
    harness.store_instance(&wants_only_the_newest());
    harness.wait_with(&["a"], 1).await;
    harness.test.ambient.advance(Duration::from_secs(10));
    // While it is sent for the second time, a newer one comes and has to wait for it.
    let newer = harness.commit(&[change("a", 2, "{}")], false).remove(0);
    harness.meanwhile(500, newer.clone(), 500);
    harness.drain().await;
    let report =
        harness.reports.iter().find(|report| report.outcome == Outcome::Superseded).expect("one is superseded");
    assert_eq!(report.attempt.as_ref().map(|attempt| attempt.number), Some(2));
    let older = harness.deliveries().await.remove(1).row;
    assert_eq!((older.status, older.attempts[1].next), (Status::Superseded, None));
    harness.answers(200);
    harness.pass(TimeDelta::minutes(20)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1), ("superseded", 1)]));
    harness.assert_at_rest();
}

/// It was switched on while they waited, each for its own time.
#[tokio::test]
async fn however_many_wait_a_move_fits_a_transaction() {
    let mut harness = DeliveryHarness::answering(500);
    for revision in 1..=70 {
        harness.wait_with(&["a"], revision).await;
    }
    assert_eq!(harness.statuses().await, BTreeMap::from([("retry", 1), ("waiting", 69)]));
    harness.store_instance(&wants_only_the_newest());
    for revision in 71..=80 {
        harness.wait_with(&["a"], revision).await;
    }
    assert!(harness.statuses().await["superseded"] > 60);
    harness.answers(200);
    // Each was to follow the one before it a minute later.
    harness.pass(TimeDelta::hours(3)).await;
    assert_eq!(harness.statuses().await.keys().copied().collect::<Vec<_>>(), ["delivered", "superseded"]);
    let newest = &harness.deliveries().await[0].row;
    assert_eq!((newest.events[0].sequence, newest.status), (80, Status::Delivered));
    harness.assert_at_rest();
}

#[tokio::test]
async fn where_only_the_newest_is_wanted_the_older_that_wait_are_superseded() {
    let mut harness = DeliveryHarness::answering(503);
    harness.store_instance(&wants_only_the_newest());
    for round in 1..=40u32 {
        // One record that changes all the time, one now and then, one beside the others, and one alone.
        harness.commit(&[change("always", round, "{}")], true);
        harness.test.ambient.advance(Duration::from_millis(3));
        if round % 10 == 1 {
            harness.commit(&[change("always", 100 + round, "{}"), change("beside", round, "{}")], true);
            harness.commit(&[change("seldom", round, "{}")], true);
        }
        harness.pass(TimeDelta::minutes(5)).await;
    }
    harness.commit(&[change("alone", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(5)).await;
    assert!(harness.requests().len() < 60, "{} requests", harness.requests().len());
    let waiting = harness.statuses().await;
    assert!(waiting["superseded"] >= 40, "{waiting:?}");

    harness.answers(200);
    let while_down = harness.requests().len();
    harness.pass(TimeDelta::minutes(40)).await;
    let statuses = harness.statuses().await;
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), ["delivered", "superseded"]);
    let arrived: Vec<(String, u64)> = harness.requests()[while_down..].iter().map(event_of).collect();
    // The one that tells of two records is whole; of all others only the newest came.
    assert!(arrived.len() <= 5, "{arrived:?}");
    for newest in [("always", 40), ("always", 131), ("seldom", 31), ("alone", 1)] {
        assert!(arrived.contains(&(newest.0.to_owned(), newest.1)), "{newest:?} of {arrived:?}");
    }
    assert_eq!(harness.items_under("RETRY#"), 0);
    let items = harness.test.store.items().into_iter().map(|item| item.key);
    let left: Vec<String> = items.filter(|key| key.pk.starts_with("CALLBACK#")).map(|key| key.sk).collect();
    assert!(left.iter().all(|sk| sk.starts_with("NEWEST#")), "{left:?}");
}

/// The backlog drains while newcomers join it and make needless what is just about to come out.
#[tokio::test]
async fn what_is_superseded_while_the_backlog_drains_is_not_sent() {
    let mut harness = DeliveryHarness::answering(503);
    harness.store_instance(&wants_only_the_newest());
    for n in 0..30 {
        harness.commit(&[change(&format!("{n:02}"), 1, "{}")], true);
        harness.test.ambient.advance(Duration::from_millis(1));
    }
    harness.drain().await;
    // Each that arrives finds the backlog one shorter, and a newcomer at its end.
    let mut jobs: Vec<DeliveryJob> = Vec::new();
    for n in 0..30 {
        jobs.extend(harness.commit(&[change(&format!("{n:02}"), 2, "{}")], false));
        harness.test.ambient.advance(Duration::from_millis(1));
    }
    harness.answers(200);
    resume(&harness.ports, instance(None).organization, URL).await.unwrap();
    for job in jobs {
        harness.send(&[job]);
        for message in harness.test.queue.take(QueueName::Deliveries, 1) {
            let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
            harness.reports.push(deliver(&harness.ports, &harness.limits, &job).await.unwrap());
        }
    }
    harness.pass(TimeDelta::minutes(30)).await;
    let found = harness.deliveries().await;
    let left = found.iter().filter(|one| !matches!(one.row.status, Status::Delivered | Status::Superseded)).count();
    let newest = found.iter().filter(|one| one.row.events[0].sequence == 2);
    assert_eq!((left, newest.filter(|one| one.row.status == Status::Delivered).count()), (0, 30));
    assert!(harness.statuses().await["superseded"] > 0);
    assert_eq!(harness.items_under("RETRY#"), 0);
}

/// Dying at every transaction: whatever is superseded has a newer one that arrived.
#[tokio::test]
async fn wherever_it_dies_the_newest_of_each_record_arrives() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for deadly in 0..60 {
            let mut harness = DeliveryHarness::answering(500);
            harness.store_instance(&wants_only_the_newest());
            // Commits are transactions, too; the plan is for those of deliveries.
            let committing = Arc::new(AtomicBool::new(false));
            let (seen, mut number) = (committing.clone(), 0);
            harness.test.store.plan_faults(move |_| {
                number += u64::from(!seen.load(Ordering::SeqCst));
                (number == deadly + 1 && !seen.load(Ordering::SeqCst)).then_some(fault)
            });
            for round in 1..=8u32 {
                committing.store(true, Ordering::SeqCst);
                for id in ["a", "b"] {
                    harness.commit(&[change(id, round, "{}")], true);
                    harness.test.ambient.advance(Duration::from_millis(7));
                }
                committing.store(false, Ordering::SeqCst);
                harness.pass(TimeDelta::minutes(3)).await;
            }
            harness.answers(200);
            harness.pass(TimeDelta::hours(3)).await;
            let found = harness.deliveries().await;
            let newest = |id: &str| {
                let of_record = found.iter().filter(|one| one.row.events[0].object_id == id);
                of_record.max_by_key(|one| one.row.events[0].sequence).map(|one| one.row.status)
            };
            let arrived = Some(Status::Delivered);
            assert_eq!((newest("a"), newest("b")), (arrived, arrived), "{fault:?} {deadly}");
            assert!(found.iter().all(|one| matches!(one.row.status, Status::Delivered | Status::Superseded)));
            assert_eq!(harness.items_under("RETRY#"), 0, "{fault:?} {deadly}");
        }
    }
}

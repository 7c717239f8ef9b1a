//! A callback that wants only the newest: which of those that wait are needless, and which are not.

use super::*;
use crate::outbox::KEPT;

impl World {
    /// The callback is down, wants only the newest, and has its probe: whoever comes joins the line.
    async fn with_a_line() -> Self {
        let mut world = Self::answering(503);
        world.store_instance(&wants_only_the_newest());
        for n in 0..6 {
            world.wait_with(&[&format!("failing {n}")], 1).await;
        }
        world
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
    let mut world = World::with_a_line().await;
    let both = world.wait_with(&["a", "b"], 1).await;
    let newer_a = world.wait_with(&["a"], 2).await;
    assert_eq!(world.status_of(&both).await, Status::Waiting, "nothing newer tells of b");
    let newer_b = world.wait_with(&["b"], 2).await;
    assert_eq!(world.status_of(&both).await, Status::Superseded, "the two tell of both");
    for newest in [&newer_a, &newer_b] {
        assert_eq!(world.status_of(newest).await, Status::Waiting);
    }
    let beside = world.test.store.items().into_iter().filter(|item| {
        item.key.pk.starts_with("CALLBACK#") && (item.key.sk.starts_with("WAIT#") || item.key.sk.starts_with("NEWEST#"))
    });
    let left: Vec<TimeDelta> = beside.map(|item| item.expires_at.expect("an end") - KEPT - now()).collect();
    assert!(left.len() >= 4 && left.iter().all(|since| since.num_seconds() == 0), "{left:?}");
    world.answers(200);
    world.pass(TimeDelta::minutes(20)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 8), ("superseded", 1)]));
}

#[tokio::test]
async fn one_whose_job_is_late_finds_itself_overtaken() {
    let mut world = World::with_a_line().await;
    let late = world.commit(&[change("a", 1, "{}")], false).remove(0);
    world.test.ambient.advance(Duration::from_millis(1));
    let newer = world.wait_with(&["a"], 2).await;
    world.send(std::slice::from_ref(&late));
    world.drain().await;
    assert_eq!(world.reports.last().map(|report| &report.outcome), Some(&Outcome::Superseded));
    assert_eq!((world.status_of(&late).await, world.status_of(&newer).await), (Status::Superseded, Status::Waiting));
    let view = callback_view(&world.ports, late.organization, URL).await.unwrap();
    assert_eq!(view.waiting, 1);
}

#[tokio::test]
async fn one_that_fails_and_is_not_the_newest_is_not_tried_again() {
    let mut world = World::answering(500);
    world.store_instance(&wants_only_the_newest());
    world.wait_with(&["a"], 1).await;
    world.test.ambient.advance(Duration::from_secs(10));
    // While it is sent for the second time, a newer one comes and has to wait for it.
    let newer = world.commit(&[change("a", 2, "{}")], false).remove(0);
    world.meanwhile(500, newer.clone(), 500);
    world.drain().await;
    let report = world.reports.iter().find(|report| report.outcome == Outcome::Superseded).expect("one is superseded");
    assert_eq!(report.attempt.as_ref().map(|attempt| attempt.number), Some(2));
    let older = world.deliveries().await.remove(1).row;
    assert_eq!((older.status, older.attempts[1].next), (Status::Superseded, None));
    world.answers(200);
    world.pass(TimeDelta::minutes(20)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 1), ("superseded", 1)]));
    world.assert_at_rest();
}

/// It was switched on while they waited, each for its own time.
#[tokio::test]
async fn however_many_wait_a_move_fits_a_transaction() {
    let mut world = World::answering(500);
    for revision in 1..=70 {
        world.wait_with(&["a"], revision).await;
    }
    assert_eq!(world.statuses().await, BTreeMap::from([("retry", 1), ("waiting", 69)]));
    world.store_instance(&wants_only_the_newest());
    for revision in 71..=80 {
        world.wait_with(&["a"], revision).await;
    }
    assert!(world.statuses().await["superseded"] > 60);
    world.answers(200);
    // Each was to follow the one before it a minute later.
    world.pass(TimeDelta::hours(3)).await;
    assert_eq!(world.statuses().await.keys().copied().collect::<Vec<_>>(), ["delivered", "superseded"]);
    let newest = &world.deliveries().await[0].row;
    assert_eq!((newest.events[0].sequence, newest.status), (80, Status::Delivered));
    world.assert_at_rest();
}

//! What happens while a request is under way: neither undoes the other.

use super::*;
use store::records::delivery::retry_entry;

use crate::testing::AnsweringHttp;

impl World {
    /// Everything answers `status`; while the first request is under way, the job is handled elsewhere, where the callback
    /// answers `elsewhere`.
    pub(super) fn meanwhile(&self, status: u16, job: DeliveryJob, elsewhere: u16) {
        let ports = Ports { http: Arc::new(AnsweringHttp::new(move |_| answer(elsewhere))), ..self.ports.clone() };
        let mut job = Some(job);
        self.behaves(move |_| {
            if let Some(job) = job.take() {
                let limits = CallbackLimits::default();
                deliver(&ports, &limits, &job).now_or_never().expect("nothing is waited for").expect("handled");
            }
            answer(status)
        });
    }

    async fn deliver(&self, job: &DeliveryJob) -> DeliveryReport {
        deliver(&self.ports, &self.limits, job).await.unwrap()
    }
}

#[tokio::test]
async fn two_that_fail_at_once_both_count() {
    for policy in [FailurePolicy::Retry, FailurePolicy::Queue] {
        let world = World::answering(500);
        let mut record = instance(Some(URL));
        record.callback.iter_mut().for_each(|callback| callback.failure_policy = policy);
        world.store_instance(&record);
        // The next poll looks after them: there is no entry to be taken off.
        let changes = [change("1", 1, "{}"), change("2", 1, "{}")];
        let filed: Vec<Outgoing> = changes
            .iter()
            .flat_map(|change| filed_with(Some(URL), std::slice::from_ref(change), now(), Safeguard::NextPoll))
            .collect();
        let jobs = world.carry_out(filed);
        world.meanwhile(500, jobs[1].clone(), 500);
        let report = world.deliver(&jobs[0]).await;
        match policy {
            FailurePolicy::Queue => assert_eq!(report.outcome, Outcome::Queued),
            _ => {
                assert!(matches!(report.outcome, Outcome::RetryAt(_)), "{report:?}");
                // Each has its entry now, and its message names it.
                for (_, message) in world.test.queue.waiting(QueueName::Deliveries) {
                    let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
                    let minute = job.retry_minute.expect("an entry");
                    let entry = retry_entry(job.instance, &job.delivery, minute);
                    assert!(entry.get(&*world.test.store).await.unwrap().is_some());
                }
            }
        }
        let view = callback_view(&world.ports, record.organization, URL).await.unwrap();
        assert_eq!(view.failures, 2, "{policy:?}");
        let made: Vec<u32> = world.deliveries().await.iter().map(|found| found.row.attempts_made).collect();
        assert_eq!(made, [1, 1], "{policy:?}");
    }
}

#[tokio::test]
async fn of_two_copies_of_a_job_the_slower_changes_nothing() {
    let mut world = World::answering(200);
    let job = world.commit(&[change("1", 1, "{}")], false).remove(0);
    world.meanwhile(500, job.clone(), 200);
    let report = world.deliver(&job).await;
    assert_eq!((&report.outcome, report.released), (&Outcome::Outrun, 0));
    let row = world.deliveries().await.remove(0).row;
    assert_eq!((row.status, row.attempts_made), (Status::Delivered, 1));
    world.pass(TimeDelta::minutes(15)).await;
    world.assert_at_rest();
}

#[tokio::test]
async fn one_that_arrives_says_nothing_of_another_that_fails_meanwhile() {
    let mut world = World::answering(200);
    let jobs = ["1", "2"].map(|id| world.commit(&[change(id, 1, "{}")], false).remove(0));
    world.meanwhile(200, jobs[1].clone(), 500);
    assert_eq!(world.deliver(&jobs[0]).await.outcome, Outcome::Delivered);
    let view = callback_view(&world.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.failures), ("failing", 1));
    world.pass(TimeDelta::minutes(15)).await;
    world.assert_at_rest();
}

/// The second copy of a job finds its delivery in line, and before it has taken the entry off that it came by, the line
/// lets the delivery out, under the same minute.
#[tokio::test]
async fn a_stale_copy_does_not_take_the_entry_of_one_that_has_just_left_the_line() {
    let mut world = World::answering(410);
    let job = world.commit(&[change("1", 1, "{}")], true).remove(0);
    world.drain().await;
    assert_eq!((world.statuses().await, world.items_under("RETRY#")), (BTreeMap::from([("queued", 1)]), 0));
    world.answers(200);
    let ports = world.ports.clone();
    world.test.store.interrupt(move || {
        let resumed = resume(&ports, instance(None).organization, URL).now_or_never();
        assert_eq!(resumed.expect("nothing is waited for").expect("resumed"), 1);
    });
    let report = world.deliver(&job).await;
    assert_eq!(report.attempt, None, "{report:?}");
    assert_eq!(world.items_under("RETRY#"), 1);
    // So that it arrives though its message is lost.
    assert_eq!(world.test.queue.take(QueueName::Deliveries, 10).len(), 1);
    world.pass(TimeDelta::minutes(15)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 1)]));
    world.assert_at_rest();
}

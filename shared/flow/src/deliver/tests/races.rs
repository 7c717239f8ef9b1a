//! What happens while a request is under way: neither undoes the other.

use super::*;
use store::records::delivery::retry_entry;

use crate::testing::AnsweringHttp;

impl DeliveryHarness {
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
        let harness = DeliveryHarness::answering(500);
        let mut record = instance(Some(URL));
        record.callback.iter_mut().for_each(|callback| callback.failure_policy = policy);
        harness.store_instance(&record);
        // The next poll looks after them: there is no entry to be taken off.
        let changes = [change("1", 1, "{}"), change("2", 1, "{}")];
        let filed: Vec<Outgoing> = changes
            .iter()
            .flat_map(|change| filed_with(Some(URL), std::slice::from_ref(change), now(), Safeguard::NextPoll))
            .collect();
        let jobs = harness.carry_out(filed);
        harness.meanwhile(500, jobs[1].clone(), 500);
        let report = harness.deliver(&jobs[0]).await;
        match policy {
            FailurePolicy::Queue => assert_eq!(report.outcome, Outcome::Queued),
            _ => {
                assert!(matches!(report.outcome, Outcome::RetryAt(_)), "{report:?}");
                // Each has its entry now, and its message names it.
                for (_, message) in harness.test.queue.waiting(QueueName::Deliveries) {
                    let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
                    let minute = job.retry_minute.expect("an entry");
                    let entry = retry_entry(job.instance, &job.delivery, minute);
                    assert!(entry.get(&*harness.test.store).await.unwrap().is_some());
                }
            }
        }
        let view = callback_view(&harness.ports, record.organization, URL).await.unwrap();
        assert_eq!(view.failures, 2, "{policy:?}");
        let made: Vec<u32> = harness.deliveries().await.iter().map(|found| found.row.attempts_made).collect();
        assert_eq!(made, [1, 1], "{policy:?}");
    }
}

#[tokio::test]
async fn of_two_copies_of_a_job_the_slower_changes_nothing() {
    let mut harness = DeliveryHarness::answering(200);
    let job = harness.commit(&[change("1", 1, "{}")], false).remove(0);
    harness.meanwhile(500, job.clone(), 200);
    let report = harness.deliver(&job).await;
    assert_eq!((&report.outcome, report.released), (&Outcome::Outrun, 0));
    let row = harness.deliveries().await.remove(0).row;
    assert_eq!((row.status, row.attempts_made), (Status::Delivered, 1));
    harness.pass(TimeDelta::minutes(15)).await;
    harness.assert_at_rest();
}

#[tokio::test]
async fn one_that_arrives_says_nothing_of_another_that_fails_meanwhile() {
    let mut harness = DeliveryHarness::answering(200);
    let jobs = ["1", "2"].map(|id| harness.commit(&[change(id, 1, "{}")], false).remove(0));
    harness.meanwhile(200, jobs[1].clone(), 500);
    assert_eq!(harness.deliver(&jobs[0]).await.outcome, Outcome::Delivered);
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.failures), ("failing", 1));
    harness.pass(TimeDelta::minutes(15)).await;
    harness.assert_at_rest();
}

/// The second copy of a job finds its delivery in the backlog, and before it has taken the entry off that it came by, the backlog
/// lets the delivery out, under the same minute.
#[tokio::test]
async fn a_stale_copy_does_not_take_the_entry_of_one_that_has_just_left_the_line() {
    let mut harness = DeliveryHarness::answering(410);
    let job = harness.commit(&[change("1", 1, "{}")], true).remove(0);
    harness.drain().await;
    assert_eq!((harness.statuses().await, harness.items_under("RETRY#")), (BTreeMap::from([("queued", 1)]), 0));
    harness.answers(200);
    let ports = harness.ports.clone();
    harness.test.store.interrupt(move || {
        let resumed = resume(&ports, instance(None).organization, URL).now_or_never();
        assert_eq!(resumed.expect("nothing is waited for").expect("resumed"), 1);
    });
    let report = harness.deliver(&job).await;
    assert_eq!(report.attempt, None, "{report:?}");
    assert_eq!(harness.items_under("RETRY#"), 1);
    // So that it arrives though its message is lost.
    assert_eq!(harness.test.queue.take(QueueName::Deliveries, 10).len(), 1);
    harness.pass(TimeDelta::minutes(15)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1)]));
    harness.assert_at_rest();
}

//! What an attempt says of itself, and what one that is not made leaves to the others of its callback.

use domain::id::InstanceId;

use super::*;
use crate::deliver::Since;
use crate::deliver::outbox::KEPT;
use crate::ports::Audience;
use crate::trace;
use store::port::Item;

impl DeliveryHarness {
    /// Handles the next message that is due, whoever's it is.
    async fn one(&mut self) -> Option<DeliveryJob> {
        let message = self.test.queue.take(QueueName::Deliveries, 1).pop()?;
        let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
        self.reports.push(deliver(&self.ports, &self.limits, &job).await.unwrap());
        Some(job)
    }

    fn last(&self) -> &DeliveryReport {
        self.reports.last().unwrap()
    }

    /// Five fail, so that the next that comes is the probe, and those after it stand in the backlog.
    async fn opens(&mut self) {
        for n in 0..5 {
            self.commit(&[change(&format!("failing {n}"), 1, "{}")], true);
        }
        self.drain().await;
    }

    fn items_with(&self, sk: &str) -> Vec<Item> {
        self.test.store.items().into_iter().filter(|item| item.key.sk.starts_with(sk)).collect()
    }
}

#[tokio::test]
async fn an_attempt_is_measured_from_when_it_was_due() {
    let mut harness = DeliveryHarness::answering(503);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.test.ambient.advance(Duration::from_secs(7));
    harness.drain().await;
    let first = harness.last().clone();
    let Outcome::RetryAt(again) = first.outcome else { panic!("{first:?}") };
    assert_eq!(first.since, Some(Since { committed: now(), due: Some(now()) }));
    // On its schedule, by the message and by its entry.
    harness.pass(TimeDelta::hours(20)).await;
    let attempts: Vec<&DeliveryReport> = harness.reports.iter().filter(|report| report.attempt.is_some()).collect();
    assert_eq!(attempts[1].since, Some(Since { committed: now(), due: Some(again) }));
    for pair in attempts.windows(2) {
        let due = pair[1].since.and_then(|since| since.due);
        assert_eq!(due, pair[0].attempt.as_ref().unwrap().next);
        let late = pair[1].attempt.as_ref().unwrap().at - due.unwrap();
        assert!((0..=60).contains(&late.num_seconds()), "{late}");
    }
    // Moved up, for the callback is back.
    harness.answers(200);
    harness.commit(&[change("2", 1, "{}")], true);
    let committed = harness.ports.now();
    harness.pass(TimeDelta::minutes(20)).await;
    let [second, first] = &harness.reports[harness.reports.len() - 2..] else { panic!("two") };
    assert_eq!((&second.outcome, &first.outcome), (&Outcome::Delivered, &Outcome::Delivered));
    assert_eq!(second.since, Some(Since { committed, due: Some(committed) }));
    assert_eq!(first.since, Some(Since { committed: now(), due: None }));
}

#[tokio::test]
async fn what_waited_in_backlog_was_not_due() {
    let mut harness = DeliveryHarness::answering(410);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.drain().await;
    assert_eq!(harness.last().outcome, Outcome::Queued);
    harness.answers(200);
    harness.test.ambient.advance(Duration::from_secs(3600));
    resume(&harness.ports, instance(None).organization, URL).await.unwrap();
    harness.drain().await;
    assert_eq!(harness.last().outcome, Outcome::Delivered);
    assert_eq!(harness.last().since, Some(Since { committed: now(), due: None }));
}

#[tokio::test]
async fn every_attempt_names_itself_to_those_who_trace() {
    let mut harness = DeliveryHarness::answering(500);
    let job = harness.commit(&[change("1", 1, "{}")], true).remove(0);
    harness.pass(TimeDelta::minutes(10)).await;
    let row = harness.deliveries().await.remove(0).row;
    assert_eq!(row.trace, trace::of_poll(row.instance, "orders", now()));
    let parents: Vec<String> =
        row.attempts.iter().map(|attempt| trace::traceparent(&row.trace, &job.delivery.0, attempt.number)).collect();
    assert!(parents.len() > 1);
    let requests = harness.requests();
    assert_eq!(requests.iter().map(|request| header(request, "traceparent")).collect::<Vec<_>>(), parents);

    // A row of an earlier release is of no trace.
    let [found] = &harness.items_with("DLV#")[..] else { panic!("one") };
    let untraced = super::super::row::DeliveryRow { trace: String::new(), ..row };
    harness.write(&[store::codec::replace(found.key.clone(), found.version, &untraced)]);
    harness.pass(TimeDelta::hours(1)).await;
    assert!(harness.requests().len() > requests.len());
    assert!(!harness.requests()[requests.len()].headers().contains_key("traceparent"));
}

#[tokio::test]
async fn an_attempt_without_an_answer_took_its_deadline_or_until_it_broke_off() {
    let mut harness = DeliveryHarness::answering(200);
    let clock = harness.test.ambient.clone();
    harness.behaves(move |request| {
        clock.advance(Duration::from_millis(40));
        Err(match objects(request)[0].as_str() {
            "hangs" => HttpError::Deadline(Duration::from_secs(15)),
            _ => HttpError::Broken("reset".into()),
        })
    });
    harness.commit(&[change("hangs", 1, "{}")], true);
    harness.drain().await;
    harness.commit(&[change("breaks", 1, "{}")], true);
    harness.drain().await;
    let took: Vec<u64> =
        harness.reports.iter().filter_map(|report| Some(report.attempt.as_ref()?.duration_ms)).collect();
    assert_eq!(took, [15_000, 40]);
    let (_, bounds) = harness.test.http.requests().remove(0);
    assert_eq!((bounds.audience, bounds.deadline), (Audience::Callback, harness.limits.deadline()));
}

#[tokio::test]
async fn where_no_place_is_free_the_job_is_put_back_for_some_seconds() {
    let mut harness = DeliveryHarness::answering(200);
    harness.limits = CallbackLimits::new(1, Duration::from_millis(15));
    let held = harness.limits.enter(&*harness.test.ambient, URL).await.expect("a place");
    for n in 0..20 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
        assert!(harness.one().await.is_some());
        assert_eq!((&harness.last().outcome, &harness.last().attempt), (&Outcome::PutBack, &None));
    }
    let back: Vec<i64> =
        harness.test.queue.waiting(QueueName::Deliveries).iter().map(|(due, _)| (*due - now()).num_seconds()).collect();
    assert!(back.len() == 20 && back.iter().all(|seconds| (5..15).contains(seconds)), "{back:?}");
    assert!(back.iter().any(|seconds| seconds != &back[0]), "they come back one by one: {back:?}");
    drop(held);
    harness.pass(TimeDelta::minutes(15)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 20)]));
    harness.assert_at_rest();
}

/// A failed one holds up the newer of its record only for as long as it is on its way itself.
#[tokio::test]
async fn what_stands_down_holds_nobody_up() {
    let mut harness = DeliveryHarness::answering(500);
    harness.commit(&[change("x", 1, "{}")], true);
    harness.drain().await;
    harness.store_instance(&InstanceRecord { disabled: true, ..instance(Some(URL)) });
    harness.pass(TimeDelta::minutes(1)).await;
    assert_eq!(harness.last().outcome, Outcome::Queued);
    harness.store_instance(&instance(Some(URL)));
    harness.answers(200);
    harness.commit(&[change("x", 2, "{}")], true);
    harness.drain().await;
    assert_eq!(harness.last().outcome, Outcome::Delivered);
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1), ("queued", 1)]));
}

#[tokio::test]
async fn the_line_goes_on_without_a_probe_whose_instance_is_gone() {
    let mut harness = DeliveryHarness::answering(503);
    harness.opens().await;
    harness.commit(&[change("probe", 1, "{}")], true);
    harness.drain().await;
    // Another instance with the same callback.
    let other = InstanceRecord { id: InstanceId(43), ..instance(Some(URL)) };
    harness.store_instance(&other);
    let entry = Safeguard::entry(now());
    for n in 0..3 {
        let changes = [change(&format!("other {n}"), 1, "{}")];
        harness.test.ambient.advance(Duration::from_millis(1));
        let at = harness.ports.now();
        let (resource, object_type) = ("orders", "orders");
        let outbox = Outbox {
            instance: &other,
            element: LABEL,
            resource,
            object_type,
            poll_date: at,
            now: at,
            safeguard: entry,
        };
        let filed = outbox.file(&changes);
        harness.send(&harness.carry_out(filed));
    }
    harness.drain().await;
    let view = callback_view(&harness.ports, other.organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("open", 3));
    harness.write(&[Write::Delete { key: instance_key(instance(None).id), condition: Condition::Present }]);
    harness.answers(200);
    let so_far = harness.requests().len();
    harness.pass(TimeDelta::hours(1)).await;
    let arrived: Vec<String> = harness.received().split_off(so_far).concat();
    assert_eq!(arrived, ["other 0", "other 1", "other 2"]);
    let drew: usize =
        harness.reports.iter().filter(|report| report.outcome == Outcome::Gone).map(|report| report.released).sum();
    assert_eq!(drew, 1);
    harness.assert_at_rest();
}

/// The head of the backlog waits for one that is under way, and there is room for others.
#[tokio::test]
async fn a_newcomer_passes_those_in_backlog_that_must_wait_for_another() {
    let mut harness = DeliveryHarness::answering(503);
    harness.opens().await;
    harness.commit(&[change("probe", 1, "{}")], true);
    let first = harness.commit(&[change("x", 1, "{}")], true).remove(0);
    harness.test.ambient.advance(Duration::from_millis(1));
    harness.commit(&[change("x", 2, "{}")], true);
    harness.drain().await;
    harness.answers(200);
    harness.test.ambient.advance(Duration::from_secs(60));
    let mut held = Vec::new();
    for _ in 0..100 {
        for message in harness.test.queue.take(QueueName::Deliveries, 100) {
            let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
            match job.delivery == first.delivery {
                true => held.push(job),
                false => harness.reports.push(deliver(&harness.ports, &harness.limits, &job).await.unwrap()),
            }
        }
    }
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 6), ("waiting", 2)]));
    harness.commit(&[change("y", 1, "{}")], true);
    harness.one().await;
    assert_eq!((&harness.last().outcome, harness.last().released), (&Outcome::Waiting, 1));
    harness.one().await;
    assert_eq!(harness.last().outcome, Outcome::Delivered);
    harness.send(&held);
    harness.pass(TimeDelta::minutes(15)).await;
    assert_eq!(harness.received()[harness.requests().len() - 3..], [["y"], ["x"], ["x"]]);
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_probe_that_arrives_draws_the_backlog_in_the_same_transaction() {
    let mut harness = DeliveryHarness::answering(503);
    harness.opens().await;
    for n in 0..3 {
        harness.commit(&[change(&format!("in the backlog {n}"), 1, "{}")], true);
        harness.drain().await;
    }
    let in_backlog = harness.items_with("WAIT#");
    assert_eq!(in_backlog.len(), 2);
    assert!(in_backlog.iter().all(|item| item.expires_at == Some(now() + KEPT)), "{in_backlog:?}");
    // None of the five that failed is due at the same instant as the probe.
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    harness.answers(200);
    harness.pass(view.next_probe.unwrap() - harness.ports.now() - TimeDelta::seconds(1)).await;
    harness.test.ambient.advance(Duration::from_secs(2));
    harness.test.store.forget_operations();
    harness.one().await;
    assert_eq!((&harness.last().outcome, harness.last().released), (&Outcome::Delivered, 4));
    // One says that it is being sent, the other what came of it and who follows.
    assert_eq!(harness.test.store.operations().transactions, 2);
}

#[tokio::test]
async fn a_backlog_whose_entries_have_expired_is_none() {
    let mut harness = DeliveryHarness::answering(410);
    for n in 0..3 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    harness.drain().await;
    let gone = harness.items_with("WAIT#").into_iter().chain(harness.items_with("DLV#"));
    let gone: Vec<Write> = gone.map(|item| Write::Delete { key: item.key, condition: Condition::Present }).collect();
    harness.write(&gone);
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("disabled", 3));
    harness.answers(200);
    resume(&harness.ports, instance(None).organization, URL).await.unwrap();
    harness.commit(&[change("new", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(15)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1)]));
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_delivery_in_backlog_is_called_as_its_own_callback_stands() {
    let other = "https://b.example/hook";
    let mut harness = DeliveryHarness::answering(410);
    harness.commit(&[change("disabled", 1, "{}")], true);
    harness.drain().await;
    harness.answers(503);
    harness.store_instance(&instance(Some(other)));
    for n in 0..7 {
        let filed = filed(Some(other), &[change(&n.to_string(), 1, "{}")], harness.ports.now());
        harness.send(&harness.carry_out(filed));
        harness.drain().await;
    }
    let in_backlog: Vec<(String, Status)> = harness
        .deliveries()
        .await
        .into_iter()
        .filter(|found| found.row.in_backlog)
        .map(|found| (found.row.events[0].object_id.clone(), found.row.status))
        .collect();
    assert_eq!(in_backlog.len(), 2, "{in_backlog:?}");
    for (record, status) in in_backlog {
        assert_eq!(status, if record == "disabled" { Status::Queued } else { Status::Waiting }, "{record}");
    }
}

/// Only the state of a callback is read and written for one that follows another on its own time.
#[tokio::test]
async fn without_a_backlog_none_is_looked_for() {
    let mut harness = DeliveryHarness::answering(500);
    harness.commit(&[change("x", 1, "{}")], true);
    harness.test.ambient.advance(Duration::from_millis(1));
    harness.drain().await;
    harness.commit(&[change("x", 2, "{}")], true);
    harness.drain().await;
    harness.answers(200);
    harness.test.ambient.advance(Duration::from_secs(10));
    harness.test.store.forget_operations();
    harness.drain().await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 2)]));
    assert_eq!(harness.test.store.operations().queries, 1, "the list of the backlog before this");
}

//! A callback that fails: its backlog, its order, and how it drains.

use super::*;

#[tokio::test]
async fn a_dead_callback_costs_a_few_requests_and_then_drains_in_order() {
    let mut harness = DeliveryHarness::answering(503);
    let total = 200u32;
    for n in 0..total {
        harness.commit(&[change(&format!("{n:03}"), 1, "{}")], true);
        harness.test.ambient.advance(Duration::from_millis(50));
    }
    harness.pass(TimeDelta::hours(1)).await;
    let while_down = harness.requests().len();
    assert!(while_down < 40, "{while_down} requests in an hour");
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!(view.status, "open");

    harness.answers(200);
    harness.pass(TimeDelta::minutes(20)).await;
    let arrived = &harness.received()[while_down..];
    let from_line: Vec<&String> = arrived.iter().flatten().collect();
    assert!(from_line.len() > 180, "{} came out of the backlog", from_line.len());
    let first = from_line.iter().position(|id| *id > from_line[0]).unwrap_or(0);
    let in_order = from_line[first..].windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(in_order > 170, "{in_order} in order");
    // Those that had climbed the schedule before it opened come on their own steps.
    harness.pass(TimeDelta::hours(6)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", total as usize)]));
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_newer_event_of_a_record_does_not_overtake_one_that_failed() {
    let mut harness = DeliveryHarness::answering(200);
    let mut first = true;
    harness.behaves(move |_| answer(if std::mem::take(&mut first) { 500 } else { 200 }));
    harness.commit(&[change("x", 1, "{}")], true);
    harness.drain().await;
    harness.test.ambient.advance(Duration::from_secs(1));
    harness.commit(&[change("x", 2, "{}")], true);
    harness.commit(&[change("y", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(5)).await;
    let sequences: Vec<(String, u64)> = harness.requests().iter().map(event_of).collect();
    assert_eq!(sequences, [("x".into(), 1), ("y".into(), 1), ("x".into(), 1), ("x".into(), 2)]);
    harness.pass(TimeDelta::minutes(15)).await;
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_poisonous_delivery_does_not_hold_up_the_others() {
    let mut harness = DeliveryHarness::answering(200);
    harness.behaves(|request| answer(if objects(request) == ["poison"] { 500 } else { 200 }));
    harness.commit(&[change("poison", 1, "{}")], true);
    for n in 0..30 {
        harness.pass(TimeDelta::hours(3)).await;
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
        harness.pass(TimeDelta::minutes(20)).await;
        assert_eq!(harness.statuses().await.get("delivered"), Some(&(n + 1)));
    }
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 30), ("queued", 1)]));
    harness.assert_at_rest();
}

#[tokio::test]
async fn what_had_climbed_high_is_sent_soon_after_the_callback_is_back() {
    let mut harness = DeliveryHarness::answering(503);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.pass(TimeDelta::hours(20)).await;
    // Its own schedule would have it wait for hours.
    let due = harness.deliveries().await[0].row.due;
    assert!(due.is_some_and(|due| due > harness.ports.now() + TimeDelta::hours(5)), "{due:?}");
    harness.answers(200);
    harness.commit(&[change("2", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(20)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 2)]));
    harness.pass(TimeDelta::hours(24)).await;
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_record_that_changed_a_hundred_times_meanwhile_is_told_in_its_order() {
    let mut harness = DeliveryHarness::answering(503);
    for n in 0..5 {
        harness.commit(&[change(&format!("other {n}"), 1, "{}")], true);
    }
    harness.drain().await;
    for revision in 1..=100 {
        harness.commit(&[change("hot", revision, "{}")], true);
        harness.test.ambient.advance(Duration::from_millis(7));
    }
    harness.pass(TimeDelta::hours(2)).await;
    let while_down = harness.requests().len();
    harness.answers(200);
    harness.pass(TimeDelta::minutes(30)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 105)]));
    let mut arrived: Vec<(String, u64)> = harness.requests()[while_down..].iter().map(event_of).collect();
    arrived.retain(|(id, _)| id == "hot");
    let sequences: Vec<u64> = arrived.into_iter().map(|(_, sequence)| sequence).collect();
    assert_eq!(sequences, (1..=100).collect::<Vec<_>>());
    harness.assert_at_rest();
}

#[tokio::test]
async fn gone_disables_until_resumed() {
    let mut harness = DeliveryHarness::answering(410);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.drain().await;
    harness.test.ambient.advance(Duration::from_secs(1));
    harness.commit(&[change("2", 1, "{}")], true);
    harness.pass(TimeDelta::hours(48)).await;
    assert_eq!(harness.requests().len(), 1);
    assert_eq!(harness.statuses().await, BTreeMap::from([("queued", 2)]));
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("disabled", 2));
    harness.answers(200);
    assert_eq!(resume(&harness.ports, instance(None).organization, URL).await.unwrap(), 2);
    harness.pass(TimeDelta::minutes(20)).await;
    assert_eq!(harness.received(), [["1"], ["1"], ["2"]]);
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_new_address_takes_over_the_backlog_of_the_old() {
    let mut harness = DeliveryHarness::answering(410);
    for n in 0..20 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    harness.drain().await;
    harness.answers(200);
    harness.test.ambient.advance(Duration::from_secs(300));
    let other = "https://b.example/hook";
    harness.store_instance(&instance(Some(other)));
    assert_eq!(release_backlog(&harness.ports, instance(None).organization, URL).await.unwrap(), 20);
    // Four a second, each with its entry among the retries.
    let sent = harness.test.queue.waiting(QueueName::Deliveries);
    let (start, minute) = (harness.ports.now(), RetryMinute::at(harness.ports.now() + GRACE));
    let seconds: Vec<i64> = sent.iter().map(|(due, _)| (*due - start).num_seconds()).collect();
    assert_eq!(seconds, (0..20_i64).map(|n| (n * 250 + 999) / 1000).collect::<Vec<_>>());
    for (_, message) in &sent {
        let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
        assert_eq!(job.retry_minute, Some(minute));
    }
    harness.pass(TimeDelta::minutes(20)).await;
    let to_other = harness.requests().iter().filter(|request| request.uri() == other).count();
    assert_eq!(to_other, 20);
    harness.assert_at_rest();
}

/// At every single transaction of a story with failures, a backlog and a drain, the process dies once: before the
/// write and after it. What arrives is the same set, each record's events in their order.
#[tokio::test]
async fn wherever_it_dies_every_event_arrives_and_none_overtakes_within_its_record() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for deadly in 0..60 {
            let mut harness = DeliveryHarness::answering(500);
            for round in 1..=4u32 {
                for id in ["a", "b"] {
                    harness.commit(&[change(id, round, "{}")], true);
                    harness.test.ambient.advance(Duration::from_millis(7));
                }
            }
            harness.test.store.plan_faults(move |number| (number == deadly).then_some(fault));
            harness.pass(TimeDelta::minutes(4)).await;
            let while_down = harness.requests().len();
            harness.answers(200);
            harness.pass(TimeDelta::hours(3)).await;
            assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 8)]), "{fault:?} {deadly}");
            let mut arrived = BTreeMap::<String, Vec<u64>>::new();
            for (id, sequence) in harness.requests()[while_down..].iter().map(event_of) {
                let of_record = arrived.entry(id).or_default();
                // A repetition is no news.
                if !of_record.contains(&sequence) {
                    of_record.push(sequence);
                }
            }
            for (id, sequences) in arrived {
                assert_eq!(sequences, [1, 2, 3, 4], "{fault:?} {deadly} {id}");
            }
            harness.assert_at_rest();
        }
    }
}

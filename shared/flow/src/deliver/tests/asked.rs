//! What people ask of deliveries: lists, sending again, a test event.

use super::*;

#[tokio::test]
async fn a_settled_delivery_is_sent_again_when_asked_under_its_old_name() {
    let mut harness = DeliveryHarness::answering(200);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(1)).await;
    let found = harness.deliveries().await;
    assert_eq!(redeliver::redeliver(&harness.ports, &found).await.unwrap(), 1);
    harness.drain().await;
    let requests = harness.requests();
    assert_eq!(delivery_of(&requests[0]), delivery_of(&requests[1]));
    assert_eq!(requests[0].body(), requests[1].body());
    assert_ne!(header(&requests[0], "webhook-timestamp"), header(&requests[1], "webhook-timestamp"));
    assert_eq!(harness.deliveries().await[0].row.attempts_made, 2);
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_test_event_takes_the_same_way() {
    let mut harness = DeliveryHarness::answering(200);
    let sent = redeliver::send_test(&harness.ports, &instance(Some(URL)), LABEL).await.unwrap();
    harness.drain().await;
    assert_eq!(sent.map(|id| id.0), Some(delivery_of(&harness.requests()[0])));
    assert_eq!(redeliver::send_test(&harness.ports, &instance(None), LABEL).await.unwrap(), None);
}

#[tokio::test]
async fn deliveries_are_listed_by_status_time_and_page() {
    let mut harness = DeliveryHarness::answering(200);
    for n in 0..5 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], n != 4);
        harness.test.ambient.advance(Duration::from_secs(60));
    }
    harness.drain().await;
    let id = instance(None).id;
    let count = async |filter: Filter| {
        query::of_instance(&harness.ports, id, &filter, 100, None).await.unwrap().deliveries.len()
    };
    assert_eq!(count(Filter { statuses: vec![Status::Created], ..Filter::default() }).await, 1);
    assert_eq!(count(Filter { url: Some("https://other/".into()), ..Filter::default() }).await, 0);
    let span = now() + TimeDelta::seconds(60)..now() + TimeDelta::seconds(180);
    assert_eq!(count(Filter { committed: Some(span), ..Filter::default() }).await, 2);
    let first = query::of_instance(&harness.ports, id, &Filter::default(), 2, None).await.unwrap();
    let rest = query::of_instance(&harness.ports, id, &Filter::default(), 9, first.next.as_ref()).await.unwrap();
    let objects: Vec<&str> =
        first.deliveries.iter().chain(&rest.deliveries).map(|found| found.row.events[0].object_id.as_str()).collect();
    assert_eq!(objects, ["4", "3", "2", "1", "0"]);

    // The same of all instances, page by page: the last says that it is.
    let organization = instance(None).organization;
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = query::of_organization(&harness.ports, organization, &Filter::default(), None, 2, after.as_ref())
            .await
            .unwrap();
        pages.push(page.deliveries.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
}

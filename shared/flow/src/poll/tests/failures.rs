//! Tests of failures of the vendor: what is said and kept of them.

use store::records::tokens;

use super::super::Outcome;
use super::*;
use crate::ports::{Bounds, QueueName};

/// A pass over six pages, of which an invocation has time for two.
async fn suspended(element: &str, resource: &str) -> PollHarness {
    let world = PollHarness::polled(element, resource, json!({}), 0).await;
    world.pass(MINUTE * 20);
    {
        let mut vendor = world.vendor();
        vendor.rows = (0..6).map(|n| row(&format!("r{n}"), 900 + n)).collect();
        vendor.most = 1;
    }
    world.slow(MINUTE);
    let report = world.poll_until(Mode::Scheduled, world.now() + MINUTE * 2).await;
    assert_eq!((report.outcome, report.created), (Outcome::Suspended, 2));
    world.vendor().intercept = None;
    world
}

#[tokio::test]
async fn what_cannot_be_polled_as_it_is_configured_says_why() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.pass(MINUTE * 5);
    let damaged = InstanceRecord { element: "abacus".into(), ..world.instance().await };
    world.store(&damaged).await;
    let report = world.poll(Mode::Scheduled).await;
    let message = "the element \"abacus\" is not installed";
    assert_eq!((report.outcome, report.failure.as_deref()), (Outcome::Failed, Some(message)));
    assert_eq!(world.state().await.trouble.expect("it is remembered").message, message);
}

#[tokio::test]
async fn a_passing_trouble_keeps_the_place_in_a_listing_and_a_lasting_one_does_not() {
    for (status, keeps) in [(503, true), (401, true), (429, true), (400, false)] {
        let world = suspended("ledger", "entries").await;
        world.refuses(status);
        let report = world.poll(NOW).await;
        let message = report.failure.unwrap_or_default();
        assert!(message.contains(&format!("said with {status}")), "{message}");
        assert_eq!(world.state().await.resume.is_some(), keeps, "after {status}");
        assert_eq!(world.state().await.trouble.map(|trouble| trouble.message), Some(message));
    }
    let world = suspended("ledger", "entries").await;
    world.intercept(|_| Some(Err(HttpError::Connect("no such host".into()))));
    let report = world.poll(NOW).await;
    let message = "the vendor could not be reached: could not connect: no such host";
    assert_eq!(report.failure.as_deref(), Some(message));
    assert!(world.state().await.resume.is_some(), "the way to the vendor may be open again");
}

#[tokio::test]
async fn a_login_counts_as_lost_after_the_third_refusal_in_a_row() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    world.refuses(401);
    for refusal in 1..=3 {
        assert_eq!(world.reconnect().await, None, "before refusal {refusal}");
        world.poll(NOW).await;
    }
    let reason = "the vendor refused the credentials: 401 said with 401";
    assert_eq!(world.reconnect().await.as_deref(), Some(reason));
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::NeedsLogin);
}

#[tokio::test]
async fn a_login_that_is_not_renewed_now_is_tried_later_and_one_that_is_over_is_said_to_be() {
    let refused = |status: u16, error: &'static str| {
        move |request: &Request<Bytes>| {
            let mut refusal = answer(status, &json!({"error": error, "message": error}));
            refusal.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1000"));
            match request.uri().path() {
                "/token" => Some(Ok(refusal)),
                _ => Some(Ok(answer(401, &json!({"message": "who are you"})))),
            }
        }
    };
    let world = suspended("metered", "readings").await;
    world.intercept(refused(503, "closed"));
    let report = world.poll(NOW).await;
    let message = report.failure.unwrap_or_default();
    assert!(message.contains("closed"), "{message}");
    let pause = report.skip_until.expect("a pause") - world.now();
    assert_eq!(pause.num_seconds(), 1000, "as long as the vendor wants");
    assert!(world.state().await.resume.is_some(), "it goes on where it was");
    assert_eq!(world.reconnect().await, None);

    let world = suspended("metered", "readings").await;
    world.intercept(refused(400, "invalid_client"));
    let message = world.poll(NOW).await.failure.unwrap_or_default();
    assert!(message.contains("invalid_client"), "{message}");
    assert_eq!(world.reconnect().await, Some(message));
}

#[tokio::test]
async fn our_own_budget_is_waited_for_and_what_was_read_is_kept() {
    // A first pass over six records, of which four calls read four.
    let world = PollHarness::new("metered", "readings", json!({})).await;
    world.vendor().rows = (0..6).map(|n| row(&format!("r{n}"), -60 + n)).collect();
    world.vendor().most = 1;
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.records), (Outcome::Suspended, 4), "four calls in ten minutes");
    let waiting = world.test.queue.waiting(QueueName::Polls);
    let due: Vec<i64> = waiting.iter().map(|(due, _)| (*due - world.now()).num_seconds()).collect();
    assert_eq!(due, [601], "when the budget has room, and a second");

    world.pass(MINUTE * 4);
    let report = world.poll(NOW).await;
    let message = "our own budget of calls to the vendor is spent for 360 s";
    assert_eq!((report.outcome, report.failure.as_deref()), (Outcome::Failed, Some(message)));
    assert_eq!((report.skip_until.expect("a pause") - world.now()).num_seconds(), 360);
    assert!(world.state().await.resume.is_some(), "it goes on where it was");

    world.pass(MINUTE * 6);
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.records), (Outcome::Committed, 2));
}

#[tokio::test]
async fn an_exchange_has_the_elements_deadline_and_room_for_large_pages() {
    let world = PollHarness::new("ledger", "entries", json!({})).await;
    world.vendor().rows = vec![heavy("large", -60, 2_000_000)];
    let report = world.poll(Mode::Scheduled).await;
    assert_eq!((report.outcome, report.records), (Outcome::Committed, 1));
    let bounds: Vec<Bounds> = world.test.http.requests().into_iter().map(|(_, bounds)| bounds).collect();
    assert_eq!(bounds.iter().map(|bounds| bounds.deadline.as_secs()).collect::<Vec<_>>(), [7]);

    world.intercept(|_| Some(Ok(Response::new(Bytes::from(vec![b' '; (16 << 20) + 1])))));
    let message = world.poll(NOW).await.failure;
    let wanted = "the vendor's page is larger than 16 MB: configure a smaller pageSize";
    assert_eq!(message.as_deref(), Some(wanted));
}

#[tokio::test]
async fn the_queue_brings_a_failed_poll_back_unless_the_wheel_or_a_person_will() {
    for (mode, asked, comes_back) in [
        (Mode::Scheduled, 600, true),
        (Mode::Scheduled, 1000, false),
        (Mode::Baseline, 600, true),
        (NOW, 600, false),
        (NOW, 1000, false),
    ] {
        let world = PollHarness::new("ledger", "entries", json!({})).await;
        world.intercept(move |_| {
            let mut refusal = answer(429, &json!({"message": "slowly"}));
            let seconds = http::HeaderValue::from(asked);
            refusal.headers_mut().insert(http::header::RETRY_AFTER, seconds);
            Some(Ok(refusal))
        });
        let report = world.poll(mode).await;
        assert_eq!(report.failure.as_deref(), Some("the vendor asks for fewer calls: 429 slowly"));
        assert_eq!(world.test.queue.len(QueueName::Polls), usize::from(comes_back), "{mode:?}, {asked} s");
    }
}

#[tokio::test]
async fn what_the_vendor_tells_one_instance_of_an_account_all_of_them_heed() {
    let world = PollHarness::polled("ledger", "entries", json!({}), 1).await;
    let other = InstanceId(43);
    for (id, books) in [(other, "left"), (InstanceId(44), "elsewhere")] {
        let mut record = InstanceRecord { id, ..world.instance().await };
        record.configuration.insert("books".into(), json!(books));
        record.secrets = secrets::seal(&world.service, id, &BTreeMap::new()).await.expect("a seal");
        world.store(&record).await;
        world.write(&[resource::key(id, "entries").insert(&ResourceRecord::default())]).await;
        let job = PollJob { instance: id, ..world.job.clone() };
        let until = world.now() + TimeDelta::hours(1);
        let report = poll(&world.service, &job, Mode::Scheduled, until).await.expect("no trouble of our own");
        assert_eq!(report.outcome, Outcome::Committed);
    }
    world.refuses(429);
    let report = world.poll(NOW).await;
    let pause = async |id| tokens::pause_key(id).get(&*world.test.store).await.expect("a table");
    let noted = pause(other).await.expect("the same credentials");
    let until = noted.record.until;
    assert!(until >= report.skip_until.expect("a pause"), "no sooner than the one that was refused");
    assert!(noted.expires_at().expect("it is forgotten") > until, "and not before it is over");
    assert!(pause(InstanceId(44)).await.is_none(), "another account");

    // Where it belongs is written once.
    world.vendor().intercept = None;
    world.pass(MINUTE * 60);
    world.test.store.forget_operations();
    assert_eq!(world.poll(Mode::Scheduled).await.outcome, Outcome::Committed);
    assert_eq!(world.test.store.operations().items_written, 1, "an idle poll writes its state");
}

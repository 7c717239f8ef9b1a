//! Access tokens: renewed before they expire and after a refusal, once for all concurrent polls, and never lost.

use std::time::Duration;

use flow::testing::Fault;
use futures::future::join_all;
use local::sandbox::{Expire, Faults};
use serde_json::{Value, json};
use tests::harness::{SystemHarness, seed};

const OAUTH: [&str; 3] = ["square", "maximizer", "googlesuite"];

/// The numbers of the vendor's answers, of token exchanges, and of refusals.
#[derive(Debug, PartialEq)]
struct Traffic {
    all: usize,
    exchanges: usize,
    refused: usize,
}

struct Story {
    world: SystemHarness,
    element: &'static str,
    instance: u64,
    seen: usize,
}

impl Story {
    async fn new(element: &'static str, faults: Faults) -> Self {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        world.sandbox.set_faults(element, faults).expect("the vendor");
        let instance = world.create(seed(element)).await;
        let seen = world.sandbox.requests().len();
        Self { world, element, instance, seen }
    }

    /// The requests that the vendor saw since the last call.
    fn traffic(&mut self) -> Traffic {
        let requests = self.world.sandbox.requests();
        let fresh = &requests[self.seen..];
        self.seen = requests.len();
        Traffic {
            all: fresh.len(),
            exchanges: fresh.iter().filter(|request| request.path.ends_with("/token")).count(),
            refused: fresh.iter().filter(|request| request.status == 401).count(),
        }
    }

    fn expire(&self, what: Expire) {
        self.world.sandbox.expire(self.element, what).expect("the vendor");
    }

    async fn shown(&self) -> Value {
        self.world.call("GET", &format!("/instances/{}", self.instance), None).await.1
    }

    async fn coverage(&self) -> Value {
        self.world.call("GET", &format!("/instances/{}/coverage", self.instance), None).await.1
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    for element in ["maximizer", "googlesuite"] {
        let mut story = Story::new(element, Faults::default()).await;
        story.world.advance(Duration::from_secs(3 * 3600)).await;
        let traffic = story.traffic();
        assert!((3..=4).contains(&traffic.exchanges), "{element}: {traffic:?}");
        assert_eq!(traffic.refused, 0, "{element}: {traffic:?}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_poll_goes_on() {
    for element in OAUTH {
        let mut story = Story::new(element, Faults::default()).await;
        story.expire(Expire::Tokens);
        story.world.tick().await;
        let traffic = story.traffic();
        assert_eq!(traffic.exchanges, 1, "{element}: {traffic:?}");
        let coverage = story.coverage().await;
        for resource in coverage.as_array().expect("resources") {
            assert_eq!(resource["failures"], 0, "{element}: {resource:#}");
            assert_eq!(resource["coveredUntil"], "2026-01-05T09:01:00Z", "{element}: {resource:#}");
        }
    }
}

#[tokio::test]
async fn many_racing_polls_make_one_refresh() {
    let mut story = Story::new("googlesuite", Faults { rotate_refresh: true, ..Faults::default() }).await;
    story.expire(Expire::Tokens);
    let resources = ["changed-groups", "changed-messages", "calendars/primary/changed-events"];
    let polls = resources.iter().cycle().take(9).map(|resource| story.world.poll(story.instance, resource, false));
    for report in join_all(polls).await {
        assert_eq!(report["failure"], Value::Null, "{report:#}");
    }
    let traffic = story.traffic();
    assert_eq!(traffic.exchanges, 1, "{traffic:?}");
    assert!(traffic.refused > 1, "they raced: {traffic:?}");
}

#[tokio::test]
async fn a_rotated_refresh_token_survives_a_table_that_is_busy_or_loses_its_answer() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for element in OAUTH {
            let mut story = Story::new(element, Faults { rotate_refresh: true, ..Faults::default() }).await;
            for round in 0..3 {
                story.expire(Expire::Tokens);
                // Transaction 0 claims the refresh, 1 keeps the tokens.
                story.world.store.plan_faults(move |number| (number == 1).then_some(fault));
                let resource = match element {
                    "square" => "timesheets",
                    "maximizer" => "contacts",
                    _ => "changed-groups",
                };
                let report = story.world.poll(story.instance, resource, false).await;
                assert_eq!(report["failure"], Value::Null, "{element} {fault:?} {round}: {report:#}");
            }
            assert_eq!(story.traffic().exchanges, 3, "{element} {fault:?}");
            assert_eq!(story.shown().await["valid"], true, "{element} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_crash_between_exchange_and_table_never_causes_a_loop() {
    for rotate_refresh in [false, true] {
        let mut story = Story::new("googlesuite", Faults { rotate_refresh, ..Faults::default() }).await;
        let entry = seed("googlesuite")["configuration"]["event.poller.configuration"]["changed-groups"].clone();
        let only = json!({"configuration": {"event.poller.configuration": {"changed-groups": entry}}});
        let (status, answer) = story.world.call("PATCH", &format!("/instances/{}", story.instance), Some(only)).await;
        assert_eq!(status, 200, "{answer:#}");
        story.expire(Expire::Tokens);
        // The claim is written; then the table takes nothing for as long as the process lives.
        story.world.store.plan_faults(|number| (number > 0).then_some(Fault::NotWritten));
        let path = format!("/instances/{}/poll?resource=changed-groups", story.instance);
        let (status, _) = story.world.call("POST", &path, None).await;
        assert_eq!(status, 503, "our own trouble");
        story.world.store.plan_faults(|_| None);
        story.traffic();
        story.world.advance(Duration::from_secs(10 * 60)).await;
        let shown = story.shown().await;
        let traffic = story.traffic();
        if rotate_refresh {
            assert!(shown["reconnect"]["reason"].is_string(), "the spent token is dead: {shown:#}");
            assert!(traffic.all <= 3, "{traffic:?}");
        } else {
            assert_eq!(shown["valid"], true, "{shown:#}");
            assert_eq!(traffic.exchanges, 1, "the claim ended by itself: {traffic:?}");
        }
    }
}

#[tokio::test]
async fn a_dead_login_stops_the_polls_until_someone_logs_in_again() {
    let records = [
        ("square", "timecards", json!({"team_member_id": "TM1"})),
        ("maximizer", "AbEntry", json!({"Type": "Contact", "FirstName": "Ada"})),
        ("googlesuite", "contactGroups", json!({"name": "Friends"})),
    ];
    for (element, collection, record) in records {
        let mut story = Story::new(element, Faults::default()).await;
        story.expire(Expire::Grants);
        story.world.tick().await;
        let shown = story.shown().await;
        assert_eq!(shown["valid"], false, "{element}: {shown:#}");
        assert!(shown["reconnect"]["since"].is_string(), "{element}: {shown:#}");
        let first = story.traffic();
        assert!(first.exchanges <= 4, "{element}: {first:?}");

        story.world.sandbox.create(element, collection, record).expect("a record");
        story.world.advance(Duration::from_secs(3600)).await;
        assert_eq!(story.traffic(), Traffic { all: 0, exchanges: 0, refused: 0 }, "{element} is left in peace");
        assert_eq!(story.world.events(), Vec::<String>::new(), "{element}");

        let login = json!({"providerData": {"code": "sandbox-code-main"}});
        let (status, answer) = story.world.call("PUT", &format!("/instances/{}", story.instance), Some(login)).await;
        assert_eq!((status.as_u16(), &answer["valid"]), (200, &json!(true)), "{element}: {answer:#}");
        assert_eq!(answer["reconnect"], Value::Null, "{element}");
        story.world.advance(Duration::from_secs(120)).await;
        let emitted = story.world.events();
        assert!(
            !emitted.is_empty() && emitted.iter().all(|event| event.starts_with("CREATED")),
            "{element}: {emitted:?}"
        );
        for resource in story.coverage().await.as_array().expect("resources") {
            assert_eq!(resource["gaps"], json!([]), "{element}: {resource:#}");
        }
    }
}

//! Instances from their making to their end, over ports in memory and vendors that the test plays.

mod rehearsal;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use elements::Tokens;
use http::{Request, Response};
use serde_json::{Map, Value, json};

use store::records::audit::{Action, AuditRecord};
use store::records::instance::InstanceRecord;
use store::records::instance::index_removal;
use store::records::{instance, resource, tokens};
use store::{RecordError, StoreError};

use super::login::Login;
use super::record::merged;
use super::schedule::polled;
use super::transition::Transition;
use super::{
    InstanceBody, InstanceError, ListingQuery, LoginError, Made, UpdateMode, create, get, list, ping, remove,
    review_new, update,
};
use crate::accounts::auth::Caller;
use crate::accounts::limits::Allowance;
use crate::ports::QueueName;
use crate::service::Service;
use crate::testing::{Fault, TestPorts, answer};

const START: &str = "2026-01-05T09:00:00Z";

type Behavior = Box<dyn FnMut(&Request<Bytes>) -> Response<Bytes> + Send>;

/// A service, one who calls it, and the vendor of whatever element.
struct InstanceFixture {
    test: TestPorts,
    service: Service,
    caller: Caller,
    behavior: Arc<Mutex<Behavior>>,
}

/// A vendor that lets everybody in and has nothing.
fn friendly(request: &Request<Bytes>) -> Response<Bytes> {
    match request.uri().path() {
        "/v2/merchants/me" => answer(200, &json!({"merchant": {"id": "M"}})),
        "/oauth2/token" => answer(200, &json!({"access_token": "first", "refresh_token": "again"})),
        _ => answer(200, &json!({})),
    }
}

impl InstanceFixture {
    fn new() -> Self {
        let behavior: Arc<Mutex<Behavior>> = Arc::new(Mutex::new(Box::new(friendly)));
        let of_vendor = Arc::clone(&behavior);
        let test = TestPorts::new(START, move |request| Ok((of_vendor.lock().unwrap())(&request)));
        let service = test.service();
        let caller = Caller { organization: OrganizationId(7), user: UserId(9), instance: None };
        Self { test, service, caller, behavior }
    }

    /// From now on the vendor behaves so.
    fn vendor(&self, behavior: impl FnMut(&Request<Bytes>) -> Response<Bytes> + Send + 'static) {
        *self.behavior.lock().unwrap() = Box::new(behavior);
    }

    /// The requests that the vendor gets from here on: path and bearer token of each request.
    fn asked<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = (T, Vec<(String, String)>)> {
        let before = self.test.http.requests().len();
        async move {
            let done = work.await;
            let requests = self.test.http.requests().split_off(before);
            let line = |(request, _): &(Request<Bytes>, _)| {
                let bearer = request.headers().get("authorization").map_or("", |value| value.to_str().unwrap());
                (request.uri().path().to_owned(), bearer.to_owned())
            };
            (done, requests.iter().map(line).collect())
        }
    }

    async fn create(&self, body: &Value) -> Result<Made, InstanceError> {
        create(&self.service, &self.caller, InstanceBody::read(body).unwrap()).await
    }

    async fn update(&self, id: InstanceId, body: &Value, mode: UpdateMode) -> Result<Made, InstanceError> {
        update(&self.service, &self.caller, id, InstanceBody::read(body).unwrap(), mode, None).await
    }

    async fn tokens(&self, id: InstanceId) -> Tokens {
        let stored = tokens::key(id).get(&*self.test.store).await.unwrap().expect("tokens");
        crate::vendor::tokens::open(&self.service, id, &stored.record).await.unwrap()
    }

    fn stored_instances(&self) -> usize {
        self.test.store.items().iter().filter(|item| item.key.sk == "META").count()
    }
}

/// An instance of square that polls these resources and calls with a token made by hand.
fn shop(resources: Value) -> Value {
    json!({"element": {"key": "square"}, "configuration": {
        "access.token": "personal",
        "event.notification.enabled": true,
        "event.notification.callback.url": "https://a.example/hook",
        "event.poller.configuration": resources,
    }})
}

/// The same, to be logged in by code.
fn shop_with_login(resources: Value) -> Value {
    let mut body = shop(resources);
    let configuration = body["configuration"].as_object_mut().unwrap();
    configuration.remove("access.token");
    configuration.insert("oauth.api.key".into(), json!("id"));
    configuration.insert("oauth.api.secret".into(), json!("secret"));
    body["providerData"] = json!({"code": "c"});
    body
}

fn contacts(of: Value) -> Value {
    let mut body = json!({"element": {"key": "icontact"}, "configuration": {
        "api.version": "2.2", "AppID": "a", "api.username": "u", "api.password": "p"
    }});
    body["configuration"].as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    body
}

// ---------------------------------------------------------------- Making

#[tokio::test]
async fn an_instance_that_was_not_written_was_not_made_and_one_whose_answer_was_lost_was() {
    for (fault, made) in [(Fault::NotWritten, false), (Fault::AnswerLost, true)] {
        let fixture = InstanceFixture::new();
        fixture.test.store.plan_faults(move |number| (number == 0).then_some(fault));
        let outcome = fixture.create(&shop(json!({}))).await;
        match outcome {
            Ok(_) => assert!(made, "{fault:?}"),
            Err(InstanceError::Record(RecordError::Store(StoreError::Busy(_)))) => assert!(!made, "{fault:?}"),
            Err(other) => panic!("{fault:?}: {other:?}"),
        }
        assert_eq!(fixture.stored_instances(), usize::from(made), "{fault:?}");
    }
}

#[tokio::test]
async fn what_was_read_differently_is_answered_and_kept() {
    let fixture = InstanceFixture::new();
    let mut body = shop(json!({}));
    body["configuration"]["square.version"] = json!(" 2025-08-20 ");
    let made = fixture.create(&body).await.unwrap();
    assert_eq!(made.warnings.len(), 1, "{:?}", made.warnings);
    let stored = get(&fixture.service.ports, fixture.caller.organization, made.record.id).await.unwrap().record;
    assert_eq!(stored.warnings, [json!(made.warnings[0])]);
}

#[tokio::test]
async fn first_polls_keep_whoever_waits_no_longer_than_the_budget_and_go_on_by_the_queue() {
    let fixture = InstanceFixture::new();
    let (clock, mut page) = (Arc::clone(&fixture.test.ambient), 0);
    fixture.vendor(move |request| {
        if request.uri().path() != "/v2/team-members/search" {
            return friendly(request);
        }
        // A list without end, a page of which takes a second.
        clock.advance(Duration::from_secs(1));
        page += 1;
        answer(200, &json!({"team_members": [{"id": page.to_string()}], "cursor": page.to_string()}))
    });
    let began = fixture.service.ports.now();
    let made = fixture.create(&shop(json!({"employees": {}}))).await.unwrap();
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let took = (fixture.service.ports.now() - began).num_seconds();
    assert_eq!(took, 4, "a second of five is left for the commit");
    let state = resource::key(made.record.id, "employees").get(&*fixture.test.store).await.unwrap().unwrap().record;
    assert!(state.resume.is_some() && !state.has_baseline, "{state:?}");
    assert_eq!(fixture.test.queue.len(QueueName::Polls), 1);
}

// ---------------------------------------------------------------- Logging in

#[tokio::test]
async fn a_vendor_without_an_answer_stands_in_the_way_only_where_its_answer_is_needed() {
    let fixture = InstanceFixture::new();
    // Nothing is read from what proves a login at square.
    fixture.vendor(|_| answer(500, &json!({})));
    fixture.create(&shop(json!({}))).await.unwrap();
    // Without the zone of the account another is used.
    fixture.vendor({
        let mut asked = 0;
        move |_| {
            asked += 1;
            if asked == 1 { answer(200, &json!({"meta": {}})) } else { answer(500, &json!({})) }
        }
    });
    let revel = json!({"element": {"key": "revel"}, "configuration": {
        "subdomain": "test", "oauth.api.key": "k", "oauth.api.secret": "s"
    }});
    fixture.create(&revel).await.unwrap();
    // Without the account no list of icontact has an address.
    fixture.vendor(|_| answer(503, &json!({})));
    let outcome = fixture.create(&contacts(json!({}))).await;
    assert!(matches!(outcome, Err(InstanceError::Login(LoginError::Unavailable { .. }))), "{outcome:?}");
    assert_eq!(fixture.stored_instances(), 2);
}

#[tokio::test]
async fn what_proves_a_login_may_be_of_some_length() {
    let fixture = InstanceFixture::new();
    let long = "x".repeat(100_000);
    fixture.vendor(move |_| answer(200, &json!({"accounts": [{"accountId": "5", "name": long}]})));
    fixture.create(&contacts(json!({"client.folder.id": "6"}))).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_that_was_brought_along_stays_where_the_vendor_gives_no_other() {
    let fixture = InstanceFixture::new();
    fixture.vendor(|request| match request.uri().path() {
        "/oauth2/token" => answer(200, &json!({"access_token": "first"})),
        _ => friendly(request),
    });
    let mut body = shop_with_login(json!({}));
    body["externalAuthentication"] = json!("initial");
    body["configuration"]["oauth.user.refresh_token"] = json!("mine");
    body["configuration"]["oauth.user.token"] = json!("old");
    let made = fixture.create(&body).await.unwrap();
    let tokens = fixture.tokens(made.record.id).await;
    assert_eq!((tokens.access, tokens.refresh), (Secret::new("first"), Some(Secret::new("mine"))));
    // They are kept with the tokens alone.
    let kept = made.record.configuration.keys().filter(|key| key.starts_with("oauth.user."));
    assert_eq!(kept.count(), 0, "{:?}", made.record.configuration.keys());
}

#[tokio::test]
async fn another_account_is_proven_with_the_login_there_is_and_nobody_logs_in_anew() {
    let fixture = InstanceFixture::new();
    let made = fixture.create(&shop_with_login(json!({}))).await.unwrap();
    let id = made.record.id;
    let change = json!({"configuration": {"square.version": "2025-09-24"}});
    let (updated, asked) = fixture.asked(fixture.update(id, &change, UpdateMode::Merge)).await;
    updated.unwrap();
    assert_eq!(asked, [("/v2/merchants/me".to_owned(), "Bearer first".to_owned())]);
    assert_eq!(fixture.tokens(id).await.refresh, Some(Secret::new("again")));
}

#[tokio::test]
async fn a_token_made_by_hand_is_changed_and_proven_without_any_login() {
    let fixture = InstanceFixture::new();
    let id = fixture.create(&shop(json!({}))).await.unwrap().record.id;
    let change = json!({"configuration": {"access.token": "another"}});
    let (updated, asked) = fixture.asked(fixture.update(id, &change, UpdateMode::Merge)).await;
    updated.unwrap();
    assert_eq!(asked, [("/v2/merchants/me".to_owned(), "Bearer another".to_owned())]);
}

#[tokio::test]
async fn a_ping_says_whether_the_vendor_lets_the_instance_in() {
    let fixture = InstanceFixture::new();
    let record = fixture.create(&shop(json!({}))).await.unwrap().record;
    ping(&fixture.service, &record).await.unwrap();
    fixture.vendor(|_| answer(403, &json!({"errors": [{"detail": "not you"}]})));
    let outcome = ping(&fixture.service, &record).await;
    let refused = matches!(&outcome, Err(InstanceError::Login(LoginError::Refused(said))) if said.contains("not you"));
    assert!(refused, "{outcome:?}");
}

// ---------------------------------------------------------------- Changing

#[test]
fn a_null_removes_a_key_from_a_merge_and_is_a_value_of_a_whole() {
    let object = |value: Value| value.as_object().unwrap().clone();
    let stored = || object(json!({"a": "1", "b": "2"}));
    let given = object(json!({"a": null, "c": "3"}));
    let after = |mode| Value::Object(merged(stored(), Some(&given), mode));
    assert_eq!(after(UpdateMode::Merge), json!({"b": "2", "c": "3"}));
    assert_eq!(after(UpdateMode::Replace), json!({"a": null, "c": "3"}));
    assert_eq!(Value::Object(merged(stored(), None, UpdateMode::Replace)), json!({"a": "1", "b": "2"}));
    let masked: Map<String, Value> = object(json!({"a": domain::secret::MASK, "z": domain::secret::MASK}));
    assert_eq!(Value::Object(merged(stored(), Some(&masked), UpdateMode::Replace)), json!({"a": "1"}));
}

#[tokio::test]
async fn a_resource_that_reads_other_records_starts_anew_and_one_that_is_gone_leaves_nothing() {
    let fixture = InstanceFixture::new();
    fixture.vendor(|request| match request.uri().path() {
        "/v2/team-members/search" => answer(200, &json!({"team_members": [{"id": "1"}, {"id": "2"}]})),
        "/v2/locations" => answer(200, &json!({"locations": [{"id": "L"}]})),
        _ => friendly(request),
    });
    let id = fixture.create(&shop(json!({"staff": {"url": "/hubs/employee/employees"}}))).await.unwrap().record.id;
    let state = async || {
        let stored = resource::key(id, "staff").get(&*fixture.test.store).await.unwrap();
        let index = index_removal(&*fixture.test.store, id, "staff").await.unwrap();
        (stored.map(|stored| stored.record.entries), index.len())
    };
    assert_eq!(state().await, (Some(2), 1));

    let places =
        json!({"configuration": {"event.poller.configuration": {"staff": {"url": "/hubs/employee/locations"}}}});
    let (updated, asked) = fixture.asked(fixture.update(id, &places, UpdateMode::Merge)).await;
    updated.unwrap();
    assert_eq!(asked.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["/v2/locations"]);
    assert_eq!(state().await, (Some(1), 1), "nothing is left of those who were listed before");

    // What only says it in other words goes on where it was.
    let (updated, asked) = fixture.asked(fixture.update(id, &places, UpdateMode::Merge)).await;
    updated.unwrap();
    assert_eq!(asked, []);

    let none = json!({"configuration": {"event.poller.configuration": {}}});
    fixture.update(id, &none, UpdateMode::Merge).await.unwrap();
    assert_eq!(state().await, (None, 0));
}

/// Moves an instance from so many resources to so many others; answers the transactions that it took.
async fn moved(from: usize, to: usize) -> u64 {
    let fixture = InstanceFixture::new();
    let named = |prefix: &str, count: usize| -> Value {
        let entry = |n| (format!("{prefix}{n}"), json!({"url": "/hubs/employee/locations"}));
        Value::Object((0..count).map(entry).collect())
    };
    let id = fixture.create(&shop(named("old", from))).await.unwrap().record.id;
    let before = get(&fixture.service.ports, fixture.caller.organization, id).await.unwrap();
    let other = InstanceFixture::new().create(&shop(named("new", to))).await.unwrap().record;
    let after = InstanceRecord { resources: other.resources, ..before.record.clone() };
    let allowance = Allowance::read(&fixture.service.ports, fixture.caller.organization).await.unwrap();
    let mut entry = AuditRecord::new(fixture.service.ports.now(), fixture.caller.by(), Action::InstanceUpdated);
    entry.keys.push("event.poller.configuration".into());
    fixture.test.store.forget_operations();
    let (login, allowance, entry) = (&Login::Unchanged, &allowance, &entry);
    let transition = Transition { before: &before, after: &after, login, allowance, entry };
    let started = transition.commit(&fixture.service).await.unwrap().expect("nobody else writes");
    let transactions = fixture.test.store.operations().transactions;
    assert_eq!(started.len(), to);
    let stored = get(&fixture.service.ports, fixture.caller.organization, id).await.unwrap();
    let resources = |record: &InstanceRecord| polled(record).into_keys().collect::<Vec<_>>();
    assert_eq!(resources(&stored.record), resources(&after));
    let kept = fixture.test.store.items().into_iter().filter(|item| item.key.sk.starts_with("RES#")).count();
    let slots = fixture.test.store.items().into_iter().filter(|item| item.key.pk.starts_with("SLOT#")).count();
    assert_eq!((kept, slots), (to, to));
    transactions
}

/// The table takes a hundred writes at once. Four of them are the instance, its listing, the limits and the trail; a
/// resource that comes or goes is two, its state and its slot.
#[tokio::test]
async fn a_change_is_one_transaction_wherever_it_fits() {
    assert_eq!(moved(1, 1).await, 1);
    assert_eq!(moved(24, 24).await, 1);
    assert_eq!(moved(25, 24).await, 3);
    assert_eq!(moved(24, 25).await, 3);
    assert_eq!(moved(46, 46).await, 3);
}

// ---------------------------------------------------------------- Listing and removing

#[tokio::test]
async fn a_removal_that_broke_off_is_out_of_sight_and_can_be_repeated() {
    let fixture = InstanceFixture::new();
    let organization = fixture.caller.organization;
    let kept = fixture.create(&shop(json!({}))).await.unwrap().record.id;
    let gone = fixture.create(&shop(json!({"employees": {}}))).await.unwrap().record.id;
    // The first takes it out of sight.
    fixture.test.store.plan_faults(|number| (number > 0).then_some(Fault::NotWritten));
    let outcome = remove(&fixture.service, &fixture.caller, gone).await;
    assert!(matches!(outcome, Err(InstanceError::Record(RecordError::Store(StoreError::Busy(_))))), "{outcome:?}");
    assert!(instance::key(gone).exists(&*fixture.test.store).await.unwrap());
    fixture.test.store.plan_faults(|_| None);

    let outcome = get(&fixture.service.ports, organization, gone).await;
    assert!(matches!(outcome, Err(InstanceError::Absent)), "{outcome:?}");
    let query = ListingQuery { page_size: 10, ..ListingQuery::default() };
    let listed = list(&fixture.service.ports, organization, &query).await.unwrap();
    assert_eq!(listed.entries.iter().map(|record| record.id).collect::<Vec<_>>(), [kept]);

    remove(&fixture.service, &fixture.caller, gone).await.unwrap();
    assert!(!instance::key(gone).exists(&*fixture.test.store).await.unwrap());
    let outcome = remove(&fixture.service, &fixture.caller, gone).await;
    assert!(matches!(outcome, Err(InstanceError::Absent)), "{outcome:?}");
}

// ---------------------------------------------------------------- What is refused

/// The fields that a body's configuration is refused for.
fn refused(configuration: Value) -> Vec<String> {
    let mut body = shop(json!({}));
    body["configuration"].as_object_mut().unwrap().extend(configuration.as_object().unwrap().clone());
    review_new(&InstanceFixture::new().service, &body).problems.into_iter().map(|problem| problem.field).collect()
}

#[test]
fn an_instance_polls_so_many_resources_and_no_more() {
    let polling = |count: usize| {
        let entry = |n| (format!("r{n}"), json!({"url": "/hubs/employee/locations"}));
        refused(json!({"event.poller.configuration": (0..count).map(entry).collect::<Map<_, _>>()}))
    };
    assert_eq!(polling(domain::limits::RESOURCES), [""; 0]);
    assert_eq!(polling(domain::limits::RESOURCES + 1), ["configuration.\"event.poller.configuration\""]);
}

#[test]
fn a_value_is_one_text_or_several_for_a_placeholder_and_nothing_deeper() {
    assert_eq!(refused(json!({"calendarId": ["a", 5], "b": 1, "c": true, "d": null})), [""; 0]);
    assert_eq!(refused(json!({"calendarId": ["a", {"b": 1}]})), ["configuration.calendarId"]);
    assert_eq!(refused(json!({"calendarId": [["a"]]})), ["configuration.calendarId"]);
    assert_eq!(refused(json!({"calendarId": {"a": "b"}})), ["configuration.calendarId"]);
}

//! Accounts: the rotation of secrets, disabled organizations and users, limits that hold in a race, and the audit trail.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use domain::id::{InstanceId, OrganizationId};
use flow::accounts::{NewOrganization, Renewal, create_organization};
use flow::instances;
use flow::testing::Fault;
use futures::future::join_all;
use serde_json::{Value, json};
use store::keys::account_limits_key;
use store::port::Store;
use store::records::account::{Limits, LimitsRecord};
use store::records::audit::By;
use tests::harness::{SystemHarness, seed};

async fn world() -> SystemHarness {
    SystemHarness::new("2026-01-05T09:00:00Z").await
}

/// The status of a call with these secrets.
async fn status(world: &SystemHarness, secrets: &str, path: &str) -> u16 {
    let uri = format!("http://pollux.test/elements/api-v2{path}");
    let request = http::Request::get(uri).header("authorization", secrets).body(Bytes::new()).expect("a request");
    world.exchange(request).await.status().as_u16()
}

fn header(user: &str, organization: &str) -> String {
    format!("User {user}, Organization {organization}")
}

fn header_of(organization: &NewOrganization) -> String {
    header(organization.user_secret.expose(), organization.organization_secret.expose())
}

/// Square's seed with these resources, each polled so often.
fn body(resources: &[&str], minutes: u16) -> Value {
    let mut body = seed("square");
    let one = body["configuration"]["event.poller.configuration"]["timesheets"].clone();
    let all: serde_json::Map<String, Value> = resources.iter().map(|name| ((*name).to_owned(), one.clone())).collect();
    body["configuration"]["event.poller.configuration"] = Value::Object(all);
    body["configuration"]["event.poller.refresh_interval"] = json!(minutes.to_string());
    body["configuration"]["event.notification.callback.url"] = json!("http://pollux.test/inbox/main");
    body
}

// ---------------------------------------------------------------- Secrets

#[tokio::test]
async fn an_old_secret_works_beside_its_successor_for_as_long_as_was_said() {
    let world = world().await;
    let (ports, own) = (&world.service.ports, &world.organization);
    let (user, organization) = (own.user_secret.expose(), own.organization_secret.expose());
    let grace = Renewal::Rotate(TimeDelta::minutes(10));
    let second = flow::accounts::renew_user(ports, own.organization, own.user, grace).await.expect("a new secret");
    for secret in [user, second.expose()] {
        assert_eq!(status(&world, &header(secret, organization), "/instances?allowEmpty=true").await, 200);
    }
    world.ambient.advance(Duration::from_secs(600));
    assert_eq!(
        status(&world, &header(user, organization), "/instances?allowEmpty=true").await,
        401,
        "its time is over"
    );
    assert_eq!(status(&world, &header(second.expose(), organization), "/instances?allowEmpty=true").await, 200);

    // Two at most: the next change ends the one before the last, whatever time it had.
    let third = flow::accounts::renew_user(ports, own.organization, own.user, grace).await.expect("a new secret");
    let fourth = flow::accounts::renew_user(ports, own.organization, own.user, grace).await.expect("a new secret");
    for (secret, works) in [(&second, 401), (&third, 200), (&fourth, 200)] {
        assert_eq!(status(&world, &header(secret.expose(), organization), "/instances?allowEmpty=true").await, works);
    }
    flow::accounts::renew_user(ports, own.organization, own.user, Renewal::Revoke).await.expect("revoked");
    for secret in [&third, &fourth] {
        assert_eq!(status(&world, &header(secret.expose(), organization), "/instances?allowEmpty=true").await, 401);
    }
    let organizations = flow::accounts::renew_organization(ports, own.organization, grace).await.expect("a new secret");
    let user =
        flow::accounts::renew_user(ports, own.organization, own.user, Renewal::AT_ONCE).await.expect("a new secret");
    for secret in [organization, organizations.expose()] {
        assert_eq!(status(&world, &header(user.expose(), secret), "/instances?allowEmpty=true").await, 200);
    }
}

#[tokio::test]
async fn a_token_is_changed_by_call_and_goes_with_its_instance() {
    let world = world().await;
    let id = world.create(seed("square")).await;
    let (_, shown) = world.call("GET", &format!("/instances/{id}"), None).await;
    let first = shown["token"].as_str().expect("a token").to_owned();
    let rotate = format!("/instances/{id}/token/rotate");
    let (code, answer) = world.call("POST", &rotate, Some(json!({ "validMinutes": 5 }))).await;
    assert_eq!((code.as_u16(), &answer["previousValidUntil"]), (200, &json!("2026-01-05T09:05:00Z")), "{answer:#}");
    let second = answer["token"].as_str().expect("a token").to_owned();
    let works = async |token: &str| world.call_through(Some(token), "GET", "/instances", None).await.0.as_u16();
    assert_eq!((works(&first).await, works(&second).await), (200, 200));
    let (_, shown) = world.call("GET", &format!("/instances/{id}"), None).await;
    assert_eq!(shown["token"], json!(second));
    world.ambient.advance(Duration::from_secs(300));
    assert_eq!((works(&first).await, works(&second).await), (401, 200));
    // Without a time the old one stops at once; by its token an instance changes its own.
    let (code, _, answer) = world.call_through(Some(&second), "POST", "/instances/token/rotate", None).await;
    assert_eq!((code.as_u16(), &answer["previousValidUntil"]), (200, &Value::Null));
    let third = answer["token"].as_str().expect("a token").to_owned();
    assert_eq!((works(&second).await, works(&third).await), (401, 200));
    let (code, refused) = world.call("POST", &rotate, Some(json!({ "validMinutes": -1 }))).await;
    assert_eq!((code.as_u16(), &refused["errors"][0]["field"]), (400, &json!("validMinutes")));

    world.call("POST", &rotate, Some(json!({ "validMinutes": 60 }))).await;
    let before = principals(&world);
    let (code, _) = world.call("DELETE", &format!("/instances/{id}"), None).await;
    assert_eq!((code.as_u16(), before - principals(&world)), (200, 2), "both tokens went with it");
    assert_eq!(works(&third).await, 401);
}

/// The number of valid secrets.
fn principals(world: &SystemHarness) -> usize {
    world.stored().keys().filter(|key| key.starts_with("SECRET#")).count()
}

// ---------------------------------------------------------------- Shut out

#[tokio::test]
async fn whoever_is_disabled_stays_out_and_his_instances_rest() {
    let world = world().await;
    let (ports, own) = (&world.service.ports, world.organization.clone());
    let (resting, polled) = (world.create(seed("square")).await, world.create(seed("square")).await);
    let (code, _) = world.call("DELETE", &format!("/instances/{resting}/enabled"), None).await;
    assert_eq!(code, 200);
    let (second, secret) = flow::accounts::create_user(ports, own.organization, "second").await.expect("a user");
    let seconds = header(secret.expose(), own.organization_secret.expose());
    let inside = async |secrets: &str| status(&world, secrets, "/instances").await;

    flow::accounts::set_user_disabled(ports, own.organization, second, true).await.expect("disabled");
    assert_eq!((inside(&seconds).await, inside(&header_of(&own)).await), (401, 200));
    let renewed =
        flow::accounts::renew_user(ports, own.organization, second, Renewal::AT_ONCE).await.expect("a new secret");
    let seconds = header(renewed.expose(), own.organization_secret.expose());
    assert_eq!(inside(&seconds).await, 401, "a new secret lets nobody in who is to stay out");

    flow::accounts::set_organization_disabled(ports, own.organization, true).await.expect("disabled");
    flow::accounts::set_organization_disabled(ports, own.organization, true).await.expect("and again");
    assert_eq!((inside(&seconds).await, inside(&header_of(&own)).await), (401, 401));
    let refused = flow::accounts::create_user(ports, own.organization, "third").await;
    assert!(matches!(refused, Err(flow::accounts::AccountError::Disabled)), "{refused:?}");
    let asked = world.sandbox.requests().len();
    world.sandbox.create("square", "timecards", json!({ "team_member_id": "TM1" })).expect("a record");
    world.advance(Duration::from_secs(180)).await;
    assert_eq!(world.sandbox.requests().len(), asked, "the vendor is left in peace");

    flow::accounts::set_organization_disabled(ports, own.organization, false).await.expect("enabled");
    assert_eq!(
        (inside(&seconds).await, inside(&header_of(&own)).await),
        (401, 200),
        "who was out for himself stays out"
    );
    world.advance(Duration::from_secs(180)).await;
    let events = world.events();
    assert_eq!(events.len(), 1, "what happened meanwhile is emitted once, by the one that is polled: {events:?}");
    for (instance, off) in [(resting, true), (polled, false)] {
        let (_, shown) = world.call("GET", &format!("/instances/{instance}"), None).await;
        assert_eq!(shown["disabled"], json!(off));
    }
    flow::accounts::set_user_disabled(ports, own.organization, second, false).await.expect("enabled");
    assert_eq!(inside(&seconds).await, 200);
    let nobody = flow::accounts::set_organization_disabled(ports, OrganizationId(1), true).await;
    assert!(
        matches!(nobody, Err(flow::accounts::SuspendError::Account(flow::accounts::AccountError::Absent))),
        "{nobody:?}"
    );
}

// ---------------------------------------------------------------- Limits

async fn set(world: &SystemHarness, instances: Option<u32>, resources: Option<u32>, smallest_interval: Option<u16>) {
    let limits = Limits { instances, resources, smallest_interval };
    flow::accounts::limits::set(&world.service.ports, world.organization.organization, limits)
        .await
        .expect("limits are set");
}

async fn counted(world: &SystemHarness) -> u32 {
    let item = world.store.get(&account_limits_key(world.organization.organization)).await.expect("read");
    let record: LimitsRecord = serde_json::from_slice(&item.expect("limits were set").body).expect("a record");
    record.instances
}

#[tokio::test]
async fn limits_are_held_with_a_text_that_names_them() {
    let world = world().await;
    let first = world.create(body(&["a", "b", "c"], 1)).await;
    set(&world, Some(2), Some(2), Some(5)).await;
    let asked = world.sandbox.requests().len();
    let (code, refused) = world.call("POST", "/instances", Some(body(&["a", "b", "c"], 4))).await;
    let fields: Vec<&str> =
        refused["errors"].as_array().expect("errors").iter().filter_map(|error| error["field"].as_str()).collect();
    let path = "configuration.\"event.poller.configuration\"";
    assert_eq!(code, 429, "{refused:#}");
    assert_eq!(fields, [path, &format!("{path}.a"), &format!("{path}.b"), &format!("{path}.c")], "{refused:#}");
    let said = refused["message"].as_str().expect("a message");
    assert!(said.contains("at most 2 resources") && said.contains("at least 5 minutes"), "{said}");
    assert_eq!(world.sandbox.requests().len(), asked, "the vendor was not asked");

    // What was allowed before goes on, and can be changed as long as it does not want more.
    for (change, wanted) in [
        (json!({ "name": "renamed" }), 200),
        (json!({ "configuration": { "event.poller.refresh_interval": "3" } }), 200),
        (json!({ "configuration": { "event.poller.refresh_interval": "2" } }), 429),
        (body(&["a", "b", "c", "d"], 5), 429),
        (body(&["a", "b", "d"], 4), 429),
        (body(&["a", "b", "c"], 10), 200),
        (body(&["a", "b"], 10), 200),
        (body(&["a", "b", "c"], 10), 429),
    ] {
        let (code, answer) = world.call("PATCH", &format!("/instances/{first}"), Some(change.clone())).await;
        assert_eq!(code, wanted, "{change:#}: {answer:#}");
    }
    let item = format!("/instances/{first}/configuration/event.poller.refresh_interval");
    assert_eq!(world.call("PATCH", &item, Some(json!({ "propertyValue": "1" }))).await.0, 429);

    let second = world.create(body(&["a"], 5)).await;
    let (code, refused) = world.call("POST", "/instances", Some(body(&["a"], 5))).await;
    assert_eq!(code, 429);
    assert!(refused["message"].as_str().expect("a message").contains("at most 2 instances"), "{refused:#}");
    assert_eq!(refused["errors"][0]["field"], "instances");
    let (_, shown) = world.call("GET", "/organizations/limits", None).await;
    assert_eq!(shown, json!({ "instances": 2, "resources": 2, "smallestInterval": 5, "usedInstances": 2 }));
    assert_eq!(world.call("DELETE", &format!("/instances/{second}"), None).await.0, 200);
    world.create(body(&["a"], 5)).await;
    set(&world, None, None, None).await;
    world.create(body(&["a", "b", "c"], 1)).await;
    assert_eq!(counted(&world).await, 3);
}

#[tokio::test]
async fn limits_hold_however_many_race() {
    for seed in 0..6 {
        let world = SystemHarness::seeded("2026-01-05T09:00:00Z", seed).await;
        set(&world, Some(3), None, None).await;
        let all = (0..12).map(|_| world.call("POST", "/instances", Some(body(&["a"], 60))));
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        let mut made = Vec::new();
        for (code, answer) in join_all(all).await {
            *statuses.entry(code.as_u16()).or_default() += 1;
            made.extend(answer["id"].as_u64());
        }
        assert_eq!(statuses, BTreeMap::from([(200, 3), (429, 9)]), "seed {seed}");
        assert_eq!(counted(&world).await, 3);
        // Going and coming at once.
        let remove = async |id: u64| world.call("DELETE", &format!("/instances/{id}"), None).await.0.as_u16();
        let create = async || world.call("POST", "/instances", Some(body(&["a"], 60))).await.0.as_u16();
        let removed = join_all(made.iter().map(|id| remove(*id)));
        let created = join_all((0..6).map(|_| create()));
        let (removed, created) = futures::join!(removed, created);
        assert!(removed.iter().all(|code| *code == 200), "{removed:?}");
        let there = created.iter().filter(|code| **code == 200).count();
        assert!(there <= 3 && created.iter().all(|code| [200, 429].contains(code)), "{created:?}");
        assert_eq!(counted(&world).await as usize, there, "the count is what is there");
    }
}

#[tokio::test]
async fn a_limit_set_during_changes_starts_with_the_right_count() {
    for seed in 0..6 {
        let world = SystemHarness::seeded("2026-01-05T09:00:00Z", seed).await;
        let gone = world.create(body(&["a"], 60)).await;
        let setting = flow::accounts::limits::set(
            &world.service.ports,
            world.organization.organization,
            Limits { instances: Some(4), ..Limits::default() },
        );
        let path = format!("/instances/{gone}");
        let creations = join_all((0..5).map(|_| world.call("POST", "/instances", Some(body(&["a"], 60)))));
        let (set, created, removed) = futures::join!(setting, creations, world.call("DELETE", &path, None));
        assert!(set.is_ok() && removed.0 == 200, "{set:?} {removed:?}");
        let there = created.iter().filter(|(code, _)| *code == 200).count();
        assert_eq!(counted(&world).await as usize, there, "seed {seed}");
    }
}

// ---------------------------------------------------------------- The trail

/// `action by keys`, the oldest first.
async fn trail(world: &SystemHarness, path: &str) -> Vec<String> {
    let (code, entries) = world.call("GET", path, None).await;
    assert_eq!(code, 200, "{entries:#}");
    let line = |entry: &Value| {
        let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let keys = entry["keys"].as_array().into_iter().flatten().map(words).collect::<Vec<_>>().join(",");
        format!("{} by {} {}{keys}", words(&entry["action"]), words(&entry["by"]["kind"]), words(&entry["resource"]))
            .trim_end()
            .to_owned()
    };
    entries.as_array().expect("entries").iter().rev().map(line).collect()
}

/// Reads the organization's trail in pages of three. Returns the number of entries.
async fn paged_entries(world: &SystemHarness) -> usize {
    let (mut paged, mut next) = (0, String::new());
    loop {
        let (_, headers, page) =
            world.call_through(None, "GET", &format!("/organizations/audit?pageSize=3{next}"), None).await;
        paged += page.as_array().expect("entries").len();
        match headers.get("elements-next-page-token") {
            Some(token) => next = format!("&nextPage={}", token.to_str().expect("text")),
            None => return paged,
        }
    }
}

#[tokio::test]
async fn the_trail_says_who_changed_which_keys_and_no_value() {
    let world = world().await;
    let step = Duration::from_secs(1);
    world.ambient.advance(step);
    let id = world.create(seed("square")).await;
    let of_it = format!("/instances/{id}");
    for (method, path, body) in [
        (
            "PATCH",
            of_it.clone(),
            Some(json!({ "name": "other", "configuration": { "event.poller.refresh_interval": "9" } })),
        ),
        (
            "PATCH",
            of_it.clone(),
            Some(
                json!({ "configuration": { "event.notification.basic.username": "u", "event.notification.basic.password": "hunter2hunter2" } }),
            ),
        ),
        (
            "PATCH",
            of_it.clone(),
            Some(json!({ "configuration": { "event.notification.basic.password": "hunter3hunter3" } })),
        ),
        ("PATCH", of_it.clone(), Some(json!({ "name": "other" }))),
        ("PUT", of_it.clone(), Some(json!({ "providerData": { "code": "sandbox-code-main" } }))),
        ("DELETE", format!("{of_it}/enabled"), None),
        ("DELETE", format!("{of_it}/enabled"), None),
        ("PUT", format!("{of_it}/enabled"), None),
        ("POST", format!("{of_it}/signing-secret/rotate"), None),
        ("POST", format!("{of_it}/token/rotate"), None),
        ("GET", of_it.clone(), None),
        ("POST", format!("{of_it}/poll"), None),
    ] {
        world.ambient.advance(step);
        let (code, answer) = world.call(method, &path, body).await;
        assert_eq!(code, 200, "{method} {path}: {answer:#}");
    }
    let expected = [
        "instance.created by user",
        "instance.updated by user event.poller.refresh_interval,name",
        "instance.updated by user event.notification.basic.password,event.notification.basic.username",
        "instance.updated by user event.notification.basic.password",
        "instance.updated by user login",
        "instance.disabled by user",
        "instance.enabled by user",
        "instance.signing-secret.rotated by user",
        "instance.token.rotated by user",
    ];
    assert_eq!(trail(&world, &format!("{of_it}/audit")).await, expected);
    let (_, entries) = world.call("GET", &format!("{of_it}/audit"), None).await;
    assert!(!entries.to_string().contains("hunter"), "no value stands in it");
    assert_eq!(entries[0]["by"]["user"], json!(world.organization.user));

    // The organization's shows what the operator did, and what is gone.
    let (ports, organization) = (&world.service.ports, world.organization.organization);
    set(&world, Some(9), None, None).await;
    world.ambient.advance(step);
    let (user, _) = flow::accounts::create_user(ports, organization, "second").await.expect("a user");
    world.ambient.advance(step);
    flow::accounts::renew_user(ports, organization, user, Renewal::Revoke).await.expect("revoked");
    world.ambient.advance(step);
    let operator = instances::rotate_token(ports, By::Operator, organization, InstanceId(id), TimeDelta::zero()).await;
    assert!(operator.is_ok());
    world.ambient.advance(step);
    assert_eq!(world.call("DELETE", &of_it, None).await.0, 200);
    assert_eq!(world.call("GET", &format!("{of_it}/audit"), None).await.0, 404);
    let whole = trail(&world, "/organizations/audit").await;
    let before = ["organization.created by operator", "user.created by operator"];
    let after = [
        "organization.limits.set by operator",
        "user.created by operator",
        "user.secret.revoked by operator",
        "instance.token.rotated by operator",
        "instance.deleted by user",
    ];
    let all: Vec<&str> = before.into_iter().chain(expected).chain(after).collect();
    assert_eq!(whole, all);

    // Page by page it is the same, and each organization has its own.
    assert_eq!(paged_entries(&world).await, all.len());
    let other = create_organization(ports, "Other").await.expect("an organization");
    let theirs =
        flow::accounts::audit::list(ports, other.organization, None, 100, None).await.expect("a trail").entries;
    assert_eq!(theirs.len(), 2, "{theirs:?}");
    // After its time an entry is not shown, though the table may still have it.
    world.ambient.advance(Duration::from_secs(397 * 24 * 3600));
    assert_eq!(trail(&world, "/organizations/audit").await, Vec::<String>::new());
}

#[tokio::test]
async fn an_entry_is_written_with_its_change_or_not_at_all() {
    let world = world().await;
    let id = world.create(seed("square")).await;
    let path = format!("/instances/{id}/audit");
    let before = trail(&world, &path).await;
    world.store.plan_faults(|_| Some(Fault::NotWritten));
    let (code, _) = world.call("DELETE", &format!("/instances/{id}/enabled"), None).await;
    assert_eq!(code, 503);
    world.store.plan_faults(|_| None);
    assert_eq!(trail(&world, &path).await, before);
    let written = world.store.operations();
    world.call("DELETE", &format!("/instances/{id}/enabled"), None).await;
    let after = world.store.operations();
    let spent = (after.transactions - written.transactions, after.items_written - written.items_written);
    assert_eq!(spent, (1, 2), "one transaction: the instance and the entry");
    assert_eq!(trail(&world, &path).await.len(), before.len() + 1);
}

#[tokio::test]
async fn what_is_sealed_for_one_instance_opens_for_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let vault = aws::vault::KeyFileVault::open(&directory.path().join("key.json")).expect("a key file");
    let world = SystemHarness::sealed("2026-01-05T09:00:00Z", 1, std::sync::Arc::new(vault)).await;
    let (one, two) = (world.create(seed("square")).await, world.create(seed("square")).await);
    let ports = &world.service.ports;
    let stored = async |id: u64| {
        let item = ports.store.get(&store::keys::instance_key(InstanceId(id))).await.expect("read").expect("an item");
        (serde_json::from_slice::<Value>(&item.body).expect("JSON"), item)
    };
    let (theirs, _) = stored(one).await;
    let (record, item) = stored(two).await;
    for sealed in ["secrets", "token"] {
        let mut moved = record.clone();
        moved[sealed] = theirs[sealed].clone();
        let key = item.key.clone();
        let write = store::codec::put(key, item.version, &moved, store::port::Condition::Unconditional);
        ports.store.transact(&[write]).await.expect("written");
        let (code, answer) = world.call("PATCH", &format!("/instances/{two}"), Some(json!({ "name": "x" }))).await;
        assert_eq!(code, 500, "{sealed}: {answer:#}");
    }
    let write = store::codec::put(item.key.clone(), item.version, &record, store::port::Condition::Unconditional);
    ports.store.transact(&[write]).await.expect("written");
    // Tokens of another instance are not used either.
    let theirs = ports.store.get(&store::keys::tokens_key(InstanceId(one))).await.expect("read").expect("tokens");
    let moved = store::port::Item { key: store::keys::tokens_key(InstanceId(two)), ..theirs };
    let write = store::port::Write::Put { item: moved, condition: store::port::Condition::Unconditional };
    ports.store.transact(&[write]).await.expect("written");
    let asked = world.sandbox.requests().len();
    let (code, answer) = world.call("POST", &format!("/instances/{two}/poll"), None).await;
    assert_eq!((code.as_u16(), world.sandbox.requests().len()), (500, asked), "{answer:#}");
}

#[tokio::test]
async fn keys_change_without_anybody_noticing() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("key.json");
    let open = || aws::vault::KeyFileVault::open(&file).expect("a key file");
    let world = SystemHarness::sealed("2026-01-05T09:00:00Z", 1, std::sync::Arc::new(open())).await;
    let (old, off) = (world.create(seed("square")).await, world.create(seed("icontact")).await);
    // As `pollux admin keys rotate` does, in a process of its own.
    open().rotate().expect("rotated");
    let new = world.create(seed("square")).await;
    let key_of = |id: u64, what: &str| {
        let stored = world.stored();
        let sealed = stored[&format!("INST#{id} META")][what].as_str().expect("a sealed text").to_owned();
        sealed.split('.').nth(1).expect("a key's id").to_owned()
    };
    assert_ne!(key_of(new, "secrets"), key_of(old, "secrets"), "the running service seals with the new key");
    assert_eq!(world.poll(old, "timesheets", false).await["outcome"], "committed", "and opens what the old one sealed");

    let ports = &world.service.ports;
    let done = flow::reseal::reseal(ports).await.expect("sealed again");
    // Secrets and a token each; the vendor's tokens of Square.
    assert_eq!((done.values, done.resealed, done.broken), (8, 5, 0));
    for id in [old, off] {
        assert_eq!(key_of(id, "secrets"), key_of(new, "secrets"));
        assert_eq!(key_of(id, "token"), key_of(new, "secrets"));
    }
    let again = flow::reseal::reseal(ports).await.expect("nothing to do");
    assert_eq!((again.values, again.resealed), (8, 0));
    // Without the old key everything still opens.
    let ring: Value = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("JSON");
    let newest = json!({ "keys": [ring["keys"][0]] });
    std::fs::write(&file, newest.to_string()).expect("written");
    let fresh = open();
    for (id, what) in [(old, "secrets"), (old, "token"), (off, "secrets"), (off, "token"), (new, "secrets")] {
        let sealed = world.stored()[&format!("INST#{id} META")][what].as_str().expect("a sealed text").to_owned();
        let opened = flow::ports::Vault::open(&fresh, &format!("INST#{id}"), &sealed).await;
        assert!(opened.is_ok(), "{what} of {id}: {opened:?}");
    }
    for (id, resource) in [(old, "timesheets"), (off, "contacts"), (new, "timesheets")] {
        assert_eq!(world.poll(id, resource, false).await["outcome"], "committed");
    }
}

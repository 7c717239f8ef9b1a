//! The table of a release: written once by that release, kept as a file, and read by every later release.
//!
//! The file is lines of JSON. The first line has the facts that a test needs to continue. Each further line is an item of
//! the table, with its attributes as DynamoDB holds them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Timelike as _;
use flow::accounts::NewOrganization;
use local::engine::{Engine, TABLE};
use local::inbox::Behaviour;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::ambient::Ambient as _;
use store::port::{Condition, Item, Key, Store, Write};

use crate::harness::{SystemHarness, id_of, seed};

/// The time at which the fixture starts.
pub const BEGINS: &str = "2026-01-05T09:00:00Z";

/// The facts about the table besides its items.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// The release that wrote it.
    pub release: String,
    /// Minutes from the beginning to the end.
    pub minutes: u32,
    /// The instance.
    pub instance: u64,
    /// A timecard with an event.
    #[serde(rename = "told")]
    pub emitted: String,
    /// Its revision.
    pub sequence: u64,
    /// The organization.
    pub organization: u64,
    /// Its user.
    pub user: u64,
    /// The user's secret.
    pub user_secret: String,
    /// The organization's secret.
    pub organization_secret: String,
    /// The `webhook-id` of the delivery that did not arrive.
    pub delivery: String,
    /// Its body, byte for byte.
    pub body: String,
    /// The vendor's records, which are no part of the table.
    pub timecards: Vec<Value>,
}

/// Runs the steps of the fixture with this release. Returns the text of the file.
///
/// # Panics
/// When a step has another result than expected.
pub async fn write() -> String {
    let world = SystemHarness::new(BEGINS).await;
    let card = |member: &str| {
        let made = world.sandbox.create("square", "timecards", json!({ "team_member_id": member }));
        id_of(&made.expect("a timecard"))
    };
    card("before");
    let instance = world.create(seed("square")).await;
    world.tick().await;
    let emitted = card("told");
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {emitted} #1")]);
    world.inbox.behave("main", Behaviour { status: 503, ..Behaviour::default() });
    card("refused");
    world.tick().await;
    let refused = world.inbox.received("main").last().cloned().expect("an attempt");
    assert_eq!(refused.status, 503);
    let made = &world.organization;
    let story = Story {
        release: env!("CARGO_PKG_VERSION").into(),
        minutes: 3,
        instance,
        emitted,
        sequence: 1,
        organization: made.organization.0,
        user: made.user.0,
        user_secret: made.user_secret.expose().to_owned(),
        organization_secret: made.organization_secret.expose().to_owned(),
        delivery: refused.delivery_id.clone().expect("an id"),
        body: refused.raw.clone(),
        timecards: world.sandbox.list("square", "timecards").expect("what the vendor has"),
    };
    assert_eq!(world.ambient.now().minute(), story.minutes);
    let mut text = format!("{}\n", serde_json::to_string(&story).expect("JSON"));
    // Through the production adapter, so that the attributes are those of the cloud's table.
    let engine = Engine::memory().await.expect("the engine starts");
    let puts: Vec<Write> = world.store.items().into_iter().map(unconditional).collect();
    for outcome in engine.store().write_each(&puts).await {
        outcome.expect("written");
    }
    let scanned = engine.client().scan().table_name(TABLE).send().await.expect("scanned");
    assert!(scanned.last_evaluated_key.is_none(), "the story is small");
    let mut lines: Vec<String> = scanned.items().iter().map(|item| raw_of(item).to_string()).collect();
    lines.sort();
    lines.iter().for_each(|line| writeln!(text, "{line}").expect("text grows"));
    engine.shutdown().await;
    text
}

/// Makes a system with the table of the file, right after the steps of the fixture. The callback works again.
///
/// # Panics
/// When an item cannot be read.
pub async fn read(text: &str) -> (SystemHarness, Story) {
    let mut lines = text.lines();
    let story: Story = serde_json::from_str(lines.next().expect("a story")).expect("what is known of it");
    let mut world = SystemHarness::new(BEGINS).await;
    let (before, after) = story.timecards.split_at(1);
    let card = |card: &Value| world.sandbox.create("square", "timecards", card.clone()).expect("a timecard");
    before.iter().map(card).for_each(drop);
    // The vendor gives out the tokens that it gave out then: its random numbers are those of the fixture.
    world.create(seed("square")).await;
    world.ambient.advance(Duration::from_secs(60 * u64::from(story.minutes)));
    after.iter().map(card).for_each(drop);

    let engine = Engine::memory().await.expect("the engine starts");
    let mut keys = Vec::new();
    for line in lines {
        let item = attributes_of(&serde_json::from_str(line).expect("JSON"));
        let text = |name: &str| item[name].as_s().expect("keys are texts").clone();
        keys.push(Key::new(text("pk"), text("sk")));
        engine.client().put_item().table_name(TABLE).set_item(Some(item)).send().await.expect("written");
    }
    let items = engine.store().get_many(&keys).await.expect("this release reads the attributes");
    assert_eq!(items.len(), keys.len());
    engine.shutdown().await;
    let gone = world.store.items().into_iter();
    let gone: Vec<Write> =
        gone.map(|item| Write::Delete { key: item.key, condition: Condition::Unconditional }).collect();
    let puts: Vec<Write> = items.into_iter().map(unconditional).collect();
    for writes in [gone, puts] {
        for outcome in world.store.write_each(&writes).await {
            outcome.expect("written");
        }
    }
    world.organization = NewOrganization {
        organization: domain::id::OrganizationId(story.organization),
        user: domain::id::UserId(story.user),
        user_secret: domain::secret::Secret::new(&story.user_secret),
        organization_secret: domain::secret::Secret::new(&story.organization_secret),
    };
    (world, story)
}

fn unconditional(item: Item) -> Write {
    Write::Put { item, condition: Condition::Unconditional }
}

/// An attribute in DynamoDB's own JSON: `{"S": …}`, `{"N": …}`, `{"B": …}`.
fn raw_of(item: &HashMap<String, AttributeValue>) -> Value {
    let attribute = |value: &AttributeValue| match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(blob) => json!({ "B": STANDARD.encode(blob) }),
        other => panic!("an item of ours has no {other:?}"),
    };
    Value::Object(item.iter().map(|(name, value)| (name.clone(), attribute(value))).collect::<Map<_, _>>())
}

fn attributes_of(raw: &Value) -> HashMap<String, AttributeValue> {
    let attribute = |value: &Value| {
        let text = |kind: &str| value[kind].as_str().map(str::to_owned);
        let blob = |text: String| AttributeValue::B(Blob::new(STANDARD.decode(text).expect("base64")));
        let value = text("S").map(AttributeValue::S).or(text("N").map(AttributeValue::N)).or(text("B").map(blob));
        value.expect("a text, a number or bytes")
    };
    raw.as_object().expect("an item").iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

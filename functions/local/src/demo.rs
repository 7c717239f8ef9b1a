//! `pollux demo`: the whole story in the terminal. Everything is real but the vendor: an instance made with the body
//! that the manual of Cloud Elements prints, a schedule that runs fast, signed events that arrive at a receiver.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use domain::configuration::keys;
use domain::problem::below;
use domain::secret::Secret;
use serde_json::{Map, Value, json};

use crate::cli::DemoArguments;
use crate::inbox::{Behaviour, Inbox, Receipt};
use crate::output::say;
use crate::sandbox::Sandbox;
use crate::system::{Options, System};

/// Name of the data set at the vendor and of the receiver.
const NAME: &str = "demo";

/// An event that has not come by now does not come.
const PATIENCE: Duration = Duration::from_secs(15);

/// The number of records at the vendor before anything is polled.
const RECORDS_BEFORE: usize = 9;

/// Between one change and the next: the dates of most vendors count whole seconds, and two changes within one second
/// look like one.
const BETWEEN_CHANGES: Duration = Duration::from_millis(1100);

/// The number of schedule minutes at the end in which nothing may arrive.
const QUIET_MINUTES: u32 = 4;

/// One element's story.
struct Story {
    element: &'static str,
    /// The manual's instance body.
    body: &'static str,
    /// Blanks of the body that do not take just any text.
    blanks: &'static [(&'static str, &'static str)],
    /// The polled resources that see the record of the story; others in the body are polled and stay silent.
    resources: &'static [&'static str],
    /// The vendor's collection of its records.
    collection: &'static str,
    /// Field of a record that names it in events.
    id: &'static str,
    /// Fields of a new record.
    created: &'static str,
    /// Fields that change in it.
    changed: &'static str,
    /// The way in which a deletion is found.
    deletion: Deletion,
}

/// The way in which a deletion at the vendor is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// The vendor lists it among its changes.
    Listed,
    /// Only by its absence from a complete listing, which the story asks for.
    Swept,
}

const STORIES: &[Story] = &[
    Story {
        element: "square",
        body: include_str!("../../../shared/domain/tests/seeds/square.json"),
        blanks: &[],
        resources: &["timesheets"],
        collection: "timecards",
        id: "id",
        created: r#"{"team_member_id": "TM1", "start_at": "2026-08-03T09:00:00-04:00"}"#,
        changed: r#"{"end_at": "2026-08-03T17:00:00-04:00", "status": "CLOSED"}"#,
        deletion: Deletion::Swept,
    },
    Story {
        element: "maximizer",
        body: include_str!("../../../shared/domain/tests/seeds/maximizer.json"),
        blanks: &[],
        resources: &["contacts", "addressbook-entries"],
        collection: "AbEntry",
        id: "Key",
        created: r#"{"Type": "Contact", "FirstName": "Ada", "LastName": "Ng"}"#,
        changed: r#"{"LastName": "Ng-Ortega"}"#,
        deletion: Deletion::Swept,
    },
    Story {
        element: "googlesuite",
        body: include_str!("../../../shared/domain/tests/seeds/googlesuite.json"),
        blanks: &[],
        // The manual's body lists the primary calendar twice, once by its name and once in a blank that means it.
        resources: &["calendars/primary/changed-events", "calendars/{calendarId}/changed-events"],
        collection: "events",
        id: "id",
        created: r#"{"summary": "Planning"}"#,
        changed: r#"{"summary": "Planning, moved"}"#,
        deletion: Deletion::Listed,
    },
    Story {
        element: "revel",
        body: include_str!("../../../shared/domain/tests/seeds/revel.json"),
        blanks: &[],
        resources: &["employees"],
        collection: "Employee",
        id: "id",
        created: r#"{"first_name": "Ada", "last_name": "Ng"}"#,
        changed: r#"{"last_name": "Ng-Ortega"}"#,
        deletion: Deletion::Swept,
    },
    Story {
        element: "icontact",
        body: include_str!("../../../shared/domain/tests/seeds/icontact.json"),
        blanks: &[("api.version", "2.2")],
        resources: &["contacts"],
        collection: "contacts",
        id: "contactId",
        created: r#"{"firstName": "Ada", "lastName": "Ng", "email": "ada@example.com"}"#,
        changed: r#"{"lastName": "Ng-Ortega"}"#,
        deletion: Deletion::Swept,
    },
];

/// Plays the story of an element. Fails unless every expected event arrived once, well signed, and nothing else did.
pub async fn run(arguments: DemoArguments) -> Result<()> {
    let Some(story) = STORIES.iter().find(|story| story.element == arguments.element) else {
        let known: Vec<&str> = STORIES.iter().map(|story| story.element).collect();
        bail!("there is no story of {:?}; there are {}", arguments.element, known.join(", "));
    };
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let options = Options {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data: folder.path().to_owned(),
        vendors: Vec::new(),
        elements: None,
        minute: arguments.minute,
        allow_private: true,
        sandbox: true,
    };
    let system = System::start(&options).await?;
    let played = Player::new(&system, story, arguments.minute)?.play().await;
    system.stop().await;
    played
}

/// A story that is being played.
struct Player<'a> {
    began: Instant,
    system: &'a System,
    story: &'a Story,
    minute: Duration,
    vendor: Sandbox,
    inbox: &'a Inbox,
    client: reqwest::Client,
    /// Callbacks seen so far.
    seen: u64,
    /// Ids of the events seen so far.
    events: Vec<String>,
}

impl<'a> Player<'a> {
    fn new(system: &'a System, story: &'a Story, minute: Duration) -> Result<Self> {
        Ok(Self {
            began: Instant::now(),
            system,
            story,
            minute,
            vendor: system.sandbox.as_ref().context("the demo has a sandbox")?.of(NAME),
            inbox: &system.inbox,
            client: reqwest::Client::new(),
            seen: 0,
            events: Vec::new(),
        })
    }

    fn line(&self, what: impl Display) {
        say(format_args!("{:7.2} s  {what}", self.began.elapsed().as_secs_f64()));
    }

    async fn play(mut self) -> Result<()> {
        let Story { element, collection, .. } = *self.story;
        say(format_args!("Pollux demo: {element}. A minute of the schedule lasts {} ms.\n", self.minute.as_millis()));
        self.line(format_args!("API, schedule, poller, sandbox vendor and receiver are up at {}", self.system.url));
        for _ in 0..RECORDS_BEFORE {
            self.vendor.create(element, collection, serde_json::from_str(self.story.created)?)?;
        }
        let there = self.vendor.list(element, collection)?.len();
        self.line(format_args!("vendor    {there} {collection} are there already"));
        let instance = self.create_instance().await?;

        tokio::time::sleep(BETWEEN_CHANGES).await;
        let record = self.vendor.create(element, collection, serde_json::from_str(self.story.created)?)?;
        let id = match &record[self.story.id] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        self.line(format_args!("vendor    {id} is created"));
        self.expect("CREATED", &id).await?;

        tokio::time::sleep(BETWEEN_CHANGES).await;
        self.vendor.update(element, collection, &id, serde_json::from_str(self.story.changed)?)?;
        self.line(format_args!("vendor    {id} is changed"));
        self.expect("UPDATED", &id).await?;

        tokio::time::sleep(BETWEEN_CHANGES).await;
        match self.story.deletion {
            Deletion::Listed => {
                self.vendor.delete(element, collection, &id)?;
                self.line(format_args!("vendor    {id} is deleted"));
            }
            Deletion::Swept => {
                self.vendor.destroy(element, collection, &id)?;
                self.line(format_args!("vendor    {id} is deleted"));
                let report = self.sweep(&instance).await?;
                self.line(format_args!(
                    "pollux    a complete listing of {} records lacks it, and a read by id confirms that",
                    report["records"]
                ));
            }
        }
        self.expect("DELETED", &id).await?;
        self.expect_silence().await?;
        self.sum_up()
    }

    /// Makes the instance with the manual's body, its blanks filled in.
    async fn create_instance(&self) -> Result<String> {
        let mut key = [0; 16];
        self.system.service.ports.ambient.fill_random(&mut key);
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        self.inbox.behave(NAME, Behaviour { signature_key: Some(Secret::new(key.clone())), ..Behaviour::default() });
        let mut body: Value = serde_json::from_str(self.story.body).context("the manual's body")?;
        let callback = format!("{}/inbox/{NAME}", self.system.url);
        if let Some(provider) = body["providerData"].as_object_mut() {
            fill_blanks(provider, &format!("sandbox-code-{NAME}"));
        }
        let configuration = body["configuration"].as_object_mut().context("the manual's body has a configuration")?;
        for (name, with) in self.story.blanks {
            configuration.insert((*name).into(), json!(with));
        }
        fill_blanks(configuration, NAME);
        configuration.insert(keys::CALLBACK_URL.into(), json!(callback));
        configuration.insert(keys::SIGNATURE_KEY.into(), json!(key));
        configuration.insert(keys::REFRESH_INTERVAL.into(), json!("1"));
        body["name"] = json!("Demo");
        body["tags"] = json!(["demo"]);
        let made = self.call("instances", &body).await?;
        let id = made["id"].to_string();
        self.line(format_args!(
            "API       instance {id} is made, with the body that the manual prints; its first poll"
        ));
        self.line("          remembers what is there and emits nothing");
        let resources = below("configuration", keys::POLLER_CONFIGURATION);
        for warning in made["warnings"].as_array().into_iter().flatten() {
            let word = |name: &str| warning[name].as_str().unwrap_or_default();
            let field = word("field");
            let field = field.strip_prefix(&resources).unwrap_or(field).trim_start_matches('.');
            self.line(format_args!("          warning  {field}: {}", word("message")));
        }
        Ok(id)
    }

    /// Has everything listed. On a busy machine the schedule's polls, which are shorter, may commit first each time
    /// and have this one thrown away; then it is asked for again.
    async fn sweep(&self, instance: &str) -> Result<Value> {
        let since = Instant::now();
        loop {
            let report = self.call(&format!("instances/{instance}/poll?sweep=true"), &Value::Null).await?;
            match report["outcome"].as_str() {
                Some("committed") => return Ok(report),
                Some("outrunByAnother") if since.elapsed() < PATIENCE => {}
                _ => bail!("the complete listing failed: {report}"),
            }
        }
    }

    /// Calls the API as a customer would.
    async fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(format!("{}/elements/api-v2/{path}", self.system.url));
        let request = request.header("Authorization", self.system.credentials.authorization());
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        let response = request.send().await.with_context(|| format!("POST {path}"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("POST {path}"))?;
        ensure!(status.is_success(), "POST {path} was answered {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("POST {path} was not answered with JSON"))
    }

    /// Waits for one event of each resource that sees the record, and for nothing but that.
    async fn expect(&mut self, event_type: &str, id: &str) -> Result<()> {
        let since = Instant::now();
        let resources = self.story.resources;
        let mut missing: Vec<&str> = resources.to_vec();
        while !missing.is_empty() {
            let receipts = self.inbox.wait_for(NAME, self.seen + 1, PATIENCE).await;
            let receipts = receipts.with_context(|| format!("{event_type} {id} did not arrive"))?;
            let fresh: Vec<_> = receipts.iter().filter(|receipt| receipt.number > self.seen).cloned().collect();
            for receipt in fresh {
                self.seen = receipt.number;
                let notification = receipt.json();
                let events = notification["message"]["events"].as_array().cloned().unwrap_or_default();
                let [event] = &events[..] else {
                    bail!("a notification of {} events came: {}", events.len(), receipt.raw)
                };
                let text = |name: &str| event[name].as_str().unwrap_or("?");
                let (kind, object, resource) = (text("eventType"), text("objectId"), text("objectType"));
                let place = missing.iter().position(|missing| *missing == resource);
                let expected = place.filter(|_| (kind, object) == (event_type, id));
                let place = expected.with_context(|| {
                    format!(
                        "{kind} {object} of {resource} came where {event_type} {id} of {} was expected",
                        missing.join(", ")
                    )
                })?;
                missing.remove(place);
                ensure!(!self.events.iter().any(|seen| seen == text("id")), "event {} came twice", text("id"));
                self.events.push(text("id").to_owned());
                well_signed(&receipt)?;
                self.line(format_args!(
                    "callback  {kind} {object} of {resource}, {} ms later, both signatures right",
                    since.elapsed().as_millis()
                ));
            }
        }
        Ok(())
    }

    /// Lets the schedule run on and checks that nothing else is emitted.
    async fn expect_silence(&self) -> Result<()> {
        let quiet = (self.minute * QUIET_MINUTES).clamp(Duration::from_secs(1), PATIENCE);
        if let Ok(receipts) = self.inbox.wait_for(NAME, self.seen + 1, quiet).await {
            let surplus = receipts.last().map(|receipt| receipt.raw.clone()).unwrap_or_default();
            bail!("something arrived that was not expected: {surplus}");
        }
        self.line(format_args!("          {:.1} s more of polling, and nothing else is emitted", quiet.as_secs_f64()));
        Ok(())
    }

    fn sum_up(&self) -> Result<()> {
        let counters = self.inbox.counters(NAME);
        let expected = self.events.len() as u64;
        ensure!(
            (counters.received, counters.events, counters.duplicates) == (expected, expected, 0),
            "{} callbacks with {} events arrived, {} of them duplicates; {expected} were expected",
            counters.received,
            counters.events,
            counters.duplicates
        );
        let requests = self.vendor.request_count(self.story.element)?;
        say(format_args!(
            "\n{expected} of {expected} events arrived, each exactly once. The vendor answered {requests} requests."
        ));
        Ok(())
    }
}

fn well_signed(receipt: &Receipt) -> Result<()> {
    ensure!(receipt.verified.elements == Some(true), "Elements-Webhook-Signature is missing or wrong");
    ensure!(receipt.verified.standard == Some(true), "webhook-signature is missing or wrong");
    Ok(())
}

/// The manual writes `<…>` where the user has something to fill in.
fn fill_blanks(fields: &mut Map<String, Value>, with: &str) {
    for value in fields.values_mut() {
        if value.as_str().is_some_and(|text| text.starts_with('<')) {
            *value = json!(with);
        }
    }
}

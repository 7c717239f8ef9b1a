//! Every recorded exchange of every element, replayed: the request that is built is the one that was recorded, and what
//! is read from the answer is what the snapshot shows.
//!
//! `UPDATE_EXCHANGES=1` writes the requests again, `INSTA_UPDATE=always` the snapshots; both are then reviewed as a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::ResourceConfiguration;
use domain::record::Record;
use domain::secret::Secret;
use elements::call::CallContext;
use elements::listing::{Cursor, Listing, RecordPage, RecordProblem, ScanMode};
use elements::single;
use elements::{Bases, Catalog, Connection, Element, Plan, Tokens};
use http::{Request, Response};
use local::system::{Options, System};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

/// A file of `shared/elements/<key>/exchanges`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// The purpose of the exchange.
    about: String,
    /// The name of the configured entry.
    resource: String,
    /// The instance's configuration.
    account: Map<String, Value>,
    /// The entry of `event.poller.configuration`.
    #[serde(default)]
    entry: Map<String, Value>,
    pass: ScanMode,
    cursor: Cursor,
    /// The cursor less the overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lower: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    partition: String,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// `list`, `check N`, `hydrate ID` of a record of the last page, or `confirm ID`.
    call: String,
    #[serde(default)]
    request: Value,
    response: Recorded,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    body: Value,
}

fn exchanges() -> anyhow::Result<Vec<PathBuf>> {
    let elements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/elements");
    let mut files = Vec::new();
    for element in Catalog::embedded().iter() {
        let folder = elements.join(&element.key).join("exchanges");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("{} has no exchanges", element.key))?;
        for entry in entries {
            files.push(entry?.path());
        }
    }
    files.sort();
    Ok(files)
}

/// A request as it is compared and recorded. Headers are left out: secrets are in them.
fn shown(request: &Request<Bytes>) -> anyhow::Result<Value> {
    let url = Url::parse(&request.uri().to_string())?;
    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in url.query_pairs() {
        query.entry(name.into_owned()).or_default().push(value.into_owned());
    }
    let mut shown = Map::new();
    shown.insert("method".to_owned(), request.method().as_str().into());
    shown.insert("url".to_owned(), format!("{}{}", url.origin().ascii_serialization(), url.path()).into());
    if !query.is_empty() {
        shown.insert("query".to_owned(), serde_json::to_value(query)?);
    }
    if !request.body().is_empty() {
        shown.insert("body".to_owned(), serde_json::from_slice(request.body())?);
    }
    Ok(Value::Object(shown))
}

fn answer(recorded: &Recorded) -> anyhow::Result<Response<Bytes>> {
    let body = match &recorded.body {
        Value::String(text) => text.clone(),
        json => json.to_string(),
    };
    let mut response = Response::builder().status(recorded.status);
    for (name, value) in &recorded.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Bytes::from(body))?)
}

fn describe(into: &mut String, record: &Record) -> anyhow::Result<()> {
    let stamp = |stamp: Option<DateTime<Utc>>| stamp.map_or("-".to_owned(), |stamp| stamp.to_rfc3339());
    writeln!(
        into,
        "  {:?} {}{}{} updated {} created {}\n    {}",
        record.listed_as,
        record.partition,
        if record.partition.is_empty() { "" } else { " / " },
        record.id,
        stamp(record.updated),
        stamp(record.created),
        std::str::from_utf8(&record.raw)?
    )?;
    Ok(())
}

/// Writes the records and the problems of a page.
fn describe_page(read: &mut String, page: &RecordPage) -> anyhow::Result<()> {
    page.records.iter().try_for_each(|record| describe(read, record))?;
    for RecordProblem { what, sample, pointer } in &page.problems {
        writeln!(read, "  problem: {what}: {sample} at {pointer}")?;
    }
    writeln!(read, "  done {} total {:?}", page.done, page.reported_total)?;
    Ok(())
}

/// The tokens of an element that needs a login.
fn tokens(element: &Element, connection: &Connection) -> Option<Tokens> {
    elements::auth::needs_tokens(element, connection).then(|| Tokens {
        access: Secret::new("AT1"),
        refresh: None,
        expires_at: None,
        extra: BTreeMap::new(),
    })
}

fn replay(file: &Path) -> anyhow::Result<String> {
    let mut exchange: Exchange = serde_json::from_slice(&std::fs::read(file)?)?;
    let key = file.components().rev().nth(2).and_then(|part| part.as_os_str().to_str()).context("a folder")?;
    let catalog = Catalog::embedded();
    let element = catalog.get(key).context("an element")?;
    let refused = |problems: Vec<domain::problem::FieldProblem>| anyhow!("{problems:?}");
    let (mut connection, _) = Connection::resolve(element, &exchange.account, &Map::new()).map_err(refused)?;
    let (entry, _) = ResourceConfiguration::parse(&exchange.entry, "entry").map_err(refused)?;
    let (plan, warnings) = Plan::resolve(element, &exchange.resource, &entry, &exchange.account).map_err(refused)?;
    let tokens = tokens(element, &connection);
    let (bases, now) = (Bases::default(), "2026-08-20T12:00:00Z".parse()?);
    let mut listing = Listing::start(&plan, exchange.pass, &exchange.cursor, exchange.lower, &exchange.partition, now);
    let mut read = String::new();
    writeln!(read, "{}", exchange.about)?;
    for warning in warnings {
        writeln!(read, "warning {warning}")?;
    }
    let mut last: Vec<Record> = Vec::new();
    for (at, step) in exchange.steps.iter_mut().enumerate() {
        let known = connection.clone();
        let caller = CallContext { element, connection: &known, bases: &bases, tokens: tokens.as_ref() };
        let response = answer(&step.response)?;
        let (word, argument) = step.call.split_once(' ').unwrap_or((&step.call, ""));
        writeln!(read, "{}", step.call)?;
        let request = match word {
            "list" => {
                // Every page could be the last one before the process ends.
                listing = Listing::resume(&listing.save()).context("what was saved can be resumed")?;
                let request = listing.request(&plan, &caller)?;
                match listing.read(&plan, &caller, &response) {
                    Ok(page) => {
                        describe_page(&mut read, &page)?;
                        last = page.records;
                    }
                    Err(fault) => writeln!(read, "  {fault:?}")?,
                }
                request
            }
            "check" => {
                let check = &element.check[argument.parse::<usize>()?];
                let request = single::check_request(check, &caller)?.context("something to ask")?;
                let learned = single::checked(check, &caller, &response);
                match &learned {
                    Ok(learned) => writeln!(read, "  {learned:?}")?,
                    Err(fault) => writeln!(read, "  {fault:?}")?,
                }
                connection = learned.unwrap_or(connection);
                request
            }
            "hydrate" => {
                let record = last.iter().find(|record| record.id == argument).context("a record of the page")?;
                let request = single::hydrate_request(&plan, &caller, record)?.context("something to read")?;
                match single::hydrated(&plan, &caller, record, &response) {
                    Ok(single::Hydrated::Record(record)) => describe(&mut read, &record)?,
                    other => writeln!(read, "  {other:?}")?,
                }
                request
            }
            "confirm" => {
                let request = single::confirm_request(&plan, &caller, argument, &exchange.partition)?;
                writeln!(read, "  {:?}", single::confirmed(&plan, &caller, &response))?;
                request.context("something to ask")?
            }
            other => anyhow::bail!("no call is named {other}"),
        };
        let built = shown(&request)?;
        if std::env::var_os("UPDATE_EXCHANGES").is_some() {
            step.request = built;
        } else {
            anyhow::ensure!(built == step.request, "step {at}: built {built:#}, recorded {:#}", step.request);
        }
    }
    if exchange.steps.iter().any(|step| step.call == "list") {
        writeln!(read, "{:?}", listing.finish(&plan))?;
    }
    if std::env::var_os("UPDATE_EXCHANGES").is_some() {
        std::fs::write(file, format!("{}\n", serde_json::to_string_pretty(&exchange)?))?;
    }
    Ok(read)
}

#[test]
fn exchanges_are_replayed() -> anyhow::Result<()> {
    let files = exchanges()?;
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let read = replay(&file).with_context(|| file.display().to_string())?;
        let key = file.components().rev().nth(2).and_then(|part| part.as_os_str().to_str()).context("a folder")?;
        let stem = file.file_stem().and_then(|stem| stem.to_str()).context("a name")?;
        insta::assert_snapshot!(format!("{key}_{stem}"), read);
    }
    Ok(())
}

// ---------------------------------------------------------------- An element of one's own

/// The element file that the manual shows, with another address.
fn books(address: &str) -> String {
    let manual = include_str!("../../docs/elements.md");
    let file =
        manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a file in the manual");
    file.replace("https://api.books.example", address)
}

/// A vendor with three loans on three pages, and a fourth that is there from the second reading on.
async fn serve_books() -> String {
    use axum::extract::{Query, State};
    use axum::routing::get;
    type Readings = Arc<std::sync::atomic::AtomicUsize>;
    let loans = async |State(readings): State<Readings>,
                       Query(query): Query<std::collections::BTreeMap<String, String>>,
                       headers: http::HeaderMap| {
        assert_eq!(headers["x-api-key"], "k");
        let page: usize = query.get("after").map_or(0, |after| after.parse().expect("our own token"));
        let reading = match page {
            0 => readings.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
            _ => readings.load(std::sync::atomic::Ordering::SeqCst) - 1,
        };
        let last = if reading == 0 { 2 } else { 3 };
        let stamp = format!("2026-01-05T09:0{page}:00Z");
        let loan = json!({"id": format!("L{page}"), "created": stamp, "updated": stamp, "card": "4711"});
        let next = (page < last).then(|| (page + 1).to_string());
        axum::Json(json!({"loans": [loan], "next": next}))
    };
    let router = axum::Router::new()
        .route("/me", get(async || axum::Json(json!({"name": "Ada"}))))
        .route("/loans", get(loans))
        .with_state(Readings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

struct Own {
    system: System,
    _folder: tempfile::TempDir,
}

impl Own {
    /// The local system with this element file beside its own.
    async fn start(file: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let elements = folder.path().join("elements");
        std::fs::create_dir_all(elements.join("books"))?;
        std::fs::write(elements.join("books/element.toml"), file)?;
        let options = Options {
            address: "127.0.0.1:0".parse()?,
            data: folder.path().join("data"),
            vendors: Vec::new(),
            elements: Some(elements),
            minute: std::time::Duration::from_secs(3600),
            allow_private: true,
            sandbox: false,
        };
        Ok(Self { system: System::start(&options).await?, _folder: folder })
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = reqwest::Client::new().post(format!("{}/elements/api-v2/{path}", self.system.url));
        let request = request.header("authorization", self.system.credentials.authorization());
        let request = request.header("content-type", "application/json").body(body.to_string());
        Ok(serde_json::from_str(&request.send().await?.error_for_status()?.text().await?)?)
    }

    async fn instance(&self) -> anyhow::Result<Value> {
        let configuration = json!({
            "api.key": "k",
            "event.notification.enabled": true,
            "event.notification.callback.url": format!("{}/inbox/books", self.system.url),
            "event.poller.refresh_interval": "1",
            "event.poller.configuration": {"loans": {}},
        });
        self.post("instances", json!({"element": {"key": "books"}, "name": "b", "configuration": configuration})).await
    }
}

#[tokio::test]
async fn an_element_of_ones_own_is_a_file_in_a_directory() -> anyhow::Result<()> {
    let own = Own::start(&books(&serve_books().await)).await?;
    let made = own.instance().await?;
    let report = own.post(&format!("instances/{}/poll", made["id"]), Value::Null).await?;
    assert_eq!((&report["records"], &report["created"]), (&json!(4), &json!(1)), "{report:#}");
    let receipts = own.system.inbox.wait_for("books", 1, std::time::Duration::from_secs(15)).await?;
    let event = &receipts[0].json()["message"]["events"][0];
    assert_eq!((&event["eventType"], &event["objectId"]), (&json!("CREATED"), &json!("L3")), "{event:#}");
    let raw = &receipts[0].json()["message"]["raw"];
    assert_eq!(raw["loans"][0]["card"], "********", "what the file redacts stays away: {raw:#}");
    own.system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_poll_that_spends_the_budget_saves_its_place_and_says_so() -> anyhow::Result<()> {
    // One call proves the login, two read pages.
    let file = books(&serve_books().await).replace("calls = 60, per = \"1m\"", "calls = 2, per = \"1h\"");
    let own = Own::start(&file).await?;
    let made = own.instance().await?;
    let path = format!("instances/{}/poll", made["id"]);
    let report = own.post(&path, Value::Null).await?;
    let said = report["problems"][0]["what"].as_str().unwrap_or_default();
    assert!(said.contains("budget of calls"), "{report:#}");
    own.system.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_bad_file_ends_the_start_with_its_place_and_the_nearest_word() {
    let bad = books("https://api.books.example").replace("kind = \"filter\"", "kind = \"filtr\"");
    let line = bad.lines().position(|line| line.contains("filtr")).expect("the line") + 1;
    let Err(error) = Own::start(&bad).await else { panic!("it started") };
    let said = format!("{error:#}");
    assert!(said.contains(&format!("element.toml:{line}")) && said.contains("the nearest is `filter`"), "{said}");
}

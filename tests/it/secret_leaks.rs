//! A search for leaked secrets. Marked secrets go through everything that happens to an instance. Then every item of the
//! table, log line, queue message, answer and printed value is searched for them in every form.
//!
//! Few places may hold a secret, and this file names each: the answer that shows a new secret, an instance's own token,
//! and the callback's URL where it must be known.

mod marks;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::vault::KeyFileVault;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::configuration::EventSettings;
use domain::id::InstanceId;
use domain::secret::Secret;
use elements::Tokens;
use flow::accounts::{NewOrganization, Renewal, create_organization};
use flow::instances::{self, InstanceBody};
use flow::ports::QueueName;
use flow::testing::Page;
use flow::vendor::{secrets, tokens};
use local::inbox::Behaviour;
use local::sandbox::Expire;
use serde_json::{Value, json};
use store::records::instance::InstanceRecord;
use store::records::tokens::TokensRecord;
use tests::harness::{SystemHarness, answer, seed};

use self::marks::{Mark, views};

// ---------------------------------------------------------------- The search

/// The system under test, the marked secrets, and the results of the search.
struct LeakHunt {
    world: SystemHarness,
    /// The folder of the vault's key. It is removed when this is dropped.
    _directory: tempfile::TempDir,
    log: Page,
    organization: NewOrganization,
    /// The instances of Square and of iContact.
    instances: [u64; 2],
    /// The headers of the quoted requests, as `Debug` prints them.
    sent_headers: Arc<Mutex<String>>,
    marks: Vec<Mark>,
    /// The leaks: secret and place.
    leaks: BTreeSet<String>,
    searched: usize,
    /// The bytes that were already searched, with the number of marks at that time.
    known: HashSet<(usize, String, Vec<u8>)>,
    /// The marks that were found where they may be. A search that finds none of them looks at the wrong thing.
    seen: BTreeSet<String>,
}

impl LeakHunt {
    fn mark(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 8, "{name} is too short to search for");
        self.marks.push(Mark::new(name, secret));
    }

    /// Searches for every mark. The marks named in `may` are allowed.
    fn search(&mut self, place: &str, bytes: &[u8], may: &[&str]) {
        if !self.known.insert((self.marks.len(), place.to_owned(), bytes.to_vec())) {
            return;
        }
        self.searched += 1;
        let views = views(bytes);
        for mark in &self.marks {
            if views.iter().any(|view| mark.is_in(view)) {
                if may.contains(&mark.name.as_str()) {
                    self.seen.insert(mark.name.clone());
                } else {
                    self.leaks.insert(format!("{} in {place}", mark.name));
                }
            }
        }
    }

    /// Calls the API and searches the answer. An answer about instances may show their tokens and callback URLs.
    async fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, headers, answer) = self.world.call_through(None, method, path, body).await;
        let mut hidden = answer.clone();
        without_callback_urls(&mut hidden);
        let place = format!("the answer of {method} {path}");
        self.search(&place, hidden.to_string().as_bytes(), &["instance token"]);
        self.search(&place, answer.to_string().as_bytes(), &["instance token", "query of the callback"]);
        for (name, value) in &headers {
            self.search(&format!("{place}, {name}"), value.as_bytes(), &[]);
        }
        self.search_stored();
        (status.as_u16(), answer)
    }

    /// Searches the table and the queues.
    fn search_stored(&mut self) {
        for item in self.world.store.items() {
            let name = format!("{}/{}", item.key.pk, item.key.sk);
            self.search(&format!("the key {name}"), name.as_bytes(), &[]);
            // The instance and each delivery hold the callback's URL.
            let knows = item.key.sk == "META" || item.key.sk.starts_with("DLV#");
            let may: &[&str] = if knows { &["query of the callback"] } else { &[] };
            self.search(&format!("the item {name}"), &item.body, may);
        }
        for queue in [QueueName::Polls, QueueName::Deliveries] {
            for (_, message) in self.world.queue.waiting(queue) {
                self.search(&format!("a message of {queue:?}"), message.body.as_bytes(), &[]);
                self.search(&format!("a group of {queue:?}"), message.group.as_bytes(), &[]);
            }
        }
    }

    /// Searches a value as `Debug` prints it.
    fn search_printed(&mut self, what: &str, text: &str) {
        self.search(&format!("the printed {what}"), text.as_bytes(), &["query of the callback"]);
    }

    /// Marks the current tokens of an instance and searches the printed values that hold them.
    async fn mark_tokens(&mut self, instance: u64, round: &str) {
        let service = self.world.service.clone();
        let id = InstanceId(instance);
        let record: InstanceRecord = store::codec::read(
            &service.ports.store.get(&store::keys::instance_key(id)).await.expect("read").expect("an item"),
        )
        .expect("an instance");
        let token = instances::token(&service, &record).await.expect("opened");
        self.marks.push(Mark::new("instance token", token.expose()));
        self.search_printed("instance", &format!("{record:?}{record:#?}"));
        let element = service.catalog.get(&record.element).expect("an element").clone();
        let (connection, _) = secrets::connection(&service, &element, &record).await.expect("a connection");
        self.search_printed("connection", &format!("{connection:?}"));
        self.search_printed("secrets", &format!("{:?}", secrets::open(&service, &record).await.expect("opened")));
        if let Some(item) = service.ports.store.get(&store::keys::tokens_key(id)).await.expect("read") {
            let stored: TokensRecord = store::codec::read(&item).expect("tokens");
            let opened: Tokens = tokens::open(&service, id, &stored).await.expect("opened");
            self.mark(&format!("access token {round}"), opened.access.expose());
            if let Some(refresh) = &opened.refresh {
                self.mark(&format!("refresh token {round}"), refresh.expose());
            }
            self.search_printed("tokens", &format!("{opened:?}{stored:?}"));
        }
    }
}

/// Removes the values of the keys that show a callback's URL.
fn without_callback_urls(value: &mut Value) {
    const SHOWING: [&str; 4] =
        ["event.notification.callback.url", "eventsNotificationCallbackUrl", "callbackUrl", "config"];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !SHOWING.contains(&key.as_str()));
            if members.get("propertyValue").is_some() && members["key"] == SHOWING[0] {
                members.remove("propertyValue");
            }
            members.values_mut().for_each(without_callback_urls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_callback_urls),
        _ => {}
    }
}

const API_KEY: &str = "mark/api+key=0001";
const API_SECRET: &str = "mark\"api\\secret/0002+&=";
const PASSWORD: &str = "mark/vendor-password+0003";
const SIGNATURE: &str = "whsec_bWFyay1zaWduYXR1cmUta2V5LTAwMDQtbWFyaw==";
const HEADER: &str = "mark/header-value+0005";
const BASIC: &str = "mark:basic/password+0006";
const QUERY: &str = "mark-callback-query-0007";
const CODE: &str = "sandbox-code-mark-account-0008";
const HELD_REFRESH: &str = "mark/held-refresh-token+0009";
const VERIFIER: &str = "mark-code-verifier-0010-mark-code-verifier-0010";

/// A seed body with a marked secret in every secret field.
fn marked(element: &str) -> Value {
    let mut body = seed(element);
    let configuration = &mut body["configuration"];
    for (key, value) in [
        ("event.notification.callback.url", format!("http://pollux.test/inbox/main?signature={QUERY}&plain=1")),
        ("event.notification.signature.key", SIGNATURE.to_owned()),
        ("event.notification.callback.headers", format!("X-Api-Key: {HEADER}")),
        ("event.notification.basic.username", "receiver".to_owned()),
        ("event.notification.basic.password", BASIC.to_owned()),
    ] {
        configuration[key] = json!(value);
    }
    if element == "square" {
        configuration["oauth.api.key"] = json!(API_KEY);
        configuration["oauth.api.secret"] = json!(API_SECRET);
        body["providerData"] = json!({ "code": CODE, "code_verifier": VERIFIER });
    } else {
        configuration["api.password"] = json!(PASSWORD);
    }
    body
}

/// Answers every request with an error that quotes the request.
fn quoting(status: u16) -> impl FnMut(&http::Request<Bytes>) -> Option<http::Response<Bytes>> + Send + 'static {
    let mut asked = 0;
    move |request| {
        let headers: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let all = format!("{}, {}", headers.join(", "), String::from_utf8_lossy(request.body()));
        // Messages are cut: each time the quote starts elsewhere.
        let from = all.char_indices().nth(asked * 37 % all.chars().count()).map_or(0, |(place, _)| place);
        asked += 1;
        let said = &all[from..];
        Some(answer(
            status,
            &json!({ "error": "invalid_request", "error_description": said, "message": said,
                     "errors": [{ "code": said, "detail": said }] }),
        ))
    }
}

// ---------------------------------------------------------------- The steps

impl LeakHunt {
    /// Starts the system with a vault of its own, and marks the secrets that exist already.
    async fn start(log: Page) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key_file = directory.path().join("key.json");
        let vault = KeyFileVault::open(&key_file).expect("a key file");
        let world = SystemHarness::sealed("2026-01-05T09:00:00Z", 1, Arc::new(vault)).await;
        world.inbox.behave("main", Behaviour { signature_key: Some(Secret::new(SIGNATURE)), ..Behaviour::default() });
        let organization = world.organization.clone();
        let mut hunt = Self {
            world,
            _directory: directory,
            log,
            organization: organization.clone(),
            instances: [0, 0],
            sent_headers: Arc::default(),
            marks: Vec::new(),
            leaks: BTreeSet::new(),
            searched: 0,
            known: HashSet::new(),
            seen: BTreeSet::new(),
        };
        let keys: Value = serde_json::from_slice(&std::fs::read(&key_file).expect("readable")).expect("JSON");
        for (name, secret) in [
            ("key of the vault", keys["keys"][0]["key"].as_str().expect("a key")),
            ("user secret", organization.user_secret.expose()),
            ("organization secret", organization.organization_secret.expose()),
            ("application key", API_KEY),
            ("application secret", API_SECRET),
            ("vendor password", PASSWORD),
            ("signature key", SIGNATURE),
            ("callback header", HEADER),
            ("callback password", BASIC),
            ("callback password as sent", &STANDARD.encode(format!("receiver:{BASIC}"))),
            ("query of the callback", QUERY),
            ("code", CODE),
            ("given refresh token", HELD_REFRESH),
            ("code verifier", VERIFIER),
        ] {
            hunt.mark(name, secret);
        }
        hunt.search_printed("organization", &format!("{organization:?}"));
        hunt
    }

    /// Reads a body with secrets, as the API does, and prints the result.
    fn read_body(&mut self) {
        let body = InstanceBody::read(&marked("square")).expect("a body");
        self.search_printed("body", &format!("{body:?}"));
        let (settings, warnings) =
            EventSettings::parse(marked("square")["configuration"].as_object().expect("an object")).expect("settings");
        self.search_printed("settings", &format!("{settings:?}{warnings:?}"));
    }

    /// Creates one instance by an authorization code and one by a password.
    async fn create_instances(&mut self) {
        for (place, element) in ["square", "icontact"].into_iter().enumerate() {
            let (status, made) = self.call("POST", "/instances", Some(marked(element))).await;
            assert_eq!(status, 200, "{made:#}");
            let instance = made["id"].as_u64().expect("an id");
            self.mark_tokens(instance, &format!("of {element}")).await;
            self.search_stored();
            self.instances[place] = instance;
        }
    }

    /// Delivers a change to a callback that first fails and quotes the request, and then works.
    async fn deliver_to_a_quoting_callback(&mut self) {
        let account = self.world.sandbox.of("mark-account-0008");
        account.create("square", "timecards", json!({ "team_member_id": "TM1" })).expect("a record");
        self.world.sandbox.create("icontact", "contacts", json!({ "email": "ada@example.com" })).expect("a record");
        self.world.ambient.advance(Duration::from_secs(60));
        for instance in self.instances {
            let (status, report) = self.call("POST", &format!("/instances/{instance}/poll"), None).await;
            assert_eq!((status, &report["created"]), (200, &json!(1)), "{report:#}");
        }
        let quoted = self.quote_requests(500);
        self.search_stored();
        self.world.drain().await;
        self.search_stored();
        assert!(*quoted.lock().expect("unpoisoned") >= 2, "both callbacks were tried");
        for instance in self.instances {
            let (_, deliveries) = self.call("GET", &format!("/instances/{instance}/deliveries"), None).await;
            assert_eq!(deliveries[0]["attempts"][0]["status"], 500, "{deliveries:#}");
            assert!(deliveries[0]["attempts"][0]["response"].to_string().contains("********"), "{deliveries:#}");
        }
        self.world.stop_intercepting();
        self.world.advance(Duration::from_secs(30 * 60)).await;
        assert!(!self.world.callbacks().is_empty(), "the callback has them now");
    }

    /// Answers every request with this status and a quote of the request. Returns the count of the requests.
    fn quote_requests(&self, status: u16) -> Arc<Mutex<u32>> {
        let (count, headers, mut quote) = (Arc::default(), Arc::clone(&self.sent_headers), quoting(status));
        let counted: Arc<Mutex<u32>> = Arc::clone(&count);
        self.world.intercept(move |request| {
            *counted.lock().expect("unpoisoned") += 1;
            *headers.lock().expect("unpoisoned") += &format!("{:?}", request.headers());
            quote(request)
        });
        count
    }

    /// Lets the access tokens expire, and polls with the renewed ones.
    async fn renew_tokens(&mut self) {
        self.world.sandbox.of("mark-account-0008").expire("square", Expire::Tokens).expect("the vendor");
        let [square, _] = self.instances;
        let (status, _) = self.call("POST", &format!("/instances/{square}/poll"), None).await;
        assert_eq!(status, 200);
        self.mark_tokens(square, "renewed").await;
    }

    /// Calls vendors that refuse each request and quote it: polls, rehearsals, logins and changes.
    async fn call_quoting_vendors(&mut self) {
        for status in [400, 401, 403, 429, 500, 400, 401] {
            self.quote_requests(status);
            for instance in self.instances {
                self.call_each_route_to_the_vendor(instance).await;
            }
            for element in ["square", "icontact"] {
                let (answered, said) = self.call("POST", "/instances", Some(marked(element))).await;
                assert!((400..=502).contains(&answered), "{said:#}");
                let mut held = marked(element);
                held["externalAuthentication"] = json!("initial");
                held["configuration"]["oauth.user.refresh_token"] = json!(HELD_REFRESH);
                self.call("POST", "/instances", Some(held.clone())).await;
                self.call("POST", "/instances/rehearse", Some(held)).await;
            }
            self.world.ambient.advance(Duration::from_secs(48 * 3600));
        }
        let headers = self.sent_headers.lock().expect("unpoisoned").clone();
        self.search_printed("headers of requests", &headers);
    }

    async fn call_each_route_to_the_vendor(&mut self, instance: u64) {
        let of_it = format!("/instances/{instance}");
        let secrets = json!({ "configuration": { "api.password": PASSWORD, "oauth.api.secret": API_SECRET } });
        for (method, path, body) in [
            ("POST", format!("{of_it}/poll"), None),
            ("POST", format!("{of_it}/rehearse"), Some(json!({}))),
            ("GET", format!("{of_it}/coverage"), None),
            ("GET", format!("{of_it}/event-poller-records"), None),
            ("GET", of_it.clone(), None),
            ("PUT", of_it.clone(), Some(json!({ "providerData": { "code": CODE } }))),
            ("PATCH", of_it.clone(), Some(secrets)),
        ] {
            let (answered, said) = self.call(method, &path, body).await;
            assert_ne!(answered, 500, "{said:#}");
        }
    }

    /// Calls a vendor that quotes, through an instance's own token.
    async fn call_hubs(&mut self) {
        for instance in self.instances {
            let (_, shown) = self.call("GET", &format!("/instances/{instance}"), None).await;
            let token = shown["token"].as_str().expect("a token").to_owned();
            for path in
                ["/ping", "/hubs/employee/timesheets", "/hubs/general/contacts", "/objects", "/instances/events"]
            {
                let (_, _, said) = self.world.call_through(Some(&token), "GET", path, None).await;
                let mut hidden = said.clone();
                without_callback_urls(&mut hidden);
                self.search(&format!("the answer of GET {path}"), hidden.to_string().as_bytes(), &[]);
            }
        }
        self.world.stop_intercepting();
    }

    /// Reads everything that the API shows.
    async fn read_everything(&mut self) {
        for instance in self.instances {
            self.read_instance(instance).await;
        }
        for path in [
            "/instances",
            "/instances?hydrate=true",
            "/instances?hydrate=false",
            "/instances/events",
            "/notifications/subscriptions",
            "/notifications/subscriptions/deliveries?hydrate=true",
            "/elements/square/instances",
        ] {
            let (status, _) = self.call("GET", path, None).await;
            assert_eq!(status, 200, "{path}");
        }
        let login = json!({ "apiKey": "an-id", "apiSecret": API_SECRET, "callbackUrl": "https://example.com/back" });
        let (_, address) = self.call("POST", "/elements/square/oauth/url", Some(login)).await;
        assert!(address["oauthUrl"].is_string(), "{address:#}");
    }

    async fn read_instance(&mut self, instance: u64) {
        let of_it = format!("/instances/{instance}");
        let (_, deliveries) = self.call("GET", &format!("{of_it}/deliveries"), None).await;
        let delivery = deliveries[0]["id"].as_str().expect("a delivery").to_owned();
        let record = deliveries[0]["events"][0]["objectId"].as_str().expect("a record").to_owned();
        let resource = deliveries[0]["resource"].as_str().expect("a resource").to_owned();
        for path in [
            format!("{of_it}/configuration"),
            format!("{of_it}/configuration/event.notification.signature.key"),
            format!("{of_it}/configuration/event.notification.basic.password"),
            format!("{of_it}/configuration/oauth.api.secret"),
            format!("{of_it}/deliveries/{delivery}"),
            format!("{of_it}/deliveries/{delivery}/attempts"),
            format!("{of_it}/events"),
            format!("{of_it}/events/{delivery}"),
            format!("{of_it}/resources/{resource}/records/{record}/why"),
            format!("/notifications/subscriptions/{instance}"),
        ] {
            self.call("GET", &path, None).await;
        }
        // The one answer whose `url` is the callback's.
        let (_, _, callback) = self.world.call_through(None, "GET", &format!("{of_it}/callback"), None).await;
        self.search("the answer of GET callback", callback.to_string().as_bytes(), &["query of the callback"]);
    }

    /// Sends bodies with secrets in wrong places and of wrong kinds.
    async fn send_misplaced_secrets(&mut self) {
        for (key, value) in [
            ("oauth.api.secret", json!({ "value": API_SECRET })),
            ("oauth.api.secret", json!([API_SECRET, { "a": API_SECRET }])),
            ("event.notification.signature.key", json!({ "key": SIGNATURE })),
            ("event.notification.signature.key", json!([SIGNATURE])),
            ("event.notification.basic.password", json!([BASIC])),
            ("event.notification.callback.headers", json!(format!("{HEADER} without a colon"))),
            ("event.notification.callback.headers", json!(format!("{{\"X-Api-Key\": \"{HEADER}\""))),
            ("event.notification.callback.headers", json!({ "X Api Key": HEADER })),
            ("event.notification.callback.url", json!(format!("https://user:{QUERY}@example.com/"))),
            ("event.notification.callback.url", json!(format!("ftp://example.com/?{QUERY}"))),
            ("api.password", json!(format!("{PASSWORD}\n"))),
            ("oauth.user.refresh_token", json!({ "token": HELD_REFRESH })),
        ] {
            for element in ["square", "icontact"] {
                let mut body = marked(element);
                body["configuration"][key] = value.clone();
                let (status, said) = self.call("POST", "/instances", Some(body)).await;
                assert!(status < 500, "{key}: {said:#}");
            }
        }
        for body in [json!({ "providerData": CODE }), json!({ "providerData": [CODE] }), json!([CODE, API_SECRET])] {
            let mut whole = marked("square");
            if let (Some(whole), Some(wrong)) = (whole.as_object_mut(), body.as_object()) {
                whole.extend(wrong.clone());
            }
            self.call("POST", "/instances", Some(whole)).await;
            self.call("POST", "/instances", Some(body)).await;
        }
    }

    /// Sends bodies that are not JSON.
    async fn send_broken_bodies(&mut self) {
        let (user, organization) = (&self.organization.user_secret, &self.organization.organization_secret);
        let authorization = format!("User {}, Organization {}", user.expose(), organization.expose());
        for text in
            [format!("{{\"oauth.api.secret\": \"{API_KEY}\",, }}"), format!("\"{API_KEY}"), format!("{{{API_KEY}}}")]
        {
            let request = http::Request::builder()
                .method("POST")
                .uri("http://pollux.test/elements/api-v2/instances")
                .header("content-type", "application/json")
                .header("authorization", &authorization)
                .body(Bytes::from(text))
                .expect("a request");
            let response = self.world.exchange(request).await;
            assert_eq!(response.status(), 400);
            self.search("the answer to a broken body", response.body(), &[]);
        }
    }

    /// Makes new secrets. The call that makes one shows it, and nothing else does.
    async fn rotate_secrets(&mut self) {
        let path = format!("/instances/{}/signing-secret/rotate", self.instances[0]);
        let (_, _, rotated) = self.world.call_through(None, "POST", &path, None).await;
        self.mark("new signature key", rotated["signingSecret"].as_str().expect("a new secret"));
        let (ports, organization) = (self.world.service.ports.clone(), self.organization.organization);
        let (user, more) = flow::accounts::create_user(&ports, organization, "second").await.expect("a user");
        self.mark("second user's secret", more.expose());
        let other = create_organization(&ports, "Other").await.expect("an organization");
        self.mark("other user's secret", other.user_secret.expose());
        self.mark("other organization's secret", other.organization_secret.expose());
        let rotated =
            flow::accounts::renew_user(&ports, organization, user, Renewal::AT_ONCE).await.expect("a new secret");
        self.mark("rotated user secret", rotated.expose());
        self.world.advance(Duration::from_secs(600)).await;
        self.search_stored();
        let organizations = flow::accounts::organizations(&ports).await.expect("listed");
        let users = flow::accounts::users(&ports, organization).await.expect("listed");
        self.search_printed("organizations and users", &format!("{organizations:?}{users:?}"));
    }

    async fn delete_instances(&mut self) {
        for instance in self.instances {
            self.call("DELETE", &format!("/instances/{instance}"), None).await;
            self.call("GET", &format!("/instances/{instance}"), None).await;
        }
        self.search_stored();
    }

    fn search_log(&mut self) {
        let logged = self.log.bytes();
        let lines: Vec<&[u8]> = logged.split(|byte| *byte == b'\n').collect();
        assert!(lines.len() > 100, "only {} lines were logged", lines.len());
        for line in lines {
            let place = format!("the log line {:.200}", String::from_utf8_lossy(line));
            self.search(&place, line, &[]);
        }
    }

    /// Checks the result of the search.
    fn check(&self) {
        assert!(self.leaks.is_empty(), "{:#?}", self.leaks);
        let seen: Vec<&str> = self.seen.iter().map(String::as_str).collect();
        assert_eq!(seen, ["instance token", "query of the callback"], "found where they belong");
        let (searched, marks) = (self.searched, self.marks.len());
        assert!(searched > 1_000 && marks > 20, "{searched} places searched for {marks} secrets");
    }
}

#[tokio::test]
async fn no_secret_is_found_where_it_does_not_belong() {
    let log = Page::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Two subscribers at least. With a single one, the first thread that logs a line decides whether the line is wanted,
    // and the threads of other tests want none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber);

    let mut hunt = LeakHunt::start(log).await;
    hunt.read_body();
    hunt.create_instances().await;
    hunt.deliver_to_a_quoting_callback().await;
    hunt.renew_tokens().await;
    hunt.call_quoting_vendors().await;
    hunt.call_hubs().await;
    hunt.read_everything().await;
    hunt.send_misplaced_secrets().await;
    hunt.send_broken_bodies().await;
    hunt.rotate_secrets().await;
    hunt.delete_instances().await;
    hunt.search_log();
    hunt.check();
}

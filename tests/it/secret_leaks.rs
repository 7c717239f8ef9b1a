//! The river searched for secrets: marked ones go through everything that an instance lives through, and then every
//! item of the table, every log line, every queue message, every answer and every printed value is searched for them
//! in every form.
//!
//! The places that may hold one are few, and each stands in this file: the answer that shows a new secret, an
//! instance's own token, and the callback's URL where it has to be known.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::vault::KeyFileVault;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use domain::configuration::EventSettings;
use domain::id::InstanceId;
use domain::secret::Secret;
use elements::Tokens;
use flow::instance::{self, InstanceBody};
use flow::ports::QueueName;
use flow::principal::{self, Renewal, create_organization};
use flow::table::{self, InstanceRecord, TokensRecord};
use flow::testing::Page;
use flow::{secrets, tokens};
use local::inbox::Behaviour;
use local::sandbox::Expire;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tests::world::{World, answer, seed};

// ---------------------------------------------------------------- Marks

/// A secret, and every form in which it would be a leak.
struct Mark {
    name: String,
    forms: Vec<String>,
}

impl Mark {
    fn new(name: &str, secret: &str) -> Self {
        let bytes = secret.as_bytes();
        let hex = |upper: bool| -> String {
            bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
        };
        let quoted = json!(secret).to_string();
        let mut forms: Vec<String> = vec![
            secret.to_owned(),
            quoted.trim_matches('"').to_owned(),
            json!(quoted).to_string().trim_matches(['"', '\\']).to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            url::form_urlencoded::byte_serialize(bytes).collect(),
            hex(false),
            hex(true),
            format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
        ];
        // Within a longer text that is encoded, three ways to lie over the groups of three; what neighbours touch is cut.
        for shift in 0..3 {
            let shifted = [&vec![0; shift], bytes].concat();
            let (from, to) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                forms.push(encoded[from..to].to_owned());
            }
        }
        forms.sort();
        forms.dedup();
        Self { name: name.to_owned(), forms }
    }

    fn is_in(&self, view: &str) -> bool {
        self.forms.iter().any(|form| view.contains(form))
    }
}

/// The bytes as they are, and what they are once unpacked.
fn views(bytes: &[u8]) -> Vec<String> {
    let mut views = vec![bytes.to_vec()];
    views.extend(zstd::bulk::decompress(bytes, 1 << 22).ok());
    // Runs that may be base64, such as what is sealed, or a page token.
    let is_of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let runs = views.iter().flat_map(|view| view.split(|byte| !is_of_base64(byte))).filter(|run| run.len() >= 16);
    let decoded: Vec<Vec<u8>> = runs
        .flat_map(|run| [run, &run[..run.len() / 4 * 4]])
        .flat_map(|run| [STANDARD_NO_PAD.decode(run).ok(), URL_SAFE_NO_PAD.decode(run).ok()])
        .flatten()
        .collect();
    views.extend(decoded);
    views.iter().map(|view| String::from_utf8_lossy(view).into_owned()).collect()
}

// ---------------------------------------------------------------- The river

/// A world and everything that came out of it.
struct River {
    world: World,
    marks: Vec<Mark>,
    /// What was found where, without the places that may.
    leaks: BTreeSet<String>,
    searched: usize,
    /// What was searched for as many marks before.
    known: HashSet<(usize, String, Vec<u8>)>,
    /// Marks that were seen where they may be: a search that finds nothing anywhere looks at the wrong thing.
    seen: BTreeSet<String>,
}

impl River {
    fn mark(&mut self, name: &str, secret: &str) {
        assert!(secret.len() >= 8, "{name} is too short to be looked for");
        self.marks.push(Mark::new(name, secret));
    }

    /// Looks for every mark; those called so may be there.
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

    /// One call of the API, its answer searched. An answer about instances may show their tokens and their callbacks'
    /// URLs.
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
        self.stored();
        (status.as_u16(), answer)
    }

    /// Searches the table and the queues as they are now.
    fn stored(&mut self) {
        for item in self.world.store.items() {
            let name = format!("{}/{}", item.key.pk, item.key.sk);
            self.search(&format!("the key {name}"), name.as_bytes(), &[]);
            // Where notifications go is known to the instance and noted with each delivery.
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

    fn printed(&mut self, what: &str, text: &str) {
        self.search(&format!("the printed {what}"), text.as_bytes(), &["query of the callback"]);
    }

    /// The tokens that the instance has now become marks, and what holds them is printed.
    async fn open(&mut self, instance: u64, round: &str) {
        let service = self.world.service.clone();
        let id = InstanceId(instance);
        let record: InstanceRecord =
            table::read(&service.ports.store.get(&table::instance_key(id)).await.expect("read").expect("an item"))
                .expect("an instance");
        let token = instance::token(&service, &record).await.expect("opened");
        self.marks.push(Mark::new("instance token", token.expose()));
        self.printed("instance", &format!("{record:?}{record:#?}"));
        let element = service.catalog.get(&record.element).expect("an element").clone();
        let (connection, _) =
            secrets::connection(&service, &element, &record).await.expect("opened").expect("a connection");
        self.printed("connection", &format!("{connection:?}"));
        self.printed("secrets", &format!("{:?}", secrets::open(&service, &record).await.expect("opened")));
        if let Some(item) = service.ports.store.get(&table::tokens_key(id)).await.expect("read") {
            let stored: TokensRecord = table::read(&item).expect("tokens");
            let opened: Tokens = tokens::open(&service, id, &stored).await.expect("opened");
            self.mark(&format!("access token {round}"), opened.access.expose());
            if let Some(refresh) = &opened.refresh {
                self.mark(&format!("refresh token {round}"), refresh.expose());
            }
            self.printed("tokens", &format!("{opened:?}{stored:?}"));
        }
    }
}

/// Takes out what stands under the keys that show a callback's URL.
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

/// The body of a seed with marks wherever a secret goes.
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

/// A vendor and a callback that quote whatever they were asked, in an error.
fn quoting(status: u16) -> impl FnMut(&http::Request<Bytes>) -> Option<http::Response<Bytes>> + Send + 'static {
    let mut asked = 0;
    move |request| {
        let headers: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let all = format!("{}, {}", headers.join(", "), String::from_utf8_lossy(request.body()));
        // Messages are cut: each time another stretch comes first.
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

#[tokio::test]
async fn no_secret_is_found_where_it_does_not_belong() {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Two at least: where there is only one subscriber, whether a line is wanted is asked of whichever thread comes by
    // first, and the other tests' threads want none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber);

    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("key.json");
    let vault = KeyFileVault::open(&key_file).expect("a key file");
    let world = World::sealed("2026-01-05T09:00:00Z", 1, Arc::new(vault)).await;
    world.inbox.behave("main", Behaviour { signature_key: Some(Secret::new(SIGNATURE)), ..Behaviour::default() });
    let mut river = River {
        world,
        marks: Vec::new(),
        leaks: BTreeSet::new(),
        searched: 0,
        known: HashSet::new(),
        seen: BTreeSet::new(),
    };
    let keys: Value = serde_json::from_slice(&std::fs::read(&key_file).expect("readable")).expect("JSON");
    let organization = river.world.organization.clone();
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
        ("refresh token in hand", HELD_REFRESH),
        ("code verifier", VERIFIER),
    ] {
        river.mark(name, secret);
    }
    river.printed("organization", &format!("{organization:?}"));

    // What is read of a request can be printed.
    let body = InstanceBody::read(&marked("square")).expect("a body");
    river.printed("body", &format!("{body:?}"));
    let (settings, warnings) =
        EventSettings::parse(marked("square")["configuration"].as_object().expect("an object")).expect("settings");
    river.printed("settings", &format!("{settings:?}{warnings:?}"));

    // Made: by a code, and by a password.
    let mut instances = Vec::new();
    for element in ["square", "icontact"] {
        let (status, made) = river.call("POST", "/instances", Some(marked(element))).await;
        assert_eq!(status, 200, "{made:#}");
        let instance = made["id"].as_u64().expect("an id");
        river.open(instance, &format!("of {element}")).await;
        river.stored();
        instances.push(instance);
    }
    let (square, icontact) = (instances[0], instances[1]);

    // A record changes; the callback fails, quoting what it was sent, and then works.
    let account = river.world.sandbox.of("mark-account-0008");
    account.create("square", "timecards", json!({ "team_member_id": "TM1" })).expect("a record");
    river.world.sandbox.create("icontact", "contacts", json!({ "email": "ada@example.com" })).expect("a record");
    river.world.ambient.advance(Duration::from_secs(60));
    for instance in [square, icontact] {
        let (status, report) = river.call("POST", &format!("/instances/{instance}/poll"), None).await;
        assert_eq!((status, &report["created"]), (200, &json!(1)), "{report:#}");
    }
    let (quoted, printed) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(String::new())));
    let (count, headers) = (Arc::clone(&quoted), Arc::clone(&printed));
    let mut quote = quoting(500);
    river.world.meddle(move |request| {
        *count.lock().expect("unpoisoned") += 1;
        *headers.lock().expect("unpoisoned") += &format!("{:?}", request.headers());
        quote(request)
    });
    river.stored();
    river.world.drain().await;
    river.stored();
    assert!(*quoted.lock().expect("unpoisoned") >= 2, "both callbacks were tried");
    for instance in [square, icontact] {
        let (_, deliveries) = river.call("GET", &format!("/instances/{instance}/deliveries"), None).await;
        assert_eq!(deliveries[0]["attempts"][0]["status"], 500, "{deliveries:#}");
        assert!(deliveries[0]["attempts"][0]["response"].to_string().contains("********"), "{deliveries:#}");
    }
    river.world.behave();
    river.world.advance(Duration::from_secs(30 * 60)).await;
    assert!(!river.world.callbacks().is_empty(), "the callback has them now");

    // Tokens end: renewed, and refused by a vendor who quotes what he was asked.
    river.world.sandbox.of("mark-account-0008").expire("square", Expire::Tokens).expect("the vendor");
    let (status, _) = river.call("POST", &format!("/instances/{square}/poll"), None).await;
    assert_eq!(status, 200);
    river.open(square, "renewed").await;
    for status in [400, 401, 403, 429, 500, 400, 401] {
        let (headers, mut quote) = (Arc::clone(&printed), quoting(status));
        river.world.meddle(move |request| {
            *headers.lock().expect("unpoisoned") += &format!("{:?}", request.headers());
            quote(request)
        });
        for instance in [square, icontact] {
            for (method, path, body) in [
                ("POST", format!("/instances/{instance}/poll"), None),
                ("POST", format!("/instances/{instance}/rehearse"), Some(json!({}))),
                ("GET", format!("/instances/{instance}/coverage"), None),
                ("GET", format!("/instances/{instance}/event-poller-records"), None),
                ("GET", format!("/instances/{instance}"), None),
                ("PUT", format!("/instances/{instance}"), Some(json!({ "providerData": { "code": CODE } }))),
                (
                    "PATCH",
                    format!("/instances/{instance}"),
                    Some(json!({ "configuration": { "api.password": PASSWORD, "oauth.api.secret": API_SECRET } })),
                ),
            ] {
                let (answered, said) = river.call(method, &path, body).await;
                assert_ne!(answered, 500, "{said:#}");
            }
        }
        for element in ["square", "icontact"] {
            let (answered, said) = river.call("POST", "/instances", Some(marked(element))).await;
            assert!((400..=502).contains(&answered), "{said:#}");
            let mut held = marked(element);
            held["externalAuthentication"] = json!("initial");
            held["configuration"]["oauth.user.refresh_token"] = json!(HELD_REFRESH);
            river.call("POST", "/instances", Some(held.clone())).await;
            river.call("POST", "/instances/rehearse", Some(held)).await;
        }
        river.world.ambient.advance(Duration::from_secs(48 * 3600));
    }
    let printed = printed.lock().expect("unpoisoned").clone();
    river.printed("headers of requests", &printed);

    // Through an instance's own token, to a vendor who quotes.
    for instance in [square, icontact] {
        let (_, shown) = river.call("GET", &format!("/instances/{instance}"), None).await;
        let token = shown["token"].as_str().expect("a token").to_owned();
        for path in ["/ping", "/hubs/employee/timesheets", "/hubs/general/contacts", "/objects", "/instances/events"] {
            let (_, _, said) = river.world.call_through(Some(&token), "GET", path, None).await;
            let mut hidden = said.clone();
            without_callback_urls(&mut hidden);
            river.search(&format!("the answer of GET {path}"), hidden.to_string().as_bytes(), &[]);
        }
    }
    river.world.behave();

    // Everything that can be read.
    for instance in [square, icontact] {
        let of_it = format!("/instances/{instance}");
        let (_, deliveries) = river.call("GET", &format!("{of_it}/deliveries"), None).await;
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
            river.call("GET", &path, None).await;
        }
        // The one answer whose `url` is the callback's.
        let (_, _, callback) = river.world.call_through(None, "GET", &format!("{of_it}/callback"), None).await;
        river.search("the answer of GET callback", callback.to_string().as_bytes(), &["query of the callback"]);
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
        let (status, _) = river.call("GET", path, None).await;
        assert_eq!(status, 200, "{path}");
    }
    let (_, address) = river
        .call(
            "POST",
            "/elements/square/oauth/url",
            Some(json!({ "apiKey": "an-id", "apiSecret": API_SECRET, "callbackUrl": "https://example.com/back" })),
        )
        .await;
    assert!(address["oauthUrl"].is_string(), "{address:#}");

    // Secrets where none belongs.
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
            let (status, said) = river.call("POST", "/instances", Some(body)).await;
            assert!(status < 500, "{key}: {said:#}");
        }
    }
    for body in [json!({ "providerData": CODE }), json!({ "providerData": [CODE] }), json!([CODE, API_SECRET])] {
        let mut whole = marked("square");
        if let (Some(whole), Some(wrong)) = (whole.as_object_mut(), body.as_object()) {
            whole.extend(wrong.clone());
        }
        river.call("POST", "/instances", Some(whole)).await;
        river.call("POST", "/instances", Some(body)).await;
    }
    for text in
        [format!("{{\"oauth.api.secret\": \"{API_KEY}\",, }}"), format!("\"{API_KEY}"), format!("{{{API_KEY}}}")]
    {
        let request = http::Request::builder()
            .method("POST")
            .uri("http://pollux.test/elements/api-v2/instances")
            .header("content-type", "application/json")
            .header(
                "authorization",
                format!(
                    "User {}, Organization {}",
                    organization.user_secret.expose(),
                    organization.organization_secret.expose()
                ),
            )
            .body(Bytes::from(text))
            .expect("a request");
        let response = river.world.exchange(request).await;
        assert_eq!(response.status(), 400);
        river.search("the answer to a broken body", response.body(), &[]);
    }

    // New secrets: each shown once, by the call that made it.
    let path = format!("/instances/{square}/signing-secret/rotate");
    let (_, _, rotated) = river.world.call_through(None, "POST", &path, None).await;
    river.mark("new signature key", rotated["signingSecret"].as_str().expect("a new secret"));
    let (user, more) =
        principal::create_user(&river.world.service.ports, organization.organization, "second").await.expect("a user");
    river.mark("second user's secret", more.expose());
    let other = create_organization(&river.world.service.ports, "Other").await.expect("an organization");
    river.mark("other user's secret", other.user_secret.expose());
    river.mark("other organization's secret", other.organization_secret.expose());
    let rotated = principal::renew_user(&river.world.service.ports, organization.organization, user, Renewal::AT_ONCE)
        .await
        .expect("a new secret");
    river.mark("rotated user secret", rotated.expose());
    river.world.advance(Duration::from_secs(600)).await;
    river.stored();
    let ports = &river.world.service.ports;
    let listed = format!(
        "{:?}{:?}",
        principal::organizations(ports).await.expect("listed"),
        principal::users(ports, organization.organization).await.expect("listed")
    );
    river.printed("organizations and users", &listed);

    for instance in [square, icontact] {
        river.call("DELETE", &format!("/instances/{instance}"), None).await;
        river.call("GET", &format!("/instances/{instance}"), None).await;
    }
    river.stored();

    let logged = page.bytes();
    let lines: Vec<&[u8]> = logged.split(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 100, "only {} lines were logged", lines.len());
    for line in lines {
        let place = format!("the log line {:.200}", String::from_utf8_lossy(line));
        river.search(&place, line, &[]);
    }
    assert!(river.leaks.is_empty(), "{:#?}", river.leaks);
    let seen: Vec<&str> = river.seen.iter().map(String::as_str).collect();
    assert_eq!(seen, ["instance token", "query of the callback"], "found where they belong");
    assert!(river.searched > 1_000 && river.marks.len() > 20, "{} searched for {}", river.searched, river.marks.len());
}

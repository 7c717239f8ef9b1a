//! Tenant isolation: every route, with every wrong combination of secrets and with another tenant's ids. A stranger learns
//! nothing, not even from the work that a call causes.
//!
//! The routes are read from the API's own document and the methods are asked of the router, so that a new route is
//! tried without anybody thinking of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flow::accounts::{NewOrganization, Renewal, create_organization, renew_user};
use flow::testing::Operations;
use instances::BASE;
use serde_json::{Value, json};
use store::port::Item;
use tests::harness::{SystemHarness, seed};

/// The paths that anybody may read: they describe the service, not its content.
const PUBLIC: &[&str] = &[
    "/elements",
    "/elements/keys",
    "/elements/{element}",
    "/elements/{element}/configuration",
    "/elements/{element}/docs",
    "/elements/{element}/metadata",
    "/hubs",
    "/hubs/keys",
    "/hubs/{hub}/elements",
    "/openapi.json",
];

/// A method and the template of a path below the API's base.
type Route = (String, String);

/// Every path of the document, which is written from the table that the router is made of.
fn paths() -> BTreeSet<String> {
    let document = instances::document();
    let mut paths: BTreeSet<String> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    // What is read without a hub has no route of its own: it is what every other path is taken for.
    paths.retain(|path| !path.starts_with("/{"));
    assert!(paths.len() > 50, "only {} paths seen: the check looks at the wrong thing", paths.len());
    paths
}

/// A path with something in every place.
fn filled(template: &str, places: &BTreeMap<&str, String>) -> String {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').expect("a template closes its braces");
        path.push_str(before);
        path.push_str(places.get(name).unwrap_or_else(|| panic!("{template}: nothing to put for {name}")));
        rest = after;
    }
    path + rest
}

/// The answer of one request, without its request id and date.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    work: Operations,
}

impl Answer {
    /// The same with a text that was given made to look alike.
    fn hiding(mut self, given: &str) -> Self {
        self.body = self.body.replace(given, "<given>");
        self
    }

    /// The number of store operations, whatever they found.
    fn asked(&self) -> Operations {
        Operations { items_read: 0, ..self.work }
    }
}

/// A world with two customers, an instance and a delivery each, and a third instance that is gone.
struct Two {
    world: SystemHarness,
    stranger: NewOrganization,
    /// Of the world's own organization: instance, token, delivery, number of the notification.
    ours: Things,
    /// Of the stranger.
    theirs: Things,
    /// The token of an instance that the stranger has removed.
    worthless: String,
}

#[derive(Debug, Clone)]
struct Things {
    instance: u64,
    token: String,
    delivery: String,
    number: String,
}

impl Two {
    async fn new() -> Self {
        let mut world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        let stranger = create_organization(&world.service.ports, "Stranger").await.expect("an organization");
        let ours = things(&world).await;
        let own = std::mem::replace(&mut world.organization, stranger.clone());
        let theirs = things(&world).await;
        let gone = things(&world).await;
        let (status, _) = world.call("DELETE", &format!("/instances/{}", gone.instance), None).await;
        assert_eq!(status, 200);
        world.organization = own;
        world.tick().await;
        Self { world, stranger, ours, theirs, worthless: gone.token }
    }

    async fn send(&self, secrets: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("http://pollux.test{BASE}{path}"));
        if let Some(secrets) = secrets {
            request = request.header("authorization", secrets);
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        self.world.store.forget_operations();
        let response = self.world.exchange(request.body(body).expect("a request")).await;
        let work = self.world.store.operations();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut headers: BTreeMap<String, String> =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        headers.remove("date");
        let id = headers.remove("elements-request-id").expect("every answer has a request id");
        let body = String::from_utf8_lossy(response.body()).replace(&id, "<request>");
        Answer { status: response.status().as_u16(), headers, body, work }
    }

    /// Every route with every method that the router knows for it, but for the preflight.
    async fn routes(&self) -> Vec<Route> {
        let places = self.places(1);
        let mut routes = Vec::new();
        for template in paths() {
            let refused = self.send(None, "TRACE", &filled(&template, &places), None).await;
            assert_eq!(refused.status, 405, "{template}");
            routes.extend(refused.headers["allow"].split(',').map(|method| (method.to_owned(), template.clone())));
        }
        routes
    }

    /// The values of path parameters: an instance, and the things of our instance.
    fn places(&self, instance: u64) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("id", instance.to_string()),
            ("delivery", self.ours.delivery.clone()),
            ("event", self.ours.delivery.clone()),
            ("notification", self.ours.number.clone()),
            ("resource", "timecards".to_owned()),
            ("record", "TC1".to_owned()),
            ("item", "oauth.api.secret".to_owned()),
            ("element", "square".to_owned()),
            ("hub", "employee".to_owned()),
            ("object", "timesheets".to_owned()),
            ("operation", "getTimesheets".to_owned()),
        ])
    }

    /// An id that nothing has, as long as the real one.
    fn absent(&self) -> u64 {
        let mut absent = self.ours.instance ^ 1;
        while [self.ours.instance, self.theirs.instance].contains(&absent) {
            absent ^= 2;
        }
        absent
    }

    fn items_of(&self, instance: u64) -> Vec<Item> {
        let partition = format!("INST#{instance}");
        self.world.store.items().into_iter().filter(|item| item.key.pk == partition).collect()
    }
}

/// An instance of the world's present caller with a delivery that arrived.
async fn things(world: &SystemHarness) -> Things {
    let instance = world.create(seed("square")).await;
    let card = json!({ "employee_id": "E1", "clockin_time": "2026-01-05T09:00:00Z" });
    world.sandbox.create("square", "timecards", card).expect("the sandbox takes it");
    world.tick().await;
    let (_, shown) = world.call("GET", &format!("/instances/{instance}"), None).await;
    let (_, deliveries) = world.call("GET", &format!("/instances/{instance}/deliveries"), None).await;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (token, delivery) = (text(&shown["token"]), text(&deliveries[0]["id"]));
    assert!(token.len() > 40 && delivery.len() == 20, "{deliveries:#}");
    Things { instance, token, delivery, number: text(&deliveries[0]["notificationId"]) }
}

fn header(user: &str, second: (&str, &str)) -> String {
    format!("User {user}, {} {}", second.0, second.1)
}

/// Bodies that some route takes.
fn bodies(delivery: &str) -> [Option<Value>; 5] {
    let mut whole = seed("square");
    whole["configuration"]["event.notification.callback.url"] = json!("http://pollux.test/inbox/stranger");
    [
        None,
        Some(json!({})),
        Some(json!({ "name": "mine now", "configuration": { "event.poller.refresh_interval": "7" } })),
        Some(json!({ "decision": "approve", "propertyValue": "x", "ids": [delivery], "minutes": 5 })),
        Some(whole),
    ]
}

#[tokio::test]
async fn wrong_secrets_get_the_answer_of_none_on_every_route() {
    let two = Two::new().await;
    let (ours, theirs) = (&two.world.organization, &two.stranger);
    let revoked = theirs.user_secret.expose().to_owned();
    let fresh = renew_user(&two.world.service.ports, theirs.organization, theirs.user, Renewal::AT_ONCE)
        .await
        .expect("a new secret");
    let (user, organization) = (ours.user_secret.expose(), ours.organization_secret.expose());
    let (stranger, strange_organization) = (fresh.expose(), theirs.organization_secret.expose());
    let wrong = [
        // What can be read as a header and names nobody, or not one and the same.
        header(user, ("Organization", strange_organization)),
        header(stranger, ("Organization", organization)),
        header(organization, ("Organization", user)),
        header(user, ("Organization", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
        header("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ("Organization", organization)),
        header(stranger, ("Element", &two.ours.token)),
        header(user, ("Element", &two.theirs.token)),
        header(stranger, ("Element", &two.worthless)),
        header(&two.ours.token, ("Element", &two.ours.token)),
        header(user, ("Element", organization)),
        header(&revoked, ("Organization", strange_organization)),
        header(&revoked, ("Element", &two.theirs.token)),
        format!("User {stranger}, Organization {strange_organization}, Element {}", two.ours.token),
        format!("User {user}, Organization {strange_organization}, Element {}", two.ours.token),
        format!("User {user}, Organization {organization}, Element {}", two.worthless),
        format!("User {user}x, Organization {organization}"),
        // What cannot.
        String::new(),
        format!("User {user}"),
        format!("Organization {organization}"),
        format!("Element {}", two.ours.token),
        format!("Organization {organization}, Element {}", two.ours.token),
        format!("User {user}, User {user}, Organization {organization}"),
        format!("User {user} Organization {organization}"),
        format!("Bearer {user}"),
        format!("User {user}, Organization {organization}, Robot x"),
        "User , Organization ".to_owned(),
        "User".to_owned(),
        format!("User {user}, Organization \u{fc}"),
    ];
    let before = two.world.store.items();
    let (mut tried, mut open) = (0, BTreeSet::new());
    for (method, template) in two.routes().await {
        for instance in [two.ours.instance, two.absent()] {
            let path = filled(&template, &two.places(instance));
            let none = two.send(None, &method, &path, None).await;
            if none.status != 401 {
                assert_eq!((none.status, method == "GET" || method == "HEAD"), (200, true), "{method} {path}");
                open.insert(template.clone());
                continue;
            }
            assert_eq!(none.work, Operations::default(), "{method} {path}");
            for secrets in &wrong {
                for body in [None, Some(seed("square"))] {
                    let answer = two.send(Some(secrets), &method, &path, body.as_ref()).await;
                    let seen = (answer.status, &answer.headers, &answer.body);
                    assert_eq!(seen, (none.status, &none.headers, &none.body), "{method} {path} with {secrets:?}");
                    let looked = Operations { batch_gets: answer.work.batch_gets, ..Operations::default() };
                    assert!(answer.work.batch_gets <= 1, "{method} {path} with {secrets:?}");
                    assert_eq!(answer.asked(), looked, "{method} {path} with {secrets:?}");
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(open.iter().map(String::as_str).collect::<Vec<_>>(), PUBLIC, "what anybody may read");
    assert_eq!(two.world.store.items(), before, "nothing was written");
    assert!(tried > 5_000, "{tried} tried");
}

#[tokio::test]
async fn what_is_anothers_is_what_is_not_there() {
    let two = Two::new().await;
    let (user, organization) = (two.stranger.user_secret.expose(), two.stranger.organization_secret.expose());
    let callers = [
        header(user, ("Organization", organization)),
        header(user, ("Element", &two.theirs.token)),
        format!("Element {}, Organization {organization}, User {user}", two.theirs.token),
    ];
    let (ours, absent) = (two.ours.instance, two.absent());
    let before = two.items_of(ours);
    assert!(before.len() > 3, "our instance has items");
    let mut tried = 0;
    for (method, template) in two.routes().await.into_iter().filter(|(_, template)| template.contains("{id}")) {
        for secrets in &callers {
            for body in bodies(&two.ours.delivery) {
                let mut answers = Vec::new();
                for id in [ours, absent] {
                    let path = filled(&template, &two.places(id));
                    let answer = two.send(Some(secrets), &method, &path, body.as_ref()).await;
                    assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
                    answers.push(answer.hiding(&id.to_string()));
                    tried += 1;
                }
                assert_eq!(answers[0], answers[1], "{method} {template} with {body:?}");
            }
        }
    }
    assert_eq!(two.items_of(ours), before, "nothing of it was written");
    assert!(tried > 500, "{tried} tried");
}

#[tokio::test]
async fn things_of_anothers_instance_are_not_reached_through_ones_own() {
    let two = Two::new().await;
    let secrets =
        header(two.stranger.user_secret.expose(), ("Organization", two.stranger.organization_secret.expose()));
    let before = two.items_of(two.ours.instance);
    let mut tried = 0;
    let named = ["{delivery}", "{event}", "{notification}"];
    let routes = two.routes().await;
    for (method, template) in routes.iter().filter(|(_, template)| named.iter().any(|name| template.contains(name))) {
        // By id, and by the token of one's own.
        for through in [None, Some(two.theirs.token.as_str())] {
            let secrets = through.map_or(secrets.clone(), |token| format!("{secrets}, Element {token}"));
            let mut answers = Vec::new();
            for there in [true, false] {
                let mut places = two.places(two.theirs.instance);
                if !there {
                    let reversed: String = two.ours.delivery.chars().rev().collect();
                    let number = two.ours.number.parse::<u64>().expect("a number");
                    places.insert("delivery", reversed.clone());
                    places.insert("event", reversed);
                    places.insert("notification", (number ^ 1).to_string());
                }
                let answer = two.send(Some(&secrets), method, &filled(template, &places), None).await;
                let answer =
                    named.iter().fold(answer, |answer, name| answer.hiding(&places[name.trim_matches(['{', '}'])]));
                tried += 1;
                answers.push(answer);
            }
            assert_eq!(answers[0], answers[1], "{method} {template}");
            let empty = answers[0].status == 200 && answers[0].body == "[]";
            assert!(empty || (400..500).contains(&answers[0].status), "{method} {template}: {:?}", answers[0]);
        }
    }
    for (method, path, body) in [
        ("POST", format!("/instances/{}/deliveries/redeliver", two.theirs.instance), json!({ "ids": ["<id>"] })),
        ("GET", "/notifications/subscriptions/deliveries?where=subscriptionId='<instance>'".into(), Value::Null),
        ("PUT", "/notifications/subscriptions/deliveries?where=subscriptionId='<instance>'".into(), Value::Null),
    ] {
        let mut answers = Vec::new();
        for (delivery, instance) in
            [(two.ours.delivery.clone(), two.ours.instance), (two.ours.delivery.chars().rev().collect(), two.absent())]
        {
            let path = path.replace("<instance>", &instance.to_string()).replace('\'', "%27");
            let body: Value = serde_json::from_str(&body.to_string().replace("<id>", &delivery)).expect("JSON");
            answers.push(two.send(Some(&secrets), method, &path, Some(&body)).await.hiding(&delivery));
            tried += 1;
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
    }
    assert_eq!(two.items_of(two.ours.instance), before, "nothing of it was written");
    assert!(tried > 20, "{tried} tried");
}

#[tokio::test]
async fn no_listing_shows_what_is_anothers() {
    let two = Two::new().await;
    let secrets =
        header(two.stranger.user_secret.expose(), ("Organization", two.stranger.organization_secret.expose()));
    let own = header(
        two.world.organization.user_secret.expose(),
        ("Organization", two.world.organization.organization_secret.expose()),
    );
    let marks =
        [two.ours.instance.to_string(), two.ours.token.clone(), two.ours.delivery.clone(), two.ours.number.clone()];
    let (mut listings, mut showing) = (0, 0);
    for (method, template) in two.routes().await {
        if method != "GET" || template.contains("{id}") {
            continue;
        }
        let path = filled(&template, &two.places(0));
        for query in ["", "?pageSize=1", "?hydrate=true", "?allowEmpty=true&searchText=e"] {
            let foreign = two.send(Some(&secrets), &method, &format!("{path}{query}"), None).await;
            for mark in &marks {
                assert!(!foreign.body.contains(mark), "{path}{query} shows {mark}: {}", foreign.body);
            }
            // Where a page token of ours leads, there is nothing of ours either.
            let mine = two.send(Some(&own), &method, &format!("{path}{query}"), None).await;
            showing += usize::from(marks.iter().any(|mark| mine.body.contains(mark)));
            if let Some(next) = mine.headers.get("elements-next-page-token") {
                let stolen = two.send(Some(&secrets), &method, &format!("{path}?nextPage={next}"), None).await;
                assert!(marks.iter().all(|mark| !stolen.body.contains(mark)), "{path}: {}", stolen.body);
            }
            listings += 1;
        }
    }
    assert!(listings > 40 && showing > 8, "{listings} listings, of which {showing} show their owner something");
}

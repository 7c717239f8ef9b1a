//! Plans of configured resources: partitions, conditions and refusals.

use std::collections::BTreeMap;

use domain::configuration::ResourceConfiguration;
use elements::call::CallContext;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::plan::Partitions;
use elements::{Bases, Catalog, Connection, Plan};
use serde_json::{Map, Value, json};

use crate::support::*;

#[test]
fn partitions_come_from_url_configuration_connection_and_parents() {
    let catalog = Catalog::embedded();
    let google = catalog.get("googlesuite").expect("an element");
    let plan = |url: Option<&str>, configuration: Value| {
        let mut entry = Map::new();
        entry.extend(url.map(|url| ("url".to_owned(), Value::from(url))));
        let (entry, _) = ResourceConfiguration::parse(&entry, "entry").expect("an entry");
        let configuration = configuration.as_object().expect("an object");
        Plan::resolve(google, "calendars/{calendarId}/changed-events", &entry, configuration).expect("a plan").0
    };
    let nobody = Connection::default();
    let template = "/hubs/general/calendars/{calendarId}/changed-events";
    let fixed = |plan: Plan| match plan.partitions(&nobody) {
        Partitions::Fixed(values) => values.join(" "),
        other => format!("{other:?}"),
    };
    assert_eq!(fixed(plan(Some("/hubs/x/calendars/a@b/changed-events"), json!({}))), "a@b");
    assert_eq!(fixed(plan(Some(template), json!({"calendarId": "a, b"}))), "a b");
    assert_eq!(fixed(plan(None, json!({"calendarId": ["a", "b"]}))), "a b");
    let Partitions::Parent(parent) = plan(Some(template), json!({})).partitions(&nobody) else { panic!("no parent") };
    assert_eq!(parent.resource().name, "calendars");

    let square = catalog.get("square").expect("an element");
    let (orders, _) = Plan::resolve(square, "orders", &ResourceConfiguration::default(), &Map::new()).expect("a plan");
    let locations: Vec<String> = (0..23).map(|number| format!("L{number:02}")).collect();
    let chunks = orders.partitions_of(&locations);
    assert_eq!(chunks.iter().map(|chunk| chunk.split(',').count()).collect::<Vec<_>>(), [10, 10, 3]);
}

#[test]
fn an_entry_that_cannot_be_carried_out_is_refused_with_valid_alternatives() {
    let catalog = Catalog::embedded();
    let square = catalog.get("square").expect("an element");
    let problems = |name: &str, entry: Value| {
        let (entry, _) =
            ResourceConfiguration::parse(entry.as_object().expect("an object"), "entry").expect("an entry");
        match Plan::resolve(square, name, &entry, &Map::new()) {
            Ok((plan, warnings)) => format!("{} {warnings:?}", plan.resource().name),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        }
    };
    let url = |query: &str| json!({"url": format!("/hubs/employee/timesheets?{query}")});
    let unknown = problems("timesheets", url("where=employee='1'"));
    assert!(unknown.contains("begin_updated_at with = > >="), "{unknown}");
    let or = problems("timesheets", url("where=status='OPEN' OR status='CLOSED'"));
    assert!(or.contains("joined by AND"), "{or}");
    let path = problems("timesheets", json!({"url": "/hubs/employee/timesheet"}));
    assert!(path.contains("the nearest is timesheets"), "{path}");
    let name = problems("timesheet", json!({}));
    assert!(name.contains("the nearest is timesheets"), "{name}");
    let size = problems("timesheets", json!({"pageSize": 10_000}));
    assert!(size.contains("200 is the most"), "{size}");
    let parameter = problems("timesheets", url("colour=red"));
    assert!(parameter.contains("colour means nothing"), "{parameter}");
}

#[test]
fn a_fixed_date_and_a_value_of_the_url_reach_the_request() {
    let catalog = Catalog::embedded();
    let square = catalog.get("square").expect("an element");
    let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s"});
    let configuration = configuration.as_object().expect("an object");
    let (connection, _) = Connection::resolve(square, configuration, &Map::new()).expect("a connection");
    let entry = json!({"url": "/hubs/ecommerce/payments?where=begin_updated_at='2026-08-01T00:00:00Z' AND \
                       end_updated_at='${nowTimeZone:GMT:yyyy-MM-dd'T'HH:mm:ss'Z'}' AND location_id='L&1'"});
    let (entry, _) = ResourceConfiguration::parse(entry.as_object().expect("an object"), "entry").expect("an entry");
    let (plan, _) = Plan::resolve(square, "payments", &entry, configuration).expect("a plan");
    let bases = Bases::default();
    let caller = CallContext { element: square, connection: &connection, bases: &bases, tokens: None };
    let query = |pass, lower: &str| {
        let cursor = Cursor::Watermark(at(lower));
        let listing = Listing::start(&plan, pass, &cursor, Some(at(lower)), "", at("2026-08-13T12:00:00Z"));
        let uri = listing.request(&plan, &caller).expect("a request").uri().to_string();
        url::Url::parse(&uri).expect("a URL").query_pairs().into_owned().collect::<BTreeMap<_, _>>()
    };
    let older = query(ScanMode::Changes, "2026-07-01T00:00:00Z");
    assert_eq!(older["updated_at_begin_time"], "2026-08-01T00:00:00.000Z", "nothing older is wanted");
    assert_eq!(older["updated_at_end_time"], "2026-08-13T12:00:00.000Z");
    assert_eq!(older["location_id"], "L&1");
    assert_eq!(query(ScanMode::Changes, "2026-08-05T00:00:00Z")["updated_at_begin_time"], "2026-08-05T00:00:00.000Z");
    assert_eq!(query(ScanMode::Complete, "2026-08-05T00:00:00Z")["updated_at_begin_time"], "2026-08-01T00:00:00.000Z");
}

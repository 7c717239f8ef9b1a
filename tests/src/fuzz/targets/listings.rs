//! Targets of a listing: its saved state, and the pages of a vendor.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::configuration::ResourceConfiguration;
use domain::secret::{MASK, Secret};
use elements::call::CallContext;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::{Bases, Catalog, Connection, Plan, Tokens};
use http::Response;
use serde_json::{Map, Value};

use super::{SEEDED, now, sort_of};
use crate::fuzz::Target;
use crate::harness::seed;

/// A plan of one of the embedded elements, with the values that a call needs.
struct Listed {
    plan: Plan,
    connection: Connection,
    tokens: Option<Tokens>,
}

impl Listed {
    fn all() -> Vec<Self> {
        let catalog = Catalog::embedded();
        let mut all = Vec::new();
        for element in SEEDED {
            let mut body = seed(element);
            let configuration = body["configuration"].as_object_mut().expect("an object");
            elements::connection::correct_swapped_keys(catalog.get(element).expect("an element"), configuration);
            let configuration = configuration.clone();
            let element = catalog.get(element).expect("an element");
            let connection = Connection::resolve(element, &configuration, &Map::new()).expect("a connection").0;
            for resource in &element.resources {
                let Ok((entry, _)) = ResourceConfiguration::parse(&resource.poll, "entry") else { continue };
                let Ok((plan, _)) = Plan::resolve(element, &resource.name, &entry, &configuration) else { continue };
                let tokens = Tokens {
                    access: Secret::new("an access token"),
                    refresh: None,
                    expires_at: None,
                    extra: BTreeMap::new(),
                };
                all.push(Self { plan, connection: connection.clone(), tokens: Some(tokens) });
            }
        }
        assert!(all.len() > 10, "only {} plans", all.len());
        all
    }

    fn caller<'a>(&'a self, bases: &'a Bases) -> CallContext<'a> {
        CallContext { element: self.plan.element(), connection: &self.connection, bases, tokens: self.tokens.as_ref() }
    }

    fn start(&self) -> Listing {
        Listing::start(&self.plan, ScanMode::Complete, &Cursor::Start, None, "", now())
    }
}

/// A stored resume point is continued or refused, and can be stored again.
pub(super) fn saved_listing() -> Target {
    let (all, bases) = (Listed::all(), Bases::default());
    let seeds = all.iter().map(|listed| listed.start().save().into_bytes()).collect();
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let Some(listing) = Listing::resume(text) else { return "refused".to_owned() };
        let saved = listing.save();
        assert_eq!(Listing::resume(&saved).map(|again| again.save()), Some(saved));
        let mut asked = 0;
        for listed in &all {
            let listing = Listing::resume(text).expect("resumed above");
            asked += usize::from(listing.request(&listed.plan, &listed.caller(&bases)).is_ok());
        }
        format!("resumed {asked}")
    };
    Target {
        name: "saved_listing",
        usual: 10_000,
        words: &["\"", "null", "0", "{", "}", "[", "]", "true", "http://"],
        seeds,
        run: Box::new(run),
    }
}

/// A page is read or refused with a reason. Every record that is read has an id, is part of the page by a slow reading,
/// and is read the same a second time.
pub(super) fn vendor_page() -> Target {
    let (all, bases) = (Listed::all(), Bases::default());
    let mut turn = 0;
    let run = move |input: &[u8]| {
        turn += 1;
        let listed = &all[turn % all.len()];
        let caller = listed.caller(&bases);
        let response = Response::builder()
            .status(200)
            .header("date", "Mon, 05 Jan 2026 09:00:00 GMT")
            .body(Bytes::copy_from_slice(input))
            .expect("a response");
        let read = || {
            let mut listing = listed.start();
            let _ = listing.request(&listed.plan, &caller);
            listing.read(&listed.plan, &caller, &response)
        };
        let name = listed.plan.name();
        match (read(), read()) {
            (Ok(page), Ok(again)) => {
                assert_eq!(page.records, again.records);
                let whole: Value = serde_json::from_slice(input).expect("what has records is JSON");
                for record in &page.records {
                    assert!(!record.id.is_empty(), "a record without an id");
                    let own: Value = serde_json::from_slice(&record.raw).expect("a record is JSON");
                    assert!(stands_in(&whole, &own), "{own} is not in the page");
                }
                format!("{name} {} {} {}", page.records.len().min(4), page.problems.len().min(4), page.done)
            }
            (Err(fault), Err(again)) => {
                assert_eq!(fault, again);
                format!("{name} {}", sort_of(&fault.to_string()))
            }
            (one, other) => panic!("{one:?} and then {other:?}"),
        }
    };
    Target {
        name: "vendor_page",
        usual: 4_000,
        words: &[
            "\"id\":",
            "\"updated_at\":",
            "\"timecards\":[",
            "\"cursor\":",
            "\"objects\":[",
            "\"meta\":{",
            "\"items\":[",
            "\"next\":",
            "\"nextPageToken\":",
            "\"contacts\":[",
            "\"total\":",
            "{",
            "}",
            "[",
            "]",
            ",",
            "null",
            "\"\"",
            "0",
            "\"2026-01-05T09:00:00Z\"",
        ],
        seeds: pages(),
        run: Box::new(run),
    }
}

/// Answers true if a value is part of another. Masked members match any value.
fn stands_in(whole: &Value, part: &Value) -> bool {
    let same = match (whole, part) {
        (Value::Object(there), Value::Object(here)) => {
            let is_same = |key: &String, value: &Value| there.get(key) == Some(value) || value == MASK;
            there.len() == here.len() && here.iter().all(|(key, value)| is_same(key, value))
        }
        _ => whole == part,
    };
    same || match whole {
        Value::Array(items) => items.iter().any(|item| stands_in(item, part)),
        Value::Object(members) => members.values().any(|member| stands_in(member, part)),
        _ => false,
    }
}

/// The bodies of the recorded exchanges.
fn pages() -> Vec<Vec<u8>> {
    let elements = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/elements");
    let mut pages = Vec::new();
    for element in SEEDED {
        let folder = elements.join(element).join("exchanges");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("exchanges").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        for file in files {
            let exchange: Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
            let steps = exchange["steps"].as_array().cloned().unwrap_or_default();
            pages.extend(steps.iter().map(|step| step["response"]["body"].to_string().into_bytes()));
        }
    }
    assert!(pages.len() > 20, "only {} pages", pages.len());
    pages
}

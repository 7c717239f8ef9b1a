//! The operator's view of a change: its path through the log by one id, and the metrics that it raises.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aws::metrics;
use aws::telemetry::{self, Lines};
use domain::secret::Secret;
use flow::fields;
use flow::testing::Page;
use local::inbox::Behaviour;
use serde_json::{Value, json};
use tests::harness::{SIGNATURE_KEY, SystemHarness, seed};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

#[tokio::test]
async fn one_id_leads_from_the_poll_to_the_callback_and_the_numbers_add_up() {
    let page = Page::default();
    let writer = BoxMakeWriter::new({
        let page = page.clone();
        move || page.clone()
    });
    let subscriber = telemetry::subscriber(Lines::Json, "debug", writer).expect("a subscriber");
    // A second one, or other tests' threads decide whether this one's lines are wanted.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber);

    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    for _ in 0..2 {
        world.sandbox.create("square", "timecards", json!({"team_member_id": "a name of somebody"})).expect("created");
    }
    let busy = Behaviour { fail_next: 1, signature_key: Some(Secret::new(SIGNATURE_KEY)), ..Behaviour::default() };
    world.inbox.behave("main", busy);
    world.tick().await;
    world.advance(Duration::from_secs(120)).await;
    assert_eq!(world.events().len(), 2);

    let text = page.text();
    assert!(!text.contains("a name of somebody"), "a record's content is in the log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let said = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();

    let [poll] = said("poll ended").into_iter().filter(|line| line[fields::EVENTS] == 2).collect::<Vec<_>>()[..] else {
        panic!("one poll emitted two events: {text}")
    };
    let trace = poll["span"][fields::TRACE].as_str().expect("a poll has an id");
    let attempts = said("attempt made");
    let outcomes: Vec<&Value> = attempts.iter().map(|line| &line[fields::ATTEMPT]).collect();
    assert_eq!(outcomes, [&json!(1), &json!(2)]);
    assert!(attempts.iter().all(|line| line["span"][fields::TRACE] == trace), "{attempts:?}");
    let parents: Vec<String> =
        world.inbox.received("main").iter().map(|receipt| receipt.headers["traceparent"].clone()).collect();
    assert!(parents.iter().all(|parent| parent.starts_with(&format!("00-{trace}-"))), "{parents:?}");
    assert_ne!(parents[0], parents[1], "each attempt is a span of its own");

    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line["_aws"].is_null()) {
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("metrics") {
            let name = metric["Name"].as_str().expect("a name");
            let values = line[name].as_array().cloned().unwrap_or_else(|| vec![line[name].clone()]);
            *sums.entry(name).or_default() += values.iter().map(|value| value.as_f64().expect("a number")).sum::<f64>();
        }
    }
    let sum = |metric: metrics::Metric| sums.get(metric.name).copied().unwrap_or_default();
    assert_eq!((sum(metrics::CREATED), sum(metrics::UPDATED), sum(metrics::DELETED)), (2.0, 0.0, 0.0));
    assert_eq!((sum(metrics::ATTEMPTS), sum(metrics::ATTEMPTS_FAILED), sum(metrics::DELIVERED)), (2.0, 1.0, 1.0));
    assert_eq!((sum(metrics::POLLS), sum(metrics::POLLS_QUEUED)), (3.0, 3.0));
    assert!(sum(metrics::DELIVERY_LATENCY) >= 5000.0, "the first retry step: {sums:?}");
    assert_eq!(sum(metrics::JOBS_FAILED), 0.0);
}

/// The operations guide, and every other page, by its name.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_guide_explains_every_metric_and_every_field_of_the_log() {
    let guide = page("docs/operations.md");
    for metric in metrics::ALL {
        let unit = if metric.unit == metrics::Unit::Count { "count" } else { "ms" };
        let row = format!("| `{}` | {unit} | {} |", metric.name, metric.about);
        assert!(guide.contains(&row), "the guide lacks this row:\n{row}");
    }
    let source = page("shared/flow/src/fields.rs");
    let names: Vec<&str> =
        source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split('"').nth(1)).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(guide.contains(&format!("| `{name}` | ")), "the guide does not explain the field {name}");
    }
}

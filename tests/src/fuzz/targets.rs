//! The list of fuzz targets, and the helpers that they share.

mod api;
mod listings;
mod texts;

use chrono::{DateTime, Utc};
use tokio::runtime::{Builder, Runtime};

use super::Target;

/// The seed bodies, by element.
const SEEDED: [&str; 5] = ["square", "maximizer", "googlesuite", "revel", "icontact"];

/// Every target.
pub fn targets() -> Vec<Target> {
    vec![
        api::authorization(),
        api::json_text(),
        api::instance_body(),
        texts::ceql_text(),
        texts::poll_url(),
        texts::date_pattern(),
        api::page_token(),
        listings::saved_listing(),
        texts::element_file(),
        texts::retry_after(),
        listings::vendor_page(),
    ]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The kind of a message: its words without numbers and punctuation.
fn sort_of(message: &str) -> String {
    message.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect()
}

/// The current time of every target.
fn now() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().expect("an instant")
}

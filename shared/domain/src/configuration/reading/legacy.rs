//! The older ways to name the polled resources: lines with bars, and names with commas.

use serde_json::{Map, Value};

use super::collector::Collector;
use super::dates::DATE_KEYS;
use crate::problem::below;

/// Turns `name|url|filter|updated field|format|zone|created field|format|zone` in lines, or names alone, into the
/// entries of `event.poller.configuration` that say the same.
pub(super) fn legacy_entries(text: &str, path: &str, collector: &mut Collector) -> Map<String, Value> {
    let mut entries = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts = line.split('|').map(str::trim).collect::<Vec<_>>();
        match parts.as_slice() {
            [name, url, rest @ ..] if url.starts_with('/') => {
                if rest.first().is_some_and(|filter| !filter.is_empty()) {
                    collector.warn(below(path, name), "the XPath filter is left out");
                }
                let dates = DATE_KEYS.iter().zip(rest.iter().skip(1));
                let dates = dates.map(|(key, part)| ((*key).to_owned(), Value::from(*part))).collect::<Map<_, _>>();
                let mut entry = Map::from_iter([("url".to_owned(), Value::from(*url))]);
                entry.insert("datesConfiguration".to_owned(), Value::Object(dates));
                entries.insert((*name).to_owned(), Value::Object(entry));
            }
            _ => {
                let names = line.split(['|', ',']).map(str::trim).filter(|name| !name.is_empty());
                entries.extend(names.map(|name| (name.to_owned(), Value::Object(Map::new()))));
            }
        }
    }
    entries
}

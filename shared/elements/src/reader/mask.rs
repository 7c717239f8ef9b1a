//! Masks secret members in a record's bytes.

use std::ops::Range;

use bytes::Bytes;
use domain::secret::MASK;

/// The record's bytes: a slice of the page, or a copy in which the secrets are masked. `raw` and `secrets` are parts of
/// the page.
pub(super) fn record_bytes<'a>(page: &Bytes, raw: &'a str, secrets: impl Iterator<Item = &'a str>) -> Bytes {
    let mut spans: Vec<Range<usize>> = secrets
        .filter(|value| *value != "\"\"")
        .map(|value| {
            let start = value.as_ptr() as usize - raw.as_ptr() as usize;
            start..start + value.len()
        })
        .collect();
    if spans.is_empty() {
        return page.slice_ref(raw.as_bytes());
    }
    spans.sort_by_key(|span| span.start);
    let mut masked = String::with_capacity(raw.len() + 16);
    let mut end = 0;
    for span in spans.into_iter().filter(|span| span.start < span.end) {
        if span.start < end {
            continue;
        }
        masked.push_str(&raw[end..span.start]);
        masked.push('"');
        masked.push_str(MASK);
        masked.push('"');
        end = span.end;
    }
    masked.push_str(&raw[end..]);
    Bytes::from(masked)
}

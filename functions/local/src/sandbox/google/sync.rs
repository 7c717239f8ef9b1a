//! Google's lists with sync tokens: pages of a full list, and deltas since a sync token.

use chrono::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::http::{Call, Reply, seal, unseal};
use super::super::records::page;
use super::super::state::SandboxState;
use super::GOOGLE;

/// A position in a list, or with `after` none the end of one.
#[derive(Serialize, Deserialize)]
struct Position {
    /// Digest of list and parameters.
    question: u64,
    /// Delta since this serial; full list if none.
    since: Option<u64>,
    /// Serial up to which this listing shows changes; the next delta begins there.
    until: u64,
    /// Page token: serial (of creation or change) of the last row shown.
    after: Option<u64>,
    /// Page token: its page is an empty one.
    blank: bool,
    generation: u32,
    at: i64,
}

/// A request for a page of a list with sync tokens.
pub(super) struct ListRequest<'a> {
    pub(super) collection: &'a str,
    pub(super) size: usize,
    pub(super) question: u64,
    pub(super) page: Option<&'a str>,
    pub(super) sync: Option<&'a str>,
    /// A full list shows deleted records.
    pub(super) with_deleted: bool,
    /// The life of a sync token.
    pub(super) life: Option<Duration>,
}

/// A page of a list with sync tokens.
pub(super) struct SyncPage {
    pub(super) rows: Vec<Value>,
    /// Next page's token, or else the sync token.
    pub(super) next: Result<String, String>,
}

/// The reason why a token is refused.
pub(super) enum BadToken {
    Page,
    Sync,
    Expired,
}

pub(super) fn sync_list(
    state: &mut SandboxState,
    account: &str,
    asked: &ListRequest<'_>,
    keep: impl Fn(&Value) -> bool,
) -> Result<SyncPage, BadToken> {
    let generations = state.account(GOOGLE, account).generations;
    let now = state.now();
    let position = match (asked.page, asked.sync) {
        (Some(token), _) => unseal::<Position>(token)
            .filter(|position| {
                position.question == asked.question
                    && position.after.is_some()
                    && position.generation == generations.cursors
            })
            .ok_or(BadToken::Page)?,
        (None, sync) => {
            let since = match sync {
                None => None,
                Some(token) => {
                    let position = unseal::<Position>(token)
                        .filter(|position| position.question == asked.question && position.after.is_none())
                        .ok_or(BadToken::Sync)?;
                    let old = asked.life.is_some_and(|life| now.timestamp() - position.at > life.num_seconds());
                    if old || position.generation != generations.sync_tokens {
                        return Err(BadToken::Expired);
                    }
                    Some(position.until)
                }
            };
            let until = state.settled_until(GOOGLE, account, asked.collection);
            let (question, at) = (asked.question, now.timestamp());
            Position { question, since, until, after: Some(0), blank: false, generation: generations.cursors, at }
        }
    };
    let after = position.after.unwrap_or(0);
    let mut rows: Vec<(u64, Value)> = Vec::new();
    for record in state.records(GOOGLE, account, asked.collection) {
        match position.since {
            Some(since) if record.change > since && record.change <= position.until && record.change > after => {
                rows.extend(record.value.as_ref().or(record.stub.as_ref()).map(|value| (record.change, value.clone())));
            }
            None if record.born > after => {
                let gone = record.stub.as_ref().filter(|_| asked.with_deleted && record.value.is_none());
                rows.extend(record.listed(now).or(gone).map(|value| (record.born, value.clone())));
            }
            _ => {}
        }
    }
    rows.sort_by_key(|(serial, _)| *serial);
    rows.retain(|(_, value)| keep(value));

    let faults = state.faults(GOOGLE, account);
    let size = if position.blank { 0 } else { asked.size };
    let more = rows.len() > size;
    rows.truncate(size);
    let last = rows.last().map_or(after, |(serial, _)| *serial);
    let rows = page(rows.into_iter().map(|(_, value)| value).collect(), 0, usize::MAX, &faults).rows;
    let next = if more {
        let blank = faults.empty_pages && !position.blank;
        Ok(seal(&Position { after: Some(last), blank, ..position }))
    } else {
        Err(seal(&Position {
            since: None,
            after: None,
            generation: generations.sync_tokens,
            at: now.timestamp(),
            ..position
        }))
    };
    Ok(SyncPage { rows, next })
}

/// A number that is the same for the same list and parameters; size and place do not count.
pub(super) fn question(collection: &str, call: &Call) -> u64 {
    const APART: [&str; 7] = ["pageToken", "syncToken", "maxResults", "pageSize", "alt", "prettyPrint", "key"];
    let mut asked: Vec<_> = call.query.iter().filter(|(name, _)| !APART.contains(&name.as_str())).collect();
    asked.sort();
    let digest = Sha256::digest(format!("{collection}{asked:?}"));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn size(call: &Call, name: &str, usual: usize, most: usize) -> usize {
    call.query(name).and_then(|text| text.parse().ok()).filter(|size| *size > 0).unwrap_or(usual).min(most)
}

pub(super) fn continued(mut reply: Value, next: Result<String, String>) -> Reply {
    match next {
        Ok(token) => reply["nextPageToken"] = json!(token),
        Err(token) if !token.is_empty() => reply["nextSyncToken"] = json!(token),
        Err(_) => {}
    }
    Reply::ok(&reply)
}

//! Gmail: messages, and the history of their labels.

use serde_json::{Value, json};

use super::super::http::{Call, Reply};
use super::super::records::page;
use super::super::state::SandboxState;
use super::sync::size;
use super::{GOOGLE, about_parameter, missing};

/// Gmail writes down what happened to a message; an edit that moves no label leaves no trace.
pub(super) fn changed(
    state: &mut SandboxState,
    account: &str,
    collection: &str,
    before: Option<&Value>,
    after: Option<&Value>,
) {
    if collection != "messages" {
        return;
    }
    let Some(message) = after.or(before) else { return };
    let brief = json!({"id": message["id"], "threadId": message["threadId"]});
    let labelled = json!({"id": message["id"], "threadId": message["threadId"], "labelIds": message["labelIds"]});
    let labels =
        |value: Option<&Value>| value.and_then(|value| value["labelIds"].as_array()).cloned().unwrap_or_default();
    let moved = |from: &[Value], to: &[Value]| -> Vec<Value> {
        to.iter().filter(|label| !from.contains(label)).cloned().collect()
    };
    let mut rows = Vec::new();
    match (before, after) {
        (None, _) => rows.push(("messagesAdded", json!([{"message": labelled}]))),
        (_, None) => rows.push(("messagesDeleted", json!([{"message": labelled}]))),
        _ => {
            let (old, new) = (labels(before), labels(after));
            for (what, names) in [("labelsAdded", moved(&old, &new)), ("labelsRemoved", moved(&new, &old))] {
                if !names.is_empty() {
                    rows.push((what, json!([{"message": labelled, "labelIds": names}])));
                }
            }
        }
    }
    for (index, (what, list)) in rows.into_iter().enumerate() {
        let serial = if index == 0 { state.serial() } else { state.next_serial() };
        state.append(GOOGLE, account, "history", json!({"id": serial.to_string(), "messages": [brief], what: list}));
    }
}

pub(super) fn history(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    let Some(start) = call.query("startHistoryId").and_then(|text| text.parse::<u64>().ok()) else {
        return about_parameter(
            400,
            "global",
            "invalidArgument",
            "Missing or invalid startHistoryId",
            "startHistoryId",
        );
    };
    let generations = state.account(GOOGLE, account).generations;
    if start < generations.history_from {
        return missing();
    }
    let until = state.settled_until(GOOGLE, account, "history");
    let kinds: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "historyTypes").map(|(_, kind)| kind.as_str()).collect();
    let rows: Vec<Value> = state
        .records(GOOGLE, account, "history")
        .into_iter()
        .filter(|record| record.born > start && record.born <= until)
        .filter_map(|record| record.value.clone())
        .filter(|row| {
            let fields = [
                ("messageAdded", "messagesAdded"),
                ("messageDeleted", "messagesDeleted"),
                ("labelAdded", "labelsAdded"),
                ("labelRemoved", "labelsRemoved"),
            ];
            kinds.is_empty() || fields.iter().any(|(kind, field)| kinds.contains(kind) && row.get(field).is_some())
        })
        .filter(|row| call.query("labelId").is_none_or(|label| row.to_string().contains(&format!("\"{label}\""))))
        .collect();
    let mut reply = json!({"historyId": until.to_string()});
    paged(state, account, call, rows, size(call, "maxResults", 100, 500), "history", &mut reply)
}

pub(super) fn messages(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    let after =
        call.query("q").and_then(|q| q.split(' ').find_map(|word| word.strip_prefix("after:")?.parse::<i64>().ok()));
    let labels: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "labelIds").map(|(_, label)| label.as_str()).collect();
    let mut rows = state.listed(GOOGLE, account, "messages");
    rows.retain(|row| {
        let at = row["internalDate"].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let has = |label: &str| row["labelIds"].as_array().is_some_and(|all| all.iter().any(|one| one == label));
        after.is_none_or(|after| at >= after * 1000)
            && labels.iter().all(|label| has(label))
            && (has("TRASH") <= labels.contains(&"TRASH"))
    });
    rows.reverse();
    let rows: Vec<Value> = rows.into_iter().map(|row| json!({"id": row["id"], "threadId": row["threadId"]})).collect();
    let mut reply = json!({"resultSizeEstimate": rows.len()});
    paged(state, account, call, rows, size(call, "maxResults", 100, 500), "messages", &mut reply)
}

/// Gmail's page tokens are plain offsets; a key without rows is left out.
fn paged(
    state: &SandboxState,
    account: &str,
    call: &Call,
    rows: Vec<Value>,
    size: usize,
    key: &str,
    reply: &mut Value,
) -> Reply {
    let offset = match call.query("pageToken").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return about_parameter(400, "global", "invalidArgument", "Invalid pageToken", "pageToken"),
    };
    let page = page(rows, offset, size, &state.faults(GOOGLE, account));
    if !page.rows.is_empty() {
        reply[key] = Value::Array(page.rows);
    }
    if let Some(next) = page.next {
        reply["nextPageToken"] = json!(next.to_string());
    }
    Reply::ok(reply)
}

pub(super) fn formatted(mut message: Value, call: &Call) -> Value {
    match call.query("format") {
        Some("minimal") => {
            message.as_object_mut().map(|fields| fields.remove("payload"));
        }
        Some("metadata") => {
            let wanted: Vec<&str> = call
                .query
                .iter()
                .filter(|(name, _)| name == "metadataHeaders")
                .map(|(_, header)| header.as_str())
                .collect();
            if let Some(headers) = message.pointer_mut("/payload/headers").and_then(Value::as_array_mut)
                && !wanted.is_empty()
            {
                headers.retain(|header| header["name"].as_str().is_some_and(|name| wanted.contains(&name)));
            }
        }
        _ => {}
    }
    message
}

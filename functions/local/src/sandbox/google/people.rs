//! Google People: contact groups.

use chrono::Duration;
use serde_json::{Map, Value, json};

use super::super::http::{Call, Reply};
use super::super::state::SandboxState;
use super::GOOGLE;
use super::sync::{BadToken, ListRequest, continued, question, size, sync_list};

/// About how long a sync token of contact groups lives.
const GROUP_TOKEN_LIFE: Duration = Duration::days(7);

fn invalid(reason: Option<&str>, message: &str) -> Reply {
    let mut error = json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT"});
    if let Some(reason) = reason {
        error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "people.googleapis.com"}]);
    }
    Reply::json(400, &json!({"error": error}))
}

pub(super) fn contact_groups(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    if call.query("pageSize").is_some_and(|text| !text.parse().is_ok_and(|size: usize| size <= 1000)) {
        return invalid(None, "Page size must be at most 1000.");
    }
    let known = ["clientData", "groupType", "memberCount", "metadata", "name"];
    let mask: Vec<&str> =
        call.query("groupFields").unwrap_or("metadata,groupType,memberCount,name").split(',').map(str::trim).collect();
    if let Some(wrong) = mask.iter().find(|field| !known.contains(field)) {
        return invalid(None, &format!("Invalid groupFields mask path: \"{wrong}\"."));
    }
    let asked = ListRequest {
        collection: "contactGroups",
        size: size(call, "pageSize", 30, 1000),
        question: question("contactGroups", call),
        page: call.query("pageToken"),
        sync: call.query("syncToken"),
        with_deleted: false,
        life: Some(GROUP_TOKEN_LIFE),
    };
    let page = match sync_list(state, account, &asked, |_| true) {
        Ok(page) => page,
        Err(BadToken::Expired) => {
            let text = "Sync token is expired. Clear local cache and retry call without the sync token.";
            return invalid(Some("EXPIRED_SYNC_TOKEN"), text);
        }
        Err(BadToken::Page) => return invalid(None, "Invalid page token."),
        Err(BadToken::Sync) => {
            return invalid(None, "Sync token is invalid, or the request's parameters differ from the first one's.");
        }
    };
    let mut reply = json!({"totalItems": state.listed(GOOGLE, account, "contactGroups").len()});
    if !page.rows.is_empty() {
        let shown = |group: &Value| -> Map<String, Value> {
            let mut fields = group.as_object().cloned().unwrap_or_default();
            fields.retain(|name, _| match name.as_str() {
                "resourceName" | "etag" => true,
                "formattedName" => mask.contains(&"name"),
                name => mask.contains(&name),
            });
            fields
        };
        reply["contactGroups"] = page.rows.iter().map(|group| Value::Object(shown(group))).collect();
    }
    continued(reply, page.next)
}

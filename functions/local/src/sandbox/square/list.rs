//! Square's lists: the pages and cursors of a search or a GET list.

use chrono::{Duration, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::Vendor;
use super::super::http::{Call, Reply, seal, unseal};
use super::super::records::page;
use super::super::state::SandboxState;
use super::bad;
use super::endpoints::Endpoint;
use super::select::select;

/// The old name of a timecard has the old name of its team member too.
pub(super) fn shaped(endpoint: &Endpoint, mut value: Value) -> Value {
    if endpoint.list_key == "shifts"
        && let Some(member) = value.get("team_member_id").cloned()
    {
        value["employee_id"] = member;
    }
    value
}

/// A GET list takes the same things as a search, from the query.
pub(super) fn query_as_body(call: &Call) -> Value {
    let mut body = Map::new();
    for (name, value) in &call.query {
        let typed =
            if name == "limit" { value.parse::<u64>().map_or(json!(value), |n| json!(n)) } else { json!(value) };
        body.insert(name.clone(), typed);
    }
    Value::Object(body)
}

/// The position that a cursor continues from. It holds only for the same question, and expires after a while.
#[derive(Serialize, Deserialize)]
struct Cursor {
    offset: usize,
    question: u64,
    at: i64,
    generation: u32,
}

/// About what a forum answer says; every page renews it.
const CURSOR_LIFE: Duration = Duration::minutes(15);

pub(super) fn list(state: &mut SandboxState, account: &str, endpoint: &Endpoint, call: &Call, body: &Value) -> Reply {
    let limit = match &body["limit"] {
        Value::Null => endpoint.default,
        limit => match limit.as_u64() {
            Some(0) => return bad("VALUE_TOO_LOW", "Field must be greater than or equal to 1.", "limit"),
            Some(limit) if limit as usize > endpoint.max => {
                return bad("VALUE_TOO_HIGH", &format!("Field must not be greater than {}.", endpoint.max), "limit");
            }
            Some(limit) => limit as usize,
            None => return bad("EXPECTED_INTEGER", "Expected an integer value.", "limit"),
        },
    };
    let generation = state.account(Vendor::Square, account).generations.cursors;
    let question = question(endpoint, body);
    let offset = match &body["cursor"] {
        Value::Null => 0,
        cursor => {
            let known = cursor.as_str().and_then(unseal::<Cursor>).filter(|cursor| {
                cursor.question == question
                    && cursor.generation == generation
                    && state.now().timestamp() - cursor.at < CURSOR_LIFE.num_seconds()
            });
            match known {
                Some(cursor) => cursor.offset,
                None => return bad("INVALID_CURSOR", "The pagination cursor is invalid or has expired.", "cursor"),
            }
        }
    };
    let rows = match select(state, account, endpoint, call, body) {
        Ok(rows) => rows,
        Err(reply) => return reply,
    };
    let page = page(rows, offset, limit, &state.faults(Vendor::Square, account));
    let mut reply = Map::new();
    if !page.rows.is_empty() {
        let rows: Vec<Value> = page.rows.into_iter().map(|row| shaped(endpoint, row)).collect();
        reply.insert(endpoint.list_key.into(), Value::Array(rows));
    }
    if let Some(offset) = page.next {
        let cursor = Cursor { offset, question, at: state.now().timestamp(), generation };
        reply.insert("cursor".into(), json!(seal(&cursor)));
    }
    if endpoint.collection == "catalog" {
        let now = state.vendor_now(Vendor::Square, account);
        reply.insert("latest_time".into(), json!(now.to_rfc3339_opts(SecondsFormat::Millis, true)));
    }
    Reply::ok(&Value::Object(reply))
}

/// A number that is the same for the same filter and order.
fn question(endpoint: &Endpoint, body: &Value) -> u64 {
    let mut asked = body.clone();
    if let Value::Object(fields) = &mut asked {
        fields.remove("cursor");
        fields.remove("limit");
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{}{asked}", endpoint.path));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

//! Square's filters and orders: the rows that a list shows.

use std::cmp::Ordering;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Map, Value, json};

use super::super::Vendor;
use super::super::http::{Call, Reply};
use super::super::state::SandboxState;
use super::endpoints::Endpoint;
use super::{bad, instant};

/// An order: the field, if there is one, and `ASC` or `DESC`.
struct Sort {
    field: Option<String>,
    order: String,
}

impl Sort {
    fn of(field: &Value, order: &Value) -> Self {
        let order = order.as_str().unwrap_or("DESC").to_owned();
        Self { field: field.as_str().map(str::to_owned), order }
    }

    fn or(mut self, field: &str) -> Self {
        self.field.get_or_insert_with(|| field.to_owned());
        self
    }
}

/// The rows that the question asks for, in the order it asks for.
pub(super) fn select(
    state: &SandboxState,
    account: &str,
    endpoint: &Endpoint,
    call: &Call,
    body: &Value,
) -> Result<Vec<Value>, Reply> {
    let mut rows = state.listed(Vendor::Square, account, endpoint.collection);
    let query = &body["query"];
    let filter = &query["filter"];
    for name in filter.as_object().into_iter().flat_map(Map::keys) {
        if !endpoint.filters.contains(&name.as_str()) {
            return Err(bad(
                "BAD_REQUEST",
                &format!("The field named '{name}' is unrecognized."),
                &format!("query.filter.{name}"),
            ));
        }
    }
    let sort = Sort::of(&query["sort"]["field"], &query["sort"]["order"]);
    let sort = match endpoint.list_key {
        "timecards" | "shifts" => {
            timecards(&mut rows, filter)?;
            sort.or("START_AT")
        }
        "team_members" => {
            same(&mut rows, "status", &filter["status"]);
            sort
        }
        "customers" => {
            between(&mut rows, "created_at", &filter["created_at"], false)?;
            between(&mut rows, "updated_at", &filter["updated_at"], false)?;
            same(&mut rows, "email_address", &filter["email_address"]["exact"]);
            Sort { field: sort.field.filter(|field| field != "DEFAULT"), ..sort }
        }
        "orders" => orders(&mut rows, body)?,
        "objects" => {
            catalog(&mut rows, body)?;
            sort
        }
        "payments" => payments(&mut rows, state, call, body)?,
        _ => sort,
    };
    sorted(rows, endpoint, &sort)
}

/// Puts the rows in an order, or refuses an order that the list does not know.
fn sorted(mut rows: Vec<Value>, endpoint: &Endpoint, sort: &Sort) -> Result<Vec<Value>, Reply> {
    let Some(field) = &sort.field else { return Ok(rows) };
    if !endpoint.sorts.contains(&field.as_str()) {
        return Err(bad("INVALID_ENUM_VALUE", &format!("`{field}` is not a valid enum value."), "query.sort.field"));
    }
    let column = field.to_lowercase();
    // Stable, so rows of one instant keep the order of their creation.
    rows.sort_by(|a, b| match (instant(&a[&column]), instant(&b[&column])) {
        (Some(a), Some(b)) if sort.order == "ASC" => a.cmp(&b),
        (Some(a), Some(b)) => b.cmp(&a),
        (a, b) => b.is_some().cmp(&a.is_some()).then(Ordering::Equal),
    });
    Ok(rows)
}

fn timecards(rows: &mut Vec<Value>, filter: &Value) -> Result<(), Reply> {
    among(rows, "location_id", &filter["location_ids"]);
    among(rows, "team_member_id", &filter["team_member_ids"]);
    among(rows, "team_member_id", &filter["employee_ids"]);
    same(rows, "status", &filter["status"]);
    between(rows, "start_at", &filter["start"], true)?;
    between(rows, "end_at", &filter["end"], true)?;
    let days = &filter["workday"]["date_range"];
    if let (Some(first), Some(last)) = (days["start_date"].as_str(), days["end_date"].as_str()) {
        rows.retain(|row| row["start_at"].as_str().is_some_and(|at| at[..10] >= *first && at[..10] <= *last));
    }
    Ok(())
}

fn orders(rows: &mut Vec<Value>, body: &Value) -> Result<Sort, Reply> {
    let (filter, sort) = (&body["query"]["filter"], &body["query"]["sort"]);
    let locations = body["location_ids"].as_array().map_or(0, Vec::len);
    if locations == 0 {
        return Err(bad("MISSING_REQUIRED_PARAMETER", "Must provide at least 1 location_id.", "location_ids"));
    }
    if locations > 10 {
        return Err(bad("ARRAY_LENGTH_TOO_LONG", "Array must have a length of at most 10.", "location_ids"));
    }
    let sort = Sort::of(&sort["sort_field"], &sort["sort_order"]).or("CREATED_AT");
    among(rows, "location_id", &body["location_ids"]);
    among(rows, "state", &filter["state_filter"]["states"]);
    for field in ["created_at", "updated_at", "closed_at"] {
        let range = &filter["date_time_filter"][field];
        if range.is_null() {
            continue;
        }
        if !sort.field.as_deref().is_some_and(|sorted_by| sorted_by.eq_ignore_ascii_case(field)) {
            return Err(bad(
                "BAD_REQUEST",
                "The sort field must be the field of the date filter.",
                "query.sort.sort_field",
            ));
        }
        between(rows, field, range, true)?;
    }
    Ok(sort)
}

fn catalog(rows: &mut Vec<Value>, body: &Value) -> Result<(), Reply> {
    if body["include_deleted_objects"] != true {
        rows.retain(|row| row["is_deleted"] != true);
    }
    among(rows, "type", &body["object_types"]);
    if let Some(after) = time_of(&body["begin_time"], "begin_time")? {
        rows.retain(|row| instant(&row["updated_at"]).is_some_and(|at| at > after));
    }
    Ok(())
}

fn payments(rows: &mut Vec<Value>, state: &SandboxState, call: &Call, body: &Value) -> Result<Sort, Reply> {
    let year_ago = state.now() - Duration::days(365);
    let begin = call.query("begin_time").map_or_else(|| year_ago.to_rfc3339(), str::to_owned);
    between(rows, "created_at", &json!({"start_at": begin, "end_at": body["end_time"]}), true)?;
    let updated = json!({"start_at": body["updated_at_begin_time"], "end_at": body["updated_at_end_time"]});
    between(rows, "updated_at", &updated, true)?;
    same(rows, "location_id", &body["location_id"]);
    Ok(Sort::of(&body["sort_field"], &body["sort_order"]).or("CREATED_AT"))
}

fn among(rows: &mut Vec<Value>, field: &str, allowed: &Value) {
    if let Some(allowed) = allowed.as_array().filter(|allowed| !allowed.is_empty()) {
        rows.retain(|row| allowed.contains(&row[field]));
    }
}

fn same(rows: &mut Vec<Value>, field: &str, wanted: &Value) {
    if !wanted.is_null() {
        rows.retain(|row| row[field] == *wanted);
    }
}

fn time_of(value: &Value, field: &str) -> Result<Option<DateTime<Utc>>, Reply> {
    if value.is_null() {
        return Ok(None);
    }
    instant(value).map(Some).ok_or_else(|| bad("INVALID_TIME", "Must be an RFC 3339 timestamp.", field))
}

/// Keeps the rows in a range whose start belongs to it, and whose end does if `inclusive`.
fn between(rows: &mut Vec<Value>, field: &str, range: &Value, inclusive: bool) -> Result<(), Reply> {
    let start = time_of(&range["start_at"], &format!("{field}.start_at"))?;
    let end = time_of(&range["end_at"], &format!("{field}.end_at"))?;
    if start.is_none() && end.is_none() {
        return Ok(());
    }
    rows.retain(|row| {
        instant(&row[field]).is_some_and(|at| {
            start.is_none_or(|start| at >= start) && end.is_none_or(|end| at < end || (inclusive && at == end))
        })
    });
    Ok(())
}

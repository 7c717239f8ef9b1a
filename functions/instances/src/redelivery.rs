//! Calls that redeliver many deliveries, list the attempts of one and the deliveries of a notification, and rotate the
//! signing secret.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::DeliveryId;
use domain::limits;
use domain::problem::FieldProblem;
use flow::deliver;
use flow::deliver::query::{self, Filter, Found};
use flow::deliver::row::Status;
use flow::instances::{self, NewSigningKey};
use serde_json::{Map, Value, json};

use crate::ApiState;
use crate::deliveries::{STATUSES, find, send_again, shown};
use crate::error::ApiError;
use crate::input::{JsonBody, OptionalJsonBody, Path, Query, Target, flag, part, valid_minutes};
use crate::pagination::Parameters;
use crate::route::{Kind, Routes, op};
use crate::view::instant;

type Answer = Result<Json<Value>, ApiError>;

/// Minutes that the old secret stays valid, unless the call names another time: a day.
const DEFAULT_MINUTES: i64 = 24 * 60;
/// The most deliveries that one call sends again.
const MOST_AT_ONCE: usize = limits::REDELIVERIES;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Deliveries";
    Routes::new()
        .post(
            "/instances/{id}/deliveries/redeliver",
            redeliver,
            op(
                "redeliverMany",
                TAG,
                "Send many deliveries again",
                "All that match, whatever became of them before, at most 1000 a call, the youngest of them; `more` says \
                 that there are others. 404 where one of the ids is not the instance's.",
            )
            .takes("WhichDeliveries")
            .answers("Redelivered"),
        )
        .get(
            "/instances/{id}/deliveries/{delivery}/attempts",
            attempts,
            op("listAttempts", TAG, "List the attempts of a delivery", "The youngest twenty, the oldest first.").answers("Attempts"),
        )
        .post(
            "/instances/{id}/signing-secret/rotate",
            rotate,
            op(
                "rotateSigningSecret",
                TAG,
                "Rotate the signing secret",
                "The new secret is shown this once. The old one signs beside it for the given time, a day by default.",
            )
            .also_at("/instances/signing-secret/rotate")
            .takes("Rotation")
            .answers("Rotated")
            .or(&[409]),
        )
        .get(
            "/notifications/{notification}/subscriptions/{id}/deliveries",
            of_notification,
            op(
                "listDeliveriesOfNotification",
                "Subscriptions",
                "List the deliveries of a notification",
                "By the number on the wire or by its event id.",
            )
            .query("hydrate", Kind::Flag, "`true`: with the bodies as they are sent.")
            .answers("Deliveries"),
        )
}

/// `GET /instances/{id}/deliveries/{delivery}/attempts`: the youngest twenty, oldest first.
pub async fn attempts(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let found = find(&state, &target, part(&path, "delivery")).await?;
    Ok(Json(json!(found.row.attempts)))
}

/// `POST /instances/{id}/deliveries/redeliver` with any of `ids`, `statuses`, `from` and `to`: sends again all that
/// match, whatever became of them before, at most [`MOST_AT_ONCE`] a call, the youngest of them; `more` says that
/// there are others.
pub async fn redeliver(State(state): State<ApiState>, target: Target, JsonBody(body): JsonBody) -> Answer {
    let asked = Asked::of(&body).map_err(ApiError::invalid)?;
    target.record(&state).await?;
    let (mut found, mut after) = (Vec::new(), None);
    if !asked.ids.is_empty() {
        for id in &asked.ids {
            found.push(find(&state, &target, id).await?);
        }
    } else {
        loop {
            let ports = &state.service.ports;
            let size = limits::PAGE_SIZE.min(MOST_AT_ONCE - found.len());
            let page = query::of_instance(ports, target.instance, &asked.filter, size, after.as_ref()).await?;
            found.extend(page.deliveries);
            after = page.next;
            if after.is_none() || found.len() >= MOST_AT_ONCE {
                break;
            }
        }
    }
    let Json(mut answer) = send_again(&state, &found).await?;
    answer["more"] = json!(after.is_some());
    Ok(Json(answer))
}

/// The deliveries that a call asks to send again.
struct Asked {
    ids: Vec<String>,
    filter: Filter,
}

impl Asked {
    fn of(body: &Value) -> Result<Self, Vec<FieldProblem>> {
        const EXPECTED: &str = "an object with any of ids, statuses, from and to, and at least one";
        let Some(object) = body.as_object().filter(|object| !object.is_empty()) else {
            return Err(vec![FieldProblem::new("body", body.to_string(), EXPECTED)]);
        };
        let mut problems = Vec::new();
        for key in object.keys().filter(|key| !["ids", "statuses", "from", "to"].contains(&key.as_str())) {
            problems.push(FieldProblem::new(key.clone(), "a key", EXPECTED));
        }
        let ids = texts(object, "ids", "a list of up to 1000 delivery ids", &mut problems);
        let mut statuses = Vec::new();
        for word in texts(object, "statuses", STATUSES, &mut problems) {
            match Status::named(&word) {
                Some(status) => statuses.push(status),
                None => problems.push(FieldProblem::new("statuses", word, STATUSES)),
            }
        }
        let from = time(object, "from", &mut problems);
        let to = time(object, "to", &mut problems);
        let committed = (from.is_some() || to.is_some())
            .then(|| from.unwrap_or(DateTime::UNIX_EPOCH)..to.unwrap_or(DateTime::<Utc>::MAX_UTC));
        if ids.len() > MOST_AT_ONCE {
            problems.push(FieldProblem::new("ids", format!("{} ids", ids.len()), "a list of up to 1000 delivery ids"));
        }
        if problems.is_empty() {
            Ok(Self { ids, filter: Filter { statuses, committed, ..Filter::default() } })
        } else {
            Err(problems)
        }
    }
}

fn texts(object: &Map<String, Value>, key: &str, expected: &str, problems: &mut Vec<FieldProblem>) -> Vec<String> {
    let Some(value) = object.get(key) else { return Vec::new() };
    let texts = value.as_array().and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect());
    texts.unwrap_or_else(|| {
        problems.push(FieldProblem::new(key, value.to_string(), expected));
        Vec::new()
    })
}

fn time(object: &Map<String, Value>, key: &str, problems: &mut Vec<FieldProblem>) -> Option<DateTime<Utc>> {
    let value = object.get(key)?;
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    if parsed.is_none() {
        problems.push(FieldProblem::new(key, value.to_string(), "a time like 2026-01-05T09:00:00Z"));
    }
    parsed
}

/// `GET /notifications/{notification}/subscriptions/{id}/deliveries`: of one notification, by the number on the wire
/// or by its event id. By number all of the instance's deliveries are looked through; by event id, none but its own.
pub async fn of_notification(
    State(state): State<ApiState>,
    target: Target,
    Path(path): Path<Parameters>,
    Query(parameters): Query,
) -> Answer {
    target.record(&state).await?;
    let (ports, notification) = (&state.service.ports, part(&path, "notification"));
    let mut found: Vec<Found> = Vec::new();
    if notification.bytes().all(|byte| byte.is_ascii_digit()) {
        let filter = Filter { number: Some(notification.to_owned()), ..Filter::default() };
        found = query::of_instance(ports, target.instance, &filter, 1, None).await?.deliveries;
    }
    if found.is_empty() {
        found.extend(query::one(ports, target.instance, &DeliveryId(notification.to_owned())).await?);
    }
    if found.is_empty() {
        return Err(ApiError::not_found("The instance has no notification of this id."));
    }
    let hydrate = flag(&parameters, "hydrate")?;
    let mut views = Vec::new();
    for one in &found {
        let mut view = shown(one);
        if hydrate {
            view["notification"] = json!(String::from_utf8_lossy(&query::body(ports, one).await?));
        }
        views.push(view);
    }
    Ok(Json(Value::Array(views)))
}

/// `POST /instances/{id}/signing-secret/rotate`, with or without `{"validMinutes": n}`: a new secret, shown this once.
/// The old one signs beside it for that time.
pub async fn rotate(State(state): State<ApiState>, target: Target, OptionalJsonBody(body): OptionalJsonBody) -> Answer {
    let both = TimeDelta::minutes(valid_minutes(&body, DEFAULT_MINUTES)?);
    let NewSigningKey { key, previous_until } =
        instances::rotate_signing_key(&state.service, &target.caller, target.instance, both).await?;
    Ok(Json(json!({ "signingSecret": key.expose(), "previousValidUntil": previous_until.map(instant) })))
}

/// Sends what was held back while an instance was disabled, the youngest [`MOST_AT_ONCE`].
pub async fn send_queued(state: &ApiState, target: &Target) -> Result<(), ApiError> {
    let record = target.record(state).await?;
    let Some(callback) = &record.callback else { return Ok(()) };
    let ports = &state.service.ports;
    // A callback that is disabled itself stays so: to enable an instance says nothing of its callback.
    if deliver::callback_view(ports, record.organization, &callback.url).await?.disabled.is_some() {
        return Ok(());
    }
    let filter = Filter { statuses: vec![Status::Queued], ..Filter::default() };
    let found = query::of_instance(ports, target.instance, &filter, MOST_AT_ONCE, None).await?.deliveries;
    send_again(state, &found).await.map(drop)
}

//! Calls about events and deliveries: list, read, redeliver, send a test event, and read the callback's own state.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use domain::ceql::{self, Operator};
use domain::id::{DeliveryId, InstanceId};
use domain::limits;
use domain::problem::FieldProblem;
use flow::accounts::auth::Caller;
use flow::deliver::outbox::ElementLabel;
use flow::deliver::query::{self, Filter, Found, FoundPage};
use flow::deliver::redeliver;
use flow::deliver::row::Status;
use flow::deliver::{self as delivery, DeliveryError};
use flow::instances::{self, ListingQuery};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use store::Cursor;
use store::records::delivery::DeliveryRow;
use store::records::instance::InstanceRecord;

use crate::ApiState;
use crate::error::ApiError;
use crate::event_view::event_view;
use crate::input::{Authenticated, Path, Query, Target, find_element, flag, part};
use crate::pagination::{self, Paging, Parameters};
use crate::route::{Kind, Operation, Routes, op};
use crate::view::instant;

type Answer = Result<Json<Value>, ApiError>;
type PageAnswer = Result<(HeaderMap, Json<Value>), ApiError>;

/// Bodies of a page that are read at once.
const READ_AT_ONCE: usize = 16;

/// The routes of this page.
pub fn routes() -> Routes {
    const EVENTS: &str = "Events";
    const DELIVERIES: &str = "Deliveries";
    const SUBSCRIPTIONS: &str = "Subscriptions";
    Routes::new()
        .get(
            "/instances/events",
            events_of_all,
            by_status(op(
                "listEvents",
                EVENTS,
                "List the events of all instances",
                "The youngest first, as Cloud Elements lists them: one entry is one notification. With an instance's \
                 token, of that instance alone, in pages.",
            ))
            .answers("Events"),
        )
        .get(
            "/instances/{id}/events",
            events,
            by_status(op("listEventsOfInstance", EVENTS, "List the events of an instance", "The youngest first."))
                .answers("Events"),
        )
        .get(
            "/instances/{id}/events/{event}",
            event,
            op("getEvent", EVENTS, "Read an event", "By the `eventId` that its notification carried.")
                .also_at("/instances/events/{event}")
                .answers("Event"),
        )
        .get(
            "/instances/{id}/deliveries",
            list,
            by_status(op(
                "listDeliveries",
                DELIVERIES,
                "List deliveries",
                "What was sent or waits, the youngest first.",
            ))
            .also_at("/instances/deliveries")
            .answers("Deliveries"),
        )
        .put(
            "/instances/{id}/deliveries",
            resume,
            op(
                "resumeDeliveries",
                DELIVERIES,
                "Send what is queued again",
                "And resume the callback: whoever asks says that it works. With `status`, sends what has that status.",
            )
            .also_at("/instances/deliveries")
            .query("status", Kind::Texts, STATUSES)
            .answers("Redelivered"),
        )
        .post(
            "/instances/{id}/deliveries/test",
            test,
            op(
                "sendTestEvent",
                DELIVERIES,
                "Send a test event",
                "It says that it is a test, and goes the way of every other.",
            )
            .answers("TestSent"),
        )
        .get(
            "/instances/{id}/deliveries/{delivery}",
            get,
            op("getDelivery", DELIVERIES, "Read a delivery", "With the body as it is sent, and every attempt.")
                .answers("DeliveryWithBody"),
        )
        .put(
            "/instances/{id}/deliveries/{delivery}",
            resend,
            op("sendDeliveryAgain", DELIVERIES, "Send a delivery again", "Whatever became of it before.")
                .answers("Redelivered"),
        )
        .get(
            "/instances/{id}/callback",
            callback,
            op("getCallback", DELIVERIES, "How the callback is doing", "404 where the instance has none.")
                .answers("Callback"),
        )
        .get(
            "/notifications/subscriptions",
            subscriptions,
            op(
                "listSubscriptions",
                SUBSCRIPTIONS,
                "List subscriptions",
                "A subscription is an instance's callback, under the instance's id. Instances without one are left \
                 out, so that a page may hold fewer entries than asked for.",
            )
            .paged()
            .answers("Subscriptions"),
        )
        .get(
            "/notifications/subscriptions/{id}",
            subscription_of,
            op(
                "getSubscription",
                SUBSCRIPTIONS,
                "Read a subscription",
                "404 where the instance has no callback or its events are off.",
            )
            .answers("Subscription"),
        )
        .get(
            "/notifications/subscriptions/deliveries",
            find_deliveries,
            by_clause(op("findDeliveries", SUBSCRIPTIONS, "Find deliveries of all instances", "The youngest first."))
                .query("hydrate", Kind::Flag, "`true`: with the bodies as they are sent.")
                .answers("Deliveries"),
        )
        .put(
            "/notifications/subscriptions/deliveries",
            redeliver,
            by_clause(op(
                "redeliver",
                SUBSCRIPTIONS,
                "Send found deliveries again",
                "Page after page, and resume their callbacks. Without a `where`, everything.",
            ))
            .answers("Redelivered"),
        )
}

/// A page of deliveries or events, narrowed by where they stand.
fn by_status(operation: Operation) -> Operation {
    operation.query("status", Kind::Texts, STATUSES).paged()
}

/// A page of what a clause finds.
fn by_clause(operation: Operation) -> Operation {
    const WHERE: &str = "CEQL: comparisons with `=` joined by `AND`, of `channel`, `status` (also `IN`), `config.url` \
                         and `subscriptionId`, like `status='queued'`.";
    operation.query("where", Kind::Text, WHERE).paged()
}

/// Every status, for messages.
pub(crate) const STATUSES: &str = "created, delivered, retry, waiting, queued, kept or superseded";

impl From<DeliveryError> for ApiError {
    fn from(error: DeliveryError) -> Self {
        Self::internal(&error)
    }
}

/// A page of an instance's deliveries, the youngest first, and where it goes on.
async fn page_of(
    state: &ApiState,
    target: &Target,
    parameters: Parameters,
) -> Result<(Vec<Found>, HeaderMap), ApiError> {
    target.record(state).await?;
    let paging = Paging::<DeliveryRow>::of(parameters)?;
    let filter = Filter { statuses: statuses_of(&paging.others)?, ..Filter::default() };
    let ports = &state.service.ports;
    let page = query::of_instance(ports, target.instance, &filter, paging.size, paging.after.as_ref()).await?;
    let headers = pagination::headers(page.deliveries.len(), page.next.as_ref().map(Cursor::as_str));
    Ok((page.deliveries, headers))
}

fn statuses_of(parameters: &Parameters) -> Result<Vec<Status>, ApiError> {
    let named = parameters.iter().filter(|(name, _)| name == "status");
    let statuses = named.flat_map(|(_, words)| words.split(',')).map(|word| {
        Status::named(word).ok_or_else(|| ApiError::invalid(vec![FieldProblem::new("status", word, STATUSES)]))
    });
    statuses.collect()
}

/// One delivery of the caller's instance, or 404.
pub(crate) async fn find(state: &ApiState, target: &Target, id: &str) -> Result<Found, ApiError> {
    target.record(state).await?;
    let found = query::one(&state.service.ports, target.instance, &DeliveryId(id.to_owned())).await?;
    found.ok_or_else(|| ApiError::not_found("The instance has no event or delivery of this id."))
}

// ---------------------------------------------------------------- Events

/// `GET /instances/{id}/events`: notifications as Cloud Elements lists its events.
pub async fn events(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> PageAnswer {
    let (found, headers) = page_of(&state, &target, parameters).await?;
    Ok((headers, Json(shown_events(&state, &found).await?)))
}

/// `GET /instances/events`: of the instance whose token came along, or else of all of the organization's.
pub async fn events_of_all(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> PageAnswer {
    if let Some(instance) = caller.instance {
        return events(State(state), Target { caller, instance }, Query(parameters)).await;
    }
    let paging = Paging::<DeliveryRow>::of(parameters)?;
    let filter = Filter { statuses: statuses_of(&paging.others)?, ..Filter::default() };
    let (ports, after) = (&state.service.ports, paging.after.as_ref());
    let page = query::of_organization(ports, caller.organization, &filter, None, paging.size, after).await?;
    let headers = pagination::headers(page.deliveries.len(), page.next.as_ref().map(Cursor::as_str));
    Ok((headers, Json(shown_events(&state, &page.deliveries).await?)))
}

async fn shown_events(state: &ApiState, found: &[Found]) -> Result<Value, ApiError> {
    let views: Vec<_> = found.iter().map(|found| event_view(&state.service.ports, found)).collect();
    let views: Vec<_> = stream::iter(views).buffered(READ_AT_ONCE).try_collect().await?;
    Ok(json!(views))
}

/// `GET /instances/{id}/events/{event}`.
pub async fn event(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let found = find(&state, &target, part(&path, "event")).await?;
    Ok(Json(json!(event_view(&state.service.ports, &found).await?)))
}

// ---------------------------------------------------------------- Deliveries

/// A delivery: the keys of Cloud Elements, and everything that was tried.
pub(crate) fn shown(found: &Found) -> Value {
    let row = &found.row;
    json!({
        "id": row.id,
        "notificationId": row.number,
        "subscriptionId": row.instance,
        "status": row.status.word(),
        "createdDate": instant(row.created_at),
        "updatedDate": instant(row.updated_at),
        "elementInstanceId": row.instance,
        "elementKey": row.element,
        "resource": row.resource,
        "objectType": row.object_type,
        "callbackUrl": row.callback,
        "events": row.events,
        "bytes": row.bytes,
        "omitted": row.omitted,
        "attemptsMade": row.attempts_made,
        "attempts": row.attempts,
        "nextAttempt": row.due.filter(|_| !row.status.is_settled()),
    })
}

/// `GET /instances/{id}/deliveries`: what was sent or waits, the youngest first; `status` narrows it.
pub async fn list(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> PageAnswer {
    let (found, headers) = page_of(&state, &target, parameters).await?;
    Ok((headers, Json(found.iter().map(shown).collect())))
}

/// `GET /instances/{id}/deliveries/{delivery}`: one, with the body as it is sent.
pub async fn get(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let found = find(&state, &target, part(&path, "delivery")).await?;
    let mut view = shown(&found);
    let body = query::body(&state.service.ports, &found).await?;
    view["notification"] = json!(String::from_utf8_lossy(&body));
    Ok(Json(view))
}

/// `PUT /instances/{id}/deliveries`: sends again what is queued, or what has the given `status`, and resumes the
/// callback.
pub async fn resume(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> Answer {
    target.record(&state).await?;
    let mut statuses = statuses_of(&parameters)?;
    if statuses.is_empty() {
        statuses.push(Status::Queued);
    }
    let filter = Filter { statuses, ..Filter::default() };
    let ports = &state.service.ports;
    let (mut found, mut after) = (Vec::new(), None::<Cursor<DeliveryRow>>);
    loop {
        let page = query::of_instance(ports, target.instance, &filter, limits::PAGE_SIZE, after.as_ref()).await?;
        found.extend(page.deliveries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    send_again(&state, &found).await
}

/// `PUT /instances/{id}/deliveries/{delivery}`: sends one again, whatever became of it before.
pub async fn resend(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let found = find(&state, &target, part(&path, "delivery")).await?;
    send_again(&state, &[found]).await
}

pub(crate) async fn send_again(state: &ApiState, found: &[Found]) -> Answer {
    let sent = redeliver::redeliver(&state.service.ports, found).await?;
    Ok(Json(json!({ "redelivered": sent, "deliveries": found.iter().map(shown).collect::<Vec<_>>() })))
}

/// `POST /instances/{id}/deliveries/test`: sends an event that says it is a test.
pub async fn test(State(state): State<ApiState>, target: Target) -> Answer {
    let record = target.record(&state).await?;
    let element = find_element(&state, &record.element)?;
    let label = ElementLabel { key: &element.key, hub: &element.hub };
    let sent = redeliver::send_test(&state.service.ports, &record, label).await?;
    Ok(Json(json!({ "delivery": sent, "callbackUrl": record.callback.map(|callback| callback.url) })))
}

/// `GET /instances/{id}/callback`: how the callback is doing.
pub async fn callback(State(state): State<ApiState>, target: Target) -> Answer {
    let record = target.record(&state).await?;
    let Some(callback) = &record.callback else {
        return Err(ApiError::not_found("The instance has no callback: its events are only kept."));
    };
    let view = delivery::callback_view(&state.service.ports, record.organization, &callback.url).await?;
    let mut shown = json!(view);
    shown["url"] = json!(callback.url);
    Ok(Json(shown))
}

// ---------------------------------------------------------------- Subscriptions, as in Cloud Elements

/// A subscription is an instance's callback, under the instance's id.
fn subscription(record: &InstanceRecord) -> Option<Value> {
    let callback = record.callback.as_ref().filter(|_| record.events_enabled)?;
    Some(json!({
        "id": record.id,
        "channel": "webhook",
        "topics": [format!("instance-{}-{}-events", record.id, record.element)],
        "config": { "url": callback.url },
        "active": !record.disabled,
    }))
}

/// `GET /notifications/subscriptions`.
pub async fn subscriptions(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> PageAnswer {
    let paging = Paging::of(parameters)?;
    let query = ListingQuery { page_size: paging.size, after: paging.after, ..ListingQuery::default() };
    let page = instances::list(&state.service.ports, caller.organization, &query).await?;
    let shown: Vec<Value> = page.entries.iter().filter_map(subscription).collect();
    Ok((pagination::headers(shown.len(), page.next.as_ref().map(Cursor::as_str)), Json(Value::Array(shown))))
}

/// `GET /notifications/subscriptions/{id}`.
pub async fn subscription_of(State(state): State<ApiState>, target: Target) -> Answer {
    let shown = subscription(&target.record(&state).await?);
    shown.map(Json).ok_or_else(|| ApiError::not_found("No subscription found for the given id."))
}

/// `GET /notifications/subscriptions/deliveries?where=status='queued' and config.url='…'`.
pub async fn find_deliveries(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> PageAnswer {
    let hydrate = flag(&parameters, "hydrate")?;
    let paging = Paging::<DeliveryRow>::of(parameters)?;
    let page = matching(&state, &caller, &paging, paging.after.as_ref()).await?;
    let mut shown: Vec<Value> = page.deliveries.iter().map(shown).collect();
    if hydrate {
        for (view, found) in shown.iter_mut().zip(&page.deliveries) {
            let body = query::body(&state.service.ports, found).await?;
            view["notification"] = json!(String::from_utf8_lossy(&body));
            view["subscription"] =
                json!({ "id": found.row.instance, "channel": "webhook", "config": { "url": found.row.callback } });
        }
    }
    Ok((pagination::headers(shown.len(), page.next.as_ref().map(Cursor::as_str)), Json(Value::Array(shown))))
}

/// `PUT` of the same: sends again all that matches, page after page, and resumes its callbacks.
pub async fn redeliver(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> Answer {
    let paging = Paging::<DeliveryRow>::of(parameters)?;
    let (mut found, mut after) = (Vec::new(), paging.after.clone());
    loop {
        let page = matching(&state, &caller, &paging, after.as_ref()).await?;
        found.extend(page.deliveries);
        after = page.next;
        if after.is_none() {
            return send_again(&state, &found).await;
        }
    }
}

async fn matching(
    state: &ApiState,
    caller: &Caller,
    paging: &Paging<DeliveryRow>,
    after: Option<&Cursor<DeliveryRow>>,
) -> Result<FoundPage, ApiError> {
    let clause = paging.others.iter().find(|(name, _)| name == "where").map_or("", |(_, clause)| clause.as_str());
    let (filter, only) = filter_of(clause).map_err(|problem| ApiError::invalid(vec![problem]))?;
    let ports = &state.service.ports;
    Ok(query::of_organization(ports, caller.organization, &filter, only, paging.size, after).await?)
}

/// Reads a `where` clause over deliveries: the filter, and the one instance it may name.
fn filter_of(clause: &str) -> Result<(Filter, Option<InstanceId>), FieldProblem> {
    const EXPECTED: &str =
        "comparisons with = joined by AND, of channel, status, config.url and subscriptionId, like status='queued'";
    let (mut filter, mut only) = (Filter::default(), None);
    if clause.trim().is_empty() {
        return Ok((filter, only));
    }
    let problem = |expected: String| FieldProblem::new("where", clause, expected);
    let expression = ceql::parse(clause).map_err(|wrong| problem(format!("CEQL; {wrong}")))?;
    for comparison in expression.all_of().ok_or_else(|| problem(EXPECTED.to_owned()))? {
        let value = comparison.values.first().map_or("", |value| value.text().as_str());
        match (comparison.attribute.as_str(), comparison.operator) {
            ("channel", Operator::Equal) if value == "webhook" => {}
            ("channel", Operator::Equal) => return Err(problem("the channel 'webhook', the only one there is".into())),
            ("status", Operator::Equal | Operator::In) => {
                for word in &comparison.values {
                    let word = word.text();
                    let status = Status::named(word).ok_or_else(|| problem(format!("a status: {STATUSES}")))?;
                    filter.statuses.push(status);
                }
            }
            ("config.url", Operator::Equal) => filter.url = Some(value.to_owned()),
            ("subscriptionId", Operator::Equal) => {
                only = Some(value.parse().map_err(|_| problem("the id of a subscription".into()))?);
            }
            _ => return Err(problem(EXPECTED.to_owned())),
        }
    }
    Ok((filter, only))
}

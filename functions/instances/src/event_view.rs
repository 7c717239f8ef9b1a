//! Cloud Elements' shape of an event: a notification as `GET /instances/{id}/events` shows it.

use chrono::{DateTime, Utc};
use domain::id::{DeliveryId, InstanceId};
use flow::deliver::DeliveryError;
use flow::deliver::query::{self, Found};
use flow::deliver::row::{Attempt, DeliveryRow, Status};
use flow::ports::Ports;
use serde::Serialize;

/// A notification as `GET /instances/{id}/events` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// `message.eventId` of the notification.
    pub id: DeliveryId,
    /// When it was committed, `yyyy-MM-dd'T'HH:mm:ss'Z'`.
    pub event_date: String,
    /// `RECEIVED` (not yet tried), `DISPATCHED` (on its way), `CONSUMED` (kept: there is no callback, or newer ones took
    /// its place) or `NOTIFIED` (the callback has it). Cloud Elements' `NEW` does not occur: what is not committed is not there.
    pub status: &'static str,
    /// The notification's body.
    pub provider_data: String,
    /// The attempts, a line each.
    pub notified_data: Vec<String>,
    /// The instance of the event, in a list of one.
    pub event_element_instances: Vec<EventInstanceView>,
}

/// The part of an event that is about an instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventInstanceView {
    /// [`EventView::id`].
    pub event_id: DeliveryId,
    /// The instance.
    pub element_instance_id: InstanceId,
    /// `id` of the notification.
    pub notification_id: String,
    /// As in the event.
    pub notified_data: Vec<String>,
    /// When it was committed.
    pub created_date: String,
    /// When it last changed.
    pub updated_date: String,
}

/// A delivery as an event of Cloud Elements.
///
/// # Errors
/// The store failed, or the body has expired.
pub async fn event_view(ports: &Ports, found: &Found) -> Result<EventView, DeliveryError> {
    let body = query::body(ports, found).await?;
    Ok(EventView::of(&found.row, &body))
}

impl EventView {
    fn of(row: &DeliveryRow, body: &[u8]) -> Self {
        let date = |instant: DateTime<Utc>| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let notified_data: Vec<String> = row.attempts.iter().map(in_words).collect();
        Self {
            id: row.id.clone(),
            event_date: date(row.created_at),
            status: match row.status {
                Status::Created => "RECEIVED",
                Status::Retry | Status::Waiting | Status::Queued => "DISPATCHED",
                Status::Kept | Status::Superseded => "CONSUMED",
                Status::Delivered => "NOTIFIED",
            },
            provider_data: String::from_utf8_lossy(body).into_owned(),
            notified_data: notified_data.clone(),
            event_element_instances: vec![EventInstanceView {
                event_id: row.id.clone(),
                element_instance_id: row.instance,
                notification_id: row.number.clone(),
                notified_data,
                created_date: date(row.created_at),
                updated_date: date(row.updated_at),
            }],
        }
    }
}

fn in_words(attempt: &Attempt) -> String {
    let Attempt { number, url, status, error, .. } = attempt;
    match (status, error) {
        (Some(status), _) => format!("attempt {number} to {url}: {status}"),
        (None, error) => format!("attempt {number} to {url}: {}", error.as_deref().unwrap_or("no answer")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_delivered_notification_is_an_event_that_was_notified() {
        let row = json!({
            "id": "d", "number": "17", "instance": 42, "organization": 7, "element": "square", "resource": "orders",
            "objectType": "orders", "format": "elements", "status": "delivered", "events": [], "bytes": 2, "pieces": 0,
            "packing": "plain", "createdAt": "2026-01-05T09:00:00Z", "updatedAt": "2026-01-05T09:00:07Z",
            "attemptsMade": 2, "attempts": [
                {"number": 1, "at": "2026-01-05T09:00:00Z", "url": "https://a.example/", "durationMs": 9},
                {"number": 2, "at": "2026-01-05T09:00:07Z", "url": "https://a.example/", "durationMs": 9, "status": 200},
            ],
        });
        let view = EventView::of(&serde_json::from_value(row).expect("a row"), b"{}");
        assert_eq!((view.status, view.event_date.as_str()), ("NOTIFIED", "2026-01-05T09:00:00Z"));
        let lines = ["attempt 1 to https://a.example/: no answer", "attempt 2 to https://a.example/: 200"];
        assert_eq!((&view.notified_data[..], view.provider_data.as_str()), (&lines.map(String::from)[..], "{}"));
        let of_instance = &view.event_element_instances[0];
        assert_eq!(
            (of_instance.notification_id.as_str(), of_instance.updated_date.as_str()),
            ("17", "2026-01-05T09:00:07Z")
        );
    }
}

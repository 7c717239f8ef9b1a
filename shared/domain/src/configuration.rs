//! The settings of an instance: the platform's keys of its `configuration`, read into types.
//!
//! [`keys`] is the table of the keys, [`Words`] has the words of the closed lists.

pub mod keys;
mod reading;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::date::DatePattern;
use crate::poll_url::PollUrl;
use crate::secret::Secret;
use crate::zone::Zone;

pub use words::{Words, words};

/// Minutes between polls where `event.poller.refresh_interval` is absent.
pub const DEFAULT_INTERVAL_MINUTES: u16 = 15;

/// The platform's settings of an instance. Holds secrets: it is stored sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSettings {
    /// `event.notification.enabled`: nothing is polled unless it is true.
    pub enabled: bool,
    /// The callback. None: events are only kept for reading.
    pub callback: Option<Callback>,
    /// `event.poller.refresh_interval`, minutes between polls, 1 to 1440.
    pub interval_minutes: u16,
    /// The polled resources by name.
    pub resources: BTreeMap<String, ResourceConfiguration>,
    /// `filter.response.nulls`: leave null fields out of answers of the hub API.
    pub filter_response_nulls: bool,
    /// `event.vendor.type`.
    pub vendor_type: VendorType,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            callback: None,
            interval_minutes: DEFAULT_INTERVAL_MINUTES,
            resources: BTreeMap::new(),
            filter_response_nulls: true,
            vendor_type: VendorType::Polling,
        }
    }
}

/// The way in which events come from the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VendorType {
    /// Pollux asks the vendor.
    #[default]
    Polling,
    /// The vendor calls. Accepted for compatibility; polling goes on all the same.
    Webhook,
}

/// The callback: the address that notifications are sent to, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Callback {
    /// `event.notification.callback.url`: http or https with a host.
    pub url: String,
    /// `event.notification.signature.key`: key of Cloud Elements' HMAC signature, used as it is.
    #[serde(default)]
    pub signature_key: Option<Secret>,
    /// `event.notification.callback.headers`: sent with every notification, in this order.
    #[serde(default)]
    pub headers: Vec<(String, Secret)>,
    /// `event.notification.basic.username` and `.password`.
    #[serde(default)]
    pub basic: Option<(String, Secret)>,
    /// `event.notification.format`.
    #[serde(default)]
    pub format: NotificationFormat,
    /// `notification.webhook.failure.policy`.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// `event.notification.coalesce`: send only the newest waiting event of a record.
    #[serde(default)]
    pub coalesce: bool,
}

/// The shape of a notification's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NotificationFormat {
    /// `elements`: Cloud Elements' envelope.
    #[default]
    Elements,
    /// `cloudevents`: one CloudEvents 1.0 event in structured mode.
    CloudEvents,
    /// `cloudevents-batch`: a JSON array of CloudEvents.
    CloudEventsBatch,
}

/// The policy for a failed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailurePolicy {
    /// `retry`: tried again by the retry schedule, then queued.
    #[default]
    Retry,
    /// `queue`: queued at once, sent again when asked for.
    Queue,
}

/// The settings of one polled resource: an entry of `event.poller.configuration`. The element decides what is None.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceConfiguration {
    /// Platform path with macros. None for `{}`.
    pub url: Option<PollUrl>,
    /// Path of the id in a record, dotted; `@.@id` for XML-like records. None for `""`.
    pub id_field: Option<String>,
    /// The date of the last change.
    pub updated: Option<DateField>,
    /// The date of creation.
    pub created: Option<DateField>,
    /// Drop records that were not updated since the last poll.
    pub filter_by_updated_date: bool,
    /// Drop records updated after the poll began.
    pub filter_by_current_date: bool,
    /// `createdCheckTolerance`: seconds between created and updated that still mean CREATED.
    pub created_check_tolerance_s: Option<u32>,
    /// Records on a page, 1 to 10000.
    pub page_size: Option<u32>,
    /// `pollDelay`: seconds taken off the last poll time, for vendors whose search lags.
    pub poll_delay_s: u32,
    /// The rule that separates CREATED from UPDATED.
    pub created_rule: CreatedRule,
    /// The action of the first poll.
    pub initial_poll: InitialPoll,
    /// `sweepInterval`: minutes between complete listings that look for deletions.
    pub sweep_minutes: Option<u32>,
    /// `maxDeleteShare`: a listing that would delete more than this share (0 to 1) is held for approval.
    pub max_delete_share: Option<f64>,
    /// `refreshInterval`: minutes between polls of this resource, 1 to 1440. None: the instance's.
    pub interval_minutes: Option<u16>,
}

impl Default for ResourceConfiguration {
    fn default() -> Self {
        Self {
            url: None,
            id_field: None,
            updated: None,
            created: None,
            filter_by_updated_date: true,
            filter_by_current_date: false,
            created_check_tolerance_s: None,
            page_size: None,
            poll_delay_s: 0,
            created_rule: CreatedRule::Observed,
            initial_poll: InitialPoll::Silent,
            sweep_minutes: None,
            max_delete_share: None,
            interval_minutes: None,
        }
    }
}

/// A date field of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DateField {
    /// Path in the record, dotted.
    pub field: String,
    /// The pattern by which it is written.
    pub pattern: DatePattern,
    /// The zone of a text without an offset. None: the element's, or GMT.
    #[serde(default)]
    pub zone: Option<Zone>,
}

/// The rule that separates CREATED from UPDATED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CreatedRule {
    /// `observed`: never seen before, and created in the stretch that was just polled.
    #[default]
    Observed,
    /// `tolerance`: created and updated lie within the tolerance of each other, as in Cloud Elements.
    Tolerance,
}

/// The action of a resource's first poll on the records that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InitialPoll {
    /// `silent`: remembers them.
    #[default]
    Silent,
    /// `emit`: emits them as CREATED.
    Emit,
}

//! A resource: its names, its calls, the place of its records, fan-out and hydration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::call::Call;
use super::change::{ChangeDetection, Deletion, Fingerprint, OperationLists};
use super::conditions::{ConditionTargets, OrderBy};
use super::errors::ErrorRule;
use super::paging::Paging;
use super::time::RecordTimes;
use super::value_types::Span;
use crate::pointer::Pointer;

/// Values for resources that have none of their own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Records on a page: 100 by default.
    pub page_size: Option<u32>,
    /// A poll reads this far back before the covered time: 2 minutes by default.
    pub overlap: Option<Span>,
    /// The longest time that a call may take.
    pub timeout: Option<Span>,
}

/// A kind of record that can be read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name in `event.poller.configuration`.
    pub name: String,
    /// The name for people.
    #[serde(default)]
    pub label: String,
    /// `objectType` of an event: the name of the configured entry by default.
    pub object_type: Option<String>,
    /// Paths after `/hubs/{hub}`; `{name}` is a parameter, filled from the configuration or by fan-out.
    pub hub_paths: Vec<String>,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The call that lists its records.
    pub list: Call,
    /// The call that reads one record by `${id}`.
    pub get: Option<Call>,
    /// The place of the record in the answer to `get`: the whole answer by default.
    pub get_pointer: Option<Pointer>,
    /// The place of records in an answer to `list`.
    pub records: Records,
    /// The timestamps of records.
    #[serde(default)]
    pub time: RecordTimes,
    /// The way from one page of a listing to the next.
    #[serde(default)]
    pub page: Paging,
    /// The way in which changes are found.
    pub change: ChangeDetection,
    /// The way in which deletions are found.
    #[serde(default)]
    pub delete: Deletion,
    /// Several listings, one for each partition.
    #[serde(default)]
    pub fanout: Fanout,
    /// Reading records one by one after listing them.
    #[serde(default)]
    pub hydrate: Hydrate,
    /// Lists of operations inside each record of the page (a history feed).
    pub ops: Option<OperationLists>,
    /// The value that differs between versions of a record: all its bytes by default.
    #[serde(default)]
    pub fingerprint: Fingerprint,
    /// The meaning of the attributes of `where=`.
    #[serde(default, rename = "where")]
    pub conditions: BTreeMap<String, ConditionTargets>,
    /// The vendor's parameter for `orderBy`, if its pages come in any order.
    pub order: Option<OrderBy>,
    /// Members whose values are masked in a record's bytes.
    #[serde(default)]
    pub redact: Vec<Pointer>,
    /// The meaning of answers; these rules come before the element's.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// The entry of `event.poller.configuration` that Cloud Elements would show for it.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub poll: Map<String, Value>,
}

/// The place of records in an answer, and of their ids.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The list.
    pub pointer: Pointer,
    /// An answer without the list means an empty list.
    #[serde(default)]
    pub missing_ok: bool,
    /// The places of a record's id, in order of preference.
    pub id: Vec<Pointer>,
    /// The part of the id's text that is used.
    #[serde(default)]
    pub id_derive: IdPart,
    /// Values of `idField` that mean the element's own id, though no record has such a member.
    #[serde(default)]
    pub id_words: Vec<String>,
}

/// The part of an id's text that is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdPart {
    /// The whole text.
    #[default]
    Whole,
    /// The text after the last slash.
    LastSegment,
}

/// Several listings, one for each partition.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fanout {
    /// There is one listing.
    #[default]
    None,
    /// One listing for each value of a connection field.
    List {
        /// The field.
        from: String,
    },
    /// One listing for each record of another resource.
    Parent {
        /// The name of that resource.
        resource: String,
        /// The parameter of the hub path that names one of its records.
        param: String,
    },
    /// One listing for a number of records of another resource at a time, `${partition|list}`.
    Chunk {
        /// The name of that resource.
        resource: String,
        /// The number of records.
        size: u32,
    },
}

/// Reading records one by one after listing them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Hydrate {
    /// The listing has whole records.
    #[default]
    None,
    /// Every record is read by the `get` call.
    ById {
        /// The meaning of a 404.
        on_404: OnMissing,
    },
}

/// The meaning of a 404 for a listed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// The record is already deleted, and its deletion is found in another way.
    Drop,
    /// The record is deleted.
    Delete,
}

//! Timestamps of records: their places, their formats and their zones.

use domain::date::DatePattern;
use domain::zone::Zone;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::pointer::Pointer;

/// The timestamps of records: their places and their formats.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordTimes {
    /// The time of the last change.
    pub updated: Option<Pointer>,
    /// The time of creation.
    pub created: Option<Pointer>,
    /// The formats: `rfc3339`, `naive`, `epoch_ms`, `epoch` or a `SimpleDateFormat` pattern, tried in order.
    #[serde(default)]
    pub parse: Vec<DateStyle>,
    /// The zone of timestamps without offset: `config`, a pointer into the page, or a zone, in order.
    #[serde(default)]
    pub zone: Vec<ZoneSource>,
    /// Texts that mean there is no timestamp.
    #[serde(default)]
    pub invalid: Vec<String>,
}

/// The format of a timestamp.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum DateStyle {
    /// With offset or `Z`, any number of fraction digits.
    Rfc3339,
    /// Without offset, `T` or a space between, any number of fraction digits.
    Naive,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// A `SimpleDateFormat` pattern.
    Pattern(DatePattern),
}

impl TryFrom<String> for DateStyle {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.as_str() {
            "rfc3339" => Self::Rfc3339,
            "naive" => Self::Naive,
            "epoch" => Self::Epoch,
            "epoch_ms" => Self::EpochMs,
            _ => Self::Pattern(DatePattern::parse(&text).map_err(|problem| problem.to_string())?),
        })
    }
}

/// The source of the zone of a timestamp without offset.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum ZoneSource {
    /// The resource's configuration, else the connection's `time_zone`.
    Config,
    /// A place in the page.
    Response(Pointer),
    /// This zone.
    Fixed(Zone),
}

impl TryFrom<String> for ZoneSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "config" => Ok(Self::Config),
            pointer if pointer.starts_with('/') => Pointer::try_from(text).map(Self::Response),
            "utc" => Ok(Self::Fixed(Zone::GMT)),
            zone => Zone::parse(zone).map(Self::Fixed).map_err(|error| error.to_string()),
        }
    }
}

//! Parses `datesConfiguration`: the date fields of a record, their patterns and their time zones.

use super::collector::Collector;
use super::fields::{Fields, parse_record_path, parse_text};
use crate::configuration::DateField;
use crate::date::DatePattern;
use crate::zone::Zone;

/// The pattern of a date field that is named without one.
const DEFAULT_PATTERN: &str = "yyyy-MM-dd'T'HH:mm:ssXXX";

/// The keys of one date field.
struct DateKeys {
    field: &'static str,
    format: &'static str,
    zone: &'static str,
}

const UPDATED: DateKeys =
    DateKeys { field: "updatedDateField", format: "updatedDateFormat", zone: "updatedDateTimezone" };
const CREATED: DateKeys =
    DateKeys { field: "createdDateField", format: "createdDateFormat", zone: "createdDateTimezone" };

/// The keys of `datesConfiguration`, in the order of the older way to write them.
pub(super) const DATE_KEYS: [&str; 6] =
    [UPDATED.field, UPDATED.format, UPDATED.zone, CREATED.field, CREATED.format, CREATED.zone];

/// The fields of update and creation. What creation lacks of format and zone is as for the update.
pub(super) fn parse_dates(fields: &Fields<'_>, collector: &mut Collector) -> (Option<DateField>, Option<DateField>) {
    for key in fields.object.keys() {
        collector.warn_unknown(fields, key, DATE_KEYS.iter().copied());
    }
    let updated = parse_date_field(fields, &UPDATED, None, collector);
    let created = parse_date_field(fields, &CREATED, updated.as_ref(), collector);
    (updated, created)
}

/// One date field. What it lacks of format and zone is taken from `like`.
fn parse_date_field(
    fields: &Fields<'_>,
    keys: &DateKeys,
    like: Option<&DateField>,
    collector: &mut Collector,
) -> Option<DateField> {
    let field = parse_record_path(fields, keys.field, collector);
    let pattern = parse_pattern(fields, keys.format, collector);
    let zone = parse_zone(fields, keys.zone, collector);
    let Some(field) = field else {
        if pattern.is_some() || zone.is_some() {
            collector.warn(fields.at(keys.field), "it is absent, so its format and time zone are left out");
        }
        return None;
    };
    let pattern = pattern.or_else(|| like.map(|like| like.pattern.clone())).or_else(|| {
        if fields.get(keys.format).is_none() {
            collector.warn(fields.at(keys.format), format!("it is absent and is taken to be {DEFAULT_PATTERN}"));
        }
        DatePattern::parse(DEFAULT_PATTERN).ok()
    })?;
    Some(DateField { field, pattern, zone: zone.or_else(|| like.and_then(|like| like.zone.clone())) })
}

fn parse_pattern(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<DatePattern> {
    let text = parse_text(fields, key, collector)?;
    match DatePattern::parse(text) {
        Ok(pattern) => {
            for warning in pattern.warnings() {
                collector.warn(fields.at(key), warning);
            }
            Some(pattern)
        }
        Err(problem) => {
            collector.refuse(fields.at(key), text, problem.to_string());
            None
        }
    }
}

fn parse_zone(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<Zone> {
    let text = parse_text(fields, key, collector)?;
    match Zone::parse(text) {
        Ok(zone) => Some(zone),
        Err(problem) => {
            let hint = problem.nearest.map(|near| format!("; the nearest is {near}")).unwrap_or_default();
            let expected = format!("a time zone like America/Denver, PST, GMT or -8:00{hint}");
            collector.refuse(fields.at(key), text, expected);
            None
        }
    }
}

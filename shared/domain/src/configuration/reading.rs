//! Reads the `event.*` keys of an instance body.
//!
//! Reading is generous with form and strict with sense. Booleans and numbers may be strings, `null` and blank text are
//! absent, unknown keys and misplaced ones are left out with a warning. What cannot be meant is a problem, and all
//! problems are reported together.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::keys::{
    self, BASIC_PASSWORD, BASIC_USERNAME, CALLBACK_HEADERS, CALLBACK_URL, COALESCE, EVENTS_ENABLED, FAILURE_POLICY,
    FILTER_NULLS, NOTIFICATION_FORMAT, NOTIFICATION_TYPE, OBJECTS, POLLER_CONFIGURATION, POLLER_URLS, REFRESH_INTERVAL,
    SIGNATURE_KEY, VENDOR_TYPE,
};
use super::words::{Words, words};
use super::{Callback, DEFAULT_INTERVAL_MINUTES, DateField, EventSettings, ResourceConfiguration, VendorType};
use crate::date::DatePattern;
use crate::json::{Limits, parse_strict};
use crate::limits;
use crate::poll_url::PollUrl;
use crate::problem::{FieldProblem, Warning, below, nearest};
use crate::secret::Secret;
use crate::wheel::{LONGEST_INTERVAL, SHORTEST_INTERVAL};
use crate::zone::Zone;

/// Longest path in a record and longest name of a header, in characters.
const LONGEST_NAME: usize = 200;
/// Longest callback URL, in bytes.
const LONGEST_CALLBACK: usize = 2048;
/// Most headers of a callback, and the longest value, in bytes: receivers refuse more than about 8 KB together.
const MOST_HEADERS: usize = 20;
const LONGEST_HEADER: usize = 1024;
/// Nobody reads more problems or warnings than this at once.
const MOST_REMARKS: usize = 100;
/// How much JSON the value of one key may hold when it is written as a string.
const NESTED_JSON: Limits = Limits { bytes: 256 * 1024, depth: 8 };
/// Seconds and minutes beyond a year are typing errors.
const YEAR_S: i64 = 366 * 86_400;

/// How dates are read where a field is named without a format.
const DEFAULT_PATTERN: &str = "yyyy-MM-dd'T'HH:mm:ssXXX";

/// The keys of a resource.
const RESOURCE_KEYS: &[&str] = &[
    "url",
    "idField",
    "datesConfiguration",
    "filterByUpdatedDate",
    "filterByUpdateDate",
    "filterByCurrentDate",
    "createdCheckTolerance",
    "pageSize",
    "pollDelay",
    "createdRule",
    "initialPoll",
    "sweepInterval",
    "maxDeleteShare",
    "refreshInterval",
];

/// The keys of `datesConfiguration`.
const DATE_KEYS: &[&str] = &[
    "updatedDateField",
    "updatedDateFormat",
    "updatedDateTimezone",
    "createdDateField",
    "createdDateFormat",
    "createdDateTimezone",
];

/// Headers that are ours to write, or that mean something between two hops only.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "elements-webhook-id",
    "elements-webhook-signature",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

impl EventSettings {
    /// Reads the `configuration` object of an instance body. Keys that are not about events are the element's affair
    /// and are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong, in the order in which it was read.
    pub fn parse(configuration: &Map<String, Value>) -> Result<(Self, Vec<Warning>), Vec<FieldProblem>> {
        let mut report = Report::default();
        let fields = Fields { object: configuration, path: "configuration".to_owned() };
        for key in configuration.keys().filter(|key| key.starts_with("event.") || key.starts_with("notification.")) {
            report.known(&fields, key, keys::KEYS.iter().map(|known| known.name));
        }
        let resources = report.resources(&fields);
        let vendor_type = report.choice(&fields, VENDOR_TYPE).unwrap_or_default();
        if vendor_type == VendorType::Webhook {
            report.warn(fields.at(VENDOR_TYPE), "events come by polling; calls from the vendor are not taken");
        }
        report.one_of(&fields, NOTIFICATION_TYPE, &keys::NOTIFICATION_TYPES);
        if !resources.is_empty() && fields.get(EVENTS_ENABLED).is_none() {
            report.warn(fields.at(EVENTS_ENABLED), "it is absent, so nothing is polled until it is true");
        }
        let settings = Self {
            enabled: report.flag(&fields, EVENTS_ENABLED).unwrap_or(false),
            callback: report.callback(&fields),
            interval_minutes: report.interval(&fields, REFRESH_INTERVAL).unwrap_or(DEFAULT_INTERVAL_MINUTES),
            resources,
            filter_response_nulls: report.flag(&fields, FILTER_NULLS).unwrap_or(true),
            vendor_type,
        };
        if report.problems.is_empty() { Ok((settings, report.warnings)) } else { Err(report.problems) }
    }
}

impl ResourceConfiguration {
    /// Reads one entry of `event.poller.configuration`, such as an element's default, with the rules of
    /// [`EventSettings::parse`]. `path` is where it stands.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(entry: &Map<String, Value>, path: &str) -> Result<(Self, Vec<Warning>), Vec<FieldProblem>> {
        let mut report = Report::default();
        let resource = report.resource(&Fields { object: entry, path: path.to_owned() });
        if report.problems.is_empty() { Ok((resource, report.warnings)) } else { Err(report.problems) }
    }
}

/// A JSON object and where it stands in the body.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    fn at(&self, key: &str) -> String {
        below(&self.path, key)
    }

    /// The value, unless it is absent, null or blank.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            _ => true,
        })
    }
}

/// Collects what is wrong and what is odd while the settings are read; a reader answers None for both absent and wrong.
#[derive(Default)]
struct Report {
    problems: Vec<FieldProblem>,
    warnings: Vec<Warning>,
}

impl Report {
    fn refuse(&mut self, field: String, read: impl fmt::Display, expected: impl Into<String>) {
        self.push(FieldProblem::new(field, read, expected));
    }

    fn refuse_secret(&mut self, field: impl Into<String>, expected: impl Into<String>) {
        self.push(FieldProblem::secret(field, expected));
    }

    fn push(&mut self, problem: FieldProblem) {
        if self.problems.len() < MOST_REMARKS {
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, field: String, message: impl Into<String>) {
        if self.warnings.len() < MOST_REMARKS {
            self.warnings.push(Warning::new(field, message));
        }
    }

    fn known<'k>(&mut self, fields: &Fields<'_>, key: &str, known: impl Iterator<Item = &'k str> + Clone) {
        if !known.clone().any(|known| known == key) && self.warnings.len() < MOST_REMARKS {
            let hint = nearest(key, known).map(|near| format!("; the nearest known key is {near}"));
            self.warn(fields.at(key), format!("the key is unknown and is left out{}", hint.unwrap_or_default()));
        }
    }

    fn text<'a>(&mut self, fields: &Fields<'a>, key: &str) -> Option<&'a str> {
        match fields.get(key)? {
            Value::String(text) => Some(text.trim()),
            other => {
                self.refuse(fields.at(key), other, "a text");
                None
            }
        }
    }

    /// The path of a field in a record.
    fn record_path(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let text = self.text(fields, key)?;
        if text.chars().count() > LONGEST_NAME || text.contains(char::is_control) {
            self.refuse(
                fields.at(key),
                text,
                format!("a path like id or user.id, of at most {LONGEST_NAME} characters"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn secret(&mut self, fields: &Fields<'_>, key: &str) -> Option<Secret> {
        match fields.get(key)? {
            Value::String(text) => Some(Secret::new(text)),
            _ => {
                self.refuse_secret(fields.at(key), "a text");
                None
            }
        }
    }

    fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let value = fields.get(key)?;
        let read = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        if read.is_none() {
            self.refuse(fields.at(key), shown(value), "true or false");
        }
        read
    }

    fn choice<T: Words>(&mut self, fields: &Fields<'_>, key: &str) -> Option<T> {
        self.one_of(fields, key, &words::<T>()).and_then(T::from_word)
    }

    /// One of some words, in any case.
    fn one_of(&mut self, fields: &Fields<'_>, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(fields, key)?;
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
        if found.is_none() {
            self.refuse(fields.at(key), text, words.join(" or "));
        }
        found
    }

    fn whole(&mut self, fields: &Fields<'_>, key: &str, range: RangeInclusive<i64>, unit: &str) -> Option<u32> {
        let value = fields.get(key)?;
        let number =
            whole_number(value).filter(|number| range.contains(number)).and_then(|number| number.try_into().ok());
        if number.is_none() {
            let (from, to) = range.into_inner();
            self.refuse(fields.at(key), shown(value), format!("a whole number of {unit} from {from} to {to}"));
        }
        number
    }

    /// Minutes between polls. What is longer than a day is read as a day.
    fn interval(&mut self, fields: &Fields<'_>, key: &str) -> Option<u16> {
        let value = fields.get(key)?;
        match whole_number(value) {
            Some(number) if number >= i64::from(SHORTEST_INTERVAL) => {
                Some(u16::try_from(number).ok().filter(|n| *n <= LONGEST_INTERVAL).unwrap_or_else(|| {
                    let message = format!("{number} minutes are read as {LONGEST_INTERVAL}, the longest interval");
                    self.warn(fields.at(key), message);
                    LONGEST_INTERVAL
                }))
            }
            _ => {
                let expected =
                    format!("a whole number of minutes from {SHORTEST_INTERVAL} to {LONGEST_INTERVAL}, such as \"15\"");
                self.refuse(fields.at(key), shown(value), expected);
                None
            }
        }
    }

    fn resources(&mut self, fields: &Fields<'_>) -> BTreeMap<String, ResourceConfiguration> {
        let mut resources = BTreeMap::new();
        // The newest way of saying it wins: names that it has are not read a second time.
        match fields.get(POLLER_CONFIGURATION) {
            None => {}
            Some(Value::Object(entries)) => self.entries(&mut resources, entries, &fields.at(POLLER_CONFIGURATION)),
            Some(Value::String(text)) => match parse_strict(text.as_bytes(), NESTED_JSON) {
                Ok(Value::Object(entries)) => self.entries(&mut resources, &entries, &fields.at(POLLER_CONFIGURATION)),
                Ok(_) => self.refuse(fields.at(POLLER_CONFIGURATION), text, "an object of resources"),
                Err(problem) => self.refuse(fields.at(POLLER_CONFIGURATION), text, format!("JSON; in its {problem}")),
            },
            Some(other) => {
                self.refuse(fields.at(POLLER_CONFIGURATION), other, "an object of resources, or the same as a string")
            }
        }
        for key in [POLLER_URLS, OBJECTS] {
            if let Some(text) = self.text(fields, key) {
                let entries = self.legacy(text, &fields.at(key));
                self.entries(&mut resources, &entries, &fields.at(key));
            }
        }
        resources
    }

    /// `name|url|filter|updated field|format|zone|created field|format|zone` in lines, or only names, as the entries
    /// that would say the same.
    fn legacy(&mut self, text: &str, path: &str) -> Map<String, Value> {
        const PARTS: [&str; 6] = [
            "updatedDateField",
            "updatedDateFormat",
            "updatedDateTimezone",
            "createdDateField",
            "createdDateFormat",
            "createdDateTimezone",
        ];
        let mut entries = Map::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let parts = line.split('|').map(str::trim).collect::<Vec<_>>();
            match parts.as_slice() {
                [name, url, rest @ ..] if url.starts_with('/') => {
                    if rest.first().is_some_and(|filter| !filter.is_empty()) {
                        self.warn(below(path, name), "the XPath filter is left out");
                    }
                    let dates = PARTS.iter().zip(rest.iter().skip(1));
                    let dates = dates.map(|(key, part)| ((*key).to_owned(), Value::from(*part))).collect::<Map<_, _>>();
                    let mut entry = Map::from_iter([("url".to_owned(), Value::from(*url))]);
                    entry.insert("datesConfiguration".to_owned(), Value::Object(dates));
                    entries.insert((*name).to_owned(), Value::Object(entry));
                }
                _ => {
                    let names = line.split(['|', ',']).map(str::trim).filter(|name| !name.is_empty());
                    entries.extend(names.map(|name| (name.to_owned(), Value::Object(Map::new()))));
                }
            }
        }
        entries
    }

    fn entries(
        &mut self,
        resources: &mut BTreeMap<String, ResourceConfiguration>,
        entries: &Map<String, Value>,
        path: &str,
    ) {
        if entries.len() + resources.len() > limits::RESOURCES {
            let read = format!("{} resources", entries.len() + resources.len());
            let expected = format!("at most {}; spread more over several instances", limits::RESOURCES);
            return self.refuse(path.to_owned(), read, expected);
        }
        for (name, entry) in entries {
            let path = below(path, name);
            let longest = limits::RESOURCE_NAME_CHARACTERS;
            if name.trim().is_empty() || name.chars().count() > longest || name.contains(char::is_control) {
                self.refuse(path, name, format!("the name of a resource, of 1 to {longest} characters"));
                continue;
            }
            let resource = match entry {
                _ if resources.contains_key(name) => continue,
                Value::Object(object) => self.resource(&Fields { object, path }),
                Value::Null => ResourceConfiguration::default(),
                other => {
                    self.refuse(path, other, "an object with url, idField and datesConfiguration, or {}");
                    continue;
                }
            };
            resources.insert(name.clone(), resource);
        }
    }

    fn resource(&mut self, fields: &Fields<'_>) -> ResourceConfiguration {
        for key in fields.object.keys() {
            if DATE_KEYS.contains(&key.as_str()) {
                self.warn(fields.at(key), "it stands beside datesConfiguration instead of in it, and is left out");
            } else {
                self.known(fields, key, RESOURCE_KEYS.iter().copied());
            }
        }
        let url = self.text(fields, "url").and_then(|text| match PollUrl::parse(text) {
            Ok((url, warnings)) => {
                for warning in warnings {
                    self.warn(fields.at("url"), warning.message);
                }
                Some(url)
            }
            Err(problem) => {
                self.refuse(fields.at("url"), text, problem.to_string());
                None
            }
        });
        let (updated, created) = match fields.get("datesConfiguration") {
            None => (None, None),
            Some(Value::Object(object)) => self.dates(&Fields { object, path: fields.at("datesConfiguration") }),
            Some(other) => {
                self.refuse(fields.at("datesConfiguration"), other, "an object with updatedDateField and its like");
                (None, None)
            }
        };
        let old_spelling = self.flag(fields, "filterByUpdateDate");
        if fields.object.get("idField").and_then(Value::as_str).is_some_and(|text| text.trim().is_empty()) {
            self.warn(fields.at("idField"), "it is empty, so records are known by the element's own id");
        }
        ResourceConfiguration {
            url,
            id_field: self.record_path(fields, "idField"),
            updated,
            created,
            filter_by_updated_date: self.flag(fields, "filterByUpdatedDate").or(old_spelling).unwrap_or(true),
            filter_by_current_date: self.flag(fields, "filterByCurrentDate").unwrap_or(false),
            created_check_tolerance_s: self.whole(fields, "createdCheckTolerance", 0..=YEAR_S, "seconds"),
            page_size: self.whole(fields, "pageSize", 1..=10_000, "records"),
            poll_delay_s: self.whole(fields, "pollDelay", 0..=YEAR_S, "seconds").unwrap_or(0),
            created_rule: self.choice(fields, "createdRule").unwrap_or_default(),
            initial_poll: self.choice(fields, "initialPoll").unwrap_or_default(),
            sweep_minutes: self.whole(fields, "sweepInterval", 1..=YEAR_S / 60, "minutes"),
            max_delete_share: self.share(fields, "maxDeleteShare"),
            interval_minutes: self.interval(fields, "refreshInterval"),
        }
    }

    fn share(&mut self, fields: &Fields<'_>, key: &str) -> Option<f64> {
        let value = fields.get(key)?;
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        };
        let share = number.filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.refuse(fields.at(key), shown(value), "a share from 0 to 1, such as 0.2");
        }
        share
    }

    /// Updated and created. What created does not say about format and zone is as for updated.
    fn dates(&mut self, fields: &Fields<'_>) -> (Option<DateField>, Option<DateField>) {
        for key in fields.object.keys() {
            self.known(fields, key, DATE_KEYS.iter().copied());
        }
        let updated = self.date(fields, ["updatedDateField", "updatedDateFormat", "updatedDateTimezone"], None);
        let created = ["createdDateField", "createdDateFormat", "createdDateTimezone"];
        let created = self.date(fields, created, updated.as_ref());
        (updated, created)
    }

    fn date(
        &mut self,
        fields: &Fields<'_>,
        [field_key, format_key, zone_key]: [&str; 3],
        like: Option<&DateField>,
    ) -> Option<DateField> {
        let field = self.record_path(fields, field_key);
        let pattern = self.text(fields, format_key).and_then(|text| match DatePattern::compile(text) {
            Ok(pattern) => {
                for warning in pattern.warnings() {
                    self.warn(fields.at(format_key), warning);
                }
                Some(pattern)
            }
            Err(problem) => {
                self.refuse(fields.at(format_key), text, problem.to_string());
                None
            }
        });
        let zone = self.text(fields, zone_key).and_then(|text| match Zone::parse(text) {
            Ok(zone) => Some(zone),
            Err(problem) => {
                let hint = problem.nearest.map(|near| format!("; the nearest is {near}")).unwrap_or_default();
                self.refuse(
                    fields.at(zone_key),
                    text,
                    format!("a time zone like America/Denver, PST, GMT or -8:00{hint}"),
                );
                None
            }
        });
        let Some(field) = field else {
            if pattern.is_some() || zone.is_some() {
                self.warn(fields.at(field_key), "it is absent, so its format and time zone are left out");
            }
            return None;
        };
        let pattern = pattern.or_else(|| like.map(|like| like.pattern.clone())).or_else(|| {
            if fields.get(format_key).is_none() {
                self.warn(fields.at(format_key), format!("it is absent and is taken to be {DEFAULT_PATTERN}"));
            }
            DatePattern::compile(DEFAULT_PATTERN).ok()
        })?;
        Some(DateField { field, pattern, zone: zone.or_else(|| like.and_then(|like| like.zone.clone())) })
    }

    fn callback(&mut self, fields: &Fields<'_>) -> Option<Callback> {
        let url = self.text(fields, CALLBACK_URL);
        let signature_key = self.secret(fields, SIGNATURE_KEY);
        let headers = fields
            .get(CALLBACK_HEADERS)
            .map(|value| self.headers(value, &fields.at(CALLBACK_HEADERS)))
            .unwrap_or_default();
        let basic = match (self.text(fields, BASIC_USERNAME), self.secret(fields, BASIC_PASSWORD)) {
            (Some(name), _) if name.contains(':') || name.contains(char::is_control) => {
                self.refuse(fields.at(BASIC_USERNAME), name, "a user name without a colon (RFC 7617)");
                None
            }
            (Some(name), Some(password)) => Some((name.to_owned(), password)),
            (Some(_), None) if fields.get(BASIC_PASSWORD).is_none() => {
                self.refuse(
                    fields.at(BASIC_PASSWORD),
                    "nothing",
                    format!("a password, because {BASIC_USERNAME} is set"),
                );
                None
            }
            (None, Some(_)) if fields.get(BASIC_USERNAME).is_none() => {
                self.refuse(
                    fields.at(BASIC_USERNAME),
                    "nothing",
                    format!("a user name, because {BASIC_PASSWORD} is set"),
                );
                None
            }
            _ => None,
        };
        if basic.is_some() && headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            self.refuse(
                fields.at(CALLBACK_HEADERS),
                "Authorization",
                format!("either this header or {BASIC_USERNAME}, not both"),
            );
        }
        let format = self.choice(fields, NOTIFICATION_FORMAT).unwrap_or_default();
        let failure_policy = self.choice(fields, FAILURE_POLICY).unwrap_or_default();
        let coalesce = self.flag(fields, COALESCE).unwrap_or(false);
        let Some(url) = url else {
            if signature_key.is_some() || basic.is_some() || !headers.is_empty() {
                self.warn(fields.at(CALLBACK_URL), "it is absent, so events are kept and nothing is sent");
            }
            return None;
        };
        let url = self.callback_url(url, fields.at(CALLBACK_URL))?;
        Some(Callback { url, signature_key, headers, basic, format, failure_policy, coalesce })
    }

    fn callback_url(&mut self, text: &str, field: String) -> Option<String> {
        let expected = match url::Url::parse(text) {
            _ if text.len() > LONGEST_CALLBACK => format!("a URL of at most {LONGEST_CALLBACK} bytes"),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                let expected = format!("a URL without credentials, which go in {BASIC_USERNAME} and {BASIC_PASSWORD}");
                self.refuse_secret(field, expected);
                return None;
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Some(text.to_owned()),
            _ => "a URL like https://example.com/events".to_owned(),
        };
        // What follows the question mark may be a secret.
        self.refuse(field, text.split('?').next().unwrap_or_default(), expected);
        None
    }

    /// Headers as an object, the same as a string, lines of `Name: value`, or `Name:value,Name:value`.
    fn headers(&mut self, value: &Value, field: &str) -> Vec<(String, Secret)> {
        const EXPECTED: &str = "an object of texts, or lines of \"Name: value\"";
        let parsed;
        let object = match value {
            Value::Object(object) => Some(object),
            Value::String(text) if text.trim_start().starts_with('{') => {
                parsed = parse_strict(text.as_bytes(), NESTED_JSON);
                match &parsed {
                    Ok(Value::Object(object)) => Some(object),
                    Ok(_) => None,
                    Err(problem) => {
                        self.refuse_secret(field, format!("JSON; in its {problem}"));
                        return Vec::new();
                    }
                }
            }
            _ => None,
        };
        let pairs = match (object, value) {
            (Some(object), _) => object
                .iter()
                .map(|(name, value)| Some((name.trim().to_owned(), value.as_str()?.trim().to_owned())))
                .collect(),
            (None, Value::String(text)) => header_lines(text)
                .iter()
                .map(|line| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())))
                .collect(),
            _ => None::<Vec<_>>,
        };
        let Some(pairs) = pairs else {
            self.refuse_secret(field, EXPECTED);
            return Vec::new();
        };
        if pairs.len() > MOST_HEADERS {
            self.refuse(field.to_owned(), format!("{} headers", pairs.len()), format!("at most {MOST_HEADERS}"));
            return Vec::new();
        }
        let mut headers = Vec::<(String, Secret)>::new();
        for (name, value) in pairs {
            let field = below(field, &name);
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(token) {
                self.refuse(field, &name, "the name of a header: letters, digits and -");
            } else if RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)) {
                self.refuse(
                    field,
                    name,
                    "another header; this one is written with every notification or by the connection",
                );
            } else if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                self.refuse(field, name, "every header once");
            } else if value.len() > LONGEST_HEADER || !value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
                let expected = format!("at most {LONGEST_HEADER} printable ASCII characters, no line breaks");
                self.refuse_secret(field, expected);
            } else {
                headers.push((name, Secret::new(value)));
            }
        }
        headers
    }
}

/// JSON, a string without its quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A whole number, or a text that is one.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            let float = || number.as_f64().filter(|float| float.fract() == 0.0);
            // The cast saturates, and every range ends long before that.
            number.as_i64().or_else(|| float().map(|float| float as i64))
        }
        Value::String(text) => {
            text.trim().parse::<i128>().ok().map(|number| number.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        _ => None,
    }
}

/// One header each: lines, or parts between commas of which each begins with a name and a colon.
fn header_lines(text: &str) -> Vec<String> {
    if text.contains('\n') {
        return text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    }
    let mut lines = Vec::<String>::new();
    for part in text.split(',') {
        let named = part.split_once(':').is_some_and(|(name, _)| !name.trim().is_empty() && !name.trim().contains(' '));
        match lines.last_mut() {
            Some(last) if !named => {
                last.push(',');
                last.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::configuration::{CreatedRule, FailurePolicy, InitialPoll, NotificationFormat};

    fn parse(configuration: Value) -> Result<(EventSettings, Vec<Warning>), Vec<FieldProblem>> {
        let Value::Object(configuration) = configuration else { panic!("a configuration is an object") };
        EventSettings::parse(&configuration)
    }

    fn accepted(configuration: Value) -> (EventSettings, Vec<String>) {
        match parse(configuration) {
            Ok((settings, warnings)) => (settings, warnings.iter().map(Warning::to_string).collect()),
            Err(problems) => panic!("{problems:?}"),
        }
    }

    fn resource(entry: Value) -> (ResourceConfiguration, Vec<String>) {
        let (mut settings, warnings) = accepted(json!({EVENTS_ENABLED: true, POLLER_CONFIGURATION: {"r": entry}}));
        (settings.resources.remove("r").expect("the resource"), warnings)
    }

    #[track_caller]
    fn check_refused(configuration: Value, expected: &[&str]) {
        let problems = parse(configuration).expect_err("problems");
        assert_eq!(problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn check_resource_refused(entry: Value, expected: &str) {
        let at = r#"configuration."event.poller.configuration".r"#;
        check_refused(json!({POLLER_CONFIGURATION: {"r": entry}}), &[&format!("{at}{expected}")]);
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let blank = json!({EVENTS_ENABLED: null, REFRESH_INTERVAL: " ", POLLER_CONFIGURATION: "", "oauth.api.key": 5, CALLBACK_HEADERS: "", POLLER_URLS: "\n"});
        for configuration in [json!({}), blank] {
            assert_eq!(accepted(configuration), (EventSettings::default(), Vec::new()));
        }
    }

    #[test]
    fn everything_said_is_stored_and_read_again() {
        let (settings, warnings) = accepted(json!({
            EVENTS_ENABLED: "True",
            VENDOR_TYPE: "polling",
            NOTIFICATION_TYPE: "webhook",
            FILTER_NULLS: "false",
            REFRESH_INTERVAL: 7,
            CALLBACK_URL: "https://example.com/events?a=b",
            SIGNATURE_KEY: "k ey",
            BASIC_USERNAME: "u",
            BASIC_PASSWORD: "p:w",
            CALLBACK_HEADERS: {"X-One": "1"},
            NOTIFICATION_FORMAT: "CloudEvents-Batch",
            FAILURE_POLICY: "queue",
            COALESCE: true,
            POLLER_CONFIGURATION: {"contacts": {
                "url": "/hubs/crm/contacts?where=u>'${date:yyyy-MM-dd'T'HH:mm:ssXXX}'",
                "idField": "@.@id",
                "datesConfiguration": {
                    "updatedDateField": "_info.lastUpdated", "updatedDateFormat": "milliseconds",
                    "updatedDateTimezone": "PST",
                    "createdDateField": "c", "createdDateFormat": "yyyy-MM-dd", "createdDateTimezone": "-8:00",
                },
                "filterByUpdatedDate": "false",
                "filterByCurrentDate": true,
                "createdCheckTolerance": "60",
                "pageSize": 20,
                "pollDelay": 60,
                "createdRule": "tolerance",
                "initialPoll": "emit",
                "sweepInterval": 1440,
                "maxDeleteShare": "0.25",
                "refreshInterval": "5",
            }},
        }));
        assert_eq!(warnings, [""; 0]);
        let pattern = |text| DatePattern::compile(text).expect("a pattern");
        let zone = |text| Zone::parse(text).ok();
        let contacts = ResourceConfiguration {
            url: settings.resources["contacts"].url.clone(),
            id_field: Some("@.@id".into()),
            updated: Some(DateField {
                field: "_info.lastUpdated".into(),
                pattern: pattern("milliseconds"),
                zone: zone("PST"),
            }),
            created: Some(DateField { field: "c".into(), pattern: pattern("yyyy-MM-dd"), zone: zone("-8:00") }),
            filter_by_updated_date: false,
            filter_by_current_date: true,
            created_check_tolerance_s: Some(60),
            page_size: Some(20),
            poll_delay_s: 60,
            created_rule: CreatedRule::Tolerance,
            initial_poll: InitialPoll::Emit,
            sweep_minutes: Some(1440),
            max_delete_share: Some(0.25),
            interval_minutes: Some(5),
        };
        assert_eq!(contacts.url.as_ref().map(PollUrl::path), Some("contacts"));
        let expected = EventSettings {
            enabled: true,
            callback: Some(Callback {
                url: "https://example.com/events?a=b".into(),
                signature_key: Some(Secret::new("k ey")),
                headers: vec![("X-One".into(), Secret::new("1"))],
                basic: Some(("u".into(), Secret::new("p:w"))),
                format: NotificationFormat::CloudEventsBatch,
                failure_policy: FailurePolicy::Queue,
                coalesce: true,
            }),
            interval_minutes: 7,
            resources: BTreeMap::from([("contacts".into(), contacts)]),
            filter_response_nulls: false,
            vendor_type: VendorType::Polling,
        };
        assert_eq!(settings, expected);
        let mut stored = serde_json::to_value(&settings).expect("JSON");
        stored["keyOfALaterVersion"] = json!(1);
        assert_eq!(serde_json::from_value::<EventSettings>(stored).expect("settings"), settings);
        assert_eq!(serde_json::from_value::<EventSettings>(json!({})).expect("settings"), EventSettings::default());
    }

    #[test]
    fn intervals() {
        let read = |value: Value| {
            let (settings, warnings) = accepted(json!({REFRESH_INTERVAL: value}));
            (settings.interval_minutes, warnings.len())
        };
        assert_eq!(read(json!("15")), (15, 0));
        assert_eq!(read(json!(1)), (1, 0));
        assert_eq!(read(json!(1440.0)), (1440, 0));
        assert_eq!(read(json!(999_999_999)), (1440, 1));
        assert_eq!(read(json!("99999999999999999999999")), (1440, 1));
        for wrong in [json!("<minutes>"), json!(0), json!("-5"), json!(1.5), json!(true), json!([5])] {
            let shown = match &wrong {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            check_refused(
                json!({REFRESH_INTERVAL: wrong}),
                &[&format!(
                    "configuration.\"event.poller.refresh_interval\": read {shown}, \
                 expected a whole number of minutes from 1 to 1440, such as \"15\""
                )],
            );
        }
    }

    #[test]
    fn the_documented_examples_are_read() {
        let (deals, warnings) = resource(json!({
            "url": "/hubs/marketing/deals?where=mdate>=2017-02-28T16:11:29-06:00", "idField": "id",
            "filterByUpdatedDate": true,
            "datesConfiguration": {
                "updatedDateField": "mdate", "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX", "updatedDateTimezone": "GMT",
                "createdDateField": "cdate", "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX'", "createdDateTimezone": "",
            },
            "createdCheckTolerance": 60, "pageSize": 20, "pollDelay": 60,
        }));
        assert_eq!(deals.created.and_then(|created| created.zone), Some(Zone::GMT));
        assert_eq!(
            warnings,
            ["configuration.\"event.poller.configuration\".r.datesConfiguration.createdDateFormat: \
             the single quote at the end of the pattern yyyy-MM-dd'T'HH:mm:ssXXX' is left out"]
        );
        let (contacts, warnings) = resource(json!({
            "url": "/hubs/crm/contacts?where=update_time >= '${gmtDate:yyyy-MM-dd HH:mm:ss}'",
            "filterByCurrentDate": true, "filterByUpdateDate": false, "idField": "user.id",
            "datesConfiguration": {"updatedDateField": "update_time", "updatedDateFormat": "yyyy-MM-dd HH:mm:ss",
                "createdDateField": "add_time"},
            "createdCheckTolerance": 2, "pageSize": 10000, "updatedDateTimezone": "MST", "pollDelay": 30, "pageSzie": 1,
        }));
        assert!(!contacts.filter_by_updated_date);
        assert_eq!(contacts.created.expect("created").pattern.as_str(), "yyyy-MM-dd HH:mm:ss");
        assert_eq!(
            warnings,
            [
                "configuration.\"event.poller.configuration\".r.pageSzie: \
             the key is unknown and is left out; the nearest known key is pageSize",
                "configuration.\"event.poller.configuration\".r.updatedDateTimezone: \
             it stands beside datesConfiguration instead of in it, and is left out",
            ]
        );
    }

    #[test]
    fn a_configuration_may_be_a_string() {
        let text = r#"{"contacts": {"url": "/hubs/crm/contacts", "idField": "vid"}}"#;
        let (settings, _) = accepted(json!({POLLER_CONFIGURATION: text}));
        assert_eq!(settings.resources["contacts"].id_field.as_deref(), Some("vid"));
        let at = "configuration.\"event.poller.configuration\"";
        check_refused(
            json!({POLLER_CONFIGURATION: "{\n\"a\": {},\n}"}),
            &[&format!(
                "{at}: read {{\n\"a\": {{}},\n}}, expected JSON; in its line 3, column 1: \
             expected another entry after the comma, or no comma before the closing bracket"
            )],
        );
        let long = format!("{{\"a\": {{}}{}}}", " ".repeat(200_000));
        assert_eq!(accepted(json!({POLLER_CONFIGURATION: long})).0.resources.len(), 1);
        check_refused(
            json!({POLLER_CONFIGURATION: "[]"}),
            &[&format!("{at}: read [], expected an object of resources")],
        );
        let expected = format!("{at}: read 5, expected an object of resources, or the same as a string");
        check_refused(json!({POLLER_CONFIGURATION: 5}), &[&expected]);
    }

    #[test]
    fn the_older_ways_of_naming_resources() {
        let names = |configuration: Value| accepted(configuration).0.resources.into_keys().collect::<Vec<_>>();
        assert_eq!(
            names(json!({POLLER_URLS: "contacts\nopportunities\naccounts"})),
            ["accounts", "contacts", "opportunities"]
        );
        assert_eq!(names(json!({POLLER_URLS: "a|b"})), ["a", "b"]);
        assert_eq!(names(json!({OBJECTS: "Contact, Account"})), ["Account", "Contact"]);

        let line = "accounts|/hubs/crm/accounts?where=LastModifiedDate>=${date}|//x|LastModifiedDate|yyyy-MM-dd'T'HH:mm:ssZ|PST\
                    |CreatedDate|yyyy-MM-dd";
        let (settings, warnings) = accepted(
            json!({EVENTS_ENABLED: true, POLLER_URLS: line, POLLER_CONFIGURATION: {"b": {"idField": "x"}}, OBJECTS: "b"}),
        );
        let accounts = &settings.resources["accounts"];
        assert_eq!(accounts.url.as_ref().map(PollUrl::path), Some("accounts"));
        let dates = [&accounts.updated, &accounts.created].map(|date| {
            let DateField { field, pattern, zone } = date.as_ref().expect("a date");
            format!("{field} {pattern} {}", zone.as_ref().expect("a zone"))
        });
        assert_eq!(dates, ["LastModifiedDate yyyy-MM-dd'T'HH:mm:ssZ PST", "CreatedDate yyyy-MM-dd PST"]);
        assert_eq!(warnings, ["configuration.\"event.poller.urls\".accounts: the XPath filter is left out"]);
        assert_eq!(settings.resources["b"].id_field.as_deref(), Some("x"), "the newer form wins");
    }

    #[test]
    fn resources_that_cannot_be_meant() {
        check_resource_refused(
            json!(5),
            ": read 5, expected an object with url, idField and datesConfiguration, or {}",
        );
        check_resource_refused(json!({"url": 5}), ".url: read 5, expected a text");
        check_resource_refused(
            json!({"url": "/hubs/crm/x?where=a>'${dte:yyyy}'"}),
            ".url: read /hubs/crm/x?where=a>'${dte:yyyy}', expected one of the macros date, gmtDate, dateTimeZone, \
             nowTimeZone, epoch, milliseconds; there is no ${dte:yyyy}, the nearest is date",
        );
        check_resource_refused(
            json!({"datesConfiguration": {"updatedDateField": "u", "updatedDateTimezone": "PTS"}}),
            ".datesConfiguration.updatedDateTimezone: read PTS, \
             expected a time zone like America/Denver, PST, GMT or -8:00; the nearest is PST",
        );
        check_resource_refused(
            json!({"datesConfiguration": []}),
            ".datesConfiguration: read [], expected an object with updatedDateField and its like",
        );
        check_resource_refused(
            json!({"pageSize": 10001}),
            ".pageSize: read 10001, expected a whole number of records from 1 to 10000",
        );
        check_resource_refused(
            json!({"pollDelay": "soon"}),
            ".pollDelay: read soon, expected a whole number of seconds from 0 to 31622400",
        );
        check_resource_refused(
            json!({"createdRule": "guess"}),
            ".createdRule: read guess, expected observed or tolerance",
        );
        check_resource_refused(
            json!({"maxDeleteShare": 1.1}),
            ".maxDeleteShare: read 1.1, expected a share from 0 to 1, such as 0.2",
        );
        check_resource_refused(
            json!({"maxDeleteShare": "NaN"}),
            ".maxDeleteShare: read NaN, expected a share from 0 to 1, such as 0.2",
        );
        check_resource_refused(
            json!({"filterByCurrentDate": "maybe"}),
            ".filterByCurrentDate: read maybe, expected true or false",
        );

        let name = |length: usize| "n".repeat(length);
        assert!(resource(json!({"idField": name(200)})).0.id_field.is_some());
        for odd in [name(201), name(300), "a\u{1}b".into()] {
            check_resource_refused(
                json!({"idField": odd}),
                &format!(
                    ".idField: read {}, expected a path like id or user.id, of at most 200 characters",
                    crate::problem::shorten(&odd)
                ),
            );
            let refused = parse(json!({POLLER_CONFIGURATION: {odd: {}}})).expect_err("a name");
            assert!(refused[0].expected.contains("the name of a resource"), "{refused:?}");
        }
        assert_eq!(accepted(json!({POLLER_CONFIGURATION: {name(200): {}}})).0.resources.len(), 1);
        assert_eq!(resource(json!({"sweepInterval": 366 * 1440})).0.sweep_minutes, Some(366 * 1440));
        check_resource_refused(
            json!({"sweepInterval": 366 * 1440 + 1}),
            ".sweepInterval: read 527041, expected a whole number of minutes from 1 to 527040",
        );

        let many = (0..=limits::RESOURCES).map(|n| (format!("r{n}"), json!({}))).collect::<Map<_, _>>();
        let at = "configuration.\"event.poller.configuration\"";
        check_refused(
            json!({POLLER_CONFIGURATION: many}),
            &[&format!(
                "{at}: read {} resources, expected at most {}; spread more over several instances",
                limits::RESOURCES + 1,
                limits::RESOURCES
            )],
        );
        check_refused(
            json!({POLLER_CONFIGURATION: {"": {}}}),
            &[&format!("{at}.\"\": read , expected the name of a resource, of 1 to 200 characters")],
        );
    }

    #[test]
    fn problems_come_together() {
        let problems = parse(json!({
            REFRESH_INTERVAL: "soon", EVENTS_ENABLED: 1, CALLBACK_URL: "ftp://x", POLLER_CONFIGURATION: {"a": {"url": "", "pageSize": 0}, "b": 1},
        }));
        let fields = problems.expect_err("problems").into_iter().map(|problem| problem.field).collect::<Vec<_>>();
        assert_eq!(
            fields,
            [
                "configuration.\"event.poller.configuration\".a.pageSize",
                "configuration.\"event.poller.configuration\".b",
                "configuration.\"event.notification.enabled\"",
                "configuration.\"event.notification.callback.url\"",
                "configuration.\"event.poller.refresh_interval\"",
            ]
        );
    }

    #[test]
    fn callbacks() {
        let url = |url: &str| {
            parse(json!({CALLBACK_URL: url})).map(|(settings, _)| settings.callback.map(|callback| callback.url))
        };
        for good in ["http://mycoolapp.com", "https://127.0.0.1:8443/x?y=z", "https://[::1]/", "HTTPS://EXAMPLE.COM"] {
            assert_eq!(url(good), Ok(Some(good.to_owned())));
        }
        for wrong in
            ["https;//mycoolapp.com", "mycoolapp.com", "ftp://example.com", "https://", "file:///etc/passwd", "/x"]
        {
            assert!(url(wrong).expect_err(wrong)[0].expected.contains("https://example.com/events"));
        }
        assert!(
            url(&format!("https://example.com/{}", "x".repeat(2048))).expect_err("long")[0].expected.contains("2048")
        );
        let with_password = url("https://me:hunter2@example.com").expect_err("credentials");
        assert!(!format!("{with_password:?}").contains("hunter2"));

        let (settings, warnings) = accepted(json!({SIGNATURE_KEY: "k"}));
        assert_eq!((settings.callback, warnings.len()), (None, 1));
        check_refused(
            json!({BASIC_PASSWORD: "p"}),
            &["configuration.\"event.notification.basic.username\": read nothing, \
             expected a user name, because event.notification.basic.password is set"],
        );
        check_refused(
            json!({BASIC_USERNAME: "u"}),
            &["configuration.\"event.notification.basic.password\": read nothing, \
             expected a password, because event.notification.basic.username is set"],
        );
        // What is there and wrong is not missing as well.
        check_refused(
            json!({BASIC_USERNAME: "u", BASIC_PASSWORD: 5}),
            &["configuration.\"event.notification.basic.password\": read ********, expected a text"],
        );
        check_refused(
            json!({BASIC_USERNAME: 5, BASIC_PASSWORD: "p"}),
            &["configuration.\"event.notification.basic.username\": read 5, expected a text"],
        );
        for odd in ["a:b", "a\u{1}b"] {
            let problems = parse(json!({BASIC_USERNAME: odd, BASIC_PASSWORD: "p"})).expect_err("a name");
            assert!(problems[0].expected.contains("RFC 7617"), "{problems:?}");
        }
        let of_length = |length: usize| format!("https://example.com/{}", "x".repeat(length - 20));
        assert!(url(&of_length(2048)).is_ok());
        assert!(url(&of_length(2049)).is_err());
        for one in ["https://me@example.com", "https://:hunter2@example.com"] {
            let problems = url(one).expect_err("credentials");
            assert!(problems[0].expected.contains("without credentials"), "{problems:?}");
        }
        check_refused(
            json!({SIGNATURE_KEY: 12345}),
            &["configuration.\"event.notification.signature.key\": read ********, expected a text"],
        );
        check_refused(
            json!({NOTIFICATION_FORMAT: "xml"}),
            &[
                "configuration.\"event.notification.format\": read xml, expected elements or cloudevents or cloudevents-batch",
            ],
        );
    }

    #[test]
    fn headers() {
        let read = |headers: Value| {
            let (settings, _) = accepted(json!({CALLBACK_URL: "https://example.com", CALLBACK_HEADERS: headers}));
            let headers = settings.callback.expect("a callback").headers;
            headers.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(read(json!({"X-B": "2", "X-A": "1"})), "X-A=1 X-B=2");
        assert_eq!(read(json!("{\"X-A\": \"1\"}")), "X-A=1");
        assert_eq!(read(json!("X-A: 1\r\nX-B: a:b\n")), "X-A=1 X-B=a:b");
        assert_eq!(read(json!("X-A:1,X-B:2")), "X-A=1 X-B=2");
        assert_eq!(read(json!("X-A: 1, 2, X-B: 3")), "X-A=1, 2 X-B=3");
        assert_eq!(read(json!("X-A: 1, at noon:30, :5")), "X-A=1, at noon:30, :5");
        let many = |count: usize| (0..count).map(|n| (format!("X-{n}"), json!("v"))).collect::<Map<_, _>>();
        assert_eq!(read(json!(many(20))).split(' ').count(), 20);
        let name = "n".repeat(200);
        assert_eq!(read(json!({name.clone(): "v"})), format!("{name}=v"));
        let value = "v".repeat(1024);
        assert_eq!(read(json!({"X-A": value})), format!("X-A={value}"));
        let wrong = [
            (json!(many(21)), "at most 20"),
            (json!(many(25)), "at most 20"),
            (json!({"": "v"}), "the name of a header"),
            (json!({"n".repeat(201): "v"}), "the name of a header"),
            (json!({"n".repeat(300): "v"}), "the name of a header"),
            (json!({"X-A": "v".repeat(1025)}), "at most 1024"),
            (json!({"X-A": "v".repeat(2000)}), "at most 1024"),
        ];
        for (wrong, expected) in wrong {
            let problems = parse(json!({CALLBACK_HEADERS: wrong})).expect_err("a problem");
            assert!(problems[0].expected.contains(expected), "{problems:?}");
        }

        for (wrong, expected) in [
            (json!({"Host": "x"}), "another header"),
            (json!({"webhook-ID": "x"}), "another header"),
            (json!("Elements-Webhook-Signature: x"), "another header"),
            (json!({"X-A": "1\r\nHost: x"}), "no line breaks"),
            (json!({"X-A": "é"}), "printable ASCII"),
            (json!({"X A": "1"}), "the name of a header"),
            (json!({"X-A": "1", "x-a": "2"}), "every header once"),
            (json!({"X-A": 1}), "an object of texts"),
            (json!("hunter2"), "an object of texts"),
            (json!("{\"X-A\": hunter2}"), "line 1, column"),
            (json!(["X-A"]), "an object of texts"),
        ] {
            let problems = parse(json!({CALLBACK_HEADERS: wrong})).expect_err("a problem");
            assert!(problems[0].expected.contains(expected), "{:?}", problems);
            assert!(!format!("{problems:?}").contains("hunter2"));
        }
        let both = json!({BASIC_USERNAME: "u", BASIC_PASSWORD: "p", CALLBACK_HEADERS: {"authorization": "Bearer x"}});
        assert!(parse(both).expect_err("a problem")[0].expected.contains("not both"));
    }

    #[test]
    fn a_flood_of_mistakes_is_cut_off() {
        let entries =
            |entry: Value| (0..limits::RESOURCES).map(|n| (format!("r{n}"), entry.clone())).collect::<Map<_, _>>();
        let wrong = json!({"pageSize": 0, "maxDeleteShare": 2, "filterByCurrentDate": "maybe"});
        let problems = parse(json!({POLLER_CONFIGURATION: entries(wrong)})).expect_err("problems");
        assert_eq!(problems.len(), MOST_REMARKS);
        let odd = json!({"pagesize": 0, "colour": 1, "size": 2});
        assert_eq!(accepted(json!({POLLER_CONFIGURATION: entries(odd)})).1.len(), MOST_REMARKS);
    }

    #[test]
    fn oddities_are_warnings() {
        let (_, warnings) = accepted(json!({
            "event.poller.refresh_intervall": 5, "event.metadata": "{}", "events": 1, "event.helper.key": "sfdcPolling",
            VENDOR_TYPE: "webhooks", POLLER_CONFIGURATION: {"a": {"datesConfiguration": {"createdDateFormat": "yyyy"}}, "b": null},
        }));
        assert_eq!(
            warnings,
            [
                "configuration.\"event.poller.refresh_intervall\": the key is unknown and is left out; \
             the nearest known key is event.poller.refresh_interval",
                "configuration.\"event.poller.configuration\".a.datesConfiguration.createdDateField: \
             it is absent, so its format and time zone are left out",
                "configuration.\"event.vendor.type\": events come by polling; calls from the vendor are not taken",
                "configuration.\"event.notification.enabled\": it is absent, so nothing is polled until it is true",
            ]
        );
    }
}

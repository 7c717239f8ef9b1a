//! The keys of an instance's `configuration` that the platform knows, in one table.
//!
//! From [`KEYS`] follow how a key is read, which values are secret, what the elements' catalog and the console's form
//! offer, the API document and the manual. An element's own fields are in its file; the keys here belong to none.

use super::words::words;
use super::{FailurePolicy, NotificationFormat, VendorType};
use crate::wheel::{LONGEST_INTERVAL, SHORTEST_INTERVAL};

/// Switches polling on.
pub const EVENTS_ENABLED: &str = "event.notification.enabled";
/// The address that notifications are posted to.
pub const CALLBACK_URL: &str = "event.notification.callback.url";
/// The key that signs notifications.
pub const SIGNATURE_KEY: &str = "event.notification.signature.key";
/// The key that the present one replaced at the last rotation. It signs too, until [`PREVIOUS_KEY_UNTIL`].
pub const PREVIOUS_KEY: &str = "event.notification.signature.key.previous";
/// The instant until which the previous key signs, RFC 3339. Without one it signs until it is removed.
pub const PREVIOUS_KEY_UNTIL: &str = "event.notification.signature.key.previous.until";
/// Headers of the user's own that every notification carries.
pub const CALLBACK_HEADERS: &str = "event.notification.callback.headers";
/// The user name of the callback's Basic authentication.
pub const BASIC_USERNAME: &str = "event.notification.basic.username";
/// The password of the callback's Basic authentication.
pub const BASIC_PASSWORD: &str = "event.notification.basic.password";
/// The shape of a notification, a [`NotificationFormat`].
pub const NOTIFICATION_FORMAT: &str = "event.notification.format";
/// Sends only the newest waiting event of a record.
pub const COALESCE: &str = "event.notification.coalesce";
/// The policy for a failed delivery, a [`FailurePolicy`].
pub const FAILURE_POLICY: &str = "notification.webhook.failure.policy";
/// Minutes between polls.
pub const REFRESH_INTERVAL: &str = "event.poller.refresh_interval";
/// The polled resources by name.
pub const POLLER_CONFIGURATION: &str = "event.poller.configuration";
/// An older way to name the polled resources: lines of `name|url|…`.
pub const POLLER_URLS: &str = "event.poller.urls";
/// The oldest way to name the polled resources: names with commas between them.
pub const OBJECTS: &str = "event.objects";
/// The way in which events come from the vendor, a [`VendorType`].
pub const VENDOR_TYPE: &str = "event.vendor.type";
/// The way in which notifications are sent.
pub const NOTIFICATION_TYPE: &str = "event.notification.type";
/// Leaves null fields out of the hub API's answers.
pub const FILTER_NULLS: &str = "filter.response.nulls";
/// The client id of the application that a user logs in to.
pub const API_KEY: &str = "oauth.api.key";
/// The client secret of that application.
pub const API_SECRET: &str = "oauth.api.secret";
/// The address that the vendor sends the user back to after a login.
pub const REDIRECT_URL: &str = "oauth.callback.url";
/// The scopes that a login asks for.
pub const SCOPE: &str = "oauth.scope";
/// An access token that the caller holds already.
pub const ACCESS_TOKEN: &str = "oauth.user.token";
/// A refresh token that the caller holds already.
pub const REFRESH_TOKEN: &str = "oauth.user.refresh_token";

/// The words of [`NOTIFICATION_TYPE`]: there is one way to send a notification.
pub(super) const NOTIFICATION_TYPES: [&str; 1] = ["webhook"];

/// A configuration key.
#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    /// The key.
    pub name: &'static str,
    /// The label of its field in the form.
    pub title: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// True: the value is sealed, and shown as a mask.
    pub secret: bool,
    /// The value that an absent key stands for, as text.
    pub default: Option<&'static str>,
    /// One or two sentences about it for people.
    pub help: &'static str,
    /// The part of the form and of the manual that it belongs to.
    pub section: Section,
    /// The places where it can be set.
    pub offered: Offered,
}

impl KeySpec {
    /// The words to choose from. Empty: the value is free.
    pub fn choices(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Choice(words) => words(),
            _ => Vec::new(),
        }
    }
}

/// The values that a key takes. Null and blank text count as absent for all of them.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// True or false, also as text.
    Boolean,
    /// A whole number from `least` on, also as text. What is larger than `most` is read as `most`.
    Integer {
        /// The smallest number that is taken.
        least: u16,
        /// The largest number that has a meaning of its own.
        most: u16,
        /// The unit, in the plural.
        unit: &'static str,
    },
    /// An address, http or https.
    Url,
    /// A line of text.
    Text,
    /// One of these words, in any case.
    Choice(fn() -> Vec<&'static str>),
    /// Headers, as an object, as its text, or as lines of `Name: value`.
    Headers,
    /// Resource names to their settings, as an object or as its text.
    Resources,
    /// An instant as RFC 3339 text.
    Instant,
    /// Any value: nothing reads it.
    Anything,
}

/// The part of the form and of the manual that a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The account at the vendor and its login.
    Account,
    /// Polling and notifications.
    Events,
}

impl Section {
    /// The word for it in the catalog's answer.
    pub fn word(self) -> &'static str {
        match self {
            Section::Account => "account",
            Section::Events => "events",
        }
    }
}

/// The places where a key can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// In the form of every element.
    Form(Control),
    /// In the form of the elements that users log in to.
    LoginForm(Control),
    /// Only through the API, for this reason.
    ApiOnly(&'static str),
    /// Accepted without an effect, for this reason.
    ReadAndIgnored(&'static str),
}

impl Offered {
    /// The control that edits the key in the form, if it is there.
    pub fn control(self) -> Option<Control> {
        match self {
            Offered::Form(control) | Offered::LoginForm(control) => Some(control),
            Offered::ApiOnly(_) | Offered::ReadAndIgnored(_) => None,
        }
    }
}

/// The control by which the form edits a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// A plain field of its kind.
    Field,
    /// The switch above all that is about events.
    EventsSwitch,
    /// An address that a test event can be sent to.
    CallbackUrl,
    /// A field with a slider.
    Interval,
    /// A list of resources with an editor each.
    Resources,
    /// A field with a button that draws a key.
    SigningKey,
    /// The client id, which a login needs although it is shown as a mask.
    ClientId,
    /// The address of the console's login page.
    RedirectUrl,
}

impl Control {
    /// The word for it in the catalog's answer. None: a plain field.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Control::Field => None,
            Control::EventsSwitch => Some("eventsSwitch"),
            Control::CallbackUrl => Some("callbackUrl"),
            Control::Interval => Some("interval"),
            Control::Resources => Some("resources"),
            Control::SigningKey => Some("signingKey"),
            Control::ClientId => Some("clientId"),
            Control::RedirectUrl => Some("redirectUrl"),
        }
    }

    /// Every control that has a word.
    pub const NAMED: [Control; 7] = [
        Control::EventsSwitch,
        Control::CallbackUrl,
        Control::Interval,
        Control::Resources,
        Control::SigningKey,
        Control::ClientId,
        Control::RedirectUrl,
    ];
}

const WRITTEN_BY_A_ROTATION: Offered = Offered::ApiOnly("a rotation of the signature key writes it");
const SUPERSEDED: Offered = Offered::ApiOnly("event.poller.configuration supersedes it");
const TOKENS_GIVEN: Offered = Offered::ApiOnly("it is read with externalAuthentication: initial");
const INTERNAL: Offered = Offered::ReadAndIgnored("Cloud Elements writes it for its own use");

/// The members that most rows share: an optional text.
const OPTIONAL: KeySpec = KeySpec {
    name: "",
    title: "",
    kind: Kind::Text,
    secret: false,
    default: None,
    help: "",
    section: Section::Events,
    offered: Offered::Form(Control::Field),
};

/// Every key, in the order of the form.
pub const KEYS: &[KeySpec] = &[
    KeySpec {
        name: API_KEY,
        title: "API key",
        secret: true,
        help: "Client id of the application at the vendor.",
        section: Section::Account,
        offered: Offered::LoginForm(Control::ClientId),
        ..OPTIONAL
    },
    KeySpec {
        name: API_SECRET,
        title: "API secret",
        secret: true,
        help: "Client secret of the application at the vendor.",
        section: Section::Account,
        offered: Offered::LoginForm(Control::Field),
        ..OPTIONAL
    },
    KeySpec {
        name: REDIRECT_URL,
        title: "Redirect URL",
        kind: Kind::Url,
        help: "Where the vendor sends the browser back to after a login.",
        section: Section::Account,
        offered: Offered::LoginForm(Control::RedirectUrl),
        ..OPTIONAL
    },
    KeySpec {
        name: SCOPE,
        title: "Scopes",
        help: "Scopes of the login, in place of the element's own.",
        section: Section::Account,
        offered: Offered::ApiOnly("only GET and POST /elements/{element}/oauth/url read it"),
        ..OPTIONAL
    },
    KeySpec {
        name: ACCESS_TOKEN,
        title: "Access token",
        secret: true,
        help: "An access token that you hold already.",
        section: Section::Account,
        offered: TOKENS_GIVEN,
        ..OPTIONAL
    },
    KeySpec {
        name: REFRESH_TOKEN,
        title: "Refresh token",
        secret: true,
        help: "A refresh token that you hold already.",
        section: Section::Account,
        offered: TOKENS_GIVEN,
        ..OPTIONAL
    },
    KeySpec {
        name: EVENTS_ENABLED,
        title: "Events Enabled",
        kind: Kind::Boolean,
        default: Some("false"),
        help: "Nothing is polled unless this is true.",
        offered: Offered::Form(Control::EventsSwitch),
        ..OPTIONAL
    },
    KeySpec {
        name: CALLBACK_URL,
        title: "Event Notification Callback URL",
        kind: Kind::Url,
        help: "Where notifications are posted, http or https. Without one, events are only kept for reading.",
        offered: Offered::Form(Control::CallbackUrl),
        ..OPTIONAL
    },
    KeySpec {
        name: SIGNATURE_KEY,
        title: "Callback Notification Signature Key",
        secret: true,
        help: "Key of the signature that every notification carries.",
        offered: Offered::Form(Control::SigningKey),
        ..OPTIONAL
    },
    KeySpec {
        name: PREVIOUS_KEY,
        title: "Previous Signature Key",
        kind: Kind::Anything,
        secret: true,
        help: "The key before the present one, which signs too for a while.",
        offered: WRITTEN_BY_A_ROTATION,
        ..OPTIONAL
    },
    KeySpec {
        name: PREVIOUS_KEY_UNTIL,
        title: "Previous Signature Key Until",
        kind: Kind::Instant,
        help: "The instant until which the previous key signs.",
        offered: WRITTEN_BY_A_ROTATION,
        ..OPTIONAL
    },
    KeySpec {
        name: CALLBACK_HEADERS,
        title: "Event Notification Callback Headers",
        kind: Kind::Headers,
        secret: true,
        help: "Headers that every notification carries.",
        ..OPTIONAL
    },
    KeySpec { name: BASIC_USERNAME, title: "Callback User Name", help: "For Basic authentication.", ..OPTIONAL },
    KeySpec {
        name: BASIC_PASSWORD,
        title: "Callback Password",
        secret: true,
        help: "For Basic authentication.",
        ..OPTIONAL
    },
    KeySpec {
        name: NOTIFICATION_FORMAT,
        title: "Notification Format",
        kind: Kind::Choice(words::<NotificationFormat>),
        default: Some("elements"),
        help: "elements, cloudevents or cloudevents-batch.",
        ..OPTIONAL
    },
    KeySpec {
        name: COALESCE,
        title: "Send Only the Newest",
        kind: Kind::Boolean,
        default: Some("false"),
        help: "Of the events of a record that wait for the callback, send only the newest.",
        ..OPTIONAL
    },
    KeySpec {
        name: FAILURE_POLICY,
        title: "Delivery Failure Policy",
        kind: Kind::Choice(words::<FailurePolicy>),
        default: Some("retry"),
        help: "retry sends a failed notification again on a schedule; queue keeps it until somebody asks for it.",
        ..OPTIONAL
    },
    KeySpec {
        name: REFRESH_INTERVAL,
        title: "Event poller refresh interval (mins)",
        kind: Kind::Integer { least: SHORTEST_INTERVAL, most: LONGEST_INTERVAL, unit: "minutes" },
        default: Some("15"),
        help: "Minutes between polls, 1 to 1440.",
        offered: Offered::Form(Control::Interval),
        ..OPTIONAL
    },
    KeySpec {
        name: FILTER_NULLS,
        title: "Filter null values from the response",
        kind: Kind::Boolean,
        default: Some("true"),
        help: "Leave null fields out.",
        section: Section::Account,
        ..OPTIONAL
    },
    KeySpec {
        name: POLLER_CONFIGURATION,
        title: "Event Poller Resources Configuration",
        kind: Kind::Resources,
        help: "What is polled: resource names to their settings.",
        offered: Offered::Form(Control::Resources),
        ..OPTIONAL
    },
    KeySpec {
        name: POLLER_URLS,
        title: "Event Poller URLs",
        help: "Polled resources, one a line: a name, a URL, a filter and the dates with bars between them, or only names.",
        offered: SUPERSEDED,
        ..OPTIONAL
    },
    KeySpec {
        name: OBJECTS,
        title: "Objects to Monitor for Changes",
        help: "Names of polled resources, with commas between them.",
        offered: SUPERSEDED,
        ..OPTIONAL
    },
    KeySpec {
        name: VENDOR_TYPE,
        title: "Event Type",
        kind: Kind::Choice(words::<VendorType>),
        default: Some("polling"),
        help: "How events come from the vendor.",
        offered: Offered::ReadAndIgnored("events come by polling"),
        ..OPTIONAL
    },
    KeySpec {
        name: NOTIFICATION_TYPE,
        title: "Notification Type",
        kind: Kind::Choice(|| NOTIFICATION_TYPES.to_vec()),
        default: Some("webhook"),
        help: "How notifications are sent.",
        offered: Offered::ReadAndIgnored("there is no other way"),
        ..OPTIONAL
    },
    KeySpec {
        name: "event.helper.key",
        title: "Event Helper Key",
        kind: Kind::Anything,
        help: "Picks the code of a poller.",
        offered: INTERNAL,
        ..OPTIONAL
    },
    KeySpec {
        name: "event.metadata",
        title: "Event Metadata",
        kind: Kind::Anything,
        help: "The kinds of events by object.",
        offered: INTERNAL,
        ..OPTIONAL
    },
    KeySpec {
        name: "event.raw.enabled",
        title: "Raw Events",
        kind: Kind::Anything,
        help: "Sends the vendor's own webhook on.",
        offered: INTERNAL,
        ..OPTIONAL
    },
    KeySpec {
        name: "event.notification.subscription.id",
        title: "Subscription Id",
        kind: Kind::Anything,
        help: "The id of a webhook at the vendor.",
        offered: INTERNAL,
        ..OPTIONAL
    },
    KeySpec {
        name: "event.notification.instance.finder",
        title: "Instance Finder",
        kind: Kind::Anything,
        help: "Finds the instance that a vendor's webhook is about.",
        offered: INTERNAL,
        ..OPTIONAL
    },
];

/// The key of this name.
pub fn find(name: &str) -> Option<&'static KeySpec> {
    KEYS.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::configuration::EventSettings;

    #[test]
    fn every_key_is_there_once_and_described() {
        let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        for key in KEYS {
            assert!(!key.title.is_empty() && key.help.ends_with('.'), "{} is not described", key.name);
            assert_eq!(find(key.name).map(|found| found.title), Some(key.title));
            let fits = |word: &str| key.choices().is_empty() || key.choices().contains(&word);
            assert!(key.default.is_none_or(fits), "{} has a default that cannot be chosen", key.name);
            assert!(key.choices().iter().all(|word| key.offered.control().is_none() || key.help.contains(word)));
            if let Offered::ApiOnly(reason) | Offered::ReadAndIgnored(reason) = key.offered {
                assert!(reason.len() > 15, "{} is offered nowhere, and no reason is given", key.name);
            }
        }
        assert!(find("event.notification").is_none());
    }

    #[test]
    fn a_default_is_what_an_absent_key_stands_for() {
        let url = json!("https://example.com/events");
        let read = |given: Option<(&str, &str)>| {
            let mut configuration = Map::from_iter([(CALLBACK_URL.to_owned(), url.clone())]);
            configuration.extend(given.map(|(key, value)| (key.to_owned(), Value::from(value))));
            EventSettings::parse(&configuration).expect("settings")
        };
        let mut defaults = 0;
        for key in KEYS {
            if let Some(default) = key.default {
                assert_eq!(read(Some((key.name, default))), read(None), "{}", key.name);
                defaults += 1;
            }
        }
        assert_eq!(defaults, 8);
    }

    #[test]
    fn the_help_of_the_interval_names_its_bounds() {
        let help = find(REFRESH_INTERVAL).expect("the interval").help;
        assert!(help.contains(&format!("{SHORTEST_INTERVAL} to {LONGEST_INTERVAL}")), "{help}");
    }

    #[test]
    fn controls_that_are_not_plain_fields_belong_to_one_key_each() {
        for control in Control::NAMED {
            let keys = KEYS.iter().filter(|key| key.offered.control() == Some(control));
            assert_eq!(keys.count(), 1, "{control:?}");
            assert!(control.word().is_some());
        }
    }
}

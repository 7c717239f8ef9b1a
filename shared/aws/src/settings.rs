//! What the environment says, read once into types, with all of its mistakes told together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

/// A variable of the environment. Documented here and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name; a `*` at the end stands for more letters.
    pub name: &'static str,
    /// Its purpose.
    pub doc: &'static str,
    /// Every deployed function needs it.
    pub required: bool,
}

const VENDOR: &str = "POLLUX_VENDOR_";
const PREFIX: &str = "POLLUX_";

/// Every variable that is read. The SDK's own, such as `AWS_REGION` and `AWS_ENDPOINT_URL`, are read by the SDK.
pub const VARIABLES: &[Variable] = &[
    Variable { name: "POLLUX_TABLE", doc: "Name of the table.", required: true },
    Variable { name: "POLLUX_POLL_QUEUE_URL", doc: "URL of the queue of polls.", required: true },
    Variable { name: "POLLUX_DELIVERY_QUEUE_URL", doc: "URL of the queue of deliveries.", required: true },
    Variable {
        name: "POLLUX_KEY_ID",
        doc: "KMS key that seals credentials: its id, alias or ARN. Either this or POLLUX_KEY_FILE.",
        required: true,
    },
    Variable {
        name: "POLLUX_KEY_FILE",
        doc: "File with the keys that seal credentials, made when absent. For one machine, in place of POLLUX_KEY_ID.",
        required: false,
    },
    Variable {
        name: "POLLUX_VENDOR_*",
        doc: "Base URL to use in place of an element's own, for its API and its login; ends in the element's key in capitals.",
        required: false,
    },
    Variable {
        name: "POLLUX_ALLOW_PRIVATE",
        doc: "true lets vendors and callbacks be on loopback and private networks; false without it.",
        required: false,
    },
    Variable {
        name: "POLLUX_ELEMENTS_DIR",
        doc: "Directory of further element files, one folder for each element.",
        required: false,
    },
    Variable {
        name: "POLLUX_LOG",
        doc: "What is logged: a level, or levels by part of the program such as info,flow=debug; info without it.",
        required: false,
    },
    Variable {
        name: "POLLUX_PUBLIC_URL",
        doc: "Where users reach the API, such as https://events.example.com; for links and for returns from a vendor's login.",
        required: false,
    },
];

/// The key that seals credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The KMS key of this id, alias or ARN.
    Kms(String),
    /// A key file.
    File(PathBuf),
}

/// The environment, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the table.
    pub table: String,
    /// URL of the queue of polls.
    pub poll_queue_url: String,
    /// URL of the queue of deliveries.
    pub delivery_queue_url: String,
    /// The key that seals credentials.
    pub key: KeySource,
    /// Base URLs by element key, in small letters, without a slash at the end.
    pub vendors: BTreeMap<String, String>,
    /// Loopback and private networks may be reached.
    pub allow_private: bool,
    /// Further element files.
    pub elements_dir: Option<PathBuf>,
    /// Filter of the log.
    pub log: String,
    /// URL by which users reach the API, without a slash at the end.
    pub public_url: Option<String>,
}

/// A mistake in the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsProblem {
    /// A variable that must be there is not, or is empty.
    #[error("{name} is not set. {doc}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// Its purpose.
        doc: &'static str,
    },
    /// A variable has a wrong value.
    #[error("{name} is {value:?}, which is {why}")]
    Invalid {
        /// The variable.
        name: String,
        /// Its value. No variable of ours is a secret.
        value: String,
        /// The mistake.
        why: &'static str,
    },
    /// A variable that begins like ours and is none.
    #[error("{name} is not a setting; did you mean {nearest}?")]
    Unknown {
        /// The name in the environment.
        name: String,
        /// The valid name that is most like it.
        nearest: &'static str,
    },
}

impl Settings {
    /// From this process's environment.
    pub fn from_env() -> Result<Self, Vec<SettingsProblem>> {
        // What is not text cannot be one of ours, and if it is meant to be, it will be missed.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::read(&std::env::vars_os().filter_map(text).collect())
    }

    /// From variables by name. An empty one counts as not set.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Self, Vec<SettingsProblem>> {
        let mut reader = Reader { variables, problems: Vec::new() };
        let settings = Self {
            table: reader.required("POLLUX_TABLE"),
            poll_queue_url: reader.required("POLLUX_POLL_QUEUE_URL"),
            delivery_queue_url: reader.required("POLLUX_DELIVERY_QUEUE_URL"),
            key: match (reader.text("POLLUX_KEY_ID"), reader.text("POLLUX_KEY_FILE")) {
                (Some(_), Some(file)) => {
                    reader.invalid("POLLUX_KEY_FILE", &file, "one key source too many beside POLLUX_KEY_ID");
                    KeySource::File(file.into())
                }
                (None, Some(file)) => KeySource::File(file.into()),
                (_, None) => KeySource::Kms(reader.required("POLLUX_KEY_ID")),
            },
            vendors: reader.vendors(),
            allow_private: match reader.text("POLLUX_ALLOW_PRIVATE").as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(other) => {
                    reader.invalid("POLLUX_ALLOW_PRIVATE", other, "neither true nor false");
                    false
                }
            },
            elements_dir: reader.text("POLLUX_ELEMENTS_DIR").map(PathBuf::from),
            log: reader.text("POLLUX_LOG").unwrap_or_else(|| "info".into()),
            public_url: reader.text("POLLUX_PUBLIC_URL").map(|url| reader.base_url("POLLUX_PUBLIC_URL", &url)),
        };
        for url in ["POLLUX_POLL_QUEUE_URL", "POLLUX_DELIVERY_QUEUE_URL"] {
            if let Some(text) = reader.text(url) {
                reader.base_url(url, &text);
            }
        }
        reader.find_unknown();
        if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
    }
}

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    problems: Vec<SettingsProblem>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn required(&mut self, name: &'static str) -> String {
        self.text(name).unwrap_or_else(|| {
            let doc = VARIABLES.iter().find(|variable| variable.name == name).map_or("", |variable| variable.doc);
            self.problems.push(SettingsProblem::Missing { name, doc });
            String::new()
        })
    }

    fn invalid(&mut self, name: &str, value: &str, why: &'static str) {
        self.problems.push(SettingsProblem::Invalid { name: name.into(), value: value.into(), why });
    }

    fn base_url(&mut self, name: &str, text: &str) -> String {
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => self.invalid(name, text, "not an http(s) URL"),
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                self.invalid(name, text, "more than a base URL: it has a query or a fragment");
            }
            Ok(_) => {}
            Err(_) => self.invalid(name, text, "not a URL"),
        }
        text.trim_end_matches('/').to_owned()
    }

    fn vendors(&mut self) -> BTreeMap<String, String> {
        let named: Vec<_> =
            self.variables.iter().filter(|(name, value)| name.starts_with(VENDOR) && !value.is_empty()).collect();
        let mut vendors = BTreeMap::new();
        for (name, value) in named {
            let key = name[VENDOR.len()..].to_ascii_lowercase();
            if key.is_empty() {
                self.invalid(name, value, "for no element: its key belongs at the end of the name");
            }
            vendors.insert(key, self.base_url(name, value));
        }
        vendors
    }

    fn find_unknown(&mut self) {
        let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name) || name.starts_with(VENDOR);
        for name in self.variables.keys().filter(|name| name.starts_with(PREFIX) && !known(name)) {
            let likeness = |variable: &&Variable| (strsim::jaro_winkler(variable.name, name) * 1e6) as u64;
            let nearest = VARIABLES.iter().max_by_key(likeness).map_or("", |variable| variable.name);
            self.problems.push(SettingsProblem::Unknown { name: name.clone(), nearest });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[(&str, &str)] = &[
        ("POLLUX_TABLE", "pollux"),
        ("POLLUX_POLL_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/polls"),
        ("POLLUX_DELIVERY_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/deliveries"),
        ("POLLUX_KEY_ID", "alias/pollux"),
        ("HOME", "/root"),
    ];

    fn read(changes: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let both = WHOLE.iter().chain(changes);
        let variables = both.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::read(&variables).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_required_is_enough() {
        let settings = read(&[]).expect("whole");
        assert_eq!(settings.key, KeySource::Kms("alias/pollux".into()));
        assert_eq!((settings.allow_private, settings.log.as_str(), settings.public_url), (false, "info", None));
    }

    #[test]
    fn everything_can_be_said() {
        let settings = read(&[
            ("POLLUX_KEY_ID", ""),
            ("POLLUX_KEY_FILE", "/data/key.json"),
            ("POLLUX_VENDOR_SQUARE", "http://127.0.0.1:9/square/"),
            ("POLLUX_ALLOW_PRIVATE", "true"),
            ("POLLUX_ELEMENTS_DIR", "/data/elements"),
            ("POLLUX_LOG", "debug"),
            ("POLLUX_PUBLIC_URL", "https://events.example.com/"),
        ])
        .expect("whole");
        assert_eq!(settings.key, KeySource::File("/data/key.json".into()));
        assert_eq!(settings.vendors, BTreeMap::from([("square".into(), "http://127.0.0.1:9/square".into())]));
        assert!(settings.allow_private);
        assert_eq!(settings.public_url.as_deref(), Some("https://events.example.com"));
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let problems = read(&[
            ("POLLUX_TABLE", ""),
            ("POLLUX_TABEL", "pollux"),
            ("POLLUX_POLL_QUEUE_URL", "polls"),
            ("POLLUX_KEY_FILE", "key.json"),
            ("POLLUX_ALLOW_PRIVATE", "yes"),
            ("POLLUX_VENDOR_", "http://127.0.0.1/"),
            ("POLLUX_VENDOR_SQUARE", "ftp://127.0.0.1/"),
        ]);
        assert_eq!(
            problems.expect_err("wrong"),
            [
                "POLLUX_TABLE is not set. Name of the table.",
                "POLLUX_KEY_FILE is \"key.json\", which is one key source too many beside POLLUX_KEY_ID",
                "POLLUX_VENDOR_ is \"http://127.0.0.1/\", which is for no element: its key belongs at the end of the name",
                "POLLUX_VENDOR_SQUARE is \"ftp://127.0.0.1/\", which is not an http(s) URL",
                "POLLUX_ALLOW_PRIVATE is \"yes\", which is neither true nor false",
                "POLLUX_POLL_QUEUE_URL is \"polls\", which is not a URL",
                "POLLUX_TABEL is not a setting; did you mean POLLUX_TABLE?",
            ]
        );
    }
}

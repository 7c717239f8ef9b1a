//! The limits on input, in one place: one table shows them all, and every refusal names the same figures.

/// Longest URL of a request, path and query, in bytes. Browsers, proxies and gateways carry it without trouble.
pub const URL_BYTES: usize = 8192;

/// Query parameters of a request.
pub const QUERY_PARAMETERS: usize = 100;

/// Largest body of a request, in bytes.
pub const BODY_BYTES: usize = 1 << 20;

/// Lists and objects inside each other in a body. No configuration comes near.
pub const JSON_DEPTH: usize = 32;

/// Keys of `configuration` and of `providerData`, each.
pub const CONFIGURATION_KEYS: usize = 500;

/// Longest key of `configuration` and `providerData`, in characters.
pub const KEY_CHARACTERS: usize = 250;

/// Longest value under a key of `configuration` or `providerData`, in bytes. `event.poller.configuration` has its own.
pub const VALUE_BYTES: usize = 16 * 1024;

/// Everything of an instance that is stored in its item, in bytes as JSON: the table takes items of 400 KB, and the
/// poller configuration is stored as written and as read.
pub const CONFIGURATION_BYTES: usize = 96 * 1024;

/// Polled resources of an instance: each takes two writes of the one transaction that makes an instance, which holds
/// a hundred, and six go to the instance itself, its place in the trail and the count of its like.
pub const RESOURCES: usize = 46;

/// Longest name of a resource, in characters: it is part of keys.
pub const RESOURCE_NAME_CHARACTERS: usize = 200;

/// Longest name of an instance, in characters.
pub const NAME_CHARACTERS: usize = 250;

/// Tags of an instance.
pub const TAGS: usize = 50;

/// Longest tag, in characters.
pub const TAG_CHARACTERS: usize = 250;

/// Entries on a page of a listing, and the number where none is asked for.
pub const PAGE_SIZE: usize = 200;

/// Deliveries sent again by one call. Each is a transaction; a call has to answer within seconds.
pub const REDELIVERIES: usize = 1000;

/// Every limit by the name that the documentation uses, with its figure and unit.
pub const ALL: [(&str, usize, &str); 15] = [
    ("URL of a request, path and query", URL_BYTES, "bytes"),
    ("query parameters", QUERY_PARAMETERS, "a request"),
    ("body of a request", BODY_BYTES, "bytes"),
    ("lists and objects inside each other", JSON_DEPTH, "deep"),
    ("keys of configuration and of providerData", CONFIGURATION_KEYS, "each"),
    ("key of configuration or providerData", KEY_CHARACTERS, "characters"),
    ("value of configuration or providerData", VALUE_BYTES, "bytes"),
    ("configuration in all", CONFIGURATION_BYTES, "bytes"),
    ("polled resources", RESOURCES, "an instance"),
    ("name of a resource", RESOURCE_NAME_CHARACTERS, "characters"),
    ("name of an instance", NAME_CHARACTERS, "characters"),
    ("tags", TAGS, "an instance"),
    ("tag", TAG_CHARACTERS, "characters"),
    ("entries on a page", PAGE_SIZE, "a request"),
    ("deliveries sent again", REDELIVERIES, "a request"),
];

//! What an element file may say: the closed vocabulary, one type a word.
//!
//! Everything a single value can get wrong (a pointer, a pattern, a placeholder, a duration) is refused while the file
//! is read, so that the error has a line.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::pointer::Pointer;
use crate::template::{BodyTemplate, Template};

/// An element file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElementFile {
    /// What the element is called.
    pub element: Identity,
    /// What a user fills in to connect.
    #[serde(default)]
    pub connection: BTreeMap<String, Field>,
    /// Configuration keys that a printed manual mixes up.
    #[serde(default)]
    pub misprint: Vec<Misprint>,
    /// Base URLs by name, templates over `connection.*`; `api` is the one used where none is named.
    pub bases: BTreeMap<String, Template>,
    /// How a request proves who sends it.
    pub auth: Auth,
    /// Headers of every call.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// Cheap calls that prove the connection and read what later calls need, in order.
    #[serde(default)]
    pub check: Vec<Check>,
    /// What answers mean; the first match wins, a resource's own rules come before these.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// Where an error answer has its text for people, in order of preference.
    #[serde(default)]
    pub messages: Vec<Pointer>,
    /// How often the vendor may be called.
    pub budget: Option<Budget>,
    /// What holds for resources that do not say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// What can be read.
    pub resource: Vec<Resource>,
}

/// What the element is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `element.key` of a request, and the folder's name.
    pub key: String,
    /// The name for people.
    pub name: String,
    /// The hub under which the original listed it.
    pub hub: String,
    /// Numbers under which the original knew it, its own first.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// A sentence.
    #[serde(default)]
    pub description: String,
    /// The vendor's manual.
    #[serde(default)]
    pub docs: String,
}

/// One thing a user fills in to connect.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// What stands beside the input.
    pub label: String,
    /// Where to find the value.
    #[serde(default)]
    pub help: String,
    /// Without it nothing works.
    #[serde(default)]
    pub required: bool,
    /// Another field that makes this one needless when it is filled in.
    pub unless: Option<String>,
    /// Must never be shown.
    #[serde(default)]
    pub secret: bool,
    /// The value when none is given.
    pub default: Option<String>,
    /// The only values allowed.
    #[serde(default, rename = "enum")]
    pub options: Vec<String>,
    /// What a value must match as a whole.
    pub pattern: Option<Pattern>,
    /// The value is an https URL whose host ends in one of these (each starts with a dot) or equals one.
    #[serde(default)]
    pub host_suffix: Vec<String>,
    /// Configuration keys that give the value, in order of preference; the first is the one that problems name.
    pub ce_keys: Vec<String>,
}

/// Configuration keys that a printed manual mixes up: what was filled in as printed is put where it belongs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Misprint {
    /// The key that holds an http or https URL only where somebody followed the manual.
    pub url_in: String,
    /// By the right key, the key under which the manual asks for its value.
    pub keys: BTreeMap<String, String>,
}

/// How a request proves who sends it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Auth {
    /// A user logs in at the vendor, a code is exchanged for tokens, tokens are refreshed.
    Oauth2Code(Oauth2Code),
    /// Tokens for id and secret, without a user.
    Oauth2ClientCredentials(ClientCredentials),
    /// Everything stands in `[headers]`.
    StaticHeaders(StaticHeaders),
    /// A token that a user made by hand.
    StaticBearer(StaticBearer),
    /// Name and password for a session token.
    LoginExchange(LoginExchange),
}

/// See [`Auth::Oauth2Code`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2Code {
    /// Where the user logs in.
    pub authorize_url: Template,
    /// More query parameters of it.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, Template>,
    /// What is asked for when the caller names no scope.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// What stands between scopes: a space where absent.
    pub scope_separator: Option<String>,
    /// Where codes and refresh tokens become tokens.
    pub token: TokenEndpoint,
    /// Whether a refresh may leave the refresh token out.
    #[serde(default)]
    pub refresh: RefreshResult,
    /// A token made by hand that, where it is filled in, stands for the whole exchange.
    pub static_token: Option<Template>,
}

/// See [`Auth::Oauth2ClientCredentials`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// Where tokens are asked for.
    pub token: TokenEndpoint,
    /// Scopes, separated by spaces on the wire.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// See [`Auth::StaticHeaders`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticHeaders {}

/// See [`Auth::StaticBearer`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticBearer {
    /// The token.
    pub token: Template,
}

/// See [`Auth::LoginExchange`].
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginExchange {
    /// Where the session is opened; its `params` are the body.
    pub token: TokenEndpoint,
}

/// A URL that hands out tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenEndpoint {
    /// Where it is.
    pub url: Template,
    /// How the body is written.
    #[serde(default)]
    pub body: TokenBody,
    /// More parameters.
    #[serde(default)]
    pub params: BTreeMap<String, Template>,
    /// Where id and secret stand.
    #[serde(default)]
    pub client: ClientAuth,
    /// Where the answer has the token: `/access_token` where absent.
    pub access: Option<Pointer>,
    /// Where the answer has the refresh token: `/refresh_token` where absent.
    pub refresh: Option<Pointer>,
    /// How the answer says when the token ends.
    #[serde(default)]
    pub expiry: Expiry,
    /// How long before its end a token is refreshed: 5 minutes where absent.
    pub refresh_before: Option<Span>,
    /// More of the answer that is worth keeping.
    #[serde(default)]
    pub keep: BTreeMap<String, Pointer>,
}

/// How the body of a token request is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenBody {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// A JSON object.
    Json,
}

/// Where the id and secret of the application stand in a token request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In the body.
    #[default]
    Body,
    /// In a Basic authorization header.
    Basic,
    /// Nowhere.
    None,
}

/// How a token answer says when the token ends.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Not at all: the token is used until it is refused.
    #[default]
    None,
    /// Seconds from now.
    SecondsField(Pointer),
    /// An instant, RFC 3339.
    TimestampField(Pointer),
    /// Always this long.
    Fixed(Span),
}

/// Whether a refresh answer may leave the refresh token out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshResult {
    /// Then the old one stays.
    #[default]
    KeepIfAbsent,
    /// No: a refresh token works once.
    RotateRequired,
}

/// A cheap call that proves the connection.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is called.
    pub call: Call,
    /// Must be there in the answer.
    pub expect: Option<Pointer>,
    /// Connection values read from the answer; with `*` all of them. A value given by the user is not overwritten.
    #[serde(default)]
    pub sets: BTreeMap<String, Pointer>,
    /// A refusal of this one call or an absent value is no failure; a refused login is.
    #[serde(default)]
    pub optional: bool,
}

/// A call to the vendor.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `GET` or `POST`.
    #[serde(default)]
    pub method: Method,
    /// The name of the base URL: `api` where absent.
    pub base: Option<String>,
    /// The path below the base; every placeholder is one segment.
    pub path: Template,
    /// The query; a list repeats the parameter.
    #[serde(default)]
    pub query: BTreeMap<String, QueryValue>,
    /// The JSON body.
    pub body: Option<BodyTemplate>,
}

/// `GET` or `POST`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Method {
    /// Read.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Read by a question in the body.
    #[serde(rename = "POST")]
    Post,
}

/// One value of a query parameter or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany")]
#[schemars(with = "OneOrMany")]
pub struct QueryValue(pub Vec<Template>);

/// `"value"` or `["a", "b"]`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for QueryValue {
    type Error = String;

    fn try_from(read: OneOrMany) -> Result<Self, String> {
        let texts = match read {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        texts.into_iter().map(Template::try_from).collect::<Result<_, _>>().map(Self)
    }
}

/// What an answer means.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// Which answers.
    pub when: When,
    /// What is done.
    pub action: Action,
    /// How long to wait; `Retry-After` is honoured where absent.
    pub wait: Option<Wait>,
}

/// Which answers a rule is about: all that is said must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Status codes; any where absent.
    #[serde(default)]
    pub status: Statuses,
    /// A header that is there.
    pub header: Option<String>,
    /// The value here (with `*` any of the values) meets the tests below; without tests it must be there.
    #[serde(alias = "any_pointer")]
    pub pointer: Option<Pointer>,
    /// Equals this.
    #[schemars(with = "Option<serde_json::Value>")]
    pub equals: Option<Value>,
    /// Equals one of these.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub one_of: Vec<Value>,
    /// A number below this.
    pub lt: Option<f64>,
    /// The body, or the value at `pointer` when there is no other test of it, matches.
    pub text: Option<Pattern>,
}

/// Status codes of a rule.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Statuses {
    /// Any.
    #[default]
    Any,
    /// One.
    One(u16),
    /// Several.
    Many(Vec<u16>),
}

impl Statuses {
    /// Whether the rule is about this status.
    pub fn holds(&self, status: u16) -> bool {
        match self {
            Statuses::Any => true,
            Statuses::One(one) => *one == status,
            Statuses::Many(many) => many.contains(&status),
        }
    }
}

/// What follows on an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ask again later.
    Retry,
    /// Ask again later, and less often.
    RateLimited,
    /// Refresh the token and ask again.
    RefreshAuth,
    /// The vendor forgot our cursor: list everything anew, silently.
    ResetCursor,
    /// The page cursor died: start this listing anew from the same lower bound.
    RestartScan,
    /// Ask for smaller pages.
    ShrinkPage,
    /// The user must log in again.
    Reconnect,
    /// The user must change something.
    ConfigError,
    /// Nothing: read the answer as if it were fine.
    Ignore,
}

/// How long to wait.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A header with seconds or an HTTP date.
    Header(String),
    /// A header with seconds since 1970.
    HeaderEpoch(String),
    /// This many seconds.
    Seconds(u64),
    /// The first group of the pattern in the body, RFC 3339.
    BodyRegex(Pattern),
}

/// How often the vendor may be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Windows; every one must have room.
    pub windows: Vec<Window>,
    /// Who shares them.
    #[serde(default)]
    pub scope: BudgetScope,
}

/// So many calls in so long.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Calls.
    pub calls: u32,
    /// The length of the window.
    pub per: Span,
}

/// Who shares a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// One connected account.
    #[default]
    Instance,
    /// One user at the vendor.
    User,
    /// One application at the vendor.
    App,
}

/// What holds for resources that do not say otherwise.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Records on a page: 100 where absent.
    pub page_size: Option<u32>,
    /// How far a poll reads back before what is covered: 2 minutes where absent.
    pub overlap: Option<Span>,
    /// How long a call may take.
    pub timeout: Option<Span>,
}

/// Something that can be read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its name in `event.poller.configuration`.
    pub name: String,
    /// The name for people.
    #[serde(default)]
    pub label: String,
    /// What stands in `objectType` of an event: the name of the configured entry where absent.
    pub object_type: Option<String>,
    /// Paths after `/hubs/{hub}`; `{name}` is a parameter, filled from the configuration or by fan-out.
    pub hub_paths: Vec<String>,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The call that lists it.
    pub list: Call,
    /// The call that reads one by `${id}`.
    pub get: Option<Call>,
    /// Where the answer to `get` has the record: the whole answer where absent.
    pub get_pointer: Option<Pointer>,
    /// Where records are in an answer.
    pub records: Records,
    /// Where records have their stamps.
    #[serde(default)]
    pub time: Time,
    /// How a listing goes on.
    #[serde(default)]
    pub page: Paging,
    /// How changes are found.
    pub change: ChangeDetection,
    /// How deletions are found.
    #[serde(default)]
    pub delete: Delete,
    /// Whether the listing is made once for each of something.
    #[serde(default)]
    pub fanout: Fanout,
    /// Whether records are read one by one after listing.
    #[serde(default)]
    pub hydrate: Hydrate,
    /// Lists of operations inside each record of the page (a history feed).
    pub ops: Option<Ops>,
    /// What tells one version of a record from the next: all its bytes where absent.
    #[serde(default)]
    pub fingerprint: Fingerprint,
    /// What the attributes of `where=` stand for.
    #[serde(default, rename = "where")]
    pub wheres: BTreeMap<String, Where>,
    /// How a user's `orderBy` is put to the vendor, where pages bear any order.
    pub order: Option<Order>,
    /// Members whose values are masked in a record's bytes.
    #[serde(default)]
    pub redact: Vec<Pointer>,
    /// What answers mean, before the element's rules.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// The entry of `event.poller.configuration` that the original would show for it.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub poll: Map<String, Value>,
}

/// How a user's `orderBy` is put to the vendor.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The query parameter.
    pub param: String,
    /// Its value for an ascending order, over `${field}`.
    pub asc: Template,
    /// Its value for a descending order, over `${field}`.
    pub desc: Template,
}

/// Where records are in an answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// The list.
    pub pointer: Pointer,
    /// No list at all means an empty one.
    #[serde(default)]
    pub missing_ok: bool,
    /// Where a record has its id, in order of preference.
    pub id: Vec<Pointer>,
    /// What is made of it.
    #[serde(default)]
    pub id_derive: IdDerive,
    /// Values of `idField` that mean the element's own id, though no record has such a member.
    #[serde(default)]
    pub id_words: Vec<String>,
}

/// What is made of an id's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdDerive {
    /// It stays as it is.
    #[default]
    Whole,
    /// What follows the last slash.
    LastSegment,
}

/// Where records have their stamps, and how they are written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// When it changed last.
    pub updated: Option<Pointer>,
    /// When it was made.
    pub created: Option<Pointer>,
    /// How stamps are written: `rfc3339`, `naive`, `epoch_ms`, `epoch` or a `SimpleDateFormat` pattern, in order.
    #[serde(default)]
    pub parse: Vec<DateStyle>,
    /// The zone of stamps without offset: `config`, a pointer into the page, or a zone, in order.
    #[serde(default)]
    pub zone: Vec<ZoneSource>,
    /// Texts that mean there is no stamp.
    #[serde(default)]
    pub invalid: Vec<String>,
}

/// How a stamp is written.
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
    Pattern(domain::date::DatePattern),
}

/// Where the zone of a stamp without offset comes from.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum ZoneSource {
    /// The resource's configuration, else the connection's `time_zone`.
    Config,
    /// A place in the page.
    Response(Pointer),
    /// This one.
    Fixed(domain::zone::Zone),
}

impl TryFrom<String> for ZoneSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "config" => Ok(Self::Config),
            pointer if pointer.starts_with('/') => Pointer::try_from(text).map(Self::Response),
            "utc" => Ok(Self::Fixed(domain::zone::Zone::GMT)),
            zone => domain::zone::Zone::parse(zone).map(Self::Fixed).map_err(|error| error.to_string()),
        }
    }
}

/// How a listing goes on after a page.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(rename = "Page")]
pub enum Paging {
    /// It does not.
    #[default]
    None,
    /// With a token from the answer, put where `${page_token}` stands.
    Token {
        /// Where the answer has it.
        from: Pointer,
        /// Most records on a page.
        size: u32,
    },
    /// From `${offset}`, until the total is reached or a page is short.
    OffsetTotal {
        /// Where the answer has the total.
        total: Pointer,
        /// Most records on a page.
        size: u32,
        /// How many records are read twice at a seam, so that a deletion before it hides nothing.
        #[serde(default)]
        step_back: u32,
    },
    /// With a URL from the answer, absolute or relative to the host.
    NextUrl {
        /// Where the answer has it.
        from: Pointer,
        /// Most records on a page.
        size: u32,
    },
    /// With the `rel=next` URL of the `Link` header.
    LinkHeader {
        /// Most records on a page.
        size: u32,
    },
    /// With the last stamp as the new lower bound: the list is in ascending order of the updated stamp.
    Keyset {
        /// Most records on a page.
        size: u32,
        /// Absent or null in the answer when the page is the last; a short page is the last one where not given.
        more: Option<Pointer>,
        /// The grain of the lower bound as it is sent.
        #[serde(default)]
        grain: Option<Span>,
        /// What to do when a whole page has one stamp.
        #[serde(default)]
        ties: Ties,
    },
}

impl Paging {
    /// Most records on a page, `None` where there are no pages.
    pub fn size(&self) -> Option<u32> {
        match self {
            Paging::None => None,
            Paging::Token { size, .. }
            | Paging::OffsetTotal { size, .. }
            | Paging::NextUrl { size, .. }
            | Paging::LinkHeader { size }
            | Paging::Keyset { size, .. } => Some(*size),
        }
    }
}

/// What to do when a whole page has one stamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Go on by `${offset}` within the stamp.
    #[default]
    Offset,
    /// Ask for a larger page.
    Grow,
}

/// How changes are found.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(rename = "Change")]
pub enum ChangeDetection {
    /// The vendor filters by `${watermark}`, inclusively.
    Filter {
        /// How far a poll reads back before what is covered.
        overlap: Option<Span>,
        /// The vendor's bound is exclusive: one grain is taken off.
        exclusive: Option<Span>,
    },
    /// Newest first; reading stops at what is covered.
    ScanDesc {
        /// How far a poll reads back before what is covered.
        overlap: Option<Span>,
    },
    /// The vendor hands out an opaque token, put where `${sync_token}` stands.
    SyncToken {
        /// Where the last page has it.
        from: Pointer,
    },
    /// A numbered history; the number stands where `${sync_token}` does. The first pass only asks where it is now.
    HistoryId {
        /// The call that says where the history is now.
        start: Box<Call>,
        /// Where that answer has the number.
        start_from: Pointer,
        /// Where a page has the number.
        from: Pointer,
    },
    /// Nothing: every pass reads everything, and fingerprints tell.
    FullScanHash,
}

/// How deletions are found.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// A record says so itself.
    pub flag: Option<Flag>,
    /// A complete listing lacks the record.
    pub absence: Option<Absence>,
}

/// A record says that it is gone.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flag {
    /// Where.
    pub pointer: Pointer,
    /// By which value.
    #[schemars(with = "serde_json::Value")]
    pub equals: Value,
}

/// A complete listing lacks the record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// How often a complete listing is made: a day where absent.
    pub every: Option<Span>,
    /// No complete listing is made for this alone: the vendor reports deletions, and only a listing that follows a lost
    /// cursor has any to find. `sweepInterval` in a configuration asks for more.
    #[serde(default)]
    pub only_after_reset: bool,
    /// What proves it.
    #[serde(default)]
    pub confirm: Confirm,
    /// A listing that lacks more than this share is held for approval: 0.2 where absent.
    pub max_share: Option<f64>,
}

/// What proves that an absent record is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// Reading it by id is answered with 404 or 410.
    #[default]
    #[serde(rename = "get_404")]
    Get404,
    /// Reading it by id finds no record.
    ReadEmpty,
    /// Nothing does.
    None,
}

/// Whether a listing is made once for each of something.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fanout {
    /// It is made once.
    #[default]
    None,
    /// For each value of a connection field.
    List {
        /// The field.
        from: String,
    },
    /// For each record of another resource.
    Parent {
        /// Its name.
        resource: String,
        /// The parameter of the hub path that names one.
        param: String,
    },
    /// For every so many records of another resource, `${partition|list}`.
    Chunk {
        /// Its name.
        resource: String,
        /// How many.
        size: u32,
    },
}

/// Whether records are read one by one after listing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Hydrate {
    /// The listing has them whole.
    #[default]
    None,
    /// By the `get` call.
    ById {
        /// What a 404 means.
        on_404: OnMissing,
    },
}

/// What it means that a listed record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// It is gone already, and its deletion comes by another way.
    Drop,
    /// It is gone.
    Delete,
}

/// Lists of operations inside an entry of a history.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ops {
    /// Lists of what was made.
    #[serde(default)]
    pub created: Vec<Pointer>,
    /// Lists of what was changed.
    #[serde(default)]
    pub updated: Vec<Pointer>,
    /// Lists of what is gone.
    #[serde(default)]
    pub deleted: Vec<Pointer>,
    /// Where an item of such a list has the record.
    pub record: Pointer,
    /// Where the entry has its number, which tells one change of a record from the next.
    pub version: Pointer,
}

/// What tells one version of a record from the next.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The value here (a version, an etag); the whole record where there is none.
    pub pointer: Option<Pointer>,
    /// Members that change by themselves and are left out.
    #[serde(default)]
    pub exclude: Vec<Pointer>,
}

/// What an attribute of `where=` stands for, with any operator that makes sense or operator by operator.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "WhereText")]
#[schemars(with = "WhereText")]
pub enum Where {
    /// The same for every operator that makes sense for it.
    Any(Target),
    /// Operator by operator.
    ByOperator(BTreeMap<String, Target>),
}

/// `"target"` or `{ ">=" = "target" }`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum WhereText {
    Any(String),
    ByOperator(BTreeMap<String, String>),
}

impl TryFrom<WhereText> for Where {
    type Error = String;

    fn try_from(read: WhereText) -> Result<Self, String> {
        match read {
            WhereText::Any(text) => Target::try_from(text).map(Where::Any),
            WhereText::ByOperator(texts) => texts
                .into_iter()
                .map(|(operator, text)| match OPERATORS.contains(&operator.as_str()) {
                    true => Ok((operator, Target::try_from(text)?)),
                    false => Err(format!("`{operator}` is no operator; there are {}", OPERATORS.join(" "))),
                })
                .collect::<Result<_, _>>()
                .map(Where::ByOperator),
        }
    }
}

/// The operators of `where=` that can be mapped.
pub const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

/// What a condition sets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Target {
    /// `watermark`: the lower bound.
    Watermark,
    /// `upper`: the upper bound.
    Upper,
    /// `query:name`: a query parameter.
    Query(String),
    /// `body:/pointer`: a value in the body.
    Body(Pointer),
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.split_once(':')) {
            ("watermark", _) => Ok(Self::Watermark),
            ("upper", _) => Ok(Self::Upper),
            (_, Some(("query", name))) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            (_, Some(("body", pointer))) => Pointer::try_from(pointer.to_owned()).map(Self::Body),
            _ => Err(format!("`{text}` is none of `watermark`, `upper`, `query:name`, `body:/pointer`")),
        }
    }
}

/// A duration: a number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit_ms = match &text[split..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(format!("`{text}` is no duration; write 30s, 2m, 24h or 7d")),
        };
        let number: u64 = text[..split].parse().map_err(|_| format!("`{text}` is no duration; write 30s, 2m, 24h"))?;
        Ok(Self(Duration::from_millis(number.saturating_mul(unit_ms))))
    }
}

/// A regular expression.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Pattern(pub(crate) regex_lite::Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        regex_lite::Regex::new(&text).map(Self).map_err(|error| format!("`{text}` is no pattern: {error}"))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_str().to_owned()
    }
}

impl Pattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

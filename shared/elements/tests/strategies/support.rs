//! Elements and accounts for the tests.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::ResourceConfiguration;
use elements::call::CallContext;
use elements::catalog::read;
use elements::listing::{Cursor, Listing, RecordPage, ScanMode};
use elements::{Bases, Connection, Element, Fault, Plan};
use http::{Request, Response};
use serde_json::{Map, Value, json};

pub const STATIC: &str = "[auth]\nkind = \"static_headers\"";

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

/// An element with this authentication and this resource.
pub fn element(auth: &str, resource: &str) -> Arc<Element> {
    let text = format!(
        r#"
        [element]
        key = "made-up"
        name = "Made up"
        hub = "general"
        [connection.client_id]
        label = "Id"
        ce_keys = ["oauth.api.key"]
        [connection.client_secret]
        label = "Secret"
        secret = true
        ce_keys = ["oauth.api.secret"]
        [connection.tenant]
        label = "Tenant"
        pattern = "[a-z]+"
        required = true
        ce_keys = ["tenant"]
        [bases]
        api = "https://${{connection.tenant}}.example.com/api"
        {auth}
        [[resource]]
        name = "things"
        hub_paths = ["things"]
        {resource}
        "#
    );
    Arc::new(read(Path::new("element.toml"), &text).unwrap_or_else(|problem| panic!("{problem}")))
}

/// A resource with this list call, page and change.
pub fn resource(query: &str, page: &str, change: &str) -> String {
    format!(
        r#"list = {{ path = "/things", query = {{ {query} }} }}
        get = {{ path = "/things/${{id}}" }}
        records = {{ pointer = "/rows", id = ["/id"] }}
        time = {{ updated = "/at", parse = ["rfc3339"] }}
        page = {{ {page} }}
        change = {{ {change} }}
        delete = {{ absence = {{ confirm = "get_404" }} }}
        [resource.poll]
        url = "/hubs/general/things""#
    )
}

/// A resource without paging, whose every record is compared.
pub fn plain_resource() -> String {
    resource("", r#"kind = "none""#, r#"kind = "full_scan_hash""#)
}

/// A connected account of an element, and the plan of its resource.
pub struct Account {
    pub element: Arc<Element>,
    pub connection: Connection,
    pub bases: Bases,
    pub plan: Plan,
}

impl Account {
    pub fn new(element: Arc<Element>) -> Self {
        let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s+1", "tenant": "acme"});
        let configuration = configuration.as_object().expect("an object");
        let (connection, _) = Connection::resolve(&element, configuration, &Map::new()).expect("a connection");
        let (plan, _) =
            Plan::resolve(&element, "things", &ResourceConfiguration::default(), &Map::new()).expect("a plan");
        Self { element, connection, bases: Bases::default(), plan }
    }

    pub fn caller(&self) -> CallContext<'_> {
        CallContext { element: &self.element, connection: &self.connection, bases: &self.bases, tokens: None }
    }

    pub fn start(&self, pass: ScanMode, lower: Option<&str>) -> Listing {
        let cursor = lower.map_or(Cursor::Start, |lower| Cursor::Watermark(at(lower)));
        Listing::start(&self.plan, pass, &cursor, lower.map(at), "", at("2026-08-13T12:00:00Z"))
    }

    pub fn uri(&self, listing: &Listing) -> String {
        listing.request(&self.plan, &self.caller()).expect("a request").uri().to_string()
    }

    pub fn read(&self, listing: &mut Listing, response: &Response<Bytes>) -> Result<RecordPage, Fault> {
        listing.read(&self.plan, &self.caller(), response)
    }
}

pub fn answer(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_string())).expect("an answer")
}

pub fn ids(page: &RecordPage) -> Vec<&str> {
    page.records.iter().map(|record| record.id.as_str()).collect()
}

pub fn body_of(request: &Request<Bytes>) -> &str {
    std::str::from_utf8(request.body()).expect("text")
}

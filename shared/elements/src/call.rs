//! Builds a request from parsed parts: base, path, query, body and headers.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::problem::FieldProblem;
use domain::zone::Zone;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request};
use serde_json::Value;
use url::Url;

use crate::catalog::Element;
use crate::connection::Connection;
use crate::definition::{Call, Method};
use crate::mask::SecretMask;
use crate::pointer::Pointer;
use crate::template::{Filling, Values, plain_text};
use crate::tokens::{Tokens, bearer};

/// Replacements for elements' base URLs, by element key: scheme, host, port and a prefix of every path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases {
    /// The replacement for scheme and host of every URL of the element.
    pub overrides: BTreeMap<String, Url>,
}

impl Bases {
    /// Returns the URL to call in place of a URL of the element.
    pub fn apply(&self, element: &str, url: Url) -> Url {
        let Some(base) = self.overrides.get(element) else { return url };
        let mut moved = base.clone();
        moved.set_path(&format!("{}{}", base.path().trim_end_matches('/'), url.path()));
        moved.set_query(url.query());
        moved
    }

    /// The prefix of every path of the element, without a slash at its end.
    fn prefix(&self, element: &str) -> &str {
        self.overrides.get(element).map_or("", |base| base.path().trim_end_matches('/'))
    }
}

/// The values that every request of an instance needs.
#[derive(Debug, Clone, Copy)]
pub struct CallContext<'a> {
    /// The vendor.
    pub element: &'a Element,
    /// The account.
    pub connection: &'a Connection,
    /// The replacements for the vendor's URLs.
    pub bases: &'a Bases,
    /// The tokens, if the element needs them.
    pub tokens: Option<&'a Tokens>,
}

/// Values that a configuration adds to a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Extras {
    pub query: Vec<(String, String)>,
    pub body: Vec<(Pointer, Value)>,
}

impl CallContext<'_> {
    /// The secrets of the account, to hide in texts of the vendor.
    pub(crate) fn mask(&self) -> SecretMask<'_> {
        SecretMask::new(self.connection, self.tokens)
    }

    /// A base URL of the element.
    pub(crate) fn base(&self, name: Option<&str>) -> Result<Url, FieldProblem> {
        let name = name.unwrap_or("api");
        let template = self.element.bases.get(name);
        let lookup = |name: &str| self.connection.filling(name);
        let text = template.and_then(|template| template.text(&Values { lookup: &lookup, zone: &Zone::GMT }));
        absolute(text, &format!("bases.{name}")).map(|url| self.bases.apply(&self.element.key, url))
    }

    /// Builds a call. `values` fills the placeholders that are not of the connection.
    ///
    /// # Errors
    /// A value that the request lacks.
    pub(crate) fn build(
        &self,
        call: &Call,
        values: &dyn Fn(&str) -> Option<Filling>,
        zone: &Zone,
        extras: &Extras,
    ) -> Result<Request<Bytes>, FieldProblem> {
        let lookup = |name: &str| match name.starts_with("connection.") {
            true => self.connection.filling(name),
            false => values(name),
        };
        let filled = Values { lookup: &lookup, zone };
        let mut url = self.base(call.base.as_deref())?;
        let path = call.path.path(&filled).ok_or_else(|| {
            let missing = call.path.names().find(|name| lookup(name).is_none()).unwrap_or_default();
            FieldProblem::new(missing, "nothing", format!("a value for {}", call.path.as_str()))
        })?;
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        let mut query: Vec<(String, String)> = Vec::new();
        for (name, templates) in &call.query {
            for value in templates.0.iter().filter_map(|template| template.value(&filled)) {
                match value {
                    Value::Array(many) => query.extend(many.iter().map(|one| (name.clone(), plain_text(one)))),
                    one => query.push((name.clone(), plain_text(&one))),
                }
            }
        }
        for (name, value) in &extras.query {
            query.retain(|(known, _)| known != name);
            query.push((name.clone(), value.clone()));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let body = call.body.as_ref().map(|body| {
            let mut tree = body.fill(&filled);
            for (pointer, value) in &extras.body {
                pointer.put(&mut tree, value.clone());
            }
            Bytes::from(tree.to_string())
        });
        self.request(call.method, &url, body)
    }

    /// A request with the element's headers to a URL that belongs to it.
    pub(crate) fn request(
        &self,
        method: Method,
        url: &Url,
        body: Option<Bytes>,
    ) -> Result<Request<Bytes>, FieldProblem> {
        let method = match method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
        };
        let mut request = Request::builder().method(method).uri(url.as_str()).header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let lookup = |name: &str| self.connection.filling(name);
        let values = Values { lookup: &lookup, zone: &Zone::GMT };
        for (name, template) in &self.element.headers {
            if let Some(text) = template.text(&values) {
                let header = header_name(name)?;
                let mut value = header_value(name, &text)?;
                value.set_sensitive(template.names().any(|name| self.connection.is_secret(name)));
                request = request.header(header, value);
            }
        }
        if let Some(bearer) = bearer(self.element, self.connection, self.tokens) {
            let mut value = header_value("authorization", &format!("Bearer {bearer}"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(body.unwrap_or_default())
            .map_err(|error| FieldProblem::new("url", url.as_str(), format!("a URL that can be called: {error}")))
    }

    /// Resolves a next link: absolute on the same host, or relative. Any other link is refused, so that credentials are
    /// never sent to another host.
    ///
    /// # Errors
    /// A link that is no URL or leads to another host.
    pub(crate) fn next_link(&self, base: Option<&str>, link: &str) -> Result<Url, FieldProblem> {
        let base = self.base(base)?;
        let refused = |expected: String| FieldProblem::new("next link", link, expected);
        let mut url = base.join(link).map_err(|error| refused(format!("a URL: {error}")))?;
        if url.origin() != base.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(refused(format!("a link to {}", base.origin().ascii_serialization())));
        }
        let prefix = self.bases.prefix(&self.element.key);
        let inside = url.path().strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        if !prefix.is_empty() && !inside {
            let path = format!("{prefix}{}", url.path());
            url.set_path(&path);
        }
        url.set_fragment(None);
        Ok(url)
    }
}

/// Parses an absolute http or https URL. `field` names its source in errors.
pub(crate) fn absolute(text: Option<String>, field: &str) -> Result<Url, FieldProblem> {
    let text = text.ok_or_else(|| FieldProblem::new(field, "nothing", "every value that the URL is made of"))?;
    match Url::parse(&text) {
        Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err(FieldProblem::new(field, text, "an http or https URL")),
    }
}

fn header_name(name: &str) -> Result<HeaderName, FieldProblem> {
    name.parse().map_err(|_| FieldProblem::new(name, name, "the name of a header"))
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, FieldProblem> {
    HeaderValue::from_str(text)
        .map_err(|_| FieldProblem::secret(name, "a value without line breaks and control characters"))
}

//! The console: the page at `/`, its files, the page to which vendors send a login back and the API's reference,
//! embedded in the binary.
//!
//! It is served to anybody and holds no secret: whoever uses it signs in, and it calls the API like any other client.
//! Its files stand under a path that names their version, so that browsers may keep them for ever.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::ApiError;

/// The content security policy: pages load their own files and call their own service, and no other page may frame them.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// Browsers ask for pages again each time; the answer is mostly 304.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// A year, the longest there is, in a path that changes with the content.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const PAGE: &str = "text/html; charset=utf-8";

/// A file's name, media type and text.
macro_rules! files {
    ($($name:literal: $media:expr,)*) => {
        [$(($name, $media, include_str!(concat!("../console/", $name)))),*]
    };
}

const FILES: [(&str, &str, &str); 23] = files! {
    "api.js": SCRIPT,
    "app.js": SCRIPT,
    "attention.js": SCRIPT,
    "catalog.js": SCRIPT,
    "charts.js": SCRIPT,
    "connect.js": SCRIPT,
    "console.css": STYLE,
    "delivery.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "fields.js": SCRIPT,
    "health.js": SCRIPT,
    "icons.svg": PICTURE,
    "instance.js": SCRIPT,
    "instances.js": SCRIPT,
    "login.js": SCRIPT,
    "logo.svg": PICTURE,
    "oauth.js": SCRIPT,
    "reference.css": STYLE,
    "reference.js": SCRIPT,
    "resource.js": SCRIPT,
    "sandbox.js": SCRIPT,
    "sign-in.js": SCRIPT,
};

const PAGES: [&str; 3] = [
    include_str!("../console/index.html"),
    include_str!("../console/oauth.html"),
    include_str!("../console/reference.html"),
];

/// A text ready to be sent.
pub(crate) struct Asset {
    name: &'static str,
    media: &'static str,
    plain: Bytes,
    gzipped: Bytes,
    tag: HeaderValue,
}

impl Asset {
    pub(crate) fn new(name: &'static str, media: &'static str, text: String) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let gzipped = gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish());
        Self {
            name,
            media,
            // Weak: the two forms say the same in different bytes.
            tag: HeaderValue::from_str(&format!("W/\"{}\"", hash(&text))).expect("hexadecimal digits in quotes"),
            gzipped: gzipped.expect("writing to memory does not fail").into(),
            plain: text.into(),
        }
    }

    pub(crate) fn answer(&self, request: &HeaderMap, caching: HeaderValue) -> Response {
        let headers = [
            (header::CACHE_CONTROL, caching),
            (header::ETAG, self.tag.clone()),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        ];
        let lists = |name, wanted: &str| {
            let values = request.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|one| one.trim() == wanted)
        };
        if lists(header::IF_NONE_MATCH, self.tag.to_str().unwrap_or_default()) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let media = [(header::CONTENT_TYPE, HeaderValue::from_static(self.media))];
        if lists(header::ACCEPT_ENCODING, "gzip") {
            let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (headers, media, encoding, self.gzipped.clone()).into_response()
        } else {
            (headers, media, self.plain.clone()).into_response()
        }
    }
}

struct Console {
    version: String,
    files: Vec<Asset>,
    index: Asset,
    oauth: Asset,
    reference: Asset,
}

static CONSOLE: LazyLock<Console> = LazyLock::new(|| {
    let version = hash(&(FILES, PAGES));
    let [index, oauth, reference] = PAGES.map(|page| page.replace("{{version}}", &version));
    let preload = |&(name, media, _): &(&str, &str, &str)| match media {
        SCRIPT if !["app.js", "oauth.js", "reference.js"].contains(&name) => {
            Some(format!("<link rel=\"modulepreload\" href=\"console/{version}/{name}\">"))
        }
        _ => None,
    };
    let preloads: Vec<String> = FILES.iter().filter_map(preload).collect();
    Console {
        files: FILES.iter().map(|(name, media, text)| Asset::new(name, media, (*text).to_owned())).collect(),
        index: Asset::new("index.html", PAGE, index.replace("{{preload}}", &preloads.join("\n"))),
        oauth: Asset::new("oauth.html", PAGE, oauth),
        reference: Asset::new("reference.html", PAGE, reference),
        version,
    }
});

/// Sixteen hexadecimal digits that change with the value. No defence against forgery: the value is our own.
fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The console's routes.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| CONSOLE.index.answer(&headers, ASK_AGAIN)))
        .route("/console/oauth", get(async |headers: HeaderMap| CONSOLE.oauth.answer(&headers, ASK_AGAIN)))
        .route("/reference", get(async |headers: HeaderMap| CONSOLE.reference.answer(&headers, ASK_AGAIN)))
        .route("/console/{version}/{file}", get(file))
}

async fn file(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    match CONSOLE.files.iter().find(|asset| asset.name == name) {
        // A page of an older version asks for files that are no more: it gets the present ones, but does not keep them.
        Some(asset) => asset.answer(&headers, if version == CONSOLE.version { KEEP } else { ASK_AGAIN }),
        None => ApiError::not_found("The console has no such file.").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(path: &str, headers: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let response = routes::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
    }

    /// Addresses in `href` and `src` attributes of a page.
    fn addresses(page: &str) -> Vec<&str> {
        let of = |attribute: &'static str| page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
        of("href=\"").chain(of("src=\"")).filter(|address| !address.starts_with('#')).collect()
    }

    #[tokio::test]
    async fn every_address_in_the_pages_leads_to_a_file_that_may_be_kept() {
        for (page, root) in [("/", "/"), ("/console/oauth", "/console/"), ("/reference", "/")] {
            let (status, headers, body) = fetch(page, &[]).await;
            assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &ASK_AGAIN));
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], POLICY);
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(!text.contains("{{"), "a placeholder is left in {page}");
            // Other links lead to what other modules serve.
            let mut addresses = addresses(&text);
            addresses.retain(|address| address.contains(&CONSOLE.version));
            assert!(addresses.len() > 2);
            for address in addresses {
                let (status, headers, body) = fetch(&format!("{root}{address}"), &[]).await;
                assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &KEEP), "{address}");
                assert!(!body.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn what_a_module_imports_is_there() {
        for (name, _, text) in FILES.iter().filter(|(_, media, _)| *media == SCRIPT) {
            for imported in text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(FILES.iter().any(|(known, ..)| *known == imported), "{name} imports {imported}");
            }
        }
    }

    #[tokio::test]
    async fn a_known_version_is_not_sent_again_and_a_sent_one_is_packed() {
        let (_, headers, plain) = fetch("/", &[]).await;
        let tag = headers[header::ETAG].to_str().unwrap();
        let (status, _, body) = fetch("/", &[(header::IF_NONE_MATCH, tag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        let (_, headers, packed) = fetch("/", &[(header::ACCEPT_ENCODING, "br, gzip")]).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
    }

    #[tokio::test]
    async fn an_older_version_gets_the_present_files_and_does_not_keep_them() {
        let (status, headers, _) = fetch("/console/0000000000000000/app.js", &[]).await;
        assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &ASK_AGAIN));
        assert_eq!(fetch("/console/0000000000000000/other.js", &[]).await.0, StatusCode::NOT_FOUND);
    }

    #[test]
    fn all_of_it_is_small() {
        // Over the wire, to a first visitor: 150 KB are allowed.
        let bytes: usize = CONSOLE.files.iter().map(|asset| asset.gzipped.len()).sum();
        assert!(bytes < 150_000, "{bytes}");
    }
}

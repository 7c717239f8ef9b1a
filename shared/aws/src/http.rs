//! The [`Http`] port over sockets: pooled connections, no redirects, no proxy, no repeats, one deadline over
//! everything, and the address guard on every connection.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use flow::ports::{Audience, Bounds, Exchange, Http, HttpError};
use url::Url;

use crate::guard::{GuardPolicy, GuardedResolver, Lookup, Refusal, system_lookup};

/// Connections wait this long for another request. Short, because a function that slept longer finds them dead.
const IDLE: Duration = Duration::from_secs(20);

/// The User-Agent that vendors and callbacks see.
const USER_AGENT: &str = concat!("pollux/", env!("CARGO_PKG_VERSION"));

/// Sends requests to vendors and callbacks. Where the same addresses are open to both, they share their connections.
#[derive(Clone)]
pub struct Client {
    vendor: Arc<Lane>,
    callback: Arc<Lane>,
}

/// A policy, and the client that holds to it, made when it is first needed: reading the system's root certificates takes
/// longer than all else that a function does when it starts, and not every function calls anybody.
struct Lane {
    policy: GuardPolicy,
    lookup: Lookup,
    client: OnceLock<reqwest::Client>,
}

impl Lane {
    fn new(policy: GuardPolicy, lookup: Lookup) -> Arc<Self> {
        Arc::new(Self { policy, lookup, client: OnceLock::new() })
    }

    fn client(&self) -> Result<&reqwest::Client, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .dns_resolver(GuardedResolver { policy: self.policy, lookup: self.lookup.clone() })
            .build();
        let client = client.map_err(|error| HttpError::Connect(format!("no HTTP client can be made here: {error}")))?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl Client {
    /// With the system's resolver.
    pub fn new(vendor: GuardPolicy, callback: GuardPolicy) -> Self {
        Self::with_lookup(vendor, callback, system_lookup())
    }

    /// With a resolver of the caller's.
    pub fn with_lookup(vendor: GuardPolicy, callback: GuardPolicy, lookup: Lookup) -> Self {
        let lane = Lane::new(vendor, lookup.clone());
        let callback = if callback == vendor { lane.clone() } else { Lane::new(callback, lookup) };
        Self { vendor: lane, callback }
    }
}

#[async_trait]
impl Http for Client {
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        let lane = match bounds.audience {
            Audience::Vendor => &self.vendor,
            Audience::Callback => &self.callback,
        };
        let (head, body) = request.into_parts();
        let url = Url::parse(&head.uri.to_string())
            .map_err(|error| HttpError::Forbidden(format!("not an http address: {error}")))?;
        lane.policy.check(&url).map_err(|refusal| HttpError::Forbidden(refusal.0))?;
        let mut request = reqwest::Request::new(head.method, url);
        *request.headers_mut() = head.headers;
        if !body.is_empty() {
            *request.body_mut() = Some(body.into());
        }
        let client = lane.client()?;
        let start = Instant::now();
        match tokio::time::timeout(bounds.deadline, exchange(client, request, bounds.largest_body)).await {
            Ok(Ok((response, truncated))) => Ok(Exchange { response, truncated, elapsed: start.elapsed() }),
            Ok(Err(error)) => Err(explain(&error, bounds.deadline)),
            Err(_) => Err(HttpError::Deadline(bounds.deadline)),
        }
    }
}

async fn exchange(
    client: &reqwest::Client,
    request: reqwest::Request,
    largest_body: usize,
) -> reqwest::Result<(http::Response<Bytes>, bool)> {
    let mut answer = client.execute(request).await?;
    let mut body = BytesMut::new();
    let mut truncated = false;
    while let Some(chunk) = answer.chunk().await? {
        let room = largest_body - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            // Dropping the answer closes its connection: the rest is never read.
            truncated = true;
            break;
        }
    }
    let mut response = http::Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.version_mut() = answer.version();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok((response, truncated))
}

/// Says what happened in words that customers may read: no address of ours, no URL with its secrets.
fn explain(error: &reqwest::Error, deadline: Duration) -> HttpError {
    let causes = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    if let Some(refusal) = causes().find_map(|cause| cause.downcast_ref::<Refusal>()) {
        return HttpError::Forbidden(refusal.0.clone());
    }
    let kind = causes().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).last().map(std::io::Error::kind);
    let innermost = causes().last().map(ToString::to_string).unwrap_or_default();
    if error.is_dns() {
        HttpError::Connect("the host name has no address".into())
    } else if error.is_connect() {
        HttpError::Connect(match kind {
            Some(ErrorKind::ConnectionRefused) => "connection refused".into(),
            Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "host unreachable".into(),
            Some(ErrorKind::TimedOut) => "no answer to the connection".into(),
            Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => "closed during the handshake".into(),
            // What the TLS library says of the other side's certificate.
            _ if innermost.contains("certificate") => innermost,
            _ => "the TLS handshake failed".into(),
        })
    } else if error.is_timeout() {
        HttpError::Deadline(deadline)
    } else {
        HttpError::Broken(match kind {
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => "connection reset".into(),
            Some(ErrorKind::UnexpectedEof) => "the connection closed too early".into(),
            _ if error.is_builder() => "the request cannot be sent".into(),
            // What the HTTP library says of the other side's bytes.
            _ => innermost,
        })
    }
}

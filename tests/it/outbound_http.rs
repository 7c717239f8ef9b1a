//! The outbound HTTP client against receivers that hang, drip, lie, break off and lead to private addresses, over real
//! sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws::guard::{GuardPolicy, Lookup};
use aws::http::Client;
use bytes::Bytes;
use flow::ports::{Audience, Bounds, Exchange, Http, HttpError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const STRICT: GuardPolicy = GuardPolicy { allow_private: false };
const RELAXED: GuardPolicy = GuardPolicy { allow_private: true };
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));

/// The behavior of a receiver on its first and on every later connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Says these bytes to each request and keeps the connection.
    Says(&'static str),
    /// Says these bytes and closes.
    SaysAndCloses(&'static str),
    /// Says these bytes, then resets the connection.
    SaysAndResets(&'static str),
    /// Says these bytes, then a byte now and then for ever.
    Drips(&'static str),
    /// Says these bytes, then as much as is taken.
    Floods(&'static str),
}

struct Receiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, manner));
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn ask(&self, client: &Client, bounds: Bounds) -> Result<Exchange, HttpError> {
        ask(client, &format!("http://{}/hook", self.address), bounds).await
    }
}

/// Ends when the client goes away.
async fn converse(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let (Manner::Says(text)
    | Manner::SaysAndCloses(text)
    | Manner::SaysAndResets(text)
    | Manner::Drips(text)
    | Manner::Floods(text)) = manner;
    let mut request = [0; 4096];
    if let Manner::SaysAndResets(_) = manner {
        // What is left unread when the socket closes makes the system send a reset.
        stream.peek(&mut request).await?;
        return stream.write_all(text.as_bytes()).await;
    }
    while stream.read(&mut request).await? > 0 {
        stream.write_all(text.as_bytes()).await?;
        match manner {
            Manner::Says(_) => {}
            Manner::Drips(_) => loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            },
            Manner::Floods(_) => loop {
                stream.write_all(&[b'x'; 65536]).await?;
            },
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn bounds(audience: Audience) -> Bounds {
    Bounds { audience, deadline: Duration::from_secs(20), largest_body: 100_000 }
}

fn relaxed() -> Client {
    Client::new(RELAXED, RELAXED)
}

async fn ask(client: &Client, url: &str, bounds: Bounds) -> Result<Exchange, HttpError> {
    let request = http::Request::post(url).header("x-test", "1").body(Bytes::from_static(b"{}")).expect("a request");
    client.send(request, bounds).await
}

/// The error without its variant's details, for comparing.
async fn error_of(manner: Manner) -> String {
    let receiver = Receiver::start(manner).await;
    receiver.ask(&relaxed(), bounds(Audience::Callback)).await.expect_err("no whole answer").to_string()
}

#[tokio::test]
async fn an_answer_comes_with_status_headers_and_body_over_a_kept_connection() {
    let receiver = Receiver::start(Manner::Says("HTTP/1.1 418 Odd\r\nx-a: b\r\ncontent-length: 2\r\n\r\nhi")).await;
    let client = relaxed();
    for _ in 0..3 {
        let exchange = receiver.ask(&client, bounds(Audience::Callback)).await.expect("an answer");
        assert_eq!(exchange.response.status(), 418);
        assert_eq!(exchange.response.headers()["x-a"], "b");
        assert_eq!((exchange.response.body().as_ref(), exchange.truncated), (&b"hi"[..], false));
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn what_is_sent_names_the_sender_and_keeps_the_bytes() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("a socket");
    let url = format!("http://{}/a%20b?c=%7B", listener.local_addr().expect("an address"));
    let receive = async {
        let (mut stream, _) = listener.accept().await?;
        let mut request = vec![0; 4096];
        let mut length = 0;
        while !request[..length].ends_with(b"\r\n\r\n{}") {
            length += stream.read(&mut request[length..]).await?;
        }
        stream.write_all(b"HTTP/1.1 204 Done\r\n\r\n").await?;
        std::io::Result::Ok(String::from_utf8_lossy(&request[..length]).into_owned())
    };
    let client = relaxed();
    let (request, exchange) = tokio::join!(receive, ask(&client, &url, bounds(Audience::Vendor)));
    assert_eq!(exchange.expect("an answer").response.status(), 204);
    let request = request.expect("a request");
    assert!(request.starts_with("POST /a%20b?c=%7B HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("user-agent: pollux/"), "{request}");
    assert!(request.contains("x-test: 1\r\n"), "{request}");
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let inside = Receiver::start(Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let location = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", inside.address);
    let receiver = Receiver::start(Manner::Says(location.leak())).await;
    let exchange = receiver.ask(&relaxed(), bounds(Audience::Callback)).await.expect("an answer");
    assert_eq!(exchange.response.status(), 302);
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn one_deadline_covers_silence_and_dripping() {
    let deadline = Duration::from_millis(150);
    for manner in [
        Manner::Says(""),
        Manner::Drips("HTTP/1.1 200 OK\r\nx-drip: "),
        Manner::Drips("HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n"),
    ] {
        let receiver = Receiver::start(manner).await;
        let bounds = Bounds { deadline, ..bounds(Audience::Callback) };
        assert_eq!(receiver.ask(&relaxed(), bounds).await.map(|_| ()), Err(HttpError::Deadline(deadline)));
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_the_cap() {
    let exact = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345";
    for (manner, cap, body, truncated) in [
        (Manner::Says(exact), 5, "12345", false),
        (Manner::Says(exact), 4, "1234", true),
        (Manner::Says(exact), 0, "", true),
        (Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 0, "", false),
        (Manner::SaysAndCloses("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end"), 50, "to the end", false),
        (Manner::Floods("HTTP/1.1 200 OK\r\n\r\n"), 3, "xxx", true),
        (Manner::Floods("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"), 3, "xxx", true),
    ] {
        let receiver = Receiver::start(manner).await;
        let bounds = Bounds { largest_body: cap, ..bounds(Audience::Vendor) };
        let exchange = receiver.ask(&relaxed(), bounds).await.expect("an answer");
        assert_eq!((exchange.response.body().as_ref(), exchange.truncated), (body.as_bytes(), truncated));
    }
}

#[tokio::test]
async fn a_broken_exchange_is_described_in_plain_words() {
    let cases = [
        (Manner::SaysAndCloses("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), "the exchange broke off: "),
        (Manner::SaysAndResets("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), "the exchange broke off: "),
        (Manner::SaysAndCloses(""), "the exchange broke off: "),
        (Manner::SaysAndCloses("220 mail.example.com ESMTP\r\n"), "the exchange broke off: "),
    ];
    for (manner, expected) in cases {
        let text = error_of(manner).await;
        assert!(text.starts_with(expected), "{text}");
        assert!(text.len() > expected.len() && !text.contains("127.0.0.1"), "{text}");
    }
    let gone = Receiver { address: free_address().await, connections: Arc::default() };
    let error = gone.ask(&relaxed(), bounds(Audience::Callback)).await.map(|_| ());
    assert_eq!(error, Err(HttpError::Connect("connection refused".into())));
    let plain = Receiver::start(Manner::SaysAndCloses("HTTP/1.1 400 Bad\r\n\r\n")).await;
    let error = ask(&relaxed(), &format!("https://{}/", plain.address), bounds(Audience::Callback)).await;
    assert!(matches!(error, Err(HttpError::Connect(_))), "{error:?}");
}

async fn free_address() -> SocketAddr {
    TcpListener::bind((LOOPBACK, 0)).await.and_then(|listener| listener.local_addr()).expect("an address")
}

// ---------------------------------------------------------------- Inward addresses

fn answering(answers: impl Fn(usize) -> Vec<IpAddr> + Send + Sync + 'static) -> (Lookup, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = count.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let addresses = answers(counting.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move { Ok(addresses) })
    });
    (lookup, count)
}

#[tokio::test]
async fn each_audience_has_its_own_policy() {
    let receiver = Receiver::start(Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let client = Client::new(RELAXED, STRICT);
    assert!(receiver.ask(&client, bounds(Audience::Vendor)).await.is_ok());
    let refused = receiver.ask(&client, bounds(Audience::Callback)).await.map(|_| ());
    assert_eq!(refused, Err(HttpError::Forbidden("127.0.0.1 is no public address: loopback".into())));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn names_that_lead_inwards_are_refused_whatever_else_they_lead_to() {
    let receiver = Receiver::start(Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let url = |host: &str| format!("http://{host}:{}/", receiver.address.port());
    let inward = HttpError::Forbidden("the host has an address that is not public".into());

    // The system's own resolver, on the one name that every machine knows.
    let client = Client::new(STRICT, STRICT);
    for host in ["localhost", "LOCALHOST"] {
        let refused = ask(&client, &url(host), bounds(Audience::Callback)).await.map(|_| ());
        assert_eq!(refused, Err(inward.clone()), "{host}");
    }
    let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
    for addresses in [vec![LOOPBACK], vec![PUBLIC, LOOPBACK], vec![LOOPBACK, PUBLIC], vec![metadata]] {
        let (lookup, _) = answering(move |_| addresses.clone());
        let client = Client::with_lookup(STRICT, STRICT, lookup);
        let refused = ask(&client, &url("rebound.example"), bounds(Audience::Callback)).await.map(|_| ());
        assert_eq!(refused, Err(inward.clone()));
    }
    // Loopback may be allowed; metadata is not.
    let (lookup, _) = answering(move |_| vec![metadata]);
    let client = Client::with_lookup(RELAXED, RELAXED, lookup);
    let refused = ask(&client, &url("metadata.example"), bounds(Audience::Vendor)).await.map(|_| ());
    assert_eq!(refused, Err(inward));
    assert_eq!(receiver.connections(), 0);
}

/// A name that answers differently the second time gains nothing: the answer that was checked is the one that is
/// connected to, and there is no second lookup.
#[tokio::test]
async fn the_address_that_was_checked_is_the_one_connected_to() {
    let receiver = Receiver::start(Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
    let (lookup, lookups) = answering(move |n| vec![if n == 0 { LOOPBACK } else { metadata }]);
    let client = Client::with_lookup(RELAXED, RELAXED, lookup);
    let url = format!("http://rebinding.example:{}/", receiver.address.port());
    for _ in 0..2 {
        let exchange = ask(&client, &url, bounds(Audience::Callback)).await.expect("an answer");
        assert_eq!(exchange.response.status(), 200);
    }
    assert_eq!((lookups.load(Ordering::SeqCst), receiver.connections()), (1, 1));
}

#[tokio::test]
async fn a_name_without_an_address_is_reported() {
    let (nothing, _) = answering(|_| Vec::new());
    let failing: Lookup = Arc::new(|_| Box::pin(async { Err(std::io::Error::other("resolver 10.0.0.2 said no")) }));
    for lookup in [nothing, failing] {
        let client = Client::with_lookup(STRICT, STRICT, lookup);
        let error = ask(&client, "https://nowhere.example/", bounds(Audience::Vendor)).await.map(|_| ());
        let Err(HttpError::Connect(why)) = error else { panic!("{error:?}") };
        assert!(!why.contains("10.0.0.2"), "{why}");
    }
}

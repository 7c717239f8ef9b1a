//! Tests of the session: tokens, budget, deadline, size and latency.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use domain::secret::Secret;
use elements::definition::{Budget, BudgetScope, Span, Window};
use elements::{Element, Fault, Tokens};
use serde_json::json;
use store::records::instance::InstanceRecord;
use store::{Store, records};

use super::{Latency, Purpose, Session, VendorError, secrets, tokens};
use crate::deliver::outbox::tests::instance;
use crate::ports::HttpError;
use crate::service::Service;
use crate::testing::TestPorts;

type Answer = Result<http::Response<Bytes>, HttpError>;

/// An account at a vendor who gives `new` for a refresh token, and what `answer` says for anything else.
pub(super) struct Account {
    pub(super) test: TestPorts,
    pub(super) service: Service,
    pub(super) record: InstanceRecord,
}

pub(super) fn said(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(http::Response::builder().status(status).body(body.into()).expect("an answer"))
}

/// The answer to a token that has ended.
pub(super) fn refused() -> Answer {
    said(401, r#"{"errors":[{"code":"ACCESS_TOKEN_EXPIRED","detail":"too old"}]}"#)
}

pub(super) fn is_new(request: &http::Request<Bytes>) -> bool {
    request.headers().get("authorization").is_some_and(|value| value == "Bearer new")
}

impl Account {
    /// One with these secrets beside its tokens.
    pub(super) async fn new(
        secrets: &[(&str, &str)],
        answer: impl Fn(&http::Request<Bytes>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let test = TestPorts::new("2026-01-05T09:00:00Z", move |request| match request.uri().path() {
            "/oauth2/token" => said(200, r#"{"access_token":"new","expires_at":"2026-02-05T09:00:00Z"}"#),
            _ => answer(&request),
        });
        let service = test.service();
        let mut record = instance(None);
        let secrets: BTreeMap<String, Secret> =
            secrets.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect();
        record.secrets = secrets::seal(&service, record.id, &secrets).await.expect("sealed");
        record.configuration.insert("oauth.api.key".into(), json!("id"));
        let stored = Tokens {
            access: Secret::new("old"),
            refresh: Some(Secret::new("refresh")),
            expires_at: None,
            extra: BTreeMap::new(),
        };
        let stored = tokens::seal(&service, record.id, &stored).await.expect("sealed");
        let write = records::tokens::key(record.id).insert(&stored);
        test.store.transact(&[write]).await.expect("written");
        Self { test, service, record }
    }

    /// One that logged in, with an access token that has ended.
    pub(super) async fn logged_in(answer: impl Fn(&http::Request<Bytes>) -> Answer + Send + Sync + 'static) -> Self {
        Self::new(&[("oauth.api.secret", "s")], answer).await
    }

    /// The last part of the path of each request.
    pub(super) fn asked(&self) -> Vec<String> {
        let path = |request: &http::Request<Bytes>| request.uri().path().rsplit('/').next().map(str::to_owned);
        self.test.http.requests().iter().filter_map(|(request, _)| path(request)).collect()
    }

    async fn session(&self, purpose: Purpose) -> Session<'_> {
        Session::open(&self.service, &self.record, purpose).await.expect("a session")
    }

    /// The same at a vendor whose file says something else.
    async fn session_with(&self, purpose: Purpose, change: impl FnOnce(&mut Element)) -> Session<'_> {
        let session = self.session(purpose).await;
        let mut element = Element::clone(session.element());
        change(&mut element);
        let (connection, instance) = (session.connection().clone(), Some(self.record.id));
        Session::new(&self.service, purpose, Arc::new(element), connection, None, instance)
    }
}

/// Asks for something with the token in hand; a status other than 200 is a refused token.
async fn ask(session: &mut Session<'_>) -> Result<Option<u16>, VendorError> {
    let request =
        |token: &str| http::Request::get("https://a.example/thing").header("authorization", token).body(Bytes::new());
    let asked = session.ask(
        |context| {
            let token = context.tokens.map_or("", |tokens| tokens.access.expose());
            Ok(Some(request(&format!("Bearer {token}")).expect("a request")))
        },
        |_, response| match response.status().as_u16() {
            200 => Ok(200),
            status => Err(Fault::RefreshAuth { reason: status.to_string() }),
        },
    );
    asked.await
}

fn thing() -> http::Request<Bytes> {
    http::Request::get("https://a.example/thing").body(Bytes::new()).expect("a request")
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let account = Account::logged_in(|request| if is_new(request) { said(200, "{}") } else { refused() }).await;
    let mut session = account.session(Purpose::Poll).await;
    assert_eq!(ask(&mut session).await.expect("an answer"), Some(200));
    assert_eq!(account.asked(), ["thing", "token", "thing"]);
    // The next step finds the new one.
    assert_eq!(ask(&mut account.session(Purpose::Proof).await).await.expect("an answer"), Some(200));
    assert_eq!(account.asked()[3..], ["thing"]);

    let account = Account::logged_in(|_| refused()).await;
    let mut session = account.session(Purpose::Poll).await;
    for asked in [3, 4] {
        let answer = ask(&mut session).await;
        assert!(matches!(answer, Err(VendorError::Fault(Fault::RefreshAuth { .. }))), "{answer:?}");
        assert_eq!(account.asked().len(), asked, "the second refusal is the answer");
    }
}

#[tokio::test]
async fn tokens_that_are_not_stored_are_not_renewed() {
    let account = Account::logged_in(|_| refused()).await;
    let stored = account.session(Purpose::Proof).await;
    let (element, connection) = (Arc::clone(stored.element()), stored.connection().clone());
    let mut session = Session::new(&account.service, Purpose::Proof, element, connection, None, None);
    session.renew_if_due().await.expect("nothing to renew");
    let answer = ask(&mut session).await;
    assert!(matches!(answer, Err(VendorError::Fault(Fault::RefreshAuth { .. }))), "{answer:?}");
    assert_eq!(account.asked(), ["thing"]);
}

#[tokio::test]
async fn a_call_over_the_budget_is_not_sent() {
    let account = Account::logged_in(|_| said(200, "{}")).await;
    let budget = |element: &mut Element| {
        let windows = vec![Window { calls: 1, per: Span(Duration::from_secs(60)) }];
        element.budget = Some(Budget { windows, scope: BudgetScope::Instance });
    };
    let mut session = account.session_with(Purpose::Poll, budget).await;
    assert_eq!(session.over_budget_for(), None);
    session.send(thing()).await.expect("an answer");
    account.test.ambient.advance(Duration::from_secs(20));
    let over = Some(Duration::from_secs(40));
    assert_eq!(session.over_budget_for(), over);
    let answer = session.send(thing()).await;
    assert!(matches!(answer, Err(VendorError::OverBudget { wait }) if Some(wait) == over), "{answer:?}");
    assert_eq!(account.asked().len(), 1);
    // Whoever waits for an answer does not wait for a poll's listing.
    for (purpose, sent) in [(Purpose::Hub, 2), (Purpose::Rehearsal, 3), (Purpose::Proof, 4)] {
        account.session_with(purpose, budget).await.send(thing()).await.expect("an answer");
        assert_eq!(account.asked().len(), sent, "{purpose:?}");
    }
    account.test.ambient.advance(Duration::from_secs(40));
    session.send(thing()).await.expect("an answer");
}

#[tokio::test]
async fn a_purpose_and_the_elements_file_bound_the_time_of_a_call() {
    let account = Account::logged_in(|_| said(200, "{}")).await;
    for (purpose, of_file, seconds) in [
        (Purpose::Poll, None, 60),
        (Purpose::Poll, Some(5), 5),
        (Purpose::Poll, Some(90), 90),
        (Purpose::Hub, None, 20),
        (Purpose::Hub, Some(5), 5),
        (Purpose::Hub, Some(90), 20),
        (Purpose::Rehearsal, Some(90), 15),
        (Purpose::Proof, Some(90), 10),
    ] {
        let timeout = of_file.map(|seconds| Span(Duration::from_secs(seconds)));
        let mut session = account.session_with(purpose, |element| element.defaults.timeout = timeout).await;
        session.send(thing()).await.expect("an answer");
        let (_, bounds) = account.test.http.requests().pop().expect("a request");
        assert_eq!(bounds.deadline.as_secs(), seconds, "{purpose:?} {of_file:?}");
    }
}

#[tokio::test]
async fn no_call_outlasts_a_rehearsal() {
    let account = Account::logged_in(|_| said(200, "{}")).await;
    let until = account.service.ports.now() + TimeDelta::seconds(24);
    let mut session = account.session(Purpose::Proof).await.for_rehearsal(until);
    for (seconds_later, deadline) in [(0, 15), (20, 4)] {
        account.test.ambient.advance(Duration::from_secs(seconds_later));
        session.send(thing()).await.expect("an answer");
        let (_, bounds) = account.test.http.requests().pop().expect("a request");
        assert_eq!(bounds.deadline.as_secs(), deadline);
    }
    account.test.ambient.advance(Duration::from_secs(4));
    let answer = session.send(thing()).await;
    assert!(matches!(answer, Err(VendorError::OutOfTime)), "{answer:?}");
    assert_eq!(account.asked().len(), 2, "nothing was sent");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_none() {
    for (purpose, largest) in [(Purpose::Poll, 16 << 20), (Purpose::Proof, 1 << 20)] {
        for (size, fits) in [(largest, true), (largest + 1, false)] {
            let account = Account::logged_in(move |_| said(200, vec![b'x'; size])).await;
            match account.session(purpose).await.send(thing()).await {
                Ok(response) => assert!(fits && response.body().len() == size, "{purpose:?} {size}"),
                Err(VendorError::TooLarge { limit }) => assert!(!fits && limit == largest, "{purpose:?} {size}"),
                Err(other) => panic!("{purpose:?} {size}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_time_that_a_vendor_takes_is_kept() {
    let account = Account::logged_in(|request| {
        let milliseconds = |text: &str| Duration::from_millis(text.parse().expect("a number"));
        match request.uri().path().rsplit_once('/').expect("a path") {
            ("/deadline", after) => Err(HttpError::Deadline(milliseconds(after))),
            ("/refuse", _) => Err(HttpError::Connect("refused".into())),
            (_, after) => said(200, "{}").map(|mut answer| {
                answer.extensions_mut().insert(milliseconds(after));
                answer
            }),
        }
    })
    .await;
    let mut session = account.session(Purpose::Poll).await;
    assert_eq!(session.latency(), Latency::default());
    for (path, calls, total_ms, longest_ms) in
        [("answer/30", 1, 30, 30), ("answer/12", 2, 42, 30), ("deadline/900", 3, 942, 900), ("refuse/1", 3, 942, 900)]
    {
        let request = http::Request::get(format!("https://a.example/{path}")).body(Bytes::new());
        let answer = session.send(request.expect("a request")).await;
        assert_eq!(answer.is_ok(), path.starts_with("answer"), "{path}");
        let latency = session.latency();
        assert_eq!((latency.calls, latency.total_ms(), latency.longest_ms()), (calls, total_ms, longest_ms), "{path}");
    }
}

#[tokio::test]
async fn a_session_does_not_open_without_its_element() {
    let mut account = Account::logged_in(|_| said(200, "{}")).await;
    account.record.element = "abacus".into();
    let opened = Session::open(&account.service, &account.record, Purpose::Hub).await;
    assert!(matches!(opened.err(), Some(VendorError::NoElement(key)) if key == "abacus"));
}

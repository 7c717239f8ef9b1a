//! The hub calls of users: one page of a resource, or one record, read from the vendor at once. Nothing is remembered:
//! the place of the next page travels with the caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::problem::FieldProblem;
use elements::auth::needs_tokens;
use elements::call::CallContext;
use elements::connection::Connection;
use elements::fault::Fault;
use elements::hub::{HubList, HubOne, HubPlan, HubProblem, plan_hub_get};
use elements::plan::{Partitions, Plan};
use elements::{Element, Tokens};
use serde_json::Value;

pub use elements::hub::HubPage;

use crate::budget::Payer;
use crate::ports::{Audience, Bounds};
use crate::secrets;
use crate::service::{FlowError, Service};
use crate::table::InstanceRecord;
use crate::tokens::{self, TokenError};

/// Bounds of one call to the vendor: the caller's gateway gives up after 30 s.
const BOUNDS: Bounds =
    Bounds { audience: Audience::Vendor, deadline: Duration::from_secs(20), largest_body: 16 * 1024 * 1024 };

/// Requests for one page: a listing may halve its pages or begin anew, and a token may have to be renewed.
const TRIES: usize = 6;

/// What was asked for.
#[derive(Debug)]
pub enum HubAnswer {
    /// A page of a list.
    Page(HubPage),
    /// One record.
    Record(Value),
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// What is wrong with the request.
    #[error("{} parts of the request are not valid", .0.len())]
    Invalid(Vec<FieldProblem>),
    /// The element has no such resource.
    #[error("there is no such resource: {0}")]
    NoResource(FieldProblem),
    /// The vendor has no record of this id.
    #[error("there is no such record")]
    NoRecord,
    /// The vendor refuses the request itself.
    #[error("the vendor refuses the request: {0}")]
    Refused(String),
    /// The vendor wants a new login first.
    #[error("the vendor wants a new login: {0}")]
    NeedsLogin(String),
    /// The vendor cannot answer now.
    #[error("the vendor cannot answer now: {said}")]
    Unavailable {
        /// What it or the connection said.
        said: String,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// Our own trouble.
    #[error(transparent)]
    Flow(#[from] FlowError),
}

impl From<HubProblem> for HubError {
    fn from(problem: HubProblem) -> Self {
        match problem {
            HubProblem::NoSuchResource(problem) => Self::NoResource(problem),
            HubProblem::Refused(problems) => Self::Invalid(problems),
        }
    }
}

impl From<TokenError> for HubError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Dead(said) => Self::NeedsLogin(said),
            TokenError::Busy { reason, after } => Self::Unavailable { said: reason, after },
            TokenError::Flow(error) => Self::Flow(error),
        }
    }
}

impl From<Fault> for HubError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Retry { after, reason } | Fault::RateLimited { after, reason } => {
                Self::Unavailable { said: reason, after }
            }
            Fault::RefreshAuth { reason } | Fault::Reconnect { reason } => Self::NeedsLogin(reason),
            Fault::ConfigError { reason } => Self::Refused(reason),
            other => Self::Unavailable { said: other.to_string(), after: None },
        }
    }
}

/// The way to the vendor for one call.
struct Line<'a> {
    service: &'a Service,
    record: &'a InstanceRecord,
    element: Arc<Element>,
    connection: Connection,
    tokens: Option<Tokens>,
    renewed: bool,
}

impl<'a> Line<'a> {
    async fn open(service: &'a Service, record: &'a InstanceRecord) -> Result<Self, HubError> {
        let gone = || HubError::Refused(format!("there is no element {:?} any more", record.element));
        let element = Arc::clone(service.catalog.get(&record.element).ok_or_else(gone)?);
        let resolved = secrets::connection(service, &element, record).await?;
        let (connection, _) = resolved.map_err(HubError::Invalid)?;
        let tokens = match needs_tokens(&element, &connection) {
            true => Some(tokens::renewed(service, &element, record.id, &connection, None).await?),
            false => None,
        };
        Ok(Self { service, record, element, connection, tokens, renewed: false })
    }

    fn caller(&self) -> CallContext<'_> {
        CallContext {
            element: &self.element,
            connection: &self.connection,
            bases: &self.service.bases,
            tokens: self.tokens.as_ref(),
        }
    }

    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HubError> {
        // Hub calls count for themselves, so that a large listing keeps nobody from looking at a record.
        let own = Some(format!("hub {}", self.record.id));
        let payer = Payer::of(&self.element, &self.service.bases, self.record.id, own, &self.connection);
        if let (Some(payer), Some(budget)) = (payer, &self.element.budget)
            && let Err(wait) = self.service.budgets.spend(&payer, budget, self.service.ports.now())
        {
            let said = "our own budget of calls to the vendor is spent".to_owned();
            return Err(HubError::Unavailable { said, after: Some(wait) });
        }
        let timeout = self.element.defaults.timeout.map_or(BOUNDS.deadline, |timeout| timeout.0);
        let bounds = Bounds { deadline: timeout.min(BOUNDS.deadline), ..BOUNDS };
        let answer = self.service.ports.http.send(request, bounds).await;
        let exchange = answer.map_err(|error| HubError::Unavailable { said: error.to_string(), after: None })?;
        match exchange.truncated {
            false => Ok(exchange.response),
            true => Err(HubError::Refused("the page is too large; ask for a smaller pageSize".into())),
        }
    }

    /// After a refused token: new ones, once. Any other fault, and a second refusal, is the answer.
    async fn renew(&mut self, fault: Fault) -> Result<(), HubError> {
        if !matches!(fault, Fault::RefreshAuth { .. }) || self.renewed || self.tokens.is_none() {
            return Err(fault.into());
        }
        self.renewed = true;
        let (record, spent) = (self.record, self.tokens.take());
        let fresh = tokens::renewed(self.service, &self.element, record.id, &self.connection, spent.as_ref()).await?;
        self.tokens = Some(fresh);
        Ok(())
    }

    fn partitions(&self, plan: &Plan) -> Result<Vec<String>, HubError> {
        match plan.partitions(&self.connection) {
            Partitions::Single => Ok(vec![String::new()]),
            Partitions::Fixed(many) => Ok(many),
            Partitions::Parent(parent) => {
                let expected = format!("a path with the id of one of {} in it", parent.name());
                Err(HubError::Invalid(vec![FieldProblem::new("path", plan.name(), expected)]))
            }
        }
    }
}

/// Reads what the path after `/hubs/{hub}/` and its query ask for, both decoded.
pub async fn get(
    service: &Service,
    record: &InstanceRecord,
    path: &str,
    query: &[(String, String)],
) -> Result<HubAnswer, HubError> {
    let gone = || HubError::Refused(format!("there is no element {:?} any more", record.element));
    // What is wrong with the question is said before the vendor is troubled.
    let plan = plan_hub_get(service.catalog.get(&record.element).ok_or_else(gone)?, path, query)?;
    let mut line = Line::open(service, record).await?;
    match plan {
        HubPlan::List(list) => page(&mut line, &list).await.map(HubAnswer::Page),
        HubPlan::One(one) => read(&mut line, &one).await.map(HubAnswer::Record),
    }
}

async fn page(line: &mut Line<'_>, list: &HubList) -> Result<HubPage, HubError> {
    let partitions = line.partitions(list.plan())?;
    if partitions.is_empty() {
        return Ok(HubPage { records: Vec::new(), next_page: None, total: None });
    }
    let invalid = |problem| HubError::Invalid(vec![problem]);
    let mut listing = list.begin(&partitions, line.service.ports.now()).map_err(invalid)?;
    for _ in 0..TRIES {
        let request = list.request(&listing, &line.caller()).map_err(invalid)?;
        let response = line.exchange(request).await?;
        match list.read(&mut listing, &line.caller(), &partitions, &response) {
            Ok(page) => return Ok(page),
            // The listing has put itself right and is asked once more.
            Err(Fault::ShrinkPage | Fault::RestartScan { .. }) => {}
            Err(fault) => line.renew(fault).await?,
        }
    }
    Err(HubError::Unavailable { said: "the vendor's listing came to no page".into(), after: None })
}

/// The record may be in any of the partitions.
async fn read(line: &mut Line<'_>, one: &HubOne) -> Result<Value, HubError> {
    for partition in line.partitions(one.plan())? {
        loop {
            let request = one.request(&line.caller(), &partition).map_err(HubError::NoResource)?;
            let response = line.exchange(request).await?;
            match one.read(&line.caller(), &partition, &response) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => break,
                Err(fault) => line.renew(fault).await?,
            }
        }
    }
    Err(HubError::NoRecord)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::secret::Secret;
    use elements::definition::Span;
    use serde_json::json;

    use super::*;
    use crate::deliver::outbox::tests::instance;
    use crate::ports::{HttpError, Store};
    use crate::table;
    use crate::testing::TestPorts;

    /// An account at a vendor who gives `new` for a refresh token, and what `answer` says for anything else.
    struct Account {
        test: TestPorts,
        service: Service,
        record: InstanceRecord,
    }

    fn said(status: u16, body: impl Into<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        Ok(http::Response::builder().status(status).body(body.into()).expect("an answer"))
    }

    /// What a token that has ended is answered.
    fn refused() -> Result<http::Response<Bytes>, HttpError> {
        said(401, r#"{"errors":[{"code":"ACCESS_TOKEN_EXPIRED","detail":"too old"}]}"#)
    }

    fn is_new(request: &http::Request<Bytes>) -> bool {
        request.headers().get("authorization").is_some_and(|value| value == "Bearer new")
    }

    impl Account {
        async fn new(
            secrets: &[(&str, &str)],
            answer: impl Fn(&http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> + Send + Sync + 'static,
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
            let write = table::insert(table::tokens_key(record.id), &stored);
            test.store.transact(&[write]).await.expect("written");
            Self { test, service, record }
        }

        /// One that logged in, with an access token that has ended.
        async fn logged_in(
            answer: impl Fn(&http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> + Send + Sync + 'static,
        ) -> Self {
            Self::new(&[("oauth.api.secret", "s")], answer).await
        }

        async fn get(&self, path: &str) -> Result<HubAnswer, HubError> {
            get(&self.service, &self.record, path, &[]).await
        }

        /// The last part of the path of each request.
        fn asked(&self) -> Vec<String> {
            let path = |request: &http::Request<Bytes>| request.uri().path().rsplit('/').next().map(str::to_owned);
            self.test.http.requests().iter().filter_map(|(request, _)| path(request)).collect()
        }
    }

    #[tokio::test]
    async fn a_refused_token_is_renewed_and_the_question_asked_again() {
        let account = Account::logged_in(|request| match (is_new(request), request.uri().path().ends_with("T1")) {
            (false, _) => refused(),
            (true, true) => said(200, r#"{"timecard":{"id":"T1"}}"#),
            (true, false) => said(200, r#"{"timecards":[{"id":"T1"},{"id":"T2"}]}"#),
        })
        .await;
        let HubAnswer::Page(page) = account.get("timesheets").await.expect("a page") else { panic!("a page") };
        assert_eq!(page.records, [json!({"id": "T1"}), json!({"id": "T2"})]);
        assert_eq!(account.asked(), ["search", "token", "search"]);
        // What was renewed is kept.
        let HubAnswer::Record(one) = account.get("timesheets/T1").await.expect("a record") else { panic!("one") };
        assert_eq!(one, json!({"id": "T1"}));
        assert_eq!(account.asked()[3..], ["T1"]);
    }

    #[tokio::test]
    async fn a_token_that_is_refused_though_it_is_new_wants_a_login() {
        for (path, asked) in [("timesheets", "search"), ("timesheets/T1", "T1")] {
            let account = Account::logged_in(|_| refused()).await;
            let answer = account.get(path).await;
            assert!(matches!(&answer, Err(HubError::NeedsLogin(said)) if said.contains("too old")), "{answer:?}");
            assert_eq!(account.asked(), [asked, "token", asked]);
        }
    }

    #[tokio::test]
    async fn a_token_made_by_hand_cannot_be_renewed() {
        let account = Account::new(&[("access.token", "mine")], |_| refused()).await;
        let answer = account.get("timesheets").await;
        assert!(matches!(answer, Err(HubError::NeedsLogin(_))), "{answer:?}");
        assert_eq!(account.asked(), ["search"]);
    }

    #[tokio::test]
    async fn no_token_is_renewed_for_another_trouble() {
        let account = Account::logged_in(|_| said(403, r#"{"errors":[{"detail":"no permission"}]}"#)).await;
        let answer = account.get("timesheets").await;
        assert!(matches!(&answer, Err(HubError::Refused(said)) if said.contains("no permission")), "{answer:?}");
        assert_eq!(account.asked(), ["search"]);
    }

    #[tokio::test]
    async fn a_page_of_some_megabytes_is_read_and_a_larger_one_refused() {
        for (megabytes, fits) in [(2, true), (20, false)] {
            let text = "x".repeat(megabytes << 20);
            let page = Bytes::from(format!(r#"{{"timecards":[{{"id":"T1","note":"{text}"}}]}}"#));
            let account = Account::logged_in(move |_| said(200, page.clone())).await;
            match account.get("timesheets").await {
                Ok(HubAnswer::Page(page)) => assert!(fits && page.records.len() == 1, "{megabytes}"),
                Err(HubError::Refused(said)) => assert!(!fits && said.contains("pageSize"), "{megabytes}: {said}"),
                other => panic!("{megabytes}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_vendor_has_the_time_its_file_gives_but_no_more_than_the_gateway_does() {
        let account = Account::logged_in(|_| said(200, "{}")).await;
        let mut line = Line::open(&account.service, &account.record).await.expect("a line");
        for seconds in [5, 60] {
            let mut element = (*line.element).clone();
            element.defaults.timeout = Some(Span(Duration::from_secs(seconds)));
            line.element = Arc::new(element);
            line.exchange(http::Request::new(Bytes::new())).await.expect("an answer");
        }
        let given: Vec<u64> =
            account.test.http.requests().iter().map(|(_, bounds)| bounds.deadline.as_secs()).collect();
        assert_eq!(given, [5, BOUNDS.deadline.as_secs()]);
    }
}

//! The hub calls of users: one page of a resource, or one record, read from the vendor at once. Nothing is remembered:
//! the place of the next page travels with the caller.

use std::time::Duration;

use domain::problem::FieldProblem;
use elements::fault::Fault;
use elements::hub::{HubList, HubOne, HubPlan, HubProblem, plan_hub_get};
use elements::plan::{Partitions, Plan};
use serde_json::Value;
use store::records::instance::InstanceRecord;

pub use elements::hub::HubPage;

use super::error::VendorError;
use super::session::{Purpose, Session};
use crate::service::{FlowError, Service};

/// Requests for one page: a listing may halve its pages or begin anew, and a token may have to be renewed.
const TRIES: usize = 6;

/// The call of a user.
#[derive(Debug)]
pub enum HubAnswer {
    /// A page of a list.
    Page(HubPage),
    /// One record.
    Record(Value),
}

/// The reason why there are no records.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The problems of the request.
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
        /// The message of the vendor or the connection.
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

impl From<VendorError> for HubError {
    fn from(error: VendorError) -> Self {
        let unavailable = |said: String, after| Self::Unavailable { said, after };
        match error {
            VendorError::NoElement(key) => Self::Refused(format!("there is no element {key:?} any more")),
            VendorError::Misconfigured(problems) => Self::Invalid(problems),
            VendorError::Request(problem) => Self::Invalid(vec![problem]),
            VendorError::OverBudget { wait } => {
                unavailable("our own budget of calls to the vendor is spent".into(), Some(wait))
            }
            VendorError::Unreachable(error) => unavailable(error.to_string(), None),
            VendorError::TooLarge { .. } => Self::Refused("the page is too large; ask for a smaller pageSize".into()),
            VendorError::NoPage => unavailable("the vendor's listing came to no page".into(), None),
            VendorError::Fault(fault) => fault.into(),
            VendorError::LoginEnded(said) => Self::NeedsLogin(said),
            VendorError::NotRenewed { reason, after } => unavailable(reason, after),
            VendorError::OutOfTime => unavailable(error.to_string(), None),
            VendorError::Flow(error) => Self::Flow(error),
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

/// Reads what the path after `/hubs/{hub}/` and its query ask for, both decoded.
pub async fn get(
    service: &Service,
    record: &InstanceRecord,
    path: &str,
    query: &[(String, String)],
) -> Result<HubAnswer, HubError> {
    let gone = || VendorError::NoElement(record.element.clone());
    // What is wrong with the question is said before the vendor is troubled.
    let plan = plan_hub_get(service.catalog.get(&record.element).ok_or_else(gone)?, path, query)?;
    let mut session = Session::open(service, record, Purpose::Hub).await?;
    match plan {
        HubPlan::List(list) => page(&mut session, &list).await.map(HubAnswer::Page),
        HubPlan::One(one) => read(&mut session, &one).await.map(HubAnswer::Record),
    }
}

fn partitions(session: &Session<'_>, plan: &Plan) -> Result<Vec<String>, HubError> {
    match plan.partitions(session.connection()) {
        Partitions::Single => Ok(vec![String::new()]),
        Partitions::Fixed(many) => Ok(many),
        Partitions::Parent(parent) => {
            let expected = format!("a path with the id of one of {} in it", parent.name());
            Err(HubError::Invalid(vec![FieldProblem::new("path", plan.name(), expected)]))
        }
    }
}

async fn page(session: &mut Session<'_>, list: &HubList) -> Result<HubPage, HubError> {
    let partitions = partitions(session, list.plan())?;
    if partitions.is_empty() {
        return Ok(HubPage { records: Vec::new(), next_page: None, total: None });
    }
    let mut listing = list.begin(&partitions, session.now()).map_err(VendorError::Request)?;
    for _ in 0..TRIES {
        let request = list.request(&listing, &session.context()).map_err(VendorError::Request)?;
        let response = session.send(request).await?;
        match list.read(&mut listing, &session.context(), &partitions, &response) {
            Ok(page) => return Ok(page),
            // The listing has put itself right and is asked once more.
            Err(Fault::ShrinkPage | Fault::RestartScan { .. }) => {}
            Err(fault) => session.renew_after(fault).await?,
        }
    }
    Err(VendorError::NoPage.into())
}

/// The record may be in any of the partitions.
async fn read(session: &mut Session<'_>, one: &HubOne) -> Result<Value, HubError> {
    for partition in partitions(session, one.plan())? {
        let asked = session.ask(
            |context| one.request(context, &partition).map(Some),
            |context, response| one.read(context, &partition, response),
        );
        match asked.await {
            Ok(Some(Some(found))) => return Ok(found),
            Ok(_) => {}
            Err(VendorError::Request(problem)) => return Err(HubError::NoResource(problem)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(HubError::NoRecord)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::tests::{Account, is_new, refused, said};
    use super::*;

    impl Account {
        async fn get(&self, path: &str) -> Result<HubAnswer, HubError> {
            get(&self.service, &self.record, path, &[]).await
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
}

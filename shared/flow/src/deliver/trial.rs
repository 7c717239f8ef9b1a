//! A test event to a callback that is not saved yet: one attempt, shown to whoever asked, and nothing filed.
//!
//! Whoever has a user's secrets could aim this at anybody's host, so it is counted: an organization has a few at once
//! and then one every [`EACH`]. *Not* promised: that a callback which passes goes on to answer.

use std::time::Duration;

use chrono::TimeDelta;
use domain::configuration::keys::CALLBACK_URL;
use domain::configuration::{Callback, EventSettings};
use domain::envelope::{LARGEST_RECORD, Sender, notifications};
use domain::id::{InstanceId, OrganizationId};
use domain::problem::{FieldProblem, below};
use serde_json::{Map, Value};
use store::records::delivery::{Attempt, trials_key};
use store::{Attempts, Change, RecordError, update};

use super::redeliver::{TEST_RESOURCE, test_change};
use super::request::{Notification, SignedRequest};
use super::{DeliveryError, failed};
use crate::accounts::auth::Caller;
use crate::deliver::outbox::ElementLabel;
use crate::ports::Ports;

/// Trials at once.
const AT_ONCE: i32 = 5;
/// One comes back after this time.
const EACH: TimeDelta = TimeDelta::seconds(10);
/// One deadline for connecting, headers and body: somebody waits.
const DEADLINE: Duration = Duration::from_secs(10);

/// The reason why no test event was sent.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The settings of the callback are not in order.
    #[error("{} settings of the callback are not valid", .0.len())]
    Invalid(Vec<FieldProblem>),
    /// The organization has tried as often as it may for now.
    #[error("too many test events")]
    TooMany {
        /// When there is room for one again.
        after: Duration,
    },
    /// Our own trouble.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
}

/// The sender that a test event names.
#[derive(Debug, Clone, Copy)]
pub struct TrialSender<'a> {
    /// The instance, or none as yet: then the event names instance 0, which never exists.
    pub instance: Option<InstanceId>,
    /// Its name.
    pub name: &'a str,
    /// Its element.
    pub element: ElementLabel<'a>,
}

/// Sends one signed test event to the callback that `configuration` describes, through the same guarded client as
/// every notification, and says how it went.
///
/// # Errors
/// Nothing was sent.
pub async fn try_callback(
    ports: &Ports,
    caller: &Caller,
    from: &TrialSender<'_>,
    configuration: &Map<String, Value>,
) -> Result<Attempt, TrialError> {
    let callback = callback_of(configuration)?;
    count(ports, caller.organization).await?;
    let at = ports.now();
    let instance = from.instance.unwrap_or(InstanceId(0));
    let sender = Sender {
        instance,
        organization: caller.organization,
        user: caller.user,
        name: from.name,
        tags: &[],
        element: from.element.key,
        hub: from.element.hub,
    };
    let change = [test_change(ports, instance, at)];
    let emitted = notifications(&sender, callback.format, TEST_RESOURCE, &change, at, at, LARGEST_RECORD);
    let notification = emitted.into_iter().next().expect("one change makes one notification");
    let (url, format, id) = (callback.url.clone(), callback.format, &notification.delivery);
    let body = notification.body.into();
    let notification = Notification { url: &url, id, format, body, at, traceparent: None };
    let result = SignedRequest::of(callback).send(ports, DEADLINE, notification).await;
    Ok(Attempt { number: 1, ..result.attempt() })
}

/// The callback, read from its own keys alone: what else is wrong with a form is not this test's business.
fn callback_of(configuration: &Map<String, Value>) -> Result<Callback, TrialError> {
    let own = configuration.iter().filter(|(key, _)| key.starts_with("event.notification."));
    let own: Map<String, Value> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    match EventSettings::parse(&own) {
        Ok((EventSettings { callback: Some(callback), .. }, _)) => Ok(callback),
        Ok(_) => {
            let field = below("configuration", CALLBACK_URL);
            Err(TrialError::Invalid(vec![FieldProblem::new(field, "nothing", "the address to send a test event to")]))
        }
        Err(problems) => Err(TrialError::Invalid(problems)),
    }
}

/// Takes one trial from the organization's account. What is stored is the instant at which the account is full again.
async fn count(ports: &Ports, organization: OrganizationId) -> Result<(), TrialError> {
    let key = trials_key(organization);
    let counted = update(&*ports.store, &*ports.ambient, Attempts::few(), &key, async |read| {
        let now = ports.now();
        let full = read.record().map_or(now, |full| now.max(*full)) + EACH;
        let wait = full - now - EACH * AT_ONCE;
        Ok::<_, RecordError>(match wait > TimeDelta::zero() {
            true => Change::Keep(Some(wait)),
            false => Change::Write(vec![read.put(&full)], None),
        })
    });
    match counted.await {
        Ok(None) => Ok(()),
        Ok(Some(wait)) => Err(TrialError::TooMany { after: wait.to_std().unwrap_or_default() }),
        Err(RecordError::Contended(_)) => Err(TrialError::TooMany { after: Duration::from_secs(1) }),
        Err(error) => Err(failed("the count of test events")(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use domain::id::UserId;
    use serde_json::json;

    use super::*;
    use crate::testing::TestPorts;

    #[tokio::test]
    async fn a_trial_is_the_first_attempt_and_there_are_a_few_at_once() {
        let test = TestPorts::new("2026-01-05T09:00:00Z", |_| {
            Ok(http::Response::builder().status(202).body(Bytes::from_static(b"thanks")).expect("an answer"))
        });
        let caller = Caller { organization: OrganizationId(7), user: UserId(9), instance: None };
        let element = ElementLabel { key: "square", hub: "payment" };
        let from = TrialSender { instance: None, name: "Shop", element };
        let configuration = json!({ CALLBACK_URL: "https://a.example/hook?key=1" });
        let configuration = configuration.as_object().expect("an object");
        for _ in 0..AT_ONCE {
            let attempt = try_callback(&test.ports(), &caller, &from, configuration).await.expect("an attempt");
            assert_eq!((attempt.number, attempt.status, attempt.response.as_str()), (1, Some(202), "thanks"));
        }
        let refused = try_callback(&test.ports(), &caller, &from, configuration).await;
        let Err(TrialError::TooMany { after }) = refused else { panic!("{refused:?}") };
        test.ambient.advance(after);
        assert!(try_callback(&test.ports(), &caller, &from, configuration).await.is_ok());
    }
}

//! The vendor's side of making an instance: a code, or tokens that are at hand, become tokens that are stored.

use std::sync::Arc;
use std::time::Duration;

use domain::configuration::keys::{ACCESS_TOKEN, REDIRECT_URL, REFRESH_TOKEN};
use domain::id::InstanceId;
use domain::problem::{FieldProblem, below};
use domain::secret::Secret;
use elements::auth::{Grant, grants_code, needs_tokens, unattended_grant};
use elements::connection::Connection;
use elements::fault::Fault;
use elements::single;
use elements::{Element, Tokens};
use serde_json::{Map, Value};

use super::InstanceError;
use super::checked::{Checked, LoginGiven};
use crate::service::Service;
use crate::vendor::{Purpose, Session, VendorError, tokens};
use store::records::instance::InstanceRecord;

/// The reason why there are no tokens, though the request was in order.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The vendor refuses the login: an expired code, wrong credentials.
    #[error("the vendor refused the login: {0}")]
    Refused(String),
    /// The vendor was not reached, or its answer was no answer.
    #[error("the vendor could not be asked: {said}")]
    Unavailable {
        /// Message of the vendor or the connection.
        said: String,
        /// Time to wait, if the vendor named one.
        after: Option<Duration>,
    },
}

impl From<VendorError> for InstanceError {
    fn from(error: VendorError) -> Self {
        let login = match error {
            VendorError::Flow(error) => return error.into(),
            VendorError::LoginEnded(said) => LoginError::Refused(said),
            VendorError::NoElement(key) => LoginError::Refused(format!("there is no element {key:?} any more")),
            VendorError::Misconfigured(problems) => {
                LoginError::Refused(problems.first().map(ToString::to_string).unwrap_or_default())
            }
            VendorError::NotRenewed { reason, after }
            | VendorError::Fault(Fault::Retry { after, reason } | Fault::RateLimited { after, reason }) => {
                LoginError::Unavailable { said: reason, after }
            }
            VendorError::Unreachable(error) => LoginError::Unavailable { said: error.to_string(), after: None },
            refused => LoginError::Refused(refused.to_string()),
        };
        login.into()
    }
}

/// The change of an instance's tokens.
#[derive(Debug, Clone)]
pub(super) enum Login {
    /// These are new.
    Tokens(Tokens),
    /// Calls prove themselves without any.
    NotNeeded,
    /// They stay as they are.
    Unchanged,
}

impl Login {
    /// A session to prove it with. `stored` is the instance whose stored tokens are good where nothing changes.
    pub(super) fn session<'a>(
        &self,
        service: &'a Service,
        checked: &Checked,
        stored: Option<InstanceId>,
    ) -> Session<'a> {
        let (tokens, instance) = match self {
            Login::Tokens(tokens) => (Some(tokens.clone()), None),
            Login::NotNeeded => (None, None),
            Login::Unchanged => (None, stored),
        };
        let (element, connection) = (Arc::clone(&checked.element), checked.connection.clone());
        Session::new(service, Purpose::Proof, element, connection, tokens, instance)
    }
}

fn text<'a>(values: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    values.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// Finds what a login lacks, without asking the vendor.
pub(super) fn check_login(
    element: &Element,
    connection: Option<&Connection>,
    configuration: &Map<String, Value>,
    login: LoginGiven<'_>,
) -> Option<FieldProblem> {
    let needs = connection.is_none_or(|connection| needs_tokens(element, connection));
    if !login.needed || !needs || !grants_code(element) {
        return None;
    }
    if login.tokens_given {
        let given = text(configuration, REFRESH_TOKEN).or_else(|| text(configuration, ACCESS_TOKEN));
        let problem = || {
            let expected =
                format!("the refresh token, because externalAuthentication is \"initial\"; or {ACCESS_TOKEN}");
            FieldProblem::new(below("configuration", REFRESH_TOKEN), "nothing", expected)
        };
        return given.is_none().then(problem);
    }
    let problem = || {
        let expected = format!(
            "the code with which the vendor sent the user back after the login at GET /elements/{}/oauth/url",
            element.key
        );
        let said = text(login.provider_data, "error").map(|error| format!("the vendor's refusal: {error}"));
        FieldProblem::new("providerData.code", said.unwrap_or_else(|| "nothing".to_owned()), expected)
    };
    text(login.provider_data, "code").is_none().then(problem)
}

/// Gets the tokens. Asks the vendor at most once.
pub(super) async fn log_in(
    service: &Service,
    checked: &Checked,
    configuration: &Map<String, Value>,
    login: LoginGiven<'_>,
) -> Result<Login, InstanceError> {
    let (element, connection) = (&*checked.element, &checked.connection);
    if !needs_tokens(element, connection) {
        return Ok(Login::NotNeeded);
    }
    let (code, verifier, refresh);
    let grant = if let Some(grant) = unattended_grant(element) {
        grant
    } else if login.tokens_given {
        let access = text(configuration, ACCESS_TOKEN);
        match (text(configuration, REFRESH_TOKEN), access) {
            (Some(text), _) => {
                refresh = Secret::new(text);
                Grant::Refresh { refresh: &refresh }
            }
            (None, access) => {
                let access = Secret::new(access.unwrap_or_default());
                let tokens = Tokens { access, refresh: None, expires_at: None, extra: Default::default() };
                return Ok(Login::Tokens(tokens));
            }
        }
    } else {
        code = Secret::new(text(login.provider_data, "code").unwrap_or_default());
        verifier = text(login.provider_data, "code_verifier").map(Secret::new);
        Grant::Code {
            code: &code,
            redirect_uri: text(configuration, REDIRECT_URL).unwrap_or_default(),
            code_verifier: verifier.as_ref(),
        }
    };
    // What is offered stays good where the vendor's answer has no new refresh token.
    let offered = match grant {
        Grant::Refresh { refresh } => Some(Tokens {
            access: Secret::default(),
            refresh: Some(refresh.clone()),
            expires_at: None,
            extra: Default::default(),
        }),
        _ => None,
    };
    Ok(Login::Tokens(tokens::exchange(service, element, connection, grant, offered.as_ref()).await?))
}

/// Makes the element's cheap calls, which prove that the vendor lets us in, and reads from their answers what later
/// calls need. A vendor that cannot answer just now proves nothing, and is an error only where its answer is needed.
pub(super) async fn prove(mut session: Session<'_>) -> Result<Session<'_>, VendorError> {
    for check in &Arc::clone(session.element()).check {
        let asked = session
            .ask(
                |context| single::check_request(check, context),
                |context, answer| single::checked(check, context, answer),
            )
            .await;
        match asked {
            Ok(Some(connection)) => session.learn(connection),
            Ok(None) => {}
            Err(
                VendorError::Unreachable(_)
                | VendorError::TooLarge { .. }
                | VendorError::Fault(Fault::Retry { .. } | Fault::RateLimited { .. }),
            ) if check.sets.is_empty() || check.optional => {}
            Err(error) => return Err(error),
        }
    }
    Ok(session)
}

/// Asks the vendor whether it lets the instance in now.
///
/// # Errors
/// [`InstanceError::Login`]: it does not, or cannot be asked. Others: our own trouble.
pub async fn ping(service: &Service, record: &InstanceRecord) -> Result<(), InstanceError> {
    prove(Session::open(service, record, Purpose::Proof).await?).await?;
    Ok(())
}

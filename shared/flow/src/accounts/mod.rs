//! Accounts: organizations, their users and limits, the secrets that open them, and the trail of changes.
//!
//! `auth`, `secret`, `audit` and `limits` know nothing of instances and are used by them; `suspend` uses instances.

pub mod audit;
pub mod auth;
pub mod limits;
mod organization;
pub(crate) mod secret;
mod suspend;
mod user;

pub use organization::{NewOrganization, create_organization, organizations, renew_organization};
pub use secret::Renewal;
pub use suspend::{SuspendError, set_organization_disabled};
pub use user::{create_user, renew_user, set_user_disabled, users};

use store::{RecordError, StoreError};

/// The reason why an organization or user could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// No organization or user has this id.
    #[error("there is no such organization or user")]
    Absent,
    /// The organization is disabled: enable it first.
    #[error("the organization is disabled")]
    Disabled,
    /// The record could not be read or written; after [`RecordError::Contended`] nothing was changed.
    #[error("changing an account")]
    Record(#[from] RecordError),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Record(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::auth::{AuthenticateError, Caller, authenticate};
    use super::*;
    use crate::testing::TestPorts;
    use domain::id::OrganizationId;

    pub(super) fn test_ports() -> TestPorts {
        TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked"))
    }

    pub(super) fn header(made: &NewOrganization) -> String {
        format!("User {}, Organization {}", made.user_secret.expose(), made.organization_secret.expose())
    }

    #[tokio::test]
    async fn the_header_is_read_in_any_order_and_case() {
        let ports = test_ports().ports();
        let made = create_organization(&ports, "one").await.unwrap();
        let (user, organization) = (made.user_secret.expose(), made.organization_secret.expose());
        let caller = Caller { organization: made.organization, user: made.user, instance: None };
        for header in [
            format!("User {user}, Organization {organization}"),
            format!("organization  {organization},USER {user}"),
            format!("  User\t{user} ,  Organization {organization} , "),
        ] {
            assert_eq!(authenticate(&ports, Some(&header)).await.unwrap(), caller, "{header}");
        }
    }

    #[tokio::test]
    async fn whoever_is_not_known_gets_one_answer() {
        let ports = test_ports().ports();
        let (one, two) =
            (create_organization(&ports, "one").await.unwrap(), create_organization(&ports, "two").await.unwrap());
        let (user, organization) = (one.user_secret.expose(), one.organization_secret.expose());
        for header in [
            String::new(),
            "Bearer x".into(),
            format!("User {user}"),
            format!("Organization {organization}"),
            format!("User {organization}, Organization {user}"),
            format!("User {user}, Organization {}", two.organization_secret.expose()),
            format!("User {user}, Organization {organization}, Element {user}"),
            format!("User {user}, Organization {organization}, User {user}"),
            format!("User {user}, Organization {organization}x"),
            format!("User {user}, Organization {organization}, Robot 1"),
        ] {
            let outcome = authenticate(&ports, Some(&header)).await;
            assert!(matches!(outcome, Err(AuthenticateError::Unknown)), "{header}: {outcome:?}");
        }
        assert!(matches!(authenticate(&ports, None).await, Err(AuthenticateError::Unknown)));
    }

    #[tokio::test]
    async fn a_rotated_secret_works_and_its_forerunner_does_not() {
        let ports = test_ports().ports();
        let mut made = create_organization(&ports, "one").await.unwrap();
        let before = header(&made);
        made.user_secret = renew_user(&ports, made.organization, made.user, Renewal::AT_ONCE).await.unwrap();
        made.organization_secret = renew_organization(&ports, made.organization, Renewal::AT_ONCE).await.unwrap();
        assert!(authenticate(&ports, Some(&header(&made))).await.is_ok());
        assert!(authenticate(&ports, Some(&before)).await.is_err());
        let absent = renew_user(&ports, OrganizationId(1), made.user, Renewal::AT_ONCE).await;
        assert!(matches!(absent, Err(AccountError::Absent)));
    }

    #[tokio::test]
    async fn a_second_user_belongs_to_the_same_organization() {
        let test = test_ports();
        let ports = test.ports();
        let made = create_organization(&ports, "one").await.unwrap();
        let (user, user_secret) = create_user(&ports, made.organization, "robot").await.unwrap();
        let caller = authenticate(&ports, Some(&header(&NewOrganization { user_secret, ..made.clone() }))).await;
        assert_eq!(caller.unwrap(), Caller { organization: made.organization, user, instance: None });
        assert_eq!(users(&ports, made.organization).await.unwrap().len(), 2);
        assert_eq!(organizations(&ports).await.unwrap()[0].name, "one");
        assert!(matches!(create_user(&ports, OrganizationId(1), "x").await, Err(AccountError::Absent)));
        let stored = format!("{:?}", test.store.items());
        assert!(!stored.contains(made.user_secret.expose()), "a secret stands in the table");
    }
}

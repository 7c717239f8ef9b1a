//! Accounts under their former module's name, until every user imports [`crate::accounts`].

use chrono::{DateTime, TimeDelta, Utc};
use store::Write;
use store::records::account::{Previous, Principal};

pub use store::records::account::{OrganizationRecord, UserRecord, hash};

pub use crate::accounts::auth::{AuthenticateError, Caller, authenticate, draw_secret};
pub use crate::accounts::{
    AccountError, AccountError as AdministerError, NewOrganization, Renewal, create_organization, create_user,
    organizations, renew_organization, renew_user, set_organization_disabled, set_user_disabled, users,
};

pub(crate) fn succeed(
    now: DateTime<Utc>,
    grace: TimeDelta,
    new: &str,
    (current, previous): (&mut String, &mut Option<Previous>),
    (principal, disabled): (Principal, bool),
) -> Vec<Write> {
    use crate::accounts::secret::{Replaced, replace_secret};
    replace_secret(Replaced { current, previous, principal, disabled }, new, grace, now)
}

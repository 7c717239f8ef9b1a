//! Accounts under their former module's name, until every user imports [`crate::accounts`].

pub use store::records::account::{OrganizationRecord, UserRecord, hash};

pub use crate::accounts::auth::{AuthenticateError, Caller, authenticate, draw_secret};
pub use crate::accounts::{
    AccountError, AccountError as AdministerError, NewOrganization, Renewal, create_organization, create_user,
    organizations, renew_organization, renew_user, set_organization_disabled, set_user_disabled, users,
};

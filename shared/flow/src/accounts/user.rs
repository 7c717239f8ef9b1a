//! Users of an organization: made, disabled and enabled, given new secrets, listed.

use domain::id::{OrganizationId, UserId};
use domain::secret::Secret;
use store::records::account::{self, Principal, SecretSlot, UserRecord, hash, organization_key, user_key};
use store::records::audit::{Action, AuditRecord, By};
use store::{Attempts, Change, RecordError, Version, Write, update};

use super::AccountError;
use super::auth::draw_secret;
use super::secret::{Renewal, Replaced, put_secrets, replace_secret};
use crate::ports::Ports;

/// The item that entries about a user name.
fn audit_subject(user: UserId) -> String {
    format!("USER{user}")
}

pub(super) fn new_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    name: &str,
    secret: &Secret,
) -> [Write; 3] {
    let secret_hash = hash(secret);
    let entry = AuditRecord::new(ports.now(), By::Operator, Action::UserCreated).of_user(user);
    let secret = account::insert_secret(&secret_hash, Principal::User { user, organization });
    let record = UserRecord {
        id: user,
        name: name.to_owned(),
        created_at: ports.now(),
        secret: SecretSlot::new(secret_hash),
        suspended: false,
    };
    [
        user_key(organization, user).insert(&record),
        secret,
        entry.write(organization, &audit_subject(user), Version::default()),
    ]
}

/// Makes one more user of an organization.
///
/// # Errors
/// The organization is absent or disabled, others kept changing it, or the store failed.
pub async fn create_user(
    ports: &Ports,
    organization: OrganizationId,
    name: &str,
) -> Result<(UserId, Secret), AccountError> {
    let key = organization_key(organization);
    update(&*ports.store, &*ports.ambient, Attempts::few(), &key, async |snapshot| {
        let record = snapshot.record().ok_or(AccountError::Absent)?;
        if record.secret.disabled {
            return Err(AccountError::Disabled);
        }
        let user = UserId::from_random(ports.ambient.random());
        let secret = draw_secret(&*ports.ambient);
        // A user made while the organization is being disabled would be left enabled.
        let mut writes = vec![snapshot.unchanged()];
        writes.extend(new_user(ports, organization, user, name, &secret));
        Ok(Change::Write(writes, (user, secret)))
    })
    .await
}

/// Changes a user's record with what belongs to it. `change` answers None where nothing is to be done. A change of the
/// organization, which each of its users follows, has no entry for each of them.
async fn change_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    change: impl Fn(&mut UserRecord) -> Option<(Option<Action>, Vec<Write>)>,
) -> Result<(), AccountError> {
    let key = user_key(organization, user);
    update(&*ports.store, &*ports.ambient, Attempts::few(), &key, async |snapshot| {
        let mut record = snapshot.record().cloned().ok_or(AccountError::Absent)?;
        let Some((action, mut writes)) = change(&mut record) else { return Ok(Change::Keep(())) };
        writes.push(snapshot.put(&record));
        writes.extend(action.map(|action| {
            let entry = AuditRecord::new(ports.now(), By::Operator, action).of_user(user);
            entry.write(organization, &audit_subject(user), snapshot.version())
        }));
        Ok(Change::Write(writes, ()))
    })
    .await
}

/// Gives a user a new secret.
///
/// # Errors
/// There is no such user, others kept changing it, or the store failed.
pub async fn renew_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    renewal: Renewal,
) -> Result<Secret, AccountError> {
    let secret = draw_secret(&*ports.ambient);
    let action = match renewal {
        Renewal::Rotate(_) => Action::UserSecretRotated,
        Renewal::Revoke => Action::UserSecretRevoked,
    };
    change_user(ports, organization, user, |record| {
        let disabled = record.is_locked_out();
        let SecretSlot { secret_hash, previous, .. } = &mut record.secret;
        let of =
            Replaced { current: secret_hash, previous, principal: Principal::User { user, organization }, disabled };
        Some((Some(action), replace_secret(of, &hash(&secret), renewal.grace(), ports.now())))
    })
    .await?;
    Ok(secret)
}

/// Enables or disables a user.
///
/// # Errors
/// There is no such user, others kept changing it, or the store failed.
pub async fn set_user_disabled(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    disabled: bool,
) -> Result<(), AccountError> {
    let action = if disabled { Action::UserDisabled } else { Action::UserEnabled };
    switch_user(ports, organization, user, Some(action), |record| &mut record.secret.disabled, disabled).await
}

/// Suspends a user with the organization, or ends that.
pub(super) async fn set_user_suspended(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    suspended: bool,
) -> Result<(), AccountError> {
    switch_user(ports, organization, user, None, |record| &mut record.suspended, suspended).await
}

async fn switch_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    action: Option<Action>,
    switch: fn(&mut UserRecord) -> &mut bool,
    off: bool,
) -> Result<(), AccountError> {
    change_user(ports, organization, user, |record| {
        if *switch(record) == off {
            return None;
        }
        *switch(record) = off;
        let principal = Principal::User { user, organization };
        Some((action, put_secrets(&record.secret, &principal, record.is_locked_out())))
    })
    .await
}

/// The users of an organization, by id.
///
/// # Errors
/// The store failed.
pub async fn users(ports: &Ports, organization: OrganizationId) -> Result<Vec<UserRecord>, RecordError> {
    Ok(account::users(organization).all(&*ports.store).await?.into_iter().map(|stored| stored.record).collect())
}

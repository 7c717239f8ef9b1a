//! Who is calling: the authorization header, the secrets behind it, and the organizations and users they stand for.
//!
//! Only the SHA-256 of a secret is stored, and it is the key of the item: looking one up tells nobody how near a
//! guess came. An absent header, an unknown secret and secrets that do not belong together get the same answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audit::{Action, AuditRecord, By};
use crate::instance::{self, InstanceError};
use crate::ports::{Ambient, Condition, Key, Ports, StoreError, Write};
use crate::table::{
    self, ListingRecord, Previous, Principal, PrincipalRecord, Unreadable, organization_partition, principal_key,
};

/// Bytes of randomness in a secret.
const SECRET_BYTES: usize = 32;

/// Times a change is tried again when another came in between.
const CHANGES: usize = 8;

/// Ids drawn before giving up on finding a free one. With fewer than 2^40 in use two draws hardly ever fail.
const DRAWS: usize = 4;

/// On whose behalf a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The wall: nothing of another organization is ever seen.
    pub organization: OrganizationId,
    /// Who calls.
    pub user: UserId,
    /// The instance whose token came along, if one did.
    pub instance: Option<InstanceId>,
}

impl Caller {
    /// As the audit trail names the caller.
    pub fn by(&self) -> By {
        By::User { user: self.user }
    }
}

/// Why a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Absent, wrong, or not belonging together: the caller is not told which.
    #[error("the secrets do not name a user of an organization")]
    Unknown,
    /// The table did not answer.
    #[error("reading the principals")]
    Store(#[from] StoreError),
    /// A principal is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The parts of `Authorization: User <s>, Organization <s>, Element <t>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    user: Option<Secret>,
    organization: Option<Secret>,
    element: Option<Secret>,
}

impl Parts {
    /// Parts in any order, names in any case, spaces wherever. None for an unknown or repeated part.
    fn parse(header: &str) -> Option<Self> {
        let mut parts = Self::default();
        for part in header.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, secret) = part.split_once(char::is_whitespace)?;
            let place = match name.to_ascii_lowercase().as_str() {
                "user" => &mut parts.user,
                "organization" => &mut parts.organization,
                "element" => &mut parts.element,
                _ => return None,
            };
            if place.replace(Secret::new(secret.trim())).is_some() {
                return None;
            }
        }
        Some(parts)
    }
}

/// Finds out who calls. A user's secret is always needed, and the organization's or an instance token with it;
/// all that are given must belong to one organization.
pub async fn authenticate(ports: &Ports, header: Option<&str>) -> Result<Caller, AuthenticateError> {
    let parts = header.and_then(Parts::parse).unwrap_or_default();
    if parts.user.is_none() || (parts.organization.is_none() && parts.element.is_none()) {
        return Err(AuthenticateError::Unknown);
    }
    let key = |secret: &Option<Secret>| secret.as_ref().map(|secret| principal_key(&hash(secret)));
    let (user_key, organization_key, element_key) = (key(&parts.user), key(&parts.organization), key(&parts.element));
    let wanted: Vec<Key> = [&user_key, &organization_key, &element_key].into_iter().flatten().cloned().collect();
    let items = ports.store.get_many(&wanted).await?;
    let now = ports.now();
    let find = |key: &Option<Key>| -> Result<Option<Principal>, Unreadable> {
        let item = key.as_ref().and_then(|key| items.iter().find(|item| item.key == *key));
        let record: Option<PrincipalRecord> = item.map(table::read).transpose()?;
        let opens = |record: &PrincipalRecord| !record.disabled && record.until.is_none_or(|until| now < until);
        Ok(record.filter(opens).map(|record| record.principal))
    };
    let Some(Principal::User { user, organization }) = find(&user_key)? else {
        return Err(AuthenticateError::Unknown);
    };
    if organization_key.is_some() && find(&organization_key)? != Some(Principal::Organization { organization }) {
        return Err(AuthenticateError::Unknown);
    }
    let instance = match (&element_key, find(&element_key)?) {
        (None, _) => None,
        (Some(_), Some(Principal::Instance { instance, organization: owner })) if owner == organization => {
            Some(instance)
        }
        (Some(_), _) => return Err(AuthenticateError::Unknown),
    };
    Ok(Caller { organization, user, instance })
}

/// Lower-case hex of the SHA-256 of a secret, as [`principal_key`] takes it.
pub fn hash(secret: &Secret) -> String {
    Sha256::digest(secret.expose()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new secret: 256 random bits in base64url.
pub fn draw_secret(ambient: &dyn Ambient) -> Secret {
    let mut bytes = [0; SECRET_BYTES];
    ambient.fill_random(&mut bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

// ---------------------------------------------------------------- Organizations and users

/// A customer. Kept under `ORGS` / `<id>`, which also claims the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationRecord {
    /// Its id.
    pub id: OrganizationId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// SHA-256 of its secret in hex: the principal to replace on rotation.
    pub secret_hash: String,
    /// The secret before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Nobody gets in, and its instances are not polled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A user of an organization. Kept under `ORG#<id>` / `USER#<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The user's id.
    pub id: UserId,
    /// What people call the user.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// SHA-256 of the user's secret in hex: the principal to replace on rotation.
    pub secret_hash: String,
    /// The secret before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The user does not get in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Nor does any user of the organization.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

/// Partition of all organizations.
pub(crate) const ORGANIZATIONS: &str = "ORGS";

fn organization_key(id: OrganizationId) -> Key {
    Key::new(ORGANIZATIONS, format!("{:016}", id.0))
}

fn user_key(organization: OrganizationId, user: UserId) -> Key {
    Key::new(organization_partition(organization), format!("USER#{:016}", user.0))
}

/// A new organization with its first user. The secrets are shown this once.
#[derive(Debug, Clone)]
pub struct NewOrganization {
    /// The organization.
    pub organization: OrganizationId,
    /// Its first user.
    pub user: UserId,
    /// For the `User` part of the header.
    pub user_secret: Secret,
    /// For the `Organization` part.
    pub organization_secret: Secret,
}

/// Why organizations or users could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum AdministerError {
    /// No organization or user of this id.
    #[error("there is no such organization or user")]
    Absent,
    /// The organization is disabled: enable it first.
    #[error("the organization is disabled")]
    Disabled,
    /// Others kept changing the same at the same time. Nothing was changed.
    #[error("it was changed by others at the same time; try again")]
    Raced,
    /// The table refused or was busy; nothing is known to have changed.
    #[error("writing principals")]
    Store(#[from] StoreError),
    /// A stored item is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// An instance could not be changed with its organization.
    #[error("changing an instance with its organization")]
    Instance(#[from] Box<InstanceError>),
}

fn principal(hash: &str, principal: Principal, until: Option<DateTime<Utc>>, disabled: bool) -> Write {
    let mut write =
        table::put(principal_key(hash), 1, &PrincipalRecord { principal, until, disabled }, Condition::Unconditional);
    if let Write::Put { item, .. } = &mut write {
        item.expires_at = until;
    }
    write
}

fn forget(hash: &str) -> Write {
    Write::Delete { key: principal_key(hash), condition: Condition::Unconditional }
}

/// The writes that put a new secret in the place of another, which works for the time `grace` still, or no longer.
/// Whatever came before that one works no longer.
pub(crate) fn succeed(
    now: DateTime<Utc>,
    grace: TimeDelta,
    new: &str,
    (current, previous): (&mut String, &mut Option<Previous>),
    (whose, disabled): (Principal, bool),
) -> Vec<Write> {
    let old = std::mem::replace(current, new.to_owned());
    let mut writes = vec![principal(new, whose.clone(), None, disabled)];
    writes.extend(previous.take().map(|before| forget(&before.hash)));
    if grace > TimeDelta::zero() {
        let until = now + grace;
        writes.push(principal(&old, whose, Some(until), disabled));
        *previous = Some(Previous { hash: old, until });
    } else {
        writes.push(forget(&old));
    }
    writes
}

/// Makes an organization and its first user, in one transaction.
pub async fn create_organization(ports: &Ports, name: &str) -> Result<NewOrganization, AdministerError> {
    let mut drawn = 1;
    loop {
        let made = NewOrganization {
            organization: OrganizationId::from_random(ports.ambient.random()),
            user: UserId::from_random(ports.ambient.random()),
            user_secret: draw_secret(&*ports.ambient),
            organization_secret: draw_secret(&*ports.ambient),
        };
        let (organization, user) = (made.organization, made.user);
        let record = OrganizationRecord {
            id: organization,
            name: name.to_owned(),
            created_at: ports.now(),
            secret_hash: hash(&made.organization_secret),
            previous: None,
            disabled: false,
        };
        let mut writes = vec![
            table::insert(organization_key(organization), &record),
            table::insert(principal_key(&record.secret_hash), &Principal::Organization { organization }),
            AuditRecord::new(ports.now(), By::Operator, Action::OrganizationCreated).write(organization, "ORG", 0),
        ];
        writes.extend(new_user(ports, organization, user, "first user", &made.user_secret));
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(made),
            Err(StoreError::Conflict { .. }) if drawn < DRAWS => drawn += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn new_user(ports: &Ports, organization: OrganizationId, user: UserId, name: &str, secret: &Secret) -> [Write; 3] {
    let record = UserRecord {
        id: user,
        name: name.to_owned(),
        created_at: ports.now(),
        secret_hash: hash(secret),
        previous: None,
        disabled: false,
        suspended: false,
    };
    let entry = AuditRecord::new(ports.now(), By::Operator, Action::UserCreated).of_user(user);
    [
        table::insert(user_key(organization, user), &record),
        table::insert(principal_key(&record.secret_hash), &Principal::User { user, organization }),
        entry.write(organization, &format!("USER{user}"), 0),
    ]
}

/// Makes one more user of an organization.
pub async fn create_user(
    ports: &Ports,
    organization: OrganizationId,
    name: &str,
) -> Result<(UserId, Secret), AdministerError> {
    for _ in 0..DRAWS {
        let (record, version) = stored_organization(ports, organization).await?;
        if record.disabled {
            return Err(AdministerError::Disabled);
        }
        let user = UserId::from_random(ports.ambient.random());
        let secret = draw_secret(&*ports.ambient);
        // On condition of the version: a user made while the organization is switched off would be left on.
        let unchanged = Write::Check { key: organization_key(organization), condition: Condition::Version(version) };
        let mut writes = vec![unchanged];
        writes.extend(new_user(ports, organization, user, name, &secret));
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok((user, secret)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdministerError::Raced)
}

async fn stored_organization(
    ports: &Ports,
    organization: OrganizationId,
) -> Result<(OrganizationRecord, u64), AdministerError> {
    let item = ports.store.get(&organization_key(organization)).await?.ok_or(AdministerError::Absent)?;
    Ok((table::read(&item)?, item.version))
}

/// Whether there is such an organization.
pub(crate) async fn organization_exists(ports: &Ports, organization: OrganizationId) -> Result<bool, StoreError> {
    Ok(ports.store.get(&organization_key(organization)).await?.is_some())
}

/// Changes an organization's record with what belongs to it, however many others do.
async fn change_organization(
    ports: &Ports,
    organization: OrganizationId,
    mut change: impl FnMut(&mut OrganizationRecord) -> Option<(Action, Vec<Write>)>,
) -> Result<(), AdministerError> {
    for _ in 0..CHANGES {
        let (mut record, version) = stored_organization(ports, organization).await?;
        let Some((action, more)) = change(&mut record) else { return Ok(()) };
        let entry = AuditRecord::new(ports.now(), By::Operator, action);
        let mut writes = vec![
            table::replace(organization_key(organization), version, &record),
            entry.write(organization, "ORG", version),
        ];
        writes.extend(more);
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdministerError::Raced)
}

/// The same of a user; a change of the organization, which each user has to follow, has no entry for each of them.
async fn change_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    mut change: impl FnMut(&mut UserRecord) -> Option<(Option<Action>, Vec<Write>)>,
) -> Result<(), AdministerError> {
    let key = user_key(organization, user);
    for _ in 0..CHANGES {
        let item = ports.store.get(&key).await?.ok_or(AdministerError::Absent)?;
        let mut record: UserRecord = table::read(&item)?;
        let Some((action, more)) = change(&mut record) else { return Ok(()) };
        let mut writes = vec![table::replace(key.clone(), item.version, &record)];
        writes.extend(action.map(|action| {
            let entry = AuditRecord::new(ports.now(), By::Operator, action).of_user(user);
            entry.write(organization, &format!("USER{user}"), item.version)
        }));
        writes.extend(more);
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AdministerError::Raced)
}

/// What becomes of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// A new one takes its place; the old one works for this time still, or no longer.
    Rotate(TimeDelta),
    /// It works no longer, nor does one before it that still did. The new one is for nobody to know.
    Revoke,
}

impl Renewal {
    /// A new one, and the old one stops at once.
    pub const AT_ONCE: Self = Self::Rotate(TimeDelta::zero());

    fn grace(self) -> TimeDelta {
        match self {
            Self::Rotate(grace) => grace,
            Self::Revoke => TimeDelta::zero(),
        }
    }
}

/// Gives an organization a new secret.
pub async fn renew_organization(
    ports: &Ports,
    organization: OrganizationId,
    renewal: Renewal,
) -> Result<Secret, AdministerError> {
    let secret = draw_secret(&*ports.ambient);
    let action = match renewal {
        Renewal::Rotate(_) => Action::OrganizationSecretRotated,
        Renewal::Revoke => Action::OrganizationSecretRevoked,
    };
    change_organization(ports, organization, |record| {
        let whose = (Principal::Organization { organization }, record.disabled);
        let places = (&mut record.secret_hash, &mut record.previous);
        Some((action, succeed(ports.now(), renewal.grace(), &hash(&secret), places, whose)))
    })
    .await?;
    Ok(secret)
}

/// Gives a user a new secret.
pub async fn renew_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    renewal: Renewal,
) -> Result<Secret, AdministerError> {
    let secret = draw_secret(&*ports.ambient);
    let action = match renewal {
        Renewal::Rotate(_) => Action::UserSecretRotated,
        Renewal::Revoke => Action::UserSecretRevoked,
    };
    change_user(ports, organization, user, |record| {
        let whose = (Principal::User { user, organization }, record.disabled || record.suspended);
        let places = (&mut record.secret_hash, &mut record.previous);
        Some((Some(action), succeed(ports.now(), renewal.grace(), &hash(&secret), places, whose)))
    })
    .await?;
    Ok(secret)
}

/// The principals of a secret and of the one before it, as they are to be.
fn principals(hash: &str, previous: Option<&Previous>, whose: &Principal, disabled: bool) -> Vec<Write> {
    let now = principal(hash, whose.clone(), None, disabled);
    let before = previous.map(|before| principal(&before.hash, whose.clone(), Some(before.until), disabled));
    std::iter::once(now).chain(before).collect()
}

/// Lets a user in, or no longer.
pub async fn set_user_disabled(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    disabled: bool,
) -> Result<(), AdministerError> {
    let action = if disabled { Action::UserDisabled } else { Action::UserEnabled };
    switch_user(ports, organization, user, Some(action), |record| &mut record.disabled, disabled).await
}

async fn switch_user(
    ports: &Ports,
    organization: OrganizationId,
    user: UserId,
    action: Option<Action>,
    switch: fn(&mut UserRecord) -> &mut bool,
    off: bool,
) -> Result<(), AdministerError> {
    change_user(ports, organization, user, |record| {
        if *switch(record) == off {
            return None;
        }
        *switch(record) = off;
        let whose = Principal::User { user, organization };
        let shut = record.disabled || record.suspended;
        Some((action, principals(&record.secret_hash, record.previous.as_ref(), &whose, shut)))
    })
    .await
}

/// Switches an organization off or on: its secrets, its users, its instances. What was off for itself stays off.
///
/// The organization's own item is written first, and refuses new users from then on. A call that did not get to its
/// end is repeated, and goes on where it stopped.
pub async fn set_organization_disabled(
    ports: &Ports,
    organization: OrganizationId,
    disabled: bool,
) -> Result<(), AdministerError> {
    let action = if disabled { Action::OrganizationDisabled } else { Action::OrganizationEnabled };
    change_organization(ports, organization, |record| {
        if record.disabled == disabled {
            return None;
        }
        record.disabled = disabled;
        let whose = Principal::Organization { organization };
        Some((action, principals(&record.secret_hash, record.previous.as_ref(), &whose, disabled)))
    })
    .await?;
    for user in users(ports, organization).await? {
        switch_user(ports, organization, user.id, None, |record| &mut record.suspended, disabled).await?;
    }
    let listed = crate::ports::query_all(&*ports.store, &organization_partition(organization), "INST#").await?;
    for item in &listed {
        let entry: ListingRecord = table::read(item)?;
        instance::suspend(ports, organization, entry.id, disabled).await.map_err(Box::new)?;
    }
    Ok(())
}

/// All organizations, in the order of their ids.
pub async fn organizations(ports: &Ports) -> Result<Vec<OrganizationRecord>, AdministerError> {
    let items = crate::ports::query_all(&*ports.store, ORGANIZATIONS, "").await?;
    Ok(items.iter().map(table::read).collect::<Result<_, _>>()?)
}

/// The users of an organization, in the order of their ids.
pub async fn users(ports: &Ports, organization: OrganizationId) -> Result<Vec<UserRecord>, AdministerError> {
    let items = crate::ports::query_all(&*ports.store, &organization_partition(organization), "USER#").await?;
    Ok(items.iter().map(table::read).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPorts;

    fn world() -> TestPorts {
        TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked"))
    }

    fn header(made: &NewOrganization) -> String {
        format!("User {}, Organization {}", made.user_secret.expose(), made.organization_secret.expose())
    }

    #[tokio::test]
    async fn an_id_that_is_taken_is_drawn_again() {
        let (first, second) = (world(), world());
        // Another table of the same dice would draw the same ids.
        let second = TestPorts { store: first.store.clone(), ..second };
        let one = create_organization(&first.ports(), "one").await.unwrap();
        let other = create_organization(&second.ports(), "other").await.unwrap();
        assert_ne!(one.organization, other.organization);
        assert_eq!(organizations(&first.ports()).await.unwrap().len(), 2);
        for made in [&one, &other] {
            let caller = authenticate(&first.ports(), Some(&header(made))).await.unwrap();
            assert_eq!(caller.organization, made.organization);
        }
    }

    #[tokio::test]
    async fn ids_are_drawn_so_often_and_no_more() {
        let first = world();
        for taken in 0..=DRAWS {
            // Dice that begin with every id that is taken.
            let ports = TestPorts { store: first.store.clone(), ..world() }.ports();
            match create_organization(&ports, "one more").await {
                Ok(_) => assert!(taken < DRAWS, "{taken} were taken"),
                Err(AdministerError::Store(StoreError::Conflict { .. })) => assert_eq!(taken, DRAWS),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(organizations(&first.ports()).await.unwrap().len(), DRAWS);
    }

    #[tokio::test]
    async fn the_header_is_read_in_any_order_and_case() {
        let ports = world().ports();
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
        let ports = world().ports();
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
        let ports = world().ports();
        let mut made = create_organization(&ports, "one").await.unwrap();
        let before = header(&made);
        made.user_secret = renew_user(&ports, made.organization, made.user, Renewal::AT_ONCE).await.unwrap();
        made.organization_secret = renew_organization(&ports, made.organization, Renewal::AT_ONCE).await.unwrap();
        assert!(authenticate(&ports, Some(&header(&made))).await.is_ok());
        assert!(authenticate(&ports, Some(&before)).await.is_err());
        let absent = renew_user(&ports, OrganizationId(1), made.user, Renewal::AT_ONCE).await;
        assert!(matches!(absent, Err(AdministerError::Absent)));
    }

    #[tokio::test]
    async fn a_second_user_belongs_to_the_same_organization() {
        let world = world();
        let ports = world.ports();
        let made = create_organization(&ports, "one").await.unwrap();
        let (user, user_secret) = create_user(&ports, made.organization, "robot").await.unwrap();
        let caller = authenticate(&ports, Some(&header(&NewOrganization { user_secret, ..made.clone() }))).await;
        assert_eq!(caller.unwrap(), Caller { organization: made.organization, user, instance: None });
        assert_eq!(users(&ports, made.organization).await.unwrap().len(), 2);
        assert_eq!(organizations(&ports).await.unwrap()[0].name, "one");
        assert!(matches!(create_user(&ports, OrganizationId(1), "x").await, Err(AdministerError::Absent)));
        let stored = format!("{:?}", world.store.items());
        assert!(!stored.contains(made.user_secret.expose()), "a secret stands in the table");
    }
}

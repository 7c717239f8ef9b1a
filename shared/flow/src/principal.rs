//! Who is calling: the authorization header, the secrets behind it, and the organizations and users they stand for.
//!
//! Only the SHA-256 of a secret is stored, and it is the key of the item: looking one up tells nobody how near a
//! guess came. An absent header, an unknown secret and secrets that do not belong together get the same answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ports::{Ambient, Condition, Key, Ports, StoreError, Write};
use crate::table::{self, Principal, Unreadable, organization_partition, principal_key};

/// Bytes of randomness in a secret.
const SECRET_BYTES: usize = 32;

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
    let find = |key: &Option<Key>| -> Result<Option<Principal>, Unreadable> {
        let item = key.as_ref().and_then(|key| items.iter().find(|item| item.key == *key));
        item.map(table::read).transpose()
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
}

/// Partition of all organizations.
const ORGANIZATIONS: &str = "ORGS";

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
    /// The table refused or was busy; nothing is known to have changed.
    #[error("writing principals")]
    Store(#[from] StoreError),
    /// A stored item is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
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
        };
        let mut writes = vec![
            table::insert(organization_key(organization), &record),
            table::insert(principal_key(&record.secret_hash), &Principal::Organization { organization }),
        ];
        writes.extend(new_user(ports, organization, user, "first user", &made.user_secret));
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(made),
            Err(StoreError::Conflict { .. }) if drawn < DRAWS => drawn += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn new_user(ports: &Ports, organization: OrganizationId, user: UserId, name: &str, secret: &Secret) -> [Write; 2] {
    let record = UserRecord { id: user, name: name.to_owned(), created_at: ports.now(), secret_hash: hash(secret) };
    [
        table::insert(user_key(organization, user), &record),
        table::insert(principal_key(&record.secret_hash), &Principal::User { user, organization }),
    ]
}

/// Makes one more user of an organization.
pub async fn create_user(
    ports: &Ports,
    organization: OrganizationId,
    name: &str,
) -> Result<(UserId, Secret), AdministerError> {
    let mut drawn = 1;
    loop {
        let user = UserId::from_random(ports.ambient.random());
        let secret = draw_secret(&*ports.ambient);
        let mut writes = vec![Write::Check { key: organization_key(organization), condition: Condition::Present }];
        writes.extend(new_user(ports, organization, user, name, &secret));
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok((user, secret)),
            Err(StoreError::Conflict { index: 0 }) => return Err(AdministerError::Absent),
            Err(StoreError::Conflict { .. }) if drawn < DRAWS => drawn += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives an organization a new secret; the old one stops working at once.
pub async fn rotate_organization(ports: &Ports, organization: OrganizationId) -> Result<Secret, AdministerError> {
    let key = organization_key(organization);
    let item = ports.store.get(&key).await?.ok_or(AdministerError::Absent)?;
    let mut record: OrganizationRecord = table::read(&item)?;
    let secret = draw_secret(&*ports.ambient);
    let old = std::mem::replace(&mut record.secret_hash, hash(&secret));
    let principal = table::insert(principal_key(&record.secret_hash), &Principal::Organization { organization });
    let writes = [
        table::replace(key, item.version, &record),
        principal,
        Write::Delete { key: principal_key(&old), condition: Condition::Unconditional },
    ];
    ports.store.transact(&writes).await?;
    Ok(secret)
}

/// Gives a user a new secret; the old one stops working at once.
pub async fn rotate_user(ports: &Ports, organization: OrganizationId, user: UserId) -> Result<Secret, AdministerError> {
    let key = user_key(organization, user);
    let item = ports.store.get(&key).await?.ok_or(AdministerError::Absent)?;
    let mut record: UserRecord = table::read(&item)?;
    let secret = draw_secret(&*ports.ambient);
    let old = std::mem::replace(&mut record.secret_hash, hash(&secret));
    let principal = table::insert(principal_key(&record.secret_hash), &Principal::User { user, organization });
    let writes = [
        table::replace(key, item.version, &record),
        principal,
        Write::Delete { key: principal_key(&old), condition: Condition::Unconditional },
    ];
    ports.store.transact(&writes).await?;
    Ok(secret)
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
        made.user_secret = rotate_user(&ports, made.organization, made.user).await.unwrap();
        made.organization_secret = rotate_organization(&ports, made.organization).await.unwrap();
        assert!(authenticate(&ports, Some(&header(&made))).await.is_ok());
        assert!(authenticate(&ports, Some(&before)).await.is_err());
        let absent = rotate_user(&ports, OrganizationId(1), made.user).await;
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

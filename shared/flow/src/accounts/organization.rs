//! Organizations: made with a first user, given new secrets, listed.

use domain::id::{OrganizationId, UserId};
use domain::secret::Secret;
use store::records::account::{self, OrganizationRecord, Principal, SecretSlot, hash, organization_key};
use store::records::audit::{Action, AuditRecord, By};
use store::{Attempts, Change, Commit, RecordError, Version, Write, commit, update};

use super::AccountError;
use super::auth::draw_secret;
use super::secret::{Renewal, Replaced, replace_secret};
use super::user::new_user;
use crate::ports::Ports;

/// The item that entries about an organization name.
const AUDIT_SUBJECT: &str = "ORG";

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

/// Makes an organization and its first user, in one transaction. An id that is taken is drawn again; with fewer than
/// 2^40 in use two draws hardly ever fail.
///
/// # Errors
/// Every id that was drawn is taken, or the store failed.
pub async fn create_organization(ports: &Ports, name: &str) -> Result<NewOrganization, AccountError> {
    let mut draws = Attempts::few();
    loop {
        let made = NewOrganization {
            organization: OrganizationId::from_random(ports.ambient.random()),
            user: UserId::from_random(ports.ambient.random()),
            user_secret: draw_secret(&*ports.ambient),
            organization_secret: draw_secret(&*ports.ambient),
        };
        match commit(&*ports.store, &writes_of(ports, &made, name)).await? {
            Commit::Done => return Ok(made),
            Commit::Lost { .. } => draws.lost(&*ports.ambient).await.map_err(RecordError::from)?,
        }
    }
}

fn writes_of(ports: &Ports, made: &NewOrganization, name: &str) -> Vec<Write> {
    let organization = made.organization;
    let secret_hash = hash(&made.organization_secret);
    let entry = AuditRecord::new(ports.now(), By::Operator, Action::OrganizationCreated);
    let mut writes = vec![
        account::insert_secret(&secret_hash, Principal::Organization { organization }),
        entry.write(organization, AUDIT_SUBJECT, Version::default()),
    ];
    let secret = SecretSlot::new(secret_hash);
    let record = OrganizationRecord { id: organization, name: name.to_owned(), created_at: ports.now(), secret };
    writes.push(organization_key(organization).insert(&record));
    writes.extend(new_user(ports, organization, made.user, "first user", &made.user_secret));
    writes
}

/// Changes an organization's record with what belongs to it. `change` answers None where nothing is to be done.
pub(super) async fn change_organization(
    ports: &Ports,
    organization: OrganizationId,
    change: impl Fn(&mut OrganizationRecord) -> Option<(Action, Vec<Write>)>,
) -> Result<(), AccountError> {
    let key = organization_key(organization);
    update(&*ports.store, &*ports.ambient, Attempts::few(), &key, async |snapshot| {
        let mut record = snapshot.record().cloned().ok_or(AccountError::Absent)?;
        let Some((action, mut writes)) = change(&mut record) else { return Ok(Change::Keep(())) };
        let entry = AuditRecord::new(ports.now(), By::Operator, action);
        writes.push(snapshot.put(&record));
        writes.push(entry.write(organization, AUDIT_SUBJECT, snapshot.version()));
        Ok(Change::Write(writes, ()))
    })
    .await
}

/// Gives an organization a new secret.
///
/// # Errors
/// There is no such organization, others kept changing it, or the store failed.
pub async fn renew_organization(
    ports: &Ports,
    organization: OrganizationId,
    renewal: Renewal,
) -> Result<Secret, AccountError> {
    let secret = draw_secret(&*ports.ambient);
    let action = match renewal {
        Renewal::Rotate(_) => Action::OrganizationSecretRotated,
        Renewal::Revoke => Action::OrganizationSecretRevoked,
    };
    change_organization(ports, organization, |record| {
        let SecretSlot { secret_hash, previous, disabled } = &mut record.secret;
        let principal = Principal::Organization { organization };
        let of = Replaced { current: secret_hash, previous, principal, disabled: *disabled };
        Some((action, replace_secret(of, &hash(&secret), renewal.grace(), ports.now())))
    })
    .await?;
    Ok(secret)
}

/// All organizations, by id.
///
/// # Errors
/// The store failed.
pub async fn organizations(ports: &Ports) -> Result<Vec<OrganizationRecord>, RecordError> {
    Ok(account::organizations().all(&*ports.store).await?.into_iter().map(|stored| stored.record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::auth::authenticate;
    use crate::accounts::tests::{header, test_ports};
    use crate::testing::TestPorts;

    #[tokio::test]
    async fn an_id_that_is_taken_is_drawn_again() {
        let (first, second) = (test_ports(), test_ports());
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
        let first = test_ports();
        for taken in 0..=8 {
            // Dice that begin with every id that is taken.
            let ports = TestPorts { store: first.store.clone(), ..test_ports() }.ports();
            match create_organization(&ports, "one more").await {
                Ok(_) => assert!(taken < 8, "{taken} were taken"),
                Err(AccountError::Record(RecordError::Contended(_))) => assert_eq!(taken, 8),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(organizations(&first.ports()).await.unwrap().len(), 8);
    }
}

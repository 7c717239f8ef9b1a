//! Resealing: after a change of keys, everything that an older key sealed is opened and sealed with the newest.
//!
//! Nothing waits for it: older keys open what they sealed for as long as they are kept, and whatever is written anyhow
//! is sealed with the newest. Each item is written on condition of the version that was read, so that a refresh or an
//! edit under way is neither undone nor lost, and a run that was cut off is simply run again.

use domain::id::InstanceId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::records::{instance, tokens};
use store::{Attempts, Change, RecordError, RecordKey, update};

use crate::accounts::organizations;
use crate::ports::{Ports, Vault, VaultError};
use crate::vendor::secrets::vault_owner;

/// The figures of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed values that were looked at.
    pub values: usize,
    /// Those among them that were sealed again.
    pub resealed: usize,
    /// Those that no key opens. They are left as they are.
    pub broken: usize,
}

/// The reason why a run ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// A record could not be read or written; after [`RecordError::Contended`], run it again.
    #[error("reading or writing what is sealed")]
    Record(#[from] RecordError),
    /// The keys are out of reach.
    #[error("opening or sealing")]
    Vault(#[from] VaultError),
}

/// Seals again whatever an older key sealed, of every instance of every organization.
///
/// # Errors
/// The store or the vault failed. What was done stays; running it again does the rest.
pub async fn reseal(ports: &Ports) -> Result<Resealed, ResealError> {
    let mut done = Resealed::default();
    for organization in organizations(ports).await? {
        for entry in instance::listing(organization.id).all(&*ports.store).await? {
            let id = entry.record.id;
            reseal_record(ports, id, &instance::key(id), &mut done, |record| {
                vec![&mut record.secrets, &mut record.token]
            })
            .await?;
            reseal_record(ports, id, &tokens::key(id), &mut done, |record| vec![&mut record.sealed]).await?;
        }
    }
    Ok(done)
}

/// Seals again the values that `sealed` finds in a record, and writes it if any was sealed by an older key.
async fn reseal_record<T: Clone + Serialize + DeserializeOwned>(
    ports: &Ports,
    id: InstanceId,
    key: &RecordKey<T>,
    done: &mut Resealed,
    sealed: impl Fn(&mut T) -> Vec<&mut String>,
) -> Result<(), ResealError> {
    let figures = update(&*ports.store, &*ports.ambient, Attempts::few(), key, async |snapshot| {
        let mut figures = Resealed::default();
        let Some(mut record) = snapshot.record().cloned() else { return Ok(Change::Keep(figures)) };
        for value in sealed(&mut record) {
            reseal_value(&*ports.vault, id, value, &mut figures).await?;
        }
        Ok::<_, ResealError>(match figures.resealed {
            0 => Change::Keep(figures),
            _ => Change::Write(vec![snapshot.put(&record)], figures),
        })
    })
    .await?;
    done.values += figures.values;
    done.resealed += figures.resealed;
    done.broken += figures.broken;
    Ok(())
}

async fn reseal_value(
    vault: &dyn Vault,
    id: InstanceId,
    sealed: &mut String,
    figures: &mut Resealed,
) -> Result<(), ResealError> {
    figures.values += 1;
    if vault.is_newest(sealed) {
        return Ok(());
    }
    let owner = vault_owner(id);
    match vault.open(&owner, sealed).await {
        Ok(plain) => {
            *sealed = vault.seal(&owner, &plain).await?;
            figures.resealed += 1;
        }
        Err(VaultError::Broken(_)) => figures.broken += 1,
        Err(busy) => return Err(busy.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use domain::secret::Secret;

    use store::Store;
    use store::records::instance::ListingRecord;
    use store::records::tokens::TokensRecord;

    use super::*;
    use crate::accounts::create_organization;
    use crate::deliver::outbox::tests::instance as an_instance;
    use crate::testing::{TestPorts, TransparentVault};

    /// A vault of two keys: `old:` begins what an older key sealed, `lost:` what a key sealed that is gone.
    struct TwoKeys;

    #[async_trait]
    impl Vault for TwoKeys {
        async fn seal(&self, owner: &str, plain: &Secret) -> Result<String, VaultError> {
            TransparentVault.seal(owner, plain).await
        }

        async fn open(&self, owner: &str, sealed: &str) -> Result<Secret, VaultError> {
            TransparentVault.open(owner, sealed.trim_start_matches("old:")).await
        }

        fn is_newest(&self, sealed: &str) -> bool {
            !sealed.starts_with("old:") && !sealed.starts_with("lost:")
        }
    }

    #[tokio::test]
    async fn what_an_older_key_sealed_is_sealed_anew_and_counted() {
        let test = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked"));
        let ports = Ports { vault: Arc::new(TwoKeys), ..test.ports() };
        let organization = create_organization(&ports, "one").await.expect("an organization").organization;
        let id = InstanceId(42);
        let sealed = TransparentVault.seal(&vault_owner(id), &Secret::new("s")).await.expect("sealed");
        let mut record = an_instance(None);
        (record.organization, record.secrets, record.token) = (organization, format!("old:{sealed}"), "lost:x".into());
        let listing = ListingRecord { id, name: String::new(), tags: vec![], element: "square".into() };
        let tokens = TokensRecord { sealed: format!("old:{sealed}"), expires_at: None, refreshing_until: None };
        let writes = [
            instance::key(id).insert(&record),
            instance::listing_key(organization, id).insert(&listing),
            tokens::key(id).insert(&tokens),
        ];
        test.store.transact(&writes).await.expect("an empty table");

        assert_eq!(reseal(&ports).await.expect("done"), Resealed { values: 3, resealed: 2, broken: 1 });
        let stored = instance::key(id).get(&*test.store).await.expect("the table").expect("the instance");
        assert_eq!((stored.record.secrets.as_str(), stored.record.token.as_str()), (sealed.as_str(), "lost:x"));
        let of_tokens = tokens::key(id).get(&*test.store).await.expect("the table").expect("the tokens");
        assert_eq!(of_tokens.record.sealed, sealed);

        assert_eq!(reseal(&ports).await.expect("done"), Resealed { values: 3, resealed: 0, broken: 1 });
        let again = instance::key(id).get(&*test.store).await.expect("the table").expect("the instance");
        assert_eq!(again.version(), stored.version(), "nothing is written for nothing");
    }
}

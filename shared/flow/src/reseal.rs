//! Sealing anew: after a change of keys, everything that an older key sealed is opened and sealed with the newest.
//!
//! Nothing waits for it: older keys open what they sealed for as long as they are kept, and whatever is written anyhow
//! is sealed with the newest. Each item is written on condition of the version that was read, so that a refresh or an
//! edit under way is neither undone nor lost, and a run that was cut off is simply run again.

use domain::id::InstanceId;

use crate::ports::{Ports, StoreError, Vault, VaultError, query_all};
use crate::principal::{AdministerError, organizations};
use crate::secrets::vault_owner;
use crate::table::{
    self, InstanceRecord, ListingRecord, TokensRecord, Unreadable, instance_key, organization_partition, tokens_key,
};

/// Times one item is tried again when others write it.
const ATTEMPTS: usize = 8;

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed values that were looked at.
    pub values: usize,
    /// Those among them that were sealed anew.
    pub resealed: usize,
    /// Those that no key opens. They are left as they are.
    pub broken: usize,
}

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// The organizations cannot be listed.
    #[error(transparent)]
    Organizations(#[from] AdministerError),
    /// The table refused or was busy.
    #[error("reading or writing what is sealed")]
    Store(#[from] StoreError),
    /// The keys are out of reach.
    #[error("opening or sealing")]
    Vault(#[from] VaultError),
    /// A stored item is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Others kept writing the same item.
    #[error("instance {0} was changed at every try; run it again")]
    Raced(InstanceId),
}

/// Seals anew whatever an older key sealed, of every instance of every organization.
pub async fn reseal(ports: &Ports) -> Result<Resealed, ResealError> {
    let mut done = Resealed::default();
    for organization in organizations(ports).await? {
        for item in query_all(&*ports.store, &organization_partition(organization.id), "INST#").await? {
            let entry: ListingRecord = table::read(&item)?;
            of_instance(ports, entry.id, &mut done).await?;
            of_tokens(ports, entry.id, &mut done).await?;
        }
    }
    Ok(done)
}

async fn of_instance(ports: &Ports, id: InstanceId, done: &mut Resealed) -> Result<(), ResealError> {
    for _ in 0..ATTEMPTS {
        let Some(item) = ports.store.get(&instance_key(id)).await? else { return Ok(()) };
        let mut record: InstanceRecord = table::read(&item)?;
        let mut round = Resealed::default();
        for sealed in [&mut record.secrets, &mut record.token] {
            anew(&*ports.vault, id, sealed, &mut round).await?;
        }
        if written(ports, round, table::replace(item.key, item.version, &record), done).await? {
            return Ok(());
        }
    }
    Err(ResealError::Raced(id))
}

async fn of_tokens(ports: &Ports, id: InstanceId, done: &mut Resealed) -> Result<(), ResealError> {
    for _ in 0..ATTEMPTS {
        let Some(item) = ports.store.get(&tokens_key(id)).await? else { return Ok(()) };
        let mut record: TokensRecord = table::read(&item)?;
        let mut round = Resealed::default();
        anew(&*ports.vault, id, &mut record.sealed, &mut round).await?;
        if written(ports, round, table::replace(item.key, item.version, &record), done).await? {
            return Ok(());
        }
    }
    Err(ResealError::Raced(id))
}

async fn anew(vault: &dyn Vault, id: InstanceId, sealed: &mut String, round: &mut Resealed) -> Result<(), ResealError> {
    round.values += 1;
    if vault.is_newest(sealed) {
        return Ok(());
    }
    let owner = vault_owner(id);
    match vault.open(&owner, sealed).await {
        Ok(plain) => {
            *sealed = vault.seal(&owner, &plain).await?;
            round.resealed += 1;
        }
        Err(VaultError::Broken(_)) => round.broken += 1,
        Err(busy) => return Err(busy.into()),
    }
    Ok(())
}

/// Writes one item where anything in it was sealed anew; false when another writer came first.
async fn written(
    ports: &Ports,
    round: Resealed,
    write: crate::ports::Write,
    done: &mut Resealed,
) -> Result<bool, ResealError> {
    if round.resealed > 0 {
        match ports.store.transact(&[write]).await {
            Ok(()) => {}
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    done.values += round.values;
    done.resealed += round.resealed;
    done.broken += round.broken;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use domain::secret::Secret;

    use super::*;
    use crate::outbox::tests::instance;
    use crate::ports::{Store, Write};
    use crate::principal::create_organization;
    use crate::table::{insert, listing_key};
    use crate::testing::{TestPorts, TransparentVault};

    /// What begins with `old:` is sealed by an older key, and what begins with `lost:` by one that is gone.
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
        let mut record = instance(None);
        (record.organization, record.secrets, record.token) = (organization, format!("old:{sealed}"), "lost:x".into());
        let listing = ListingRecord { id, name: String::new(), tags: vec![], element: "square".into() };
        let tokens = TokensRecord { sealed: format!("old:{sealed}"), expires_at: None, refreshing_until: None };
        let writes: [Write; 3] = [
            insert(instance_key(id), &record),
            insert(listing_key(organization, id), &listing),
            insert(tokens_key(id), &tokens),
        ];
        test.store.transact(&writes).await.expect("an empty table");

        assert_eq!(reseal(&ports).await.expect("done"), Resealed { values: 3, resealed: 2, broken: 1 });
        let item = test.store.get(&instance_key(id)).await.expect("the table").expect("the instance");
        let after: InstanceRecord = table::read(&item).expect("an instance");
        assert_eq!((after.secrets.as_str(), after.token.as_str(), item.version), (sealed.as_str(), "lost:x", 2));
        let item = test.store.get(&tokens_key(id)).await.expect("the table").expect("the tokens");
        assert_eq!(table::read::<TokensRecord>(&item).expect("tokens").sealed, sealed);

        assert_eq!(reseal(&ports).await.expect("done"), Resealed { values: 3, resealed: 0, broken: 1 });
        let again = test.store.get(&instance_key(id)).await.expect("the table").expect("the instance");
        assert_eq!(again.version, 2, "nothing is written for nothing");
    }
}

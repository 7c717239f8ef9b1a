//! The data directory: one process at a time, and the secrets that its owner needs to call the API.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use domain::id::{OrganizationId, UserId};
use domain::secret::Secret;
use flow::accounts::Renewal;
use flow::accounts::auth::AuthenticateError;
use flow::ports::Ports;
use serde::{Deserialize, Serialize};

/// Held by the process that uses the directory; says where that process's table answers.
const LOCK: &str = "lock";
/// The data directory unless an option names another.
pub const DEFAULT_DIRECTORY: &str = ".pollux";
/// The file with the secrets, for scripts.
const CREDENTIALS: &str = "credentials.json";
/// Name of the organization that the first start makes.
const OWNER: &str = "local";

/// A data directory that no other process uses. Given up when dropped, or when the process dies.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    lock: File,
}

/// The result of claiming the directory.
#[derive(Debug)]
pub enum Claim {
    /// This process has it now.
    Ours(DataDirectory),
    /// Another process has it, whose table answers there; none when it is only just starting.
    Taken(Option<String>),
}

impl DataDirectory {
    /// Makes the directory when it is absent, for its owner alone, and claims it.
    pub fn claim(path: &Path) -> Result<Claim> {
        let cannot = || format!("cannot use the data directory {}", path.display());
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).with_context(cannot)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK)).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {
                lock.set_len(0).with_context(cannot)?;
                Ok(Claim::Ours(Self { path: path.to_owned(), lock }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut endpoint = String::new();
                lock.read_to_string(&mut endpoint).with_context(cannot)?;
                Ok(Claim::Taken((!endpoint.is_empty()).then_some(endpoint)))
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// The same, where a directory in use is an error.
    pub fn claim_alone(path: &Path) -> Result<Self> {
        match Self::claim(path)? {
            Claim::Ours(directory) => Ok(directory),
            Claim::Taken(_) => {
                bail!("another pollux is using {}; stop it, or choose another directory with --data", path.display())
            }
        }
    }

    /// Publishes the address of the table for other processes.
    pub fn publish(&mut self, endpoint: &str) -> Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(endpoint.as_bytes())?;
        Ok(())
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The secrets of the machine's own user, as `credentials.json` has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// URL of the service.
    pub url: String,
    /// For the `User` part of the authorization header.
    pub user_secret: Secret,
    /// For the `Organization` part.
    pub organization_secret: Secret,
    /// The organization's id, for `pollux admin`.
    pub organization: OrganizationId,
    /// The user's id.
    pub user: UserId,
}

impl Credentials {
    /// The file in a data directory.
    pub fn file(data: &Path) -> PathBuf {
        data.join(CREDENTIALS)
    }

    /// Reads the file; none when there is no file.
    pub fn read(data: &Path) -> Result<Option<Self>> {
        let file = Self::file(data);
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                Ok(Some(serde_json::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Replaces the file, whole or not at all, readable for its owner alone.
    pub fn write(&self, data: &Path) -> Result<()> {
        let file = Self::file(data);
        let fresh = data.join(format!("{CREDENTIALS}.new"));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut written = options.open(&fresh)?;
            serde_json::to_writer_pretty(&mut written, self)?;
            written.write_all(b"\n")?;
            written.sync_all()?;
            std::fs::rename(&fresh, &file)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    /// The authorization header.
    pub fn authorization(&self) -> String {
        format!("User {}, Organization {}", self.user_secret.expose(), self.organization_secret.expose())
    }

    /// Those of the file when they still hold. The first start makes an organization with a user; when the file was
    /// lost, or its secrets were rotated elsewhere, the same organization gets new ones, so that its instances stay
    /// within reach of whoever owns the directory.
    pub async fn ensure(ports: &Ports, data: &Path, url: &str) -> Result<Self> {
        let credentials = match Self::read(data)? {
            Some(credentials) if credentials.hold(ports).await? => Self { url: url.to_owned(), ..credentials },
            _ => Self::renew(ports, url).await?,
        };
        credentials.write(data)?;
        Ok(credentials)
    }

    async fn hold(&self, ports: &Ports) -> Result<bool> {
        match flow::accounts::auth::authenticate(ports, Some(&self.authorization())).await {
            Ok(_) => Ok(true),
            Err(AuthenticateError::Unknown) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn renew(ports: &Ports, url: &str) -> Result<Self> {
        let url = url.to_owned();
        let mut organizations = flow::accounts::organizations(ports).await?;
        organizations.sort_by_key(|organization| organization.created_at);
        let owner = organizations.into_iter().find(|organization| organization.name == OWNER);
        let Some(owner) = owner else {
            let made = flow::accounts::create_organization(ports, OWNER).await?;
            return Ok(Self {
                url,
                user_secret: made.user_secret,
                organization_secret: made.organization_secret,
                organization: made.organization,
                user: made.user,
            });
        };
        let mut users = flow::accounts::users(ports, owner.id).await?;
        users.sort_by_key(|user| user.created_at);
        let user = users.first().context("the organization has no user")?.id;
        Ok(Self {
            url,
            user_secret: flow::accounts::renew_user(ports, owner.id, user, Renewal::AT_ONCE).await?,
            organization_secret: flow::accounts::renew_organization(ports, owner.id, Renewal::AT_ONCE).await?,
            organization: owner.id,
            user,
        })
    }
}

#[cfg(test)]
mod tests {
    use flow::testing::TestPorts;

    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let mut ours = DataDirectory::claim_alone(&path).unwrap();
        assert!(matches!(DataDirectory::claim(&path).unwrap(), Claim::Taken(None)));
        ours.publish("http://127.0.0.1:1234").unwrap();
        let taken = DataDirectory::claim(&path).unwrap();
        assert!(matches!(taken, Claim::Taken(Some(endpoint)) if endpoint == "http://127.0.0.1:1234"));
        let refused = DataDirectory::claim_alone(&path).unwrap_err().to_string();
        assert!(refused.contains("another pollux"), "{refused}");
        drop(ours);
        assert!(matches!(DataDirectory::claim(&path).unwrap(), Claim::Ours(_)));
    }

    #[tokio::test]
    async fn secrets_stay_over_restarts_and_come_back_when_the_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let ports = TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked")).ports();
        let first = Credentials::ensure(&ports, folder.path(), "http://one").await.unwrap();
        let again = Credentials::ensure(&ports, folder.path(), "http://two").await.unwrap();
        assert_eq!(again.authorization(), first.authorization());
        assert_eq!(Credentials::read(folder.path()).unwrap().unwrap().url, "http://two");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(Credentials::file(folder.path())).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::remove_file(Credentials::file(folder.path())).unwrap();
        let renewed = Credentials::ensure(&ports, folder.path(), "http://two").await.unwrap();
        assert_eq!((renewed.organization, renewed.user), (first.organization, first.user));
        assert_ne!(renewed.authorization(), first.authorization());
        assert!(renewed.hold(&ports).await.unwrap() && !first.hold(&ports).await.unwrap());
    }
}

//! The [`Vault`] twice: with data keys of the cloud's key service, or with a key file on one machine. Both seal with
//! AES-256-GCM and a random nonce, with the owner as associated data.
//!
//! A sealed text is `v1.<key id>.<base64url of nonce and ciphertext>` from a key file, and
//! `v2.kms.<base64url of the encrypted data key>.<base64url of nonce and ciphertext>` from the key service. `v1.kms` is
//! what the key service sealed before data keys were shared: one for each seal, with the owner as encryption context.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use domain::secret::Secret;
use flow::ports::{Vault, VaultError};
use serde::{Deserialize, Serialize};

const VERSION: &str = "v1";
const KMS: &str = "kms";
/// Seals of the key service whose data key is shared.
const SHARED: &str = "v2";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// Decrypted data keys that are remembered, so that not every poll asks the key service.
const REMEMBERED_KEYS: usize = 2048;

/// A data key seals for so long in one process, and so often. A call of the key service costs five times the write of a
/// poll: with a key of its own for each instance, opening them would be most of what polling costs. Random nonces are
/// safe for 2^32 seals of one key.
const SEALS_FOR: Duration = Duration::from_secs(60 * 60);
const SEALS: u32 = 100_000;

fn broken(why: impl Into<String>) -> VaultError {
    VaultError::Broken(why.into())
}

fn random_bytes<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| VaultError::Busy(format!("no randomness: {error}")))?;
    Ok(bytes)
}

fn cipher(key: &[u8]) -> Result<Aes256Gcm, VaultError> {
    Aes256Gcm::new_from_slice(key).map_err(|_| broken("a key of the wrong length"))
}

/// Base64 of the nonce and what it encrypts.
fn encrypt(cipher: &Aes256Gcm, owner: &str, plain: &Secret) -> Result<String, VaultError> {
    let nonce = random_bytes::<NONCE_BYTES>()?;
    let payload = Payload { msg: plain.expose().as_bytes(), aad: owner.as_bytes() };
    let mut sealed = nonce.to_vec();
    sealed.extend(cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| broken("too long to be sealed"))?);
    Ok(BASE64.encode(sealed))
}

fn decrypt(cipher: &Aes256Gcm, owner: &str, text: &str) -> Result<Secret, VaultError> {
    let sealed = BASE64.decode(text).map_err(|_| broken("damaged"))?;
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| broken("damaged"))?;
    let payload = Payload { msg: sealed, aad: owner.as_bytes() };
    let plain = cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| broken("another owner's, or damaged"))?;
    String::from_utf8(plain).map(Secret::new).map_err(|_| broken("not a text"))
}

// ---------------------------------------------------------------- Key file

/// The reason why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be made, read or replaced.
    #[error("cannot use the key file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Others than its owner may read it.
    #[error("the key file {} can be read by others: chmod 600 it", .0.display())]
    Exposed(PathBuf),
    /// It is not what this vault wrote.
    #[error("the key file {} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The mistake.
        why: String,
    },
}

/// The contents of the file, newest key first.
#[derive(Serialize, Deserialize)]
struct KeyRing {
    keys: Vec<StoredKey>,
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    id: String,
    /// Base64url of 256 bits.
    key: Secret,
}

impl StoredKey {
    fn draw() -> Result<Self, std::io::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        let id = format!("k{:08x}", getrandom::u32().map_err(std::io::Error::other)?);
        Ok(Self { id, key: Secret::new(BASE64.encode(key)) })
    }
}

/// Keys in a file that only its owner reads. The first key seals and every key opens, so that keys can be changed
/// without opening and sealing everything again. When another process changes them this one notices: before it seals,
/// and when it meets a key that it does not know.
pub struct KeyFileVault {
    path: PathBuf,
    ring: RwLock<Ring>,
}

/// The keys as they were read.
struct Ring {
    /// Key ids and their ciphers, newest first; never empty.
    keys: Vec<(String, Aes256Gcm)>,
    /// Size and time of the file then.
    stamp: Option<Stamp>,
}

/// When a file was last written, and its length: a change of keys changes both.
type Stamp = (SystemTime, u64);

fn stamp_of(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl KeyFileVault {
    /// Reads the file, or makes it with a fresh key when there is none.
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        match std::fs::exists(path) {
            Ok(true) => {}
            _ => write_ring(path, &KeyRing { keys: vec![StoredKey::draw().map_err(|e| failed(path, e))?] }, false)?,
        }
        Ok(Self { path: path.to_owned(), ring: RwLock::new(Ring::read(path)?) })
    }

    /// Puts a fresh key in front. What was sealed before still opens; who else has the file open goes on sealing with
    /// the key it knows until it looks at the file, and that key is not forgotten either.
    pub fn rotate(&self) -> Result<(), KeyFileError> {
        let mut ring = read_ring(&self.path)?;
        ring.keys.insert(0, StoredKey::draw().map_err(|error| failed(&self.path, error))?);
        write_ring(&self.path, &ring, true)?;
        self.read_again()
    }

    fn read_again(&self) -> Result<(), KeyFileError> {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring::read(&self.path)?;
        Ok(())
    }

    /// The key that seals.
    fn newest(&self) -> Option<(String, Aes256Gcm)> {
        if self.ring().stamp != stamp_of(&self.path) {
            // A file that cannot be read now leaves the keys that are known.
            let _ = self.read_again();
        }
        self.ring().keys.first().cloned()
    }

    fn key(&self, id: &str) -> Option<Aes256Gcm> {
        self.ring().keys.iter().find(|(known, _)| known == id).map(|(_, cipher)| cipher.clone())
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn read(path: &Path) -> Result<Self, KeyFileError> {
        let damaged = |why: &str| KeyFileError::Damaged { path: path.to_owned(), why: why.into() };
        // Before it is read: a change in between is noticed next time.
        let stamp = stamp_of(path);
        let read = |stored: &StoredKey| {
            let key = BASE64.decode(stored.key.expose()).map_err(|_| damaged("a key is not base64url"))?;
            let cipher = cipher(&key).map_err(|_| damaged("a key has not 256 bits"))?;
            Ok((stored.id.clone(), cipher))
        };
        let keys = read_ring(path)?.keys.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(damaged("it holds no key"));
        }
        Ok(Self { keys, stamp })
    }
}

fn failed(path: &Path, source: std::io::Error) -> KeyFileError {
    KeyFileError::File { path: path.to_owned(), source }
}

fn read_ring(path: &Path) -> Result<KeyRing, KeyFileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(|error| failed(path, error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed(path.to_owned()));
        }
    }
    let text = std::fs::read(path).map_err(|error| failed(path, error))?;
    // serde's texts name the place and the kind of thing, never the key itself.
    serde_json::from_slice(&text).map_err(|error| KeyFileError::Damaged {
        path: path.to_owned(),
        why: format!("line {} is not as it was written", error.line()),
    })
}

/// Writes beside the file and moves into place, so that nobody ever reads half of it. Without `replace`, a file that
/// another process made in the meantime stands.
fn write_ring(path: &Path, ring: &KeyRing, replace: bool) -> Result<(), KeyFileError> {
    let write = || {
        let mut name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_owned();
        name.push(format!(".{:016x}.new", crate::random()));
        let new = path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file: File = options.open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(ring)?)?;
        file.sync_all()?;
        if replace {
            return std::fs::rename(&new, path);
        }
        let linked = std::fs::hard_link(&new, path);
        std::fs::remove_file(&new)?;
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    write().map_err(|error| failed(path, error))
}

#[async_trait]
impl Vault for KeyFileVault {
    async fn seal(&self, owner: &str, plain: &Secret) -> Result<String, VaultError> {
        let (id, cipher) = self.newest().ok_or_else(|| broken("no key"))?;
        Ok(format!("{VERSION}.{id}.{}", encrypt(&cipher, owner, plain)?))
    }

    async fn open(&self, owner: &str, sealed: &str) -> Result<Secret, VaultError> {
        let parts: Vec<&str> = sealed.split('.').collect();
        let [VERSION, id, text] = parts[..] else { return Err(broken("not sealed by a key file")) };
        if self.key(id).is_none() {
            self.read_again().map_err(|error| VaultError::Busy(error.to_string()))?;
        }
        let cipher = self.key(id).ok_or_else(|| broken("sealed with a key that is gone"))?;
        decrypt(&cipher, owner, text)
    }

    fn is_newest(&self, sealed: &str) -> bool {
        let id = sealed.split('.').nth(1);
        self.newest().is_some_and(|(newest, _)| id == Some(newest.as_str()))
    }
}

// ---------------------------------------------------------------- Key service

/// Envelope encryption with KMS: data keys that KMS gave out encrypted, each for the seals of one process and hour. What
/// binds a seal to its owner is the cipher's associated data. Rotation is the key service's.
pub struct KmsVault {
    client: aws_sdk_kms::Client,
    key_id: String,
    sealing: tokio::sync::Mutex<Option<Sealing>>,
    remembered: Mutex<Remembered>,
}

/// The data key that seals now.
struct Sealing {
    encrypted: String,
    cipher: Aes256Gcm,
    since: Instant,
    seals: u32,
}

/// Data keys by encryption context and encrypted form, oldest first in `order`.
#[derive(Default)]
struct Remembered {
    keys: HashMap<(String, String), Aes256Gcm>,
    order: VecDeque<(String, String)>,
}

impl KmsVault {
    /// With the key of this id, alias or ARN.
    pub fn new(client: aws_sdk_kms::Client, key_id: impl Into<String>) -> Self {
        Self { client, key_id: key_id.into(), sealing: Default::default(), remembered: Mutex::default() }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // A panic between two lines there leaves at worst a key unremembered.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, context: &str, encrypted: &str, cipher: &Aes256Gcm) {
        let mut remembered = self.remembered();
        let name = (context.to_owned(), encrypted.to_owned());
        if remembered.keys.insert(name.clone(), cipher.clone()).is_none() {
            remembered.order.push_back(name);
        }
        while remembered.order.len() > REMEMBERED_KEYS
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.keys.remove(&oldest);
        }
    }

    /// The data key to seal with, and its encrypted form.
    async fn sealing_key(&self) -> Result<(String, Aes256Gcm), VaultError> {
        // Held while the key service is asked, so that one of many waiters asks.
        let mut sealing = self.sealing.lock().await;
        if let Some(key) = sealing.as_mut().filter(|key| key.since.elapsed() < SEALS_FOR && key.seals < SEALS) {
            key.seals += 1;
            return Ok((key.encrypted.clone(), key.cipher.clone()));
        }
        let answer = self
            .client
            .generate_data_key()
            .key_id(&self.key_id)
            .key_spec(DataKeySpec::Aes256)
            .encryption_context(CONTEXT, EVERYBODY)
            .send()
            .await
            .map_err(kms_error)?;
        let (Some(key), Some(encrypted)) = (answer.plaintext, answer.ciphertext_blob) else {
            return Err(VaultError::Busy("the key service gave no key".into()));
        };
        let (cipher, encrypted) = (cipher(key.as_ref())?, BASE64.encode(encrypted.as_ref()));
        self.remember(EVERYBODY, &encrypted, &cipher);
        *sealing =
            Some(Sealing { encrypted: encrypted.clone(), cipher: cipher.clone(), since: Instant::now(), seals: 1 });
        Ok((encrypted, cipher))
    }
}

/// The name under which a data key's owner stands in the encryption context, and in the cloud's audit log.
const CONTEXT: &str = "pollux:owner";
/// The owner of a shared data key. No instance has this name.
const EVERYBODY: &str = "*";

fn kms_error<E>(error: SdkError<E>) -> VaultError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.as_service_error().and_then(|service| service.code());
    match code {
        Some(code @ ("InvalidCiphertextException" | "IncorrectKeyException")) => broken(code),
        _ => VaultError::Busy(crate::chain(&error)),
    }
}

#[async_trait]
impl Vault for KmsVault {
    async fn seal(&self, owner: &str, plain: &Secret) -> Result<String, VaultError> {
        let (encrypted, cipher) = self.sealing_key().await?;
        Ok(format!("{SHARED}.{KMS}.{encrypted}.{}", encrypt(&cipher, owner, plain)?))
    }

    async fn open(&self, owner: &str, sealed: &str) -> Result<Secret, VaultError> {
        let parts: Vec<&str> = sealed.split('.').collect();
        let (context, encrypted, text) = match parts[..] {
            [SHARED, KMS, encrypted, text] => (EVERYBODY, encrypted, text),
            [VERSION, KMS, encrypted, text] => (owner, encrypted, text),
            _ => return Err(broken("not sealed by the key service")),
        };
        let known = self.remembered().keys.get(&(context.to_owned(), encrypted.to_owned())).cloned();
        if let Some(cipher) = known {
            return decrypt(&cipher, owner, text);
        }
        let blob = BASE64.decode(encrypted).map_err(|_| broken("damaged"))?;
        let answer = self
            .client
            .decrypt()
            // Without naming the key: what is encrypted says it, and stays open when the alias is given to another.
            // Which keys may be used is for the function's permissions to say.
            .ciphertext_blob(Blob::new(blob))
            .encryption_context(CONTEXT, context)
            .send()
            .await
            .map_err(kms_error)?;
        let key = answer.plaintext.ok_or_else(|| VaultError::Busy("the key service gave no key".into()))?;
        let cipher = cipher(key.as_ref())?;
        let plain = decrypt(&cipher, owner, text)?;
        self.remember(context, encrypted, &cipher);
        Ok(plain)
    }

    /// The key service does not say under which of a key's versions it encrypted.
    fn is_newest(&self, _: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_file_seals_for_one_owner_and_outlives_rotation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.json");
        let vault = KeyFileVault::open(&path).expect("a fresh file");
        let other = KeyFileVault::open(&path).expect("another process with the same file");
        let plain = Secret::new("töken");
        let sealed = vault.seal("42", &plain).await.expect("sealed");
        assert!(sealed.starts_with("v1.k") && !sealed.contains("ken"), "{sealed}");
        assert_ne!(vault.seal("42", &plain).await.expect("sealed"), sealed, "the nonce is drawn each time");
        assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
        assert!(matches!(vault.open("43", &sealed).await, Err(VaultError::Broken(_))));

        vault.rotate().expect("rotated");
        let newer = vault.seal("42", &plain).await.expect("sealed");
        assert_ne!(newer.split('.').nth(1), sealed.split('.').nth(1));
        assert!(vault.is_newest(&newer) && !vault.is_newest(&sealed));
        assert_eq!(
            other.open("42", &newer).await,
            Ok(plain.clone()),
            "a key it did not know is looked for in the file"
        );
        vault.rotate().expect("rotated again");
        let by_other = other.seal("42", &plain).await.expect("sealed");
        assert!(vault.is_newest(&by_other), "who seals looks whether the keys were changed");
        for vault in [vault, other, KeyFileVault::open(&path).expect("the same file")] {
            assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
            assert_eq!(vault.open("42", &newer).await, Ok(plain.clone()));
        }
        let files = std::fs::read_dir(directory.path()).expect("its files").count();
        assert_eq!(files, 1, "nothing is left beside the key file");
    }

    #[tokio::test]
    async fn whatever_is_changed_in_a_sealed_text_keeps_it_closed() {
        let directory = tempfile::tempdir().expect("a directory");
        let vault = KeyFileVault::open(&directory.path().join("key.json")).expect("a fresh file");
        let sealed = vault.seal("42", &Secret::new("token")).await.expect("sealed");
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert!(vault.open("42", &changed).await.is_err(), "{at} of {sealed}");
            assert!(vault.open("42", &sealed[..at]).await.is_err(), "the first {at} of {sealed}");
        }
        let other = KeyFileVault::open(&directory.path().join("other.json")).expect("a fresh file");
        assert!(matches!(other.open("42", &sealed).await, Err(VaultError::Broken(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_read_or_that_is_damaged_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.json");
        KeyFileVault::open(&path).expect("a fresh file");
        let mode = || std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"id":"a","key":"c2hvcnQ"}]}"#] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(KeyFileVault::open(&path), Err(KeyFileError::Damaged { .. })), "{text}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(KeyFileVault::open(&path), Err(KeyFileError::Exposed(_))));
    }
}

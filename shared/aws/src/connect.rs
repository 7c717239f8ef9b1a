//! From settings to the ports of a running function, once, when it starts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use chrono::{DateTime, Utc};
use flow::ports::{Ports, Vault};
use store::ambient::Ambient;

use crate::guard::GuardPolicy;
use crate::http::Client;
use crate::queue::SqsQueue;
use crate::settings::{KeySource, Settings};
use crate::store::DynamoStore;
use crate::vault::{KeyFileError, KeyFileVault, KmsVault};

/// The reason why the ports cannot be made. The cloud was not called yet: an unreachable part fails at its first use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
}

/// The real ports. Region, credentials and endpoints come from where the SDK looks for them.
pub async fn connect(settings: &Settings) -> Result<Ports, ConnectError> {
    // A healthy call takes milliseconds; a hung one must leave time for another try within a function's run.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(15))
        .build();
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts).load().await;
    let vault: Arc<dyn Vault> = match &settings.key {
        KeySource::Kms(key) => Arc::new(KmsVault::new(aws_sdk_kms::Client::new(&config), key)),
        KeySource::File(path) => Arc::new(KeyFileVault::open(path)?),
    };
    let policy = GuardPolicy { allow_private: settings.allow_private };
    Ok(Ports {
        store: Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&config), &settings.table)),
        queue: Arc::new(SqsQueue::new(
            aws_sdk_sqs::Client::new(&config),
            &settings.poll_queue_url,
            &settings.delivery_queue_url,
        )),
        http: Arc::new(Client::new(policy, policy)),
        vault,
        ambient: Arc::new(SystemAmbient),
    })
}

/// The machine's clock and the system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAmbient;

impl Ambient for SystemAmbient {
    fn now(&self) -> DateTime<Utc> {
        SystemTime::now().into()
    }

    /// Panics when the system has no randomness: secrets must not be guessed, and nothing else can be done.
    fn fill_random(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system gives randomness");
    }
}

//! The adapters of DynamoDB, SQS and KMS: against prepared answers in their wire formats, against two independent
//! emulators, and, with `POLLUX_TEST_AWS=1` and credentials, against AWS itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use async_trait::async_trait;
use aws::queue::SqsQueue;
use aws::store::{DynamoStore, ensure_table};
use aws::vault::KmsVault;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use domain::secret::Secret;
use flow::ports::{Message, Queue, QueueName, Vault, VaultError};
use serde_json::{Value, json};
use tests::ministack::MiniStack;
use tests::moto::Moto;

use crate::contract::{self, Consumer};

fn config(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .endpoint_url(endpoint)
        .build()
}

/// Serves the JSON protocol: operation and request to status and answer.
async fn service(answer: impl Fn(&str, Value) -> (StatusCode, Value) + Clone + Send + Sync + 'static) -> SdkConfig {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let respond = move |headers: HeaderMap, body: String| async move {
        let target = headers["x-amz-target"].to_str().expect("text").to_owned();
        let operation = target.split('.').next_back().unwrap_or_default();
        let (status, answer) = answer(operation, serde_json::from_str(&body).expect("JSON"));
        (status, Json(answer))
    };
    let router = Router::new().fallback(respond);
    tokio::spawn(async move { axum::serve(listener, router).await });
    config(&endpoint)
}

fn message(n: u64, delay: u64) -> Message {
    Message { body: format!(r#"{{"n":{n}}}"#), delay: Duration::from_secs(delay), group: format!("org{}", n % 3) }
}

// ---------------------------------------------------------------- Queue

/// Of 25 messages, 3 fails once, 12 always, and 17 is the sender's own fault.
#[tokio::test]
async fn each_message_has_an_outcome_and_what_failed_is_sent_once_more() {
    let batches: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    let seen = batches.clone();
    let config = service(move |operation, request| {
        assert_eq!(operation, "SendMessageBatch");
        let mut answer = json!({"Successful": [], "Failed": []});
        let mut numbers = Vec::new();
        for entry in request["Entries"].as_array().expect("entries") {
            let body: Value = serde_json::from_str(entry["MessageBody"].as_str().expect("a body")).expect("JSON");
            let n = body["n"].as_u64().expect("a number");
            assert_eq!(entry["MessageGroupId"], format!("org{}", n % 3));
            assert_eq!(entry["DelaySeconds"], if n == 24 { 900 } else { 7 });
            let first = !seen.lock().expect("no panic").iter().flatten().any(|seen| *seen == n);
            let failed = matches!(n, 12 | 17) || (n == 3 && first);
            let list = if failed { "Failed" } else { "Successful" };
            answer[list].as_array_mut().expect("a list").push(json!({
                "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "5",
                "Code": "InternalError", "SenderFault": n == 17,
            }));
            numbers.push(n);
        }
        seen.lock().expect("no panic").push(numbers);
        (StatusCode::OK, answer)
    })
    .await;
    let queue =
        SqsQueue::new(aws_sdk_sqs::Client::new(&config), "http://localhost/polls", "http://localhost/deliveries");
    let messages = (0..25).map(|n| message(n, if n == 24 { 100_000 } else { 7 })).collect();
    let outcomes = queue.send(QueueName::Polls, messages).await;
    let failed: Vec<usize> = (0..25).filter(|n| outcomes[*n].is_err()).collect();
    assert_eq!((outcomes.len(), failed), (25, vec![12, 17]));
    let mut batches = batches.lock().expect("no panic").clone();
    batches.sort();
    let whole = |from, to| (from..to).collect::<Vec<u64>>();
    assert_eq!(batches, [whole(0, 10), vec![3], whole(10, 20), vec![12], whole(20, 25)]);
}

#[tokio::test]
async fn a_batch_that_is_refused_fails_every_message_of_it() {
    let config = service(|_, _| (StatusCode::BAD_REQUEST, json!({"__type": "QueueDoesNotExist"}))).await;
    let queue =
        SqsQueue::new(aws_sdk_sqs::Client::new(&config), "http://localhost/polls", "http://localhost/deliveries");
    let outcomes = queue.send(QueueName::Deliveries, (0..12).map(|n| message(n, 0)).collect()).await;
    assert!(outcomes.len() == 12 && outcomes.iter().all(Result::is_err), "{outcomes:?}");
}

// ---------------------------------------------------------------- Vault

/// The contract of a vault over the key service. `other` shares only the key service with it.
async fn vault_contract(vault: &KmsVault, other: &KmsVault) {
    let plain = Secret::new("töken");
    let sealed = vault.seal("42", &plain).await.expect("sealed");
    assert!(sealed.starts_with("v2.kms."), "{sealed}");
    assert_ne!(vault.seal("42", &plain).await.expect("sealed"), sealed);
    // One who sealed it and one who never saw it: both open it for its owner, and neither for another.
    for vault in [vault, other] {
        assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
        assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
        assert!(matches!(vault.open("43", &sealed).await, Err(VaultError::Broken(_))));
        for damaged in [
            format!("{sealed}AAAA"),
            sealed.replace("v2", "v1"),
            sealed.replace("v2", "v3"),
            sealed.replace(".kms.", ".kms.AAAA"),
            "v2.kms..".into(),
        ] {
            assert!(vault.open("42", &damaged).await.is_err(), "{damaged}");
        }
    }
}

#[tokio::test]
async fn data_keys_are_shared_and_remembered_and_those_of_one_seal_still_open() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = asked.clone();
    // The "encrypted" data key is the key and its owner in the open, after a mark.
    let config = service(move |operation, request| {
        asking.lock().expect("no panic").push(operation.to_owned());
        let owner = request["EncryptionContext"]["pollux:owner"].as_str().expect("an owner").to_owned();
        // What is encrypted says its key itself, and stays open when the alias is given to another.
        let named = if operation == "Decrypt" { json!(null) } else { json!("alias/pollux") };
        assert_eq!(request["KeyId"], named);
        let refused = (StatusCode::BAD_REQUEST, json!({"__type": "InvalidCiphertextException"}));
        match operation {
            "GenerateDataKey" => {
                let key = [asking.lock().expect("no panic").len() as u8; 32];
                let blob = [b"mark", owner.as_bytes(), b"=", &key].concat();
                (
                    StatusCode::OK,
                    json!({"KeyId": "k", "Plaintext": BASE64.encode(key), "CiphertextBlob": BASE64.encode(blob)}),
                )
            }
            _ => {
                let blob = BASE64.decode(request["CiphertextBlob"].as_str().expect("a blob")).expect("base64");
                let prefix = [b"mark", owner.as_bytes(), b"="].concat();
                match blob.strip_prefix(prefix.as_slice()) {
                    Some(key) => (StatusCode::OK, json!({"KeyId": "k", "Plaintext": BASE64.encode(key)})),
                    None => refused,
                }
            }
        }
    })
    .await;
    let vault = || KmsVault::new(aws_sdk_kms::Client::new(&config), "alias/pollux");
    vault_contract(&vault(), &vault()).await;
    asked.lock().expect("no panic").clear();
    let (first, second) = (vault(), vault());
    let sealed = first.seal("42", &Secret::new("x")).await.expect("sealed");
    for vault in [&first, &second, &second, &first, &second] {
        vault.open("42", &sealed).await.expect("opened");
    }
    // Another owner's seal has the same data key, so that nobody has to ask again.
    let of_another = first.seal("43", &Secret::new("y")).await.expect("sealed");
    assert_eq!(second.open("43", &of_another).await, Ok(Secret::new("y")));
    assert_eq!(*asked.lock().expect("no panic"), ["GenerateDataKey", "Decrypt"]);

    // As it was sealed when every seal had its own data key, bound to the owner by the key service.
    let blob = BASE64_URL.encode([&b"mark42="[..], &[3; 32]].concat());
    let old = format!("v1.kms.{blob}.{}", sealed_alone(&[3; 32], "42", "old"));
    assert_eq!(second.open("42", &old).await, Ok(Secret::new("old")));
    assert!(matches!(second.open("43", &old).await, Err(VaultError::Broken(_))));
}

/// Encrypts a text for an owner with AES-256-GCM, with a nonce of zeros before it.
fn sealed_alone(key: &[u8; 32], owner: &str, plain: &str) -> String {
    let cipher = Aes256Gcm::new_from_slice(key).expect("a key of 256 bits");
    let payload = Payload { msg: plain.as_bytes(), aad: owner.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::from([0; 12]), payload).expect("sealed");
    BASE64_URL.encode([&[0; 12][..], &sealed].concat())
}

#[tokio::test]
async fn a_key_service_that_throttles_is_busy_and_not_broken() {
    let config = service(|_, _| (StatusCode::BAD_REQUEST, json!({"__type": "ThrottlingException"}))).await;
    let retry = aws_sdk_kms::config::retry::RetryConfig::disabled();
    let config = aws_sdk_kms::config::Builder::from(&config).retry_config(retry).build();
    let vault = KmsVault::new(aws_sdk_kms::Client::from_conf(config), "alias/pollux");
    assert!(matches!(vault.seal("42", &Secret::new("x")).await, Err(VaultError::Busy(_))));
}

// ---------------------------------------------------------------- Other makers' emulators, and the real thing

/// A service that the contracts run against besides the local engine, with the rules that it is known to break.
enum Cloud {
    Moto(Moto),
    MiniStack(MiniStack),
    /// `POLLUX_TEST_AWS=1`, with credentials and a region in the environment. It costs some cents.
    Aws(Box<SdkConfig>),
}

impl Cloud {
    async fn moto() -> Self {
        Self::Moto(tokio::task::spawn_blocking(Moto::start).await.expect("moto starts"))
    }

    async fn ministack() -> Self {
        Self::MiniStack(tokio::task::spawn_blocking(MiniStack::start).await.expect("MiniStack starts"))
    }

    /// None, unless it is asked for.
    async fn aws() -> Option<Self> {
        let wanted = std::env::var("POLLUX_TEST_AWS").as_deref() == Ok("1");
        match wanted {
            true => Some(Self::Aws(Box::new(aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await))),
            false => None,
        }
    }

    fn config(&self) -> SdkConfig {
        match self {
            Self::Moto(moto) => config(&moto.endpoint),
            Self::MiniStack(ministack) => config(&ministack.endpoint),
            Self::Aws(config) => (**config).clone(),
        }
    }

    /// Cases of the store's contract that are left out there, each with the reason.
    fn store_exceptions(&self) -> &'static [contract::Exception] {
        match self {
            Self::Moto(_) => &[
                ("one_of_fifty_wins", "its transactions are not atomic when several run at once"),
                ("four_megabytes_are_too_much_at_once", "it takes any amount"),
            ],
            Self::MiniStack(_) | Self::Aws(_) => &[],
        }
    }
}

/// A name that nothing else has, for what is made and removed again.
fn unused_name() -> String {
    format!("pollux-contract-{:x}", SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos())
}

async fn store_there(cloud: &Cloud) {
    let client = aws_sdk_dynamodb::Client::new(&cloud.config());
    let table = unused_name();
    ensure_table(&client, &table).await.expect("a table");
    ensure_table(&client, &table).await.expect("the same table");
    let store = Arc::new(DynamoStore::new(client.clone(), &table));
    contract::store_contract_but(store, cloud.store_exceptions()).await;
    client.delete_table().table_name(table).send().await.expect("removed");
}

/// The adapter sends; what receives is the SDK, as the event source does.
struct SqsConsumer {
    client: aws_sdk_sqs::Client,
    polls: String,
    dead: String,
}

#[async_trait]
impl Consumer for SqsConsumer {
    async fn receive(&self, patience: Duration) -> Vec<contract::Taken> {
        let seconds = i32::try_from(patience.as_secs()).expect("a short time");
        let request = self.client.receive_message().queue_url(&self.polls).max_number_of_messages(10);
        let request = request
            .wait_time_seconds(seconds)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let messages = request.send().await.expect("an answer").messages.unwrap_or_default();
        let taken = |message: aws_sdk_sqs::types::Message| contract::Taken {
            body: message.body.expect("a body"),
            receives: message.attributes.expect("attributes")[&MessageSystemAttributeName::ApproximateReceiveCount]
                .parse()
                .expect("a number"),
            receipt: message.receipt_handle.expect("a receipt"),
        };
        messages.into_iter().map(taken).collect()
    }

    async fn delete(&self, receipt: &str) {
        let request = self.client.delete_message().queue_url(&self.polls).receipt_handle(receipt);
        request.send().await.expect("deleted");
    }

    async fn give_back(&self, receipt: &str) {
        let request = self.client.change_message_visibility().queue_url(&self.polls).receipt_handle(receipt);
        request.visibility_timeout(0).send().await.expect("given back");
    }

    async fn dead_letters(&self) -> Vec<String> {
        let request = self.client.receive_message().queue_url(&self.dead).max_number_of_messages(10);
        let messages = request.visibility_timeout(0).send().await.expect("an answer").messages.unwrap_or_default();
        messages.into_iter().filter_map(|message| message.body).collect()
    }
}

async fn queue_there(cloud: &Cloud) {
    let client = aws_sdk_sqs::Client::new(&cloud.config());
    let name = unused_name();
    let make = async |kind: &str, attributes: &[(QueueAttributeName, String)]| {
        let made = client.create_queue().queue_name(format!("{name}-{kind}"));
        let made = made.set_attributes(Some(attributes.iter().cloned().collect())).send().await.expect("a queue");
        made.queue_url.expect("its URL")
    };
    let dead = make("dead", &[]).await;
    let asked = client.get_queue_attributes().queue_url(&dead).attribute_names(QueueAttributeName::QueueArn);
    let attributes = asked.send().await.expect("attributes").attributes.expect("attributes");
    let arn = &attributes[&QueueAttributeName::QueueArn];
    let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": contract::RECEIVES.to_string()});
    let polls = make(
        "polls",
        &[
            (QueueAttributeName::VisibilityTimeout, contract::VISIBILITY.as_secs().to_string()),
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
        ],
    )
    .await;
    let deliveries = make("deliveries", &[]).await;
    let queue = SqsQueue::new(client.clone(), &polls, &deliveries);
    let consumer = SqsConsumer { client: client.clone(), polls: polls.clone(), dead: dead.clone() };
    contract::queue_contract_over_time(&queue, &consumer).await;
    contract::queue_contract(&queue, async || {
        let taken = consumer.receive(Duration::ZERO).await;
        for message in &taken {
            consumer.delete(&message.receipt).await;
        }
        taken.into_iter().map(|message| message.body).collect()
    })
    .await;
    for url in [polls, deliveries, dead] {
        client.delete_queue().queue_url(url).send().await.expect("removed");
    }
}

async fn vault_there(cloud: &Cloud) {
    let client = aws_sdk_kms::Client::new(&cloud.config());
    let key = client.create_key().send().await.expect("a key").key_metadata.expect("its description").key_id;
    let vault = || KmsVault::new(client.clone(), &key);
    vault_contract(&vault(), &vault()).await;
    client.schedule_key_deletion().key_id(key).pending_window_in_days(7).send().await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn table_queue_and_key_keep_their_contracts_on_moto() {
    let cloud = Cloud::moto().await;
    store_there(&cloud).await;
    queue_there(&cloud).await;
    vault_there(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_queue_and_key_keep_their_contracts_on_ministack() {
    let cloud = Cloud::ministack().await;
    store_there(&cloud).await;
    queue_there(&cloud).await;
    vault_there(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn table_queue_and_key_keep_their_contracts_on_aws_when_it_is_asked_for() {
    let Some(cloud) = Cloud::aws().await else { return };
    store_there(&cloud).await;
    queue_there(&cloud).await;
    vault_there(&cloud).await;
}

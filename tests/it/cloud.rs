//! The adapters of the cloud's queues and key service: against answers in their wire formats that a test dictates,
//! and, with `POLLUX_TEST_MOTO=1` and Python's `moto[server]` installed, against another maker's imitation.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::queue::SqsQueue;
use aws::store::{DynamoStore, ensure_table};
use aws::vault::KmsVault;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use axum::http::{HeaderMap, StatusCode};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::secret::Secret;
use flow::ports::{Message, Queue, QueueName, Vault, VaultError};
use serde_json::{Value, json};

use crate::contract;

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

/// What a vault over the key service must do, and another that shares only the key service with it.
async fn vault_contract(vault: &KmsVault, other: &KmsVault) {
    let plain = Secret::new("töken");
    let sealed = vault.seal("42", &plain).await.expect("sealed");
    assert!(sealed.starts_with("v1.kms."), "{sealed}");
    assert_ne!(vault.seal("42", &plain).await.expect("sealed"), sealed);
    // One who sealed it and one who never saw it: both open it for its owner, and neither for another.
    for vault in [vault, other] {
        assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
        assert_eq!(vault.open("42", &sealed).await, Ok(plain.clone()));
        assert!(matches!(vault.open("43", &sealed).await, Err(VaultError::Broken(_))));
        for damaged in [
            format!("{sealed}AAAA"),
            sealed.replace("v1", "v2"),
            sealed.replace(".kms.", ".kms.AAAA"),
            "v1.kms..".into(),
        ] {
            assert!(vault.open("42", &damaged).await.is_err(), "{damaged}");
        }
    }
}

#[tokio::test]
async fn data_keys_are_bound_to_their_owner_and_remembered() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = asked.clone();
    // The "encrypted" data key is the key and its owner in the open, after a mark.
    let config = service(move |operation, request| {
        asking.lock().expect("no panic").push(operation.to_owned());
        let owner = request["EncryptionContext"]["pollux:owner"].as_str().expect("an owner").to_owned();
        assert_eq!(request["KeyId"], "alias/pollux");
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
    assert_eq!(*asked.lock().expect("no panic"), ["GenerateDataKey", "Decrypt"]);
}

#[tokio::test]
async fn a_key_service_that_throttles_is_busy_and_not_broken() {
    let config = service(|_, _| (StatusCode::BAD_REQUEST, json!({"__type": "ThrottlingException"}))).await;
    let retry = aws_sdk_kms::config::retry::RetryConfig::disabled();
    let config = aws_sdk_kms::config::Builder::from(&config).retry_config(retry).build();
    let vault = KmsVault::new(aws_sdk_kms::Client::from_conf(config), "alias/pollux");
    assert!(matches!(vault.seal("42", &Secret::new("x")).await, Err(VaultError::Busy(_))));
}

// ---------------------------------------------------------------- Another maker's imitation

/// A `moto_server` of our own, ended with the test.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Moto {
    /// None, with a word about it, unless it is asked for.
    #[expect(clippy::print_stderr, reason = "who reads the tests' output should know what did not run")]
    fn start() -> Option<Self> {
        if std::env::var("POLLUX_TEST_MOTO").as_deref() != Ok("1") {
            eprintln!("not run against moto: set POLLUX_TEST_MOTO=1 where `pip install moto[server]` was done");
            return None;
        }
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("moto_server starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it was piped")).lines();
        let endpoint = lines
            .find_map(|line| Some(line.ok()?.split_once("Running on ")?.1.trim().to_owned()))
            .expect("moto_server says where it runs");
        // Read on, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, endpoint })
    }
}

#[tokio::test]
async fn the_queue_keeps_the_contract_against_moto() {
    let Some(moto) = Moto::start() else { return };
    let client = aws_sdk_sqs::Client::new(&config(&moto.endpoint));
    let make = async |name: &str| {
        let made = client.create_queue().queue_name(name).send().await.expect("a queue");
        made.queue_url.expect("its URL")
    };
    let (polls, deliveries) = (make("polls").await, make("deliveries").await);
    let queue = SqsQueue::new(client.clone(), &polls, deliveries);
    let take_ten = async || {
        let received = client.receive_message().queue_url(&polls).max_number_of_messages(10).send().await;
        let messages = received.expect("an answer").messages.unwrap_or_default();
        messages.into_iter().filter_map(|message| message.body).collect::<Vec<String>>()
    };
    contract::queue_contract(&queue, take_ten).await;
}

#[tokio::test]
async fn the_vault_keeps_the_contract_against_moto() {
    let Some(moto) = Moto::start() else { return };
    let client = aws_sdk_kms::Client::new(&config(&moto.endpoint));
    let key = client.create_key().send().await.expect("a key").key_metadata.expect("its description").key_id;
    let vault = || KmsVault::new(client.clone(), &key);
    vault_contract(&vault(), &vault()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_keeps_the_contract_against_moto() {
    let Some(moto) = Moto::start() else { return };
    let client = aws_sdk_dynamodb::Client::new(&config(&moto.endpoint));
    ensure_table(&client, "pollux").await.expect("a table");
    ensure_table(&client, "pollux").await.expect("the same table");
    // Its transactions are not atomic when several run at once, so the race is left out.
    contract::store_contract_in_turn(&DynamoStore::new(client, "pollux")).await;
}

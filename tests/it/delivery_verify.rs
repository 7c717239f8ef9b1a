//! The reference verifier of Standard Webhooks, in Python, accepts our notifications in every format, also while two keys
//! are in use. The verifier is the callback itself, over a socket.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::Utc;
use domain::configuration::NotificationFormat;
use domain::secret::Secret;
use flow::deliver::Outcome;
use flow::ports::Vault;
use flow::testing::TransparentVault;
use serde_json::json;
use store::codec::put;
use store::keys::instance_key;
use store::port::{Condition, Store};
use store::records::instance::{CallbackRecord, InstanceRecord};
use tests::program::Program;
use tests::python;

use super::delivery::{DeliveryHarness, LONG};

/// Delivers one notification to a verifier that knows `keys`, signed by `signing`.
/// Answers the outcome and what the verifier said.
async fn verified(keys: &[&str], signing: &[&str], format: NotificationFormat) -> (Outcome, String) {
    let python = python::with("standardwebhooks==1.1.0");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/delivery_verify.py");
    let mut command = Command::new(python);
    let mut callback = Program::start(command.arg(script).args(keys).stdout(Stdio::piped()));
    let mut port = String::new();
    BufReader::new(callback.child().stdout.take().expect("piped above")).read_line(&mut port).expect("a port");

    let world = DeliveryHarness::relaxed(LONG);
    // The verifier takes nothing that is older than five minutes.
    world.test.ambient.set(&Utc::now().to_rfc3339());
    let mut secrets = json!({ "event.notification.signature.key": signing[0] });
    if let Some(previous) = signing.get(1) {
        secrets["event.notification.signature.key.previous"] = json!(previous);
    }
    let instance = world.instance(42, &format!("http://127.0.0.1:{}/", port.trim())).await;
    let instance = InstanceRecord {
        secrets: TransparentVault.seal("INST#42", &Secret::new(secrets.to_string())).await.expect("sealed"),
        callback: instance.callback.map(|callback| CallbackRecord { format, ..callback }),
        ..instance
    };
    let write = put(instance_key(instance.id), 2, &instance, Condition::Unconditional);
    world.test.store.transact(&[write]).await.expect("stored");
    let job = world.commit_revision(&instance, "1", 1).await;
    let report = world.deliver(&job).await;
    let attempt = report.attempt.expect("an attempt");
    (report.outcome, attempt.error.unwrap_or(attempt.response))
}

#[tokio::test]
async fn the_reference_verifier_takes_every_format_and_every_kind_of_key() {
    let long = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    for (keys, format, expected) in [
        (&[long][..], NotificationFormat::Elements, r#"{"verified": 1, "format": "elements"}"#),
        (&["typed by hand ✓"], NotificationFormat::Elements, r#"{"verified": 1, "format": "elements"}"#),
        // A rotation: a receiver that knows either key is served.
        (&[long, "the old key"], NotificationFormat::Elements, r#"{"verified": 2, "format": "elements"}"#),
        (&["whsec_bmV3LWtleQ", long], NotificationFormat::Elements, r#"{"verified": 2, "format": "elements"}"#),
        (&[long], NotificationFormat::CloudEvents, r#"{"verified": 1, "format": "application/cloudevents+json 1"}"#),
        (
            &[long],
            NotificationFormat::CloudEventsBatch,
            r#"{"verified": 1, "format": "application/cloudevents-batch+json 1"}"#,
        ),
    ] {
        assert_eq!(
            verified(keys, keys, format).await,
            (Outcome::Delivered, expected.to_owned()),
            "{keys:?} {format:?}"
        );
    }
}

#[tokio::test]
async fn the_reference_verifier_refuses_what_another_key_signed() {
    let (outcome, said) = verified(&["a key"], &["another key"], NotificationFormat::Elements).await;
    assert!(matches!(outcome, Outcome::RetryAt(_)), "{outcome:?}");
    assert!(said.contains("No matching signature found"), "{said}");
}

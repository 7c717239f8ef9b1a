//! A function that does nothing, with the runtime and the clients of the real functions: the floor of a cold start.

use aws_config::BehaviorVersion;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let clients = &(
        aws_sdk_dynamodb::Client::new(&config),
        aws_sdk_sqs::Client::new(&config),
        aws_sdk_kms::Client::new(&config),
        reqwest::Client::builder().build()?,
    );
    let handle = async |event: LambdaEvent<Value>| {
        // The clients must outlive the start, as ours do.
        let _kept = clients;
        Ok::<_, Error>(event.payload)
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(anyhow::Error::from_boxed)
}

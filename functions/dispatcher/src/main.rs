//! The dispatcher as Lambda runs it.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let service = &aws::start::service().await?;
    let handle =
        async |event: LambdaEvent<EventBridgeEvent>| Ok::<_, Error>(dispatcher::handle(service, event.payload).await?);
    lambda_runtime::run(service_fn(handle)).await.map_err(anyhow::Error::from_boxed)
}

//! The poller as Lambda runs it.

use aws_lambda_events::sqs::SqsEvent;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use poller::Poller;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let poller = &Poller::new(aws::start::service().await?);
    let handle = async |event: LambdaEvent<SqsEvent>| {
        let until = event.context.deadline().into();
        Ok::<_, Error>(poller.handle(event.payload, until).await?)
    };
    lambda_runtime::run(service_fn(handle)).await.map_err(anyhow::Error::from_boxed)
}

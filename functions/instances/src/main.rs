//! The API as Lambda runs it.

use instances::ApiState;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let service = aws::start::service().await?;
    lambda_http::run(instances::router(ApiState { service })).await.map_err(anyhow::Error::from_boxed)
}

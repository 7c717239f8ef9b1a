//! The [`Queue`] over two standard SQS queues, sent to in tens.

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use flow::ports::{LONGEST_QUEUE_DELAY, Message, Queue, QueueError, QueueName};
use futures::StreamExt;

/// SQS takes up to ten messages at once.
const MESSAGES_IN_BATCH: usize = 10;
/// Batches under way at once.
const BATCHES_AT_ONCE: usize = 8;

/// The two queues in the cloud. The organization goes along as `MessageGroupId`, which on a standard queue asks for
/// fair queueing and orders nothing.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    polls: String,
    deliveries: String,
}

impl SqsQueue {
    /// Over queues that exist, by their URLs.
    pub fn new(client: Client, polls: impl Into<String>, deliveries: impl Into<String>) -> Self {
        Self { client, polls: polls.into(), deliveries: deliveries.into() }
    }

    /// Sends up to ten; the answer has one entry for each, in order. An entry that failed by no fault of its own is
    /// sent a second time.
    async fn send_batch(&self, url: &str, batch: &[Message]) -> Vec<Result<(), QueueError>> {
        let mut outcomes = vec![Err(QueueError("the answer leaves it out".into())); batch.len()];
        let mut wanted: Vec<usize> = (0..batch.len()).collect();
        for _ in 0..2 {
            let entries: Result<Vec<_>, _> = wanted.iter().map(|n| entry(*n, &batch[*n])).collect();
            let answer = match entries {
                Ok(entries) => {
                    let send = self.client.send_message_batch().queue_url(url).set_entries(Some(entries));
                    send.send().await.map_err(|error| crate::chain(&error))
                }
                Err(error) => Err(error.to_string()),
            };
            let answer = match answer {
                Ok(answer) => answer,
                // The client has tried several times itself.
                Err(why) => {
                    wanted.iter().for_each(|n| outcomes[*n] = Err(QueueError(why.clone())));
                    break;
                }
            };
            wanted.clear();
            for sent in answer.successful() {
                if let Some((_, outcome)) = outcome_at(&mut outcomes, sent.id()) {
                    *outcome = Ok(());
                }
            }
            for failed in answer.failed() {
                if let Some((n, outcome)) = outcome_at(&mut outcomes, failed.id()) {
                    let why = format!("{}: {}", failed.code(), failed.message().unwrap_or_default());
                    *outcome = Err(QueueError(why));
                    if !failed.sender_fault() {
                        wanted.push(n);
                    }
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        outcomes
    }
}

/// The entries' ids are their places in the batch.
fn outcome_at<'a>(
    outcomes: &'a mut [Result<(), QueueError>],
    id: &str,
) -> Option<(usize, &'a mut Result<(), QueueError>)> {
    let n: usize = id.parse().ok()?;
    outcomes.get_mut(n).map(|outcome| (n, outcome))
}

fn entry(n: usize, message: &Message) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let delay = message.delay.min(LONGEST_QUEUE_DELAY).as_secs();
    SendMessageBatchRequestEntry::builder()
        .id(n.to_string())
        .message_body(&message.body)
        .message_group_id(&message.group)
        .delay_seconds(i32::try_from(delay).unwrap_or(i32::MAX))
        .build()
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        let url = match queue {
            QueueName::Polls => &self.polls,
            QueueName::Deliveries => &self.deliveries,
        };
        let batches: Vec<_> = messages.chunks(MESSAGES_IN_BATCH).map(|batch| self.send_batch(url, batch)).collect();
        let outcomes: Vec<Vec<_>> = futures::stream::iter(batches).buffered(BATCHES_AT_ONCE).collect().await;
        outcomes.concat()
    }

    fn outlives_us(&self) -> bool {
        true
    }
}

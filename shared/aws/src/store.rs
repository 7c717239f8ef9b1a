//! The [`Store`] over one DynamoDB table.
//!
//! An item is five attributes, named shortly because every name is paid for with every item:
//!
//! | Attribute | Type | Holds |
//! | --- | --- | --- |
//! | `pk`, `sk` | S | the key |
//! | `v` | N | the version |
//! | `b` | S or B | the body: as it is in an S if it is text and packing gains nothing; otherwise a B whose first byte is 0 (the bytes follow) or 1 (a zstd frame follows) |
//! | `x` | N | when it may be forgotten, seconds since 1970; the table's time-to-live attribute |
//!
//! Packing starts where the whole item passes 1 KB, the unit in which writes are paid.

mod items;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CancellationReason, ConditionCheck, ConsumedCapacity, Delete,
    DeleteRequest, KeySchemaElement, KeyType, KeysAndAttributes, Put, PutRequest, ReturnConsumedCapacity,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus, TransactWriteItem, WriteRequest,
};
use futures::StreamExt;
use store::port::{Capacity, Condition, Item, Key, QueryPage, Range, Store, StoreError, Write};

use items::{attributes, item, key_attributes, pack, size, text};

/// DynamoDB's limit on an item, attribute names included.
const LARGEST_ITEM: usize = 400 * 1024;
/// Writes are paid by the KB: below it, packing gains nothing.
const PACK_ABOVE: usize = 1024;
/// No body of ours unpacks to more; a frame that claims to is damaged.
const LARGEST_BODY: usize = 64 * 1024 * 1024;
/// DynamoDB's limits on a batch.
const READS_IN_BATCH: usize = 100;
const WRITES_IN_BATCH: usize = 25;
/// Batches under way at once.
const BATCHES_AT_ONCE: usize = 4;
/// Tries of what DynamoDB did not do for want of capacity: with the pauses between them, about four seconds.
const TRIES: u32 = 7;
/// The first byte of a packed body.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

type Attributes = HashMap<String, AttributeValue>;

// ---------------------------------------------------------------- Capacity

/// The capacity that the table charged so far, as DynamoDB reports it with each answer.
/// A write whose condition fails is charged too, but its answer does not say so.
#[derive(Debug, Default)]
pub struct CapacityMeter {
    read_millis: AtomicU64,
    write_millis: AtomicU64,
    calls: AtomicU64,
}

impl CapacityMeter {
    /// The sum since the store was made.
    pub fn read(&self) -> Capacity {
        let units = |millis: &AtomicU64| millis.load(Ordering::Relaxed) as f64 / 1000.0;
        Capacity {
            reads: units(&self.read_millis),
            writes: units(&self.write_millis),
            calls: self.calls.load(Ordering::Relaxed),
        }
    }

    fn add<'a>(&self, total: &AtomicU64, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        let units: f64 = consumed.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
        total.fetch_add((units * 1000.0).round() as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn add_reads<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        self.add(&self.read_millis, consumed);
    }

    fn add_writes<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        self.add(&self.write_millis, consumed);
    }
}

// ---------------------------------------------------------------- Store

/// The one table in DynamoDB, or in an engine that speaks its protocol.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    client: Client,
    /// Never repeats a request whose outcome is unknown: a conditional write that was carried out
    /// would fail its own condition the second time and look lost.
    once: Client,
    table: String,
    meter: Arc<CapacityMeter>,
}

impl DynamoStore {
    /// Over a table that exists.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        let config = client.config().to_builder().retry_config(RetryConfig::disabled()).build();
        Self { once: Client::from_conf(config), client, table: table.into(), meter: Arc::default() }
    }

    /// The capacity that the table charged so far.
    pub fn capacity(&self) -> Capacity {
        self.meter.read()
    }

    async fn write_one(&self, write: &Write) -> Result<(), Setback> {
        let (condition, version) = expression(write);
        // Without a condition, doing it twice does no harm.
        let client = if condition.is_some() { &self.once } else { &self.client };
        let consumed = match write {
            Write::Put { item, .. } => {
                client
                    .put_item()
                    .table_name(&self.table)
                    .set_item(Some(attributes(item)))
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(version)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await
                    .map_err(setback)?
                    .consumed_capacity
            }
            Write::Delete { key, .. } => {
                client
                    .delete_item()
                    .table_name(&self.table)
                    .set_key(Some(key_attributes(key)))
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(version)
                    .return_consumed_capacity(ReturnConsumedCapacity::Total)
                    .send()
                    .await
                    .map_err(setback)?
                    .consumed_capacity
            }
            Write::Check { .. } => return self.write_together(std::slice::from_ref(write)).await,
        };
        self.meter.add_writes(&consumed);
        Ok(())
    }

    async fn write_together(&self, writes: &[Write]) -> Result<(), Setback> {
        let items = writes.iter().map(|write| self.transact_item(write)).collect::<Result<_, _>>()?;
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                    why_canceled(canceled.cancellation_reasons())
                }
                _ => setback(error),
            })?;
        self.meter.add_writes(answer.consumed_capacity());
        Ok(())
    }

    fn transact_item(&self, write: &Write) -> Result<TransactWriteItem, StoreError> {
        let (condition, version) = expression(write);
        let item = TransactWriteItem::builder();
        let built = match write {
            Write::Put { item: put, .. } => Put::builder()
                .table_name(&self.table)
                .set_item(Some(attributes(put)))
                .set_condition_expression(condition)
                .set_expression_attribute_values(version)
                .build()
                .map(|put| item.put(put)),
            Write::Delete { key, .. } => Delete::builder()
                .table_name(&self.table)
                .set_key(Some(key_attributes(key)))
                .set_condition_expression(condition)
                .set_expression_attribute_values(version)
                .build()
                .map(|delete| item.delete(delete)),
            Write::Check { key, .. } => ConditionCheck::builder()
                .table_name(&self.table)
                .set_key(Some(key_attributes(key)))
                // A check of nothing still needs an expression; this one always holds.
                .condition_expression(condition.unwrap_or_else(|| ABSENT_OR_PRESENT.into()))
                .set_expression_attribute_values(version)
                .build()
                .map(|check| item.condition_check(check)),
        };
        built.map(|item| item.build()).map_err(|error| StoreError::Refused(error.to_string()))
    }

    /// Reads up to [`READS_IN_BATCH`] keys, none twice.
    async fn get_batch(&self, keys: &[&Key]) -> Result<Vec<Item>, StoreError> {
        let mut wanted: Vec<Attributes> = keys.iter().map(|key| key_attributes(key)).collect();
        let mut items = Vec::with_capacity(wanted.len());
        let mut tries = 0;
        while !wanted.is_empty() {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(true)
                .build()
                .map_err(|error| StoreError::Refused(error.to_string()))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.table, request)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send()
                .await
                .map_err(|error| StoreError::from(setback(error)))?;
            self.meter.add_reads(answer.consumed_capacity());
            let found = answer.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default();
            let progress = !found.is_empty();
            for attributes in found {
                items.push(item(attributes)?);
            }
            wanted = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(&self.table))
                .map(|rest| rest.keys)
                .unwrap_or_default();
            // An answer ends at 16 MB: that is progress, not want of capacity.
            if !wanted.is_empty() && !progress && !pause(&mut tries).await {
                return Err(StoreError::Busy(format!("{} keys were not read for want of capacity", wanted.len())));
            }
        }
        Ok(items)
    }

    /// Writes up to [`WRITES_IN_BATCH`] items, none twice; the answer holds those that were not written.
    async fn write_batch(&self, writes: Vec<&Write>) -> HashMap<Key, StoreError> {
        let failed = |keys: Vec<Key>, error: StoreError| keys.into_iter().map(|key| (key, error.clone())).collect();
        let keys = writes.iter().map(|write| write.key().clone()).collect();
        let mut wanted = match writes.into_iter().map(write_request).collect::<Result<Vec<_>, _>>() {
            Ok(requests) => requests,
            Err(error) => return failed(keys, error),
        };
        let mut tries = 0;
        loop {
            let keys: Vec<Key> = wanted.iter().filter_map(request_key).collect();
            let request = self
                .client
                .batch_write_item()
                .request_items(&self.table, wanted)
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            match request.send().await.map_err(setback) {
                Ok(answer) => {
                    self.meter.add_writes(answer.consumed_capacity());
                    wanted =
                        answer.unprocessed_items.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default();
                }
                Err(error) => return failed(keys, error.into()),
            }
            if wanted.is_empty() {
                return HashMap::new();
            }
            if !pause(&mut tries).await {
                let keys = wanted.iter().filter_map(request_key).collect();
                return failed(keys, StoreError::Busy("not written for want of capacity".into()));
            }
        }
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key_attributes(key)))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::from(setback(error)))?;
        self.meter.add_reads(&answer.consumed_capacity);
        answer.item.map(item).transpose()
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError> {
        let mut seen = HashSet::new();
        let keys: Vec<&Key> = keys.iter().filter(|key| seen.insert(*key)).collect();
        let batches: Vec<_> = keys.chunks(READS_IN_BATCH).map(|batch| self.get_batch(batch)).collect();
        let mut answers = futures::stream::iter(batches).buffer_unordered(BATCHES_AT_ONCE);
        let mut items = Vec::with_capacity(keys.len());
        while let Some(answer) = answers.next().await {
            items.extend(answer?);
        }
        Ok(items)
    }

    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError> {
        // DynamoDB refuses an empty text where a sort key belongs, and the smallest that is not empty says the same.
        let from = if range.from.is_empty() { "\0" } else { &range.from };
        if from > range.to.as_str() {
            // DynamoDB calls it an error; a stretch that holds nothing is only empty.
            return Ok(QueryPage::default());
        }
        let limit = range.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :p AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":p", AttributeValue::S(pk.to_owned()))
            .expression_attribute_values(":from", AttributeValue::S(from.to_owned()))
            .expression_attribute_values(":to", AttributeValue::S(range.to.clone()))
            .scan_index_forward(!range.descending)
            .consistent_read(range.consistent)
            .set_limit(limit)
            .set_exclusive_start_key(after.map(|sk| key_attributes(&Key::new(pk, sk))))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| StoreError::from(setback(error)))?;
        self.meter.add_reads(&answer.consumed_capacity);
        let next = match answer.last_evaluated_key {
            Some(mut last) => Some(text(&mut last, "sk")?),
            None => None,
        };
        let items = answer.items.unwrap_or_default().into_iter().map(item).collect::<Result<_, _>>()?;
        Ok(QueryPage { items, next })
    }

    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            let outcome = match writes {
                [] => return Ok(()),
                [write] => self.write_one(write).await,
                _ => self.write_together(writes).await,
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(Setback::NotDone(_)) if pause(&mut tries).await => {}
                Err(setback) => return Err(setback.into()),
            }
        }
    }

    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>> {
        let mut outcomes: Vec<Result<(), StoreError>> = writes.iter().map(fit_for_batch).collect();
        // Of several writes of one key the last is done, and its outcome is that of the others.
        let mut last: HashMap<&Key, &Write> = HashMap::new();
        for (write, outcome) in writes.iter().zip(&outcomes) {
            if outcome.is_ok() {
                last.insert(write.key(), write);
            }
        }
        let wanted: Vec<&Write> = last.into_values().collect();
        let batches: Vec<_> = wanted.chunks(WRITES_IN_BATCH).map(|batch| self.write_batch(batch.to_vec())).collect();
        let failed: HashMap<Key, StoreError> = futures::stream::iter(batches)
            .buffer_unordered(BATCHES_AT_ONCE)
            .flat_map(futures::stream::iter)
            .collect()
            .await;
        for (write, outcome) in writes.iter().zip(&mut outcomes) {
            if let (Ok(()), Some(error)) = (&outcome, failed.get(write.key())) {
                *outcome = Err(error.clone());
            }
        }
        outcomes
    }

    fn capacity(&self) -> Capacity {
        self.meter.read()
    }
}

// ---------------------------------------------------------------- Writes

const ABSENT_OR_PRESENT: &str = "attribute_not_exists(pk) OR attribute_exists(pk)";

fn expression(write: &Write) -> (Option<String>, Option<Attributes>) {
    let (Write::Put { condition, .. } | Write::Delete { condition, .. } | Write::Check { condition, .. }) = write;
    match condition {
        Condition::Unconditional => (None, None),
        Condition::Absent => (Some("attribute_not_exists(pk)".into()), None),
        Condition::Present => (Some("attribute_exists(pk)".into()), None),
        Condition::Version(version) => {
            (Some("v = :v".into()), Some(HashMap::from([(":v".into(), AttributeValue::N(version.to_string()))])))
        }
    }
}

/// One bad entry makes DynamoDB refuse the whole batch, so it is kept from its neighbours.
fn fit_for_batch(write: &Write) -> Result<(), StoreError> {
    let key = write.key();
    if !(1..=2048).contains(&key.pk.len()) || !(1..=1024).contains(&key.sk.len()) {
        return Err(StoreError::Refused(format!("the key {key:?} is empty or too long")));
    }
    match write {
        Write::Put { item, condition: Condition::Unconditional } => {
            let body = match pack(item) {
                AttributeValue::B(blob) => blob.as_ref().len(),
                _ => item.body.len(),
            };
            match size(key, body) {
                size if size > LARGEST_ITEM => Err(StoreError::Refused(format!("the item {key:?} has {size} bytes"))),
                _ => Ok(()),
            }
        }
        Write::Delete { condition: Condition::Unconditional, .. } => Ok(()),
        _ => Err(StoreError::Refused("a condition outside a transaction".into())),
    }
}

fn write_request(write: &Write) -> Result<WriteRequest, StoreError> {
    let request = WriteRequest::builder();
    let built = match write {
        Write::Put { item, .. } => {
            PutRequest::builder().set_item(Some(attributes(item))).build().map(|put| request.put_request(put))
        }
        Write::Delete { key, .. } | Write::Check { key, .. } => DeleteRequest::builder()
            .set_key(Some(key_attributes(key)))
            .build()
            .map(|delete| request.delete_request(delete)),
    };
    built.map(|request| request.build()).map_err(|error| StoreError::Refused(error.to_string()))
}

fn request_key(request: &WriteRequest) -> Option<Key> {
    let put = request.put_request().map(PutRequest::item);
    let attributes = put.or_else(|| request.delete_request().map(DeleteRequest::key))?;
    let part = |name: &str| attributes.get(name)?.as_s().ok().cloned();
    Some(Key { pk: part("pk")?, sk: part("sk")? })
}

// ---------------------------------------------------------------- Errors

/// The reason why a call did not succeed: to repeat or not.
enum Setback {
    /// For certain not done, for want of capacity or for a race that somebody else won: safe to repeat.
    NotDone(String),
    /// Not to be repeated here.
    Final(StoreError),
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Setback::Final(error)
    }
}

impl From<Setback> for StoreError {
    fn from(setback: Setback) -> Self {
        match setback {
            Setback::NotDone(why) => StoreError::Busy(why),
            Setback::Final(error) => error,
        }
    }
}

fn setback<E>(error: SdkError<E>) -> Setback
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Some(service) = error.as_service_error() else {
        return match error {
            SdkError::ConstructionFailure(_) => Setback::Final(StoreError::Refused(crate::chain(&error))),
            _ => Setback::Final(StoreError::Busy(crate::chain(&error))),
        };
    };
    let code = service.code().unwrap_or("unknown");
    let why = format!("{code}: {}", service.message().unwrap_or_default());
    let server_failed = error.raw_response().is_some_and(|raw| raw.status().is_server_error());
    match code {
        "ConditionalCheckFailedException" => Setback::Final(StoreError::Conflict { index: 0 }),
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TransactionConflictException" => Setback::NotDone(why),
        "TransactionInProgressException" => Setback::Final(StoreError::Busy(why)),
        _ if server_failed => Setback::Final(StoreError::Busy(why)),
        _ => Setback::Final(StoreError::Refused(why)),
    }
}

/// A cancelled transaction wrote nothing. There is one reason for each write, in their order.
fn why_canceled(reasons: &[CancellationReason]) -> Setback {
    let codes = || reasons.iter().map(|reason| reason.code().unwrap_or("None"));
    if let Some(index) = codes().position(|code| code == "ConditionalCheckFailed") {
        return Setback::Final(StoreError::Conflict { index });
    }
    match reasons.iter().find(|reason| !matches!(reason.code(), None | Some("None"))) {
        Some(reason) => {
            let code = reason.code().unwrap_or_default();
            let why = format!("{code}: {}", reason.message().unwrap_or_default());
            match code {
                "ValidationError" | "ItemCollectionSizeLimitExceeded" => Setback::Final(StoreError::Refused(why)),
                _ => Setback::NotDone(why),
            }
        }
        None => Setback::NotDone("cancelled without a reason".into()),
    }
}

/// Waits before the next try: up to 50 ms, then up to twice as long each time, drawn at random so that those
/// who collided part ways. False when the tries are used up.
async fn pause(tries: &mut u32) -> bool {
    *tries += 1;
    if *tries >= TRIES {
        return false;
    }
    let most = 25 << *tries;
    tokio::time::sleep(Duration::from_millis(most / 4 + crate::random() % (most * 3 / 4))).await;
    true
}

// ---------------------------------------------------------------- Table

/// Creates the table if it is not there, and switches its time-to-live on. For the local engine and for tests:
/// in the cloud the template owns the table.
pub async fn ensure_table(client: &Client, name: &str) -> Result<(), StoreError> {
    let refused = |error: aws_sdk_dynamodb::error::BuildError| StoreError::Refused(error.to_string());
    let attribute =
        |name: &str| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
    let part = |name: &str, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build();
    let created = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk").map_err(refused)?)
        .attribute_definitions(attribute("sk").map_err(refused)?)
        .key_schema(part("pk", KeyType::Hash).map_err(refused)?)
        .key_schema(part("sk", KeyType::Range).map_err(refused)?)
        .send()
        .await;
    match created {
        Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_in_use_exception()) => {}
        other => drop(other.map_err(|error| StoreError::from(setback(error)))?),
    }
    let mut tries = 0;
    loop {
        let answer = client.describe_table().table_name(name).send().await;
        let answer = answer.map_err(|error| StoreError::from(setback(error)))?;
        if answer.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
            break;
        }
        if !pause(&mut tries).await {
            return Err(StoreError::Busy(format!("the table {name} does not become active")));
        }
    }
    let answer = client.describe_time_to_live().table_name(name).send().await;
    let answer = answer.map_err(|error| StoreError::from(setback(error)))?;
    let status = answer.time_to_live_description().and_then(|ttl| ttl.time_to_live_status());
    if !matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        let ttl = TimeToLiveSpecification::builder().attribute_name("x").enabled(true).build().map_err(refused)?;
        let answer = client.update_time_to_live().table_name(name).time_to_live_specification(ttl).send().await;
        answer.map_err(|error| StoreError::from(setback(error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_transaction_names_its_first_failed_condition() {
        let outcome = |codes: &[&str]| {
            let reasons: Vec<_> = codes.iter().map(|code| CancellationReason::builder().code(*code).build()).collect();
            StoreError::from(why_canceled(&reasons))
        };
        assert_eq!(outcome(&["None", "ConditionalCheckFailed"]), StoreError::Conflict { index: 1 });
        assert_eq!(outcome(&["TransactionConflict", "ConditionalCheckFailed"]), StoreError::Conflict { index: 1 });
        assert!(matches!(outcome(&["None", "TransactionConflict"]), StoreError::Busy(_)));
        assert!(matches!(outcome(&["ThrottlingError"]), StoreError::Busy(_)));
        assert!(matches!(outcome(&["ValidationError"]), StoreError::Refused(_)));
        assert!(matches!(outcome(&[]), StoreError::Busy(_)));
    }
}

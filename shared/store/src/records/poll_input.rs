//! The records that a poll starts from, read with one query: an instance, its tokens and pause, and one resource.

use chrono::{DateTime, Utc};
use domain::id::InstanceId;

use super::instance::InstanceRecord;
use super::resource::ResourceRecord;
use super::tokens::{PauseRecord, TokensRecord};
use crate::keys;
use crate::port::{Range, Store};
use crate::record::{RecordError, Stored};

/// An instance and one of its resources.
#[derive(Debug)]
pub struct PollInput {
    /// The instance.
    pub instance: Stored<InstanceRecord>,
    /// The state of the resource.
    pub state: Stored<ResourceRecord>,
    /// The tokens of the instance, if it has any.
    pub tokens: Option<TokensRecord>,
    /// The end of the pause that the vendor's rate limit imposes.
    pub paused_until: Option<DateTime<Utc>>,
}

impl PollInput {
    /// Reads them. None: there is no such instance, or no such resource of it. Without `consistent` the records may be a
    /// moment old, and are paid for half.
    ///
    /// # Errors
    /// The store failed, or a record cannot be read.
    pub async fn read(
        store: &dyn Store,
        instance: InstanceId,
        resource: &str,
        consistent: bool,
    ) -> Result<Option<Self>, RecordError> {
        let wanted = keys::resource_key(instance, resource);
        let range = Range { consistent, ..Range::between(keys::META, wanted.sk.clone()) };
        let (mut instance, mut tokens, mut state, mut paused_until) = (None, None, None, None);
        let mut after = None;
        loop {
            let page = store.query(&wanted.pk, &range, after.as_deref()).await?;
            for item in &page.items {
                if item.key.sk == keys::META {
                    instance = Some(Stored::read(item)?);
                } else if item.key.sk == keys::TOKENS {
                    tokens = Some(Stored::read(item)?.record);
                } else if item.key.sk == keys::PAUSE {
                    paused_until = Some(Stored::<PauseRecord>::read(item)?.record.until);
                } else if item.key.sk == wanted.sk {
                    state = Some(Stored::read(item)?);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let (Some(instance), Some(state)) = (instance, state) else { return Ok(None) };
        Ok(Some(Self { instance, state, tokens, paused_until }))
    }
}

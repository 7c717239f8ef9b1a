//! What every step is given: the ports, the elements and the wheel.

use std::sync::Arc;

use domain::wheel::Wheel;
use elements::{Bases, Catalog};
use store::records::record_index::IndexError;
use store::{RecordError, Unreadable};

use crate::deliver::DeliveryError;
use crate::ports::{Ports, VaultError};
use crate::vendor::budget::Budgets;
use store::port::StoreError;

/// Everything a step needs to know besides its input. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    /// The outside world.
    pub ports: Ports,
    /// The elements that can be polled.
    pub catalog: Arc<Catalog>,
    /// The addresses of vendors that are not where their element files say.
    pub bases: Arc<Bases>,
    /// The calls that this process spent of the vendors' budgets.
    pub budgets: Budgets,
    /// The length of a minute of the polling schedule.
    pub wheel: Wheel,
}

impl Service {
    /// With nothing spent of any budget yet, and a schedule of real minutes.
    pub fn new(ports: Ports, catalog: Arc<Catalog>, bases: Arc<Bases>) -> Self {
        Self { ports, catalog, bases, budgets: Budgets::default(), wheel: Wheel::default() }
    }
}

/// Our own trouble, as opposed to a vendor's or a receiver's, which are values in reports: the invocation fails
/// and its message comes again.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The store did not do its part.
    #[error("the store failed on {subject}")]
    Store {
        /// The record that was read or written.
        subject: &'static str,
        /// The reason.
        #[source]
        source: StoreError,
    },
    /// A record could not be read or changed.
    #[error("the store failed on {subject}")]
    Record {
        /// The record that was read or written.
        subject: &'static str,
        /// The reason.
        #[source]
        source: RecordError,
    },
    /// An item does not say what it should.
    #[error("stored data cannot be read")]
    Unreadable(#[from] Unreadable),
    /// A seal did not open or close.
    #[error("the vault failed on {subject}")]
    Vault {
        /// The owner of the secrets.
        subject: &'static str,
        /// The reason.
        #[source]
        source: VaultError,
    },
    /// Stored bytes of another kind than JSON are damaged.
    #[error("stored data is damaged: {0}")]
    Damaged(&'static str),
    /// The deliveries' part of a step failed.
    #[error("deliveries could not be moved on")]
    Delivery(#[from] DeliveryError),
    /// Messages that the queue did not take even when asked again.
    #[error("the queue did not take {count} messages")]
    Queue {
        /// The number of messages.
        count: usize,
    },
}

impl FlowError {
    /// For `map_err`: names what was read or written.
    pub fn store(subject: &'static str) -> impl Fn(StoreError) -> FlowError {
        move |source| FlowError::Store { subject, source }
    }

    /// For `map_err`: names the record that was read or changed.
    pub fn record(subject: &'static str) -> impl Fn(RecordError) -> FlowError {
        move |source| match source {
            RecordError::Unreadable(unreadable) => FlowError::Unreadable(unreadable),
            source => FlowError::Record { subject, source },
        }
    }

    /// For `map_err`: names whose secrets were opened or sealed.
    pub fn vault(subject: &'static str) -> impl Fn(VaultError) -> FlowError {
        move |source| FlowError::Vault { subject, source }
    }
}

impl From<IndexError> for FlowError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Store(source) => FlowError::Store { subject: "the record index", source },
            IndexError::Damaged(what) => FlowError::Damaged(what),
        }
    }
}

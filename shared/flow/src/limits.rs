//! Limits under their former module's name, until every user imports [`crate::accounts::limits`].

pub use store::records::account::{Limits, LimitsRecord};

pub use crate::accounts::limits::{Allowance, set};

pub use store::RecordError as LimitsError;

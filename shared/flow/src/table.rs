//! The records and keys of the table, from [`store`].

pub use store::codec::{Unreadable, insert, put, read, replace};
pub use store::keys::*;
pub use store::records::account::{Previous, Principal, PrincipalRecord};
pub use store::records::instance::{CallbackRecord, InstanceRecord, ListingRecord, Reconnect};
pub use store::records::tokens::{PauseRecord, TokensRecord};

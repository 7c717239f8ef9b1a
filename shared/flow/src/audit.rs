//! The audit trail under its former module's name, until every user imports [`crate::accounts::audit`].

pub use store::records::audit::{Action, AuditRecord, By};

pub use crate::accounts::audit::list;

pub use store::RecordError as AuditError;

//! The record layer: the port to the one table, and everything that knows keys, versions and how records are stored.
//!
//! Above it a step asks for a typed record, changes it by a pure value or a closure, and gets a typed outcome. Nothing
//! above builds a key, names a prefix, compares a version or matches a conflict. This crate refuses to know what a poll
//! or a delivery does, and which engine keeps the table.
//!
//! | Item | pk / sk | Body |
//! | --- | --- | --- |
//! | principal | `SECRET#<sha256>` / `-` | [`records::account::PrincipalRecord`] |
//! | instance | `INST#<id>` / `META` | [`records::instance::InstanceRecord`] |
//! | tokens | `INST#<id>` / `META#TOKENS` | [`records::tokens::TokensRecord`] |
//! | resource state | `INST#<id>` / `RES#<name>` | [`records::resource::ResourceRecord`] |
//! | pause | `INST#<id>` / `META#PAUSE` | [`records::tokens::PauseRecord`]: the vendor wants no calls for this account |
//! | record index | `INST#<id>` / `IDX#<name>#<bucket>` | packed bucket |
//! | seen | `INST#<id>` / `SEEN#<name>#<piece>` | hashes of what a listing that spans invocations has seen |
//! | delivery | `INST#<id>` / `DLV#<commit ms>#<delivery>` | [`records::delivery::DeliveryRow`]: events, attempts, a small body |
//! | body | `INST#<id>` / `BODY#<delivery>#<commit ms>#<piece>` | a piece of a larger notification as it is sent |
//! | callback | `CALLBACK#<organization>#<hash of url>` / `STATE` | its circuit breaker and the deliveries in flight; absent when nothing is wrong |
//! | backlog | `CALLBACK#<organization>#<hash of url>` / `WAIT#<commit ms>#<delivery>#<instance>` | a [`records::callback::BacklogEntry`] |
//! | newest | `CALLBACK#<organization>#<hash of url>` / `NEWEST#<record>` | the delivery that joined the backlog last for a record, where only the newest is wanted |
//! | retry | `RETRY#<minute>` / `<instance>#<delivery>` | a [`records::job::DeliveryJob`] |
//! | of an account | `ACCOUNT#<element>#<hash>` / `<instance>` | empty: who shares the vendor's limits |
//! | of an organization | `ORG#<id>` / `INST#<id>` | [`records::instance::ListingRecord`] |
//! | limits | `ORG#<id>` / `LIMITS` | the limits; absent where nothing is limited |
//! | audit | `ORG#<id>` / `AUDIT#<ms>#<subject>#<version>` | an audit entry: who changed what |
//! | slot | `SLOT#<interval>#<minute>` / `<instance>#<resource>` | a [`records::job::PollJob`] |
//! | wheel | `WHEEL` / `HAND`, `INTERVAL#<interval>` | last minute dispatched; intervals in use |
//!
//! Instance, tokens and one resource's state are neighbours, so that a poll reads them in one query.

pub mod ambient;
pub mod codec;
mod commit;
pub mod keys;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod pages;
pub mod port;
mod record;
pub mod records;

pub use ambient::Ambient;
pub use codec::Unreadable;
pub use commit::{Attempts, Change, Commit, Contended, commit, update, write_each};
pub use pages::{Cursor, Listable, Listed, Section};
pub use port::{Condition, Item, Key, Store, StoreError, Write};
pub use record::{RecordError, RecordKey, Snapshot, Stored, Version, expiring, get_many};

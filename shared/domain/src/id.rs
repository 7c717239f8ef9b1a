//! Typed ids, so that an instance is never mistaken for an organization.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ids travel as JSON numbers, so they must survive a reader that keeps numbers as doubles.
pub const LARGEST_ID: u64 = (1 << 53) - 1;

macro_rules! numeric_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Folds 64 random bits into a positive id below 2^53. The caller claims it by a conditional write.
            pub fn from_random(bits: u64) -> Self {
                Self((bits & LARGEST_ID).max(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                match text.parse::<u64>() {
                    Ok(number) if (1..=LARGEST_ID).contains(&number) && !text.starts_with('+') => Ok(Self(number)),
                    _ => Err(NotAnId),
                }
            }
        }
    };
}

/// The text is not a whole number from 1 to 2^53 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a whole number from 1 to {LARGEST_ID}")]
pub struct NotAnId;

numeric_id!(
    /// One authenticated account at a vendor.
    InstanceId
);
numeric_id!(
    /// A customer of the service: owner of users and instances, the wall between tenants.
    OrganizationId
);
numeric_id!(
    /// A person or program that acts for an organization.
    UserId
);

/// Names one delivery, which carries one notification: 20 characters of base64url over 120 bits of SHA-256
/// of the ids of the events inside. It is `message.eventId` and the webhook id, the same on every attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub String);

/// Names one fact: this record of this resource of this instance reached this revision.
/// 20 characters of base64url over 120 bits of SHA-256, derived, never drawn.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub String);

macro_rules! display_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_text!(DeliveryId, EventId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_a_double_and_are_never_zero() {
        assert_eq!(InstanceId::from_random(u64::MAX).0, 9_007_199_254_740_991);
        assert_eq!(InstanceId::from_random(0).0, 1);
        for text in ["0", "-1", "+1", "9007199254740992", "1.0", "", "abc"] {
            assert_eq!(text.parse::<InstanceId>(), Err(NotAnId), "{text}");
        }
        assert_eq!("42".parse::<InstanceId>(), Ok(InstanceId(42)));
        assert_eq!("9007199254740991".parse::<InstanceId>(), Ok(InstanceId(LARGEST_ID)));
    }
}

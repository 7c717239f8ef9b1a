//! Authentication: the caller behind an authorization header. An absent header, an unknown secret and secrets that do
//! not belong together get the same answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use store::records::account::{Principal, principals_of};
use store::records::audit::By;
use store::{Ambient, RecordError};

use crate::ports::Ports;

/// Bytes of randomness in a secret.
const SECRET_BYTES: usize = 32;

/// The user on whose behalf a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The caller's organization: nothing of another is ever seen.
    pub organization: OrganizationId,
    /// The user.
    pub user: UserId,
    /// The instance whose token came along, if one did.
    pub instance: Option<InstanceId>,
}

impl Caller {
    /// The caller as the audit trail names it.
    pub fn by(&self) -> By {
        By::User { user: self.user }
    }
}

/// The reason why a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// Absent, wrong, or not belonging together: the caller does not learn which.
    #[error("the secrets do not name a user of an organization")]
    Unknown,
    /// The principals could not be read.
    #[error("reading the principals")]
    Record(#[from] RecordError),
}

/// The parts of `Authorization: User <s>, Organization <s>, Element <t>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    user: Option<Secret>,
    organization: Option<Secret>,
    element: Option<Secret>,
}

impl Parts {
    /// Parts in any order, names in any case, spaces wherever. None for an unknown or repeated part.
    fn parse(header: &str) -> Option<Self> {
        let mut parts = Self::default();
        for part in header.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, secret) = part.split_once(char::is_whitespace)?;
            let place = match name.to_ascii_lowercase().as_str() {
                "user" => &mut parts.user,
                "organization" => &mut parts.organization,
                "element" => &mut parts.element,
                _ => return None,
            };
            if place.replace(Secret::new(secret.trim())).is_some() {
                return None;
            }
        }
        Some(parts)
    }
}

/// The caller that a header names. A user's secret is always needed, and the organization's or an instance token with
/// it; all that are given must belong to one organization.
///
/// # Errors
/// The header names no caller, or the store failed.
pub async fn authenticate(ports: &Ports, header: Option<&str>) -> Result<Caller, AuthenticateError> {
    let parts = header.and_then(Parts::parse).unwrap_or_default();
    if parts.user.is_none() || (parts.organization.is_none() && parts.element.is_none()) {
        return Err(AuthenticateError::Unknown);
    }
    let secrets = [parts.user.as_ref(), parts.organization.as_ref(), parts.element.as_ref()];
    let [user, of_organization, of_instance] = principals_of(&*ports.store, secrets, ports.now()).await?;
    let Some(Principal::User { user, organization }) = user else {
        return Err(AuthenticateError::Unknown);
    };
    if parts.organization.is_some() && of_organization != Some(Principal::Organization { organization }) {
        return Err(AuthenticateError::Unknown);
    }
    let instance = match (parts.element, of_instance) {
        (None, _) => None,
        (Some(_), Some(Principal::Instance { instance, organization: owner })) if owner == organization => {
            Some(instance)
        }
        (Some(_), _) => return Err(AuthenticateError::Unknown),
    };
    Ok(Caller { organization, user, instance })
}

/// A new secret: 256 random bits in base64url.
pub fn draw_secret(ambient: &dyn Ambient) -> Secret {
    let mut bytes = [0; SECRET_BYTES];
    ambient.fill_random(&mut bytes);
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

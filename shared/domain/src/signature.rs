//! Two signatures over the very bytes that are sent: Cloud Elements', so that a customer of it need change
//! nothing, and that of Standard Webhooks, which also covers id and time and so shows a replay.

use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// The prefix of a Standard Webhooks secret. Base64 of the key follows.
pub const SECRET_PREFIX: &str = "whsec_";

/// The reference verifiers take a secret whose base64 has lost its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn sign(key: &[u8], parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    STANDARD.encode(mac.finalize().into_bytes())
}

/// `Elements-Webhook-Signature`: `sha256=` and base64 of HMAC-SHA256 over the body. The key is used as it was
/// typed, prefix included: Cloud Elements knows no prefix. (Cloud Elements, "Event security".)
pub fn elements_signature(key: &Secret, body: &[u8]) -> String {
    format!("sha256={}", sign(key.expose().as_bytes(), &[body]))
}

/// `webhook-signature` of Standard Webhooks: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, one for
/// each key with spaces between. During a rotation both keys sign and a receiver accepts either.
/// A key that starts with `whsec_` is base64; any other, or one whose base64 is broken, is used as it was typed.
/// `timestamp` is the attempt's, in seconds since 1970.
pub fn standard_webhooks(keys: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp}.");
    let one = |key: &Secret| {
        let typed = key.expose();
        let decoded = typed.strip_prefix(SECRET_PREFIX).and_then(|rest| LENIENT.decode(rest).ok());
        let key = decoded.as_deref().unwrap_or(typed.as_bytes());
        format!("v1,{}", sign(key, &[head.as_bytes(), body]))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_vector() {
        let key = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature =
            standard_webhooks(std::slice::from_ref(&key), "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn the_originals_form_over_a_known_vector() {
        // HMAC-SHA256("key", "The quick brown fox jumps over the lazy dog") is f7bc83f4…d8, in base64 here.
        let signature = elements_signature(&Secret::new("key"), b"The quick brown fox jumps over the lazy dog");
        assert_eq!(signature, "sha256=97yD9DBThCSxMpjmqm+xQ+9NWaFJRhdZl0edvC0aPNg=");
    }

    #[test]
    fn during_a_rotation_each_key_signs() {
        let [new, old] = ["whsec_bmV3LWtleQ==", "an old key"].map(Secret::new);
        let both = standard_webhooks(&[new.clone(), old.clone()], "id", 1, b"{}");
        let each = [new, old].map(|key| standard_webhooks(&[key], "id", 1, b"{}"));
        assert_eq!(both, each.join(" "));
        assert_ne!(each[0], each[1]);
        // The decoded key and the same key typed without a prefix are one key.
        assert_eq!(each[0], standard_webhooks(&[Secret::new("new-key")], "id", 1, b"{}"));
        assert_ne!(both, standard_webhooks(&[Secret::new("new-key")], "id", 2, b"{}"));
        // So is one whose padding was lost.
        assert_eq!(each[0], standard_webhooks(&[Secret::new("whsec_bmV3LWtleQ")], "id", 1, b"{}"));
        // Broken base64 still signs, as typed.
        assert!(standard_webhooks(&[Secret::new("whsec_%")], "id", 1, b"{}").starts_with("v1,"));
    }
}

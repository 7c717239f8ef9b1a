//! The form of an item in the table: its attributes, and the packing of its body.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use chrono::DateTime;
use store::port::{Item, Key, StoreError};

use super::{Attributes, LARGEST_BODY, PACK_ABOVE, PLAIN, ZSTD};

pub(super) fn key_attributes(key: &Key) -> Attributes {
    HashMap::from([("pk".into(), AttributeValue::S(key.pk.clone())), ("sk".into(), AttributeValue::S(key.sk.clone()))])
}

pub(super) fn attributes(item: &Item) -> Attributes {
    let mut attributes = key_attributes(&item.key);
    attributes.insert("v".into(), AttributeValue::N(item.version.to_string()));
    attributes.insert("b".into(), pack(item));
    if let Some(at) = item.expires_at {
        attributes.insert("x".into(), AttributeValue::N(at.timestamp().to_string()));
    }
    attributes
}

/// Size in DynamoDB's way of counting, a little too large: names, texts as they are, a number up to 21 bytes.
pub(super) fn size(key: &Key, body: usize) -> usize {
    "pkskvbx".len() + key.pk.len() + key.sk.len() + 2 * 21 + body
}

pub(super) fn pack(item: &Item) -> AttributeValue {
    let body = &item.body;
    let packed = (size(&item.key, body.len()) > PACK_ABOVE && body.len() <= LARGEST_BODY)
        .then(|| zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok())
        .flatten()
        .filter(|packed| packed.len() < body.len());
    let (codec, bytes) = match (&packed, std::str::from_utf8(body)) {
        (Some(packed), _) => (ZSTD, packed.as_slice()),
        (None, Ok(text)) => return AttributeValue::S(text.to_owned()),
        (None, Err(_)) => (PLAIN, body.as_ref()),
    };
    let mut blob = Vec::with_capacity(1 + bytes.len());
    blob.push(codec);
    blob.extend_from_slice(bytes);
    AttributeValue::B(Blob::new(blob))
}

fn unpack(body: AttributeValue) -> Option<Bytes> {
    match body {
        AttributeValue::S(text) => Some(text.into()),
        AttributeValue::B(blob) => {
            let blob = Bytes::from(blob.into_inner());
            match *blob.first()? {
                PLAIN => Some(blob.slice(1..)),
                ZSTD => {
                    let size = zstd::zstd_safe::get_frame_content_size(&blob[1..]).ok()??;
                    let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST_BODY)?;
                    zstd::bulk::decompress(&blob[1..], size).ok().map(Bytes::from)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn foreign(attribute: &str) -> StoreError {
    StoreError::Refused(format!("an item whose {attribute:?} is missing or unreadable"))
}

pub(super) fn text(attributes: &mut Attributes, name: &str) -> Result<String, StoreError> {
    match attributes.remove(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => Ok(text),
        _ => Err(foreign(name)),
    }
}

pub(super) fn item(mut attributes: Attributes) -> Result<Item, StoreError> {
    let key = Key { pk: text(&mut attributes, "pk")?, sk: text(&mut attributes, "sk")? };
    let version = text(&mut attributes, "v")?.parse().map_err(|_| foreign("v"))?;
    let body = attributes.remove("b").and_then(unpack).ok_or_else(|| foreign("b"))?;
    let expires_at = match attributes.contains_key("x") {
        true => {
            let seconds = text(&mut attributes, "x")?.parse().map_err(|_| foreign("x"))?;
            Some(DateTime::from_timestamp(seconds, 0).ok_or_else(|| foreign("x"))?)
        }
        false => None,
    };
    Ok(Item { key, version, body, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &[u8]) -> Item {
        let key = Key::new("INST#1", "META");
        Item {
            key,
            version: 7,
            body: Bytes::copy_from_slice(body),
            expires_at: DateTime::from_timestamp(1_767_600_000, 0),
        }
    }

    #[test]
    fn bodies_come_back_as_they_were() {
        let noise: Vec<u8> = std::iter::repeat_with(|| crate::random() as u8).take(4000).collect();
        let long = r#"{"name":"Ærøskøbing"},"#.repeat(200);
        let cases: [(&[u8], &str); 6] = [
            (b"", "S"),
            (br#"{"a":1}"#, "S"),
            (b"\xff\x00", "plain"),
            (&b"\x01".repeat(3000), "zstd"),
            (long.as_bytes(), "zstd"),
            (&noise, "plain"),
        ];
        for (body, form) in cases {
            let attributes = attributes(&stored(body));
            let is = match &attributes["b"] {
                AttributeValue::S(_) => "S",
                AttributeValue::B(blob) if blob.as_ref()[0] == PLAIN => "plain",
                AttributeValue::B(_) => "zstd",
                _ => "neither",
            };
            assert_eq!(is, form, "{} bytes", body.len());
            assert!(item(attributes) == Ok(stored(body)), "{form}, {} bytes", body.len());
        }
    }

    #[test]
    fn a_damaged_item_is_an_error_and_not_a_panic() {
        for body in [vec![], vec![9, 1, 2], vec![ZSTD], vec![ZSTD, 1, 2, 3]] {
            let mut attributes = attributes(&stored(b""));
            attributes.insert("b".into(), AttributeValue::B(Blob::new(body)));
            assert!(matches!(item(attributes), Err(StoreError::Refused(_))));
        }
        let mut attributes = attributes(&stored(b""));
        attributes.remove("v");
        assert!(matches!(item(attributes), Err(StoreError::Refused(_))));
    }
}

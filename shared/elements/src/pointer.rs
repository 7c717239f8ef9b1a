//! JSON pointers (RFC 6901), and a walk that finds their values without building a tree.
//!
//! The walk returns raw text inside the input, so that a record's own bytes can be sliced out of a page.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A place in a JSON document: `/data/0/id`. Empty: the whole. In error rules and checks `*` stands for any element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Pointer {
    text: String,
    segments: Vec<String>,
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text.is_empty() {
                true => Ok(Self { text, segments: Vec::new() }),
                false => Err(format!("a pointer starts with `/`: `/{text}`")),
            };
        };
        let segments = rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text, segments })
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.text
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pointer {
    /// Reads the dotted path of a configuration: `user.id`, `metadata.updateTime`.
    pub fn dotted(path: &str) -> Self {
        let segments: Vec<String> = path.split('.').map(str::to_owned).collect();
        let text = segments.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
        Self { text, segments }
    }

    /// The pointer as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Finds every value it points at; more than one only with `*`.
    pub(crate) fn all<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.segments.iter().fold(vec![value], |found, segment| {
            found
                .into_iter()
                .flat_map(|value| match value {
                    Value::Array(items) if segment == "*" => items.iter().collect(),
                    Value::Object(members) if segment == "*" => members.values().collect(),
                    Value::Array(items) => {
                        segment.parse().ok().and_then(|at: usize| items.get(at)).into_iter().collect::<Vec<_>>()
                    }
                    Value::Object(members) => members.get(segment).into_iter().collect(),
                    _ => Vec::new(),
                })
                .collect()
        })
    }

    /// Removes its value from a tree.
    pub(crate) fn remove(&self, value: &mut Value) {
        let Some((last, parents)) = self.segments.split_last() else { return };
        let parent = parents.iter().try_fold(value, |value, segment| match value {
            Value::Object(members) => members.get_mut(segment),
            Value::Array(items) => segment.parse().ok().and_then(|at: usize| items.get_mut(at)),
            _ => None,
        });
        if let Some(Value::Object(members)) = parent {
            members.remove(last);
        }
    }

    /// Puts a value into a tree, and creates the objects on the way.
    pub(crate) fn put(&self, tree: &mut Value, new: Value) {
        let mut place = tree;
        for segment in &self.segments {
            let index =
                segment.parse::<usize>().ok().filter(|at| place.as_array().is_some_and(|items| *at < items.len()));
            if index.is_none() && !place.is_object() {
                *place = Value::Object(serde_json::Map::new());
            }
            place = match (place, index) {
                (Value::Array(items), Some(at)) => &mut items[at],
                (Value::Object(members), _) => members.entry(segment.clone()).or_insert(Value::Null),
                _ => return,
            };
        }
        *place = new;
    }
}

/// The values that one walk looks for: single values by slot, and at most one list of which it returns each element.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    root: Branch,
    slots: usize,
}

#[derive(Debug, Clone, Default)]
struct Branch {
    slots: Vec<usize>,
    each: bool,
    children: Vec<(String, Branch)>,
}

/// The values that a walk found. A JSON `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    slots: Vec<Option<&'a RawValue>>,
    /// The elements of the list, `None` if there is no list.
    pub each: Option<Vec<&'a RawValue>>,
}

impl<'a> Found<'a> {
    /// Returns the raw text in a slot.
    pub(crate) fn raw(&self, slot: usize) -> Option<&'a str> {
        self.slots[slot].map(RawValue::get).filter(|text| *text != "null")
    }

    /// Returns the value in a slot as text: a string without quotes and escapes, any other value unchanged.
    pub(crate) fn text(&self, slot: usize) -> Option<Cow<'a, str>> {
        self.raw(slot).map(as_text)
    }
}

/// Raw JSON as text: a string without quotes and escapes, any other value unchanged.
pub(crate) fn as_text(raw: &str) -> Cow<'_, str> {
    if !raw.starts_with('"') {
        return Cow::Borrowed(raw);
    }
    let inner = &raw[1..raw.len() - 1];
    match inner.contains('\\') {
        false => Cow::Borrowed(inner),
        true => serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(inner), Cow::Owned),
    }
}

impl Wanted {
    /// Adds the value at `pointer`; returns its slot.
    pub(crate) fn want(&mut self, pointer: &Pointer) -> usize {
        let slot = self.slots;
        self.slots += 1;
        self.branch(pointer).slots.push(slot);
        slot
    }

    /// Adds the elements of the list at `pointer`.
    pub(crate) fn want_each(&mut self, pointer: &Pointer) {
        self.branch(pointer).each = true;
    }

    fn branch(&mut self, pointer: &Pointer) -> &mut Branch {
        pointer.segments.iter().fold(&mut self.root, |branch, segment| {
            let at = branch.children.iter().position(|(key, _)| key == segment).unwrap_or_else(|| {
                branch.children.push((segment.clone(), Branch::default()));
                branch.children.len() - 1
            });
            &mut branch.children[at].1
        })
    }

    /// Walks a document once.
    ///
    /// # Errors
    /// When the text is not one JSON document.
    pub(crate) fn find<'a>(&self, text: &'a str) -> Result<Found<'a>, serde_json::Error> {
        let mut found = Found { slots: vec![None; self.slots], each: None };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Walk { branch: &self.root, found: &mut found }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

struct Walk<'w, 'a> {
    branch: &'w Branch,
    found: &'w mut Found<'a>,
}

impl<'a> DeserializeSeed<'a> for Walk<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.branch.slots.is_empty() {
            return deserializer.deserialize_any(self);
        }
        let raw = <&'a RawValue>::deserialize(deserializer)?;
        for slot in &self.branch.slots {
            self.found.slots[*slot] = Some(raw);
        }
        if self.branch.each || !self.branch.children.is_empty() {
            let deeper = Branch { slots: Vec::new(), ..self.branch.clone() };
            Walk { branch: &deeper, found: self.found }
                .deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
                .map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }
}

impl<'a> Visitor<'a> for Walk<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'a>>()? {
            match self.branch.children.iter().find(|(wanted, _)| *wanted == key.0) {
                Some((_, branch)) => map.next_value_seed(Walk { branch, found: &mut *self.found })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.branch.each {
            let mut each = Vec::new();
            while let Some(raw) = seq.next_element::<&'a RawValue>()? {
                each.push(raw);
            }
            self.found.each = Some(each);
            return Ok(());
        }
        let mut at = 0usize;
        loop {
            let wanted = self.branch.children.iter().find(|(key, _)| key.parse() == Ok(at));
            let more = match wanted {
                Some((_, branch)) => seq.next_element_seed(Walk { branch, found: &mut *self.found })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(());
            }
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A member's name, borrowed unless it holds escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).expect("a pointer")
    }

    #[test]
    fn one_walk_finds_values_and_elements() {
        let text = r#"{"meta":{"next":"a\"b","n":7,"z":null},"rows":[{"id":1}, {"id":2}],"x":[[1],[2,3]]}"#;
        let mut wanted = Wanted::default();
        let slots: Vec<usize> =
            ["/meta/next", "/meta/n", "/meta", "/x/1/0", "/gone/deeper", "/meta/z", "/meta/n/deeper"]
                .iter()
                .map(|text| wanted.want(&pointer(text)))
                .collect();
        wanted.want_each(&pointer("/rows"));
        let found = wanted.find(text).expect("JSON");
        let texts: Vec<_> = slots.iter().map(|slot| found.text(*slot)).collect();
        assert_eq!(texts[0].as_deref(), Some("a\"b"));
        assert_eq!(texts[1].as_deref(), Some("7"));
        assert_eq!(texts[2].as_deref(), Some(r#"{"next":"a\"b","n":7,"z":null}"#));
        assert_eq!(texts[3].as_deref(), Some("2"));
        assert_eq!((&texts[4], &texts[5], &texts[6]), (&None, &None, &None));
        let each: Vec<&str> = found.each.expect("a list").into_iter().map(RawValue::get).collect();
        assert_eq!(each, [r#"{"id":1}"#, r#"{"id":2}"#]);
    }

    #[test]
    fn a_list_may_be_the_whole_document_or_missing() {
        let mut wanted = Wanted::default();
        wanted.want_each(&pointer(""));
        assert_eq!(wanted.find("[1,2]").expect("JSON").each.expect("a list").len(), 2);
        assert!(wanted.find("{}").expect("JSON").each.is_none());
        assert!(wanted.find("<html>").is_err());
        assert!(wanted.find("{} {}").is_err());
    }

    #[test]
    fn a_tree_is_searched_changed_and_added_to() {
        let mut tree = serde_json::json!({"e":[{"r":"a"},{"r":"b"}],"k":{"x":1}});
        assert_eq!(pointer("/e/*/r").all(&tree), ["a", "b"]);
        pointer("/k/x").remove(&mut tree);
        pointer("/k/y/z").put(&mut tree, Value::from(2));
        assert_eq!(tree, serde_json::json!({"e":[{"r":"a"},{"r":"b"}],"k":{"y":{"z":2}}}));
        assert_eq!(Pointer::dotted("metadata.updateTime").as_str(), "/metadata/updateTime");
        assert!(Pointer::try_from("id".to_owned()).is_err());
    }
}

//! The words of the closed lists: each enum that a user chooses from is written down once, with its words.
//!
//! Reading, storing, the elements' catalog, the API document and the manual use these lists.

use super::{CreatedRule, FailurePolicy, InitialPoll, NotificationFormat, VendorType};

/// An enum whose values users write as words.
pub trait Words: Copy + PartialEq + Sized + 'static {
    /// Every word with its value. A value that has several words is shown under the first of them.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value, as it is stored and shown.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }

    /// The value of a word that was stored. None: no release knows the word.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}

/// The words of an enum, in the order in which they are offered.
pub fn words<T: Words>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Words for VendorType {
    const WORDS: &'static [(&'static str, Self)] =
        &[("polling", Self::Polling), ("webhook", Self::Webhook), ("webhooks", Self::Webhook)];
}

impl Words for NotificationFormat {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("elements", Self::Elements),
        ("cloudevents", Self::CloudEvents),
        ("cloudevents-batch", Self::CloudEventsBatch),
    ];
}

impl Words for FailurePolicy {
    const WORDS: &'static [(&'static str, Self)] = &[("retry", Self::Retry), ("queue", Self::Queue)];
}

impl Words for CreatedRule {
    const WORDS: &'static [(&'static str, Self)] = &[("observed", Self::Observed), ("tolerance", Self::Tolerance)];
}

impl Words for InitialPoll {
    const WORDS: &'static [(&'static str, Self)] = &[("silent", Self::Silent), ("emit", Self::Emit)];
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    #[track_caller]
    fn check<T: Words + Debug + Default>(expected: &str) {
        assert_eq!(words::<T>().join(" "), expected);
        assert_eq!(T::WORDS[0].1, T::default(), "the default is offered first");
        for (word, value) in T::WORDS {
            assert_eq!(T::from_word(word), Some(*value));
            assert_eq!(T::from_word(value.word()), Some(*value));
        }
        assert_eq!(T::from_word(&T::WORDS[0].0.to_uppercase()), None);
        assert_eq!(T::from_word(""), None);
    }

    #[test]
    fn words_stand_for_their_values_and_values_for_their_first_words() {
        check::<VendorType>("polling webhook webhooks");
        check::<NotificationFormat>("elements cloudevents cloudevents-batch");
        check::<FailurePolicy>("retry queue");
        check::<CreatedRule>("observed tolerance");
        check::<InitialPoll>("silent emit");
        assert_eq!(VendorType::Webhook.word(), "webhook");
    }
}

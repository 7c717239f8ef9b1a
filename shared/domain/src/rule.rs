//! The rules of detection: the reasons why a record became an event or did not.

use serde::{Deserialize, Serialize};

/// The rule that decided about a record. The *why* answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The first poll remembers what exists and emits nothing.
    Baseline,
    /// The first poll was asked to emit what exists.
    #[serde(rename = "baselineTold")]
    BaselineEmitted,
    /// Never seen before, and made since coverage began.
    CreatedSinceCoverage,
    /// Created and updated lie within the tolerance.
    CreatedWithinTolerance,
    /// Never seen before, no creation date, and everything that existed before is known.
    NewToCompleteIndex,
    /// The vendor lists it as created.
    VendorSaysCreated,
    /// Known, and its fingerprint changed.
    FingerprintChanged,
    /// Never seen before, but made before coverage began.
    CreatedEarlier,
    /// The vendor lists it as updated.
    VendorSaysUpdated,
    /// It was gone and is there again.
    Returned,
    /// The vendor marks it as deleted.
    VendorSaysDeleted,
    /// A complete listing lacked it, and asking for it by id confirmed that.
    AbsenceConfirmed,
    /// Known with the same fingerprint: emitted already, or part of the baseline.
    AlreadyKnown,
    /// Older than the version already known: a stale listing.
    OlderThanKnown,
    /// Deleted, but never known: it never had an event.
    DeletedBeforeKnown,
    /// Changed after the poll began; `filterByCurrentDate` leaves it to the next one.
    AfterPollBegan,
    /// Known with the same stamp; only the way its fingerprint is made is new.
    Reshaped,
}

impl Rule {
    /// All rules, in the order of their numbers in a packed index: new ones go to the end.
    pub const ALL: [Rule; 17] = [
        Rule::Baseline,
        Rule::BaselineEmitted,
        Rule::CreatedSinceCoverage,
        Rule::CreatedWithinTolerance,
        Rule::NewToCompleteIndex,
        Rule::VendorSaysCreated,
        Rule::FingerprintChanged,
        Rule::CreatedEarlier,
        Rule::VendorSaysUpdated,
        Rule::Returned,
        Rule::VendorSaysDeleted,
        Rule::AbsenceConfirmed,
        Rule::AlreadyKnown,
        Rule::OlderThanKnown,
        Rule::DeletedBeforeKnown,
        Rule::AfterPollBegan,
        Rule::Reshaped,
    ];

    /// The rule in a sentence, for the *why* answer.
    pub fn in_words(self) -> &'static str {
        match self {
            Rule::Baseline => "It existed when polling began; the first poll remembers what exists and emits nothing.",
            Rule::BaselineEmitted => "It existed when polling began, and initialPoll asks to emit what exists.",
            Rule::CreatedSinceCoverage => "It was never seen before and was made since coverage began: CREATED.",
            Rule::CreatedWithinTolerance => {
                "It was never seen before, and its dates of creation and update lie within createdCheckTolerance: CREATED."
            }
            Rule::NewToCompleteIndex => {
                "It was never seen before, and everything that existed when polling began is known: CREATED."
            }
            Rule::VendorSaysCreated => "The vendor lists it as created.",
            Rule::FingerprintChanged => "It is known, and its version or content is another than before: UPDATED.",
            Rule::CreatedEarlier => "It was never seen before, but was made before coverage began: UPDATED.",
            Rule::VendorSaysUpdated => "The vendor lists it as updated.",
            Rule::Returned => "It was gone and is there again: CREATED.",
            Rule::VendorSaysDeleted => "The vendor marks it as deleted.",
            Rule::AbsenceConfirmed => "A complete listing lacked it, and asking for it by id confirmed that: DELETED.",
            Rule::AlreadyKnown => "It is known in this very version: nothing new to emit.",
            Rule::OlderThanKnown => "A newer version is known: the listing is stale.",
            Rule::DeletedBeforeKnown => "It was deleted before it was ever known, so it never had an event.",
            Rule::AfterPollBegan => {
                "It changed after the poll began, and filterByCurrentDate leaves it to the next one."
            }
            Rule::Reshaped => "Only the way in which changes are recognized is new; the record is as it was.",
        }
    }
}

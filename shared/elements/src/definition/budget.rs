//! The rate at which one process calls a vendor.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value_types::Span;

/// The rate at which the vendor may be called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Windows; a call needs a free place in every one.
    pub windows: Vec<Window>,
    /// The sharing of the windows.
    #[serde(default)]
    pub scope: BudgetScope,
}

/// A number of calls in a length of time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The number of calls.
    pub calls: u32,
    /// The length of the window.
    pub per: Span,
}

/// The sharing of a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetScope {
    /// One connected account has it alone.
    #[default]
    Instance,
    /// All accounts of one user at the vendor share it.
    User,
    /// All accounts of one application at the vendor share it.
    App,
}

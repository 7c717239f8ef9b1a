//! Values of command-line options: the address of a vendor, and durations.

use std::str::FromStr;
use std::time::Duration;

use url::Url;

/// An element with the address that replaces its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorOverride {
    /// The element's key.
    pub element: String,
    /// The base that replaces scheme and host of every URL of the element.
    pub base: Url,
}

impl FromStr for VendorOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (element, base) =
            text.split_once('=').ok_or("it is written KEY=URL, such as square=http://127.0.0.1:9000")?;
        let base: Url = base.parse().map_err(|error| format!("{base:?} is not a URL: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(format!("{base} is not an http or https URL"));
        }
        Ok(Self { element: element.trim().to_owned(), base })
    }
}

/// The shortest schedule minute: the engine needs some milliseconds for each.
const SHORTEST_MINUTE: Duration = Duration::from_millis(50);

/// A duration such as `1m`, `90s`, `500ms` or `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "it is written as a number and a unit: 500ms, 1s, 1m or 1h";
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(wanted)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wanted)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wanted.into()),
    };
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or("it is too long")?;
    if duration < SHORTEST_MINUTE {
        return Err(format!("it lasts at least {} ms", SHORTEST_MINUTE.as_millis()));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, milliseconds) in [("500ms", 500), ("1s", 1000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1d", "0s", "10ms", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

//! The head of a chain.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::event::Event;

/// The end of a chain: how many events it has, and the checksum of the last one.
///
/// Serializes as an object with `index` and `checksum`. Deserializing refuses an empty chain with a
/// checksum, and any other chain without one.
///
/// ```
/// use zero_bus::Head;
/// let head: Head = serde_json::from_str(r#"{"index":0,"checksum":null}"#).unwrap();
/// assert_eq!(head, Head::default());
/// assert!(serde_json::from_str::<Head>(r#"{"index":7,"checksum":null}"#).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedHead")]
pub struct Head {
    /// Number of events, which is the index of the last one; 0 for an empty chain.
    pub index: u64,
    /// The checksum of the last event; `None` for an empty chain.
    pub checksum: Option<Checksum>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedHead {
    index: u64,
    // Named explicitly so that a missing member is an error rather than `None`.
    #[serde(deserialize_with = "Option::deserialize")]
    checksum: Option<Checksum>,
}

impl TryFrom<UncheckedHead> for Head {
    type Error = &'static str;

    fn try_from(UncheckedHead { index, checksum }: UncheckedHead) -> Result<Self, Self::Error> {
        match (index, checksum) {
            (0, Some(_)) => Err("index 0 is an empty chain, which has no checksum"),
            (1.., None) => Err("a chain with events has a checksum"),
            _ => Ok(Self { index, checksum }),
        }
    }
}

impl Head {
    /// Returns whether `actual` is the head that `self` expects. Without a checksum, `self` expects
    /// any event at its index.
    pub(crate) fn expects(&self, actual: Head) -> bool {
        self.index == actual.index && (self.checksum.is_none() || self.checksum == actual.checksum)
    }
}

/// Writes `INDEX:CHECKSUM`, or only the index if there is no checksum.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)?;
        self.checksum.map_or(Ok(()), |checksum| write!(f, ":{checksum}"))
    }
}

impl Event {
    /// The head of a chain that ends with this event.
    pub fn head(&self) -> Head {
        Head { index: self.index, checksum: Some(self.checksum) }
    }
}

/// Appends the value of `previous_checksum` in the event after a head with this checksum.
pub(crate) fn write_previous(previous: Option<Checksum>, out: &mut String) {
    match previous {
        None => out.push_str("null"),
        Some(previous) => {
            out.push('"');
            out.push_str(previous.to_text().as_str());
            out.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Head;
    use crate::checksum::Checksum;

    #[test]
    fn an_expected_head_without_a_checksum_expects_any_event_at_its_index() {
        let head = |index, text: Option<&str>| Head {
            index,
            checksum: text.map(|text| Checksum::of(text.as_bytes())),
        };
        assert!(head(0, None).expects(head(0, None)));
        assert!(head(1, None).expects(head(1, Some("a"))));
        assert!(head(1, Some("a")).expects(head(1, Some("a"))));
        assert!(!head(1, Some("a")).expects(head(1, Some("b"))));
        assert!(!head(1, None).expects(head(2, Some("a"))));
        assert!(!head(0, Some("a")).expects(head(0, None)));
        assert_eq!(head(0, None).to_string(), "0");
        assert!(head(7, Some("a")).to_string().starts_with("7:sha256:ca978112"));
    }
}

//! Symbols that look alike.
//!
//! Every spelling of a symbol is an instrument of its own, with its own position and limits. A
//! space or an invisible character therefore gives an order a second position limit.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// Returns the pairs of different symbols that look alike: the first one seen, and another.
///
/// Two symbols look alike if they differ only in white space, in characters without a width, or in
/// the width of Latin characters.
///
/// ```
/// use zero_paper::symbol::lookalikes;
/// let pairs = lookalikes(["BTC", "ETH", "BTC ", "BTC", "BTC\u{200b}"]);
/// assert_eq!(pairs, [("BTC", "BTC "), ("BTC", "BTC\u{200b}")]);
/// assert_eq!(lookalikes(["BTC", "BTC-PERP"]), []);
/// ```
pub fn lookalikes<'a>(symbols: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let mut first_by_appearance: HashMap<String, &str> = HashMap::new();
    let mut seen = HashSet::new();
    let unique = symbols.into_iter().filter(|symbol| seen.insert(*symbol));
    let pair = |symbol: &'a str| match first_by_appearance.entry(appearance(symbol)) {
        Entry::Occupied(first) => Some((*first.get(), symbol)),
        Entry::Vacant(entry) => {
            entry.insert(symbol);
            None
        }
    };
    unique.filter_map(pair).collect()
}

/// Describes two symbols that look alike, for the operator. Invisible characters are escaped.
pub fn describe_lookalikes(first: &str, second: &str) -> String {
    format!(
        "the symbols {first:?} and {second:?} look alike but are different: each has a position and a position \
         limit of its own"
    )
}

/// Returns what a person sees of a symbol.
fn appearance(symbol: &str) -> String {
    let visible = symbol.chars().filter(|c| !c.is_whitespace() && !c.is_control() && !has_no_width(*c));
    visible.map(narrow).collect()
}

fn has_no_width(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the ASCII character of a full-width one, and every other character as it is.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        c => c,
    }
}

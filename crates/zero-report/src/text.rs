//! Text in HTML: texts of events, times and amounts. Any program may write events, so their text is
//! not trusted.

use zero_paper::rfc3339;
use zero_paper::text::{escape, format_money, format_number, shorten};

/// Longest text in a report, in characters.
const MAX_CHARACTERS: usize = 200;

/// Returns a text that HTML shows as it is, in an element or in a quoted attribute. Control
/// characters and marks that change the writing direction are shown as escapes; a long text is cut.
pub(crate) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in escape(&shorten(text, MAX_CHARACTERS)).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A time in UTC.
pub(crate) fn time(as_of: Option<f64>) -> String {
    as_of.map_or_else(
        || "&ndash;".to_owned(),
        |as_of| {
            let text = rfc3339(as_of).unwrap_or_else(|| as_of.to_string());
            text.replace('T', " ").trim_end_matches('Z').to_owned()
        },
    )
}

/// An amount with its sign, and the class that colours it.
pub(crate) fn signed(usd: f64) -> (String, &'static str) {
    let text = money(usd).replace('-', "\u{2212}");
    match usd {
        usd if usd >= 1e-6 => (format!("+{text}"), "good"),
        usd if usd <= -1e-6 => (text, "bad"),
        _ => (text, ""),
    }
}

/// A percentage with its sign.
pub(crate) fn percent(pct: f64) -> String {
    format!("{pct:+.2} %").replace('-', "\u{2212}")
}

/// A price with as many decimals as its size needs, so that prices of one symbol line up.
pub(crate) fn price(usd: f64) -> String {
    match usd.abs() {
        size if size >= 100.0 => format_money(usd),
        size if size >= 1.0 => format!("{usd:.4}"),
        _ => format_number(format!("{usd:.5e}").parse().unwrap_or(usd)),
    }
}

/// An amount of money. What rounding left of 0 is shown as 0.
pub(crate) fn money(usd: f64) -> String {
    format_money(if usd.abs() < 1e-6 { 0.0 } else { usd })
}

#[cfg(test)]
mod tests {
    use super::html;

    #[test]
    fn no_character_can_end_an_element_or_an_attribute() {
        assert_eq!(html("<b a=\"1\" c='2'>&</b>"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;&lt;/b&gt;");
        assert_eq!(html("a\u{202e}b\0"), "a\\u{202e}b\\u{0}");
        assert_eq!(html(&"x".repeat(1000)).len(), 203);
    }
}

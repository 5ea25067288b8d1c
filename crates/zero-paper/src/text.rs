//! Text for people: escaping, plurals, numbers, amounts and times.
//!
//! Every program of this project formats text with these functions, so that a value reads the same
//! everywhere.

use crate::clock::rfc3339;

/// Escapes control characters, and characters that are invisible or change the writing direction.
///
/// The text of events and scenarios was written by other programs. Unescaped, it could send
/// commands to a terminal, break a message into two lines, or display characters in another order
/// than stored.
///
/// ```
/// use zero_paper::text::escape;
/// assert_eq!(escape("say \"hi\"\n\x1b[2J"), r#"say "hi"\n\u{1b}[2J"#);
/// assert_eq!(escape("1\u{202e}32"), r"1\u{202e}32");
/// assert_eq!(escape("fi\u{200b}ll\u{a0}"), r"fi\u{200b}ll\u{a0}");
/// ```
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character could hide or rearrange others: the general categories Cf, Zl, Zp and,
/// except for the space, Zs (Unicode 16), and letters and marks without a shape.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}'
        | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{180b}'..='\u{180f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}')
}

/// Cuts a text after `max_chars` characters and marks the cut with three dots.
///
/// ```
/// use zero_paper::text::shorten;
/// assert_eq!(shorten("projected position", 9), "projected...");
/// assert_eq!(shorten("position", 9), "position");
/// ```
pub fn shorten(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Formats a count and its noun, with a plural `s` unless the count is 1: `1 event`, `30 events`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Formats a number with at most twelve significant digits, which hides the rounding errors of
/// sums. A number below a billionth gets an exponent.
///
/// ```
/// use zero_paper::text::format_number;
/// assert_eq!(format_number(0.1 + 0.2), "0.3");
/// assert_eq!(format_number(64000.0), "64000");
/// assert_eq!(format_number(5.5e-17), "5.5e-17");
/// ```
pub fn format_number(number: f64) -> String {
    let rounded: f64 = format!("{number:.11e}").parse().unwrap_or(number);
    if rounded != 0.0 && rounded.abs() < 1e-9 { format!("{rounded:e}") } else { rounded.to_string() }
}

/// Formats two numbers as [`format_number`] does, or exactly if that hides their difference.
///
/// ```
/// use zero_paper::text::format_numbers_apart;
/// assert_eq!(format_numbers_apart([1.0, 2.5]), ["1", "2.5"]);
/// assert_eq!(format_numbers_apart([0.3, 0.1 + 0.2]), ["0.3", "0.30000000000000004"]);
/// ```
pub fn format_numbers_apart(numbers: [f64; 2]) -> [String; 2] {
    let texts = numbers.map(format_number);
    if texts[0] != texts[1] || numbers[0] == numbers[1] { texts } else { numbers.map(|n| n.to_string()) }
}

/// Formats an amount of money with two decimals and grouped thousands. An amount that is not 0 but
/// rounds to 0 gets three significant digits.
///
/// ```
/// use zero_paper::text::format_money;
/// assert_eq!(format_money(-12345.678), "-12,345.68");
/// assert_eq!(format_money(0.5), "0.50");
/// assert_eq!(format_money(0.000012345), "0.0000123");
/// ```
pub fn format_money(amount: f64) -> String {
    group_thousands(&format_amount(amount))
}

/// Formats an amount as [`format_money`] does, without grouping the thousands.
pub fn format_amount(amount: f64) -> String {
    let text = format!("{amount:.2}");
    if amount == 0.0 || text.contains(|c: char| ('1'..='9').contains(&c)) || !amount.is_finite() {
        return text;
    }
    let rounded: f64 = format!("{amount:.2e}").parse().unwrap_or(amount);
    if rounded.abs() < 1e-9 { format!("{rounded:e}") } else { rounded.to_string() }
}

/// Formats two amounts of money as [`format_money`] does, with as many more decimals as it takes to
/// tell them apart.
///
/// A message that names a value and the limit it exceeds needs this: rounded to cents, the two can
/// look the same.
///
/// ```
/// use zero_paper::text::format_money_apart;
/// assert_eq!(format_money_apart([1906.5, 1800.0]), ["1,906.50", "1,800.00"]);
/// assert_eq!(format_money_apart([1000.004, 1000.0]), ["1,000.004", "1,000.00"]);
/// assert_eq!(format_money_apart([0.07 * 100.0, 7.0]), ["7.000000000000001", "7.00"]);
/// ```
pub fn format_money_apart(amounts: [f64; 2]) -> [String; 2] {
    format_amounts_apart(amounts).map(|text| group_thousands(&text))
}

/// Formats two amounts as [`format_money_apart`] does, without grouping the thousands.
pub fn format_amounts_apart(amounts: [f64; 2]) -> [String; 2] {
    const MAX_DECIMALS: usize = 20;
    let texts = amounts.map(format_amount);
    if texts[0] != texts[1] || amounts[0] == amounts[1] {
        return texts;
    }
    for decimals in 3..=MAX_DECIMALS {
        let texts = amounts.map(|amount| format!("{amount:.decimals$}"));
        if texts[0] != texts[1] {
            return texts.map(|text| trim_zeros(&text).to_owned());
        }
    }
    amounts.map(|amount| format!("{amount:e}"))
}

/// Removes zeros at the end, but keeps two decimals.
fn trim_zeros(text: &str) -> &str {
    let cents_end = text.find('.').map_or(text.len(), |point| point + 3);
    let trimmed = text.trim_end_matches('0').len();
    &text[..trimmed.max(cents_end).min(text.len())]
}

fn group_thousands(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let whole_len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at(whole_len);
    let mut grouped = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// Formats the date and the time of day of a Unix time, both in UTC.
///
/// A time outside of the years -9999 to 9999 has no date: its seconds take the place of the date,
/// and its time of day is `-`.
///
/// ```
/// use zero_paper::text::format_date_and_time;
/// let text = |date: &str, time: &str| (date.to_owned(), time.to_owned());
/// assert_eq!(format_date_and_time(1777593605.0), text("2026-05-01", "00:00:05"));
/// assert_eq!(format_date_and_time(1e12), text("1000000000000", "-"));
/// ```
pub fn format_date_and_time(seconds: f64) -> (String, String) {
    let formatted = rfc3339(seconds);
    match formatted.as_deref().and_then(|text| text.strip_suffix('Z')?.split_once('T')) {
        Some((date, time)) => (date.to_owned(), time.to_owned()),
        None => (seconds.to_string(), "-".to_owned()),
    }
}

/// Formats a duration in its largest sensible unit: `59.0 s`, `12 min`, `5 h`, `3 days`.
pub fn format_duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

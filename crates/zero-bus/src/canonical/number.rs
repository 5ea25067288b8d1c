//! Canonical numbers: writing, recognizing and reading them.
//!
//! A number spelled with a dot or an exponent is a float, every other number is an integer.

/// Appends a finite double in its shortest digits, laid out as Python's `repr` does it: in
/// scientific notation if the decimal exponent is below -4 or at least 16, with at least two
/// exponent digits.
///
/// The digits are Ryu's (Adams, PLDI 2018): the shortest that read back the same, and of two
/// equally near ones the even one, as in Python. The standard library takes the upper one, as in
/// 1811028892944024.25.
pub(crate) fn write_float(number: f64, out: &mut String) {
    debug_assert!(number.is_finite());
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    if let Some((mantissa, exponent)) = text.split_once('e') {
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        write_scientific(mantissa, sign, digits, out);
        return;
    }
    // Ryu still writes 0.0000123, Python already writes 1.23e-05.
    let (minus, absolute) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    match absolute.strip_prefix("0.0000").filter(|digits| !digits.is_empty()) {
        None => out.push_str(text),
        Some(digits) => {
            let (first, others) = digits.split_at(1);
            let point = if others.is_empty() { "" } else { "." };
            out.push_str(minus);
            write_scientific(&[first, point, others].concat(), "-", "5", out);
        }
    }
}

fn write_scientific(mantissa: &str, sign: &str, exponent: &str, out: &mut String) {
    out.push_str(mantissa);
    out.push('e');
    out.push_str(sign);
    if exponent.len() < 2 {
        out.push('0');
    }
    out.push_str(exponent);
}

/// The offset after the canonical number that begins at `at`; `None` if no canonical number begins
/// there.
#[inline]
pub(crate) fn number_end(text: &[u8], at: usize) -> Option<usize> {
    let whole = at + usize::from(text.get(at) == Some(&b'-'));
    let [point, end] = two_digit_runs(text, whole);
    let leads_with_zero = text.get(whole) == Some(&b'0');
    if point == whole || (leads_with_zero && point > whole + 1) {
        return None;
    }
    match text.get(point) {
        Some(b'.') => {}
        Some(b'e' | b'+' | b'-') => return double_end(text, at),
        // The canonical form of `-0` is `0`.
        _ => return (!leads_with_zero || whole == at).then_some(point),
    }
    let fraction = &text[point + 1..end];
    let no_trailing_zero = fraction.last().is_some_and(|last| *last != b'0' || fraction.len() == 1);
    // Numbers below 0.0001 are written with an exponent.
    let large_enough = !leads_with_zero || !fraction.starts_with(b"0000");
    // The fast path: a decimal of at most 15 digits without a trailing zero is its own shortest
    // spelling. 15 decimal digits survive the conversion to a double and back (IEEE 754), so no two
    // are one double.
    if no_trailing_zero
        && large_enough
        && end - whole <= 16
        && !matches!(text.get(end), Some(b'e' | b'+' | b'-' | b'.'))
    {
        return Some(end);
    }
    double_end(text, at)
}

/// Whether a canonical number is a float rather than an integer.
#[inline]
pub(crate) fn is_float(token: &[u8]) -> bool {
    token.iter().any(|byte| matches!(byte, b'.' | b'e'))
}

/// The double that a canonical number is or is nearest to; `None` for other text and for integers
/// beyond the largest double.
pub(crate) fn as_f64(token: &str) -> Option<f64> {
    let is_number = token.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    token.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// The end of the digits at `at`, and the end of the digits that follow one byte after them: for
/// `12.50` the offsets of the point and of the end.
#[inline]
fn two_digit_runs(text: &[u8], at: usize) -> [usize; 2] {
    if let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        const fn repeated(byte: u8) -> u128 {
            u128::from_le_bytes([byte; 16])
        }
        // The XOR maps digits to 0..=9; adding 0x76 sets the high bit of every value from 10 on.
        let values = u128::from_le_bytes(*word) ^ repeated(b'0');
        let others = (((values & repeated(0x7f)) + repeated(0x76)) | values) & repeated(0x80);
        let after_first = others & others.wrapping_sub(1);
        if after_first != 0 {
            let end = |others: u128| at + others.trailing_zeros() as usize / 8;
            return [end(others), end(after_first)];
        }
    }
    let first = digit_run(text, at);
    [first, digit_run(text, first + 1)]
}

fn digit_run(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// The slow path of [`number_end`]: parses the double, writes it and compares the spellings.
fn double_end(text: &[u8], at: usize) -> Option<usize> {
    let length = text[at..]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'))
        .unwrap_or(text.len() - at);
    is_canonical_double(&text[at..at + length]).then_some(at + length)
}

fn is_canonical_double(token: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(token) else { return false };
    let Ok(number) = token.parse::<f64>() else { return false };
    if !number.is_finite() {
        return false;
    }
    let mut canonical = String::with_capacity(32);
    write_float(number, &mut canonical);
    canonical == token
}

/// The double nearest to a number in any JSON spelling; `None` beyond the largest double.
pub(super) fn parse_double(token: &str) -> Option<f64> {
    let finite = |token: &str| token.parse().ok().filter(|number: &f64| number.is_finite());
    let Some((digits, exponent)) = token.split_once(['e', 'E']) else { return finite(token) };
    if exponent.len() < 6 {
        return finite(token);
    }
    // The standard library misreads exponents of more than five digits, and as many digits before
    // the exponent may compensate one. So the point moves in front of the first significant digit.
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0');
    let point = whole.len() as i64 - (digits.len() - significant.len()) as i64;
    // An exponent that does not fit 64 bits exceeds every possible number of digits.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    // The smallest double is above 1e-400, the largest below 1e+400.
    let exponent = exponent.saturating_add(point).clamp(-400, 400);
    finite(&format!("{sign}0.{significant}e{exponent}"))
}

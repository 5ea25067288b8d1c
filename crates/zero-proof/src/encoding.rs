//! Bytes and numbers as text: base64 and decimals, each with one spelling only.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// RFC 4648 section 4, with padding.
pub(crate) fn encode_base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Refuses missing padding, white space, and last digits with bits that encode nothing.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// RFC 4648 section 5, without padding.
pub(crate) fn encode_base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Appends the text of [`encode_base64url`].
pub(crate) fn encode_base64url_to(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The text fits.
    let length = URL_SAFE_NO_PAD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + length);
}

/// Refuses padding, white space, and last digits with bits that encode nothing.
pub(crate) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number in decimal, without sign and leading zeros.
pub(crate) fn decode_decimal(text: &str) -> Option<u64> {
    let is_decimal =
        text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if is_decimal { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{decode_base64, decode_base64url, decode_decimal, encode_base64url, encode_base64url_to};

    #[test]
    fn appended_base64_is_that_of_the_bytes() {
        for length in 0..70 {
            let bytes: Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(37)).collect();
            let mut text = b"before".to_vec();
            encode_base64url_to(&bytes, &mut text);
            assert_eq!(text, format!("before{}", encode_base64url(&bytes)).into_bytes());
        }
    }

    #[test]
    fn each_value_has_one_spelling() {
        assert_eq!(decode_base64("/+8="), Some(vec![0xff, 0xef]));
        for text in ["/+8", "/+8==", "/+9=", " /+8=", "/+8=\n", "_-8=", "=", "A"] {
            assert_eq!(decode_base64(text), None, "{text:?}");
        }
        assert_eq!(decode_base64url("_-8"), Some(vec![0xff, 0xef]));
        for text in ["_-8=", "_-9", "/+8", "_-8 ", "A"] {
            assert_eq!(decode_base64url(text), None, "{text:?}");
        }
        assert_eq!(decode_decimal("0"), Some(0));
        assert_eq!(decode_decimal("18446744073709551615"), Some(u64::MAX));
        for text in ["", "00", "01", "+1", "-1", "1 ", "18446744073709551616", "1_0", "\u{661}"] {
            assert_eq!(decode_decimal(text), None, "{text:?}");
        }
    }
}

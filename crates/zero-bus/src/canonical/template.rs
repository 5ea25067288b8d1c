//! Templates: a fast check for texts that repeat the structure of a known canonical text.
//!
//! Payloads of one event type usually differ only in their strings and numbers. A [`Template`] is a
//! canonical text with each string value and each number replaced by a slot. The bytes between the
//! slots are fixed: brackets, commas, keys, `true`, `false`, `null`.
//!
//! A text that has the same fixed bytes, and a canonical string or number in each slot, is
//! canonical: order of keys, nesting depth and punctuation are those of the known text. So matching
//! compares the fixed bytes and scans only the slots. A text that does not match may still be
//! canonical; the caller then runs the full check (`check::value_end`).
//!
//! The property test below shows that every match is canonical and ends where the full check says.

use super::number::number_end;
use super::string::string_end;

/// Limits of a template, which bound its memory to about 40 KiB.
const MAX_FIXED_BYTES: usize = 8 << 10;
const MAX_SLOTS: usize = 512;

/// The structure of a canonical text.
pub(crate) struct Template {
    segments: Vec<Segment>,
    /// The fixed bytes of all segments, as words. Each segment begins a new word.
    words: Vec<Word>,
    /// The fixed bytes after the last slot.
    suffix: Vec<u8>,
}

/// Fixed bytes and the slot after them.
struct Segment {
    fixed_bytes: usize,
    words: usize,
    slot: Slot,
}

#[derive(Clone, Copy)]
enum Slot {
    String,
    Number,
}

/// Up to eight fixed bytes. The mask is 0xff in each byte that is used.
struct Word {
    bytes: u64,
    mask: u64,
}

impl Template {
    /// The template of a canonical text; `None` if it exceeds the limits.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        let mut template = Self { segments: Vec::new(), words: Vec::new(), suffix: Vec::new() };
        let (mut segment_begin, mut at, mut fixed_bytes) = (0, 0, 0);
        while let Some(byte) = text.get(at) {
            let (end, slot) = match byte {
                b'"' => (string_end(text, at)?, Slot::String),
                b'-' | b'0'..=b'9' => (number_end(text, at)?, Slot::Number),
                _ => {
                    at += 1;
                    continue;
                }
            };
            // A string before a colon is a key, which is fixed.
            if text.get(end) != Some(&b':') {
                fixed_bytes += at - segment_begin;
                if fixed_bytes > MAX_FIXED_BYTES || template.segments.len() == MAX_SLOTS {
                    return None;
                }
                template.push(&text[segment_begin..at], slot);
                segment_begin = end;
            }
            at = end;
        }
        template.suffix.extend_from_slice(&text[segment_begin..]);
        (fixed_bytes + template.suffix.len() <= MAX_FIXED_BYTES).then_some(template)
    }

    fn push(&mut self, fixed: &[u8], slot: Slot) {
        let words = fixed.chunks(8);
        self.segments.push(Segment { fixed_bytes: fixed.len(), words: words.len(), slot });
        self.words.extend(words.map(|part| {
            let (mut bytes, mut mask) = ([0; 8], [0; 8]);
            bytes[..part.len()].copy_from_slice(part);
            mask[..part.len()].fill(0xff);
            Word { bytes: u64::from_le_bytes(bytes), mask: u64::from_le_bytes(mask) }
        }));
    }

    /// The offset after the text that begins at `at`, if that text matches the template.
    ///
    /// `None` is no verdict. The text may be canonical with another structure, or end less than
    /// eight bytes after a fixed part, where no whole word can be read.
    pub(crate) fn match_end(&self, text: &[u8], at: usize) -> Option<usize> {
        let mut at = at;
        let mut words = self.words.iter();
        for Segment { fixed_bytes, words: word_count, slot } in &self.segments {
            let mut differences = 0;
            let (text_words, _) = text.get(at..at + word_count * 8)?.as_chunks();
            for (text_word, word) in text_words.iter().zip(words.by_ref()) {
                differences |= (u64::from_le_bytes(*text_word) ^ word.bytes) & word.mask;
            }
            if differences != 0 {
                return None;
            }
            at += fixed_bytes;
            at = match slot {
                Slot::String => string_end(text, at)?,
                Slot::Number => number_end(text, at)?,
            };
        }
        text.get(at..)?.starts_with(&self.suffix).then_some(at + self.suffix.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Template;
    use crate::canonical::check::value_end;

    const TEXTS: [&str; 6] = [
        r#"{"a":1,"b":[1.5,-2e+16,"x"],"c":{"d":true,"e":null},"f":"long enough for words","g":{}}"#,
        r#"{"":"","0":0,"a\u00e9":"\u00e9","key":["",[],{"x":0.1}],"z":false}"#,
        r#"["a","b",{"c":"d"},1,2.0,-3]"#,
        r#"{"a":{"a":{"a":{"a":[[[[1]]]]}}}}"#,
        r#"{"quote\"d":"back\\slash","tab\t":"\ud83d\ude00"}"#,
        "{}",
    ];

    proptest! {
        /// A match agrees with the full check, also if more bytes follow the text.
        #[test]
        fn a_match_is_canonical_and_ends_where_the_full_check_says(
            text_index in 0..TEXTS.len(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), r#"|[0-9a-f"\\:,{}\[\].eE+\-\u{7f} \n]"#), 0..3),
            following_bytes in 0..40_usize,
        ) {
            let text = TEXTS[text_index];
            let template = Template::of(text.as_bytes()).unwrap();
            let mut edited = text.to_owned();
            for (at, replacement) in edits {
                let at = at.index(edited.len());
                if edited.is_char_boundary(at) && edited.is_char_boundary(at + 1) {
                    edited.replace_range(at..at + 1, &replacement);
                }
                if edited.is_empty() {
                    break;
                }
            }
            edited += &",".repeat(following_bytes);
            let end = template.match_end(edited.as_bytes(), 0);
            if end.is_some() {
                prop_assert_eq!(end, value_end(edited.as_bytes(), 0), "{}", edited);
            }
            let unchanged = format!("{text}{}", " ".repeat(8));
            prop_assert_eq!(template.match_end(unchanged.as_bytes(), 0), Some(text.len()));
        }
    }

    #[test]
    fn other_keys_or_another_order_do_not_match() {
        let template = Template::of(br#"{"a":1,"b":"x"}"#).unwrap();
        let matches = |text: &str| template.match_end(format!("{text}        ").as_bytes(), 0).is_some();
        assert!(matches(r#"{"a":-17.25,"b":""}"#));
        for other in
            [r#"{"b":1,"a":"x"}"#, r#"{"a":1,"c":"x"}"#, r#"{"a":1,"b":2,"c":3}"#, r#"{"a":01,"b":"x"}"#]
        {
            assert!(!matches(other), "{other}");
        }
    }
}

//! Texts of one shape: the same but for their strings and numbers, as the payloads of one kind of event mostly are. Whether
//! a text has the shape of one that is known to be canonical is told without looking at its keys, their order and their
//! depth again: where what is between the strings and numbers is the same, all of that is, too.

use super::scan;

/// Bytes between strings and numbers, and how many of these, from which on a shape is not worth its memory: up to 40 KiB.
const LONG: usize = 8 << 10;
const MANY: usize = 512;

/// What a text is but for the strings and numbers in it.
pub(crate) struct Template {
    /// What stands before each string or number, as words that are compared at once; behind the last one stands `rest`.
    steps: Vec<Step>,
    words: Vec<Word>,
    rest: Vec<u8>,
}

struct Step {
    bytes: usize,
    words: usize,
    behind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    String,
    Number,
}

/// Up to eight bytes, with ones in the mask where there are any.
struct Word {
    bytes: u64,
    mask: u64,
}

impl Template {
    /// The shape of a canonical text; `None` where it is too long to be kept.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        let mut shape = Self { steps: Vec::new(), words: Vec::new(), rest: Vec::new() };
        let (mut begin, mut at, mut kept) = (0, 0, 0);
        while let Some(byte) = text.get(at) {
            let (end, behind) = match byte {
                b'"' => (scan::string(text, at)?, Kind::String),
                b'-' | b'0'..=b'9' => (scan::number(text, at)?, Kind::Number),
                _ => {
                    at += 1;
                    continue;
                }
            };
            // A key is of the shape.
            if text.get(end) != Some(&b':') {
                kept += at - begin;
                if kept > LONG || shape.steps.len() == MANY {
                    return None;
                }
                shape.push(&text[begin..at], behind);
                begin = end;
            }
            at = end;
        }
        shape.rest.extend_from_slice(&text[begin..]);
        (kept + shape.rest.len() <= LONG).then_some(shape)
    }

    fn push(&mut self, bytes: &[u8], behind: Kind) {
        let chunks = bytes.chunks(8);
        self.steps.push(Step { bytes: bytes.len(), words: chunks.len(), behind });
        self.words.extend(chunks.map(|chunk| {
            let (mut bytes, mut mask) = ([0; 8], [0; 8]);
            bytes[..chunk.len()].copy_from_slice(chunk);
            mask[..chunk.len()].fill(0xff);
            Word { bytes: u64::from_le_bytes(bytes), mask: u64::from_le_bytes(mask) }
        }));
    }

    /// The end of the text of this shape that begins at a place, which is canonical then. `None` says nothing: it may be of
    /// another shape, or stand too close to the end to be compared.
    pub(crate) fn find(&self, text: &[u8], at: usize) -> Option<usize> {
        let mut at = at;
        let mut words = self.words.iter();
        for Step { bytes, words: count, behind } in &self.steps {
            let mut differences = 0;
            let (chunks, _) = text.get(at..at + count * 8)?.as_chunks();
            for (chunk, word) in chunks.iter().zip(words.by_ref()) {
                differences |= (u64::from_le_bytes(*chunk) ^ word.bytes) & word.mask;
            }
            if differences != 0 {
                return None;
            }
            at += bytes;
            at = match behind {
                Kind::String => scan::string(text, at)?,
                Kind::Number => scan::number(text, at)?,
            };
        }
        text.get(at..)?.starts_with(&self.rest).then_some(at + self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Template, scan};

    const TEXTS: [&str; 6] = [
        r#"{"a":1,"b":[1.5,-2e+16,"x"],"c":{"d":true,"e":null},"f":"long enough for words","g":{}}"#,
        r#"{"":"","0":0,"a\u00e9":"\u00e9","key":["",[],{"x":0.1}],"z":false}"#,
        r#"["a","b",{"c":"d"},1,2.0,-3]"#,
        r#"{"a":{"a":{"a":{"a":[[[[1]]]]}}}}"#,
        r#"{"quote\"d":"back\\slash","tab\t":"\ud83d\ude00"}"#,
        "{}",
    ];

    proptest! {
        /// What is found to be of a shape is canonical, and ends there, as who reads all of it says; behind it stands more.
        #[test]
        fn what_is_of_a_shape_is_canonical(
            which in 0..TEXTS.len(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), r#"|[0-9a-f"\\:,{}\[\].eE+\-\u{7f} \n]"#), 0..3),
            behind in 0..40_usize,
        ) {
            let text = TEXTS[which];
            let shape = Template::of(text.as_bytes()).unwrap();
            let mut changed = text.to_owned();
            for (at, with) in changes {
                let at = at.index(changed.len());
                if changed.is_char_boundary(at) && changed.is_char_boundary(at + 1) {
                    changed.replace_range(at..at + 1, &with);
                }
                if changed.is_empty() {
                    break;
                }
            }
            changed += &",".repeat(behind);
            let found = shape.find(changed.as_bytes(), 0);
            if found.is_some() {
                prop_assert_eq!(found, scan::value(changed.as_bytes(), 0), "{}", changed);
            }
            let same = format!("{text}{}", " ".repeat(8));
            prop_assert_eq!(shape.find(same.as_bytes(), 0), Some(text.len()));
        }
    }

    #[test]
    fn another_key_or_order_is_another_shape() {
        let shape = Template::of(br#"{"a":1,"b":"x"}"#).unwrap();
        let finds = |text: &str| shape.find(format!("{text}        ").as_bytes(), 0).is_some();
        assert!(finds(r#"{"a":-17.25,"b":""}"#));
        for other in
            [r#"{"b":1,"a":"x"}"#, r#"{"a":1,"c":"x"}"#, r#"{"a":1,"b":2,"c":3}"#, r#"{"a":01,"b":"x"}"#]
        {
            assert!(!finds(other), "{other}");
        }
    }
}

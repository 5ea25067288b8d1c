//! Canonical text laid out for people.

/// Adds line breaks, an indent of two spaces per level, and a space after each colon.
pub(super) fn pretty(canonical: &str) -> String {
    let mut out = String::with_capacity(canonical.len() * 2);
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = canonical.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(char::from(byte));
            match byte {
                b'\\' => out.extend(bytes.next().map(char::from)),
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => {
                in_string = true;
                out.push('"');
            }
            b'{' | b'[' => {
                out.push(char::from(byte));
                if let Some(closing) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(char::from(closing));
                } else {
                    depth += 1;
                    new_line(depth, &mut out);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                new_line(depth, &mut out);
                out.push(char::from(byte));
            }
            b',' => {
                out.push(',');
                new_line(depth, &mut out);
            }
            b':' => out.push_str(": "),
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn new_line(depth: usize, out: &mut String) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

//! A JSON text with line breaks, as it came otherwise: numbers keep all their
//! digits.

/// The text indented, cut where more than `most` characters would be shown, and
/// whether it was. What is no JSON comes out as it is, or nearly.
pub(super) fn indent(json: &str, most: usize) -> (String, bool) {
    let mut out = Indented::default();
    let mut rest = json.trim().chars().peekable();
    let (mut quoted, mut escaped) = (false, false);
    while let Some(c) = rest.next() {
        if out.length >= most {
            return (out.text, true);
        }
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    out.depth += 1;
                    out.line();
                }
            }
            '}' | ']' => {
                out.depth = out.depth.saturating_sub(1);
                out.line();
                out.push(c);
            }
            ',' => {
                out.push(c);
                out.line();
            }
            ':' => {
                out.push(c);
                out.push(' ');
            }
            c if c.is_ascii_whitespace() => {}
            c => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    (out.text, false)
}

#[derive(Default)]
struct Indented {
    text: String,
    length: usize,
    depth: usize,
}

impl Indented {
    /// Deepest indent that is drawn.
    const DEEPEST: usize = 32;

    fn push(&mut self, c: char) {
        self.text.push(c);
        self.length += 1;
    }

    fn line(&mut self) {
        self.push('\n');
        for _ in 0..self.depth.min(Self::DEEPEST) * 2 {
            self.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_gets_lines_and_keeps_its_digits_and_texts() {
        let json = r#"{ "a":123456789012345678901234567890.10,"b":[1,{}, [ ]],"c":"x\",{\\" }"#;
        let (text, cut) = indent(json, 10_000);
        assert_eq!(
            text,
            "{\n  \"a\": 123456789012345678901234567890.10,\n  \"b\": [\n    1,\n    {},\n    []\n  ],\n  \
             \"c\": \"x\\\",{\\\\\"\n}"
        );
        assert!(!cut);
    }

    #[test]
    fn a_long_or_deep_document_is_cut() {
        let (text, cut) = indent(&"[".repeat(100_000), 4000);
        assert!(cut && text.len() < 4100, "{}", text.len());
        assert_eq!(indent("\"é\"", 3), ("\"é\"".to_owned(), false));
        assert_eq!(indent("no {json", 99).0, "no{\n  json");
    }
}

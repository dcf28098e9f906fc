//! Pieces of a JSON text as they were written: an event is kept as it came,
//! numbers of any length included.
//!
//! Texts have been read as JSON before; what is none gives nothing, or pieces
//! that mean nothing, and no panic.

/// Deepest nesting that is put in order; `serde_json` reads no deeper.
const DEEPEST: usize = 256;

/// The values of a list.
pub(super) fn elements(text: &str) -> Option<Vec<&str>> {
    let mut rest = Pieces::inside(text, b'[')?;
    let mut elements = Vec::new();
    while let Some(value) = rest.value() {
        elements.push(value);
        rest.skip(b',');
    }
    Some(elements)
}

/// The value of an object's member; of several, the last.
pub(super) fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut found = None;
    for (key, value) in members(text)? {
        if key.contains('\\') {
            if serde_json::from_str::<String>(key).is_ok_and(|key| key == name) {
                found = Some(value);
            }
        } else if bare(key) == name {
            found = Some(value);
        }
    }
    found
}

/// The text without space and with members in order of their names: the same
/// for the same document, however it was written down. Numbers stay as they
/// were written: none is rounded, so that no two documents become one.
pub(super) fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    write_canonical(text.trim(), &mut out, 0);
    out
}

fn write_canonical(text: &str, out: &mut String, depth: usize) {
    if depth > DEEPEST {
        out.push_str(text);
        return;
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut members: Vec<(String, &str)> = members(text)
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (canonical_string(key), value))
                .collect();
            // Stable: of two members of one name the order is theirs.
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&key);
                out.push(':');
                write_canonical(value, out, depth + 1);
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for (index, value) in elements(text).unwrap_or_default().into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(value, out, depth + 1);
            }
            out.push(']');
        }
        Some(b'"') => out.push_str(&canonical_string(text)),
        _ => out.push_str(text),
    }
}

/// A string with its quotes, without escapes that need not be.
fn canonical_string(quoted: &str) -> String {
    if !quoted.contains('\\') {
        return quoted.to_owned();
    }
    let read = serde_json::from_str::<String>(quoted);
    read.and_then(|read| serde_json::to_string(&read))
        .unwrap_or_else(|_| quoted.to_owned())
}

/// A string without its quotes.
fn bare(quoted: &str) -> &str {
    let inner = quoted.strip_prefix('"').unwrap_or(quoted);
    inner.strip_suffix('"').unwrap_or(inner)
}

/// Names, with their quotes, and values of an object.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = Pieces::inside(text, b'{')?;
    let mut members = Vec::new();
    while let Some(key) = rest.value() {
        rest.skip(b':');
        members.push((key, rest.value()?));
        rest.skip(b',');
    }
    Some(members)
}

/// What is left of a text, piece by piece.
struct Pieces<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Pieces<'t> {
    /// What follows the bracket with which the text begins.
    fn inside(text: &'t str, bracket: u8) -> Option<Self> {
        let mut pieces = Self { text, at: 0 };
        pieces.space();
        (pieces.peek() == Some(bracket)).then(|| Self {
            text,
            at: pieces.at + 1,
        })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn skip(&mut self, mark: u8) {
        self.space();
        if self.peek() == Some(mark) {
            self.at += 1;
        }
    }

    /// The next value; `None` at the end of what it is in.
    fn value(&mut self) -> Option<&'t str> {
        self.space();
        let start = self.at;
        match self.peek()? {
            b'}' | b']' | b',' | b':' => return None,
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            _ => {
                while !matches!(
                    self.peek(),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
                ) {
                    self.at += 1;
                }
            }
        }
        self.text.get(start..self.at)
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += match byte {
                b'\\' => 2,
                _ => 1,
            };
            if byte == b'"' {
                break;
            }
        }
        self.at = self.at.min(self.text.len());
    }

    fn nested(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn pieces_are_as_they_were_written() {
        let text =
            " [ {\"a\": 1.50, \"b\\\"]\": [1,{}]} ,12345678901234567890123 , \"x,]\\\\\",null]";
        assert_eq!(
            elements(text).unwrap(),
            [
                "{\"a\": 1.50, \"b\\\"]\": [1,{}]}",
                "12345678901234567890123",
                "\"x,]\\\\\"",
                "null"
            ]
        );
        assert_eq!(elements("[]").unwrap(), [""; 0]);
        let object = "{\"a\":1, \"d\\u0061ta\" : {\"x\": 1e2} }";
        assert_eq!(member(object, "data"), Some("{\"x\": 1e2}"));
        assert_eq!(member(object, "b"), None);
        assert_eq!(member("[]", "b"), None);
    }

    #[test]
    fn one_document_has_one_canonical_text() {
        let same = [
            "{\"b\":[1,{\"y\":\"\\u00fc\",\"x\":null}],\"a\":\"/\"}",
            " { \"a\" : \"\\/\", \"b\" : [ 1 , { \"x\":null, \"y\":\"ü\" } ] } ",
        ];
        assert_eq!(canonical(same[0]), canonical(same[1]));
        for (one, other) in [
            (
                "{\"n\":100000000000000000001}",
                "{\"n\":100000000000000000002}",
            ),
            ("[1,2]", "[2,1]"),
            ("{\"a\":\"1\"}", "{\"a\":1}"),
        ] {
            assert_ne!(canonical(one), canonical(other));
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn rubbish_is_survived(text in any::<String>(), marks in "[\\[\\]{}\",:\\\\ 1a]{0,40}") {
            for text in [text, marks] {
                canonical(&text);
                elements(&text);
                member(&text, "a");
            }
        }

        #[test]
        fn the_canonical_text_is_the_same_document(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let canonical = canonical(&pretty);
            prop_assert_eq!(&serde_json::from_str::<Value>(&canonical).unwrap(), &value);
            let compact = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(super::canonical(&compact), canonical);
        }

        #[test]
        fn elements_are_the_values_of_a_list(values in prop::collection::vec(json(), 0..6)) {
            let pretty = serde_json::to_string_pretty(&values).unwrap();
            let read: Vec<Value> = elements(&pretty)
                .unwrap()
                .into_iter()
                .map(|text| serde_json::from_str(text).unwrap())
                .collect();
            prop_assert_eq!(read, values);
        }
    }
}

//! Words of others about an upstream or a copy, without what may be contents.
//!
//! Messages quote what they are about: keys, and pieces of an answer that is not
//! what was asked for. That may be shown to whoever may read the entries, and to
//! nobody else; it is never logged.

use std::iter::Peekable;
use std::str::Chars;

/// Longest piece of a refusal that is told, in characters.
const MOST_OF_REFUSAL: usize = 100;

/// The words without what stands in quotes, and with the beginning only of what an
/// upstream answered instead.
pub fn without_contents(words: &str) -> String {
    let mut told = String::with_capacity(words.len());
    let mut chars = words.chars().peekable();
    while let Some(c) = chars.next() {
        told.push(c);
        if matches!(c, '"' | '`') {
            skip(&mut chars, c);
            told.push('…');
            told.push(c);
        }
    }
    cut_refusal(told)
}

/// Passes over the rest of a quotation; one that is not ended goes to the end.
fn skip(chars: &mut Peekable<Chars<'_>>, quote: char) {
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if c == quote => return,
            _ => {}
        }
    }
}

/// Cuts what follows `answered 502: `.
fn cut_refusal(mut told: String) -> String {
    let Some(at) = told.find("answered ") else {
        return told;
    };
    let Some((status, words)) = told[at + "answered ".len()..].split_once(": ") else {
        return told;
    };
    if status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit()) {
        return told;
    }
    let begin = told.len() - words.len();
    if let Some((end, _)) = words.char_indices().nth(MOST_OF_REFUSAL) {
        told.truncate(begin + end);
        told.push('…');
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_pieces_of_answers_are_left_out() {
        for (words, told) in [
            (
                r#"http://h:1: answered the key "a\"b" behind "z", where keys are in order up to Some("q")"#,
                r#"http://h:1: answered the key "…" behind "…", where keys are in order up to Some("…")"#,
            ),
            (
                "invalid type: string \"secret\", expected i64 at line 1 column 9",
                "invalid type: string \"…\", expected i64 at line 1 column 9",
            ),
            (
                "unknown variant `secret`, cut \"off",
                "unknown variant `…`, cut \"…\"",
            ),
            ("no whole answer within 30s", "no whole answer within 30s"),
            ("answered 502: down", "answered 502: down"),
        ] {
            assert_eq!(without_contents(words), told);
        }
    }

    #[test]
    fn of_a_refusal_the_beginning_is_told() {
        let told = without_contents(&format!("http://h: answered 500: {}", "é".repeat(300)));
        assert_eq!(
            told,
            format!("http://h: answered 500: {}…", "é".repeat(100))
        );
    }
}

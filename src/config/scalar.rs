//! A value as somebody wrote it, before its key's form is known.

use std::fmt;
use toml_edit::{Item, Value};

/// Longest piece of a written value that a message repeats, in characters.
const SHOWN: usize = 100;

/// A value as written in the file, the environment or as a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// Anything that no key takes, as it is to be shown.
    Other(String),
}

impl Scalar {
    /// Takes what stands after `key =`.
    pub(super) fn of_item(item: &Item) -> Self {
        match item {
            Item::Value(Value::String(text)) => Self::Text(text.value().clone()),
            Item::Value(Value::Integer(number)) => Self::Integer(*number.value()),
            Item::Value(Value::Boolean(flag)) => Self::Boolean(*flag.value()),
            Item::Value(Value::Array(_)) => Self::Other("a list".to_owned()),
            Item::Value(Value::InlineTable(_)) | Item::Table(_) => {
                Self::Other("a table".to_owned())
            }
            Item::ArrayOfTables(_) => Self::Other("a list of tables".to_owned()),
            other => Self::Other(other.to_string().trim().to_owned()),
        }
    }

    /// What the text of an environment variable can mean, likeliest first:
    /// there are no quotes in it that tell a number from a text.
    pub(super) fn of_variable(text: &str) -> Vec<Self> {
        let mut meanings = vec![Self::Text(text.to_owned())];
        meanings.extend(text.trim().parse().ok().map(Self::Integer));
        meanings.extend(text.trim().parse().ok().map(Self::Boolean));
        meanings
    }

    /// As TOML.
    pub(super) fn literal(&self) -> String {
        match self {
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
            Self::Other(shown) => shown.clone(),
        }
    }
}

/// As a message repeats it: quoted, bounded, on one line.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quote, text) = match self {
            Self::Text(text) => ("\"", text.clone()),
            other => ("", other.literal()),
        };
        let mut shown: String = text.chars().take(SHOWN).flat_map(printable).collect();
        if text.chars().count() > SHOWN {
            shown.push('…');
        }
        write!(f, "{quote}{shown}{quote}")
    }
}

/// Control characters are escaped: a message goes to a terminal.
fn printable(c: char) -> impl Iterator<Item = char> {
    let (escaped, plain) = if c.is_control() {
        (Some(c.escape_default()), None)
    } else {
        (None, Some(c))
    };
    escaped.into_iter().flatten().chain(plain)
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Scalar {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl From<f64> for Scalar {
    fn from(number: f64) -> Self {
        Self::Other(format!("{number:?}"))
    }
}

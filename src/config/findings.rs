//! What is wrong with a configuration, and where: one line a mistake.

use std::fmt;

/// Where the effective value of a key comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// The configuration file.
    File {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// An environment variable, which wins over the file.
    Environment {
        /// Its name as set.
        variable: String,
    },
    /// The control channel of the running server, which wins over all others.
    Control,
}

impl Origin {
    /// The kind of place in a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Environment { .. } => "environment",
            Self::Control => "control",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line, .. } => write!(f, "file line {line}"),
            Self::Environment { variable } => f.write_str(variable),
            Self::Control => f.write_str("control"),
        }
    }
}

/// One remark on a configuration.
///
/// The message says what was written and what is allowed; secrets are never
/// repeated in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// File as named by the caller; `None` when an environment variable is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column in characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The environment variable to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Whether a value set by control is to blame.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// Path of the key (`batches.repoll.min`, `ledgers[1].url`; lists count from 0,
    /// and go by name where control is to blame: `ledgers.trace.url`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// Something that makes a configuration unusable.
pub type ConfigError = Finding;

/// Something that works but deserves a look.
pub type Warning = Finding;

impl Finding {
    /// Order of reading: by place in the file, then what is in the environment,
    /// then what was set by control.
    pub(super) fn order(&self) -> (bool, bool, Option<usize>, Option<usize>) {
        let environment = self.variable.is_some();
        (self.control, environment, self.line, self.column)
    }
}

/// `highwater.toml:12:17: batches.poll_interval: "5 parsecs" is not …`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.control {
            f.write_str("control: ")?;
        } else if let Some(variable) = &self.variable {
            write!(f, "{variable}: ")?;
        } else if let Some(file) = &self.file {
            f.write_str(file)?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
                if let Some(column) = self.column {
                    write!(f, ":{column}")?;
                }
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Every mistake in a configuration; never empty. Displayed one per line, in
/// the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    #[serde(skip)]
    warnings: Vec<Warning>,
}

impl ConfigErrors {
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(Finding::order);
        Self {
            errors,
            warnings: Vec::new(),
        }
    }

    /// Adds what deserves a look besides.
    pub(super) fn with_warnings(mut self, mut warnings: Vec<Warning>) -> Self {
        warnings.sort_by_key(Finding::order);
        self.warnings = warnings;
        self
    }

    /// The mistakes, in the order of the file.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// What deserves a look besides, as far as it was found out; not displayed.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Turns byte offsets of a text into lines and columns.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// Line and column (in characters), both from 1.
    pub(super) fn locate(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = self
            .text
            .get(start..offset)
            .map_or(offset - start, |before| before.chars().count());
        (line, column + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let lines = Lines::of("a\nüü = 1\n");
        assert_eq!(lines.locate(0), (1, 1));
        assert_eq!(lines.locate(2), (2, 1));
        assert_eq!(lines.locate(7), (2, 4));
        assert_eq!(lines.locate(3), (2, 2), "inside a character");
        assert_eq!(lines.locate(999), (3, 1));
        assert_eq!(Lines::of("").locate(0), (1, 1));
    }

    #[test]
    fn serialises_without_what_is_not_known() {
        let finding = Finding {
            file: Some("f.toml".to_owned()),
            line: Some(2),
            column: None,
            variable: None,
            control: false,
            key: None,
            message: "no".to_owned(),
        };
        let errors = ConfigErrors::new(vec![finding]);
        assert_eq!(
            serde_json::to_string(&errors).unwrap(),
            r#"[{"file":"f.toml","line":2,"message":"no"}]"#
        );
        assert_eq!(errors.to_string(), "f.toml:2: no");
    }
}

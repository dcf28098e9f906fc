//! Words of a peer as they may be shown: on one line, bounded, without secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use std::borrow::Cow;

/// What a peer was told and must not be shown where it repeats it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets {
    /// Each in the forms in which it travels, the longest first.
    forms: Vec<SecretString>,
}

impl Secrets {
    /// Adds one: as it is, as base64, as a form and as JSON write it.
    pub(crate) fn add(&mut self, secret: &SecretString) {
        let bare = secret.expose_secret().trim();
        if bare.is_empty() {
            return;
        }
        let json = serde_json::Value::from(bare).to_string();
        for form in [
            bare.to_owned(),
            STANDARD.encode(bare),
            utf8_percent_encode(bare, NON_ALPHANUMERIC).to_string(),
            url::form_urlencoded::byte_serialize(bare.as_bytes()).collect(),
            json.trim_matches('"').to_owned(),
            // As PHP writes it.
            json.trim_matches('"').replace('/', "\\/"),
        ] {
            let known = |other: &SecretString| other.expose_secret() == form;
            if !form.is_empty() && !self.forms.iter().any(known) {
                self.forms.push(form.into());
            }
        }
        self.forms
            .sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    /// Words with `***` where a secret stood.
    pub(crate) fn hide<'a>(&self, words: &'a str) -> Cow<'a, str> {
        let mut hidden = Cow::Borrowed(words);
        for form in &self.forms {
            if hidden.contains(form.expose_secret()) {
                hidden = hidden.replace(form.expose_secret(), "***").into();
            }
        }
        hidden
    }
}

impl From<Option<&SecretString>> for Secrets {
    fn from(secret: Option<&SecretString>) -> Self {
        let mut secrets = Self::default();
        if let Some(secret) = secret {
            secrets.add(secret);
        }
        secrets
    }
}

/// Words on one line, without control characters, at most `most` characters
/// and an ellipsis.
pub(crate) fn one_line(words: &str, most: usize) -> String {
    let mut line = String::new();
    let mut shown = 0;
    let mut space = false;
    for c in words.chars() {
        if c.is_whitespace() || c.is_control() {
            space = shown > 0;
            continue;
        }
        if shown + usize::from(space) >= most {
            line.push('…');
            break;
        }
        if space {
            line.push(' ');
            shown += 1;
            space = false;
        }
        line.push(c);
        shown += 1;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_in_which_it_may_come_back() {
        let mut secrets = Secrets::default();
        secrets.add(&SecretString::from("s3/cr\"et key+"));
        secrets.add(&SecretString::from(" "));
        for echoed in [
            "s3/cr\"et key+",
            "s3%2Fcr%22et+key%2B",
            "s3%2Fcr%22et%20key%2B",
            "s3/cr\\\"et key+",
            "s3\\/cr\\\"et key+",
            &STANDARD.encode("s3/cr\"et key+"),
        ] {
            let hidden = secrets.hide(echoed);
            assert_eq!(hidden, "***", "{echoed}");
        }
        assert_eq!(secrets.hide("nothing"), "nothing");
        assert!(!format!("{secrets:?}").contains("s3"));
    }

    #[test]
    fn a_secret_that_begins_as_another_is_hidden_whole() {
        let mut secrets = Secrets::default();
        secrets.add(&SecretString::from("abcdefgh"));
        secrets.add(&SecretString::from("abcdefghijkl"));
        assert_eq!(secrets.hide("abcdefghijkl abcdefgh"), "*** ***");
    }
}

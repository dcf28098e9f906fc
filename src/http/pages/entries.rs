//! Entries of a dataset or a replica on its page: those whose key begins so, a
//! page at a time.

use super::format::{cut, encode};
use super::replica_card::{dataset_href, replica_href};
use crate::flows::replicas::{
    Chunk, Content, ContentKind, DatasetName, Entry, FetchError, Fetching, LONGEST_DATASET_KEY,
    Next,
};
use crate::http::api::datasets::is_shown;
use crate::http::api::read_query;
use crate::http::problem::{Answer, FieldError, Problem};
use crate::http::state::Http;
use actix_web::HttpRequest;
use maud::{Markup, html};
use serde::Deserialize;

/// Entries of a page.
const ROWS: usize = 50;
/// Most characters shown of a value.
const VALUE_CHARS: usize = 300;

/// Which entries are looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Looking {
    /// Their keys begin so.
    #[serde(default)]
    prefix: String,
    /// And are behind this one.
    #[serde(default)]
    after: String,
}

/// Entries that are looked at.
pub(super) struct Looked {
    kind: ContentKind,
    name: String,
    looking: Looking,
    seen: Seen,
}

enum Seen {
    /// They take a token of their own.
    Hidden,
    /// There is no content yet.
    Nothing,
    /// These, and whether there are more.
    Rows(Vec<Entry>, bool),
}

/// What a request asks for.
///
/// # Errors
/// A parameter is wrong.
pub(super) fn read(request: &HttpRequest) -> Answer<Looking> {
    let looking: Looking = read_query(request)?;
    let wrong = |text: &str| text.len() > LONGEST_DATASET_KEY || text.contains('\0');
    let fields = [("prefix", &looking.prefix), ("after", &looking.after)];
    let errors: Vec<FieldError> = fields
        .into_iter()
        .filter(|(_, text)| wrong(text))
        .map(|(field, text)| {
            let message = format!(
                "{:?} is no beginning of a key; expected at most {LONGEST_DATASET_KEY} bytes, without NUL",
                cut(text, 60)
            );
            FieldError::new(field, message)
        })
        .collect();
    if errors.is_empty() {
        Ok(looking)
    } else {
        Err(Problem::invalid_query(errors).into())
    }
}

impl Looked {
    /// Reads them.
    ///
    /// # Errors
    /// The database does not answer.
    pub(super) async fn at(
        http: &Http,
        kind: ContentKind,
        name: &str,
        looking: Looking,
    ) -> Answer<Self> {
        let shown = is_shown(&http.settings(), kind, name);
        let seen = match DatasetName::parse(name).filter(|_| shown) {
            None => Seen::Hidden,
            Some(name) => look(http, Content { kind, name }, looking.clone()).await?,
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
            looking,
            seen,
        })
    }

    fn href(&self, after: &str) -> String {
        let mut href = match self.kind {
            ContentKind::Dataset => dataset_href(&self.name),
            ContentKind::Replica => replica_href(&self.name),
        };
        let parts = [("prefix", self.looking.prefix.as_str()), ("after", after)];
        for (name, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
            href.push(if href.contains('?') { '&' } else { '?' });
            href.push_str(&format!("{name}={}", encode(value)));
        }
        href
    }

    /// By which entries are looked for.
    pub(super) fn form(&self) -> Markup {
        let whole = match self.kind {
            ContentKind::Dataset => dataset_href(&self.name),
            ContentKind::Replica => replica_href(&self.name),
        };
        html! {
            @if !matches!(self.seen, Seen::Hidden) {
                form.filters method="get" action=(whole) {
                    div.wide { label for="prefix" { "Entries whose keys begin with" }
                        input #prefix name="prefix" autocomplete="off" spellcheck="false" value=(self.looking.prefix); }
                    div.actions { button type="submit" { "Show" } a href=(whole) { "All" } }
                }
            }
        }
    }

    /// The entries.
    pub(super) fn rows(&self) -> Markup {
        let (rows, more) = match &self.seen {
            Seen::Hidden => {
                return html! { p.empty { "Its entries are not shown here: they are read over HTTP, with the token that they take." } };
            }
            Seen::Nothing => return html! { p.empty { "There are none yet." } },
            Seen::Rows(rows, more) => (rows, *more),
        };
        html! {
            @if rows.is_empty() {
                p.empty { @if self.looking.prefix.is_empty() && self.looking.after.is_empty() { "There are none." } @else { "No key begins so." } }
            } @else {
                div.scroll { table.cards {
                    thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } } }
                    tbody { @for entry in rows { tr {
                        th scope="row" { code title=(cut(&entry.key, 200)) { (cut(&entry.key, 100)) } }
                        td.words data-label="Value" { code { (cut(&entry.value, VALUE_CHARS)) } }
                    } } }
                } }
            }
            nav.paging aria-label="Pages of the list" {
                @if !self.looking.after.is_empty() { a href=(self.href("")) { "← First" } }
                @if let Some(last) = rows.last().filter(|_| more) { a rel="next" href=(self.href(&last.key)) { "More →" } }
            }
        }
    }
}

/// Keys that begin so stand together, behind the one that is the beginning
/// itself.
async fn look(http: &Http, content: Content, looking: Looking) -> Answer<Seen> {
    let datasets = &http.state.datasets;
    let read = datasets.read(&http.runtime, |contents| async move {
        let Looking { prefix, after } = looking;
        let mut rows = Vec::new();
        if after.is_empty()
            && !prefix.is_empty()
            && let Some(value) = contents.entry(&content, &prefix).await?
        {
            let key = prefix.clone();
            rows.push(Entry { key, value });
        }
        let chunk = Chunk::Key {
            after: after.max(prefix.clone()),
            until: None,
            limit: ROWS as u64,
        };
        let fetching = Fetching { chunk, since: None };
        let fetched = contents.fetch(&content, &fetching).await?;
        let behind = fetched.entries.len();
        let matching = fetched.entries.into_iter();
        rows.extend(matching.take_while(|entry| entry.key.starts_with(&prefix)));
        let all = rows.len() >= behind && matches!(fetched.next, Some(Next::Key(_)));
        let more = all || rows.len() > ROWS;
        rows.truncate(ROWS);
        Ok((rows, more))
    });
    match read.await {
        Ok((rows, more)) => Ok(Seen::Rows(rows, more)),
        Err(FetchError::Missing) => Ok(Seen::Nothing),
        Err(error) => Err(error.into()),
    }
}

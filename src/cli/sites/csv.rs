//! Sites as CSV: the first line names the columns, each other line is a site.
//!
//! A line is read by itself, so that a stray quote costs one line and not the
//! rest of the file: fields hold no line ends.

use crate::cli::output;
use crate::flows::sites::{SiteEntry, check_label_name};
use serde_json::{Map, Value};

/// Most columns of a file.
const MOST_COLUMNS: usize = 1000;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    SiteId,
    AppId,
    Url,
    BatchCode,
    Enabled,
    Labels,
    Label(String),
}

/// The columns of a file, from its first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns(Vec<Column>);

impl Columns {
    /// Reads the line that names them. `has_app`: whether sites that name no
    /// app are of one anyway.
    ///
    /// # Errors
    /// A column is unknown, is there twice, or is missing.
    pub(super) fn read(line: &str, has_app: bool) -> Result<Self, String> {
        const KNOWN: &str = "site_id, app_id, url, batch_code, enabled, labels, label.NAME";
        let mut columns = Vec::new();
        // Spreadsheets mark their files.
        let fields = fields(line.trim_start_matches('\u{feff}'))?;
        if fields.len() > MOST_COLUMNS {
            return Err(format!("{} columns; at most {MOST_COLUMNS}", fields.len()));
        }
        for name in &fields {
            let column = match name.trim() {
                "site_id" => Column::SiteId,
                "app_id" => Column::AppId,
                "url" => Column::Url,
                "batch_code" => Column::BatchCode,
                "enabled" => Column::Enabled,
                "labels" => Column::Labels,
                other => match other.strip_prefix("label.") {
                    Some(label) => {
                        check_label_name(label).map_err(|problem| problem.to_string())?;
                        Column::Label(label.to_owned())
                    }
                    None => {
                        let shown: String = other.chars().take(60).collect();
                        let why = if other.contains([';', '\t']) {
                            "commas separate the columns"
                        } else {
                            "the first line has to name the columns"
                        };
                        return Err(format!(
                            "\"{}\" is not a column: {why}, which are {KNOWN}",
                            shown.escape_debug()
                        ));
                    }
                },
            };
            if columns.contains(&column) {
                return Err(format!("column {} is there twice", name.trim()));
            }
            columns.push(column);
        }
        for (column, name) in [(Column::SiteId, "site_id"), (Column::Url, "url")] {
            if !columns.contains(&column) {
                return Err(format!("there is no column {name}"));
            }
        }
        if !has_app && !columns.contains(&Column::AppId) {
            return Err("there is no column app_id, and no --app given".to_owned());
        }
        Ok(Self(columns))
    }

    /// Reads a site; an empty field counts as left out.
    ///
    /// # Errors
    /// Says what is wrong with the line.
    pub(super) fn site(&self, line: &str) -> Result<SiteEntry, String> {
        let fields = fields(line)?;
        if fields.len() != self.0.len() {
            let quotes = line.bytes().filter(|byte| *byte == b'"').count();
            let why = if quotes % 2 == 1 {
                " (a quote is not closed: a field holds no line end)"
            } else {
                ""
            };
            return Err(format!(
                "{} where the first line names {}{why}",
                output::count(fields.len(), "field", "fields"),
                output::count(self.0.len(), "column", "columns")
            ));
        }
        let mut site = SiteEntry::default();
        for (column, text) in self.0.iter().zip(fields) {
            let given = !text.is_empty();
            match column {
                Column::SiteId => site.site_id = text,
                Column::AppId => site.app_id = given.then_some(text),
                Column::Url => site.url = text,
                Column::BatchCode if given => site.batch_code = Some(number(&text)?),
                Column::Enabled if given => site.enabled = Some(flag(&text)?),
                Column::Labels if given => {
                    let labels: Map<String, Value> = serde_json::from_str(&text)
                        .map_err(|_| "labels: expected a JSON object".to_owned())?;
                    site.labels.get_or_insert_default().extend(labels);
                }
                Column::Label(name) => {
                    let labels = site.labels.get_or_insert_default();
                    if given {
                        labels.insert(name.clone(), Value::String(text));
                    }
                }
                Column::BatchCode | Column::Enabled | Column::Labels => {}
            }
        }
        Ok(site)
    }
}

fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(line.len().clamp(64, 8192))
        .from_reader(line.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => Ok(record.iter().map(str::to_owned).collect()),
        Some(Err(_)) | None => Err("not a line of CSV".to_owned()),
    }
}

fn number(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        format!(
            "batch_code: \"{}\" is not a whole number",
            shown.escape_debug()
        )
    })
}

fn flag(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" => Ok(true),
        "false" | "f" | "no" | "0" => Ok(false),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(format!(
                "enabled: \"{}\" is neither true nor false",
                shown.escape_debug()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn columns_come_in_any_order_and_labels_in_both_forms() {
        let header = "\u{feff}url, label.region,site_id,labels,enabled,batch_code";
        let columns = Columns::read(header, true).unwrap();
        let site = columns
            .site("https://s.example/a,eu,s1,\"{\"\"size\"\":3}\",f,17")
            .unwrap();
        assert_eq!((&*site.site_id, site.batch_code), ("s1", Some(17)));
        assert_eq!((site.app_id, site.enabled), (None, Some(false)));
        let labels = Value::Object(site.labels.unwrap());
        assert_eq!(labels, json!({"region": "eu", "size": 3}));
    }

    #[test]
    fn an_empty_field_counts_as_left_out() {
        let columns = Columns::read("site_id,app_id,url,batch_code,enabled,labels", false);
        let site = columns.unwrap().site("s,,http://s.example,,,").unwrap();
        let left_out = (site.app_id, site.batch_code, site.enabled, site.labels);
        assert_eq!(left_out, (None, None, None, None));
    }

    #[test]
    fn a_wrong_first_line_says_what_is_expected() {
        for (line, words) in [
            ("site_id;url;app_id", "commas separate"),
            ("site_id,ur,app_id", "\"ur\" is not a column"),
            ("site_id,app_id", "no column url"),
            ("site_id,url", "no --app given"),
            ("site_id,url,app_id,url", "twice"),
            ("site_id,url,app_id,label.a b", "label's name"),
            ("{\"site_id\":\"s\"}", "is not a column"),
        ] {
            let error = Columns::read(line, false).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        let columns = Columns::read("site_id,url,batch_code,enabled,labels", true).unwrap();
        for (line, words) in [
            ("s,http://s.example", "2 fields where"),
            ("\"s,http://s.example,a", "1 field where"),
            ("\"s,http://s.example,a", "a quote is not closed"),
            ("s,http://s.example,x,,", "batch_code: \"x\""),
            ("s,http://s.example,,perhaps,", "enabled: \"perhaps\""),
            ("s,http://s.example,,,[]", "JSON object"),
        ] {
            let error = columns.site(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "[^\n\r]{0,200}") {
            let columns = Columns::read("site_id,url,label.a,enabled", true).unwrap();
            drop(columns.site(&line));
            drop(Columns::read(&line, true));
        }
    }
}

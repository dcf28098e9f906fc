//! The keys of `[[apps]]`.

use super::control::KEYS_TRAVEL;
use super::credentials::credential;
use super::reader::Reader;
use super::section::Section;
use super::site_forms::{app_id, app_url, some_text};
use super::site_settings::AppSettings;
use crate::flows::sites::AppName;
use std::collections::BTreeMap;
use std::path::Path;
use toml_edit::{Item, TableLike};

/// Reads all apps; `None` when something is wrong.
pub(super) fn apps<'d>(
    reader: &mut Reader<'d>,
    root: &'d dyn TableLike,
    base: &Path,
) -> Option<Vec<AppSettings>> {
    let mut ids = BTreeMap::new();
    let mut index = 0;
    let apps = reader.list(root, "apps", bare_id, |section| {
        let app = app(section, base, index, &mut ids);
        index += 1;
        app
    });
    apps.into_iter().collect()
}

/// The id as the environment has it.
fn bare_id(table: &dyn TableLike) -> Option<String> {
    bare(table.get("id")?)
}

/// An app id without `app:`, where it is one.
pub(super) fn bare(id: &Item) -> Option<String> {
    Some(AppName::parse(id.as_str()?).ok()?.to_string())
}

fn app(
    s: &mut Section<'_, '_>,
    base: &Path,
    index: usize,
    ids: &mut BTreeMap<AppName, usize>,
) -> Option<AppSettings> {
    let example = "the id of an app, e.g. id = \"org.civicrm.myapp\"";
    let id = s.required("id", example, app_id);
    if let Some(id) = &id {
        s.named(id.as_str(), &["id"]);
        if let Some(first) = ids.get(id) {
            let message =
                format!("\"{id}\" is the id of apps[{first}] already; expected an id of its own");
            s.fault(&["id"], message);
        } else {
            ids.insert(id.clone(), index);
        }
    }
    let title = s.optional("title", some_text);
    s.not_by_control("url", KEYS_TRAVEL);
    let url = s.optional("url", app_url);
    let api_key = credential(s, "api_key", "api_key_file", base);
    let site_key = credential(s, "site_key", "site_key_file", base);
    let (id, title) = (id?, title?);
    Some(AppSettings {
        title: title.unwrap_or_else(|| id.to_string()),
        url: url?,
        api_key: api_key?,
        site_key: site_key?,
        id,
    })
}

//! Who may import whom: the table in ARCHITECTURE.md, checked against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The table: module and what it may import.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text
        .split("| module | may import |")
        .nth(1)
        .expect("the table of imports");
    let words = |cell: &str| -> BTreeSet<String> {
        cell.split(',')
            .map(|word| word.trim().trim_matches('`').to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
            (
                cells[0].trim().trim_matches('`').to_owned(),
                words(cells[1]),
            )
        })
        .collect()
}

/// All Rust files in a folder and below it.
pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Every `crate::NAME` in the production part of every source file.
fn imports() -> Vec<(PathBuf, String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_path_buf();
        let module = relative
            .iter()
            .next()
            .unwrap()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_owned();
        let in_tests = relative
            .iter()
            .any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs");
        if module == "lib" || module == "main" || in_tests {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in production
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for part in line.split("crate::").skip(1) {
                let name: String = part
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                found.push((relative.clone(), module.clone(), name));
            }
        }
    }
    found
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let allowed = allowed();
    let mut wrong = BTreeSet::new();
    for (file, module, name) in imports() {
        let may = allowed
            .get(&module)
            .unwrap_or_else(|| panic!("{module} is not in ARCHITECTURE.md's table"));
        if name != module && !name.is_empty() && !may.contains(&name) {
            wrong.insert(format!("{} imports crate::{name}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "ARCHITECTURE.md does not allow:\n{}",
        wrong.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn the_architecture_allows_nothing_that_nobody_imports() {
    let used: BTreeSet<(String, String)> = imports()
        .into_iter()
        .map(|(_, module, name)| (module, name))
        .collect();
    for (module, may) in allowed() {
        for name in may {
            assert!(
                used.contains(&(module.clone(), name.clone())),
                "nothing in {module} imports {name} any more"
            );
        }
    }
}

#[test]
fn actors_do_not_name_each_other_and_flows_know_no_actix() {
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src.join("actors"), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("mod.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        // In an actor's own folder `super` is the actor.
        let own = file.parent() != Some(&src.join("actors"));
        let up = if own {
            "use super::super::"
        } else {
            "use super::"
        };
        for line in text
            .lines()
            .filter(|line| line.starts_with(up) || line.contains("crate::actors"))
        {
            let helpers = ["follow_settings", "on_each"];
            let names = line
                .trim_start_matches("use super::")
                .trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(
                names
                    .split(',')
                    .all(|name| helpers.contains(&name.trim().trim_matches(['{', '}', ' ']))),
                "{}: {line}",
                file.display()
            );
        }
    }
    let mut flows = Vec::new();
    sources(&src.join("flows"), &mut flows);
    for file in flows {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("actix"), "{} knows actix", file.display());
    }
}

//! The keys of `[jobs.handler.…]`: what a job does on a site.
//!
//! What is sent where, and which program runs, is closed to control; programs
//! and their arguments are closed to the environment too.

use super::control::WORK;
use super::credentials::credential;
use super::forms::{DAY, duration, flag, joined, size, word};
use super::section::Section;
use super::sections::BODY;
use super::site_forms::{
    check_pointer, check_template, civicrm_version, civicrm_word, header, json_pointer,
    sent_header, some_text, status, template, user,
};
use super::site_settings::{
    CivicrmHandler, CivicrmVersion, CodeHandler, CommandHandler, Expect, HandlerSettings,
    HttpHandler,
};
use super::structured::json;
use crate::flows::sites::{Template, shortened};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// The handlers there are.
const HANDLERS: [&str; 4] = ["http", "civicrm", "command", "code"];

/// Bounds of the time that a try may take.
const TIME: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

/// Reads the one handler of a job; `None` when something is wrong.
pub(super) fn handler(s: &mut Section<'_, '_>, base: &Path) -> Option<HandlerSettings> {
    let choice = "[jobs.handler.http], [jobs.handler.civicrm], [jobs.handler.command] or [jobs.handler.code]";
    if s.table.is_none_or(|table| table.get("handler").is_none()) {
        s.known.push("handler");
        s.fault(&["handler"], format!("missing; expected one of {choice}"));
        return None;
    }
    s.group("handler", "{ http = { path = \"/sync\" } }", |s| {
        s.known.extend(HANDLERS);
        let table = s.table?;
        let named: Vec<&str> = HANDLERS
            .into_iter()
            .filter(|name| table.contains_key(name))
            .collect();
        // All are read, so that all mistakes are told.
        let mut read = None;
        for name in &named {
            read = match *name {
                "http" => http(s, base).map(HandlerSettings::Http),
                "civicrm" => civicrm(s).map(HandlerSettings::Civicrm),
                "command" => command(s, base).map(HandlerSettings::Command),
                _ => code(s).map(HandlerSettings::Code),
            };
        }
        match named.as_slice() {
            [_] => read,
            [] => {
                let message = format!("no handler is named; expected one of {choice}");
                whole(s, message);
                None
            }
            several => {
                let message = format!(
                    "{} are named, and a job has one handler; keep one, and give each other a job of its own",
                    several.join(" and ")
                );
                whole(s, message);
                None
            }
        }
    })
}

/// A mistake of the whole group.
fn whole(s: &mut Section<'_, '_>, message: String) {
    let path = format!("{}.{}", s.name, s.group.trim_end_matches('.'));
    let finding = s.reader.finding(&s.origin, &path, message);
    s.reader.errors.push(finding);
}

/// Says of keys that control may not set them; they are read later.
fn closed(s: &mut Section<'_, '_>, keys: &[&str]) {
    for key in keys {
        s.not_by_control(key, WORK);
    }
}

fn http(s: &mut Section<'_, '_>, base: &Path) -> Option<HttpHandler> {
    s.group("http", "{ path = \"/sync\" }", |s| {
        closed(s, &["method", "path", "body", "user", "result"]);
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = s.get("method", "GET", word(methods.map(|name| (name, name))));
        let path = s.get("path", "", template);
        check_path(s, path.as_deref());
        let example = "a table of names and values, e.g. { Accept = \"application/json\" }";
        let headers = s.pairs("headers", WORK, example, sent_header);
        let body = s.optional("body", template);
        let token = credential(s, "token", "token_file", base);
        let user = s.optional("user", user);
        let password = credential(s, "password", "password_file", base);
        let basic = match (user, password) {
            (Some(Some(user)), Some(Some(password))) => Some(Some((user, password))),
            (Some(None), Some(None)) => Some(None),
            (None, _) | (_, None) => None,
            (Some(Some(_)), Some(None)) => {
                let message = "a user without a password; set password_file as well, or leave the user out";
                s.fault(&["user"], message.to_owned());
                None
            }
            (Some(None), Some(Some(_))) => {
                let message = "a password without a user; set user as well, or leave the password out";
                s.fault(&["password_file", "password"], message.to_owned());
                None
            }
        };
        if let (Some(Some(_)), Some(Some(_))) = (&token, &basic) {
            let message = "a token and a user are named, and a request has one authorization; keep token_file, or user and password_file";
            s.fault(&["token_file", "token"], message.to_owned());
        }
        let timeout = s.get("timeout", "10s", duration(TIME));
        let max_response_bytes = s.get("max_response_bytes", "1MiB", size(BODY));
        let expect = expect(s);
        let result = s.optional("result", json_pointer);
        Some(HttpHandler {
            method: method?.to_owned(),
            path: path?,
            headers: distinct(s, headers?)?,
            body: body?,
            token: token?,
            basic: basic?,
            timeout: timeout?,
            max_response_bytes: max_response_bytes?,
            expect: expect?,
            result: result?,
        })
    })
}

/// The path is appended to the site's address as it stands.
fn check_path(s: &mut Section<'_, '_>, path: Option<&str>) {
    if let Some(path) = path
        && !path.is_empty()
        && !path.starts_with(['/', '?'])
    {
        let path = shortened(path);
        let message = format!(
            "\"{path}\" begins with neither \"/\" nor \"?\", and it is appended to the site's address as it stands, so that https://site.example becomes https://site.example{path}"
        );
        s.warn(&["path"], message);
    }
}

/// Headers are one whatever the case of their names.
fn distinct(
    s: &mut Section<'_, '_>,
    headers: Vec<(String, String)>,
) -> Option<Vec<(String, String)>> {
    let twice = headers.iter().enumerate().find(|(index, (name, _))| {
        let mut before = headers.iter().take(*index);
        before.any(|(other, _)| other.eq_ignore_ascii_case(name))
    });
    if let Some((_, (name, _))) = twice {
        let message = format!("{name} is there twice, in other letters; keep one");
        s.fault(&["headers"], message);
        return None;
    }
    Some(headers)
}

fn expect(s: &mut Section<'_, '_>) -> Option<Expect> {
    s.group("expect", "{ status = \"2xx\" }", |s| {
        closed(s, &["status", "body_contains", "body_lacks"]);
        let status = s.get("status", "2xx", status);
        let example = "a table of names and what the values have to contain, e.g. { Content-Type = \"json\" }";
        let headers = s.pairs("headers", WORK, example, header);
        let body_contains = s.optional("body_contains", some_text);
        let body_lacks = s.optional("body_lacks", some_text);
        let example = "a table of JSON pointers and values, e.g. { \"/is_error\" = 0 }";
        let json = s.pairs("json", WORK, example, |pointer, value| {
            check_pointer(pointer)?;
            json(value)
        });
        Some(Expect {
            status: status?,
            headers: headers?,
            body_contains: body_contains?,
            body_lacks: body_lacks?,
            json: json?,
        })
    })
}

fn civicrm(s: &mut Section<'_, '_>) -> Option<CivicrmHandler> {
    let example = "{ entity = \"System\", action = \"check\" }";
    s.group("civicrm", example, |s| {
        closed(s, &["version", "path", "entity", "action", "keep_result"]);
        let version = s.get("version", 4, civicrm_version);
        let usual = match version {
            Some(CivicrmVersion::V3) => "/civicrm/ajax/rest",
            _ => "/civicrm/ajax/api4",
        };
        let path = s.get("path", usual, template);
        check_path(s, path.as_deref());
        let entity = s.required(
            "entity",
            "an entity, e.g. entity = \"System\"",
            civicrm_word,
        );
        let action = s.required("action", "an action, e.g. action = \"check\"", civicrm_word);
        let params = s.object("params", WORK, "a table, e.g. { limit = 25 }");
        let timeout = s.get("timeout", "30s", duration(TIME));
        let max_response_bytes = s.get("max_response_bytes", "1MiB", size(BODY));
        let keep_result = s.get("keep_result", true, flag);
        Some(CivicrmHandler {
            version: version?,
            path: path?,
            entity: entity?,
            action: action?,
            params: params?,
            timeout: timeout?,
            max_response_bytes: max_response_bytes?,
            keep_result: keep_result?,
        })
    })
}

fn command(s: &mut Section<'_, '_>, base: &Path) -> Option<CommandHandler> {
    let example =
        "a list of the program and its arguments, e.g. [\"/usr/local/bin/visit\", \"{site_id}\"]";
    s.group("command", "{ args = [\"/usr/local/bin/visit\"] }", |s| {
        let args = s.texts("args", WORK, example, |text| {
            if text.contains('\0') {
                return Err("holds a NUL, which no argument can".to_owned());
            }
            check_template(text)
        });
        let mut args = args.map(Option::unwrap_or_default);
        if let Some(args) = &mut args {
            match args.first_mut().filter(|program| !program.is_empty()) {
                None => s.fault(
                    &["args"],
                    format!("no program is named; expected {example}"),
                ),
                Some(program) if !Template::parse(program).is_ok_and(|read| read.is_plain()) => {
                    let message = format!(
                        "the program is \"{}\", in which nothing is filled in; expected one program for all sites, and what differs in its arguments",
                        shortened(program)
                    );
                    s.fault(&["args"], message);
                }
                // Else it would depend on where the server was started.
                Some(program) if program.contains('/') => {
                    *program = joined(base, program).to_string_lossy().into_owned();
                    warn_of_program(s, program);
                }
                Some(program) => warn_of_program(s, program),
            }
        }
        let timeout = s.get("timeout", "60s", duration(TIME));
        let max_output_bytes = s.get("max_output_bytes", "64KiB", size(BODY));
        Some(CommandHandler {
            args: args?,
            timeout: timeout?,
            max_output_bytes: max_output_bytes?,
        })
    })
}

/// Says of a program that it cannot be started as things are; it may be
/// installed later, so this is no mistake.
fn warn_of_program(s: &mut Section<'_, '_>, program: &str) {
    let search = std::env::var_os("PATH").unwrap_or_default();
    if let Some(problem) = program_problem(program, &search) {
        let message = format!(
            "the program \"{}\" {problem}; until it can be started, the job visits no site",
            shortened(program)
        );
        s.warn(&["args"], message);
    }
}

/// Why a program cannot be started, where that can be told; a name without `/`
/// is looked for in the folders of `search` (`PATH`).
fn program_problem(program: &str, search: &OsStr) -> Option<&'static str> {
    let executable = |path: &Path| {
        let found = path.metadata().ok().filter(Metadata::is_file)?;
        Some(found.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return match executable(Path::new(program)) {
            Some(true) => None,
            Some(false) => Some("may not be executed; chmod +x it"),
            None => Some("does not exist, or is no file"),
        };
    }
    let mut folders = std::env::split_paths(search);
    let found = folders.any(|folder| executable(&folder.join(program)) == Some(true));
    (!found).then_some("is in no folder of PATH")
}

fn code(s: &mut Section<'_, '_>) -> Option<CodeHandler> {
    s.group("code", "{ timeout = \"60s\" }", |s| {
        let timeout = s.get("timeout", "60s", duration(TIME));
        Some(CodeHandler { timeout: timeout? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions, write};

    #[test]
    fn a_program_that_cannot_be_started_is_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("visit");
        let path = file.to_str().unwrap();
        let search = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        let problem = |program: &str| program_problem(program, &search).unwrap_or("none");
        assert!(problem(path).contains("does not exist"));
        assert!(problem("visit").contains("no folder of PATH"));
        write(&file, "#!/bin/sh\n").unwrap();
        set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(problem(path).contains("may not be executed"));
        assert!(problem("visit").contains("no folder of PATH"));
        set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!((problem(path), problem("visit")), ("none", "none"));
        assert!(problem(folder.path().to_str().unwrap()).contains("no file"));
    }
}

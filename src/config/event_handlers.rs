//! The keys of `[subscriptions.handler.…]`: what is done with a relevant event.
//!
//! What is sent where, and which program runs, is closed to control; programs
//! and their arguments are closed to the environment too.

use super::control::EVENTS;
use super::credentials::{Missing, token};
use super::event_forms::{handler_url, signing_secret};
use super::event_settings::{EventCode, EventCommand, EventHandlerSettings, EventHttp, SecretOf};
use super::forms::{DAY, duration, word};
use super::section::Section;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// The handlers there are, but for the word `table`.
const HANDLERS: [&str; 3] = ["http", "command", "code"];

/// Bounds of the time that a try may take.
const TIME: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;

/// Reads the one handler of a subscription; `None` when something is wrong.
pub(super) fn event_handler(s: &mut Section<'_, '_>, base: &Path) -> Option<EventHandlerSettings> {
    let choice = "handler = \"table\", [subscriptions.handler.http], [subscriptions.handler.command] or [subscriptions.handler.code]";
    let table = word([("table", ())]);
    let read = s.word_or_table("handler", Some("table"), EVENTS, |written| {
        table(written).map_err(|_| format!("{written} is not a handler; expected one of {choice}"))
    });
    if read?.is_some() {
        return Some(EventHandlerSettings::Table);
    }
    s.group("handler", "{ http = { url = \"http://…\" } }", |s| {
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
                "http" => http(s, base).map(EventHandlerSettings::Http),
                "command" => command(s, base).map(EventHandlerSettings::Command),
                _ => code(s).map(EventHandlerSettings::Code),
            };
        }
        let problem = match named.as_slice() {
            [_] => return read,
            [] => format!("no handler is named; expected one of {choice}"),
            several => format!(
                "{} are named, and a subscription has one handler, whose effects are in order; keep one",
                several.join(" and ")
            ),
        };
        let path = format!("{}.handler", s.name);
        let finding = s.reader.finding(&s.origin, &path, problem);
        s.reader.errors.push(finding);
        None
    })
}

fn http(s: &mut Section<'_, '_>, base: &Path) -> Option<EventHttp> {
    s.group("http", "{ url = \"http://127.0.0.1:9000/process\" }", |s| {
        s.not_by_control("url", EVENTS);
        let example = "where events are posted, e.g. url = \"http://127.0.0.1:9000/process\"";
        let url = s.required("url", example, handler_url);
        let secret = signing_secret(s, "secret", "secret_file", base);
        let token = token(s, "token", "token_file", base, Missing::Refused);
        let timeout = s.get("timeout", "10s", duration(TIME));
        Some(EventHttp {
            url: url?,
            secret: secret.secret,
            token: token.token.map(SecretOf),
            timeout: timeout?,
        })
    })
}

fn command(s: &mut Section<'_, '_>, base: &Path) -> Option<EventCommand> {
    let example = "a list of the program and its arguments, e.g. [\"/usr/local/bin/process\"]";
    s.group("command", "{ args = [\"/usr/local/bin/process\"] }", |s| {
        let args = s.texts("args", EVENTS, example, |text| {
            if text.contains('\0') {
                return Err("holds a NUL, which no argument can".to_owned());
            }
            Ok(())
        });
        let mut args = args.map(Option::unwrap_or_default);
        if let Some(args) = &mut args {
            match args.first_mut().filter(|program| !program.is_empty()) {
                None => s.fault(
                    &["args"],
                    format!("no program is named; expected {example}"),
                ),
                // Else it would depend on where the server was started.
                Some(program) if program.contains('/') => {
                    *program = base.join(&*program).to_string_lossy().into_owned();
                }
                Some(_) => {}
            }
        }
        let timeout = s.get("timeout", "60s", duration(TIME));
        Some(EventCommand {
            args: args?,
            timeout: timeout?,
        })
    })
}

fn code(s: &mut Section<'_, '_>) -> Option<EventCode> {
    s.group("code", "{ timeout = \"60s\" }", |s| {
        let timeout = s.get("timeout", "60s", duration(TIME));
        Some(EventCode { timeout: timeout? })
    })
}

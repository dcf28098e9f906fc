//! How a log line looks: one entry, one line, whatever its values hold.

use crate::config::{LogFormat, LogSettings};
use std::fmt;
use std::io::IsTerminal;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The outputs of lines, each with its own look.
pub(super) type Lines = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

/// The outputs that the settings name.
pub(super) fn outputs(settings: &LogSettings, file: Option<NonBlocking>) -> Lines {
    let mut outputs = Lines::new();
    if settings.stderr {
        let ansi = std::io::stderr().is_terminal();
        outputs.push(output(std::io::stderr, ansi, settings.format));
    }
    outputs.extend(file.map(|file| output(file, false, settings.format)));
    outputs
}

fn output<W>(writer: W, ansi: bool, format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let base = lines::layer().with_writer(writer).with_ansi(ansi);
    match format {
        LogFormat::Text => base
            .event_format(OneLine(lines::format().with_ansi(ansi)))
            .boxed(),
        LogFormat::Json => base.json().flatten_event(true).boxed(),
    }
}

/// Text, with the line breaks inside an entry escaped.
struct OneLine(Format);

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut escaped = Escaped {
            into: &mut writer,
            breaks: 0,
        };
        self.0
            .format_event(context, Writer::new(&mut escaped), event)?;
        writer.write_char('\n')
    }
}

/// Escapes line breaks, but for those that end the whole.
struct Escaped<'e, 'w> {
    into: &'e mut Writer<'w>,
    breaks: usize,
}

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(['\n', '\r']) {
            let line = part.trim_end_matches(['\n', '\r']);
            if !line.is_empty() || part.ends_with('\r') {
                for _ in 0..std::mem::take(&mut self.breaks) {
                    self.into.write_str("\\n")?;
                }
            }
            self.into.write_str(line)?;
            match part.as_bytes().last() {
                Some(b'\n') => self.breaks += 1,
                Some(b'\r') => self.into.write_str("\\r")?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(ansi: bool, format: LogFormat, log: impl FnOnce()) -> String {
        let page = Page::default();
        let writer = page.clone();
        let layer = output(move || writer.clone(), ansi, format);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_entry_is_one_line_whatever_it_holds() {
        let log = || {
            tracing::warn!(error = %"first\nsecond\r\n\n third\n", "a message\nof two");
            tracing::warn!("next");
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = written(false, format, log);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 2, "{text}");
            assert!(lines[0].contains("a message\\nof two"), "{text}");
            assert!(lines[0].contains("first\\nsecond\\r\\n\\n third"), "{text}");
            assert!(lines[1].contains("next"), "{text}");
        }
    }

    #[test]
    fn a_terminal_gets_colours_and_a_file_does_not() {
        let log = || tracing::warn!(ledger.name = "trace", "a message");
        assert!(written(true, LogFormat::Text, log).contains("\u{1b}["));
        let plain = written(false, LogFormat::Text, log);
        assert!(!plain.contains('\u{1b}'), "{plain}");
        assert!(
            plain.contains("a message ledger.name=\"trace\"\n"),
            "{plain}"
        );
    }
}

//! Where log lines go. Names of fields are in [`flow::fields`]; who logs what is for the steps to say.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// One JSON object a line on standard output, the event's and its span's fields in it: for the cloud's log search.
    Json,
    /// Short lines on standard error, for people.
    Compact,
}

/// Why nothing will be logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("{filter:?} is no log filter; a level such as info or debug works, or info,flow=debug")]
    Filter {
        /// What was given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else has begun to log in this process.
    #[error("logging has begun already")]
    Begun(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins to log what `filter` lets through, once in a process.
pub fn init(lines: Lines, filter: &str) -> Result<(), TelemetryError> {
    let writer = match lines {
        Lines::Json => BoxMakeWriter::new(std::io::stdout),
        Lines::Compact => BoxMakeWriter::new(std::io::stderr),
    };
    subscriber_of(lines, filter, writer)?.try_init().map_err(TelemetryError::Begun)
}

fn subscriber_of(
    lines: Lines,
    filter: &str,
    writer: BoxMakeWriter,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match lines {
        Lines::Json => {
            Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
        }
        Lines::Compact => {
            use std::io::IsTerminal;
            Box::new(builder.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::fields;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(lines: Lines, filter: &str) -> String {
        let page = Page::default();
        let writer = BoxMakeWriter::new({
            let page = page.clone();
            move || page.clone()
        });
        let subscriber = subscriber_of(lines, filter, writer).expect("a subscriber");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("poll", { fields::INSTANCE } = 42);
            span.in_scope(|| {
                tracing::info!({ fields::RECORDS } = 3, "poll committed");
                tracing::debug!("nothing found");
            });
        });
        let bytes = page.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_json_line_holds_the_fields_of_the_event_and_its_span() {
        let text = logged(Lines::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON line");
        assert_eq!((&line["message"], &line["level"]), (&"poll committed".into(), &"INFO".into()));
        assert_eq!((&line["records"], &line["span"]["instance"]), (&3.into(), &42.into()));
    }

    #[test]
    fn the_filter_decides_and_a_wrong_one_is_told() {
        let text = logged(Lines::Compact, "debug");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("poll committed") && text.contains("instance=42"), "{text}");
        assert_eq!(logged(Lines::Compact, "warn"), "");
        let error = subscriber_of(Lines::Json, "flow=loudly", BoxMakeWriter::new(std::io::sink));
        assert!(matches!(error.err(), Some(TelemetryError::Filter { .. })));
    }
}

//! Where log lines go. Names of fields are in [`flow::fields`]; who logs what is for the steps to say.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::metrics;

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// One JSON object a line on standard output, the event's and its span's fields in it: for the cloud's log search.
    Json,
    /// Short lines on standard error, for people.
    Compact,
}

/// The reason why nothing will be logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("{filter:?} is no log filter; a level such as info or debug works, or info,flow=debug")]
    Filter {
        /// The filter that was given.
        filter: String,
        /// The cause.
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
    subscriber(lines, filter, writer)?.try_init().map_err(TelemetryError::Begun)
}

/// The subscriber that [`init`] installs, for a test that reads the lines.
pub fn subscriber(
    lines: Lines,
    filter: &str,
    writer: BoxMakeWriter,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError> {
    // In the cloud a metric is a log line: whatever is wanted of the log, it is written.
    let whole = match lines {
        Lines::Json => format!("{filter},{}=debug", metrics::TARGET),
        Lines::Compact => filter.to_owned(),
    };
    let filter =
        EnvFilter::try_new(whole).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match lines {
        Lines::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(true).with_span_list(false);
            Box::new(builder.map_event_format(MetricsApart).finish())
        }
        Lines::Compact => {
            use std::io::IsTerminal;
            Box::new(builder.compact().with_target(false).with_ansi(std::io::stderr().is_terminal()).finish())
        }
    })
}

/// Writes a line of metrics as it is, since CloudWatch wants its members at the top, and all others as `.0` does.
struct MetricsApart<F>(F);

impl<S, N, F> FormatEvent<S, N> for MetricsApart<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() != metrics::TARGET {
            return self.0.format_event(context, writer, event);
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

/// The message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::fields;
    use flow::testing::Page;

    fn logged(lines: Lines, filter: &str) -> String {
        let page = Page::default();
        let writer = BoxMakeWriter::new({
            let page = page.clone();
            move || page.clone()
        });
        let subscriber = super::subscriber(lines, filter, writer).expect("a subscriber");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("poll", { fields::INSTANCE } = 42);
            span.in_scope(|| {
                tracing::info!({ fields::RECORDS } = 3, "poll committed");
                tracing::debug!("nothing found");
            });
        });
        page.text()
    }

    #[test]
    fn a_json_line_holds_the_fields_of_the_event_and_its_span() {
        let text = logged(Lines::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON line");
        assert_eq!((&line["message"], &line["level"]), (&"poll committed".into(), &"INFO".into()));
        assert_eq!((&line["records"], &line["span"]["instance"]), (&3.into(), &42.into()));
    }

    #[test]
    fn a_line_of_metrics_is_written_whatever_the_filter_and_as_it_is() {
        let page = Page::default();
        let writer = BoxMakeWriter::new({
            let page = page.clone();
            move || page.clone()
        });
        let subscriber = super::subscriber(Lines::Json, "error", writer).expect("a subscriber");
        let mut numbers = metrics::Metrics::default();
        numbers.count(metrics::POLLS, 3);
        let at = "2026-01-05T09:00:00Z".parse().expect("a time");
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!("poll");
            span.in_scope(|| numbers.write(at));
        });
        let text = page.text();
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON line");
        assert_eq!(line, numbers.line("pollux", at));
    }

    #[test]
    fn the_filter_decides_and_a_wrong_one_is_reported() {
        let text = logged(Lines::Compact, "debug");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("poll committed") && text.contains("instance=42"), "{text}");
        assert_eq!(logged(Lines::Compact, "warn"), "");
        let error = super::subscriber(Lines::Json, "flow=loudly", BoxMakeWriter::new(std::io::sink));
        assert!(matches!(error.err(), Some(TelemetryError::Filter { .. })));
    }
}

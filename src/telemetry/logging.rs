//! Log lines: to standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{LogFormat, Settings};

/// The environment variable that overrides the level of the file.
pub const VARIABLE: &str = "PGDROVER_LOG";

/// Starts logging as the settings say; `PGDROVER_LOG` overrides their level.
///
/// The first call in a process decides; later ones change nothing (tests run several daemons).
pub fn init(settings: &Settings) {
    init_at(settings, None);
}

/// As [`init`], but a level that the command line gave overrides both.
pub fn init_at(settings: &Settings, flag: Option<&str>) {
    let variable = std::env::var(VARIABLE).ok().filter(|v| !v.is_empty());
    let level = flag.or(variable.as_deref()).unwrap_or(&settings.level);
    let (filter, problem) = match filter(level) {
        Ok(filter) => (filter, None),
        Err(problem) => (EnvFilter::new("info"), Some(problem)),
    };
    // Colours help a person and spoil a file.
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    start(settings.format, filter, colour, std::io::stderr);
    if let Some(problem) = problem {
        tracing::warn!(level, problem, "logging at level info");
    }
}

/// Warns of each connection that a server ends, in words of its own; control tells the same
/// better. A filter that names it brings it back.
const QUIET: &str = "deadpool=off";

/// Reads a level or a filter; the error is for people.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let parsed = EnvFilter::builder().parse(format!("{QUIET},{level}"));
    parsed.map_err(|error| {
        format!(
            "{error}: give error, warn, info, debug or trace, \
             or a filter such as info,pgdrover::control=debug"
        )
    })
}

fn start<W>(format: LogFormat, filter: EnvFilter, colour: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour);
    let outcome = match format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => {
            let json = subscriber.json().flatten_event(true).finish();
            tracing::subscriber::set_global_default(json)
        }
    };
    if outcome.is_err() {
        tracing::debug!("logging is started already");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_a_filter_is_read() {
        for level in ["error", "info", "trace", "info,pgdrover::control=debug"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        let error = filter("pgdrover=loud").unwrap_err();
        assert!(error.contains("give error, warn"), "{error}");
    }
}

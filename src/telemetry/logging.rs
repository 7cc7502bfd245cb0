//! Log lines: to standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
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
///
/// # Errors
///
/// When it is neither. EnvFilter itself takes a lone word that is no level for the name of a
/// module, and would then log nothing.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    // With one of these characters it is a directive, which the parser below judges.
    let word = |part: &str| !part.contains(['=', '[']);
    let wrong =
        |part: &str| word(part) && (part.is_empty() || part.parse::<LevelFilter>().is_err());
    let problem = match level.split(',').map(str::trim).find(|part| wrong(part)) {
        Some(part) => format!("\"{part}\" is not a level"),
        None => match EnvFilter::builder().parse(format!("{QUIET},{level}")) {
            Ok(filter) => return Ok(filter),
            Err(error) => error.to_string(),
        },
    };
    Err(format!(
        "{problem}: give error, warn, info, debug or trace, \
         or a filter such as info,pgdrover::control=debug"
    ))
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
        for level in ["loud", "info,loud", "pgdrover=loud", ""] {
            let error = filter(level).unwrap_err();
            assert!(error.contains("give error, warn"), "{level}: {error}");
        }
    }
}

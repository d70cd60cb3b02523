//! How does it tell what it does? Log lines on standard error, JSON or for people.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Begins logging for the whole process. A second call changes nothing.
///
/// # Errors
/// When the level is none.
pub(crate) fn init(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|_| {
        ConfigError(format!(
            "log.level is {:?}; it must be error, warn, info, debug or trace, or per module",
            config.level
        ))
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that somebody in this process logs already, as in tests: theirs stays.
    let _ = match config.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Human => lines.with_target(false).try_init(),
    };
    Ok(())
}

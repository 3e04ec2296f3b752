//! The configuration: what a file says, under what the command line says.
//!
//! A key that is not known is an error, with the one that was probably meant.

pub(crate) mod hint;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{queues, rooms};

pub(crate) use units::{ByteSize, Span, span};

/// A file longer than this is none of ours.
const MAX_BYTES: u64 = 4 << 20;

/// What a file says. What is left out is `None`, or nothing.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to listen.
    pub(crate) listen: Option<SocketAddr>,
    /// The data folder.
    pub(crate) data: Option<PathBuf>,
    /// Whether queues are made by configuring them alone: a message for another is refused.
    pub(crate) strict_queues: bool,
    /// What clients may do in which rooms.
    #[serde(rename = "room")]
    pub(crate) rooms: rooms::Rules,
    /// What clients may do with which queues, and what these allow.
    #[serde(rename = "queue")]
    pub(crate) queues: queues::Rules,
    /// Which events become messages of which queues.
    #[serde(rename = "route")]
    pub(crate) routes: Vec<queues::Route>,
    /// What is put into them again and again.
    #[serde(rename = "schedule")]
    pub(crate) schedules: queues::Schedules,
}

/// What is wrong with the text of a configuration: where, what, and perhaps what was meant.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", .0.to_string().trim_end(), hint::of(.0.message()))]
pub(crate) struct ConfigError(#[from] toml::de::Error);

impl Config {
    /// Reads TOML.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        Ok(toml::from_str(text)?)
    }

    /// Reads a file. Paths in it are relative to where it is.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("the configuration {}", path.display());
        let size = std::fs::metadata(path).with_context(named)?.len();
        if size > MAX_BYTES {
            anyhow::bail!("{} has {size} bytes; it may have {MAX_BYTES}", named());
        }
        let text = std::fs::read_to_string(path).with_context(named)?;
        let mut config = Self::parse(&text).with_context(named)?;
        if let (Some(data), Some(folder)) = (&mut config.data, path.parent()) {
            *data = folder.join(&*data);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_says_nothing() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_says_where_it_is_and_what_was_meant() {
        for (text, line, meant) in [
            ("lisen = '127.0.0.1:1'", "line 1", "did you mean `listen`?"),
            ("[[rooms]]\nmatch = 'a'", "line 1", "did you mean `room`?"),
            ("[[room]]\nmatch = 'a'\n\njion = 'anyone'", "line 4", "did you mean `join`?"),
            ("[[room]]\nmatch = 'a'\njoin = 'anyon'", "line 3", "did you mean `anyone`?"),
            ("[[room]]\nmatch = 'a'\ndurable = { max_ages = '7d' }", "line 3", "did you mean `max_age`?"),
        ] {
            let said = Config::parse(text).unwrap_err().to_string();
            assert!(said.contains(line) && said.ends_with(meant), "{said}");
        }
        let said = Config::parse("zebra = 1").unwrap_err().to_string();
        assert!(said.contains("unknown field `zebra`") && !said.contains("did you mean"), "{said}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("posthaste.toml");
        std::fs::write(&file, "data = 'kept'\nlisten = '127.0.0.1:7'").unwrap();
        let config = Config::read(&file).unwrap();
        assert_eq!(config.data, Some(folder.path().join("kept")));
        assert_eq!(config.listen, Some(([127, 0, 0, 1], 7).into()));
        let error = Config::read(&folder.path().join("no.toml")).unwrap_err();
        assert!(format!("{error:#}").contains("no.toml"), "{error:#}");
    }
}

//! The data folder: everything the server keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use posthaste_backend_embedded::{Config, EmbeddedStore, OpenError};

use crate::cli::Common;

/// Where it is if nobody says.
const DEFAULT: &str = "./posthaste-data";

/// Opens the data folder that the command line names, else the configuration, else the usual one.
///
/// With `--salvage` a damaged one is opened without what is missing, which is told on standard error.
/// `strict_queues`: only configuring makes queues.
pub(crate) fn open(
    options: &Common,
    configured: Option<PathBuf>,
    strict_queues: bool,
) -> anyhow::Result<Arc<EmbeddedStore>> {
    let path = options.data.clone().or(configured).unwrap_or_else(|| DEFAULT.into());
    let config = || Config { makes_queues: !strict_queues, ..Config::new(&path) };
    let store = match EmbeddedStore::open(config()) {
        Err(OpenError::Damaged { detail, .. }) if options.salvage => {
            let (store, losses) = EmbeddedStore::salvage(config()).map_err(remedy)?;
            eprintln!("posthaste: {} was damaged ({detail}); it is used without what is missing:", path.display());
            for loss in losses {
                eprintln!("posthaste:   {loss}");
            }
            store
        }
        opened => opened.map_err(remedy)?,
    };
    Ok(Arc::new(store))
}

/// Opens this data folder.
pub(crate) fn open_at(path: &Path) -> anyhow::Result<Arc<EmbeddedStore>> {
    EmbeddedStore::open(Config::new(path)).map(Arc::new).map_err(remedy)
}

/// What is wrong with a folder, what to do about it, and with which option.
fn remedy(error: OpenError) -> anyhow::Error {
    let option = match error {
        OpenError::Damaged { .. } => {
            " (`posthaste restore`, or --salvage: copy the folder first, what cannot be read is gone afterwards)"
        }
        OpenError::Format { .. } => "",
        _ => " (--data names the data folder)",
    };
    anyhow!("{error}{option}")
}

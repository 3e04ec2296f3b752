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
pub(crate) fn open(options: &Common, configured: Option<PathBuf>) -> anyhow::Result<Arc<EmbeddedStore>> {
    let path = options.data.clone().or(configured).unwrap_or_else(|| DEFAULT.into());
    let store = match EmbeddedStore::open(Config::new(&path)) {
        Err(OpenError::Damaged { detail, .. }) if options.salvage => {
            let (store, losses) = EmbeddedStore::salvage(Config::new(&path)).map_err(|error| remedy(&path, &error))?;
            eprintln!("posthaste: {} was damaged ({detail}); it is used without what is missing:", path.display());
            for loss in losses {
                eprintln!("posthaste:   {loss}");
            }
            store
        }
        opened => opened.map_err(|error| remedy(&path, &error))?,
    };
    Ok(Arc::new(store))
}

/// Opens this data folder.
pub(crate) fn open_at(path: &Path) -> anyhow::Result<Arc<EmbeddedStore>> {
    EmbeddedStore::open(Config::new(path)).map(Arc::new).map_err(|error| remedy(path, &error))
}

/// What is wrong with a folder, and what to do about it here.
fn remedy(path: &Path, error: &OpenError) -> anyhow::Error {
    let path = path.display();
    match error {
        OpenError::InUse { .. } => {
            anyhow!(
                "the data folder {path} is in use by another process; stop that one, or choose another folder with --data"
            )
        }
        OpenError::NotOurs { .. } => {
            anyhow!(
                "{path} holds files that are not a data folder's; choose an empty folder, or a new one, with --data"
            )
        }
        OpenError::Io { source, .. } => anyhow!(
            "the data folder {path} cannot be used ({source}); it and all files in it have to be this user's to write, or choose \
             another with --data"
        ),
        OpenError::Damaged { detail, .. } => anyhow!(
            "the data folder {path} is damaged: {detail}; put a backup in its place (`posthaste restore`), or go on without what is missing with --salvage \
             (copy the folder first: what cannot be read is gone afterwards)"
        ),
        error => anyhow!("{error}"),
    }
}

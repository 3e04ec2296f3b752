//! Why a data folder could not be opened, and what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use posthaste_history::store::StoreError;

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process: stop that one, or give this one a folder of its own", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{} holds files that are not a data folder's: name an empty folder, or one that was made by this program", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by another version.
    #[error("{} has format {found}, this program reads {known}: use the version that wrote it", path.display())]
    Format {
        /// The folder.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is known here.
        known: u32,
    },
    /// It cannot be written to, or read.
    #[error("{}: {source}: the folder and all files in it have to be this user's to write", path.display())]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Something that was synced is not there, or not as it was written.
    #[error("{} is damaged: {detail}; restore a backup, or go on without what is missing by opening it with salvage", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
}

impl OpenError {
    pub(crate) fn engine(path: &std::path::Path, error: fjall::Error) -> Self {
        let path = path.to_owned();
        match error {
            fjall::Error::Locked => Self::InUse { path },
            fjall::Error::Io(source) => Self::Io { path, source },
            error => Self::Damaged { path, detail: error.to_string() },
        }
    }
}

pub(crate) fn io(context: &str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Io { context: context.to_owned(), source: Arc::new(error) }
}

pub(crate) fn read_failed(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(error) => io("reading the data folder", error),
        error => StoreError::Damaged(error.to_string()),
    }
}

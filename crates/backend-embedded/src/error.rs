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
    /// There is none.
    #[error("{} is not there, or holds no data folder: name the one that the server was started with", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Something is where a folder is to be made.
    #[error("{} is there already: name a folder that is not", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// It cannot be written to, or read.
    #[error("{} cannot be used: {source}: {}", path.display(), remedy(source))]
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

/// What to do about what the system says.
fn remedy(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        PermissionDenied => "the folder and all files in it have to be this user's to write",
        ReadOnlyFilesystem => {
            "the disk is mounted to be read only; mount it to be written, or name a folder on another one"
        }
        StorageFull | QuotaExceeded => "free some space, or name a folder on a larger disk",
        _ => "a folder on a disk that can be written to is needed",
    }
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

pub(crate) fn write_failed(error: &fjall::Error) -> StoreError {
    StoreError::Poisoned(error.to_string())
}

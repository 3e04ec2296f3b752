//! The data folder: whose it is, who has it, and which format it has.
//!
//! ```text
//!   format   "posthaste 1\n"
//!   lock     locked while a process has the folder
//!   data/    the engine's
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// The format that is written, and the only one that is read.
pub(crate) const FORMAT: u32 = 1;

/// A folder that this process has.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder; makes it if there is none.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|error| failed(path, error))?;
        let (format, lock) = (path.join("format"), path.join("lock"));
        let is_new = match fs::read_to_string(&format) {
            Ok(text) => {
                check(path, &text)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = fs::read_dir(path).map_err(|error| failed(path, error))?;
                let is_foreign = entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lock"));
                if is_foreign {
                    return Err(OpenError::NotOurs { path: path.to_owned() });
                }
                true
            }
            Err(error) => return Err(failed(&format, error)),
        };
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&lock);
        let file = file.map_err(|error| failed(&lock, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(&lock, error)),
        }
        if is_new {
            fs::write(&format, format!("posthaste {FORMAT}\n")).map_err(|error| failed(&format, error))?;
            sync(path).map_err(|error| failed(path, error))?;
        }
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// Takes a folder that is there.
    pub(crate) fn take_existing(path: &Path) -> Result<Self, OpenError> {
        match fs::metadata(path.join("format")) {
            Ok(_) => Self::take(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Missing { path: path.to_owned() }),
            Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }
}

/// Syncs the format and the folder that lists it.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path.join("format"))?.sync_all()?;
    File::open(path)?.sync_all()
}

fn check(path: &Path, text: &str) -> Result<(), OpenError> {
    match text.strip_prefix("posthaste ").map(str::trim) {
        Some(version) if version == FORMAT.to_string() => Ok(()),
        Some(version) => {
            let (path, found) = (path.to_owned(), version.chars().take(20).collect());
            Err(OpenError::Format { path, found, known: FORMAT })
        }
        None => Err(OpenError::NotOurs { path: path.to_owned() }),
    }
}

//! Folders for the time of a command.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder among the system's temporary ones that goes when this value goes.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one; `purpose` is part of its name.
    ///
    /// # Errors
    /// The system does not let us.
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("posthaste-{purpose}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind in the system's own folder for such things is not worth an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

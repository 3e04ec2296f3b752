//! Folders.

use std::fs::{self, File};
use std::path::Path;

/// Copies a folder with all that is in it. Holes in files stay holes: journals are 64 MiB of mostly nothing.
///
/// # Panics
/// If something cannot be read, or written.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            let bytes = fs::read(entry.path()).expect("a file");
            let last = bytes.chunks(4_096).rposition(|block| block != &[0; 4_096][..block.len()]);
            let end = last.map_or(0, |last| bytes.len().min((last + 1) * 4_096));
            fs::write(&target, &bytes[..end]).expect("a copy");
            File::options()
                .write(true)
                .open(&target)
                .and_then(|file| file.set_len(bytes.len() as u64))
                .expect("its length");
        }
    }
}

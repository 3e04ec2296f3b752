//! What is done with a data folder that no server uses: verify, back up, restore.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use fjall::Guard;

use crate::codec::{Stored, decode_head, unseal};
use crate::config::Config;
use crate::content::Content;
use crate::error::OpenError;
use crate::folder::Folder;
use crate::journal;
use crate::store::EmbeddedStore;
use crate::work;

/// What a data folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages, those included that are forgotten and not yet dropped.
    pub messages: u64,
    /// Cursors and sessions.
    pub records: u64,
    /// Messages in work queues that have not ended.
    pub jobs: u64,
    /// Work queues.
    pub queues: u64,
    /// What is wrong, a sentence each.
    pub damage: Vec<String>,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: &'static str,
    /// So much of it is.
    pub done: u64,
    /// Of so much, or nearly.
    pub of: u64,
    /// Of what.
    pub unit: &'static str,
}

/// Is told now and then how far something is.
pub type Told<'a> = &'a mut dyn FnMut(Progress);

/// Records between two times that progress is told.
const TELL_EVERY: u64 = 10_000;

/// Reads everything, and checks every checksum and that no stream has a hole.
///
/// # Errors
/// [`OpenError`] if there is no such folder, or if it cannot be opened.
pub fn verify(config: Config, told: Told<'_>) -> Result<Report, OpenError> {
    let path = config.path.clone();
    drop(Folder::take_existing(&path)?);
    told(Progress { phase: "opening", done: 0, of: 1, unit: "folder" });
    // Opened as a server would: groups, and the last message of each stream.
    let store = EmbeddedStore::open(config.clone())?;
    let expected = store.messages();
    drop(store);
    let folder = Folder::take(&path)?;
    journal::examine(&folder.data())?;
    let content = Content::open(&folder.data(), &config)?;
    let mut report = Report::default();
    let mut heads = HashMap::new();
    let failed = |error| OpenError::engine(&path, error);
    for entry in content.heads.prefix(b"h") {
        let (key, value) = entry.into_inner().map_err(failed)?;
        match decode_head(&key, &value) {
            Some((name, head)) => drop(heads.insert(key[1..].to_vec(), (String::from(name), head))),
            None => report.damage.push("the head of a stream is not what was written".into()),
        }
    }
    // By stream: the last number that was met.
    let mut last: Option<([u8; 12], u64)> = None;
    let mut ends: HashMap<Vec<u8>, u64> = HashMap::new();
    for entry in content.messages.iter() {
        let (key, value) = match entry.into_inner() {
            Ok(pair) => pair,
            Err(error) => {
                report.damage.push(format!("messages behind the {}th cannot be read: {error}", report.messages));
                break;
            }
        };
        report.messages += 1;
        if report.messages % TELL_EVERY == 1 {
            let done = report.messages - 1;
            told(Progress { phase: "reading messages", done, of: expected.max(done), unit: "messages" });
        }
        let Some(stream) = key.first_chunk::<12>().copied() else { continue };
        let name = heads.get(&stream[..]).map_or("", |(name, _)| &**name);
        let Some(stored) = Stored::decode(&key, &value) else {
            report.damage.push(format!("a message of stream {name:?} is not what was written"));
            continue;
        };
        let floor = heads.get(&stream[..]).map_or(0, |(_, head)| head.floor_n);
        let before = match last {
            Some((other, n)) if other == stream => n,
            // Compaction drops from the beginning, up to the floor.
            _ => floor.min(stored.n - 1),
        };
        if stored.n > before + 1 && stored.n > floor + 1 {
            let first = (before + 1).max(floor + 1);
            report.damage.push(format!("stream {name:?} lacks its messages {first} to {}", stored.n - 1));
        }
        last = Some((stream, stored.n));
        ends.insert(stream.to_vec(), stored.n);
    }
    for (key, (name, head)) in &heads {
        let end = ends.get(key).copied().unwrap_or(head.floor_n);
        if end < head.n {
            report.damage.push(format!("stream {name:?} lacks its messages {} to {}", end + 1, head.n));
        }
    }
    for (keyspace, are_messages) in [(&content.jobs, true), (&content.queues, false)] {
        for entry in keyspace.iter() {
            let (key, value) = Guard::into_inner(entry).map_err(failed)?;
            report.jobs += u64::from(are_messages || work::is_message(&key));
            report.queues += u64::from(!are_messages && work::is_queue(&key));
            if unseal(&key, &value).is_none() {
                report.damage.push("something in a queue is not what was written".into());
            }
        }
    }
    for (keyspace, what) in [(&content.cursors, "cursor"), (&content.sessions, "session"), (&content.groups, "group")] {
        for entry in keyspace.iter() {
            let (key, value) = Guard::into_inner(entry).map_err(failed)?;
            report.records += u64::from(what != "group");
            if unseal(&key, &value).is_none() {
                report.damage.push(format!("a {what} is not what was written"));
            }
        }
    }
    Ok(report)
}

/// As [`verify`]; a folder that is damaged is [taken up](EmbeddedStore::salvage) without what is lost, which is returned, a sentence each,
/// and verified once more.
///
/// # Errors
/// As [`verify`], and [`OpenError`] if nothing can be made of what is there.
pub fn salvage(config: Config, told: Told<'_>) -> Result<(Report, Vec<String>), OpenError> {
    match verify(config.clone(), told) {
        Ok(report) if report.damage.is_empty() => return Ok((report, Vec::new())),
        Ok(_) | Err(OpenError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let (store, losses) = EmbeddedStore::salvage(config.clone())?;
    drop(store);
    Ok((verify(config, told)?, losses))
}

/// Copies a data folder that no process uses to a folder that is not there yet, and syncs the copy. Until that is done the copy has
/// another name, which ends in `.partial`.
///
/// # Errors
/// [`OpenError`] if the folder is in use, or if something cannot be read or written. No copy is left then.
pub fn backup(from: &Path, to: &Path, told: Told<'_>) -> Result<(), OpenError> {
    let folder = Folder::take_existing(from)?;
    copy_folder(folder.path(), to, told, |_| Ok(()))
}

/// Copies a backup to a folder that is not there yet, checks that it can be opened, and leaves it ready. Of a backup that is damaged the copy
/// is, too: the report says how, and nothing opens it but [`salvage`].
///
/// The epoch of each shard is a new one, so that no client is told it missed nothing: what was given out behind the backup may become
/// something else. Who comes back with an offset of before starts afresh, and is told of a gap.
///
/// # Errors
/// [`OpenError`] if the copy cannot be made or opened.
pub fn restore(from: &Path, to: &Path, told: Told<'_>) -> Result<Report, OpenError> {
    let folder = Folder::take_existing(from)?;
    copy_folder(folder.path(), to, told, |copy| match EmbeddedStore::renew_epochs(Config::new(copy)) {
        // As it is: what is wrong with it is for the report, and whoever salvages it has new epochs as well.
        Err(OpenError::Damaged { .. }) => Ok(()),
        renewed => renewed,
    })?;
    verify(Config::new(to), told)
}

/// `finish` has the copy before it gets its name.
fn copy_folder(
    from: &Path,
    to: &Path,
    told: Told<'_>,
    finish: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(OpenError::Exists { path: to.to_owned() });
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = to.with_file_name(name);
    let failed = |source| OpenError::Io { path: to.to_owned(), source };
    fs::create_dir(&partial).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => OpenError::Exists { path: partial.clone() },
        _ => failed(error),
    })?;
    let used = disk_use(from).map_err(failed)?;
    let mut progress =
        Progress { phase: "copying", done: 0, of: used.tables_bytes + used.journals_bytes, unit: "bytes" };
    let copied = copy(from, &partial, &mut progress, told).map_err(failed).and_then(|()| finish(&partial));
    let named = copied.and_then(|()| fs::rename(&partial, to).map_err(failed)).and_then(|()| {
        let parent = to.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
    });
    if named.is_err() {
        // What is left of it is no use to anybody.
        let _ = fs::remove_dir_all(&partial);
    }
    named
}

fn copy(from: &Path, to: &Path, progress: &mut Progress, told: Told<'_>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target, progress, told)?;
        } else if entry.file_name() != "lock" || from.ends_with("data") {
            copy_file(&entry.path(), &target, progress, told)?;
        }
    }
    File::open(to)?.sync_all()
}

/// Leaves out what is zeros: journals are mostly that.
fn copy_file(from: &Path, to: &Path, progress: &mut Progress, told: Told<'_>) -> io::Result<()> {
    let (mut source, mut target) = (File::open(from)?, File::create_new(to)?);
    let mut chunk = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let count = source.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        let read = &chunk[..count];
        if read.iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(length))?;
            target.write_all(read)?;
            progress.done += count as u64;
            progress.of = progress.of.max(progress.done);
            told(*progress);
        }
        length += count as u64;
    }
    target.set_len(length)?;
    target.sync_all()
}

/// What a data folder takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Tables: what was written from memory and compacted since. This is what follows retention.
    pub tables_bytes: u64,
    /// Journals: what was committed last, whether or not it is kept. Some 16 MiB.
    pub journals_bytes: u64,
}

pub(crate) fn disk_use(path: &Path) -> io::Result<DiskUse> {
    let mut found = DiskUse::default();
    for entry in fs::read_dir(path)? {
        match disk_use_of(&entry?) {
            Ok(inner) => {
                found.tables_bytes += inner.tables_bytes;
                found.journals_bytes += inner.journals_bytes;
            }
            // The engine removes tables and journals meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn disk_use_of(entry: &fs::DirEntry) -> io::Result<DiskUse> {
    use std::os::unix::fs::MetadataExt as _;
    if entry.file_type()?.is_dir() {
        return disk_use(&entry.path());
    }
    // Journals are made longer than what is in them: what counts is what is on the disk.
    let bytes = entry.metadata()?.blocks() * 512;
    let is_journal = entry.path().extension().is_some_and(|extension| extension == "jnl");
    let none = DiskUse::default();
    Ok(if is_journal { DiskUse { journals_bytes: bytes, ..none } } else { DiskUse { tables_bytes: bytes, ..none } })
}

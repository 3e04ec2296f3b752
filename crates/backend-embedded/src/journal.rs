//! The engine's journals, before the engine reads them.
//!
//! The engine takes the first thing that it cannot read for the end of a journal: a write that a crash cut short. It cannot know
//! better; but groups are numbered, and each says up to which one the disk was synced. If behind the unreadable place there is a
//! group that knows the missing ones to have been synced, they were not cut short: they are lost, and that is an error.
//! Otherwise the rest of the journal is what a crash left, and is cut off.
//!
//! ```text
//!   batch = 1 · items: u32 · seqno: u64   (little-endian, as the engine writes it)
//!         · items × ( 2 · kind: u8 · compression: u8 · keyspace: u64 · key: u16 · value: u32 · stored: u32 · key · stored value )
//!         · 3 · xxh3 of the items: u64 · "FJL" 3
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::{GroupRecord, MAGIC};
use crate::error::OpenError;
use crate::start::{self, Start};
use crate::work;

/// What a journal has.
#[derive(Debug, Default)]
struct Journal {
    /// It can be read up to here.
    readable: usize,
    /// The last group of each shard up to there.
    last: HashMap<u32, u64>,
    /// Groups behind it: shard, number, and up to which one the disk was synced then.
    beyond: Vec<(u32, u64, u64)>,
    /// Whether there is anything behind it.
    has_rest: bool,
}

/// Looks through all journals. What a crash left unfinished is cut off.
///
/// # Errors
/// [`OpenError::Damaged`] if something that was synced cannot be read any more. Nothing was changed then.
pub(crate) fn examine(data: &Path) -> Result<Start, OpenError> {
    let start = start::settle(data)?;
    go_through(data, &start, false)?;
    Ok(start)
}

/// Cuts off whatever cannot be read, lost or unfinished. Returns what was lost, a sentence each.
///
/// # Errors
/// [`OpenError::Io`].
pub(crate) fn salvage(data: &Path) -> Result<(Start, Vec<String>), OpenError> {
    let start = start::settle(data)?;
    let losses = go_through(data, &start, true)?;
    Ok((start, losses))
}

fn go_through(data: &Path, start: &Start, salvages: bool) -> Result<Vec<String>, OpenError> {
    let mut losses = Vec::new();
    let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    let mut last: HashMap<u32, u64> = start.last.clone();
    let journals = list(data).map_err(|error| failed(data, error))?;
    for (_, path) in &journals {
        let bytes = contents(path).map_err(|error| failed(path, error))?;
        let journal = read(&bytes);
        for (shard, number) in &journal.last {
            last.entry(*shard).and_modify(|last| *last = (*last).max(*number)).or_insert(*number);
        }
        // What is behind the unreadable place and was reached before: those that are missing come before the first of them.
        let mut reached: HashMap<u32, u64> = HashMap::new();
        let mut lost: Vec<String> = Vec::new();
        for (shard, number, synced) in &journal.beyond {
            // What lies between the last one that is read and the one that knows.
            let reached = *reached.entry(*shard).or_insert(*number);
            let first = last.get(shard).map_or(reached, |last| last + 1);
            if *synced >= first {
                let of = if *shard == work::NUMBER { "the queues".into() } else { format!("shard {shard}") };
                lost.push(format!("groups {first} to {synced} of {of}"));
            }
        }
        if let Some(lost) = lost.last() {
            let place = format!("{} cannot be read behind byte {}", path.display(), journal.readable);
            let detail = format!("{place}: {lost} were synced and are missing");
            if !salvages {
                return Err(OpenError::Damaged { path: data.to_owned(), detail });
            }
            losses.push(detail);
        }
        if journal.has_rest && (salvages || journals.last().is_some_and(|(_, last)| last == path)) {
            tracing::warn!(path = %path.display(), at = journal.readable, "cutting off a write that was not finished");
            let file = File::options().write(true).open(path).map_err(|error| failed(path, error))?;
            file.set_len(journal.readable as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed(path, error))?;
        }
    }
    Ok(losses)
}

/// A file without the hole at its end, which journals are made with: 64 MiB of nothing.
pub(crate) fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; end_of_data(&file)? as usize];
    file.rewind()?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Behind it there are no data.
pub(crate) fn end_of_data(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{SeekFrom, seek};
        let mut end = 0;
        loop {
            match seek(file, SeekFrom::Data(end)).and_then(|data| seek(file, SeekFrom::Hole(data))) {
                Ok(hole) => end = hole,
                // No data behind it.
                Err(rustix::io::Errno::NXIO) => return Ok(end.min(length)),
                Err(_) => return Ok(length),
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    Ok(length)
}

/// The journals of an engine and their numbers, the oldest first.
pub(crate) fn list(data: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut journals = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        journals.extend(number.map(|number| (number, path)));
    }
    journals.sort();
    Ok(journals)
}

fn read(bytes: &[u8]) -> Journal {
    let mut journal = Journal::default();
    while let Some(rest) = bytes.get(journal.readable..)
        && let Some((length, groups)) = batch(rest)
    {
        journal.readable += length;
        for group in groups {
            journal.last.insert(group.shard, group.number);
        }
    }
    let rest = written(&bytes[journal.readable..]);
    journal.has_rest = !rest.is_empty();
    if journal.has_rest {
        let starts = rest.windows(MAGIC.len()).enumerate().filter(|(_, window)| window == MAGIC);
        let groups = starts.filter_map(|(start, _)| GroupRecord::decode(&rest[start..]));
        journal.beyond = groups.map(|group| (group.shard, group.number, group.synced)).collect();
    }
    journal
}

/// What is not the zeros at the end, which a journal is made with: in whole blocks.
pub(crate) fn written(bytes: &[u8]) -> &[u8] {
    const BLOCK: usize = 4_096;
    let last = bytes.chunks(BLOCK).rposition(|block| block != &[0; BLOCK][..block.len()]);
    last.map_or(&[], |last| &bytes[..bytes.len().min((last + 1) * BLOCK)])
}

/// The number of the batch at the beginning, if one begins there.
pub(crate) fn seqno(mut bytes: &[u8]) -> Option<u64> {
    (bytes.try_get_u8().ok()? == 1).then_some(())?;
    bytes.try_get_u32_le().ok()?;
    bytes.try_get_u64_le().ok()
}

/// The batch at the beginning: its length, and the groups in it. `None` if it is not whole.
pub(crate) fn batch(bytes: &[u8]) -> Option<(usize, Vec<GroupRecord>)> {
    let mut from = bytes;
    (from.try_get_u8().ok()? == 1).then_some(())?;
    let (count, _) = (from.try_get_u32_le().ok()?, from.try_get_u64_le().ok()?);
    let items = from;
    let mut groups = Vec::new();
    for _ in 0..count {
        match from.try_get_u8().ok()? {
            2 => {
                (from.remaining() >= 20).then_some(())?;
                from.advance(10);
                let key = usize::from(from.get_u16_le());
                let (_, stored) = (from.get_u32_le(), from.get_u32_le() as usize);
                let value = from.get(key..key.checked_add(stored)?)?;
                groups.extend(value.starts_with(MAGIC).then(|| GroupRecord::decode(value)).flatten());
                from.advance(key + stored);
            }
            4 => {
                from.try_get_u64_le().ok()?;
            }
            _ => return None,
        }
    }
    let items = &items[..items.len() - from.len()];
    (from.try_get_u8().ok()? == 3).then_some(())?;
    (from.try_get_u64_le().ok()? == xxh3_64(items)).then_some(())?;
    let from = from.strip_prefix(b"FJL\x03")?;
    Some((bytes.len() - from.len(), groups))
}

//! Where a journal begins to matter.
//!
//! The engine keeps a journal until it is 64 MB long, however much of it is in tables by then; starting reads it again, and the disk
//! has to hold it. So what is in tables is given back to the disk from the beginning of the journal: first it is noted where what
//! matters begins, and only then is the rest punched out of the file. Before the engine reads such a journal at a start, what matters
//! is moved to its beginning.
//!
//! ```text
//!   start   journal · offset · seqno · shards × ( shard: u32 · group ) · checksum    (u64 where nothing else is said)
//! ```
//!
//! Whatever of these steps a crash leaves undone is done again: the note tells by its `seqno`, which is less than that of any batch
//! that matters and greater than that of any other, whether the file was moved.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _};

use crate::codec::{seal, unseal};
use crate::content::Content;
use crate::error::OpenError;
use crate::journal::{self, batch};

const KEY: &[u8] = b"start";
/// What a batch has before its items.
const BATCH_HEADER: usize = 13;
/// So long the engine gets to make tables of what is in memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The number of the journal.
    journal: u64,
    /// What matters begins here.
    offset: u64,
    /// Batches before this one are in tables.
    seqno: u64,
    /// The last group of each shard before that.
    pub(crate) last: HashMap<u32, u64>,
}

impl Start {
    fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        for number in [self.journal, self.offset, self.seqno, self.last.len() as u64] {
            value.put_u64(number);
        }
        for (shard, group) in &self.last {
            value.put_u32(*shard);
            value.put_u64(*group);
        }
        seal(KEY, value)
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut from = unseal(KEY, value)?;
        let mut start = Self { journal: from.try_get_u64().ok()?, ..Self::default() };
        start.offset = from.try_get_u64().ok()?;
        start.seqno = from.try_get_u64().ok()?;
        for _ in 0..from.try_get_u64().ok()? {
            start.last.insert(from.try_get_u32().ok()?, from.try_get_u64().ok()?);
        }
        Some(start)
    }

    /// Writes it, so that there is one or the other at any time.
    fn write(&self, data: &Path) -> io::Result<()> {
        replace(&path(data), &self.encode())
    }
}

/// Beside the engine's folder.
fn path(data: &Path) -> PathBuf {
    data.with_file_name("start")
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Before the engine is opened: has the journal begin with what matters.
pub(crate) fn settle(data: &Path) -> Result<Start, OpenError> {
    let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    let note = path(data);
    let mut start = match fs::read(&note) {
        Ok(value) => Start::decode(&value).ok_or_else(|| {
            let detail = format!("{} is not what was written", note.display());
            OpenError::Damaged { path: data.to_owned(), detail }
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Start::default()),
        Err(error) => return Err(failed(&note, error)),
    };
    let journal = data.join(format!("{}.jnl", start.journal));
    if start.offset == 0 {
        return Ok(start);
    }
    match journal::contents(&journal) {
        Ok(bytes) => {
            let is_moved = journal::seqno(&bytes).is_some_and(|first| first >= start.seqno);
            if !is_moved {
                let rest = bytes.get(start.offset as usize..).unwrap_or_default();
                replace(&journal, journal::written(rest)).map_err(|error| failed(&journal, error))?;
            }
        }
        // All of it was in tables, and it is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&journal, error)),
    }
    start.offset = 0;
    start.write(data).map_err(|error| failed(&note, error))?;
    Ok(start)
}

/// Whoever gives journals back to the disk.
pub(crate) struct Trimmer {
    data: PathBuf,
    start: Start,
}

impl Trimmer {
    pub(crate) fn new(data: PathBuf, start: Start) -> Self {
        Self { data, start }
    }

    /// Has the engine make tables of all that is in memory, and gives back what of the journal is in tables then.
    pub(crate) fn trim(&mut self, content: &Content) -> io::Result<()> {
        let seqno = content.engine.seqno();
        for keyspace in content.all() {
            keyspace.rotate_memtable().map_err(io::Error::other)?;
        }
        let begin = Instant::now();
        while content.all().iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other("the engine makes no tables"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some((number, path)) = journal::list(&self.data)?.pop() else { return Ok(()) };
        if number != self.start.journal {
            self.start.journal = number;
            self.start.offset = 0;
        }
        let file = File::options().read(true).write(true).open(&path)?;
        let before = self.start.offset;
        self.go_on(&file, seqno)?;
        if self.start.offset == before {
            return Ok(());
        }
        self.start.seqno = seqno;
        self.start.write(&self.data)?;
        punch(&file, self.start.offset)
    }
}

impl Trimmer {
    /// Goes over the batches before this one.
    fn go_on(&mut self, file: &File, seqno: u64) -> io::Result<()> {
        const WINDOW: usize = 1 << 20;
        let length = file.metadata()?.len();
        let mut window = WINDOW;
        while self.start.offset < length {
            let mut bytes = vec![0; window.min((length - self.start.offset) as usize)];
            file.read_exact_at(&mut bytes, self.start.offset)?;
            let mut done = 0;
            loop {
                match journal::seqno(&bytes[done..]) {
                    Some(there) if there < seqno => {}
                    // Also behind all batches, where there are zeros.
                    _ if bytes.len() - done >= BATCH_HEADER => {
                        self.start.offset += done as u64;
                        return Ok(());
                    }
                    _ => break,
                }
                let Some((length, groups)) = batch(&bytes[done..]) else { break };
                done += length;
                self.start.last.extend(groups.iter().map(|group| (group.shard, group.number)));
            }
            if done == 0 {
                if window as u64 >= length {
                    break;
                }
                // A batch that is larger.
                window *= 4;
            } else {
                window = WINDOW;
            }
            self.start.offset += done as u64;
        }
        Ok(())
    }
}

/// Gives the beginning of a file back to the disk, as far as the system can do that.
fn punch(file: &File, length: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, length) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, length);
        Ok(())
    }
}

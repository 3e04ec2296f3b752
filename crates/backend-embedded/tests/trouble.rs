//! What goes wrong with disks and folders, and what is said about it.

mod image;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore, OpenError, backup, restore, verify};
use posthaste_history::store::{
    Durability, Put, Range, Receipt, Retention, SessionRecord, Shard, Store, StoreError, StreamName, Timestamp, Write,
    wait,
};
use posthaste_history::{Budget, Epoch, Pid, Position, Trail};
use tempfile::TempDir;

use image::{cut, end_of, image, journals, reopened_with};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn config(folder: &TempDir) -> Config {
    Config { retention: Retention::UNLIMITED, ..Config::new(folder.path().join("data folder")) }
}

fn open(config: &Config) -> (EmbeddedStore, Arc<dyn Shard>) {
    let store = EmbeddedStore::open(config.clone()).expect("it opens");
    let shard = store.shard("/").expect("a shard");
    (store, shard)
}

fn room() -> StreamName {
    "room".into()
}

fn put(number: u64, size: usize, durability: Durability) -> Write {
    let mut payload = format!("message {number} ").into_bytes();
    payload.resize(size.max(payload.len()), b'.');
    Write::Put(Put::new(&room(), Bytes::from(payload), durability))
}

fn append(shard: &dyn Shard, numbers: std::ops::RangeInclusive<u64>, durability: Durability) {
    for number in numbers {
        commit(shard, vec![put(number, 40, durability)]).expect("a receipt");
    }
}

fn commit(shard: &dyn Shard, writes: Vec<Write>) -> Result<Vec<Receipt>, StoreError> {
    wait(shard.commit(Timestamp(1), writes))
}

fn numbers(shard: &dyn Shard) -> Vec<u64> {
    let page = wait(shard.read(vec![Range::after(&room(), 0)], Budget::UNLIMITED)).expect("it reads");
    page.messages.iter().map(|message| message.n).collect()
}

fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("it is there")
}

#[test]
fn a_second_process_is_told_who_has_the_folder() {
    let folder = folder();
    let (store, _) = open(&config(&folder));
    let error = EmbeddedStore::open(config(&folder)).err().expect("it is refused");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(store);
    EmbeddedStore::open(config(&folder)).expect("it is free again");
}

#[test]
fn a_folder_of_something_else_and_one_of_another_version_are_left_alone() {
    let folder = folder();
    let config = config(&folder);
    fs::create_dir(&config.path).expect("a folder");
    fs::write(config.path.join("letter.txt"), "dear reader").expect("a file");
    assert!(matches!(EmbeddedStore::open(config.clone()).err(), Some(OpenError::NotOurs { .. })));
    fs::remove_file(config.path.join("letter.txt")).expect("it goes");
    fs::write(config.path.join("format"), "posthaste 77\n").expect("a file");
    let error = EmbeddedStore::open(config.clone()).err().expect("it is refused");
    assert!(matches!(&error, OpenError::Format { found, known: 1, .. } if found == "77"), "{error}");
    assert!(!config.path.join("data").exists(), "nothing was made");
}

#[test]
fn what_is_no_folder_is_named() {
    let folder = folder();
    let config = config(&folder);
    fs::write(&config.path, "a file").expect("a file");
    let error = EmbeddedStore::open(config).err().expect("it is refused");
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("data folder") && error.to_string().contains("a folder on a disk"), "{error}");
}

#[test]
fn what_was_written_without_a_sync_is_synced_soon() {
    let folder = folder();
    let (_store, shard) = open(&config(&folder));
    let receipts = commit(&*shard, vec![put(1, 40, Durability::Os)]).expect("a receipt");
    assert_eq!(receipts[0].durability, Durability::Os);
    // One sync notes that less than `disk` is promised in this run; the next is of the message.
    let until = Instant::now() + Duration::from_secs(60);
    while shard.stats().syncs < 2 {
        assert!(Instant::now() < until, "it is never synced");
        std::thread::sleep(Duration::from_millis(5));
    }
    let receipts =
        commit(&*shard, vec![put(2, 40, Durability::Memory), put(3, 40, Durability::Disk)]).expect("receipts");
    assert!(receipts.iter().all(|receipt| receipt.durability == Durability::Disk), "one sync is for all of a group");
}

#[test]
fn a_full_disk_refuses_messages_and_takes_what_frees_it() {
    let folder = folder();
    let (store, shard) = open(&config(&folder));
    append(&*shard, 1..=5, Durability::Disk);
    store.close().expect("it closes");
    drop((store, shard));
    let (_store, shard) = open(&Config { reserved_bytes: u64::MAX, ..config(&folder) });
    let refused = commit(&*shard, vec![put(6, 40, Durability::Disk)]);
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    let frees = vec![
        Write::Trim { stream: room(), through: 3 },
        Write::Cursor { stream: room(), device: "phone".into(), pos: 4 },
    ];
    commit(&*shard, frees).expect("it is taken");
    assert_eq!(numbers(&*shard), [4, 5]);
    assert_eq!(wait(shard.cursors(&room())).expect("it reads"), [("phone".into(), 4)]);
}

#[test]
fn after_a_failed_sync_nothing_is_promised_until_it_is_opened_anew() {
    let folder = folder();
    let (store, shard) = open(&config(&folder));
    append(&*shard, 1..=3, Durability::Disk);
    store.fail_syncs();
    for _ in 0..2 {
        let refused = commit(&*shard, vec![put(4, 40, Durability::Disk)]);
        assert!(matches!(refused, Err(StoreError::Poisoned(_))), "{refused:?}");
    }
    assert_eq!(shard.head().pos, 3, "what was not synced is not shown");
    assert!(matches!(store.close(), Err(StoreError::Poisoned(_))));
    drop((store, shard));
    let (_store, shard) = open(&config(&folder));
    assert_eq!(numbers(&*shard)[..3], [1, 2, 3]);
    append(&*shard, 5..=6, Durability::Disk);
}

#[test]
fn a_write_that_was_cut_short_is_cut_off_and_the_rest_is_there() {
    let folder = folder();
    let config = config(&folder);
    let (_store, shard) = open(&config);
    append(&*shard, 1..=10, Durability::Disk);
    let whole = fs::read(&journals(&config)[0]).expect("a journal");
    let end = end_of(&whole);
    let last = place_of(&whole, "message 10 ");
    for cut in [last - 60, last, last + 30, end - 20, end - 1] {
        let (_folder, _, store) = reopened_with(&config, |bytes| bytes.truncate(cut));
        let store = store.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let shard = store.shard("/").expect("a shard");
        assert_eq!(numbers(&*shard), (1..=9).collect::<Vec<_>>(), "cut at {cut}");
        append(&*shard, 11..=12, Durability::Disk);
        assert_eq!(numbers(&*shard), (1..=11).collect::<Vec<_>>());
    }
    // Pages reach the disk in any order: the end is there, and something before it is not.
    for hole in [last, last + 20, end - 8] {
        let (_folder, _, store) = reopened_with(&config, |bytes| bytes[hole..hole + 8].fill(0));
        let store = store.unwrap_or_else(|error| panic!("hole at {hole}: {error}"));
        assert_eq!(numbers(&*store.shard("/").expect("a shard")), (1..=9).collect::<Vec<_>>(), "hole at {hole}");
    }
}

#[test]
fn damage_before_what_was_synced_later_is_loud_and_salvage_lists_it() {
    let folder = folder();
    let config = config(&folder);
    let (_store, shard) = open(&config);
    append(&*shard, 1..=10, Durability::Disk);
    let epoch = shard.head().epoch;
    let flip = |bytes: &mut Vec<u8>| {
        let place = place_of(bytes, "message 4 ");
        bytes[place] ^= 0x20;
    };
    let (_folder, damaged, store) = reopened_with(&config, flip);
    let error = store.err().expect("it is noticed");
    let text = error.to_string();
    assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
    assert!(text.contains("groups 4 to 9 of shard 1 were synced and are missing"), "{text}");
    assert!(text.contains("salvage"), "{text}");
    // And again: finding it changes nothing.
    assert!(matches!(EmbeddedStore::open(damaged.clone()).err(), Some(OpenError::Damaged { .. })));

    let (store, losses) = EmbeddedStore::salvage(damaged.clone()).expect("it goes on");
    assert!(losses.iter().any(|loss| loss.contains("groups 4 to 9")), "{losses:?}");
    let shard = store.shard("/").expect("a shard");
    assert_eq!(numbers(&*shard), [1, 2, 3]);
    assert_ne!(shard.head().epoch, epoch, "nobody may take an old position for one of this shard");
    append(&*shard, 4..=5, Durability::Disk);
    store.close().expect("it closes");
    drop((store, shard));
    assert_eq!(verify(damaged, &mut |_| ()).expect("it opens").damage, Vec::<String>::new());
}

#[test]
fn another_start_of_the_system_means_another_epoch_if_less_than_disk_was_promised() {
    for (durability, changes) in [(Durability::Disk, false), (Durability::Os, true)] {
        let folder = folder();
        let config = Config { boot: Some("first".into()), ..config(&folder) };
        let (store, shard) = open(&config);
        append(&*shard, 1..=3, durability);
        let epoch = shard.head().epoch;
        for (boot, changes) in [("first", false), ("second", changes)] {
            let (_folder, _, store) = reopened_with(&Config { boot: Some(boot.into()), ..config.clone() }, |_| ());
            let shard = store.expect("it opens").shard("/").expect("a shard");
            assert_eq!(shard.head().epoch != epoch, changes, "{durability}, {boot}");
        }
        store.close().expect("it closes");
        drop((store, shard));
        let (_store, shard) = open(&Config { boot: Some("third".into()), ..config });
        assert_eq!(shard.head().epoch, epoch, "closed as it should be, nothing was lost");
    }
}

#[test]
fn what_can_be_as_if_it_had_come_later_means_no_other_epoch() {
    let device: Arc<str> = "phone".into();
    let record = SessionRecord {
        identity: "ada".into(),
        own: "own".into(),
        trail: Trail::new(Position { epoch: Epoch(1), pos: 0 }),
        expires: Timestamp(u64::MAX),
        data: Bytes::new(),
    };
    for (write, changes) in [
        (Write::Cursor { stream: room(), device: device.clone(), pos: 2 }, false),
        (Write::ForgetCursor { stream: room(), device }, false),
        (Write::Trim { stream: room(), through: 1 }, false),
        (Write::Retain { stream: room(), retention: Retention::ROOM }, false),
        (Write::Session { pid: Pid::from_bytes([1; 16]), record: Some(Box::new(record)) }, true),
    ] {
        let folder = folder();
        let config =
            Config { boot: Some("first".into()), sync_interval: Duration::from_secs(3_600), ..config(&folder) };
        let (_store, shard) = open(&config);
        append(&*shard, 1..=3, Durability::Disk);
        let cursor = Write::Cursor { stream: room(), device: "phone".into(), pos: 1 };
        commit(&*shard, vec![cursor]).expect("no receipts");
        commit(&*shard, vec![write.clone()]).expect("no receipts");
        let (_folder, _, store) = reopened_with(&Config { boot: Some("second".into()), ..config }, |_| ());
        let reopened = store.expect("it opens").shard("/").expect("a shard");
        assert_eq!(reopened.head().epoch != shard.head().epoch, changes, "{write:?}");
        assert_eq!(reopened.head().pos, 3);
    }
}

#[test]
fn what_is_forgotten_frees_the_disk() {
    let folder = folder();
    let (store, shard) = open(&Config { memtable_bytes: 4 << 20, ..config(&folder) });
    let retention = Retention { max_messages: 2_000, ..Retention::UNLIMITED };
    commit(&*shard, vec![Write::Retain { stream: room(), retention }]).expect("it is taken");
    let batch = |first: u64| (first..first + 500).map(|number| put(number, 4_000, Durability::Os)).collect();
    for first in (0..10_000).step_by(500) {
        commit(&*shard, batch(first)).expect("receipts");
    }
    store.compact().expect("it compacts");
    let (live, disk) = (shard.stats().bytes, store.disk_use().expect("it reads"));
    assert!(disk.tables_bytes * 10 <= live * 13, "{disk:?} for {live} bytes that are kept");
    assert!(disk.journals_bytes < 2 * (64 << 20) + (8 << 20), "{disk:?}");
    assert_eq!(numbers(&*shard), (8_001..=10_000).collect::<Vec<_>>());
    store.close().expect("it closes");
    drop((store, shard));
    assert_eq!(verify(config(&folder), &mut |_| ()).expect("it opens").damage, Vec::<String>::new());
}

/// A folder whose journal was given back to the disk in part, as it was just before and is after that.
fn trimmed() -> (TempDir, Config, EmbeddedStore, Arc<dyn Shard>) {
    let folder = folder();
    let config = Config { journal_bytes: 1 << 20, ..config(&folder) };
    let (store, shard) = open(&config);
    commit(&*shard, (1..=1_000).map(|number| put(number, 2_000, Durability::Disk)).collect()).expect("receipts");
    let until = Instant::now() + Duration::from_secs(120);
    while store.disk_use().expect("it reads").journals_bytes > 64 << 10 {
        assert!(Instant::now() < until, "the journal stays as long as it was: {:?}", store.disk_use());
        std::thread::sleep(Duration::from_millis(20));
    }
    append(&*shard, 1_001..=1_010, Durability::Disk);
    (folder, config, store, shard)
}

#[test]
fn what_is_in_tables_is_not_kept_in_journals() {
    let (_folder, config, _store, _shard) = trimmed();
    for (crash, change) in [
        ("as it is", (|_, _| ()) as fn(&mut Vec<u8>, usize)),
        ("before the file was punched", |bytes, offset| bytes[..offset].fill(0xAA)),
        ("while the file was punched", |bytes, offset| bytes[offset / 3..offset / 2].fill(0xAA)),
    ] {
        let offset = journal_start(&config);
        assert!(offset > 1 << 20, "{offset} bytes are given back");
        let (_folder, image, store) = reopened_with(&config, |bytes| change(bytes, offset));
        let store = store.unwrap_or_else(|error| panic!("{crash}: {error}"));
        assert_eq!(numbers(&*store.shard("/").expect("a shard")), (1..=1_010).collect::<Vec<_>>(), "{crash}");
        drop(store);
        // The file was moved, and then it crashed before that was noted.
        fs::copy(config.path.join("start"), image.path.join("start")).expect("a copy");
        let (_store, shard) = open(&image);
        append(&*shard, 1_011..=1_011, Durability::Disk);
        assert_eq!(numbers(&*shard), (1..=1_011).collect::<Vec<_>>(), "{crash}, again");
    }
}

fn journal_start(config: &Config) -> usize {
    let note = fs::read(config.path.join("start")).expect("a note");
    note[8..16].iter().fold(0, |offset, byte| offset << 8 | usize::from(*byte))
}

#[test]
fn what_is_removed_while_the_disk_is_looked_at_takes_nothing() {
    let folder = folder();
    let config = config(&folder);
    let (store, _shard) = open(&config);
    let passing = config.path.join("passing");
    std::thread::scope(|scope| {
        let comes_and_goes = scope.spawn(|| {
            for _ in 0..1_000 {
                fs::create_dir(&passing).expect("a folder is made");
                for name in ["1", "2", "3"] {
                    fs::write(passing.join(name), b"table").expect("a file is made");
                }
                fs::remove_dir_all(&passing).expect("it goes again");
            }
        });
        while !comes_and_goes.is_finished() {
            store.disk_use().expect("it reads");
        }
    });
}

#[test]
fn damage_at_the_very_beginning_of_what_is_left_of_a_journal_is_loud() {
    let (_folder, config, _store, _shard) = trimmed();
    let (_folder, _, store) = reopened_with(&config, |bytes| {
        let place = place_of(bytes, "message 1001 ");
        bytes[place] ^= 0x20;
    });
    let error = store.err().expect("it is noticed");
    // One commit, then one each.
    assert!(error.to_string().contains("groups 2 to 10 of shard 1 were synced and are missing"), "{error}");
}

#[test]
fn a_backup_restores() {
    let folder = folder();
    let (store, shard) = open(&config(&folder));
    append(&*shard, 1..=20, Durability::Disk);
    let epoch = shard.head().epoch;
    let (copy, again) = (folder.path().join("copy"), folder.path().join("again"));
    assert!(matches!(backup(&config(&folder).path, &copy, &mut |_| ()), Err(OpenError::InUse { .. })));
    store.close().expect("it closes");
    drop((store, shard));
    backup(&config(&folder).path, &copy, &mut |_| ()).expect("it is copied");
    let report = restore(&copy, &again, &mut |_| ()).expect("it is copied back");
    assert_eq!((report.messages, report.damage), (20, Vec::new()));
    let (_store, shard) = open(&Config { path: again, ..config(&folder) });
    assert_eq!(numbers(&*shard), (1..=20).collect::<Vec<_>>());
    assert_ne!(shard.head().epoch, epoch, "nobody may take a position behind the backup for one of this shard");
    let (_store, shard) = open(&Config { path: copy.clone(), ..config(&folder) });
    assert_eq!(shard.head().epoch, epoch, "the backup is left as it is");
    let _ = File::open(copy.join("format")).expect("the format is copied");
}

/// Power cuts: whatever part of what was not synced reached the disk, page by page, all that had its receipt as `disk` is there, in
/// order and without holes, and it opens. `POSTHASTE_POWER_CUTS` says how many; 24 otherwise.
#[test]
fn a_power_cut_loses_nothing_that_was_synced() {
    let folder = folder();
    let config = Config { sync_interval: Duration::from_secs(3_600), ..config(&folder) };
    let (_store, shard) = open(&config);
    append(&*shard, 1..=30, Durability::Disk);
    let journal = journals(&config).pop().expect("a journal");
    let synced = end_of(&fs::read(&journal).expect("a journal"));
    // Several groups that nobody has synced; the store itself would within its interval.
    for first in [31_u64, 36, 41] {
        commit(&*shard, (first..first + 5).map(|number| put(number, 300, Durability::Os)).collect()).expect("receipts");
    }
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let (mut least, mut most) = (u64::MAX, 0);
    let seeds = std::env::var("POSTHASTE_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    for seed in 0..seeds {
        let (_folder, _, store) = reopened_with(&Config { boot: Some("other".into()), ..config.clone() }, |bytes| {
            cut(&mut bytes[synced..], &mut || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 33
            });
        });
        let store = store.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let shard = store.shard("/").expect("a shard");
        let found = numbers(&*shard);
        let count = found.len() as u64;
        assert_eq!(found, (1..=count).collect::<Vec<_>>(), "seed {seed}");
        assert!(count >= 30 && count.is_multiple_of(5), "seed {seed}: {count} messages: groups are whole or not there");
        (least, most) = (least.min(count), most.max(count));
    }
    assert!(least == 30 && most > 30, "seeds cut at different places: {least} to {most}");
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1")
}

/// The folder that the next test opens. Run once, when format 1 was new; another format gets a fixture of its own.
#[test]
#[ignore = "writes into the repository"]
fn make_the_fixture_of_format_1() {
    let folder = folder();
    let config = config(&folder);
    let (store, shard) = open(&config);
    append(&*shard, 1..=5, Durability::Disk);
    commit(&*shard, vec![Write::Cursor { stream: room(), device: "phone".into(), pos: 3 }]).expect("it is taken");
    store.close().expect("it closes");
    drop((store, shard));
    let (_store, shard) = open(&config);
    append(&*shard, 6..=8, Durability::Disk);
    commit(&*shard, vec![Write::Trim { stream: room(), through: 1 }]).expect("it is taken");
    image(&config.path, &fixture());
}

#[test]
fn a_folder_of_format_1_opens() {
    let folder = folder();
    let config = config(&folder);
    image(&fixture(), &config.path);
    let (_store, shard) = open(&config);
    assert_eq!(shard.head().pos, 8);
    assert_eq!(numbers(&*shard), (2..=8).collect::<Vec<_>>());
    let page = wait(shard.read(vec![Range::after(&room(), 7)], Budget::UNLIMITED)).expect("it reads");
    assert!(page.messages[0].payload.starts_with(b"message 8 "));
    assert_eq!(wait(shard.cursors(&room())).expect("it reads"), [("phone".into(), 3)]);
    append(&*shard, 9..=9, Durability::Disk);
}

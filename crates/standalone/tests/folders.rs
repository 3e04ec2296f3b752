//! `posthaste verify`, `backup` and `restore` as people and scripts use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use posthaste::queue;
use posthaste::store::{Durability, Put, Retention, Store as _, StreamName, Timestamp, Write, wait};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_testkit::copy_folder;
use tempfile::TempDir;

fn posthaste(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.args(arguments);
    command.output().expect("the binary runs")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

/// A data folder with ten messages, and the store that still has it open.
fn filled() -> (TempDir, PathBuf, EmbeddedStore) {
    let root = tempfile::tempdir().expect("a folder");
    let path = root.path().join("data");
    let store =
        EmbeddedStore::open(Config { retention: Retention::UNLIMITED, ..Config::new(&path) }).expect("it opens");
    let shard = store.shard("/").expect("a shard");
    let room: StreamName = "room".into();
    for number in 1..=10 {
        let put = Put::new(&room, format!("message {number} of them").into(), Durability::Disk);
        wait(shard.commit(Timestamp(1), vec![Write::Put(put)])).expect("a receipt");
    }
    (root, path, store)
}

#[test]
fn a_folder_is_verified_copied_and_made_of_the_copy() {
    let (root, path, store) = filled();
    drop(store);
    let (copy, again) = (root.path().join("copy"), root.path().join("again"));
    let backup = posthaste(&[&"backup", &path, &copy]);
    assert_eq!(backup.status.code(), Some(0), "{backup:?}");
    assert!(out(&backup).contains("is copied to"), "{backup:?}");
    let restore = posthaste(&[&"restore", &copy, &again]);
    assert_eq!(restore.status.code(), Some(0), "{restore:?}");
    for folder in [&path, &copy, &again] {
        let verify = posthaste(&[&"verify", folder]);
        assert_eq!(verify.status.code(), Some(0), "{verify:?}");
        assert!(out(&verify).contains("is as it was written: 10 messages, 0 sessions and cursors"), "{verify:?}");
        assert!(!err(&verify).contains('\x1b') && err(&verify).contains("  opening · "), "{verify:?}");
    }
    let taken = posthaste(&[&"backup", &path, &copy]);
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
    assert!(err(&taken).contains("is there already: name a folder that is not"), "{taken:?}");
    assert!(!root.path().join("copy.partial").exists());
}

#[test]
fn who_verifies_is_told_of_jobs_and_queues() {
    let (root, path, store) = filled();
    let queues = store.queues().expect("queues");
    for name in ["emails", "emails", "thumbnails"] {
        let put = queue::Put::new(&name.into(), "job".into(), Durability::Disk);
        let put = wait(queues.ask(Timestamp(1), queue::Command::Put(vec![put]))).expect("the store works");
        assert!(put.is_ok(), "{put:?}");
    }
    drop((queues, store));
    let (copy, again) = (root.path().join("copy"), root.path().join("again"));
    assert_eq!(posthaste(&[&"backup", &path, &copy]).status.code(), Some(0));
    for output in [posthaste(&[&"verify", &path]), posthaste(&[&"restore", &copy, &again])] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(out(&output).contains("0 sessions and cursors, 3 jobs in 2 work queues\n"), "{output:?}");
    }
}

#[test]
fn a_folder_that_a_process_has_is_left_alone() {
    let (root, path, _store) = filled();
    let copy = root.path().join("copy");
    for output in [posthaste(&[&"verify", &path]), posthaste(&[&"backup", &path, &copy])] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(err(&output).contains("in use by another process: stop that one"), "{output:?}");
    }
    assert!(!copy.exists());
}

#[test]
fn what_is_no_data_folder_or_of_a_newer_version_is_told_apart() {
    let root = tempfile::tempdir().expect("a folder");
    let nothing = posthaste(&[&"verify", &root.path().join("nothing")]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    assert!(err(&nothing).contains("name the one that the server was started with"), "{nothing:?}");
    assert!(!root.path().join("nothing").exists(), "looking makes nothing");
    fs::write(root.path().join("format"), "posthaste 2\n").expect("a file");
    let newer = posthaste(&[&"verify", &root.path()]);
    assert_eq!(newer.status.code(), Some(1), "{newer:?}");
    assert!(err(&newer).contains("has format 2, this program reads 1: use the version that wrote it"), "{newer:?}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named_with_what_to_do() {
    let (_root, path, store) = filled();
    drop(store);
    fs::set_permissions(path.join("lock"), fs::Permissions::from_mode(0o444)).expect("its mode");
    if fs::File::options().write(true).open(path.join("lock")).is_ok() {
        return; // This user may write everything.
    }
    let output = posthaste(&[&"verify", &path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains("have to be this user's to write"), "{output:?}");
}

#[test]
fn damage_is_listed_and_salvaged_when_told_to() {
    let (root, path, store) = filled();
    // As a killed process leaves it: all is in the journal.
    let killed = root.path().join("killed");
    copy_folder(&path, &killed);
    drop(store);
    let entries = fs::read_dir(killed.join("data")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let journal = entries.filter(|path| path.extension().is_some_and(|it| it == "jnl")).max().expect("a journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let place = bytes.windows(10).position(|text| text == b"message 4 ").expect("it is there");
    bytes[place] ^= 0x20;
    fs::write(&journal, bytes).expect("a journal");

    for _ in 0..2 {
        let verify = posthaste(&[&"verify", &killed]);
        assert_eq!(verify.status.code(), Some(3), "{verify:?}");
        assert!(out(&verify).contains("is damaged:\n"), "{verify:?}");
        assert!(out(&verify).contains("groups 4 to 9 of shard 1 were synced and are missing"), "{verify:?}");
        assert!(err(&verify).contains("posthaste restore") && err(&verify).contains("--salvage"), "{verify:?}");
    }
    let salvage = posthaste(&[&"verify", &"--salvage", &killed]);
    assert_eq!(salvage.status.code(), Some(0), "{salvage:?}");
    assert!(out(&salvage).contains("goes on without what is lost:\n"), "{salvage:?}");
    assert!(out(&salvage).contains("is as it was written: 3 messages"), "{salvage:?}");
    let verify = posthaste(&[&"verify", &killed]);
    assert_eq!(verify.status.code(), Some(0), "{verify:?}");
}

//! A key and a secret serve one bus.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::proofs::{KEYS, checkpoint, set_up};
use crate::support::{Finished, append_events, bus, temp_dir, tree};

/// Another bus, `second/bus`, with a key and a secret of its own.
fn add_second_bus(dir: &Path) {
    fs::create_dir(dir.join("second")).unwrap();
    bus(&dir.join("second"), &["append", "bus", "--type", "first", "{}"]).success();
    bus(dir, &["key", "new", "--name", "example.com/second", "-o", "second.key"]).success();
    bus(dir, &["secret", "new", "second/bus", "-o", "second.secret"]).success();
}

fn checkpoint_with(dir: &Path, bus_dir: &str, key: &str, secret: &str) -> Finished {
    bus(dir, &["checkpoint", bus_dir, "--key", key, "--secret", secret])
}

#[test]
fn a_secret_of_another_bus_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    checkpoint(dir);
    add_second_bus(dir);
    let before = tree(dir);
    let message = checkpoint_with(dir, "second/bus", "second.key", "bus.secret").failure(2);
    assert!(message.contains("bus.secret: is used for another bus"), "{message}");
    let prove = ["prove", "second/bus", "1", "--secret", "bus.secret", "--reveal", "*", "-o", "p"];
    let message = bus(dir, &prove).failure(2);
    assert!(message.contains("bus.secret: is used for another bus"), "{message}");
    // A secret is bound when it is created.
    let message = checkpoint_with(dir, "bus", "log.key", "second.secret").failure(2);
    assert!(message.contains("second.secret: is used for another bus"), "{message}");
    assert_eq!(tree(dir), before);
    checkpoint_with(dir, "second/bus", "second.key", "second.secret").success();
    // A new secret under the name of a lost one is that of the bus that it is created for.
    fs::remove_file(dir.join("second.secret")).unwrap();
    bus(dir, &["secret", "new", "bus", "-o", "second.secret"]).success_with_warning("has a tree already");
    let message = checkpoint_with(dir, "second/bus", "second.key", "second.secret").failure(2);
    assert!(message.contains("second.secret: is used for another bus"), "{message}");
}

#[test]
fn a_key_signs_one_bus_with_one_state() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 3);
    checkpoint(dir);
    add_second_bus(dir);
    let message = checkpoint_with(dir, "second/bus", "log.key", "second.secret").failure(2);
    assert!(message.contains("log.key: is used for another bus"), "{message}");
    assert!(message.contains("create a key with another name"), "{message}");
    assert!(!dir.join("second/bus.checkpoints").exists());
    // Nor a copy of its bus, which could become another log.
    fs::create_dir(dir.join("copy")).unwrap();
    fs::copy(dir.join("bus/events.jsonl"), dir.join("copy/events.jsonl")).unwrap();
    bus(dir, &["append", "copy", "--type", "other", "{}"]).success();
    let message = checkpoint_with(dir, "copy", "log.key", "bus.secret").failure(2);
    assert!(message.contains("bus.checkpoints/signed, not in "), "{message}");
    assert!(!dir.join("copy.checkpoints").exists());
    // A state may be moved, and a link to the key is the key.
    fs::rename(dir.join("bus.checkpoints"), dir.join("elsewhere")).unwrap();
    symlink("log.key", dir.join("link.key")).unwrap();
    let state = ["--key", "link.key", "--secret", "bus.secret", "--state", "elsewhere/signed"];
    bus(dir, &[&["checkpoint", "bus"], &state[..]].concat()).success();
    let message = checkpoint_with(dir, "bus", "log.key", "bus.secret").failure(2);
    assert!(message.contains("elsewhere/signed, not in "), "{message}");
    // A record that cannot be read is named.
    fs::write(dir.join("log.key.used-for"), "junk").unwrap();
    let message = checkpoint_with(dir, "bus", "log.key", "bus.secret").failure(2);
    assert!(message.contains("log.key.used-for: is not a record"), "{message}");
}

#[test]
fn an_empty_directory_is_not_signed_silently() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 1);
    fs::create_dir(dir.join("empty")).unwrap();
    let signed = checkpoint_with(dir, "empty", "log.key", "bus.secret");
    let note = signed.success_with_warning("empty: holds no event; the checkpoint is that of an empty log");
    assert!(note.starts_with("example.com/bus\n0\n"), "{note}");
    // It has no identity yet. The first event gives it one.
    append_events(&dir.join("empty"), 1);
    bus(dir, &[&["checkpoint", "bus"], &KEYS[..]].concat()).success();
}

#[test]
fn a_link_to_a_key_inside_the_bus_is_refused() {
    let temp = temp_dir();
    let dir = temp.path();
    set_up(dir, 2);
    for (name, link) in [("log.key", "link.key"), ("bus.secret", "link.secret")] {
        fs::rename(dir.join(name), dir.join("bus").join(name)).unwrap();
        symlink(Path::new("bus").join(name), dir.join(link)).unwrap();
        let (key, secret) = if name == "log.key" { (link, "bus.secret") } else { ("log.key", link) };
        let message = checkpoint_with(dir, "bus", key, secret).failure(2);
        assert!(message.contains(&format!("{link}: is inside the bus")), "{message}");
        fs::rename(dir.join("bus").join(name), dir.join(name)).unwrap();
    }
    checkpoint(dir);
}

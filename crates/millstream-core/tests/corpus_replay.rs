//! Replays the saved fuzz corpus in every test run, so that what fuzzing once found stays found.

use std::path::PathBuf;

#[allow(dead_code, reason = "each test uses its part")]
mod model;
#[cfg(feature = "tls")]
#[allow(dead_code, reason = "each test uses its part")]
#[path = "model/tls/mod.rs"]
mod tls;

use model::{proxy, read, read_face, write};

#[test]
fn every_saved_read_list_agrees_with_the_model() {
    let mut asks = 0;
    for (name, data) in corpus("read_ops") {
        let ops: Vec<read::ReadOp> = model::decode(&data);
        println!("{} operations: {name}", ops.len());
        asks +=
            ops.iter().filter(|op| matches!(op, read::ReadOp::Ask(_) | read::ReadOp::AskAgain(_))).count();
        read_face::run(&ops);
    }
    assert!(asks >= 100, "only {asks} reads in the whole corpus");
}

#[test]
fn every_saved_write_list_agrees_with_the_model() {
    let mut sends = 0;
    for (name, data) in corpus("write_ops") {
        let ops: Vec<write::WriteOp> = model::decode(&data);
        println!("{} operations: {name}", ops.len());
        sends += ops.iter().filter(|op| is_send(op)).count();
        write::run(&ops);
    }
    assert!(sends >= 30, "only {sends} sends in the whole corpus");
}

#[cfg(feature = "tls")]
#[test]
fn every_saved_tls_conversation_ends_as_it_may() {
    tls::bytes::expect_rustls_assertion();
    let (mut faults, mut read) = (std::collections::HashSet::new(), 0);
    for (name, data) in corpus("tls_bytes") {
        let (&setup, ops) = data.split_first().expect("no empty file");
        let outcome = tls::bytes::run(setup, &model::decode(ops));
        println!("{outcome:?}: {name}");
        faults.extend(outcome.fault);
        read += outcome.read;
    }
    assert!(faults.len() >= 6 && read >= 10_000, "{faults:?}, {read} bytes read in the whole corpus");
}

#[test]
fn every_saved_first_bytes_are_what_the_specification_says() {
    let (mut outcomes, mut errors) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for (name, data) in corpus("proxy_header") {
        let outcome = proxy::run(&data);
        println!("{outcome:?}: {name}");
        outcomes.insert(std::mem::discriminant(&outcome));
        if let proxy::Outcome::Broken(error) = outcome {
            errors.insert(std::mem::discriminant(&error));
        }
    }
    assert!(
        outcomes.len() == 4 && errors.len() == 10,
        "{} verdicts, {} errors",
        outcomes.len(),
        errors.len()
    );
}

/// The saved files of a fuzz target by name; never none.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a folder that can be listed").path();
            (path.display().to_string(), std::fs::read(&path).expect("a file that can be read"))
        })
        .collect();
    files.sort();
    assert!(files.len() >= 12, "{} holds only {} files", folder.display(), files.len());
    files
}

fn is_send(op: &write::WriteOp) -> bool {
    use write::WriteOp::{Advance, AdvanceBy, AdvanceThrough};
    matches!(op, Advance(_) | AdvanceBy(_) | AdvanceThrough { .. })
}

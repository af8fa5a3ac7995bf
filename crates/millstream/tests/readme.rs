//! The programs in the READMEs: one text in each language, whichever package shows it.
//!
//! Needs the repository, so it is not in the package. The Rust program itself is compiled with the documentation tests.

use std::path::PathBuf;

/// The first block of code in this language in a file of the repository.
fn program(file: &str, language: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let start = format!("```{language}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{file} shows no {language}"));
    rest.split_once("```").unwrap_or_else(|| panic!("{file}: a block without an end")).0.to_owned()
}

#[test]
fn the_repository_and_the_crate_show_the_same_program_in_rust() {
    assert_eq!(program("README.md", "rust,no_run"), program("crates/millstream/README.md", "rust,no_run"));
}

#[test]
fn the_repository_and_the_package_show_the_same_program_in_python() {
    assert_eq!(program("README.md", "python"), program("python/README.md", "python"));
}

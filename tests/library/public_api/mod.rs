//! Compares the public items of the library with `docs/public-api.txt`, to notice every change: one line for each public
//! item that is not hidden, without what the compiler implements by itself and without the functions of trait impls.
//!
//! The list is made from rustdoc's JSON. That format changes from one version of Rust to the next, and public-api reads one
//! version of it: with another toolchain the test says so and compares nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// The format of rustdoc's JSON that Rust 1.95 writes and this version of public-api reads.
const JSON_FORMAT: u64 = 57;

const UPDATE: &str = "UPDATE_PUBLIC_API=1 cargo test --test library public_api";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Has rustdoc describe the library; returns where it did.
///
/// The crates below are those that other commands have checked already. The JSON has a directory of its own, for cargo empties
/// the one of the HTML before rustdoc writes there.
fn describe() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in cargo's directory");
    let own = target.join("public-api");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(repository())
        .args(["doc", "--quiet", "--locked", "--lib", "--all-features", "--no-deps", "--target-dir"])
        .arg(&own)
        .env("CARGO_BUILD_BUILD_DIR", target)
        .env("RUSTDOC", repository().join("tests/library/public_api/rustdoc"))
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json --cap-lints allow")
        .status()
        .expect("cargo starts");
    assert!(status.success(), "rustdoc cannot describe the library; it says above why");
    own.join("doc/sayagain.json")
}

fn format_of(json: &Path) -> Option<u64> {
    let text = fs::read_to_string(json).expect("rustdoc has written it");
    let description: Value = serde_json::from_str(&text).expect("it is JSON");
    description["format_version"].as_u64()
}

fn items(json: &Path) -> Vec<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .sorted(true)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build();
    api.expect("public-api reads this format").items().map(ToString::to_string).collect()
}

/// Each item once, without the functions of trait impls: the line of the impl implies them.
fn list(items: &[String]) -> String {
    let (mut listed, mut implementor) = (BTreeSet::new(), None);
    let mut text = String::new();
    for line in items {
        if line.starts_with("impl") {
            implementor = line.split_once(" for ").map(|(_, name)| format!("fn {name}::"));
        }
        let is_implied = implementor.as_ref().is_some_and(|prefix| line.contains(prefix));
        let is_inherent = line.starts_with("impl") && implementor.is_none();
        let says_nothing = line.contains("core::marker::StructuralPartialEq");
        if !is_implied && !says_nothing && (is_inherent || listed.insert(line)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The lines that only one of two texts has, each in its order: `-` in the first, `+` in the second.
fn difference(old: &str, new: &str) -> Vec<String> {
    let only = |mark: char, of: &str, other: &str| {
        let others: BTreeSet<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| !others.contains(line));
        lines.map(|line| format!("{mark} {line}")).collect::<Vec<_>>()
    };
    [only('-', old, new), only('+', new, old)].concat()
}

#[test]
fn the_public_items_are_the_listed_ones() {
    let json = describe();
    let format = format_of(&json);
    if format != Some(JSON_FORMAT) {
        eprintln!(
            "skipped: rustdoc writes JSON of format {format:?}, and the list needs {JSON_FORMAT}, Rust 1.95"
        );
        return;
    }
    let (file, new) = (repository().join("docs/public-api.txt"), list(&items(&json)));
    if env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&file, &new).expect("docs/public-api.txt can be written");
    }
    let old = fs::read_to_string(&file).unwrap_or_default();
    let changes = difference(&old, &new).join("\n");
    assert!(
        old == new,
        "public items have changed; if that is meant, update the list with `{UPDATE}`:\n{changes}"
    );
}

#[test]
fn a_difference_shows_what_went_and_what_came() {
    assert_eq!(difference("a\nb\nc\n", "a\nc\nd\n"), ["- b", "+ d"]);
}

#[test]
fn a_list_omits_functions_of_trait_impls_and_repeated_lines() {
    let items = [
        "pub struct a::B",
        "impl a::B",
        "pub fn a::B::own(&self)",
        "impl core::clone::Clone for a::B",
        "pub fn a::B::clone(&self) -> Self",
        "pub fn a::free()",
        "impl core::clone::Clone for a::B",
    ];
    let listed = list(&items.map(str::to_owned));
    assert_eq!(listed.lines().collect::<Vec<_>>(), [items[0], items[1], items[2], items[3], items[5]]);
}

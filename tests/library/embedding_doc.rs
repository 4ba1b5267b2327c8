//! The code in `docs/embedding.md` is run: each block stands in a doctest.

/// The code of a module's doctests, as a reader sees it.
fn shown(module: &str) -> String {
    let lines = module.lines().map(str::trim_start);
    let docs = lines.filter_map(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix("///")));
    let docs = docs.filter(|line| !line.starts_with(" # "));
    docs.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

#[test]
fn the_examples_of_the_page_are_those_that_are_run() {
    let page = include_str!("../../docs/embedding.md");
    let run = [
        include_str!("../../src/host/mod.rs"),
        include_str!("../../src/net/client/mod.rs"),
        include_str!("../../src/net/engine/facade.rs"),
    ]
    .map(shown)
    .concat();
    let blocks: Vec<&str> =
        page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        assert!(run.contains(block), "no doctest has this:\n{block}");
    }
}

//! Levels: each module of the crate imports only modules below it. The order is [`LEVELS`]; `docs/architecture.md` shows it.
//!
//! Read are the paths `crate::..` of the sources, without comments and tests.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

/// The modules of the crate, from the lowest: each may import those before it.
const LEVELS: &[&str] = &[
    "allocator",
    "error",
    "escape",
    "exit",
    "parts",
    "handle_index",
    "lazy_box",
    "log_limiter",
    "output",
    "parted_map",
    "queue_capacity",
    "segmented_vec",
    "units",
    "wire",
    "timers",
    "host_port",
    "reliable",
    "link",
    "service",
    "remote",
    "conn_map",
    "names",
    "rates",
    "rules",
    "listener",
    "hub_config",
    "hub",
    "config",
    "client",
    "server",
    "host",
    "sim",
    "net",
    "lab",
    "cli",
];

/// Modules that exist in tests alone.
const OF_TESTS: &[&str] = &["work_probe"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let mut found: Vec<_> = folders.iter().flat_map(|folder| sources(folder)).chain(files).collect();
    found.sort();
    found
}

/// The code of a file that is part of the library: neither comments nor tests, which stand at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let library = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = library.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The files whose module is declared for tests alone.
fn is_of_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap();
    let parents =
        ["mod.rs", "lib.rs"].map(|name| folder.join(name)).into_iter().chain([folder.with_extension("rs")]);
    let declaration = format!("#[cfg(test)]\nmod {stem};");
    parents.filter_map(|parent| std::fs::read_to_string(parent).ok()).any(|text| text.contains(&declaration))
}

/// Whether a code names a crate: in a `use`, a path or an attribute.
fn names_crate(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        !before.ends_with(is_word) && after.starts_with("::")
    })
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| *level == module)
}

#[test]
fn each_module_imports_only_modules_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut upward, mut imports) = (Vec::new(), 0);
    for path in sources(&src).into_iter().filter(|path| !is_of_tests(path)) {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if ["lib", "bin"].contains(&module) || OF_TESTS.contains(&module) {
            continue;
        }
        let own = level(module).unwrap_or_else(|| panic!("{module} has no level: add it to LEVELS"));
        for used in code(&path).split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            imports += 1;
            if level(&used).is_some_and(|used| used > own) {
                upward.push(format!("{} imports {used}", inside.display()));
            }
        }
    }
    assert!(imports > 500, "only {imports} imports were found");
    assert!(upward.is_empty(), "upward:\n{}", upward.join("\n"));
}

#[test]
fn only_command_lines_and_programs_name_clap() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (allowed, others): (Vec<_>, Vec<_>) = sources(&src)
        .into_iter()
        .filter(|path| names_crate(&std::fs::read_to_string(path).unwrap(), "clap"))
        .partition(|path| path.starts_with(src.join("cli")) || path.starts_with(src.join("bin")));
    assert!(allowed.len() > 10, "only {allowed:?} were found");
    assert!(others.is_empty(), "{others:?} name clap");
}

#[test]
fn the_library_declares_these_modules_and_no_others() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = std::fs::read_to_string(lib).unwrap();
    let declared = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    let mut declared: Vec<_> = declared.filter(|module| !OF_TESTS.contains(&module.as_str())).collect();
    let mut levels: Vec<_> = LEVELS.iter().map(ToString::to_string).collect();
    declared.sort();
    levels.sort();
    assert_eq!(declared, levels);
}

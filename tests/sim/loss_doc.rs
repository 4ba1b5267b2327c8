//! The tables of docs/loss.md, checked: every example is a valid link, and every number is computed.

use std::time::Instant;

use sayagain::link::{Direction, DropList, LinkConfig, Profile, Verdicts};

const PAGE: &str = include_str!("../../docs/loss.md");

/// The rows of the tables whose header begins with these cells, without backquotes.
fn rows(header: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut wanted = false;
    for line in PAGE.lines() {
        let Some(inner) = line.strip_prefix("| ") else {
            wanted &= line.starts_with('|');
            continue;
        };
        let cells: Vec<String> =
            inner.trim_end_matches(" |").split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect();
        if wanted {
            rows.push(cells);
        } else {
            wanted = cells.iter().zip(header).all(|(cell, name)| cell == name);
        }
    }
    assert!(!rows.is_empty(), "no table {header:?}");
    rows
}

fn link(spec: &str) -> LinkConfig {
    spec.parse().unwrap_or_else(|error| panic!("`{spec}` is in docs/loss.md: {error}"))
}

#[test]
fn every_example_is_a_valid_link_and_every_part_has_an_example() {
    let mut names: Vec<String> = Vec::new();
    for row in rows(&["form", "example"]) {
        assert_ne!(link(&row[1]).to_string(), "", "{row:?}");
        let name = |cell: &str| cell.split(':').next().unwrap().to_owned();
        assert_eq!(name(&row[0]), name(&row[1]), "{row:?}");
        names.push(name(&row[1]));
    }
    // The refusal of an unknown part lists all parts.
    let known = "x".parse::<LinkConfig>().unwrap_err().to_string();
    for part in known.split_once("loss models are").unwrap().1.split([' ', ',', ';']) {
        let is_word = ["", "other", "parts", "are", "or", "all", "of", "it", "is", "none"].contains(&part);
        assert!(is_word || names.iter().any(|name| name == part), "`{part}` is not in docs/loss.md");
    }
}

#[test]
fn every_link_on_a_command_line_is_valid() {
    let mut count = 0;
    for line in PAGE.lines().filter(|line| line.starts_with("server ")) {
        let words: Vec<&str> = line.split('#').next().unwrap().split_whitespace().collect();
        for pair in words[1..].chunks(2) {
            match pair {
                ["--profile", name] => assert!(name.parse::<Profile>().is_ok(), "{name}"),
                [_, spec] => _ = link(spec),
                _ => panic!("{line}"),
            }
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn the_rates_and_bursts_on_the_page_follow_from_the_formulas() {
    for row in rows(&["example", "rate", "mean burst"]) {
        let loss = link(&row[0]).loss;
        let shown =
            |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.4}"));
        let rate = shown(loss.rate().map(sayagain::units::Probability::get));
        assert_eq!([&rate, &shown(loss.mean_burst())], [&row[1], &row[2]], "{row:?}");
    }
}

#[test]
fn the_page_lists_all_profiles() {
    let shown: Vec<(String, String)> =
        rows(&["name", "link"]).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let real = Profile::ALL.map(|profile| (profile.name().to_owned(), profile.spec().to_owned()));
    assert_eq!(shown, real);
}

#[test]
fn the_losses_on_the_page_are_those_of_the_seed() {
    for row in rows(&["link", "up", "down"]) {
        for (direction, shown) in [(Direction::Up, &row[1]), (Direction::Down, &row[2])] {
            let mut verdicts = Verdicts::new(link(&row[0]).loss, 1, direction);
            let lost = (1..=20_u64).filter(|n| verdicts.lost(Instant::now(), 0, n - 1)).map(|n| n..=n);
            let merged = DropList::new(lost).unwrap().to_string();
            let listed = link(&format!("list:{}", shown.replace(' ', ""))).loss;
            assert_eq!(listed.to_string(), format!("list:{merged}"), "{row:?}");
        }
    }
}

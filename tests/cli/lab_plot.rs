//! `lab plot` and `lab report` from outside: which files they make, what is in them, what they refuse.

#![allow(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::program::{Ended, Program};
use ab_glyph::{Font as _, FontRef};
use roxmltree::{Document, Node};
use tempfile::TempDir;

const LAB: &str = env!("CARGO_BIN_EXE_lab");
const ROWS: &str = include_str!("../data/rows.csv");
const KINDS: [&str; 6] = ["success", "executions", "sends", "time", "heatmap", "cdf"];

fn lab(args: &[&str]) -> Ended {
    let mut program = Program::start(LAB, args);
    program.close_stdin();
    program.wait()
}

/// A directory with a CSV in it, and the path of that.
fn with_csv(text: &str) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("rows.csv");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// The names of all files of a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The fixture with a policy of another name.
fn with_policy(name: &str) -> String {
    ROWS.replace(",once,", &format!(",{name},"))
}

/// The SVGs of a CSV, by kind.
fn svgs(csv: &str) -> Vec<(String, String)> {
    let (directory, path) = with_csv(csv);
    let ended = lab(&["plot", &path, "--format", "svg"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let read = |name: String| (name.clone(), fs::read_to_string(directory.path().join(&name)).unwrap());
    files(directory.path()).into_iter().filter(|name| name.ends_with(".svg")).map(read).collect()
}

fn number(node: Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).unwrap_or_default().parse().unwrap_or_else(|_| panic!("{name} of {node:?}"))
}

/// Width of a text in the wide font that the pictures are laid out with.
fn width(text: &str, em: f64) -> f64 {
    let font = FontRef::try_from_slice(include_bytes!("../../src/lab/plot/DejaVuSans-subset.ttf")).unwrap();
    let units: f32 = text.chars().map(|c| font.h_advance_unscaled(font.glyph_id(c))).sum();
    f64::from(units) * em / f64::from(font.units_per_em().unwrap())
}

/// Every text of a picture with the box it takes: left, top, right, bottom.
fn texts(svg: &Document<'_>) -> Vec<(String, [f64; 4])> {
    let is_text = |node: &Node<'_, '_>| node.has_tag_name(("http://www.w3.org/2000/svg", "text"));
    let bounds = |node: Node<'_, '_>| {
        let (text, x, y, em) =
            (node.text().unwrap(), number(node, "x"), number(node, "y"), number(node, "font-size"));
        let width = width(text, em);
        let left = match node.attribute("text-anchor") {
            Some("middle") => x - width / 2.0,
            Some("end") => x - width,
            _ => x,
        };
        (text.to_owned(), [left, y - 0.8 * em, left + width, y + 0.25 * em])
    };
    svg.descendants().filter(is_text).map(bounds).collect()
}

#[test]
fn every_picture_is_made_as_svg_and_png_beside_the_csv() {
    let (directory, path) = with_csv(ROWS);
    let ended = lab(&["plot", &path]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let made: Vec<String> = ended.out.lines().map(str::to_owned).collect();
    let wanted: Vec<String> = KINDS
        .iter()
        .flat_map(|kind| {
            ["svg", "png"].map(|format| format!("{}-{kind}.{format}", path.trim_end_matches(".csv")))
        })
        .collect();
    assert_eq!(made, wanted);
    assert!(wanted.iter().all(|path| Path::new(path).is_file()));
    assert_eq!(files(directory.path()).len(), 13, "nothing temporary is left");
}

#[test]
fn the_pictures_can_be_chosen_and_put_elsewhere() {
    let (directory, path) = with_csv(ROWS);
    let elsewhere = TempDir::new().unwrap();
    let out = elsewhere.path().to_str().unwrap();
    let ended = lab(&["plot", &path, "--out", out, "--format", "png", "--kind", "cdf,success"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(files(elsewhere.path()), ["rows-cdf.png", "rows-success.png"].map(str::to_owned).into());
    assert_eq!(files(directory.path()).len(), 1);
    assert_eq!(lab(&["plot", &path, "--kind", "pie"]).code, 2);
    assert_eq!(lab(&["plot", &path, "--format", "gif"]).code, 2);
}

#[test]
fn every_svg_is_well_formed_and_no_label_is_clipped() {
    let long = with_policy(
        "a-policy-with-a-name-that-is-longer-than-any-legend-could-ever-show-in-a-line-of-text-1",
    );
    for csv in [ROWS.to_owned(), long, with_policy("<b>&amp;\u{1b}\"'")] {
        let svgs = svgs(&csv);
        assert_eq!(svgs.len(), KINDS.len());
        for (name, svg) in svgs {
            let document = Document::parse(&svg).unwrap_or_else(|error| panic!("{name}: {error}"));
            let root = document.root_element();
            let (width, height) = (number(root, "width"), number(root, "height"));
            let view = format!("0 0 {width} {height}");
            assert_eq!(root.attribute("viewBox"), Some(view.as_str()));
            assert_eq!(root.attribute("font-family"), Some("sans-serif"));
            let texts = texts(&document);
            assert!(texts.len() > 10, "{name}");
            for (text, [left, top, right, bottom]) in texts {
                let is_inside = left >= 0.0 && top >= 0.0 && right <= width && bottom <= height;
                assert!(is_inside, "{name}: {text} from {left}, {top} to {right}, {bottom}");
            }
        }
    }
}

#[test]
fn no_two_labels_of_a_picture_overlap() {
    for (name, svg) in svgs(ROWS) {
        let document = Document::parse(&svg).unwrap();
        let texts = texts(&document);
        for (n, (a, from)) in texts.iter().enumerate() {
            for (b, to) in &texts[n + 1..] {
                let apart = from[2] <= to[0] || to[2] <= from[0] || from[3] <= to[1] || to[3] <= from[1];
                assert!(apart, "{name}: {a:?} and {b:?}");
            }
        }
    }
}

#[test]
fn a_picture_says_what_it_shows_and_where_it_comes_from() {
    for (name, svg) in svgs(ROWS) {
        let document = Document::parse(&svg).unwrap();
        let all: Vec<String> = texts(&document).into_iter().map(|(text, _)| text).collect();
        let all = all.join(" ");
        for part in ["expb", "once", "2,000 trials per point", "seed 7", "sayagain 0.1.0", "virtual time"] {
            assert!(all.contains(part), "{name} says {part}: {all}");
        }
    }
    let (_, heatmap) = svgs(ROWS).into_iter().find(|(name, _)| name.contains("heatmap")).unwrap();
    for cell in ["99.4", "90.2", "<text"] {
        assert!(heatmap.contains(cell), "{cell}");
    }
}

/// Height, width and colours of a PNG.
fn decoded(path: &Path) -> (u32, u32, BTreeSet<Vec<u8>>) {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    (info.width, info.height, pixels.chunks_exact(3).map(<[u8]>::to_vec).collect())
}

#[test]
fn a_png_shows_what_its_svg_shows_at_twice_the_size() {
    let (directory, path) = with_csv(ROWS);
    assert_eq!(lab(&["plot", &path]).code, 0);
    for kind in KINDS {
        let png = directory.path().join(format!("rows-{kind}.png"));
        assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
        let svg = fs::read_to_string(directory.path().join(format!("rows-{kind}.svg"))).unwrap();
        let document = Document::parse(&svg).unwrap();
        let (width, height, colors) = decoded(&png);
        let root = document.root_element();
        assert_eq!(
            (f64::from(width), f64::from(height)),
            (2.0 * number(root, "width"), 2.0 * number(root, "height"))
        );
        // Text and lines, and every colour of the SVG somewhere inside of a shape.
        assert!(colors.len() > 30, "{kind}: {} colours", colors.len());
        let fills = document.descendants().filter_map(|node| node.attribute("fill"));
        for fill in fills.filter(|fill| fill.starts_with('#')).collect::<BTreeSet<_>>() {
            let rgb = u32::from_str_radix(&fill[1..], 16).unwrap().to_be_bytes()[1..].to_vec();
            let near = |color: &Vec<u8>| color.iter().zip(&rgb).all(|(a, b)| a.abs_diff(*b) < 48);
            assert!(colors.iter().any(near), "{kind}: {fill}");
        }
    }
}

#[test]
fn the_same_csv_gives_the_same_bytes() {
    let all = |csv: &str| {
        let (directory, path) = with_csv(csv);
        assert_eq!((lab(&["plot", &path]).code, lab(&["report", &path]).code), (0, 0));
        let read = |name: String| (name.clone(), fs::read(directory.path().join(name)).unwrap());
        files(directory.path()).into_iter().map(read).collect::<Vec<_>>()
    };
    assert!(all(ROWS) == all(ROWS));
}

#[test]
fn pictures_without_data_are_left_out_and_reported() {
    let one_policy: String =
        ROWS.lines().filter(|line| !line.contains(",once,")).map(|line| format!("{line}\n")).collect();
    let (directory, path) = with_csv(&one_policy);
    let ended = lab(&["plot", &path]);
    assert_eq!(ended.code, 0);
    assert!(ended.err.starts_with("note: heatmap: not drawn: it takes two policies"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1);
    assert!(!files(directory.path()).iter().any(|name| name.contains("heatmap")));

    let (directory, path) = with_csv(&one_policy);
    let ended = lab(&["plot", &path, "--kind", "heatmap"]);
    assert_eq!((ended.code, ended.closing_line()), (1, "error: nothing could be drawn from these rows"));
    assert_eq!(files(directory.path()).len(), 1);
}

/// The fixture without what these columns hold.
fn without(columns: &[&str]) -> String {
    let mut reader = csv::Reader::from_reader(ROWS.as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&header).unwrap();
    for record in reader.records() {
        let record = record.unwrap();
        let cells =
            header.iter().zip(&record).map(|(name, cell)| if columns.contains(&name) { "" } else { cell });
        writer.write_record(cells).unwrap();
    }
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

#[test]
fn without_theory_the_points_are_drawn_and_a_note_is_printed() {
    let (directory, path) = with_csv(&without(&["success_theory", "success_z"]));
    let ended = lab(&["plot", &path, "--kind", "success", "--format", "svg"]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (0, "note: success: no theory in the file, so none is drawn\n")
    );
    let svg = fs::read_to_string(directory.path().join("rows-success.svg")).unwrap();
    assert!(svg.contains("lines only join the points") && !svg.contains("difference to theory"));
}

#[test]
fn the_report_is_one_page_with_command_seed_plots_and_table() {
    let (_directory, path) = with_csv(ROWS);
    let ended = lab(&["report", &path]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    let page = PathBuf::from(ended.out.trim_end());
    assert_eq!(page, PathBuf::from(path.replace(".csv", ".html")));
    let html = fs::read_to_string(page).unwrap();
    for part in [
        "lab sweep -L policy expb,once -L loss .1,.3,.5 --trials 2000 --seed 7",
        "<dt>seed</dt><dd><code>7</code></dd>",
        "<dt>version</dt><dd><code>0.1.0</code></dd>",
        "prefers-color-scheme:dark",
        "width=device-width",
        "default-src 'none'",
        "stroke=\"var(--s1)\"",
        "<td class=\"n\">0.9940</td>",
        "<th scope=\"col\" class=\"n\">success_high</th>",
        "href=\"data:text/csv;base64,dmVyc2lvbixnZW5lcmF0b3Is",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<svg ").count(), KINDS.len());
    assert_eq!(html.matches("<figcaption>").count(), KINDS.len());
}

#[test]
fn the_page_asks_the_network_for_nothing_and_runs_nothing() {
    let (_directory, path) = with_csv(ROWS);
    let ended = lab(&["report", &path]);
    let html = fs::read_to_string(ended.out.trim_end()).unwrap();
    let without_names = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for forbidden in
        ["http:", "https:", "//", "<script", "<link", "@import", "url(", "<img", "<iframe", "src=", "onload"]
    {
        assert!(!without_data(&without_names).contains(forbidden), "{forbidden}");
    }
}

/// A page without the data in its link, in which any letters may stand side by side.
fn without_data(html: &str) -> String {
    let (before, after) = html.split_once("base64,").unwrap();
    format!("{before}{}", after.split_once('"').unwrap().1)
}

#[test]
fn text_of_the_csv_is_shown_and_never_executed() {
    let hostile =
        with_policy("<script>alert(1)</script>").replace("--seed 7", "</code><img src=x>\u{202e}&amp;");
    let (_directory, path) = with_csv(&hostile);
    let ended = lab(&["report", &path]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let html = fs::read_to_string(ended.out.trim_end()).unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(
        html.contains("&lt;/code&gt;&lt;img src=x&gt;\\u{202e}&amp;amp;"),
        "escaped, and the name of what turns text"
    );
    assert!(!html.contains("<script") && !html.contains("<img") && !html.contains('\u{202e}'));
}

#[test]
fn the_report_can_be_put_elsewhere_but_not_in_the_place_of_its_csv() {
    let (directory, path) = with_csv(ROWS);
    let page = directory.path().join("page.html");
    let ended = lab(&["report", &path, "--out", page.to_str().unwrap()]);
    assert_eq!((ended.code, ended.out.trim_end()), (0, page.to_str().unwrap()));
    assert!(page.is_file());
    let ended = lab(&["report", &path, "--out", &path]);
    assert_eq!((ended.code, ended.err.lines().count()), (2, 1), "{}", ended.err);
    assert_eq!(fs::read_to_string(&path).unwrap(), ROWS);
}

#[test]
fn a_csv_that_is_not_ours_is_refused_with_one_line_and_nothing_is_made() {
    let header = ROWS.lines().next().unwrap();
    let bad = [
        ("".to_owned(), "line 1"),
        ("name,value\na,1\n".to_owned(), "line 1: no column `version`"),
        (header.replace(",success,", ",succes,") + "\n", "no column `success`"),
        (format!("{header}\n"), "no rows"),
        (ROWS.replacen(",0.994,", ",99 %,", 1), "line 3, column success: `99 %`"),
        (ROWS.replacen("1,231.884058,", "1,231.884058,,", 1), "line 2: 59 cells under 58 columns"),
    ];
    for (text, part) in bad {
        let (directory, path) = with_csv(&text);
        for command in ["plot", "report"] {
            let ended = lab(&[command, &path]);
            assert_eq!(
                (ended.code, ended.out.as_str(), ended.err.lines().count()),
                (1, "", 1),
                "{}",
                ended.err
            );
            assert!(ended.err.starts_with("error: ") && ended.err.contains(part), "{part}: {}", ended.err);
        }
        assert_eq!(files(directory.path()).len(), 1);
    }
    let ended = lab(&["plot", "/nowhere/rows.csv"]);
    assert_eq!((ended.code, ended.err.lines().count()), (1, 1));
}

#[test]
fn a_directory_that_cannot_be_written_is_reported_in_one_line() {
    let (directory, path) = with_csv(ROWS);
    let below = format!("{path}/pictures");
    for (out, page) in [(below.as_str(), "/nowhere/x.html"), (&path, directory.path().to_str().unwrap())] {
        for (args, what) in [
            (["plot", &path, "--out", out], "make the directory"),
            (["report", &path, "--out", page], "write"),
        ] {
            let ended = lab(&args);
            assert_eq!(
                (ended.code, ended.out.as_str(), ended.err.lines().count()),
                (1, "", 1),
                "{args:?}: {}",
                ended.err
            );
            assert!(ended.err.starts_with(&format!("error: cannot {what} ")), "{}", ended.err);
        }
    }
    assert_eq!(files(directory.path()).len(), 1, "nothing half-written");
}

#[test]
fn a_directory_for_pictures_is_made_if_need_be() {
    let (directory, path) = with_csv(ROWS);
    let out = directory.path().join("new/below");
    let ended = lab(&["plot", &path, "--out", out.to_str().unwrap(), "--format", "svg", "--kind", "success"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(files(&out), BTreeSet::from(["rows-success.svg".to_owned()]));
}

#[test]
fn a_report_under_a_name_that_asks_for_something_else_is_refused_with_what_can_be_written() {
    let (directory, path) = with_csv(ROWS);
    for name in ["x.pdf", "x.PNG", "rows.html.csv"] {
        let ended = lab(&["report", &path, "--out", directory.path().join(name).to_str().unwrap()]);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{name}: {}", ended.err);
        assert!(ended.err.contains("a report is a page in HTML: name it .html"), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
    for name in ["x.html", "x.HTM", "x"] {
        assert_eq!(
            lab(&["report", &path, "--out", directory.path().join(name).to_str().unwrap()]).code,
            0,
            "{name}"
        );
    }
    assert_eq!(files(directory.path()).len(), 4);
}

#[cfg(unix)]
#[test]
fn output_files_have_the_usual_permissions_of_the_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = with_csv(ROWS);
    assert_eq!(lab(&["report", &path]).code, 0);
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("rows.html"), mode("rows.csv"));
}

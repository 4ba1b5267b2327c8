//! The tables of a comparison: Markdown for reading, CSV for programs.

use super::{Case, Comparison, Line, MEASURES, Measure, RATE, Spread};

/// Returns a number of a line, if there is one.
type Cell = Box<dyn Fn(&Case, &Line) -> Option<f64>>;

/// A column: its title and its value.
struct Column {
    title: &'static str,
    cell: Cell,
}

fn column(title: &'static str, cell: impl Fn(&Case, &Line) -> Option<f64> + 'static) -> Column {
    Column { title, cell: Box::new(cell) }
}

/// Returns the columns of a measure; for the rate also minimum and maximum.
fn columns_of(measure: Measure) -> Vec<Column> {
    let of = move |part: fn(Spread) -> f64| move |_: &Case, line: &Line| line.value(measure).map(part);
    let mut columns = vec![column(measure.title, of(|spread| spread.median))];
    if measure == RATE {
        columns.extend([column("min", of(|spread| spread.min)), column("max", of(|spread| spread.max))]);
    }
    columns
}

fn ratio_columns() -> [Column; 4] {
    let rate = |part: fn(Spread) -> f64| move |_: &Case, line: &Line| line.rate_ratio.map(part);
    [
        column("rate ratio", rate(|spread| spread.median)),
        column("ratio min", rate(|spread| spread.min)),
        column("ratio max", rate(|spread| spread.max)),
        column("CPU ratio", |_, line| line.cpu_ratio.map(|spread| spread.median)),
    ]
}

/// Returns a table for each workload, with its measured values. `subject` is the server whose ratios to the others are
/// shown.
#[must_use]
pub(crate) fn markdown(comparison: &Comparison, subject: &str) -> String {
    let mut workloads: Vec<&str> = comparison.keys().map(|case| case.workload.as_str()).collect();
    workloads.dedup();
    let tables = workloads.into_iter().map(|workload| {
        let of = comparison.iter().filter(|(case, _)| case.workload == workload);
        let lines: Vec<_> = of.flat_map(|(case, lines)| lines.iter().map(move |line| (case, line))).collect();
        format!("### {}\n\n{}\n", inline(workload), one_table(&lines))
    });
    let note = format!(
        "Medians, and of the rate the least and the most. Ratios are {}'s divided by the line's, in the same rounds.\n\n",
        inline(subject)
    );
    note + &tables.collect::<String>()
}

fn one_table(lines: &[(&Case, &Line)]) -> String {
    let mut columns = vec![
        column("size B", |case, _| case.size.map(|size| size as f64)),
        column("clients", |case, _| Some(case.clients as f64)),
    ];
    columns.extend(MEASURES.into_iter().flat_map(columns_of));
    columns.extend(ratio_columns());
    columns.push(column("runs", |_, line| Some(line.runs as f64)));
    columns.retain(|column| lines.iter().any(|(case, line)| (column.cell)(case, line).is_some()));
    let titles = columns.iter().map(|column| column.title.to_owned());
    let mut rows: Vec<Vec<String>> = vec![std::iter::once("server".to_owned()).chain(titles).collect()];
    for (case, line) in lines {
        let cells = columns.iter().map(|column| (column.cell)(case, line).map(figure).unwrap_or_default());
        rows.push(std::iter::once(inline(&line.server)).chain(cells).collect());
    }
    aligned(&rows)
}

/// Aligns a Markdown table of a header and rows: the first column to the left, others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let places = 0..rows.first().map_or(0, Vec::len);
    let width = |place: usize| {
        rows.iter().filter_map(|row| row.get(place)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<usize> = places.map(|place| width(place).unwrap_or(0).max(3)).collect();
    let padded = |(place, (cell, width)): (usize, (&String, &usize))| match place {
        0 => format!("| {cell:<width$} |"),
        _ => format!(" {cell:>width$} |"),
    };
    let line = |row: &Vec<String>| row.iter().zip(&widths).enumerate().map(padded).collect::<String>() + "\n";
    let rule = |(place, width): (usize, &usize)| match place {
        0 => "-".repeat(*width),
        _ => "-".repeat(width.saturating_sub(1)) + ":",
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(lines.len().min(1), line(&widths.iter().enumerate().map(rule).collect()));
    lines.concat()
}

/// Escapes text for a table cell.
fn inline(text: &str) -> String {
    crate::escape::escape_short(text.as_bytes(), 40).replace('|', "\\|")
}

/// Formats four significant digits; from 1,000 on whole numbers with commas.
fn figure(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let digits = number.abs().log10().floor();
    if digits < 3.0 && number.fract() != 0.0 {
        let places = (0..9_u8).find(|places| f64::from(*places) >= 3.0 - digits).unwrap_or(9);
        return format!("{number:.*}", usize::from(places));
    }
    let whole = format!("{number:.0}");
    let places = (0..whole.len()).rev();
    let comma = |place: usize| if place > 0 && place.is_multiple_of(3) { "," } else { "" };
    whole.chars().zip(places).map(|(digit, place)| format!("{digit}{}", comma(place))).collect()
}

/// Returns one flat table, a row for each line; cells without a value are empty.
#[must_use]
pub(crate) fn csv(comparison: &Comparison) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = ["workload", "size_bytes", "clients", "server", "runs"].map(str::to_owned).into_iter();
    let measures = MEASURES.iter().flat_map(|measure| spread_names(measure.column));
    let ratios = ["rate_ratio", "cpu_ratio"].into_iter().flat_map(spread_names);
    // Writing into memory cannot fail.
    let _ = writer.write_record(names.chain(measures).chain(ratios));
    for (case, lines) in comparison {
        for line in lines {
            let _ = writer.write_record(record(case, line));
        }
    }
    writer.into_inner().unwrap_or_default()
}

fn spread_names(column: &str) -> [String; 3] {
    ["", "_min", "_max"].map(|end| format!("{column}{end}"))
}

fn record(case: &Case, line: &Line) -> Vec<String> {
    let size = case.size.map(|size| size.to_string()).unwrap_or_default();
    let mut cells = vec![
        case.workload.clone(),
        size,
        case.clients.to_string(),
        line.server.clone(),
        line.runs.to_string(),
    ];
    for spread in line.values.iter().chain([&line.rate_ratio, &line.cpu_ratio]) {
        let parts = spread.map(|spread| [spread.median, spread.min, spread.max].map(|part| part.to_string()));
        cells.extend(parts.unwrap_or_default());
    }
    cells
}

/// Returns the losses and failures, a clause for each line that has any.
#[must_use]
pub(crate) fn losses(comparison: &Comparison) -> Vec<String> {
    let all = comparison.iter().flat_map(|(case, lines)| lines.iter().map(move |line| (case, line)));
    let bad = all.flat_map(|(case, line)| {
        let of = |measure: &Measure| line.value(*measure).map(|spread| spread.max).filter(|max| *max > 0.0);
        let said = MEASURES.iter().filter(|measure| matches!(measure.column, "lost" | "failed"));
        said.filter_map(move |measure| {
            let (server, workload) = (inline(&line.server), inline(&case.workload));
            Some(format!(
                "{server} in {workload}, {} clients: {} {}",
                case.clients,
                figure(of(measure)?),
                measure.title
            ))
        })
    });
    bad.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::compare::{CPU, compare};

    const ROWS: &str = "\
workload,peer,engine,clients,size_bytes,rate,lost,server_cpu_s_per_million
route,sayagain,,16,16,6496705.4,0,0.025
route,na|ts,,16,16,3248352.7,0,0.25
ping,sayagain,,64,,999.5,3,
";

    #[test]
    fn a_table_has_the_columns_that_its_workload_measured() {
        let text = markdown(&compare(ROWS.as_bytes(), "sayagain").unwrap(), "sayagain");
        let expected = "\
### ping

| server   | clients | rate /s |   min |   max | lost | runs |
| -------- | ------: | ------: | ----: | ----: | ---: | ---: |
| sayagain |      64 |   999.5 | 999.5 | 999.5 |    3 |    1 |

### route

| server   | size B | clients |   rate /s |       min |       max | CPU s/M | lost | rate ratio | ratio min | ratio max | CPU ratio | runs |
| -------- | -----: | ------: | --------: | --------: | --------: | ------: | ---: | ---------: | --------: | --------: | --------: | ---: |
| sayagain |     16 |      16 | 6,496,705 | 6,496,705 | 6,496,705 | 0.02500 |    0 |            |           |           |           |    1 |
| na\\|ts   |     16 |      16 | 3,248,353 | 3,248,353 | 3,248,353 |  0.2500 |    0 |          2 |         2 |         2 |    0.1000 |    1 |
";
        assert!(text.ends_with(&format!("{expected}\n")), "{text}");
    }

    #[test]
    fn the_csv_has_every_column_and_empty_cells_without_a_value() {
        let comparison = compare(ROWS.as_bytes(), "sayagain").unwrap();
        let bytes = csv(&comparison);
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let names = reader.headers().unwrap().clone();
        let at = |name: &str| names.iter().position(|one| one == name).unwrap();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!((&rows[0][at("rate_min")], &rows[0][at(CPU.column)]), ("999.5", ""));
        assert_eq!((&rows[2][at("server")], &rows[2][at("rate_ratio_max")]), ("na|ts", "2"));
    }

    #[test]
    fn losses_are_listed_with_their_server() {
        let comparison = compare(ROWS.as_bytes(), "sayagain").unwrap();
        assert_eq!(losses(&comparison), ["sayagain in ping, 64 clients: 3 lost"]);
    }

    #[test]
    fn figures_have_four_digits_and_commas() {
        let shown = [0.0, 0.012_345, 1.0, 12.345, 999.95, 1_000.0, 1_234_567.8].map(figure);
        assert_eq!(shown, ["0", "0.01235", "1", "12.35", "1000.0", "1,000", "1,234,568"]);
    }
}

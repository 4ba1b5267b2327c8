//! Plots of a comparison of servers: rate and CPU time per million messages against the number of clients.

use super::axis::Axis;
use super::figure::{Body, Curve, Figure, Panel};
use super::kinds::{TALL, entry, log_note};
use super::style::Style;
use super::{Picture, PlotError};
use crate::escape::escape_short;
use crate::lab::load::compare::{CPU, Case, Comparison, Line, Measure, RATE};

/// Cases that differ only in the number of clients.
type Growth<'a> = Vec<(&'a Case, &'a [Line])>;

impl Picture {
    /// Draws a plot for each workload and size that was measured with several numbers of clients; each has a file
    /// name.
    ///
    /// # Errors
    ///
    /// The drawing library fails.
    pub(crate) fn of_servers(comparison: &Comparison) -> Result<Vec<(String, Self)>, PlotError> {
        let cases: Vec<_> = comparison.iter().map(|(case, lines)| (case, lines.as_slice())).collect();
        let alike =
            cases.chunk_by(|(one, _), (other, _)| one.workload == other.workload && one.size == other.size);
        alike.filter(|growth| growth.len() > 1).map(|growth| draw(&growth.to_vec())).collect()
    }
}

fn draw(growth: &Growth<'_>) -> Result<(String, Picture), PlotError> {
    let (workload, size) = growth.first().map_or(("", None), |(case, _)| (case.workload.as_str(), case.size));
    let workload = escape_short(workload.as_bytes(), 40);
    let servers = servers(growth);
    let clients: Vec<f64> = growth.iter().map(|(case, _)| case.clients as f64).collect();
    let x = Axis::wide(&clients);
    let panels = [(RATE, "rate, /s"), (CPU, "CPU of the server, s per million")];
    let figure = Figure {
        title: size.map_or_else(|| workload.to_string(), |size| format!("{workload}, {size} B")),
        lead: "medians, from the least to the most; all servers in the same run".to_owned(),
        legend: servers
            .iter()
            .enumerate()
            .map(|(n, server)| entry(&escape_short(server.as_bytes(), 40), n))
            .collect(),
        foot: log_note(&x).into_iter().collect(),
        body: Body::Panels {
            x,
            x_name: "clients".to_owned(),
            panels: panels.map(|(measure, name)| panel(growth, &servers, measure, name)).into(),
        },
    };
    let sheet = figure.draw().map_err(|error| PlotError::Draw(error.to_string()))?;
    let name = size.map_or_else(|| workload.to_string(), |size| format!("{workload}-{size}"));
    // The name becomes a file name.
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Ok((name, Picture { sheet, label: format!("{}: {}", figure.title, figure.lead), left_out: Vec::new() }))
}

/// Returns the servers of these cases, in order of first occurrence.
fn servers<'a>(growth: &Growth<'a>) -> Vec<&'a str> {
    let mut servers: Vec<&str> = Vec::new();
    for line in growth.iter().flat_map(|(_, lines)| lines.iter()) {
        if !servers.contains(&line.server.as_str()) {
            servers.push(&line.server);
        }
    }
    servers
}

fn panel(growth: &Growth<'_>, servers: &[&str], measure: Measure, name: &str) -> Panel {
    let curves: Vec<Curve> =
        servers.iter().enumerate().map(|(n, server)| curve(growth, server, measure, Style::of(n))).collect();
    let values: Vec<f64> =
        curves.iter().flat_map(|curve| curve.intervals.iter()).flat_map(|at| [at.1, at.2]).collect();
    Panel { name: name.to_owned(), y: Axis::wide(&values), height: TALL, curves }
}

fn curve(growth: &Growth<'_>, server: &str, measure: Measure, style: Style) -> Curve {
    let line =
        |lines: &[Line]| lines.iter().find(|line| line.server == server).and_then(|line| line.value(measure));
    let spreads: Vec<_> =
        growth.iter().filter_map(|(case, lines)| Some((case.clients as f64, line(lines)?))).collect();
    let points: Vec<(f64, f64)> = spreads.iter().map(|(x, spread)| (*x, spread.median)).collect();
    let intervals = spreads.iter().map(|(x, spread)| (*x, spread.min, spread.max)).collect();
    Curve { style, line: points.clone(), is_theory: false, marks: points, is_hollow: false, intervals }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::compare::compare;

    const ROWS: &str = "\
workload,peer,clients,size_bytes,rate,server_cpu_s_per_million
route,sayagain,1,16,1000,0.5
route,na<&>ts,1,16,900,
route,sayagain,100,16,5000,0.25
route,sayagain,100,256,5000,0.25
ping,sayagain,1,,7,2
";

    #[test]
    fn a_picture_is_drawn_where_the_clients_become_more() {
        let pictures = Picture::of_servers(&compare(ROWS.as_bytes(), "sayagain").unwrap()).unwrap();
        let [(name, picture)] = pictures.as_slice() else { panic!("there is one: {}", pictures.len()) };
        assert_eq!(name, "route-16");
        let svg = picture.svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let words: String = document.descendants().filter_map(|node| node.text()).collect();
        for word in ["route, 16 B", "sayagain", "na<&>ts", "rate, /s", "s per million", "clients"] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }
}

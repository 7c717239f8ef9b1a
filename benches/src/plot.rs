//! Simple line charts as SVG, for the pages under `docs/`.

use std::fmt::Write;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The label at its end.
    pub name: String,
    /// Its points; both coordinates positive.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 4] = ["#888888", "#c28a00", "#0969da", "#8250df"];

/// A chart with logarithmic axes, which show growth as slope.
pub fn chart(title: &str, across: &str, up: &str, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let range = |values: Vec<f64>| {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.iter().copied().fold(0.0, f64::max).log10().ceil();
        if least.is_finite() && most.is_finite() { (least, most.max(least + 1.0)) } else { (0.0, 1.0) }
    };
    let (x_axis, y_axis) = (range(points().map(|it| it.0).collect()), range(points().map(|it| it.1).collect()));
    let place = |value: f64, axis: (f64, f64)| (value.log10() - axis.0) / (axis.1 - axis.0);
    let x_of = |value: f64| LEFT + place(value, x_axis) * (WIDTH - LEFT - RIGHT);
    let y_of = |value: f64| HEIGHT - BOTTOM - place(value, y_axis) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{title}</text>\n"
    );
    let line = |x1: f64, y1: f64, x2: f64, y2: f64| {
        format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#dddddd\"/>\n")
    };
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for power in x_axis.0 as i32..=x_axis.1 as i32 {
        let (value, x) = (10f64.powi(power), x_of(10f64.powi(power)));
        svg += &line(x, TOP, x, bottom);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>", bottom + 18.0);
    }
    for power in y_axis.0 as i32..=y_axis.1 as i32 {
        let (value, y) = (10f64.powi(power), y_of(10f64.powi(power)));
        svg += &line(LEFT, y, right, y);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", LEFT - 6.0, y + 4.0);
    }
    let middle = f64::midpoint(LEFT, right);
    let _ = writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{across}</text>", HEIGHT - 12.0);
    let _ = writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{up}</text>", TOP - 6.0);
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<String> =
            series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            places.join(" ")
        );
        for (x, y) in &series.points {
            let _ = writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x_of(*x), y_of(*y));
        }
        if let Some((x, y)) = series.points.last() {
            let (x, y) = (x_of(*x) + 8.0, y_of(*y) + 4.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>", series.name);
        }
    }
    svg + "</svg>\n"
}

//! Plots as SVG, in the colours and the font of the page around them, so that they are read on a light and a dark
//! ground. All are 360 units wide, which is a phone's width, so that their letters stay as large as the text's.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{BoldPoints, Ranged};
use plotters::prelude::*;

use super::markup::Markup;

const WIDTH: u32 = 360;
/// The size of letters, as plotters counts it.
const LETTERS: f64 = 15.0;
/// Numbers on an axis, about.
const TICKS: usize = 5;
/// Of a picture without axes.
const SIDE: u32 = 180;
/// Colours of series; further ones are all the last.
pub const COLOURS: usize = 8;
/// Stand for what the style sheet names.
const TEXT: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(1, 1, 2);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Range = std::ops::Range<f64>;

/// What a plot has besides its points.
pub struct Axes<'a> {
    /// What is said of it to those who do not see it.
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub height: u32,
    /// The ends of the axes, where they are not those of the points.
    pub across: Option<Range>,
    pub up: Option<Range>,
    /// Names at heights of the plot, in the place of the numbers of an upward axis.
    pub names: &'a [(f64, String)],
}

/// Points that are joined, or not.
pub struct Series {
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Line,
    /// A line with a ring at each point.
    Marked,
    Dots,
    /// From the ground up.
    Bars {
        width: f64,
    },
    /// A line that says where something would be.
    Guide,
}

/// The colour of a series.
fn colour(number: usize) -> RGBColor {
    RGBColor(2, 0, number.min(COLOURS - 1) as u8)
}

pub fn plot(axes: &Axes, series: &[Series]) -> Result<Markup> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, axes.height)).into_drawing_area();
        draw(&area, axes, series).map_err(|error| anyhow!("{}: {error}", axes.title))?;
        area.present()?;
    }
    Ok(dressed(&svg, axes.title, (WIDTH, axes.height)))
}

/// Dots without axes, of which only the distances say something.
pub fn cloud(title: &str, series: &[Series]) -> Result<Markup> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIDE, SIDE)).into_drawing_area();
        scatter(&area, series).map_err(|error| anyhow!("{title}: {error}"))?;
        area.present()?;
    }
    Ok(dressed(&svg, title, (SIDE, SIDE)))
}

fn scatter(area: &Area, series: &[Series]) -> Drawn {
    let points = || series.iter().flat_map(|series| &series.points);
    let ranges = (span(points().map(|point| point.0)), span(points().map(|point| point.1)));
    let mut chart = ChartBuilder::on(area).margin(4).build_cartesian_2d(ranges.0, ranges.1)?;
    for series in series {
        let colour = colour(series.colour).mix(0.8);
        let dot = |at: &(f64, f64)| Circle::new(*at, 2, colour.filled());
        chart.draw_series(series.points.iter().map(dot))?;
    }
    Ok(())
}

type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<std::io::Error>>;

fn draw(area: &Area, axes: &Axes, series: &[Series]) -> Drawn {
    let range = |along: fn(&(f64, f64)) -> f64| {
        span(series.iter().flat_map(|series| series.points.iter().map(along)))
    };
    let across = axes.across.clone().unwrap_or_else(|| range(|point| point.0));
    let left = across.start;
    let up = axes.up.clone().unwrap_or_else(|| range(|point| point.1));
    let is_bare = !axes.names.is_empty();
    // A tick at 0 may come out as what rounding leaves.
    let least = |range: &Range| 1e-9 * (range.end - range.start);
    let [least_across, least_up] = [least(&across), least(&up)];
    let tick = |value: f64, least: f64| short(if value.abs() < least { 0.0 } else { value });
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_left(5)
        .margin_right(16)
        .margin_bottom(2)
        .x_label_area_size(38)
        .y_label_area_size(if is_bare { 8 } else { room(axes.y, &up) })
        .build_cartesian_2d(across, up)?;
    let font = ("sans-serif", LETTERS).into_font().color(&TEXT);
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT).bold_line_style(GRID).axis_style(GRID);
    mesh.label_style(font.clone()).axis_desc_style(font.clone());
    mesh.x_desc(axes.x).y_desc(axes.y).x_labels(TICKS).y_labels(if is_bare { 0 } else { TICKS });
    let (of_x, of_y) =
        (|value: &f64| tick(*value, least_across), |value: &f64| tick(*value, least_up));
    mesh.x_label_formatter(&of_x).y_label_formatter(&of_y).draw()?;
    for series in series {
        add(&mut chart, series)?;
    }
    let name = |(up, name): &(f64, String)| Text::new(name.clone(), (left, up + 0.5), font.clone());
    chart.draw_series(axes.names.iter().map(name))?;
    Ok(())
}

/// Room for the numbers of an upward axis, and its name beside them.
fn room(name: &str, up: &Range) -> u32 {
    // In an SVG of plotters, letters are smaller than they are called; their lines are not.
    let em = LETTERS / 1.24;
    // Of wide fonts. Between the axis and its numbers there are two ticks.
    let letter = |letter: char| em * if "-.".contains(letter) { 0.38 } else { 0.65 };
    let width = |value: f64| short(value).chars().map(letter).sum::<f64>();
    let ticks = RangedF64::from(up.clone()).key_points(BoldPoints(TICKS));
    let longest = ticks.into_iter().map(width).fold(0.0, f64::max);
    (longest + 12.0 + if name.is_empty() { 0.0 } else { LETTERS + 2.0 }).ceil() as u32
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedF64, RangedF64>>;
type RangedF64 = plotters::coord::types::RangedCoordf64;

fn add(chart: &mut Chart, series: &Series) -> Drawn {
    let (colour, points) = (colour(series.colour), &series.points);
    let line = |style: ShapeStyle| LineSeries::new(points.iter().copied(), style);
    let dots = |size: i32| points.iter().map(move |at| Circle::new(*at, size, colour.filled()));
    match series.kind {
        Kind::Line => drop(chart.draw_series(line(colour.stroke_width(2)))?),
        Kind::Guide => drop(chart.draw_series(line(GRID.stroke_width(1)))?),
        Kind::Dots => drop(chart.draw_series(dots(3))?),
        Kind::Marked => {
            chart.draw_series(line(colour.stroke_width(2)))?;
            let ring = |at: &(f64, f64)| Circle::new(*at, 3, colour.stroke_width(2));
            chart.draw_series(points.iter().map(ring))?;
        }
        Kind::Bars { width } => {
            let bar = |(x, y): &(f64, f64)| {
                Rectangle::new([(x + 0.05 * width, 0.0), (x + 0.95 * width, *y)], colour.filled())
            };
            chart.draw_series(points.iter().map(bar))?;
        }
    }
    Ok(())
}

/// The ends of values with some room around them.
fn span(values: impl Iterator<Item = f64>) -> Range {
    let ends =
        values.filter(|value| value.is_finite()).fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
    let (low, high) = ends.unwrap_or((0.0, 1.0));
    let room = match high - low {
        0.0 => 0.5 * high.abs().max(1e-3),
        width => 0.04 * width,
    };
    low - room..high + room
}

/// A number for a tick: few letters.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let trimmed = |digits: usize, unit: &str, by: f64| {
        let text = format!("{:.digits$}", value / by);
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.')
        } else {
            &text
        };
        format!("{}{unit}", if text == "-0" { "0" } else { text })
    };
    match size {
        0.0 => "0".into(),
        _ if size < 1e-3 => format!("{value:.1e}").replace(".0e", "e"),
        _ if size >= 1e6 => trimmed(1, "M", 1e6),
        _ if size >= 1e4 => trimmed(1, "k", 1e3),
        _ if size >= 100.0 => trimmed(0, "", 1.0),
        _ if size >= 10.0 => trimmed(1, "", 1.0),
        _ => trimmed(3, "", 1.0),
    }
}

/// The drawing with the page's colours, fit to any width, told to readers of screens.
fn dressed(svg: &str, title: &str, (width, height): (u32, u32)) -> Markup {
    let inside = svg.split_once('>').map_or("", |(_, inside)| inside);
    let mut inside = inside.replace("#010101", "currentColor").replace("#010102", "var(--line)");
    for number in 0..COLOURS {
        inside = inside.replace(&format!("#0200{number:02}"), &format!("var(--c{number})"));
    }
    let inside = inside.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
    let title = askama::filters::escape(title, askama::filters::Html)
        .map_or_else(|_| String::new(), |title| title.to_string());
    format!("<svg role=\"img\" viewBox=\"0 0 {width} {height}\" aria-label=\"{title}\">{inside}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        let values = [0.0, 2e-5, 2.5e-4, 0.05, 1.25, 12.34, 250.0, 12_000.0, 1_500_000.0, -0.5];
        let wanted = ["0", "2e-5", "2.5e-4", "0.05", "1.25", "12.3", "250", "12k", "1.5M", "-0.5"];
        assert_eq!(values.map(short), wanted);
    }

    #[test]
    fn colours_are_the_pages() {
        let axes =
            Axes { title: "a<b", x: "x", y: "y", height: 200, across: None, up: None, names: &[] };
        let series = |kind| Series { colour: 3, points: vec![(0.0, 1.0), (1.0, 2.0)], kind };
        let svg = plot(&axes, &[series(Kind::Marked), series(Kind::Bars { width: 1.0 })]).unwrap();
        assert!(svg.contains("var(--c3)") && svg.contains("currentColor"), "{svg}");
        assert!(!svg.contains("=\"#") && !svg.contains("http"), "{svg}");
        assert!(
            svg.contains("aria-label=\"a&#60;b\"") || svg.contains("aria-label=\"a&lt;b\""),
            "{svg}"
        );
    }

    #[test]
    fn longer_numbers_get_more_room() {
        assert!(room("loss", &(1.0..1.001)) > room("loss", &(0.0..9.0)) + 10);
        assert_eq!(room("loss", &(0.0..9.0)), room("", &(0.0..9.0)) + 17);
    }

    #[test]
    fn a_plot_of_nothing_or_of_one_point_is_a_plot() {
        let axes =
            Axes { title: "t", x: "x", y: "y", height: 200, across: None, up: None, names: &[] };
        for points in [vec![], vec![(0.0, 0.0)], vec![(5.0, f64::NAN)]] {
            let series = Series { colour: 0, points, kind: Kind::Line };
            assert!(plot(&axes, &[series]).unwrap().ends_with("</svg>\n"));
        }
    }
}

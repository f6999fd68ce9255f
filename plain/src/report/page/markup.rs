//! The parts that a page is made of. Text is escaped where it is put in, by askama.

use anyhow::Result;
use askama::Template;

/// HTML that was escaped.
pub type Markup = String;

/// A column of a table.
pub struct Column {
    pub title: String,
    pub is_number: bool,
}

/// A cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    pub text: String,
    /// What it is sorted by, where not by its text.
    pub sort: Option<f64>,
    pub class: &'static str,
    /// How dark it is, in percent.
    pub shade: Option<u32>,
    /// What shows when one points at it.
    pub note: String,
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Long text, broken into lines.
    pub fn long(text: impl Into<String>) -> Self {
        Self { class: "wrap", ..Self::text(text) }
    }

    pub fn number(text: impl Into<String>, value: f64) -> Self {
        Self { sort: Some(value), class: "number", ..Self::text(text) }
    }

    /// A number written by `written`, or nothing.
    pub fn maybe(value: Option<f64>, written: impl Fn(f64) -> String) -> Self {
        value.map_or_else(Self::default, |value| Self::number(written(value), value))
    }

    /// With a ground as dark as `share`, from 0 to 1.
    pub fn shaded(self, share: f64) -> Self {
        let shade = (85.0 * share.clamp(0.0, 1.0)).round() as u32;
        Self { class: "number shade", shade: Some(shade), ..self }
    }

    pub fn noted(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

#[derive(Template)]
#[template(path = "table.html")]
struct Table<'a> {
    caption: &'a str,
    columns: Vec<Column>,
    rows: &'a [Vec<Cell>],
}

/// A table that sorts. Columns without any text are left out; one whose first filled cell is a number is set to the
/// right.
pub fn table(caption: &str, titles: &[&str], rows: &[Vec<Cell>]) -> Result<Markup> {
    let filled =
        |at: usize| rows.iter().map(move |row| &row[at]).find(|cell| !cell.text.is_empty());
    let kept: Vec<(usize, &Cell)> =
        (0..titles.len()).filter_map(|at| Some((at, filled(at)?))).collect();
    let columns = kept
        .iter()
        .map(|(at, cell)| Column { title: titles[*at].to_owned(), is_number: cell.sort.is_some() });
    let columns = columns.collect();
    let row = |row: &Vec<Cell>| kept.iter().map(|(at, _)| row[*at].clone()).collect();
    let rows: Vec<Vec<Cell>> = rows.iter().map(row).collect();
    Ok(Table { caption, columns, rows: &rows }.render()?)
}

/// A table with names on both axes.
#[derive(Template)]
#[template(path = "matrix.html")]
pub struct Matrix<'a> {
    pub caption: &'a str,
    pub down: &'a str,
    pub across: &'a str,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Template)]
#[template(path = "figure.html")]
struct Figure<'a> {
    title: &'a str,
    note: &'a str,
    svg: &'a str,
    legend: &'a [(usize, String)],
}

/// A picture with its title, and which colour is what.
pub fn figure(title: &str, note: &str, svg: &str, legend: &[(usize, String)]) -> Result<Markup> {
    Ok(Figure { title, note, svg, legend }.render()?)
}

#[derive(Template)]
#[template(path = "legend.html")]
struct Legend<'a> {
    legend: &'a [(usize, String)],
}

/// Which colour is what, of several pictures.
pub fn key(legend: &[(usize, String)]) -> Result<Markup> {
    Ok(Legend { legend }.render()?)
}

#[derive(Template)]
#[template(path = "details.html")]
struct Details<'a> {
    summary: &'a str,
    body: &'a str,
    is_open: bool,
}

/// What shows when asked for.
pub fn details(summary: &str, body: &str) -> Result<Markup> {
    Ok(Details { summary, body, is_open: false }.render()?)
}

/// What shows unless there is much of it.
pub fn folded(summary: &str, body: &str, is_open: bool) -> Result<Markup> {
    Ok(Details { summary, body, is_open }.render()?)
}

#[derive(Template)]
#[template(path = "text.html")]
struct Text<'a> {
    tag: &'a str,
    class: &'a str,
    text: &'a str,
}

pub fn heading(text: &str) -> Result<Markup> {
    Ok(Text { tag: "h3", class: "", text }.render()?)
}

pub fn subheading(text: &str) -> Result<Markup> {
    Ok(Text { tag: "h4", class: "", text }.render()?)
}

pub fn paragraph(text: &str) -> Result<Markup> {
    Ok(Text { tag: "p", class: "note", text }.render()?)
}

#[derive(Template)]
#[template(path = "list.html")]
struct List<'a> {
    class: &'a str,
    items: &'a [String],
}

pub fn list(class: &str, items: &[String]) -> Result<Markup> {
    Ok(List { class, items }.render()?)
}

/// Pictures side by side, as many as there is room for.
pub fn grid(parts: &[Markup]) -> Markup {
    side_by_side("grid", parts)
}

/// The same with small pictures.
pub fn small(parts: &[Markup]) -> Markup {
    side_by_side("grid small", parts)
}

/// Tables side by side, each as wide as it is.
pub fn in_row(parts: &[Markup]) -> Markup {
    side_by_side("row", parts)
}

fn side_by_side(class: &str, parts: &[Markup]) -> Markup {
    match parts {
        [] => String::new(),
        parts => format!("<div class=\"{class}\">\n{}</div>\n", parts.concat()),
    }
}

/// A part of the page.
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub body: Markup,
}

#[derive(Template)]
#[template(path = "page.html")]
pub struct Page<'a> {
    pub title: &'a str,
    pub about: &'a str,
    pub css: &'a str,
    pub js: &'a str,
    pub sections: &'a [Section],
}

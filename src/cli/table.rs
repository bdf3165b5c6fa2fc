//! Aligned tables for people, and the few colours they may have.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};

use crate::control::text;

/// Spaces between columns.
const GAP: &str = "  ";
/// Characters of a cell where there is no terminal to fit: room for any name that is used, and an end for those that are made up. What is cut is
/// whole with `--json`.
const MAX_CELL: usize = 200;
/// The last column, a text for people mostly, is not made narrower than this to fit a terminal.
const MIN_LAST: usize = 12;
/// And no other than this: times, ids and addresses of IPv4 stay whole. Where that is too wide, lines wrap.
const MIN_COLUMN: usize = 24;

/// How a cell is shown on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Titles.
    Bold,
    /// All well.
    Good,
    /// Look at it.
    Warning,
    /// Broken.
    Bad,
}

impl Tone {
    /// The tone of a state or health word.
    pub(super) fn of(word: &str) -> Tone {
        match word {
            "up" | "healthy" | "serving" | "taken" | "unchanged" => Tone::Good,
            "down" | "critical" | "failed" => Tone::Bad,
            "suspect" | "ramp" | "drain" | "degraded" | "kept" | "unknown" => Tone::Warning,
            _ => Tone::Plain,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Bold => "1",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        }
    }
}

/// True when stdout is a terminal that shows colours and nobody asked for none (no-color.org).
pub(super) fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text in a tone.
pub(super) fn paint(text: &str, tone: Tone, colours: bool) -> String {
    let text = clean(text);
    if colours && tone != Tone::Plain { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text }
}

/// What came over the network moves no cursor, and nothing around it.
pub(super) fn clean(text: &str) -> String {
    text::plain(text)
}

/// Columns of the terminal that stdout is.
fn terminal_width() -> Option<usize> {
    let width = terminal_size::terminal_size_of(stdout()).map(|(width, _)| usize::from(width.0));
    width.filter(|width| *width > 0 && stdout().is_terminal())
}

/// Widths of columns that fit: the last gives way first, then the widest of the others. Without a terminal nothing stands behind the last.
fn fit(mut widths: Vec<usize>, room: Option<usize>) -> Vec<usize> {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    let Some((last, others)) = widths.split_last_mut() else { return widths };
    others.iter_mut().for_each(|width| *width = (*width).min(MAX_CELL));
    let Some(room) = room else { return widths };
    let left = room.saturating_sub(others.iter().sum::<usize>() + gaps);
    *last = (*last).min(left.max(MIN_LAST));
    while others.iter().sum::<usize>() + *last + gaps > room {
        match others.iter_mut().max() {
            Some(widest) if *widest > MIN_COLUMN => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// The text, cut with `…` if it is wider.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Rows under titles. Titles that begin with `>` are aligned right.
pub(super) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(super) fn new(titles: &[&'static str]) -> Table {
        Table { titles: titles.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().map(|cell| (clean(&cell.text), cell.tone)).collect());
    }

    /// The lines, each with its end; nothing after the last filled cell.
    pub(super) fn render(&self, colours: bool) -> String {
        self.render_in(colours, terminal_width())
    }

    /// The same in a width; cells that are too wide for it are cut.
    fn render_in(&self, colours: bool, room: Option<usize>) -> String {
        let columns = self.titles.len();
        let title = |column: usize| self.titles[column].trim_start_matches('>');
        let cell = |row: &'_ Vec<(String, Tone)>, column: usize| row.get(column).map_or(0, |(text, _)| width(text));
        let widths: Vec<usize> =
            (0..columns).map(|column| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(width(title(column)))).collect();
        let widths = fit(widths, room);
        let mut text = String::new();
        let heads: Vec<(String, Tone)> = (0..columns).map(|column| (title(column).to_owned(), Tone::Bold)).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let last = row.iter().take(columns).rposition(|(text, _)| !text.is_empty()).unwrap_or(0);
            for (column, (content, tone)) in row.iter().enumerate().take(last + 1) {
                let content = &cut(content, widths[column]);
                let padding = " ".repeat(widths[column] - width(content));
                let right = self.titles[column].starts_with('>');
                let shown = paint(content, *tone, colours);
                let gap = if column == 0 { "" } else { GAP };
                let _ = match (right, column == last) {
                    (true, _) => write!(text, "{gap}{padding}{shown}"),
                    (false, true) => write!(text, "{gap}{shown}"),
                    (false, false) => write!(text, "{gap}{shown}{padding}"),
                };
            }
            text.push('\n');
        }
        text
    }
}

/// Characters; our texts are narrow ones.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// One cell.
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(super) fn toned(text: String, tone: Tone) -> Cell {
        Cell { text, tone }
    }

    /// A cell whose tone follows from its word.
    pub(super) fn word(text: &str) -> Cell {
        Cell { text: text.to_owned(), tone: Tone::of(text) }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.to_string(), tone: Tone::Plain }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["NAME", ">COUNT", "STATE"]);
        table.row([Cell::from("a"), 5.into(), Cell::word("up")]);
        table.row([Cell::from("längere\x1b[2J"), 12345.into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        assert_eq!(sample().render(false), "NAME         COUNT  STATE\na                5  up\nlängere\u{fffd}[2J  12345\n");
    }

    #[test]
    fn tables_fit_the_terminal_and_no_cell_is_endless() {
        let mut table = Table::new(&["TARGET", ">N", "WHY"]);
        table.row([Cell::from("example.com/fra"), 7.into(), "a reason that takes a while to say".into()]);
        table.row([Cell::from("x".repeat(5000)), 7.into(), "short".into()]);
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        for (room, width) in [(Some(300), 239), (Some(220), 220), (Some(80), 80), (Some(50), 50), (Some(3), 24 + 2 + 1 + 2 + 12), (None, 239)] {
            assert_eq!(widest(&table.render_in(false, room)), Some(width), "{room:?}");
        }
        let narrow = table.render_in(false, Some(50));
        assert!(narrow.lines().all(|line| line.contains("  7  ") || line.contains("  N  ")) && narrow.contains("example.com/fra"), "{narrow}");
    }

    #[test]
    fn colours_stand_around_words_only() {
        let text = sample().render(true);
        assert!(text.contains("  \x1b[32mup\x1b[0m\n"), "{text:?}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
    }
}

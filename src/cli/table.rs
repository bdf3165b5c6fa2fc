//! Aligned tables for people, and the few colours they may have.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};

/// Spaces between columns.
const GAP: &str = "  ";

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

/// What came over the network moves no cursor.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
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
        let columns = self.titles.len();
        let title = |column: usize| self.titles[column].trim_start_matches('>');
        let cell = |row: &'_ Vec<(String, Tone)>, column: usize| row.get(column).map_or(0, |(text, _)| width(text));
        let widths: Vec<usize> =
            (0..columns).map(|column| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(width(title(column)))).collect();
        let mut text = String::new();
        let heads: Vec<(String, Tone)> = (0..columns).map(|column| (title(column).to_owned(), Tone::Bold)).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let last = row.iter().take(columns).rposition(|(text, _)| !text.is_empty()).unwrap_or(0);
            for (column, (content, tone)) in row.iter().enumerate().take(last + 1) {
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
    fn colours_stand_around_words_only() {
        let text = sample().render(true);
        assert!(text.contains("  \x1b[32mup\x1b[0m\n"), "{text:?}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
    }
}

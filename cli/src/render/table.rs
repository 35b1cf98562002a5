//! Tables: no borders, two spaces between columns, at most 80 columns unless somebody asks for more.

use comfy_table::{Cell, ContentArrangement, Table, presets};

use super::escape;

/// Columns of a terminal as it always was.
const NARROW: u16 = 80;
/// What `-o wide` fits.
const WIDE: u16 = 200;

/// Draws a table; every cell is escaped.
pub fn draw(headings: &[&str], rows: &[Vec<String>], wide: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(if wide { WIDE } else { NARROW });
    table.set_header(headings.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(escape::line(cell))));
    }
    let last = headings.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_text() {
        let rows = [vec!["planthost1".to_owned(), "online".to_owned()], vec!["op".to_owned(), "lost".to_owned()]];
        assert_eq!(draw(&["NAME", "STATE"], &rows, false), "NAME        STATE\nplanthost1  online\nop          lost\n");
    }

    #[test]
    fn long_cells_fold_inside_eighty_columns() {
        let rows = [vec!["x".repeat(70), "a reason that goes on and on ".repeat(6), "y".repeat(300)]];
        let text = draw(&["WHAT", "REASON", "MORE"], &rows, false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.matches('y').count(), 300, "{text}");
    }

    #[test]
    fn cells_are_escaped() {
        let text = draw(&["NAME"], &[vec!["a\u{1b}[2Jb\nc".to_owned()]], false);
        assert_eq!(text, "NAME\na\\u{1b}[2Jb\\nc\n");
    }
}

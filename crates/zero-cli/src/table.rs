//! Columns of text output.

/// The width of a column, in characters. A cell longer than `max_width` does not widen the column,
/// so that one hostile name cannot push the other columns off the screen.
pub(crate) fn column_width<'a>(cells: impl IntoIterator<Item = &'a str>, max_width: usize) -> usize {
    cells.into_iter().map(|cell| cell.chars().count()).max().unwrap_or(0).min(max_width)
}

/// The longest cell that widens its column.
const MAX_CELL_WIDTH: usize = 60;

/// Aligns a table: the first column to the left, all others to the right. Every row must have as
/// many cells as the header.
pub(crate) fn align(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let lines = || [&header].into_iter().chain(rows);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            column_width(lines().filter_map(|row| row.get(column)).map(String::as_str), MAX_CELL_WIDTH)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines().map(line).collect()
}

//! Columns of text output.

/// The width of a column, in characters. A cell longer than `max_width` does not widen the column,
/// so that one hostile name cannot push the other columns off the screen.
pub(crate) fn column_width<'a>(cells: impl IntoIterator<Item = &'a str>, max_width: usize) -> usize {
    cells.into_iter().map(|cell| cell.chars().count()).max().unwrap_or(0).min(max_width)
}

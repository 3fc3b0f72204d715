//! Plain aligned text.

use std::fmt;

use ramp::eval::MeanInterval;

/// On which side a column is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows of cells under a heading, in columns as wide as their widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a heading.
    pub(crate) fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        Self::of(columns.map(|(name, align)| (name.to_owned(), align)).into())
    }

    /// A table whose columns are not known beforehand.
    pub(crate) fn of(columns: Vec<(String, Align)>) -> Self {
        let (heading, align) = columns.into_iter().unzip();
        Self { align, rows: vec![heading] }
    }

    /// Adds a row; cells beyond the heading are dropped, missing ones stay empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        let mut cells: Vec<String> = cells.into_iter().take(self.align.len()).collect();
        cells.resize(self.align.len(), String::new());
        self.rows.push(cells);
        self
    }

    /// The same table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = self.align.iter().map(|align| match align {
            Align::Left => "---",
            Align::Right => "---:",
        });
        let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
        let mut rows = self.rows.iter().map(|row| line(row));
        let heading = rows.next().unwrap_or_default();
        heading + &rule + &rows.collect::<String>()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..self.align.len())
            .map(|column| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = " ".repeat(widths[column] - width(cell));
                let gap = if column > 0 { "  " } else { "" };
                line += &match self.align[column] {
                    Align::Left => format!("{gap}{cell}{padding}"),
                    Align::Right => format!("{gap}{padding}{cell}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The mean with the half width of its interval, where there is one.
pub(crate) fn interval(interval: MeanInterval, decimals: usize) -> String {
    let MeanInterval { mean, half_width, .. } = interval;
    half_width.map_or_else(
        || format!("{mean:.decimals$}"),
        |half_width| format!("{mean:.decimals$} ± {half_width:.decimals$}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("type", Align::Left), ("bytes", Align::Right), ("note", Align::Left)]);
        table.row(["Q4_K".into(), "12".into(), "ä".into()]);
        table.row(["F32".into(), "1234567".into()]);
        let expected = "type    bytes  note\nQ4_K       12  ä\nF32   1234567\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn markdown_has_a_rule_and_no_loose_bars() {
        let mut table = Table::of(vec![("a|b".into(), Align::Left), ("n".into(), Align::Right)]);
        table.row(["x".into(), "1".into()]);
        assert_eq!(table.markdown(), "| a\\|b | n |\n|---|---:|\n| x | 1 |\n");
    }

    #[test]
    fn a_single_run_has_no_interval() {
        assert_eq!(interval(MeanInterval::new(&[0.5]).unwrap(), 2), "0.50");
        assert_eq!(interval(MeanInterval::new(&[0.5, 0.5]).unwrap(), 1), "0.5 ± 0.0");
    }
}

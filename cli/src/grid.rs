//! The connectivity matrix as a grid for people.

use std::collections::BTreeMap;

/// One probed or computed pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct Row {
    /// `namespace/pod`.
    pub(crate) from: String,
    /// `namespace/pod`.
    pub(crate) to: String,
    /// `TCP`, `UDP`.
    pub(crate) protocol: String,
    /// Destination port.
    pub(crate) port: u16,
    /// `allowed` or `denied`.
    pub(crate) verdict: String,
}

/// Columns of one cell, where numbers have two digits at most.
const CELL: usize = 3;
/// What stands over the sources.
const CORNER: &str = "from \\ to";

/// Cells of a grid; rows are counted into them and need not be kept.
#[derive(Default)]
pub(crate) struct Grid {
    /// Everybody's number, in the order of their coming.
    numbers: BTreeMap<String, usize>,
    /// How many ports of a pair are allowed, and how many there are.
    cells: BTreeMap<(usize, usize), (usize, usize)>,
}

impl Grid {
    /// Counts a row in.
    pub(crate) fn add(&mut self, row: &Row) {
        let pair = (self.number(&row.from), self.number(&row.to));
        let (allowed, all) = self.cells.entry(pair).or_default();
        *allowed += usize::from(row.verdict == "allowed");
        *all += 1;
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        let new = self.numbers.len();
        self.numbers.insert(name.to_owned(), new);
        new
    }

    /// Sources down, destinations across by number, one cell a pair: `+` all probed ports, `.` none, `~` some.
    /// What is wider than the terminal is drawn in several grids, one below the other.
    pub(crate) fn render(&self, columns: Option<usize>) -> String {
        let width = self.numbers.keys().map(String::len).fold(CORNER.len(), usize::max);
        let all: Vec<(usize, &String, usize)> = (1..)
            .zip(&self.numbers)
            .map(|(place, (name, number))| (place, name, *number))
            .collect();
        // A space, whatever the numbers are.
        let digits = all.len().to_string().len();
        let cell = CELL.max(digits + 1);
        let room = columns.map_or(all.len(), |columns| columns.saturating_sub(width + 5) / cell);
        let mut text = String::new();
        for across in all.chunks(room.max(1)) {
            text.push_str(&format!("{:>3} {:width$} ", "", CORNER));
            across.iter().for_each(|(place, ..)| text.push_str(&format!("{place:>cell$}")));
            for (place, name, from) in &all {
                text.push_str(&format!("\n{place:>3} {name:width$} "));
                for (_, _, to) in across {
                    let mark = match self.cells.get(&(*from, *to)) {
                        None => " ",
                        Some((allowed, all)) if allowed == all => "+",
                        Some((0, _)) => ".",
                        Some(_) => "~",
                    };
                    text.push_str(&format!("{mark:>cell$}"));
                }
            }
            text.push_str("\n\n");
        }
        text.push_str("+ allowed   . denied   ~ some ports\n");
        text
    }
}

/// A grid of these rows.
pub(crate) fn render(rows: &[Row], columns: Option<usize>) -> String {
    let mut grid = Grid::default();
    rows.iter().for_each(|row| grid.add(row));
    grid.render(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(from: usize, to: usize, port: u16, verdict: &str) -> Row {
        let name = |number| format!("a/p{number}");
        let verdict = verdict.to_owned();
        Row { from: name(from), to: name(to), protocol: "TCP".to_owned(), port, verdict }
    }

    #[test]
    fn a_cell_tells_all_ports_of_a_pair() {
        let rows = [
            row(1, 2, 80, "allowed"),
            row(2, 1, 80, "denied"),
            row(1, 3, 80, "allowed"),
            row(1, 3, 81, "denied"),
        ];
        let lines = [
            "    from \\ to   1  2  3",
            "  1 a/p1       +  ~",
            "  2 a/p2    .      ",
            "  3 a/p3           ",
            "",
            "+ allowed   . denied   ~ some ports",
        ];
        let tidy =
            |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        let drawn = tidy(&render(&rows, None));
        assert_eq!(drawn.len(), lines.len());
        for (drawn, wanted) in drawn.iter().zip(lines) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(drawn), words(wanted));
        }
    }

    #[test]
    fn numbers_of_three_digits_stand_apart() {
        let rows: Vec<Row> = (1..=120).map(|to| row(0, to, 80, "allowed")).collect();
        let text = render(&rows, None);
        let heading = text.lines().next().unwrap_or_default();
        assert_eq!(heading.split_whitespace().skip(3).count(), 121, "{heading}");
    }

    #[test]
    fn a_wide_grid_is_drawn_in_parts_that_fit() {
        let rows: Vec<Row> = (1..=40).map(|to| row(0, to, 80, "allowed")).collect();
        let text = render(&rows, Some(60));
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        let whole = render(&rows, None);
        let marks = |text: &str| text.matches('+').count();
        assert_eq!(marks(&text), marks(&whole));
        assert_eq!(text.matches(CORNER).count(), 3);
    }
}

//! The frame: a line about all, a table, the selected service, and the keys.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as TableRow, Sparkline, Table, TableState, Wrap};
use wigwag::runtime::escaped;

use crate::service_view::printable;

use super::board::{Board, Column, Doing, Row, bound, quantile};
use super::numbers::{ago_in_three, brief, short};

/// Rows of the part about the selected service, with its border.
const DETAIL_ROWS: u16 = 9;
const DETAIL_ROWS_MAX: u16 = 16;
/// The part is left out where the table would have fewer rows.
const TABLE_ROWS_MIN: u16 = 4;
/// Columns of the names of facts, and of all of them.
const FACT_NAME_COLUMNS: usize = 9;
const FACT_COLUMNS: u16 = 29;
/// The ranges of the histogram, as powers of two nanoseconds: 128 ns and below, to a second and above.
const RANGES: std::ops::RangeInclusive<usize> = 7..=30;
/// Columns of each range, as there is room, and every which range has its bound written below.
const RANGE_COLUMNS: std::ops::RangeInclusive<usize> = 2..=5;
const LABEL_EVERY: usize = 4;

/// Draws everything on the whole terminal.
pub fn draw(frame: &mut Frame<'_>, board: &Board, interval: Duration) {
    let rows = frame.area().height;
    let has_detail = rows >= DETAIL_ROWS + TABLE_ROWS_MIN + 3;
    let detail = if has_detail { (rows / 3).clamp(DETAIL_ROWS, DETAIL_ROWS_MAX) } else { 0 };
    let parts = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(detail), Constraint::Length(1)];
    let [top, table, detail, keys] = Layout::vertical(parts).areas(frame.area());
    let pace = if board.is_paused { "paused".to_owned() } else { format!("every {} s", interval.as_secs_f64()) };
    summary(frame, top, board, &pace);
    services(frame, table, board);
    selected(frame, detail, board);
    frame.render_widget(Paragraph::new(key_line()), keys);
}

/// How high a frame of text is.
pub fn height(board: &Board) -> u16 {
    let rows = u16::try_from(board.rows.len().max(1)).unwrap_or(u16::MAX - DETAIL_ROWS - 2).min(1000);
    2 + rows + if board.rows.is_empty() { 0 } else { DETAIL_ROWS }
}

/// Draws what fits on paper: no keys, nothing is marked as selected.
pub fn draw_once(frame: &mut Frame<'_>, board: &Board) {
    let detail = if board.rows.is_empty() { 0 } else { DETAIL_ROWS };
    let parts = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(detail)];
    let [top, table, detail] = Layout::vertical(parts).areas(frame.area());
    summary(frame, top, board, "");
    services(frame, table, board);
    selected(frame, detail, board);
}

fn summary(frame: &mut Frame<'_>, area: Rect, board: &Board, pace: &str) {
    // From 0 on: `sum` of nothing is -0, which would be shown.
    let sum = |rate: fn(&Row) -> f64| board.rows.iter().map(rate).fold(0.0, |sum, rate| sum + rate);
    let sessions: usize = board.rows.iter().filter(|row| row.holders.is_none()).map(|row| row.sessions).sum();
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (services, semaphores) = board.counts();
    let semaphores = match semaphores {
        0 => String::new(),
        count => format!("  {}", plural(count, "semaphore")),
    };
    let stale = match board.stale() {
        0 => String::new(),
        stale => format!("  {stale} stale"),
    };
    let text = format!(
        "wigwag top  {}  {}  {} calls/s  {}B/s{semaphores}{stale}",
        plural(services, "service"),
        plural(sessions, "session"),
        short(sum(|row| row.rates.calls)),
        short(sum(|row| row.rates.bytes)),
    );
    let style = Style::new().add_modifier(Modifier::REVERSED);
    let text_columns = text.len() as u16;
    frame.render_widget(Paragraph::new(text).style(style), area);
    let columns = pace.len() as u16 + 1;
    if area.width > text_columns + columns {
        let right = Rect { x: area.right() - columns, width: columns, ..area };
        frame.render_widget(Paragraph::new(pace).style(style), right);
    }
}

fn services(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    if board.rows.is_empty() {
        let text = "No service of this user runs. To start one: wigwag serve shout --do upper";
        frame.render_widget(
            Paragraph::new(text).wrap(Wrap { trim: true }),
            Rect { y: area.y + 1, ..area }.intersection(area),
        );
        return;
    }
    let spark = spark_columns(area.width);
    let shown = || TITLES.iter().enumerate().filter(|(_, title)| area.width >= title.from_columns);
    let widths = shown().map(|(_, title)| match title.columns {
        0 => Constraint::Length(spark),
        NAME_COLUMNS => Constraint::Min(NAME_COLUMNS),
        columns => Constraint::Length(columns),
    });
    let rows = board.rows.iter().map(|row| {
        let mut cells = cells(row, usize::from(spark)).map(Some);
        TableRow::new(shown().filter_map(|(at, _)| cells[at].take()).collect::<Vec<_>>())
    });
    let titles = shown().map(|(_, title)| title_cell(title, board)).collect::<Vec<_>>();
    let table = Table::new(rows, widths.collect::<Vec<_>>())
        .header(TableRow::new(titles).style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(board.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

/// What the names leave to the sparkline.
fn spark_columns(width: u16) -> u16 {
    (width.saturating_sub(74) - width.saturating_sub(80) / 2).clamp(4, super::board::REMEMBERED as u16).min(width / 2)
}

/// A column of the table.
struct Title {
    text: &'static str,
    /// What it can be sorted by.
    column: Option<Column>,
    is_number: bool,
    columns: u16,
    /// The least terminal that has it: what is left out first is what a narrow one misses least.
    from_columns: u16,
}

const NAME_COLUMNS: u16 = 12;

const TITLES: [Title; 10] = [
    Title { text: "Name", column: Some(Column::Name), is_number: false, columns: NAME_COLUMNS, from_columns: 0 },
    Title { text: "Form", column: None, is_number: false, columns: 8, from_columns: 75 },
    Title { text: "State", column: None, is_number: false, columns: 8, from_columns: 32 },
    Title { text: "Sess", column: Some(Column::Sessions), is_number: true, columns: 5, from_columns: 38 },
    Title { text: "Wait", column: Some(Column::Waiting), is_number: true, columns: 5, from_columns: 44 },
    Title { text: "Calls/s", column: Some(Column::Calls), is_number: true, columns: 8, from_columns: 0 },
    Title { text: "Bytes/s", column: Some(Column::Bytes), is_number: true, columns: 8, from_columns: 59 },
    Title { text: "Busy", column: Some(Column::Busy), is_number: true, columns: 5, from_columns: 50 },
    Title { text: "Err/s", column: Some(Column::Errors), is_number: true, columns: 6, from_columns: 66 },
    Title { text: "Lately", column: None, is_number: false, columns: 0, from_columns: 80 },
];

/// The letter that sorts by it is underlined, and the one that it is sorted by has an arrow.
fn title_cell(title: &Title, board: &Board) -> Cell<'static> {
    let key = title.column.map(Column::key);
    let at = title.text.find(|letter: char| Some(letter.to_ascii_lowercase()) == key);
    let mut spans = match at {
        Some(at) => vec![title.text[..at].into(), title.text[at..=at].underlined(), title.text[at + 1..].into()],
        None => vec![Span::from(title.text)],
    };
    if title.column == Some(board.sort) {
        let is_upward = (board.sort == Column::Name) != board.is_reversed;
        let at = if title.is_number { 0 } else { spans.len() };
        spans.insert(at, Span::from(if is_upward { "▲" } else { "▼" }));
    }
    let alignment = if title.is_number { Alignment::Right } else { Alignment::Left };
    Cell::from(Line::from(spans).alignment(alignment))
}

/// What the table says of a service, title by title.
fn cells(row: &Row, spark: usize) -> [Cell<'static>; TITLES.len()] {
    let (state, color) = match &row.doing {
        Doing::Idle => ("idle".to_owned(), None),
        Doing::Active => ("active".to_owned(), None),
        Doing::Hot => ("hot".to_owned(), Some(Color::Green)),
        Doing::LongCall(at_most) => (format!("call {}", ago_in_three(*at_most)), Some(Color::Yellow)),
        Doing::Stopped => ("stopped".to_owned(), Some(Color::Red)),
        Doing::Frozen => ("frozen".to_owned(), Some(Color::Red)),
        Doing::Hidden => ("hidden".to_owned(), Some(Color::Yellow)),
        Doing::Permits { free: 0, waiting: 0 } => ("all held".to_owned(), None),
        Doing::Permits { waiting: waiting @ 1.., .. } => (format!("{waiting} wait"), Some(Color::Yellow)),
        Doing::Permits { free, .. } => (format!("{free} free"), None),
    };
    let number = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let errors = number(short(row.rates.errors));
    let waiting = number(short(row.waiting as f64));
    let waiting = if row.waiting > 0 { waiting.style(Style::new().fg(Color::Yellow)) } else { waiting };
    [
        Cell::from(escaped(&row.name)),
        Cell::from(row.form.clone()),
        Cell::from(state).style(color.map_or_else(Style::new, |color| Style::new().fg(color))),
        number(row.sessions.to_string()),
        waiting,
        number(short(row.rates.calls)),
        number(short(row.rates.bytes)),
        number(format!("{:.0}%", row.rates.busy * 100.0)),
        if row.rates.errors > 0.0 { errors.style(Style::new().fg(Color::Red)) } else { errors },
        Cell::from(sparkline(row, spark)),
    ]
}

/// A table has text only, so the bars are written as such.
fn sparkline(row: &Row, columns: usize) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let skipped = row.calls.len().saturating_sub(columns);
    let shown: Vec<f64> = row.calls.iter().skip(skipped).copied().collect();
    let most = shown.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| match value > 0.0 {
        true => BARS[((value / most * 8.0).round() as usize).clamp(1, 8)],
        false => BARS[0],
    };
    let empty = " ".repeat(columns.saturating_sub(shown.len()));
    empty + &shown.into_iter().map(bar).collect::<String>()
}

fn selected(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let Some(row) = board.selected().map(|at| &board.rows[at]).filter(|_| area.height > 2) else { return };
    let title = format!(" {} ", escaped(&row.name));
    let since = if board.lately { "lately" } else { "since it was bound" };
    let right = match (&row.holders, &row.subscribers) {
        (Some(_), _) => " who holds how many permits ".to_owned(),
        (_, Some(_)) => " who listens ".to_owned(),
        _ => format!(" how long calls took, {since} "),
    };
    let right = Line::from(right).right_aligned();
    let block = Block::new().borders(Borders::TOP).title(title.bold()).title(right);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if row.doing == Doing::Hidden {
        let why = row.facts.iter().map(|(_, why)| printable(why)).collect::<String>();
        frame.render_widget(Paragraph::new(why).wrap(Wrap { trim: true }), inner);
        return;
    }
    let [left, _, right] =
        Layout::horizontal([Constraint::Length(FACT_COLUMNS), Constraint::Length(1), Constraint::Min(0)]).areas(inner);
    let facts = row.facts.iter().map(|(name, value)| fact(name, &printable(value)));
    let mut lines: Vec<Line<'_>> = facts.collect();
    let people = row.holders.as_ref().map(|all| (all, "nobody holds any"));
    if let Some((all, nobody)) = people.or(row.subscribers.as_ref().map(|all| (all, "nobody listens"))) {
        frame.render_widget(Paragraph::new(lines), left);
        frame.render_widget(Paragraph::new(people_lines(all, nobody, right.height)), right);
        return;
    }
    let durations = row.durations(board.lately);
    let quantiles = [0.5, 0.99]
        .map(|share| quantile(&durations, share).map_or("-".to_owned(), |bound| format!("<{}", brief(bound))));
    lines.push(fact("50%, 99%", &quantiles.join(", ")));
    frame.render_widget(Paragraph::new(lines), left);
    histogram(frame, right, &durations);
}

/// As many as there is room for; the last line says how many more there are.
fn people_lines(people: &[String], nobody: &'static str, height: u16) -> Vec<Line<'static>> {
    if people.is_empty() {
        return vec![Line::from(nobody.dim())];
    }
    let room = usize::from(height);
    let shown = if people.len() > room { room.saturating_sub(1) } else { people.len() };
    let mut lines: Vec<Line<'static>> = people[..shown].iter().map(|one| Line::from(printable(one))).collect();
    if shown < people.len() {
        lines.push(Line::from(format!("and {} more", people.len() - shown).dim()));
    }
    lines
}

fn fact(name: &str, value: &str) -> Line<'static> {
    Line::from(vec![Span::from(format!("{name:<FACT_NAME_COLUMNS$} ")).dim(), Span::from(value.to_owned())])
}

/// Bars, and below them the bounds of some ranges.
fn histogram(frame: &mut Frame<'_>, area: Rect, durations: &[u64]) {
    if area.height < 2 || durations.iter().all(|count| *count == 0) {
        let text = "no calls yet";
        frame.render_widget(Paragraph::new(text.dim()), area);
        return;
    }
    let ranges = RANGES.count();
    let columns = (usize::from(area.width) / ranges).clamp(*RANGE_COLUMNS.start(), *RANGE_COLUMNS.end());
    let [bars, axis] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(area);
    let last = *RANGES.end();
    let below: u64 = durations.iter().take(*RANGES.start()).sum();
    let above: u64 = durations.iter().skip(last).fold(0, |sum: u64, count| sum.saturating_add(*count));
    let inner = durations.iter().copied().take(last).skip(*RANGES.start() + 1);
    let first = durations.get(*RANGES.start()).copied().unwrap_or(0).saturating_add(below);
    let counts: Vec<u64> = [first].into_iter().chain(inner).chain([above]).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    // What is there at all has the lowest bar at least.
    let least = most / (u64::from(bars.height) * 8) + 1;
    let shown = counts.iter().map(|&count| if count == 0 { 0 } else { count.max(least).min(most) });
    let data: Vec<u64> = shown.flat_map(|count| std::iter::repeat_n(count, columns)).collect();
    frame.render_widget(Sparkline::default().data(&data).max(most).fg(Color::Cyan), bars);
    let mut labels = String::new();
    for range in RANGES.step_by(LABEL_EVERY) {
        let text = bound(range).map(brief).unwrap_or_default();
        labels.push_str(&format!("{text:<width$}", width = LABEL_EVERY * columns));
    }
    frame.render_widget(Paragraph::new(labels.dim()), axis);
}

fn key_line() -> Line<'static> {
    let keys = [
        ("n s w c b u e", "sort"),
        ("r", "reverse"),
        ("up/down", "select"),
        ("h", "histogram"),
        ("p", "pause"),
        ("q", "quit"),
    ];
    let spans =
        keys.into_iter().flat_map(|(key, what)| [Span::from(key).bold(), Span::from(format!(" {what}  ")).dim()]);
    Line::from(spans.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::{board, service};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(columns: u16, rows: u16, board: &Board) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, board, Duration::from_secs(1))).unwrap();
        let buffer = terminal.backend().buffer();
        (0..rows).map(|row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>()).collect()
    }

    #[test]
    fn every_size_can_be_drawn() {
        let full =
            board((0..40).map(|index| service(&format!("service-{index:02}"), f64::from(index) * 1e5)).collect());
        for columns in [1, 2, 7, 20, 40, 60, 79, 80, 81, 120, 300] {
            for rows in [1, 2, 3, 5, 10, 15, 16, 24, 60] {
                screen(columns, rows, &full);
                screen(columns, rows, &board(Vec::new()));
            }
        }
    }

    #[test]
    fn at_80_columns_everything_is_there() {
        let rows = vec![service("camera", 1.23e6), service("a.name.that.is.rather.long", 12.0)];
        let shown = screen(80, 24, &board(rows));
        let expected = [
            "wigwag top  2 services  6 sessions  1.23M calls/s",
            "every 1 s",
            "Name",
            "▼Calls/s",
            "camera",
            "exchange hot",
            "1.23M",
            "118M",
            "123%",
            "█",
            "program   test (1)",
            "since it was bound",
            "128ns",
            "134ms",
            "50%, 99%  <512ns, <1.0ms",
            "q quit",
        ];
        let text = shown.join("\n");
        for part in expected {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(shown[23].starts_with("n s w c b u e sort"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns_and_each_is_whole() {
        let board = board(vec![service("camera", 1.23e6)]);
        for (columns, titles) in [
            (80, "Name Form State Sess Wait ▼Calls/s Bytes/s Busy Err/s Lately"),
            (79, "Name Form State Sess Wait ▼Calls/s Bytes/s Busy Err/s"),
            (66, "Name State Sess Wait ▼Calls/s Bytes/s Busy Err/s"),
            (60, "Name State Sess Wait ▼Calls/s Bytes/s Busy"),
            (44, "Name State Sess Wait ▼Calls/s"),
            (40, "Name State Sess ▼Calls/s"),
            (25, "Name ▼Calls/s"),
        ] {
            let shown = screen(columns, 24, &board);
            assert_eq!(shown[1].split_whitespace().collect::<Vec<_>>().join(" "), titles, "{columns}");
            assert!(shown[2].contains("camera ") && shown[2].contains(" 1.23M"), "{}", shown[2]);
        }
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let shown = screen(80, 24, &board(vec![service("bad\x1b[2Jname", 1.0)])).join("\n");
        assert!(!shown.contains('\x1b') && shown.contains(r"bad\x1b[2J"), "{shown}");
    }

    #[test]
    fn what_scrolls_out_of_sight_is_scrolled_to() {
        let mut board = board((0..40).map(|index| service(&format!("service-{index:02}"), 1.0)).collect());
        assert!(!screen(80, 24, &board).join("\n").contains("service-39"));
        board.select(isize::MAX);
        assert!(screen(80, 24, &board).join("\n").contains("service-39   exchange"));
    }
}

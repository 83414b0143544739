//! `wigwag top`: a live view of all services of this user.
//!
//! `board` knows what was and what is, `screen` draws it, `terminal` holds the terminal and gives it back.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{exit, output};

mod board;
mod numbers;
mod screen;
mod terminal;

use board::{Board, Column};
use terminal::{Held, Input};

const EXAMPLES: &str = "\
Examples:
  wigwag top                      # every second
  wigwag top --interval 0.2
  wigwag top --sort busy
  wigwag top --once               # one frame as text, after one interval
  wigwag top --once --interval 10 | mail -s wigwag root

The services are those of this user: of the names in its runtime directory. Looking asks nothing of them, so that they \
are seen while their handlers hang and while they are stopped.

Busy is the time that handlers took, of one processor; with short handlers one call in some is timed, so that it and \
    the \
histogram are estimates. A call that runs now for more than a second shows as the service's state.

Semaphores have their permits and who holds them. Ctrl-Z gives the terminal back until `fg`.";

const CODES: &str = "\
Exit codes:
  0  done
  2  the command line is wrong, or the runtime directory, or there is no terminal
  128 + N if signal N ended it";

/// Watch all services live: sessions, calls, bytes, how busy, how long calls take
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub struct Args {
    /// Seconds between two looks, such as 1 or 0.2
    #[arg(long, value_name = "S", value_parser = interval, default_value = "1")]
    interval: Duration,
    /// What to sort by
    #[arg(long, value_enum, default_value_t = Column::Calls)]
    sort: Column,
    /// Print one frame as text and end
    #[arg(long)]
    once: bool,
}

/// The quickest and the slowest pace.
const INTERVAL_MIN: f64 = 0.1;
const INTERVAL_MAX: f64 = 3600.0;
/// A frame as text where there is no terminal to ask for its width.
const TEXT_COLUMNS: u16 = 80;

/// Shows the services until it is told to end.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut board = Board::new(args.sort);
    board.look()?; // an error, before the terminal is taken
    if args.once {
        std::thread::sleep(args.interval);
        board.look()?;
        output::bytes(as_text(&board)?.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() {
        output::complain("wigwag: standard output is not a terminal: use --once for one frame as text.");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let mut held = Held::take()?;
    let ended = watch(&mut held, &mut board, args.interval);
    drop(held); // before anything is said
    // What fails because the terminal is gone is no failure: nobody is there any more.
    let ended = if std::io::stdout().is_terminal() { ended? } else { ended.unwrap_or(0) };
    Ok(match ended {
        0 => ExitCode::SUCCESS,
        signal => ExitCode::from(128 + signal),
    })
}

/// Draws and listens until the end; the signal that ended it, or 0.
fn watch(held: &mut Held, board: &mut Board, interval: Duration) -> anyhow::Result<u8> {
    let mut next = Instant::now() + interval;
    loop {
        held.draw(|frame| screen::draw(frame, board, interval))?;
        match held.input().recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {
                if !board.is_paused {
                    board.look()?;
                }
                next = Instant::now() + interval;
            }
            Ok(Input::Event(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                if key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL) {
                    held.suspend()?;
                } else if press(board, key) {
                    return Ok(0);
                }
            }
            Ok(Input::Event(_)) => {} // such as another size: drawn at once
            Ok(Input::Signal(signal)) => return Ok(signal),
            Ok(Input::Continued) => held.take_again()?,
            Ok(Input::Lost) | Err(RecvTimeoutError::Disconnected) => return Ok(0), // nobody is there any more
        }
    }
}

/// What a key does; whether it ends the program.
fn press(board: &mut Board, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Down | KeyCode::Char('j') => board.select(1),
        KeyCode::Up | KeyCode::Char('k') => board.select(-1),
        KeyCode::PageDown => board.select(10),
        KeyCode::PageUp => board.select(-10),
        KeyCode::Home => board.select(isize::MIN),
        KeyCode::End => board.select(isize::MAX),
        KeyCode::Char('r') => board.reverse(),
        KeyCode::Char('h') => board.lately = !board.lately,
        KeyCode::Char('p' | ' ') => board.is_paused = !board.is_paused,
        KeyCode::Char(letter) => {
            if let Some(column) = Column::of_key(letter) {
                board.sort_by(column);
            }
        }
        _ => {}
    }
    false
}

/// One frame as text, as high as it must be.
fn as_text(board: &Board) -> anyhow::Result<String> {
    let columns = ratatui::crossterm::terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
    let columns = columns.map_or(TEXT_COLUMNS, |(columns, _)| columns.max(TEXT_COLUMNS));
    let mut terminal = Terminal::new(TestBackend::new(columns, screen::height(board)))?;
    terminal.draw(|frame| screen::draw_once(frame, board))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in 0..buffer.area.height {
        let line: String = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn interval(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number| (INTERVAL_MIN..=INTERVAL_MAX).contains(number));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("a number of seconds from {INTERVAL_MIN} to {INTERVAL_MAX} is needed, such as 1 or 0.2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_too_short_nor_too_long() {
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        for wrong in ["0", "0.09", "3601", "-1", "NaN", "soon"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}

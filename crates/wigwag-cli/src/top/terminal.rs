//! The terminal, taken and given back: at the end, at a panic and at a signal.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::{DefaultTerminal, Frame, Terminal};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use crate::signals;

#[cfg(test)]
#[path = "../../tests/harness/screen.rs"]
mod pseudo;

/// What there is to react to.
#[derive(Debug)]
pub enum Input {
    /// A key, or another size.
    Event(Event),
    /// A signal that ends the program.
    Signal(u8),
    /// It goes on after it was stopped.
    Continued,
    /// The terminal is gone.
    Lost,
}

/// A terminal that is ours. Dropping it gives it back.
#[derive(Debug)]
pub struct Held {
    /// Dropping it would tell of a terminal that is gone on standard error, which may be that very terminal: then it
    /// panics.
    terminal: ManuallyDrop<DefaultTerminal>,
    input: Receiver<Input>,
}

impl Held {
    /// Takes the terminal. A panic gives it back before its message is printed.
    pub fn take() -> anyhow::Result<Held> {
        // Before the terminal is taken: a signal that comes early must not leave it taken.
        let signals = signals::receive(&[SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCONT])?;
        give_back_before_a_panic_is_told();
        let terminal = take().context("the terminal cannot be used")?;
        let (sender, input) = channel();
        let held = Held { terminal: ManuallyDrop::new(terminal), input };
        listen("signals", sender.clone(), move |sender| pass_signals_on(signals, sender))?;
        listen("keys", sender, pass_events_on)?;
        Ok(held)
    }

    /// Gives the terminal back and stops, as every program does at Ctrl-Z; takes it again once it goes on. Where no
    /// shell could let it go on, the kernel does not stop it.
    pub fn suspend(&mut self) -> anyhow::Result<()> {
        give_back();
        signal_hook::low_level::raise(SIGTSTP).context("this program cannot be stopped")?;
        self.take_again()
    }

    /// After it was stopped: others may have used the terminal meanwhile.
    pub fn take_again(&mut self) -> anyhow::Result<()> {
        let _ = terminal::disable_raw_mode(); // so that what the terminal is now is what it is given back as
        terminal::enable_raw_mode().context("the terminal cannot be used")?;
        IS_TAKEN.store(true, Ordering::Relaxed);
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All)).context("the terminal cannot be used")?;
        // A new one, that knows nothing of what was drawn. `Terminal::clear` would ask for the cursor, and the thread
        // that reads keys would take the answer.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).context("the terminal cannot be used")?;
        self.terminal = ManuallyDrop::new(terminal);
        Ok(())
    }

    /// Draws a frame.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        self.terminal.draw(draw).map(drop).context("the terminal cannot be drawn to")
    }

    /// Where keys and signals arrive.
    pub fn input(&self) -> &Receiver<Input> {
        &self.input
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<DefaultTerminal> {
    terminal::enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::Relaxed);
    execute!(io::stdout(), EnterAlternateScreen)?;
    Terminal::new(CrosstermBackend::new(io::stdout()))
}

/// Whether the terminal is ours just now.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back as it was, once: to leave the screen a second time would move the cursor back to where it
/// was before, and what was printed since would be overwritten. One that is gone needs nothing, and says so to nobody:
/// what tells of it would be told to the same terminal.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::Relaxed) {
        return;
    }
    let _ = terminal::disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

/// The message of a panic would be lost with the screen that it is written to.
fn give_back_before_a_panic_is_told() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        tell(panic);
    }));
}

fn listen(name: &str, sender: Sender<Input>, work: impl FnOnce(Sender<Input>) + Send + 'static) -> anyhow::Result<()> {
    let started = std::thread::Builder::new().name(name.into()).spawn(move || work(sender));
    started
        .map(drop)
        .context("no thread can be started (is `ulimit -u`, `ulimit -v`, or the container's pids.max, reached?)")
}

fn pass_signals_on(mut signals: Signals, sender: Sender<Input>) {
    for signal in signals.forever() {
        let input = match signal {
            SIGCONT => Input::Continued,
            _ => Input::Signal(u8::try_from(signal).unwrap_or_default()), // they are small numbers
        };
        let _ = sender.send(input); // nobody listens any more: the end is near anyway
    }
}

fn pass_events_on(sender: Sender<Input>) {
    loop {
        let input = event::read().map_or(Input::Lost, Input::Event);
        let is_last = matches!(input, Input::Lost);
        if sender.send(input).is_err() || is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pseudo::Screen;
    use super::*;

    /// In a process of its own, whose terminal is another one: this test starts itself again.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        const WITHIN: &str = "WIGWAG_TEST_WITHIN_TERMINAL";
        if std::env::var_os(WITHIN).is_some() {
            let mut held = Held::take().unwrap();
            held.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
            held.input().recv().unwrap();
            panic!("planted");
        }
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "top::terminal::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        // Without a backtrace the message is short: what is written over it would hide it.
        again.args(["--exact", name, "--nocapture"]).env(WITHIN, "").env("RUST_BACKTRACE", "0");
        let mut screen = Screen::start(again, 24, 80);
        screen.until("it is taken", |text| text.contains("drawn"));
        assert!(screen.is_taken());
        screen.press("x");
        assert!(!screen.wait().success());
        screen.is_given_back();
        // On the screen that was there before: told any earlier, it would be gone by now.
        screen.until("it is told", |text| text.contains("planted"));
    }
}

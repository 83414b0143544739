//! The terminal, taken and given back: at the end, at a panic and at a signal.

use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

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
    /// The terminal is gone.
    Lost,
}

/// A terminal that is ours. Dropping it gives it back.
#[derive(Debug)]
pub struct Held {
    terminal: DefaultTerminal,
    input: Receiver<Input>,
}

impl Held {
    /// Takes the terminal. A panic gives it back before its message is printed.
    pub fn take() -> anyhow::Result<Held> {
        // Before the terminal is taken: a signal that comes early must not leave it taken.
        let signals =
            Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT]).context("the signals that end it cannot be received")?;
        let terminal = ratatui::try_init().context("the terminal cannot be used")?;
        let (sender, input) = channel();
        let held = Held { terminal, input };
        listen("signals", sender.clone(), move |sender| pass_signals_on(signals, sender))?;
        listen("keys", sender, pass_events_on)?;
        Ok(held)
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
        ratatui::restore();
    }
}

fn listen(name: &str, sender: Sender<Input>, work: impl FnOnce(Sender<Input>) + Send + 'static) -> anyhow::Result<()> {
    let started = std::thread::Builder::new().name(name.into()).spawn(move || work(sender));
    started.map(drop).context("no thread can be started")
}

fn pass_signals_on(mut signals: Signals, sender: Sender<Input>) {
    for signal in signals.forever() {
        // They are small numbers. Nobody listens any more: the end is near anyway.
        let _ = sender.send(Input::Signal(u8::try_from(signal).unwrap_or_default()));
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
        again.args(["--exact", name, "--nocapture"]).env(WITHIN, "");
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

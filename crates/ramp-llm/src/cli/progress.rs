//! Progress bars with the time left on a terminal, log lines at level info elsewhere.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ramp::pipeline::Step;

use super::interrupt;

/// All bars; hidden when standard error is not a terminal.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

const BAR: &str = "{prefix:16} {bar:30} {pos:>7}/{len} {msg}  {elapsed_precise}  eta {eta}";
/// For tokens, whose rate tells how fast a model runs.
const TOKEN_BAR: &str = "{prefix:16} {bar:30} {pos:>7}/{len} {msg}  {per_sec}  {elapsed_precise}  eta {eta}";
const SPINNER: &str = "{prefix:16} {spinner} {elapsed_precise}";
const TICK: Duration = Duration::from_millis(120);

/// Runs something that writes to the terminal while the bars are away.
pub(crate) fn suspend<T>(write: impl FnOnce() -> T) -> T {
    BARS.suspend(write)
}

/// The bar of the current step.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    step: Option<&'static str>,
}

impl Progress {
    /// Shows that something is being done that has no units.
    pub(crate) fn start(what: &'static str) -> Self {
        Self { bar: spinner(what), step: None }
    }

    /// Draws a report of progress. `false` after Ctrl-C.
    pub(crate) fn step(&mut self, step: Step) -> bool {
        if self.step != Some(step.name) {
            tracing::info!(total = step.total, unit = step.unit, "{}", step.name);
            self.replace(bar(&step));
            self.step = Some(step.name);
        }
        self.bar.set_message(note(&step));
        self.bar.set_position(step.done as u64);
        if step.done >= step.total {
            self.bar.finish();
            // What comes before the next step's first report may take its time, too.
            self.bar = spinner("");
            self.step = None;
        }
        !interrupt::requested()
    }

    /// Shows that something else is being done that has no units.
    pub(crate) fn busy(&mut self, what: &'static str) {
        self.replace(spinner(what));
        self.step = None;
    }

    fn replace(&mut self, bar: ProgressBar) {
        close(&self.bar);
        self.bar = bar;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        close(&self.bar);
    }
}

/// A spinner leaves nothing behind; a bar that stopped half-way tells where.
fn close(bar: &ProgressBar) {
    if bar.is_finished() {
        return;
    }
    if bar.length().is_none() { bar.finish_and_clear() } else { bar.abandon() }
}

fn bar(step: &Step) -> ProgressBar {
    // Complete before it is added, which draws it.
    let style = style(if step.unit == "tokens" { TOKEN_BAR } else { BAR }).progress_chars("=> ");
    let bar = ProgressBar::new(step.total as u64).with_style(style).with_prefix(step.name);
    BARS.add(bar.with_message(note(step)))
}

fn spinner(what: &'static str) -> ProgressBar {
    let bar = BARS.add(ProgressBar::no_length().with_style(style(SPINNER)).with_prefix(what));
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn note(step: &Step) -> Cow<'static, str> {
    match step.best_kld {
        Some(kld) => format!("{}, best KL {kld:.5}", step.unit).into(),
        None => step.unit.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
        assert!(ProgressStyle::with_template(TOKEN_BAR).is_ok());
        assert!(ProgressStyle::with_template(SPINNER).is_ok());
    }

    #[test]
    fn steps_are_drawn_and_go_on() {
        let mut progress = Progress::start("load");
        let step = Step { name: "search", done: 1, total: 2, unit: "episodes", best_kld: Some(0.25) };
        assert!(progress.step(step));
        assert_eq!(progress.bar.message(), "episodes, best KL 0.25000");
        assert_eq!((progress.bar.position(), progress.bar.length()), (1, Some(2)));
        assert!(progress.step(Step { done: 2, ..step }));
        assert_eq!(progress.step, None);
        progress.busy("write");
        assert_eq!(progress.bar.prefix(), "write");
    }
}

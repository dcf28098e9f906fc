//! Progress of what takes longer than a second: on standard error, and only
//! where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::time::{Duration, Instant};

/// What takes less is not worth a flicker.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Progress of work whose amount may be unknown; gone when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
}

impl Progress {
    /// Work on `total` things (`None`: nobody knows how many).
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{spinner} {msg} {wide_bar} {human_pos}/{human_len} {eta}",
            None => "{spinner} {msg}: {human_pos} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self {
            bar,
            began: Instant::now(),
        }
    }

    /// So much more is done.
    pub(super) fn advance(&self, done: usize) {
        self.bar.inc(u64::try_from(done).unwrap_or(u64::MAX));
        if self.began.elapsed() >= PATIENCE {
            self.show();
        }
    }

    /// So much of so much is done.
    pub(super) fn at(&self, done: u64, total: u64) {
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
        if self.began.elapsed() >= PATIENCE {
            self.show();
        }
    }

    /// Runs `print`, which writes to the terminal, without mixing with the bar.
    pub(super) fn pause(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    fn show(&self) {
        if self.bar.is_hidden() {
            // Stays hidden where standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TICK);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Waits for `work`, with a spinner when it takes its time.
pub(super) async fn while_waiting<F: Future>(what: &'static str, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        output = &mut work => return output,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_message(what);
    bar.enable_steady_tick(TICK);
    let output = work.await;
    bar.finish_and_clear();
    output
}

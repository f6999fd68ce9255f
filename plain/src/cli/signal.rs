//! Signals: the first INT or TERM asks the work to stop at the next step; the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// A file that grows past a limit is the error of its write, not the end of the process.
pub fn survive_limits() {
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// From here on, INT and TERM set a flag instead of ending the process.
pub fn on_stop() -> Result<()> {
    let stop = STOP.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    Ok(())
}

/// Waits for so long, or until a stop is asked for.
pub fn pause(time: Duration) {
    let start = Instant::now();
    while !stop_requested() && start.elapsed() < time {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a stop was asked for.
pub fn stop_requested() -> bool {
    STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}

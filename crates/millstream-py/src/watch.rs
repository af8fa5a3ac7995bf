//! The deadlines of a connection: the core's watchdog, which the loop lets look from time to time. Between two looks nothing
//! here runs.

use std::time::{Duration, Instant};

use millstream_core::{DeadlineKind, Deadlines, Failure, Sight, Watchdog};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::Lock;
use crate::reader::ReaderBase;

/// The watchdog of one connection. Time is the loop's, in seconds.
#[pyclass(frozen, module = "millstream._core")]
#[derive(Debug)]
pub(crate) struct Watch {
    dog: Lock<Watchdog>,
    /// The same moment by two clocks.
    start: Instant,
    began: f64,
}

impl Watch {
    fn instant(&self, now: f64) -> Instant {
        self.start + Duration::try_from_secs_f64(now - self.began).unwrap_or_default()
    }

    fn seconds(&self, then: Instant) -> f64 {
        self.began + then.saturating_duration_since(self.start).as_secs_f64()
    }
}

#[pymethods]
impl Watch {
    /// Begins to watch. The names are those of the options.
    #[new]
    #[pyo3(signature = (now, *, item_deadline = None, idle_timeout = None, min_receive_rate = None, write_progress_timeout = None))]
    fn new(
        now: f64,
        item_deadline: Option<f64>,
        idle_timeout: Option<f64>,
        min_receive_rate: Option<(u64, f64)>,
        write_progress_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let mut deadlines = Deadlines::none();
        if let Some(seconds) = item_deadline {
            deadlines = deadlines.item(duration("item_deadline", seconds)?);
        }
        if let Some(seconds) = idle_timeout {
            deadlines = deadlines.idle(duration("idle_timeout", seconds)?);
        }
        if let Some((bytes_per_second, window)) = min_receive_rate {
            deadlines = deadlines.receive_rate(bytes_per_second, duration("min_receive_rate", window)?);
        }
        if let Some(seconds) = write_progress_timeout {
            deadlines = deadlines.write_progress(duration("write_progress_timeout", seconds)?);
        }
        deadlines.check().map_err(|error| PyValueError::new_err(error.to_string()))?;
        let start = Instant::now();
        Ok(Self { dog: Lock::new(Watchdog::new(deadlines, start)), start, began: now })
    }

    /// When to look for the first time.
    fn first_look(&self) -> f64 {
        self.seconds(self.dog.lock().first_look())
    }

    /// Looks at the reader and at what its transport has `buffered`. Returns when to look again, and the deadline that has
    /// passed with what is to be said of it, if one has.
    fn look(&self, now: f64, reader: &ReaderBase, buffered: usize) -> (f64, Option<(&'static str, String)>) {
        let sight = sight(reader, buffered);
        let now = self.instant(now);
        match self.dog.lock().look(now, &sight) {
            Ok(next) => (self.seconds(next), None),
            Err(failure) => (self.seconds(now), Some((name(&failure), failure.to_string()))),
        }
    }
}

/// What there is to be seen.
fn sight(reader: &ReaderBase, buffered: usize) -> Sight {
    let state = reader.state.lock();
    let (queued, handed_over) = state.written();
    Sight {
        received: state.received(),
        // Only whether it changes counts: what others write to the transport may make it less than nothing.
        sent: handed_over.wrapping_sub(buffered as u64),
        waiting: state.waiting(),
        stalled: (buffered > 0).then_some(queued + buffered),
    }
}

fn name(failure: &Failure) -> &'static str {
    match failure.deadline() {
        Some(DeadlineKind::Item) => "item",
        Some(DeadlineKind::ReceiveRate) => "receive_rate",
        Some(DeadlineKind::WriteProgress) => "write_progress",
        _ => "idle",
    }
}

fn duration(option: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{option}: {seconds} is no number of seconds to wait")))
}

//! The pair of marks that starts and ends backpressure, with its hysteresis. Knows sizes only.

use crate::error::ConfigError;

/// High and low mark of a write queue, in bytes.
///
/// Writing counts as paused once more than `high` bytes are queued, until `low` or fewer are left. Both zero mean that
/// `drain` waits for an empty queue.
///
/// ```
/// use millstream_core::Watermarks;
/// let marks = Watermarks::new(64 * 1024, 16 * 1024)?;
/// assert_eq!(marks, Watermarks::default());
/// assert!(Watermarks::new(10, 11).is_err());
/// # Ok::<(), millstream_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    high: usize,
    /// Never above `high`.
    low: usize,
}

impl Watermarks {
    /// Checks and makes a pair.
    ///
    /// # Errors
    /// [`ConfigError::LowAboveHigh`] if the low mark is above the high one.
    pub const fn new(high: usize, low: usize) -> Result<Self, ConfigError> {
        if low > high {
            return Err(ConfigError::LowAboveHigh { high, low });
        }
        Ok(Self { high, low })
    }

    /// The mark above which `drain` waits, in bytes.
    pub const fn high(&self) -> usize {
        self.high
    }

    /// The mark at or below which `drain` goes on, in bytes.
    pub const fn low(&self) -> usize {
        self.low
    }

    /// Whether writing is paused with `queued` bytes, given that it was or was not before.
    #[inline]
    pub(crate) const fn paused(&self, was_paused: bool, queued: usize) -> bool {
        if was_paused { queued > self.low } else { queued > self.high }
    }
}

impl Default for Watermarks {
    /// 64 KiB and 16 KiB, as in asyncio.
    fn default() -> Self {
        Self { high: 64 * 1024, low: 16 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pausing_has_hysteresis() {
        let marks = Watermarks::new(10, 4).unwrap();
        assert!(!marks.paused(false, 10));
        assert!(marks.paused(false, 11));
        assert!(marks.paused(true, 5));
        assert!(!marks.paused(true, 4));
    }

    #[test]
    fn marks_of_zero_wait_for_empty() {
        let marks = Watermarks::new(0, 0).unwrap();
        assert!(marks.paused(false, 1));
        assert!(marks.paused(true, 1));
        assert!(!marks.paused(true, 0));
    }
}

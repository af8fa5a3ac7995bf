//! Watches a peer by its deadlines: told from time to time what passed and who waits, it says when one has passed. It has
//! neither clock nor timer; the driver brings the time and comes again when it is told to.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::deadlines::{DeadlineKind, Deadlines, Rate};
use crate::failure::{ErrorClass, Failure};

/// The watchdog of one connection.
///
/// The loop a driver runs: [`look`](Self::look), then sleep until the instant it returned, again and again, until it returns
/// a failure.
///
/// Only what was seen at both ends of an interval is held against the peer: a reader that did not wait at one of two looks
/// may have been busy for all of the time between them.
#[derive(Debug)]
pub struct Watchdog {
    deadlines: Deadlines,
    last_look: Instant,
    /// What had passed at the last look.
    received: u64,
    sent: u64,
    reader_waited: bool,
    was_stalled: bool,
    idle_for: Duration,
    stalled_for: Duration,
    item: Item,
}

/// What a driver sees of its connection at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// Bytes that came from the transport so far.
    pub received: u64,
    /// Bytes that the transport has taken so far.
    pub sent: u64,
    /// The read that waits for the peer, if one does for certain.
    pub waiting: Option<Waiting>,
    /// How many bytes wait, if the transport takes none of them for now.
    pub stalled: Option<usize>,
}

/// A read that waits for the peer.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Where its item begins in the stream of what is read. By this one item is told from the next.
    pub position: u64,
    /// How much of it is there, in bytes.
    pub held: usize,
    /// Whether the peer has begun it: something of it is there, or a part of a TLS record in which it may be.
    pub begun: bool,
}

/// The item that a read waits for, while the peer has begun it.
#[derive(Debug, Default)]
struct Item {
    position: Option<u64>,
    held: usize,
    /// How long a read has waited for the rest.
    waited: Duration,
    /// What had been received when it had been waited for so long; a quarter of a window lies between two of them.
    marks: VecDeque<(Duration, u64)>,
}

impl Watchdog {
    /// Begins to watch a connection of which nothing is known yet.
    pub fn new(deadlines: Deadlines, now: Instant) -> Self {
        Self {
            deadlines,
            last_look: now,
            received: 0,
            sent: 0,
            reader_waited: false,
            was_stalled: false,
            idle_for: Duration::ZERO,
            stalled_for: Duration::ZERO,
            item: Item::default(),
        }
    }

    /// When to look for the first time.
    pub fn first_look(&self) -> Instant {
        self.last_look + self.deadlines.tick()
    }

    /// Takes note of what is to be seen now. Returns when to look again.
    ///
    /// # Errors
    /// The [`Failure`] of the deadline that has passed; of several, the one that passed first.
    pub fn look(&mut self, now: Instant, sight: &Sight) -> Result<Instant, Failure> {
        let interval = now.saturating_duration_since(self.last_look);
        let waited = if self.reader_waited { interval } else { Duration::ZERO };

        let silent = sight.received == self.received && sight.sent == self.sent;
        self.idle_for = match sight.waiting {
            Some(_) if silent => self.idle_for + waited,
            _ => Duration::ZERO,
        };
        self.stalled_for = match sight.stalled {
            Some(_) if self.was_stalled && sight.sent == self.sent => self.stalled_for + interval,
            _ => Duration::ZERO,
        };
        if let Some(waiting) = sight.waiting {
            self.item.follow(waiting, waited, sight.received, self.deadlines.receive_rate);
        }
        self.last_look = now;
        (self.received, self.sent) = (sight.received, sight.sent);
        self.reader_waited = sight.waiting.is_some();
        self.was_stalled = sight.stalled.is_some();

        match self.most_overdue() {
            Some(kind) => Err(self.failure(kind, sight)),
            None => Ok(now + self.next_in()),
        }
    }

    /// The deadline that passed first. Of two at the same moment, the one that says more about the peer.
    fn most_overdue(&self) -> Option<DeadlineKind> {
        let mut first: Option<(Duration, DeadlineKind)> = None;
        for (kind, elapsed, deadline) in self.clocks() {
            if let Some(overdue) = elapsed.checked_sub(deadline)
                && first.is_none_or(|(most, _)| overdue > most)
            {
                first = Some((overdue, kind));
            }
        }
        first.map(|(_, kind)| kind)
    }

    /// When the next look is due: a tick later, or when the first of the clocks that run would be over.
    fn next_in(&self) -> Duration {
        let left = self.clocks().map(|(_, elapsed, deadline)| deadline.saturating_sub(elapsed));
        left.fold(self.deadlines.tick(), Duration::min).max(SHORTEST_SLEEP)
    }

    /// Each deadline whose clock runs: how far it is, and when it is over.
    fn clocks(&self) -> impl Iterator<Item = (DeadlineKind, Duration, Duration)> {
        let runs = self.reader_waited && self.item.position.is_some();
        let item = self.deadlines.item.filter(|_| runs).map(|deadline| (self.item.waited, deadline));
        let rate = self.deadlines.receive_rate.filter(|_| runs);
        let rate = rate.and_then(|rate| self.item.window(rate, self.received));
        let idle = self.deadlines.idle.map(|deadline| (self.idle_for, deadline));
        let write = self.deadlines.write_progress.map(|deadline| (self.stalled_for, deadline));
        [
            (DeadlineKind::Item, item),
            (DeadlineKind::ReceiveRate, rate),
            (DeadlineKind::WriteProgress, write),
            (DeadlineKind::Idle, idle),
        ]
        .into_iter()
        .filter_map(|(kind, clock)| clock.map(|(elapsed, deadline)| (kind, elapsed, deadline)))
    }

    fn failure(&self, kind: DeadlineKind, sight: &Sight) -> Failure {
        let text = match (kind, self.deadlines) {
            (DeadlineKind::Item, Deadlines { item: Some(deadline), .. }) => format!(
                "no whole item within {deadline:?}: {} bytes in {:.1?}",
                self.item.held, self.item.waited
            ),
            (DeadlineKind::ReceiveRate, Deadlines { receive_rate: Some(rate), .. }) => {
                let (since, then) = self.item.marks.front().copied().unwrap_or_default();
                format!(
                    "an item came slower than {} bytes/s: {} bytes in {:.1?}, and {} of it in all",
                    rate.bytes_per_second,
                    sight.received - then,
                    self.item.waited - since,
                    self.item.held
                )
            }
            (DeadlineKind::WriteProgress, Deadlines { write_progress: Some(timeout), .. }) => format!(
                "the peer took nothing within {timeout:?}: {} bytes are queued, {:.1?} without progress",
                sight.stalled.unwrap_or_default(),
                self.stalled_for
            ),
            (_, Deadlines { idle, .. }) => format!(
                "nothing was received or sent within {:?}: a read has waited for {:.1?}",
                idle.unwrap_or_default(),
                self.idle_for
            ),
        };
        Failure::new(io::ErrorKind::TimedOut, text, ErrorClass::Deadline).with_deadline(kind)
    }
}

impl Item {
    /// A read waits, and has waited for so long since the last look.
    fn follow(&mut self, waiting: Waiting, waited: Duration, received: u64, rate: Option<Rate>) {
        let position = waiting.begun.then_some(waiting.position);
        if position == self.position {
            self.waited += waited;
        } else {
            self.position = position;
            self.waited = Duration::ZERO;
            self.marks.clear();
        }
        self.held = waiting.held;
        let Some(rate) = rate.filter(|_| position.is_some()) else { return };
        // Of the marks that a whole window lies behind, only the latest counts.
        while self.marks.get(1).is_some_and(|(at, _)| self.waited - *at >= rate.window) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|(at, _)| self.waited - *at >= rate.window / 4) {
            self.marks.push_back((self.waited, received));
        }
    }

    /// How far the present window is, and how long it is. A peer that was fast enough has time until the next mark.
    fn window(&self, rate: Rate, received: u64) -> Option<(Duration, Duration)> {
        let (at, then) = *self.marks.front()?;
        let elapsed = self.waited - at;
        let needed = u128::from(rate.bytes_per_second) * elapsed.as_millis() / 1000;
        (elapsed < rate.window || u128::from(received - then) < needed).then_some((elapsed, rate.window))
    }
}

/// A driver that slept less would spin.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A read that waits, of which so much is there.
    fn waits(received: u64, held: usize) -> Sight {
        let position = received - held as u64;
        Sight { received, waiting: Some(Waiting { position, held, begun: held > 0 }), ..Sight::default() }
    }

    /// Looks whenever it is told to, at what `sight` makes of the time that has passed, until a deadline has.
    fn passes(
        deadlines: Deadlines,
        most: u64,
        sight: impl Fn(Duration) -> Sight,
    ) -> Option<(Duration, Failure)> {
        let start = Instant::now();
        let mut dog = Watchdog::new(deadlines, start);
        let mut next = dog.first_look();
        while next < start + secs(most) {
            let passed = next - start;
            match dog.look(next, &sight(passed)) {
                Ok(then) => {
                    assert!(then > next, "the driver would spin");
                    next = then;
                }
                Err(failure) => return Some((passed, failure)),
            }
        }
        None
    }

    #[test]
    fn each_deadline_passes_between_its_time_and_a_quarter_more_and_names_itself() {
        let dog = Deadlines::none();
        let stall = |_: Duration| Sight { stalled: Some(7), ..Sight::default() };
        let item = |_: Duration| waits(3, 3);
        let silence = |_: Duration| waits(0, 0);
        for (deadlines, sight, kind) in [
            (dog.item(secs(10)), &item as &dyn Fn(Duration) -> Sight, DeadlineKind::Item),
            (dog.receive_rate(1, secs(10)), &item, DeadlineKind::ReceiveRate),
            (dog.idle(secs(10)), &silence, DeadlineKind::Idle),
            (dog.write_progress(secs(10)), &stall, DeadlineKind::WriteProgress),
        ] {
            let (after, failure) = passes(deadlines, 1000, sight).expect("it passes");
            assert!(secs(10) <= after && after <= secs(10) * 5 / 4, "{kind:?} after {after:?}");
            assert_eq!((failure.deadline(), failure.class()), (Some(kind), ErrorClass::Deadline));
        }
    }

    #[test]
    fn nothing_passes_while_nobody_waits_and_nothing_is_stuck() {
        let all = Deadlines::internet().item(secs(1));
        assert_eq!(passes(all, 10_000, |_| Sight::default()), None);
    }

    #[test]
    fn what_is_seen_at_one_look_only_is_not_held_against_the_peer() {
        let all = Deadlines::none().item(secs(10)).idle(secs(10)).receive_rate(500, secs(10));
        // At every other look the program is busy.
        let busy = |passed: Duration| {
            if (passed.as_millis() / 2500).is_multiple_of(2) { waits(3, 3) } else { Sight::default() }
        };
        assert_eq!(passes(all, 10_000, busy), None);
    }

    #[test]
    fn a_new_item_has_its_own_time() {
        let steady = |passed: Duration| {
            // One more byte every 8 s ends an item and begins the next.
            waits(passed.as_secs() / 8 * 5 + 5, 5)
        };
        assert_eq!(
            passes(Deadlines::none().item(secs(10)).receive_rate(100, secs(10)), 10_000, steady),
            None
        );
    }

    #[test]
    fn a_rate_is_judged_over_its_window_and_not_at_a_moment() {
        let rate = Deadlines::none().receive_rate(100, secs(20));
        // 2,000 bytes at once, every 15 s.
        let bursts = |passed: Duration| {
            let received = (passed.as_secs() / 15 + 1) * 2_000;
            waits(received, usize::try_from(received).unwrap())
        };
        assert_eq!(passes(rate, 10_000, bursts), None);
        let (after, failure) =
            passes(rate, 10_000, |passed| bursts(passed.min(secs(300)))).expect("it stops");
        assert!(secs(315) <= after && after <= secs(345), "{after:?}");
        assert_eq!(failure.deadline(), Some(DeadlineKind::ReceiveRate), "{failure}");
    }

    #[test]
    fn a_deadline_of_ages_overflows_nothing() {
        let ages = Deadlines::none().item(Duration::MAX).idle(Duration::MAX).write_progress(Duration::MAX);
        let all = ages.receive_rate(u64::MAX, Duration::MAX);
        assert_eq!(passes(all, 1 << 30, |_| waits(3, 3)), None);
        let greedy = Deadlines::none().receive_rate(u64::MAX, secs(1000));
        assert!(passes(greedy, 10_000, |_| waits(3, 3)).is_some());
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}

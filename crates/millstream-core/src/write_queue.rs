//! Bytes waiting to be sent: order, partial sends, marks, the cork and the hard cap. Sends nothing itself.
//!
//! Small messages are copied behind each other so that many of them leave in one send; large ones that the caller gives
//! away are kept as they are and leave in the same gathered send.

mod earlier;

use std::fmt;

use bytes::{Buf, Bytes};

use earlier::Earlier;

use crate::error::WriteError;
use crate::thread_memory;
use crate::watermarks::Watermarks;

/// Corked bytes leave at once when there are this many: with 8 to 64 KiB the benchmarks do not differ, and the smallest
/// of them that still holds a batch of a hundred lines costs the least memory.
pub const DEFAULT_CORK_THRESHOLD: usize = 16 * 1024;

/// The queue of one writer.
///
/// ```
/// use millstream_core::{Urgency, WriteQueue};
/// let mut queue = WriteQueue::default();
/// assert_eq!(queue.admit(6)?, Urgency::Corked);
/// queue.push(b"first\n");
/// queue.push(b"second\n");
/// assert_eq!(queue.gather().map(|slice| slice.len()).sum::<usize>(), 13);
/// queue.advance(13);
/// assert!(queue.is_empty());
/// # Ok::<(), millstream_core::WriteError>(())
/// ```
pub struct WriteQueue {
    /// Boxed: connections of small messages do without, and are many.
    earlier: Option<Box<Earlier>>,
    /// Small messages, one behind the other. Without memory when there are none: the thread keeps it for the next ones.
    tail: Vec<u8>,
    /// How much of the tail was sent: less than its length, or both are zero.
    tail_sent: usize,
    /// What is queued in all, in bytes, the sealed ones included.
    len: usize,
    /// What was taken to be encrypted and has not left yet, in bytes before encryption.
    sealed: usize,
    marks: Watermarks,
    /// Whether `drain` has to wait. Follows `len` through the marks.
    paused: bool,
    corked: bool,
    cork_threshold: usize,
    hard_cap: Option<usize>,
    /// While less than this is queued, a small message is corked, within the cap, and passes no mark. Follows the five
    /// fields above.
    easy_len: usize,
    /// The most bytes ever queued at once, when the queue last shrank.
    peak_len: usize,
}

impl fmt::Debug for WriteQueue {
    /// Without the bytes: what goes through may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteQueue")
            .field("len", &self.len)
            .field("sealed", &self.sealed)
            .field("marks", &self.marks)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

/// How soon a message that was admitted has to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// With the next flush, which the driver owes by the end of the turn.
    Corked,
    /// Now: the cork is off or its threshold is reached.
    Now,
}

impl Default for WriteQueue {
    fn default() -> Self {
        Self::new(Watermarks::default(), None)
    }
}

impl WriteQueue {
    /// An empty, corked queue. With a hard cap, messages that would pass it are refused.
    pub fn new(marks: Watermarks, hard_cap: Option<usize>) -> Self {
        let mut queue = Self {
            earlier: None,
            tail: Vec::new(),
            tail_sent: 0,
            len: 0,
            sealed: 0,
            marks,
            paused: false,
            corked: true,
            cork_threshold: DEFAULT_CORK_THRESHOLD,
            hard_cap,
            easy_len: 0,
            peak_len: 0,
        };
        queue.update_easy();
        queue
    }

    /// How many bytes are queued.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes that were ever queued at once.
    pub fn peak_len(&self) -> usize {
        self.peak_len.max(self.len)
    }

    /// Whether more than the high mark was queued and the low mark is not reached yet: `drain` waits.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The marks in force.
    pub fn watermarks(&self) -> Watermarks {
        self.marks
    }

    /// Changes the marks. Returns whether waiting drainers may go on now.
    #[must_use = "drainers that may go on have to be woken"]
    pub fn set_watermarks(&mut self, marks: Watermarks) -> bool {
        let was_paused = self.paused;
        self.marks = marks;
        self.paused = marks.paused(false, self.len);
        self.update_easy();
        was_paused && !self.paused
    }

    /// The hard cap in force.
    pub fn hard_cap(&self) -> Option<usize> {
        self.hard_cap
    }

    /// Sets or lifts the hard cap. What is queued already stays.
    pub fn set_hard_cap(&mut self, hard_cap: Option<usize>) {
        self.hard_cap = hard_cap;
        self.update_easy();
    }

    /// Corks (the default) or uncorks: uncorked messages have to leave at once.
    pub fn set_corked(&mut self, corked: bool) {
        self.corked = corked;
        self.update_easy();
    }

    /// How many corked bytes make a message leave at once.
    pub fn set_cork_threshold(&mut self, threshold: usize) {
        self.cork_threshold = threshold;
        self.update_easy();
    }

    /// Whether a message of `len` bytes may come, and how soon it has to leave. Queues nothing. An empty one may always.
    ///
    /// # Errors
    /// [`WriteError::Full`] if it would pass the hard cap.
    #[inline]
    pub fn admit(&self, len: usize) -> Result<Urgency, WriteError> {
        if len == 0 {
            return Ok(Urgency::Corked);
        }
        // A sum that no number holds passes every cap.
        let total = self.len.checked_add(len);
        if let Some(hard_cap) = self.hard_cap.filter(|&cap| total.is_none_or(|total| total > cap)) {
            return Err(WriteError::Full { len, queued: self.len, hard_cap });
        }
        let is_due = !self.corked || total.is_none_or(|total| total >= self.cork_threshold);
        Ok(if is_due { Urgency::Now } else { Urgency::Corked })
    }

    /// Appends a copy of the message if it may come, is corked, and passes no mark: what [`admit`](Self::admit) and
    /// [`push`](Self::push) do for nearly all messages, in little code. False: nothing was done, and says nothing.
    #[inline]
    pub fn push_easily(&mut self, data: &[u8]) -> bool {
        if !(1..=SHARE_LEN).contains(&data.len()) || self.len + data.len() >= self.easy_len {
            return false;
        }
        if self.tail.capacity() == 0 {
            self.tail = thread_memory::take_tail();
        }
        if self.tail.capacity() - self.tail.len() < data.len() {
            return false;
        }
        self.tail.extend_from_slice(data);
        self.len += data.len();
        true
    }

    /// Appends a copy of the message.
    pub fn push(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.tail.len() >= TAIL_LEN {
            self.end_tail();
        }
        if self.tail.capacity() == 0 {
            self.tail = thread_memory::take_tail();
        }
        self.tail.extend_from_slice(data);
        self.grown(data.len());
    }

    /// Appends the message, without a copy if it is large.
    pub fn push_shared(&mut self, data: Bytes) {
        if data.len() < SHARE_LEN {
            return self.push(&data);
        }
        self.end_tail();
        let len = data.len();
        self.earlier.get_or_insert_default().push_given(data);
        self.grown(len);
    }

    /// The queued bytes in order, for a gathered send. No slice is empty.
    pub fn gather(&self) -> impl Iterator<Item = &[u8]> {
        let tail = &self.tail[self.tail_sent..];
        let earlier = self.earlier.iter().flat_map(|earlier| earlier.gather());
        earlier.chain((!tail.is_empty()).then_some(tail))
    }

    /// The queued bytes, if they are in one piece, as steady traffic is.
    #[inline]
    pub fn as_slice(&self) -> Option<&[u8]> {
        let is_all = self.earlier.as_ref().is_none_or(|earlier| earlier.is_empty());
        is_all.then(|| &self.tail[self.tail_sent..])
    }

    /// The first `n` queued bytes were sent. Returns whether waiting drainers may go on now.
    ///
    /// # Panics
    /// If fewer are queued.
    #[must_use = "drainers that may go on have to be woken"]
    #[inline]
    pub fn advance(&mut self, n: usize) -> bool {
        self.note_peak();
        self.forget(n);
        self.len -= n;
        self.update_pause()
    }

    /// All of [`as_slice`](Self::as_slice) was sent: as [`advance`](Self::advance), in little code.
    #[must_use = "drainers that may go on have to be woken"]
    #[inline]
    pub fn advance_all(&mut self) -> bool {
        debug_assert!(self.as_slice().is_some_and(|all| all.len() == self.len));
        self.note_peak();
        self.len = 0;
        self.tail_sent = 0;
        self.give_back_tail();
        self.paused && self.update_pause()
    }

    /// A seal took `n` bytes, from the queue first and then from the message behind it: forgets those of the queue, and
    /// counts all of them until [`sealed_left`](Self::sealed_left). Returns how many were the message's.
    pub fn seal(&mut self, n: usize) -> usize {
        let of_queue = n.min(self.unsealed_len());
        self.forget(of_queue);
        self.sealed += n;
        self.grown(n - of_queue);
        n - of_queue
    }

    /// How many bytes are queued and not sealed.
    #[inline]
    pub fn unsealed_len(&self) -> usize {
        self.len - self.sealed
    }

    /// How many of the queued bytes are sealed.
    #[inline]
    pub fn sealed_len(&self) -> usize {
        self.sealed
    }

    /// Everything sealed has left. Returns whether waiting drainers may go on now.
    #[must_use = "drainers that may go on have to be woken"]
    pub fn sealed_left(&mut self) -> bool {
        self.note_peak();
        self.len -= std::mem::take(&mut self.sealed);
        self.update_pause()
    }

    /// Frees the first `n` stored bytes.
    #[inline]
    fn forget(&mut self, n: usize) {
        assert!(n <= self.unsealed_len(), "{n} of {} queued bytes", self.unsealed_len());
        let of_tail = self.earlier.as_mut().map_or(n, |earlier| earlier.forget(n));
        self.tail_sent += of_tail;
        if self.tail_sent == self.tail.len() {
            self.tail_sent = 0;
            self.give_back_tail();
        }
    }

    /// A gathered send of the queue followed by `data` took `sent` bytes in all: forgets what left, keeps the rest.
    /// Returns whether waiting drainers may go on now.
    ///
    /// # Panics
    /// If more was sent than there was.
    #[must_use = "drainers that may go on have to be woken"]
    pub fn advance_through(&mut self, sent: usize, data: &[u8]) -> bool {
        let of_queue = sent.min(self.len);
        let resumed = self.advance(of_queue);
        self.push(&data[sent - of_queue..]);
        resumed && !self.paused
    }

    /// Throws everything away. Returns how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let lost = self.len;
        self.note_peak();
        if let Some(earlier) = &mut self.earlier {
            earlier.clear();
        }
        self.give_back_tail();
        self.tail_sent = 0;
        self.len = 0;
        self.sealed = 0;
        self.update_pause();
        lost
    }

    /// Whether there are messages given away that are done with: [`take_finished`](Self::take_finished) has some.
    #[inline]
    pub fn has_finished(&self) -> bool {
        self.earlier.as_ref().is_some_and(|earlier| earlier.has_finished())
    }

    /// The messages given away that are done with since the last call, to be dropped where no lock is held.
    #[inline]
    pub fn take_finished(&mut self) -> Vec<Bytes> {
        self.earlier.as_mut().map(|earlier| earlier.take_finished()).unwrap_or_default()
    }

    fn grown(&mut self, by: usize) {
        self.len += by;
        self.update_pause();
    }

    #[inline]
    fn note_peak(&mut self) {
        self.peak_len = self.peak_len.max(self.len);
    }

    /// Applies the marks to the present size. Returns whether a pause ended.
    fn update_pause(&mut self) -> bool {
        let was_paused = self.paused;
        self.paused = self.marks.paused(was_paused, self.len);
        if was_paused != self.paused {
            self.update_easy();
        }
        was_paused && !self.paused
    }

    fn update_easy(&mut self) {
        let is_easy = self.corked && !self.paused;
        let most = self.marks.high().saturating_add(1).min(self.cork_threshold);
        self.easy_len = if is_easy { self.hard_cap.map_or(most, |cap| most.min(cap)) } else { 0 };
    }

    #[inline]
    fn give_back_tail(&mut self) {
        if self.tail.capacity() != 0 {
            thread_memory::give_back_tail(std::mem::take(&mut self.tail));
        }
    }

    /// The tail takes no more: it becomes a chunk of its own, and its memory is freed when it was sent. Of a little in much
    /// memory there is a copy, and the memory takes what comes next.
    fn end_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let sent = std::mem::take(&mut self.tail_sent);
        let bytes = if self.tail.len() < self.tail.capacity() / 2 {
            let bytes = Bytes::copy_from_slice(&self.tail[sent..]);
            self.tail.clear();
            bytes
        } else {
            let mut bytes = Bytes::from(std::mem::take(&mut self.tail));
            bytes.advance(sent);
            bytes
        };
        self.earlier.get_or_insert_default().push_copied(bytes);
    }
}

/// The tail takes further messages until it has this size; then a new one begins, so that sent memory is freed.
const TAIL_LEN: usize = 64 * 1024;
/// Below this a copy is cheaper than one more slice in the gathered send, and its overhead less than 1 % above.
const SHARE_LEN: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(queue: &WriteQueue) -> Vec<u8> {
        queue.gather().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn empty_messages_leave_no_trace() {
        let mut queue = WriteQueue::default();
        for _ in 0..1000 {
            queue.push(b"");
            queue.push_shared(Bytes::new());
        }
        assert!(queue.is_empty());
        assert_eq!(queue.gather().count(), 0);
    }

    #[test]
    fn small_and_large_messages_keep_their_order() {
        let mut queue = WriteQueue::default();
        queue.push(b"a");
        queue.push_shared(Bytes::from(vec![b'b'; SHARE_LEN]));
        queue.push(b"c");
        let mut expected = vec![b'a'];
        expected.extend(vec![b'b'; SHARE_LEN]);
        expected.push(b'c');
        while !queue.is_empty() {
            assert_eq!(bytes_of(&queue), expected);
            let step = queue.len().min(1000);
            let _ = queue.advance(step);
            expected.drain(..step);
        }
    }

    #[test]
    fn a_direct_send_keeps_what_did_not_leave() {
        for sent in 0..=8 {
            let mut queue = WriteQueue::default();
            queue.push(b"abc");
            let _ = queue.advance_through(sent, b"defgh");
            assert_eq!(bytes_of(&queue), b"abcdefgh"[sent..].to_vec());
        }
    }

    #[test]
    fn a_message_beyond_the_hard_cap_is_refused_whole() {
        let mut queue = WriteQueue::new(Watermarks::default(), Some(10));
        queue.push(b"12345678");
        assert_eq!(queue.admit(2), Ok(Urgency::Corked));
        assert_eq!(queue.admit(3), Err(WriteError::Full { len: 3, queued: 8, hard_cap: 10 }));
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn sealed_bytes_count_until_they_left() {
        let mut queue = WriteQueue::new(Watermarks::new(4, 0).unwrap(), None);
        queue.push(b"abcdef");
        assert_eq!(queue.seal(4), 0);
        assert_eq!((bytes_of(&queue), queue.len(), queue.unsealed_len()), (b"ef".to_vec(), 6, 2));
        assert_eq!(queue.seal(5), 3);
        assert_eq!((bytes_of(&queue), queue.len(), queue.peak_len()), (vec![], 9, 9));
        assert!(queue.is_paused());
        assert!(queue.sealed_left());
        assert!(queue.is_empty());
    }

    #[test]
    fn a_message_is_easy_up_to_each_of_its_bounds_and_not_beyond() {
        let marks = Watermarks::new(100, 10).unwrap();
        let queued = |len: usize| {
            let mut queue = WriteQueue::new(marks, None);
            queue.push(&vec![0; len]);
            queue
        };
        // The high mark, the cap, the threshold of the cork.
        assert!(queued(99).push_easily(b"x"));
        assert!(!queued(100).push_easily(b"x"));
        let mut capped = queued(50);
        capped.set_hard_cap(Some(52));
        assert!(capped.push_easily(b"x"));
        assert!(!capped.push_easily(b"xy"));
        let mut short = queued(50);
        short.set_cork_threshold(52);
        assert!(short.push_easily(b"x") && !short.push_easily(b"x"));
        let mut uncorked = queued(0);
        uncorked.set_corked(false);
        assert!(!uncorked.push_easily(b"x"));
        // Paused above the high mark, until the low one.
        let mut paused = queued(101);
        let _ = paused.advance(50);
        assert!(paused.is_paused() && !paused.push_easily(b"x"));
        assert!(paused.advance(41) && paused.push_easily(b"x"));
    }

    #[test]
    fn an_empty_queue_holds_no_memory_whatever_was_sent_or_pushed() {
        let mut queue = WriteQueue::default();
        let _ = queue.advance_through(20_000, &[0; 20_000]);
        assert!(queue.push_easily(b"a"));
        let _ = queue.advance_through(4, b"bcd");
        queue.push(b"");
        assert!(!queue.push_easily(b""));
        queue.push(&[0; TAIL_LEN]);
        queue.push(b"x");
        let _ = queue.advance(TAIL_LEN + 1);
        assert_eq!((queue.tail.capacity(), queue.len()), (0, 0));
        assert!(thread_memory::take_tail().capacity() >= DEFAULT_CORK_THRESHOLD);
    }

    #[test]
    fn steady_traffic_keeps_its_buffer() {
        let mut queue = WriteQueue::default();
        queue.push(&[1; 100]);
        let address = queue.gather().next().unwrap().as_ptr();
        let _ = queue.advance(100);
        queue.push(&[2; 100]);
        assert_eq!(queue.gather().next().unwrap().as_ptr(), address);
    }
}

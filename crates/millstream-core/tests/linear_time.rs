//! Ten million one-byte segments cost linear time and memory, shown by counts: bytes examined, bytes moved, bytes held.
//!
//! The sources of the reader are compiled here a second time with a `memchr` that counts. The search looks at unread
//! bytes through that crate only, so the count is exact; bytes are moved only when the unread ones change their address,
//! which [`ReadBuffer::unread`] shows. No clock is read. Completing is a second proof: a search that rescans would
//! examine 5 x 10^13 bytes here, which takes longer than any test runner waits.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "sources of the library, of which this test uses a part"
)]

// Shadows the crate: the sources below find this file's functions under its name.
extern crate self as memchr;

#[path = "../src/deadlines.rs"]
mod deadlines;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/failure.rs"]
mod failure;
#[path = "../src/read_buffer.rs"]
mod read_buffer;
#[path = "../src/read_request.rs"]
mod read_request;
#[path = "../src/search.rs"]
mod search;
#[path = "../src/storage.rs"]
mod storage;
#[path = "../src/thread_memory.rs"]
mod thread_memory;
#[path = "../src/tls/fault.rs"]
mod tls;

use std::cell::Cell;

use read_buffer::ReadBuffer;
use read_request::{Answer, Request};
use search::Separators;

thread_local! {
    static EXAMINED: Cell<u64> = const { Cell::new(0) };
}

/// In place of `memchr::memchr`.
pub fn memchr(needle: u8, haystack: &[u8]) -> Option<usize> {
    memmem::find(haystack, &[needle])
}

/// In place of `memchr::memmem`.
pub mod memmem {
    /// In place of `memchr::memmem::find`.
    pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at + needle.len() <= haystack.len() {
            if haystack[at] == needle[0] && &haystack[at..at + needle.len()] == needle {
                super::examine(at + needle.len());
                return Some(at);
            }
            at += 1;
        }
        super::examine(haystack.len());
        None
    }
}

fn examine(bytes: usize) {
    EXAMINED.with(|examined| examined.set(examined.get() + bytes as u64));
}

/// Segments of one byte: all ten million, in debug builds too.
const SEGMENTS: usize = 10_000_000;

/// What a run cost.
#[derive(Debug)]
struct Cost {
    /// Bytes the search looked at.
    examined: u64,
    /// Unread bytes that were copied to another place.
    moved: u64,
    /// Bytes the buffer holds at the end, and held for a moment.
    held: u64,
    held_peak: u64,
}

/// Feeds `x` byte by byte and asks after each, as a driver with a waiting read does; then feeds `end`, which completes
/// the item, and takes it.
///
/// # Panics
/// As soon as more than `examined_each` bytes a segment are examined, or more than two are moved: a cost that is not
/// linear shows after a moment and not after hours.
fn one_item(what: &str, request: &Request<'_>, end: &[u8], examined_each: u64) {
    EXAMINED.set(0);
    let segments = SEGMENTS as u64;
    let mut moved = 0;
    let mut buffer = ReadBuffer::new(read_buffer::DEFAULT_LIMIT).expect("not zero");
    let held = allocation_counter::measure(|| {
        for _ in 0..SEGMENTS - end.len() {
            feed_counting(&mut buffer, b'x', &mut moved);
            assert!(matches!(buffer.poll(request), Answer::Need));
            assert!(
                EXAMINED.get() <= segments * examined_each,
                "{what}: quadratic, at {} bytes",
                buffer.len()
            );
            assert!(moved <= 2 * segments, "{what}: moved {moved} bytes at {} bytes", buffer.len());
        }
    });
    for &byte in end {
        assert_eq!(buffer.poll(request), Answer::Need);
        feed_counting(&mut buffer, byte, &mut moved);
    }
    assert_eq!(buffer.poll(request), Answer::Ready { len: SEGMENTS });
    assert_eq!(buffer.take(SEGMENTS).len(), SEGMENTS);
    let (held, held_peak) =
        (u64::try_from(held.bytes_current).expect("nothing is freed twice"), held.bytes_max);
    let cost = Cost { examined: EXAMINED.get(), moved, held, held_peak };
    println!("{what}: {cost:?} for {SEGMENTS} bytes");
    // The last few segments are asked about twice, which is the 64.
    assert!(cost.examined <= segments * examined_each + 64, "{what}: {cost:?}");
    assert!(cost.held <= 2 * segments + FIXED, "{what}: {cost:?}");
    assert!(cost.held_peak <= 3 * segments + FIXED, "{what}: {cost:?}");
}

fn feed_counting(buffer: &mut ReadBuffer, byte: u8, moved: &mut u64) {
    let (address, len) = (buffer.unread().as_ptr(), buffer.len());
    buffer.feed(&[byte]);
    if len > 0 && buffer.unread().as_ptr() != address {
        *moved += len as u64;
    }
}

/// What a buffer holds besides its bytes.
const FIXED: u64 = 128 * 1024;

#[test]
fn one_separator_of_several_bytes_is_searched_once() {
    let request = Request::Until { separators: Separators::One(b"\r\n\r\n"), limit: usize::MAX };
    // Each answer looks at the new byte and at the three before it, which may begin a separator.
    one_item("until one", &request, b"\r\n\r\n", 4);
}

#[test]
fn several_separators_are_searched_once_each() {
    let separators: &[&[u8]] = &[b"\r\n\r\n", b"\n\n"];
    let request = Request::Until { separators: Separators::Any(separators), limit: usize::MAX };
    one_item("until any", &request, b"\r\n\r\n", 2 * 4);
}

#[test]
fn an_exact_read_looks_at_no_byte() {
    one_item("exactly", &Request::Exactly(SEGMENTS), b"x", 0);
    assert_eq!(EXAMINED.get(), 0);
}

/// Short items, one byte at a time and taken as they come, as from a slow peer with a busy reader.
#[test]
fn many_short_items_move_and_examine_each_byte_a_few_times() {
    const SHORT: usize = SEGMENTS / 10;
    let mut buffer = ReadBuffer::new(100).unwrap();
    let request = Request::Until { separators: Separators::One(b"\r\n"), limit: 100 };
    let (mut moved, mut items) = (0, 0);
    EXAMINED.set(0);
    let held = allocation_counter::measure(|| {
        for at in 0..SHORT {
            let byte = b"0123456789abcdef\r\n"[at % 18];
            feed_counting(&mut buffer, byte, &mut moved);
            if let Answer::Ready { len } = buffer.poll(&request) {
                buffer.consume(len);
                items += 1;
            }
        }
    });
    let cost = Cost { examined: EXAMINED.get(), moved, held: held.bytes_max, held_peak: held.bytes_max };
    println!("{items} short items: {cost:?}");
    assert_eq!(items, SHORT / 18);
    assert!(cost.examined <= 2 * SHORT as u64, "{cost:?}");
    assert!(cost.moved <= SHORT as u64, "{cost:?}");
    assert!(cost.held_peak <= FIXED, "{cost:?}");
}

/// A reader that is always the same number of bytes behind: each byte that comes must not move all of them.
#[test]
fn a_standing_backlog_is_not_moved_for_each_byte() {
    const SLIDES: u64 = 5_000;
    for backlog in (0..30_000).step_by(97) {
        let mut buffer = ReadBuffer::new(100).unwrap();
        let mut moved = 0;
        buffer.feed(&vec![b'x'; backlog]);
        for _ in 0..SLIDES {
            feed_counting(&mut buffer, b'y', &mut moved);
            buffer.consume(1);
        }
        // One move may be owed for the bytes that came before.
        assert!(moved <= SLIDES + 2 * backlog as u64, "{moved} bytes moved behind a backlog of {backlog}");
    }
}

/// All at once: items end by one separator, the other is absent (a header's end in a stream of lines).
#[test]
fn an_absent_separator_is_not_looked_for_in_the_whole_buffer_for_each_item() {
    const LEN: usize = 1_000_000;
    let text: Vec<u8> = b"0123456789abcd\r\n".iter().copied().cycle().take(LEN).collect();
    let separators: &[&[u8]] = &[b"\r\n", b"\0\0"];
    let request = Request::Until { separators: Separators::Any(separators), limit: LEN };
    let mut buffer = ReadBuffer::new(LEN).unwrap();
    buffer.feed(&text);
    EXAMINED.set(0);
    let mut items = 0;
    while let Answer::Ready { len } = buffer.poll(&request) {
        buffer.consume(len);
        items += 1;
    }
    let examined = EXAMINED.get();
    println!("{items} items with an absent separator: {examined} bytes examined of {LEN}");
    assert_eq!(items, LEN / 16);
    assert!(examined <= 40 * LEN as u64, "{examined} bytes examined");
}

//! The write queue against a plain vector of bytes, and what a million tiny writes cost.

#[allow(dead_code, reason = "each test uses its part")]
mod model;

use bytes::Bytes;
use millstream_core::{Watermarks, WriteError, WriteQueue};
use proptest::prelude::*;

use model::write::{self, WriteOp};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_list_of_operations_keeps_bytes_order_marks_and_verdicts(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        write::run(&model::decode::<WriteOp>(&bytes));
    }

    /// Sends of 1..k bytes over chunks of every kind (faults: a partial vectored send).
    #[test]
    fn partial_sends_of_any_size_lose_and_repeat_nothing(
        messages in prop::collection::vec((any::<bool>(), length()), 1..12),
        sends in prop::collection::vec(0usize..9000, 1..100),
    ) {
        let mut queue = WriteQueue::default();
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        for (shared, len) in messages {
            let message: Vec<u8> = (0..=250).cycle().skip(expected.len() % 251).take(len).collect();
            expected.extend_from_slice(&message);
            if shared { queue.push_shared(Bytes::from(message)) } else { queue.push(&message) }
        }
        for n in sends.into_iter().chain([usize::MAX]) {
            let n = n.min(queue.len());
            got.extend(queue.gather().flat_map(|slice| slice.to_vec()).take(n));
            let _ = queue.advance(n);
            prop_assert_eq!(queue.len(), expected.len() - got.len());
        }
        prop_assert_eq!(got, expected);
        prop_assert!(queue.is_empty() && !queue.is_paused());
    }
}

#[test]
fn a_million_tiny_writes_hold_less_than_three_times_their_bytes() {
    for size in [1, 2, 7, 100] {
        let mut queue = WriteQueue::default();
        let held = allocation_counter::measure(|| {
            for at in 0..WRITES {
                queue.push(&[at.to_le_bytes()[0]; 100][..size]);
            }
        });
        report("push", size, &queue, held.bytes_current, held.bytes_max);
        // Sent byte by byte at first, then in large steps, everything is given back.
        let back = allocation_counter::measure(|| {
            for _ in 0..1000 {
                let _ = queue.advance(1);
            }
            while !queue.is_empty() {
                let _ = queue.advance(queue.len().min(300_000));
            }
        });
        let kept = held.bytes_current + back.bytes_current;
        assert!(kept < 256 * 1024, "{kept} bytes stay in an empty queue");
    }
}

#[test]
fn a_million_tiny_writes_given_away_do_not_keep_a_million_allocations() {
    let mut queue = WriteQueue::default();
    let message = Bytes::from_static(b"tiny");
    let held = allocation_counter::measure(|| {
        for _ in 0..WRITES {
            queue.push_shared(message.clone());
            queue.push_shared(Bytes::new());
        }
    });
    report("push_shared", message.len(), &queue, held.bytes_current, held.bytes_max);
    assert!(held.count_total < WRITES / 1000, "{} allocations", held.count_total);
}

#[test]
fn tiny_and_large_messages_in_turn_hold_less_than_three_times_their_bytes() {
    let mut queue = WriteQueue::default();
    let large = vec![7; 4 * 1024];
    let held = allocation_counter::measure(|| {
        for _ in 0..1000 {
            queue.push(b"x");
            queue.push_shared(Bytes::copy_from_slice(&large));
        }
    });
    report("in turn", 1, &queue, held.bytes_current, held.bytes_max);
}

#[test]
fn a_queue_that_is_never_empty_does_not_grow() {
    let mut queue = WriteQueue::default();
    queue.push(b"first");
    let held = allocation_counter::measure(|| {
        for _ in 0..WRITES {
            queue.push(b"next!");
            let _ = queue.advance(5);
        }
    });
    assert_eq!(queue.len(), 5);
    assert!(held.bytes_max < 512 * 1024, "{} bytes held for 10 queued ones", held.bytes_max);
}

#[test]
fn a_hard_cap_refuses_a_message_whose_sum_with_the_queue_overflows() {
    let mut queue = WriteQueue::new(Watermarks::default(), Some(usize::MAX));
    queue.push(b"x");
    let refused = WriteError::Full { len: usize::MAX, queued: 1, hard_cap: usize::MAX };
    assert_eq!(queue.admit(usize::MAX), Err(refused));
    assert!(queue.admit(usize::MAX - 1).is_ok());
}

/// Fails if the queue holds three times its bytes, or did for a moment.
fn report(what: &str, size: usize, queue: &WriteQueue, held: i64, peak: u64) {
    let queued = queue.len() as u64;
    let held = u64::try_from(held).expect("what is queued is held");
    println!("{what} of {size}: {queued} bytes queued, {held} held, {peak} at the peak");
    assert!(held < 3 * queued, "{held} bytes held for {queued}");
    assert!(peak < 3 * queued, "{peak} bytes held for {queued} at the peak");
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..20, 4090usize..4100, 65_530usize..65_540]
}

const WRITES: u64 = 1_000_000;

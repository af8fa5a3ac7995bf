//! The read buffer answers as asyncio's `StreamReader` does: against CPython's own answers, and against a model of it.
//!
//! `fixtures/asyncio_reads.txt` was written by CPython (`fixtures/make_asyncio_reads.py`). It is replayed on the core
//! and on the model, so the model may then stand for CPython on lists of operations that no file could hold.

#![allow(clippy::unwrap_used, reason = "a test file that does not parse ends the test")]

#[allow(dead_code, reason = "each test uses its part")]
mod model;

use proptest::prelude::*;

use model::letters::{Letter, Seps, Size, Text};
use model::read::{Ask, AsyncioReader, Outcome, ReadOp};
use model::read_face::{self, Face};

#[test]
fn the_core_and_the_model_answer_as_cpython_did() {
    let mut face = Face::new(1);
    let mut model = AsyncioReader::new(1);
    let (mut scripts, mut steps, mut reads_done) = (0, 0, 0);
    for (at, line) in include_str!("fixtures/asyncio_reads.txt").lines().enumerate() {
        let place = format!("line {}: {line}", at + 1);
        if line.starts_with('#') {
            continue;
        }
        if let Some(limit) = line.strip_prefix("reader ") {
            let limit = limit.parse().unwrap();
            (face, model) = (Face::new(limit), AsyncioReader::new(limit));
            scripts += 1;
            continue;
        }
        let (op, answer) = line.split_once(" -> ").unwrap();
        let (outcome, state) = answer.split_once(" | ").unwrap();
        let (op, outcome) = (parse_op(op), parse_outcome(outcome));
        assert_eq!(face.step(&op), outcome, "core, {place}");
        assert_eq!(model.step(&op), outcome, "model, {place}");
        read_face::check_state(&face, &model);
        if let Some((unread, flow)) = state.split_once(' ') {
            let unread = parse_bytes(unread);
            assert_eq!(face.buffer.unread(), unread, "core, {place}");
            assert_eq!(model.buffer, unread, "model, {place}");
            assert_eq!(model.paused, flow == "paused", "model, {place}");
        }
        steps += 1;
        reads_done += usize::from(!matches!(outcome, Outcome::Idle | Outcome::Waits));
    }
    println!("{scripts} scripts, {steps} steps, {reads_done} finished reads, 0 mismatches");
    assert!(scripts >= 300 && reads_done >= 800, "{scripts} scripts, {reads_done} finished reads");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_list_of_operations_reads_as_in_asyncio(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        read_face::run(&model::decode::<ReadOp>(&bytes));
    }

    /// Few separators, short limits: more items end here than with operations drawn evenly.
    #[test]
    fn any_list_of_segments_and_item_reads_reads_as_in_asyncio(
        limit in 1usize..12,
        ops in prop::collection::vec(item_op(), 0..200),
    ) {
        let mut list = vec![ReadOp::Reconnect { limit: Size(limit) }];
        list.extend(ops);
        read_face::run(&list);
    }
}

#[test]
fn numbers_without_end_neither_overflow_nor_take_memory() {
    let huge = [usize::MAX, usize::MAX - 1, usize::MAX / 2 + 1, 1 << (usize::BITS - 2)];
    let taken = allocation_counter::measure(|| {
        for number in huge {
            let asks = [
                Ask::Exactly(Size(number)),
                Ask::Some(Size(number)),
                Ask::Until(Seps(vec![b"\r\n".to_vec()])),
                Ask::Until(Seps(vec![b"\r\n".to_vec(), b"\0".to_vec()])),
                Ask::Line,
                Ask::All,
            ];
            for ask in asks {
                read_face::run(&[
                    ReadOp::Reconnect { limit: Size(number) },
                    ReadOp::Ask(ask.clone()),
                    ReadOp::Feed(Text(b"ten bytes!".to_vec())),
                    ReadOp::Cancel,
                    ReadOp::Ask(ask),
                    ReadOp::Eof,
                ]);
            }
        }
    });
    assert!(taken.bytes_max < 64 * 1024, "{} bytes held at once", taken.bytes_max);
}

#[test]
fn a_search_forgets_the_bytes_that_were_given_away_whole() {
    let separators = Ask::Until(Seps(vec![b"\r\n".to_vec()]));
    for len in [16 * 1024, 40_000, 65_535] {
        read_face::run(&[
            ReadOp::Reconnect { limit: Size(usize::MAX) },
            ReadOp::Ask(separators.clone()),
            ReadOp::FeedRun { letter: Letter(b'a'), len },
            ReadOp::Ask(Ask::Exactly(Size(usize::from(len)))),
            ReadOp::Feed(Text(b"a\r\n".to_vec())),
            ReadOp::Ask(separators.clone()),
        ]);
    }
}

fn item_op() -> impl Strategy<Value = ReadOp> {
    let letters = prop::sample::select(b"ab\r\n;".as_slice());
    let text = prop::collection::vec(letters, 0..9).prop_map(Text);
    let separators = prop::sample::select(vec![
        vec!["\n"],
        vec!["\r\n"],
        vec!["\r\n\r\n"],
        vec!["ab"],
        vec!["aab", "ab"],
        vec!["abab", "b\r"],
        vec!["\r", "\n", "\r\n"],
        // Each begins like the next: what was remembered for one must not serve the other.
        vec![";"],
        vec![";", "\r\n"],
        vec![";", "\r\n", "abab"],
    ]);
    let separators = separators
        .prop_map(|list| Seps(list.iter().map(|separator| separator.as_bytes().to_vec()).collect()));
    prop_oneof![
        8 => text.clone().prop_map(ReadOp::Feed),
        2 => text.prop_map(ReadOp::Dribble),
        6 => separators.prop_map(|list| ReadOp::Ask(Ask::Until(list))),
        3 => Just(ReadOp::Ask(Ask::Line)),
        1 => (0usize..12).prop_map(|n| ReadOp::Ask(Ask::Exactly(Size(n)))),
        1 => (0usize..12).prop_map(|n| ReadOp::Ask(Ask::Some(Size(n)))),
        1 => Just(ReadOp::Cancel),
    ]
}

fn parse_op(text: &str) -> ReadOp {
    let mut words = text.split(' ');
    let ask = match words.next().unwrap() {
        "feed" => return ReadOp::Feed(Text(parse_bytes(words.next().unwrap()))),
        "eof" => return ReadOp::Eof,
        "cancel" => return ReadOp::Cancel,
        "some" => Ask::Some(Size(words.next().unwrap().parse().unwrap())),
        "exactly" => Ask::Exactly(Size(words.next().unwrap().parse().unwrap())),
        "until" => Ask::Until(Seps(words.map(parse_bytes).collect())),
        "line" => Ask::Line,
        "all" => Ask::All,
        other => panic!("unknown operation {other}"),
    };
    ReadOp::Ask(ask)
}

fn parse_outcome(text: &str) -> Outcome {
    let words: Vec<_> = text.split(' ').collect();
    match words.as_slice() {
        ["idle"] => Outcome::Idle,
        ["waits"] => Outcome::Waits,
        ["bytes", bytes] => Outcome::Bytes(parse_bytes(bytes)),
        ["incomplete", partial, expected] => {
            Outcome::Incomplete { partial: parse_bytes(partial), expected: expected.parse().ok() }
        }
        ["overrun", consumed] => Outcome::Overrun { consumed: consumed.parse().unwrap() },
        ["toolong"] => Outcome::LineTooLong,
        ["badcall"] => Outcome::BadCall,
        other => panic!("unknown outcome {other:?}"),
    }
}

/// The spelling of the file: `r`, `n` and `0` are CR, LF and NUL, everything else is itself.
fn parse_bytes(quoted: &str) -> Vec<u8> {
    let letters = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    let byte = |letter| match letter {
        b'r' => b'\r',
        b'n' => b'\n',
        b'0' => 0,
        other => other,
    };
    letters.bytes().map(byte).collect()
}

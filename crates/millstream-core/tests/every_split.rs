//! Chunking does not matter: every split of short inputs, every kind of read, every limit around an item, with and
//! without an end, against a model that sees the whole input at once.
//!
//! One number may depend on what had arrived, and follows asyncio's rule: `consumed` of an overrun (see `check_overrun`).

use millstream_core::{Answer, ReadBuffer, Request, Separators};

/// What a reader that reads until nothing more comes has seen, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Item(Vec<u8>),
    /// The item was too long; these bytes were dropped to go on behind its separator, or to the end of the input.
    Overrun {
        dropped: Vec<u8>,
    },
    Incomplete(Vec<u8>),
    End,
    /// The input stays open with these bytes unread.
    Waits(Vec<u8>),
}

/// What the reader asks for, again and again.
#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Some(usize),
    Exactly(usize),
    Until(&'a [&'a [u8]], usize),
    Line(usize),
    All(usize),
}

const INPUTS: &[&[u8]] = &[
    b"",
    b"\n",
    b"a",
    b"\n\n",
    b"ab\ncd\n",
    b"\r\n\r\n",
    b"a\r\n\r\nb",
    b"\r\r\n\n\r\n",
    b"x\r\n\r\r\n\r\n",
    b"aaab",
    b"aaabaab",
    b"aabab",
    b"abababab",
    b"abaabaaab",
    b"xxab",
    b"xxxxxxxx",
    b"a;b\nc\0d",
    b";;a;\r\n",
    b"\xff\xfe\n\x80",
    b"aab\r\n\r\nabab",
    b"a\r\n\r\r\n\r\n;b",
];

const SEPARATORS: &[&[&[u8]]] = &[
    &[b"\n"],
    &[b"\r\n"],
    &[b"\r\n\r\n"],
    &[b"ab"],
    &[b"aab"],
    &[b"abab"],
    &[b"aab", b"ab"],
    &[b"ab", b"abab"],
    &[b"abab", b"b", b"aab"],
    &[b"\r\n", b"\n"],
    &[b"\r\n\r\n", b"\r\r", b"\n\n"],
    &[b";", b"\n", b"\0", b"\r\n"],
    &[b"xxxxxxxxxxxx", b"\n"],
];

#[test]
fn every_split_reads_alike() {
    let mut counts = [0_u64; 5];
    for &input in INPUTS {
        for kind in kinds_for(input) {
            for ends in [false, true] {
                let wanted = model(input, kind, ends);
                for chunks in splits(input) {
                    for ahead in [false, true] {
                        let seen = read(&chunks, kind, ends, ahead);
                        let place = || format!("{chunks:?}, {kind:?}, ends: {ends}, ahead: {ahead}");
                        if let Kind::Some(max) = kind {
                            check_some(&seen, &wanted, max, &place());
                        } else {
                            assert_eq!(seen, wanted, "{}", place());
                        }
                        counts[number_of(kind)] += 1;
                    }
                }
            }
        }
    }
    let [some, exactly, until, line, all] = counts;
    let total: u64 = counts.iter().sum();
    println!(
        "{total} cases: some {some}, exactly {exactly}, until {until}, line {line}, all {all}; 0 mismatches"
    );
    // Far below what the tables above make, so that an empty table or a broken loop fails.
    assert!(total > 500_000 && counts.iter().all(|&count| count > 10_000), "{counts:?}");
}

/// Every kind of read that tells something about this input, with limits at -1, 0 and +1 around each item.
fn kinds_for(input: &[u8]) -> Vec<Kind<'static>> {
    let around = |len: usize| [len.saturating_sub(1), len, len + 1];
    let mut kinds: Vec<_> = [1, 2, 3, usize::MAX].map(Kind::Some).into();
    kinds.extend((1..=input.len() + 1).chain([usize::MAX, 1 << (usize::BITS - 2)]).map(Kind::Exactly));
    kinds.extend(around(input.len()).into_iter().chain([0, usize::MAX]).map(Kind::All));
    let limits = |separators: &[&[u8]]| {
        let mut limits = vec![0, usize::MAX];
        let mut rest = input;
        while let Some((start, end)) = earliest(rest, separators) {
            limits.extend(around(start));
            rest = &rest[end..];
        }
        limits.extend(around(rest.len()));
        limits.sort_unstable();
        limits.dedup();
        limits
    };
    for &separators in SEPARATORS {
        kinds.extend(limits(separators).into_iter().map(|limit| Kind::Until(separators, limit)));
    }
    kinds.extend(limits(&[b"\n"]).into_iter().map(Kind::Line));
    kinds
}

/// All 2^(n-1) ways to cut the input.
fn splits(input: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let cuts = input.len().saturating_sub(1);
    (0..1_u32 << cuts).map(move |mask| {
        let mut chunks = Vec::new();
        let mut from = 0;
        for at in (0..cuts).filter(|cut| mask >> cut & 1 == 1).map(|cut| cut + 1).chain([input.len()]) {
            chunks.push(&input[from..at]);
            from = at;
        }
        chunks
    })
}

/// The reader under test. Either it asks first and takes a chunk only when it has to wait, or the chunks come ahead of
/// it, each met by a read that is cancelled.
fn read(chunks: &[&[u8]], kind: Kind<'_>, ends: bool, ahead: bool) -> Vec<Seen> {
    let mut buffer = ReadBuffer::new(1).expect("not zero");
    let mut chunks = chunks.iter();
    let mut seen = Vec::new();
    if ahead {
        for chunk in chunks.by_ref() {
            buffer.feed(chunk);
            let _ = ask(&mut buffer, kind);
        }
    }
    loop {
        let before = buffer.unread().to_vec();
        let answer = ask(&mut buffer, kind);
        assert_eq!(buffer.unread(), before, "asking consumed something");
        match answer {
            Answer::Ready { len } => {
                seen.push(Seen::Item(buffer.take(len).to_vec()));
                if len == 0 {
                    return seen;
                }
            }
            Answer::Need => match chunks.next() {
                Some(chunk) => buffer.feed(chunk),
                None if ends && !buffer.is_ended() => buffer.feed_eof(),
                None => {
                    seen.push(Seen::Waits(buffer.unread().to_vec()));
                    return seen;
                }
            },
            Answer::End => {
                seen.push(Seen::End);
                return seen;
            }
            Answer::Incomplete { len } => {
                seen.push(Seen::Incomplete(buffer.lend(len).to_vec()));
                if len == 0 {
                    return seen;
                }
            }
            Answer::Overrun { consumed, found } => {
                check_overrun(&buffer, kind, consumed, found);
                let mut more = || chunks.next().copied();
                let dropped = skip_item(&mut buffer, kind, &mut more, ends);
                seen.push(Seen::Overrun { dropped });
            }
            Answer::Failed(failure) => panic!("{failure:?} from nowhere"),
        }
    }
}

/// Goes on behind an item that was too long, as `skip_until` does: drops what may be dropped until the separator is
/// first, then the separator.
fn skip_item<'c>(
    buffer: &mut ReadBuffer,
    kind: Kind<'_>,
    more: &mut dyn FnMut() -> Option<&'c [u8]>,
    ends: bool,
) -> Vec<u8> {
    let only_separator = match kind {
        Kind::Until(separators, _) => Kind::Until(separators, 0),
        _ => Kind::Until(&[b"\n"], 0),
    };
    let whole_input = matches!(kind, Kind::All(_));
    let mut dropped = Vec::new();
    loop {
        let answer = if whole_input { Answer::Need } else { ask(buffer, only_separator) };
        let len = match answer {
            Answer::Ready { len } => len,
            Answer::Overrun { consumed, .. } => consumed,
            _ => buffer.len(),
        };
        match answer {
            Answer::Overrun { .. } => assert!(len > 0, "an overrun that cannot be skipped"),
            Answer::Need => {
                if let Some(chunk) = more() {
                    buffer.feed(chunk);
                    continue;
                } else if ends && !buffer.is_ended() {
                    buffer.feed_eof();
                }
            }
            _ => {}
        }
        dropped.extend_from_slice(buffer.lend(len));
        if !matches!(answer, Answer::Overrun { .. }) {
            return dropped;
        }
    }
}

fn ask(buffer: &mut ReadBuffer, kind: Kind<'_>) -> Answer {
    let request = match kind {
        Kind::Some(max) => Request::Some { max },
        Kind::Exactly(n) => Request::Exactly(n),
        Kind::Until([separator], limit) => Request::Until { separators: Separators::One(separator), limit },
        Kind::Until(several, limit) => Request::Until { separators: Separators::Any(several), limit },
        Kind::Line(limit) => Request::Line { limit },
        Kind::All(max) => Request::All { max },
    };
    buffer.poll(&request)
}

/// asyncio's rule, on what has arrived: the start of the separator if it is there, else how far none can have begun.
fn check_overrun(buffer: &ReadBuffer, kind: Kind<'_>, consumed: usize, found: bool) {
    let (separators, limit): (&[&[u8]], usize) = match kind {
        Kind::Until(separators, limit) => (separators, limit),
        Kind::Line(limit) => (&[b"\n"], limit),
        Kind::All(max) => {
            assert!((consumed, found) == (buffer.len(), false) && consumed > max);
            return;
        }
        Kind::Some(_) | Kind::Exactly(_) => panic!("{kind:?} has no limit"),
    };
    let wanted = match earliest(buffer.unread(), separators) {
        Some((start, _)) => (start, true),
        None => (buffer.len() + 1 - longest(separators), false),
    };
    assert_eq!((consumed, found), wanted, "{:?}, {kind:?}", buffer.unread());
    assert!(consumed > limit);
}

/// The model: what the whole input reads as.
fn model(input: &[u8], kind: Kind<'_>, ends: bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut rest = input;
    let (separators, limit): (&[&[u8]], usize) = match kind {
        Kind::Until(separators, limit) => (separators, limit),
        Kind::Line(limit) => (&[b"\n"], limit),
        Kind::Exactly(n) => {
            while rest.len() >= n {
                seen.push(Seen::Item(rest[..n].to_vec()));
                rest = &rest[n..];
            }
            if ends && !rest.is_empty() {
                seen.push(Seen::Incomplete(rest.to_vec()));
                rest = b"";
            }
            seen.push(if ends { Seen::Incomplete(Vec::new()) } else { Seen::Waits(rest.to_vec()) });
            return seen;
        }
        Kind::All(max) if input.len() > max => {
            seen.push(Seen::Overrun { dropped: input.to_vec() });
            seen.push(if ends { Seen::Item(Vec::new()) } else { Seen::Waits(Vec::new()) });
            return seen;
        }
        Kind::All(_) if ends => {
            seen.push(Seen::Item(input.to_vec()));
            if !input.is_empty() {
                seen.push(Seen::Item(Vec::new()));
            }
            return seen;
        }
        Kind::All(_) => return vec![Seen::Waits(input.to_vec())],
        Kind::Some(_) => {
            // One item of everything; `check_some` joins what was seen.
            let last = if ends { Seen::End } else { Seen::Waits(Vec::new()) };
            return vec![Seen::Item(input.to_vec()), last];
        }
    };
    while let Some((start, end)) = earliest(rest, separators) {
        let item = rest[..end].to_vec();
        seen.push(if start > limit { Seen::Overrun { dropped: item } } else { Seen::Item(item) });
        rest = &rest[end..];
    }
    if (rest.len() + 1).saturating_sub(longest(separators)) > limit {
        seen.push(Seen::Overrun { dropped: rest.to_vec() });
        rest = b"";
    }
    if ends && !rest.is_empty() {
        let is_line = matches!(kind, Kind::Line(_));
        seen.push(if is_line { Seen::Item(rest.to_vec()) } else { Seen::Incomplete(rest.to_vec()) });
        rest = b"";
    }
    seen.push(if ends { Seen::End } else { Seen::Waits(rest.to_vec()) });
    seen
}

/// The shortest beginning that ends with a separator, as start and end of that separator; of several the shortest.
fn earliest(text: &[u8], separators: &[&[u8]]) -> Option<(usize, usize)> {
    (1..=text.len()).find_map(|end| {
        let ending = separators.iter().filter(|separator| text[..end].ends_with(separator));
        ending.map(|separator| separator.len()).min().map(|len| (end - len, end))
    })
}

fn longest(separators: &[&[u8]]) -> usize {
    separators.iter().map(|separator| separator.len()).max().expect("never an empty list")
}

/// `read(max)` may hand out any pieces: none empty, none too long, together the input.
fn check_some(seen: &[Seen], wanted: &[Seen], max: usize, place: &str) {
    let (last, items) = seen.split_last().expect("at least an end");
    let mut joined = Vec::new();
    for item in items {
        let Seen::Item(bytes) = item else { panic!("{item:?}: {place}") };
        assert!((1..=max).contains(&bytes.len()), "{place}");
        joined.extend_from_slice(bytes);
    }
    assert_eq!([Seen::Item(joined), last.clone()].as_slice(), wanted, "{place}");
}

fn number_of(kind: Kind<'_>) -> usize {
    match kind {
        Kind::Some(_) => 0,
        Kind::Exactly(_) => 1,
        Kind::Until(..) => 2,
        Kind::Line(_) => 3,
        Kind::All(_) => 4,
    }
}

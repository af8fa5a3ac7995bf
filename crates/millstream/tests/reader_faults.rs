//! Rows R1 to R8 of the fault table: what a reader does with endless lines, early ends, resets, dust and bad calls.
//!
//! Two inputs of row R7 cannot be written in Rust: a negative count has no type, and a second read at once has no second
//! `&mut` reader. R2 (every split) is a test of the core.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use millstream::testing::pair;
use millstream::{
    CloseError, ConfigError, ConnectError, ConnectOptions, ErrorClass, ReadExactlyError, ReadLineError,
    ReadToEndError, ReadUntilError, ServeError, ServerOptions, SkipError, StreamReader, StreamWriter,
};
use support::{reset, tcp_pair};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// The most room the core offers to one receive while less than this is buffered.
const FILL: usize = 64 * KIB;

/// Sends without end from a thread of its own; what it returns is how much it sent.
fn flood(mut peer: TcpStream, tail: &'static [u8], len: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let letters = vec![b'x'; 64 * KIB];
        for _ in 0..len / letters.len() {
            peer.write_all(&letters).unwrap();
        }
        peer.write_all(tail).unwrap();
    })
}

#[test]
fn r1_an_endless_line_is_a_limit_error_takes_no_memory_and_can_be_skipped() {
    support::run(async {
        let ((mut reader, writer), peer) = tcp_pair(&ConnectOptions::new());
        let peer = flood(peer, b"\nthe next line\n", 32 * MIB);
        let before = support::restart_peak_memory();

        let error = reader.read_line().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Limit);
        let ReadLineError::LimitOverrun { consumed, limit, found } = error else { panic!("{error}") };
        assert_eq!((limit, found), (64 * KIB, false));
        assert!(consumed > limit, "{consumed}");
        let held = reader.buffered().len();
        assert!(held == consumed && held <= 2 * limit + FILL, "{held} bytes held");
        assert_eq!(reader.read_line().await.unwrap_err().class(), ErrorClass::Limit);
        assert_eq!(reader.buffered().len(), held, "an error repeated reads nothing");

        assert_eq!(reader.skip_until(b"\n").await.unwrap(), 32 * MIB as u64 + 1);
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "the next line\n");
        assert_eq!(reader.read_line().await.unwrap(), None);
        assert_eq!(writer.stats().bytes_read, 32 * MIB as u64 + 15);
        let rise = support::peak_memory().saturating_sub(before);
        assert!(rise < 4 * MIB, "{rise} bytes of memory for a line of 32 MiB");
        peer.join().unwrap();
    });
}

#[test]
fn r1_no_read_holds_more_than_twice_the_limit_and_one_fill() {
    support::run(async {
        for limit in [1, 100, 8 * KIB, 64 * KIB, 300 * KIB] {
            let ((mut reader, _writer), peer) = tcp_pair(&ConnectOptions::new().limit(limit));
            let peer = flood(peer, b"", 2 * MIB);
            assert!(reader.read_until(b"\r\n").await.is_err());
            assert!(reader.read_until_any(&[b"\r\n", b"\0"]).await.is_err());
            assert!(reader.read_line_borrowed().await.is_err());
            reader.peek().await.unwrap();
            let held = reader.buffered().len();
            assert!(held <= 2 * limit + FILL, "{held} bytes held with a limit of {limit}");
            reader.skip(2 * MIB as u64).await.unwrap();
            assert_eq!(reader.read(1).await.unwrap(), "");
            peer.join().unwrap();
        }
    });
}

#[test]
fn r1_a_peer_cannot_send_while_nobody_reads() {
    support::run(async {
        let ((mut reader, _writer), peer) = tcp_pair(&ConnectOptions::new());
        peer.set_nonblocking(true).unwrap();
        let peer = tokio::net::TcpStream::from_std(peer).unwrap();
        let letters = vec![b'x'; 64 * KIB];
        let mut sent = 0;
        // Full is full for good: nothing has moved on when the socket had time to.
        while tokio::time::timeout(Duration::from_millis(200), peer.writable()).await.is_ok() {
            match peer.try_write(&letters) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(sent < 64 * MIB, "the peer is never told to stop");
        }
        assert!(matches!(reader.read_line().await, Err(ReadLineError::LimitOverrun { .. })));
        let held = reader.buffered().len();
        drop(peer);
        reader.skip(sent as u64).await.unwrap();
        assert_eq!(reader.read(1).await.unwrap(), "");
        assert!(held <= 2 * reader.limit() + FILL, "{held} of {sent} bytes held");
    });
}

#[test]
fn r3_an_end_inside_an_item_is_told_once_then_the_stream_has_ended_and_still_sends() {
    support::run(async {
        for read in 0..6 {
            let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
            peer.write_all(b"part").unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            match read {
                0 => assert_eq!(
                    reader.read_exactly(10).await,
                    Err(ReadExactlyError::Incomplete { partial: "part".into(), expected: 10 })
                ),
                1 => assert_eq!(
                    reader.read_until(b"\r\n").await,
                    Err(ReadUntilError::Incomplete { partial: "part".into() })
                ),
                2 => assert_eq!(
                    reader.read_until_any_borrowed(&[b"\r\n", b";"]).await,
                    Err(ReadUntilError::Incomplete { partial: "part".into() })
                ),
                // As asyncio: a last line needs no line feed.
                3 => assert_eq!(reader.read_line().await.unwrap().unwrap(), "part"),
                4 => assert_eq!(reader.skip(10).await, Err(SkipError::Incomplete { skipped: 4 })),
                _ => assert_eq!(reader.skip_until(b"\n").await, Err(SkipError::Incomplete { skipped: 4 })),
            }
            ended_cleanly(&mut reader).await;

            writer.write(b"the other direction").unwrap();
            writer.close();
            let mut received = String::new();
            peer.read_to_string(&mut received).unwrap();
            assert_eq!(received, "the other direction");
            writer.wait_closed().await.unwrap();
        }
    });
}

/// Every read says that the stream has ended, and none calls it an error but those that were promised bytes.
async fn ended_cleanly(reader: &mut StreamReader) {
    for _ in 0..2 {
        assert!(reader.at_eof());
        assert_eq!(reader.read(10).await.unwrap(), "");
        assert_eq!(reader.read_line().await.unwrap(), None);
        assert_eq!(reader.read_until(b"\r\n").await.unwrap(), None);
        assert_eq!(reader.read_until_any(&[b"\r\n"]).await.unwrap(), None);
        assert_eq!(reader.read_to_end(10).await.unwrap(), "");
        assert_eq!(reader.peek().await.unwrap(), b"");
        assert!(reader.read_exactly(1).await.unwrap_err().is_clean_end());
        assert_eq!(reader.read_exactly(0).await.unwrap(), "");
        assert_eq!(reader.skip(1).await, Err(SkipError::Incomplete { skipped: 0 }));
    }
}

/// Every read fails with the reset.
async fn is_reset(reader: &mut StreamReader) {
    for _ in 0..2 {
        let errors = [
            reader.read(10).await.map(drop).map_err(std::io::Error::from),
            reader.read_line().await.map(drop).map_err(std::io::Error::from),
            reader.read_until(b"\r\n").await.map(drop).map_err(std::io::Error::from),
            reader.read_exactly(1).await.map(drop).map_err(std::io::Error::from),
            reader.read_to_end(10).await.map(drop).map_err(std::io::Error::from),
            reader.peek().await.map(drop).map_err(std::io::Error::from),
            reader.skip(1).await.map_err(std::io::Error::from),
            reader.skip_until(b"\r\n").await.map(drop).map_err(std::io::Error::from),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        assert!(!reader.at_eof(), "a reset is no end");
    }
}

#[test]
fn r4_buffered_bytes_come_before_the_reset() {
    support::run(async {
        for len in [0, 12, 8 * KIB, 8 * KIB + 1, 50_000] {
            let ((mut reader, _writer), mut peer) = tcp_pair(&ConnectOptions::new());
            peer.write_all(&vec![b'x'; len]).unwrap();
            reset(peer);
            let mut delivered = 0;
            while delivered < len {
                delivered += reader.read(usize::MAX).await.unwrap().len();
            }
            is_reset(&mut reader).await;
        }
    });
}

#[test]
fn r4_a_reset_inside_an_item_leaves_its_bytes_to_read() {
    support::run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        peer.write_all(b"first line\nsecond").unwrap();
        reset(peer);
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "first line\n");
        assert!(matches!(reader.read_line().await, Err(ReadLineError::Failed(_))));
        assert!(matches!(reader.read_to_end(100).await, Err(ReadToEndError::Failed(_))));
        assert!(matches!(reader.read_exactly(100).await, Err(ReadExactlyError::Failed(_))));
        assert_eq!(reader.buffered(), b"second");
        assert_eq!(reader.read_exactly(3).await.unwrap(), "sec");
        assert_eq!(reader.read(100).await.unwrap(), "ond");
        is_reset(&mut reader).await;
        assert_eq!(writer.stats().bytes_read, 17);
    });
}

#[test]
fn r4_a_reset_that_our_own_send_met_first_is_no_end_of_the_stream() {
    support::run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        peer.write_all(b"half of an ans").unwrap();
        reset(peer);
        writer.write(b"question").unwrap();
        // The system tells each reset once, and this send is the one that learns of it.
        assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
        assert_eq!(reader.read(100).await.unwrap(), "half of an ans");
        is_reset(&mut reader).await;
    });
}

#[test]
fn r4_an_end_before_the_reset_stays_an_end() {
    support::run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        peer.write_all(b"go away").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        reset(peer);
        writer.write(b"question").unwrap();
        assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
        assert_eq!(reader.read_to_end(100).await.unwrap(), "go away");
        ended_cleanly(&mut reader).await;
    });
}

#[test]
fn r5_dust_costs_no_more_memory_than_its_bytes() {
    const LEN: usize = 200_000;
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    support::run(async {
        let ((mut reader, writer), mut peer) = tcp_pair(&ConnectOptions::new().limit(LEN));
        peer.set_nodelay(true).unwrap();
        let before = support::restart_peak_memory();
        let peer = std::thread::spawn(move || {
            for n in 0..LEN {
                let byte = if n == LEN - 1 { b'\n' } else { LETTERS[n % LETTERS.len()] };
                peer.write_all(&[byte]).unwrap();
            }
        });
        let line = reader.read_line().await.unwrap().unwrap();
        assert_eq!(line.len(), LEN);
        assert!(line[..LEN - 1].iter().enumerate().all(|(n, &byte)| byte == LETTERS[n % LETTERS.len()]));
        assert!(writer.stats().reads > 100, "the bytes came in {} segments", writer.stats().reads);
        let rise = support::peak_memory().saturating_sub(before);
        assert!(rise < 4 * MIB, "{rise} bytes of memory for {LEN}");
        peer.join().unwrap();
    });
}

#[test]
fn r6_an_exact_read_of_2_to_the_62_takes_the_memory_of_ten_bytes() {
    const NAME: &str = "r6_an_exact_read_of_2_to_the_62_takes_the_memory_of_ten_bytes";
    if !support::in_child(NAME) {
        return;
    }
    support::run(async {
        let ((mut reader, _writer), mut peer) = tcp_pair(&ConnectOptions::new());
        let most = memory_limit(64 * MIB);
        peer.write_all(b"ten bytes!").unwrap();
        drop(peer);
        assert_eq!(
            reader.read_exactly(1 << 62).await,
            Err(ReadExactlyError::Incomplete { partial: "ten bytes!".into(), expected: 1 << 62 })
        );
        assert!(Vec::<u8>::new().try_reserve(most).is_err(), "the memory of this process is not limited");
    });
}

/// Lets this process take `more` bytes beyond what it has; returns the new bound.
fn memory_limit(more: usize) -> usize {
    let most = support::memory("VmSize:") + more;
    let limit = rustix::process::Rlimit { current: Some(most as u64), maximum: Some(most as u64) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    most
}

#[test]
fn r6_a_count_that_no_memory_can_hold_is_a_bad_call() {
    support::run(async {
        let ((mut reader, _writer), (_reader, peer)) = pair();
        peer.write(b"untouched").unwrap();
        for n in [isize::MAX as usize + 1, usize::MAX - 1, usize::MAX] {
            let error = reader.read_exactly(n).await.unwrap_err();
            assert_eq!(error, ReadExactlyError::TooLarge { requested: n });
            assert_eq!(error.class(), ErrorClass::BadCall);
            assert_eq!(reader.read_exactly_borrowed(n).await.unwrap_err(), error);
        }
        assert_eq!(reader.read_exactly(9).await.unwrap(), "untouched");
        peer.close();
        assert_eq!(reader.skip(u64::MAX).await, Err(SkipError::Incomplete { skipped: 0 }));
        assert_eq!(reader.read_to_end(usize::MAX).await.unwrap(), "");
    });
}

#[test]
fn r7_a_bad_call_is_told_at_once_and_touches_nothing() {
    support::run(async {
        let ((mut reader, _writer), (_reader, peer)) = pair();
        peer.write(b"before").unwrap();
        peer.flush().unwrap();
        for buffered in [&b""[..], b"before"] {
            let empty = Err(ReadUntilError::EmptySeparator);
            assert_eq!(reader.read_until(b"").await, empty);
            assert_eq!(reader.read_until_any(&[]).await, empty);
            assert_eq!(reader.read_until_any(&[b"x", b""]).await, empty);
            assert_eq!(reader.limited(1).read_until(b"").await, empty);
            let empty = Err(ReadUntilError::EmptySeparator);
            assert_eq!(reader.read_until_borrowed(b"").await, empty);
            assert_eq!(reader.read_until_any_borrowed(&[b""]).await, empty);
            assert_eq!(reader.skip_until(b"").await, Err(SkipError::EmptySeparator));
            assert_eq!(reader.read(0).await.unwrap(), "");
            assert_eq!(reader.read_exactly(0).await.unwrap(), "");
            reader.skip(0).await.unwrap();
            assert_eq!(reader.buffered(), buffered);
            reader.peek().await.unwrap();
        }
        assert_eq!(reader.read(100).await.unwrap(), "before");
    });
}

#[test]
fn r7_a_limit_of_zero_is_refused_before_anything_is_opened() {
    support::run(async {
        let connect = ConnectOptions::new().limit(0);
        let refused = Err(ConnectError::Config(ConfigError::ZeroLimit));
        // The path and the name do not even exist.
        assert_eq!(connect.open("name.invalid", 1).await.map(drop), refused);
        assert_eq!(connect.open_unix("/nonexistent/path").await.map(drop), refused);
        let serve = ServerOptions::new().limit(0);
        let handler = |_: StreamReader, _: StreamWriter| {};
        let refused = Some(ServeError::Config(ConfigError::ZeroLimit));
        assert_eq!(serve.start("name.invalid", 1, handler).await.err(), refused);
        assert_eq!(serve.start_unix("/nonexistent/path", handler).err(), refused);
    });
}

#[test]
fn r8_only_the_separator_asked_for_ends_a_record() {
    /// What a peer may send that something else takes for the end of a line, or for no text at all.
    const DUST: &[&[u8]] =
        &[b"\r", b"\0", b"\x0b", b"\x0c", b"\x1a", b"\xff\xfe", b"\xc3", b"\xe2\x80\xa8", b"\x85"];
    support::run(async {
        let mut bodies: Vec<Vec<u8>> = vec![b"plain".to_vec(), DUST.concat()];
        for dust in DUST {
            bodies.extend([dust.to_vec(), [b"a", *dust, b"b"].concat(), [*dust, *dust].concat()]);
        }
        for body in bodies {
            for separator in [&b"\n"[..], b"\r\n", b"\0\0\n"] {
                let ((mut reader, _writer), (_reader, peer)) = pair();
                let other: &[u8] = if separator == b"\n" { b"|" } else { b"|\n|" };
                let record = [&body, other, separator].concat();
                peer.write(&record).unwrap();
                peer.write(b"next").unwrap();
                peer.close();
                let got = match separator {
                    b"\n" => reader.read_line().await.unwrap(),
                    _ => reader.read_until(separator).await.unwrap(),
                };
                assert_eq!(got.unwrap(), record);
                assert_eq!(reader.read_to_end(10).await.unwrap(), "next");
            }
        }
    });
}

//! What each deadline means, to the millisecond, under a paused clock: whom it cuts, whom it spares, and what is left when
//! it has passed. Each over the memory pair and over an adopted byte stream.

mod support;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::time::Duration;

use millstream::testing::{Pair, pair_between, pair_with};
use millstream::{
    CloseError, ConfigError, ConnectError, ConnectOptions, DeadlineKind, Deadlines, DrainError, ErrorClass,
    Failure, ReadError, ReadExactlyError, ReadLineError, StreamWriter, WriteError,
};
use support::{Held, run_paused};
use tokio::time::{Instant, sleep, timeout};

/// Runs a scenario over each kind of transport, with the deadlines on the first pair and none on that of its peer.
fn over_each<F: Future<Output = ()>>(deadlines: Deadlines, scenario: impl Fn(Pair, Pair) -> F) {
    let options = ConnectOptions::new().deadlines(deadlines);
    run_paused(async {
        let (tested, peer) = pair_between(&options, &ConnectOptions::new()).expect("valid");
        scenario(tested, peer).await;
    });
    run_paused(async {
        let (one, other) = tokio::io::duplex(64 * 1024);
        scenario(options.adopt_io(one).expect("a runtime"), millstream::from_io(other)).await;
    });
}

/// Sends a byte every so often until the connection ends.
async fn drip(writer: &StreamWriter, every: Duration) {
    while writer.write(b"x").is_ok() && writer.flush().is_ok() {
        sleep(every).await;
    }
}

/// Between `deadline` and a quarter more.
fn assert_in_time(elapsed: Duration, deadline: Duration) {
    // Timers are a millisecond late.
    let latest = deadline * 5 / 4 + Duration::from_millis(5);
    assert!(deadline <= elapsed && elapsed <= latest, "{elapsed:?} for a deadline of {deadline:?}");
}

fn of_line(error: ReadLineError) -> Failure {
    let ReadLineError::Failed(failure) = error else { panic!("{error}") };
    failure
}

#[test]
fn a_drip_is_cut_by_the_item_deadline_and_what_arrived_stays_readable() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, peer)) = (tested, other);
        let dripping = tokio::spawn(async move { drip(&peer, secs(3)).await });
        let start = Instant::now();
        let error = of_line(reader.read_line().await.unwrap_err());
        assert_in_time(start.elapsed(), secs(10));
        assert_eq!(error.deadline(), Some(DeadlineKind::Item));
        assert_eq!((error.class(), error.kind()), (ErrorClass::Deadline, ErrorKind::TimedOut));
        let text = error.to_string();
        // The clock starts at the look that finds the first byte.
        assert!(text.starts_with("no whole item within 10s: 5 bytes in 10.0"), "{text}");

        assert_eq!(reader.read(100).await.unwrap(), "xxxxx");
        assert_eq!(reader.read(100).await.unwrap_err(), ReadError::Failed(error.clone()));
        assert_eq!(writer.write(b"late").unwrap_err(), WriteError::Failed(error.clone()));
        assert_eq!(writer.drain().await.unwrap_err(), DrainError::Failed(error.clone()));
        assert_eq!(writer.wait_closed().await.unwrap_err(), CloseError::Failed(error.clone()));
        assert_eq!(io::Error::from(error).kind(), ErrorKind::TimedOut);
        // The halves live, and the transport is closed all the same. A byte stream that was adopted knows no reset.
        let _ = peer_reader.read_to_end(100).await;
        dripping.await.unwrap();
    });
}

#[test]
fn the_item_deadline_does_not_count_the_silence_between_items() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, writer), (_keep, peer)) = (tested, other);
        let sending = tokio::spawn(async move {
            for _ in 0..5 {
                sleep(secs(3600)).await;
                peer.write(b"one whole line, and some of the ").unwrap();
                sleep(secs(6)).await;
                // Its second half, a line that comes whole, and the beginning of the next.
                peer.write(b"\nanother\nne").unwrap();
                sleep(secs(6)).await;
                peer.write(b"xt\n").unwrap();
            }
            peer
        });
        for _ in 0..5 {
            for line in ["one whole line, and some of the \n", "another\n", "next\n"] {
                assert_eq!(reader.read_line().await.unwrap().unwrap(), line);
            }
        }
        drop((writer, sending.await.unwrap()));
    });
}

#[test]
fn items_by_count_separator_and_end_have_the_deadline_too_and_plain_reads_do_not() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        peer.write(b"abc").unwrap();
        let error = reader.read_exactly(10).await.unwrap_err();
        assert!(matches!(&error, ReadExactlyError::Failed(f) if f.deadline() == Some(DeadlineKind::Item)));
    });
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        peer.write(b"abc").unwrap();
        assert!(reader.read_until(b"END").await.unwrap_err().to_string().contains("3 bytes in 1"));
        let error = reader.read_to_end(100).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Deadline, "asked again: {error}");
    });
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        let dripping = tokio::spawn(async move { drip(&peer, secs(60)).await });
        for _ in 0..10 {
            assert_eq!(reader.read(100).await.unwrap(), "x");
        }
        drop((reader, _writer, _keep));
        dripping.await.unwrap();
    });
}

#[test]
fn an_idle_peer_is_sent_away_with_an_end_behind_all_that_was_written() {
    over_each(Deadlines::none().idle(secs(60)), |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, peer)) = (tested, other);
        let reading = tokio::spawn(async move {
            let got = peer_reader.read_to_end(100).await;
            (got, peer)
        });
        writer.write(b"your last answer").unwrap();
        let start = Instant::now();
        let error = of_line(reader.read_line().await.unwrap_err());
        assert_in_time(start.elapsed(), secs(60));
        assert_eq!(error.deadline(), Some(DeadlineKind::Idle));
        assert!(error.to_string().starts_with("nothing was received or sent within 60s"), "{error}");
        assert_eq!(reading.await.unwrap().0.unwrap(), "your last answer", "and an end, not a reset");
        assert_eq!(writer.write(b"late").unwrap_err(), WriteError::Failed(error));
    });
}

#[test]
fn bytes_in_either_direction_keep_a_connection_from_being_idle() {
    over_each(Deadlines::none().idle(secs(60)), |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, peer)) = (tested, other);
        let receiving = tokio::spawn(async move {
            let mut got = 0;
            while !peer_reader.read(1).await.unwrap_or_default().is_empty() {
                got += 1;
            }
            got
        });
        let sending = async {
            for n in 0..20 {
                sleep(secs(50)).await;
                if n % 2 == 0 {
                    writer.write(b"o").unwrap();
                } else {
                    peer.write(b"i").unwrap();
                }
            }
            Instant::now()
        };
        let (last, end) = tokio::join!(sending, reader.read_exactly(100));
        assert!(matches!(end, Err(ReadExactlyError::Failed(f)) if f.deadline() == Some(DeadlineKind::Idle)));
        assert_in_time(last.elapsed(), secs(60));
        drop((reader, writer, peer));
        assert_eq!(receiving.await.unwrap(), 10);
    });
}

#[test]
fn a_slow_but_living_bulk_transfer_is_spared_by_the_rate_and_a_drip_is_not() {
    let rate = Deadlines::internet();
    over_each(rate, |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        let sending = tokio::spawn(async move {
            for second in 0..600 {
                peer.write(&[b'b'; 600]).unwrap();
                // A handover now and then.
                sleep(secs(if second % 100 == 99 { 4 } else { 1 })).await;
            }
            peer
        });
        assert_eq!(reader.read_exactly(360_000).await.unwrap().len(), 360_000, "600 bytes/s for ten minutes");
        drop(sending.await.unwrap());
    });
    over_each(rate, |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        let dripping = tokio::spawn(async move { drip(&peer, secs(10)).await });
        let start = Instant::now();
        let ReadExactlyError::Failed(failure) = reader.read_exactly(360_000).await.unwrap_err() else {
            panic!("not a failure");
        };
        assert_in_time(start.elapsed(), secs(30));
        assert_eq!(failure.deadline(), Some(DeadlineKind::ReceiveRate));
        let text = failure.to_string();
        assert!(text.starts_with("an item came slower than 500 bytes/s: 3 bytes in 30."), "{text}");
        assert!(text.ends_with("and 4 of it in all"), "{text}");
        drop((reader, _writer, _keep));
        dripping.await.unwrap();
    });
}

#[test]
fn a_transfer_that_was_fast_and_stops_is_cut_when_the_window_has_passed() {
    over_each(Deadlines::none().receive_rate(500, secs(30)), |tested, other| async move {
        let ((mut reader, _w), (_keep, peer)) = (tested, other);
        let sending = tokio::spawn(async move {
            for _ in 0..100 {
                peer.write(&[b'b'; 10_000]).unwrap();
                peer.drain().await.unwrap();
                sleep(secs(1)).await;
            }
            (peer, Instant::now())
        });
        let error = reader.read_exactly(2_000_000).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Deadline, "{error}");
        let stopped = sending.await.unwrap().1.elapsed();
        assert!(secs(24) <= stopped && stopped <= secs(60), "{stopped:?}");
    });
}

#[test]
fn a_peer_is_not_blamed_while_the_program_does_not_read() {
    let all = Deadlines::none().item(secs(5)).idle(secs(5)).receive_rate(1_000_000, secs(5));
    over_each(all, |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        // Everything is there at once, or would be if it was read.
        let sending = tokio::spawn(async move {
            for _ in 0..40 {
                peer.write(&[b'b'; 8 * 1024]).unwrap();
                peer.drain().await.unwrap();
            }
            peer.flush().unwrap();
            peer
        });
        for _ in 0..40 {
            assert_eq!(reader.read_exactly(8 * 1024).await.unwrap().len(), 8 * 1024);
            sleep(secs(100)).await;
        }
        // Reads that are given up, with much work between them: no silence is long enough, nor that of one item in all.
        let peer = sending.await.unwrap();
        for given_up in 0..43 {
            if given_up == 40 {
                peer.write(b"half a ").unwrap();
            }
            let read = timeout(secs(1), reader.read_line()).await;
            assert!(read.is_err(), "{read:?}");
            sleep(secs(100)).await;
        }
        peer.write(b"line\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "half a line\n");
    });
}

#[test]
fn time_with_an_item_adds_up_over_reads_that_are_given_up() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        peer.write(b"half a line").unwrap();
        let start = Instant::now();
        let error = loop {
            match timeout(secs(7), reader.read_line()).await {
                Ok(result) => break of_line(result.unwrap_err()),
                Err(_) => assert!(start.elapsed() < secs(30), "a peer that stops is cut"),
            }
        };
        assert_eq!(error.deadline(), Some(DeadlineKind::Item));
    });
}

#[test]
fn a_peer_that_takes_nothing_is_cut_and_one_that_takes_a_little_is_not() {
    let stall = Deadlines::none().write_progress(secs(20));
    over_each(stall, |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, _peer)) = (tested, other);
        writer.write(&vec![b'x'; 4_000_000]).unwrap();
        writer.flush().unwrap();
        for _ in 0..40 {
            sleep(secs(18)).await;
            assert!(!peer_reader.read(1 << 20).await.unwrap().is_empty());
        }
        assert!(!writer.is_closing());
        let start = Instant::now();
        let DrainError::Failed(error) = writer.drain().await.unwrap_err() else { panic!("not a failure") };
        // The last bytes that the transport took were those that made room above.
        assert_in_time(start.elapsed(), secs(20));
        assert_eq!(error.deadline(), Some(DeadlineKind::WriteProgress));
        assert!(error.to_string().starts_with("the peer took nothing within 20s: "), "{error}");
        assert_eq!(writer.write(b"late").unwrap_err(), WriteError::Failed(error.clone()));
        assert_eq!(reader.read(1).await.unwrap_err(), ReadError::Failed(error));
        drop((reader, writer));
        let rest = peer_reader.read_to_end(1 << 22).await;
        assert!(rest.is_err() || rest.unwrap().len() < 1_000_000, "what was cut is not whole");
    });
}

#[test]
fn what_had_arrived_can_be_read_after_the_write_stalled() {
    over_each(Deadlines::none().write_progress(secs(20)), |tested, other| async move {
        let ((mut reader, writer), (_r, peer)) = (tested, other);
        peer.write(b"before the stall").unwrap();
        peer.flush().unwrap();
        writer.write(&vec![b'x'; 200_000]).unwrap();
        assert_eq!(writer.drain().await.unwrap_err().class(), ErrorClass::Deadline);
        assert_eq!(reader.read(100).await.unwrap(), "before the stall");
        assert_eq!(reader.read(100).await.unwrap_err().class(), ErrorClass::Deadline);
    });
}

#[test]
fn bytes_that_an_adopted_stream_keeps_to_itself_are_not_taken_by_the_peer() {
    run_paused(async {
        let (one, other) = tokio::io::duplex(64);
        let buffering = tokio::io::BufStream::with_capacity(64, 1 << 20, one);
        let options = ConnectOptions::new().write_progress_timeout(secs(20));
        let (mut reader, writer) = options.adopt_io(buffering).unwrap();
        writer.write(&[b'x'; 1_000]).unwrap();
        let start = Instant::now();
        let ReadError::Failed(error) = reader.read(1).await.unwrap_err() else { panic!("not a failure") };
        assert_in_time(start.elapsed(), secs(20));
        assert_eq!(error.deadline(), Some(DeadlineKind::WriteProgress), "{error}");
        drop(other);
    });
}

#[test]
fn what_comes_after_the_deadline_comes_too_late() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, writer), (_keep, peer)) = (tested, other);
        peer.write(b"begun, ").unwrap();
        {
            let mut read = std::pin::pin!(reader.read_line());
            // Polled by hand, so that the deadline can pass without its knowing.
            while !writer.is_closing() {
                assert!(polled_once(read.as_mut()).await.is_pending());
                sleep(secs(1)).await;
            }
            let _ = peer.write(b"and ended\n").and_then(|()| peer.flush().map_err(|_| WriteError::Closed));
            sleep(secs(1)).await;
            assert_eq!(of_line(read.await.unwrap_err()).deadline(), Some(DeadlineKind::Item));
        }
        assert_eq!(reader.read(100).await.unwrap(), "begun, ");
    });
}

/// Polls once.
async fn polled_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn of_several_deadlines_the_first_names_itself() {
    let all = |item, idle, rate, write| {
        Deadlines::none()
            .item(secs(item))
            .idle(secs(idle))
            .receive_rate(500, secs(rate))
            .write_progress(secs(write))
    };
    for (deadlines, expected) in [
        (all(10, 20, 30, 40), DeadlineKind::Item),
        (all(20, 10, 30, 40), DeadlineKind::Idle),
        (all(20, 30, 10, 40), DeadlineKind::ReceiveRate),
        (all(20, 30, 40, 10), DeadlineKind::WriteProgress),
        // One that is not a multiple of the others, and a very long one.
        (all(20, 30, 40, 17), DeadlineKind::WriteProgress),
        (all(u64::MAX, 30, 40, 50), DeadlineKind::Idle),
    ] {
        over_each(deadlines, |tested, other| async move {
            let ((mut reader, writer), (_keep, peer)) = (tested, other);
            peer.write(b"begun").unwrap();
            peer.flush().unwrap();
            writer.write(&vec![b'x'; 200_000]).unwrap();
            let start = Instant::now();
            let error = of_line(reader.read_line().await.unwrap_err());
            assert_eq!(error.deadline(), Some(expected), "{error}");
            assert!(start.elapsed() <= secs(38), "{:?}", start.elapsed());
        });
    }
}

#[test]
fn a_silent_peer_that_was_not_sent_everything_sees_a_reset_not_an_end() {
    run_paused(async {
        let options = ConnectOptions::new().idle_timeout(secs(60));
        let ((mut reader, writer), (mut peer_reader, _peer)) =
            pair_between(&options, &ConnectOptions::new()).unwrap();
        writer.write(&vec![b'x'; 200_000]).unwrap();
        assert_eq!(of_line(reader.read_line().await.unwrap_err()).deadline(), Some(DeadlineKind::Idle));
        let error = io::Error::from(peer_reader.read_to_end(1 << 20).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "half an answer must not look whole");
    });
}

#[test]
fn the_clocks_of_reading_stand_still_while_nobody_reads() {
    let all =
        Deadlines::none().item(secs(5)).idle(secs(5)).receive_rate(500, secs(5)).write_progress(secs(5));
    over_each(all, |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, peer)) = (tested, other);
        peer.write(b"begun").unwrap();
        peer.flush().unwrap();
        assert_eq!(reader.read(2).await.unwrap(), "be");
        sleep(secs(1000)).await;
        drop(reader);
        sleep(secs(1000)).await;
        writer.write(b"still here").unwrap();
        writer.flush().unwrap();
        assert_eq!(peer_reader.read_exactly(10).await.unwrap(), "still here");
    });
}

#[test]
fn a_reader_that_outlives_its_writer_can_be_idle_too() {
    over_each(Deadlines::none().idle(secs(60)), |tested, other| async move {
        let ((mut reader, writer), (mut peer_reader, _peer)) = (tested, other);
        drop(writer);
        assert!(peer_reader.read_to_end(1).await.unwrap().is_empty());
        let start = Instant::now();
        assert_eq!(reader.read(1).await.unwrap_err().class(), ErrorClass::Deadline);
        assert!(start.elapsed() <= secs(76), "{:?}", start.elapsed());
    });
}

#[test]
fn deadlines_leave_no_timer_and_no_task_behind_and_without_them_there_is_none() {
    run_paused(async {
        let before = Held::now();
        let alive = || Held::now().tasks - before.tasks;
        for deadlines in [Deadlines::none(), Deadlines::internet()] {
            let options = ConnectOptions::new().deadlines(deadlines);
            let ((mut reader, writer), (mut other_reader, other)) = pair_with(&options).unwrap();
            writer.write(b"ping\n").unwrap();
            writer.flush().unwrap();
            other_reader.read_line().await.unwrap();
            other.write(b"pong\n").unwrap();
            other.flush().unwrap();
            reader.read_line().await.unwrap();
            if deadlines.is_none() {
                // `write` calls for someone who flushes, if nobody flushed before it came to that.
                assert!(alive() <= 2);
            } else {
                assert_eq!(alive(), 2, "one task for each end");
            }
            writer.close();
            other.close();
            writer.wait_closed().await.unwrap();
            other.wait_closed().await.unwrap();
            let start = Instant::now();
            while alive() > 0 {
                assert!(start.elapsed() < secs(1), "no timer holds the task");
                sleep(Duration::from_millis(1)).await;
            }
            drop((reader, other_reader));
        }
    });
}

#[test]
fn a_connection_without_deadlines_gets_no_task_to_wait_for_bytes() {
    run_paused(async {
        let before = Held::now().tasks;
        let ((mut reader, _writer), _other) = pair_with(&ConnectOptions::new()).unwrap();
        assert!(timeout(secs(3600), reader.read_line()).await.is_err());
        assert_eq!(Held::now().tasks, before);
    });
}

#[test]
fn deadlines_too_short_for_a_timer_are_refused() {
    let options = ConnectOptions::new().item_deadline(Duration::from_millis(3)).idle_timeout(secs(1));
    let deadline = Duration::from_millis(3);
    assert_eq!(pair_with(&options).err(), Some(ConfigError::ShortDeadline { deadline }));
    run_paused(async {
        let (one, _other) = tokio::io::duplex(1);
        let error = options.adopt_io(one).unwrap_err();
        assert_eq!(error, ConnectError::Config(ConfigError::ShortDeadline { deadline }));
    });
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

//! In steady state a request allocates nothing, over real sockets, with the reads that lend.
//!
//! Counted are the allocations of the server's thread alone: its runtime, its connection's task, and the handler. The
//! clients have threads of their own.

mod support;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use millstream::{ServerOptions, StreamReader, StreamWriter};
use support::{unix_pair, until_it_waits};
use tokio::runtime::Builder;
use tokio::sync::Notify;

const WARM_UP: usize = 2_000;
const COUNTED: usize = 10_000;

/// How many requests were served, and who waits for it.
#[derive(Clone, Debug, Default)]
struct Progress {
    warm: Arc<Notify>,
    done: Arc<Notify>,
}

impl Progress {
    fn served(&self, requests: usize) {
        match requests {
            WARM_UP => self.warm.notify_one(),
            n if n == WARM_UP + COUNTED => self.done.notify_one(),
            _ => {}
        }
    }
}

/// What a server's thread allocates in [`COUNTED`] requests of `batch` in a segment, each answered by the handler with
/// as many bytes.
fn allocations<W>(
    request: &'static [u8],
    batch: usize,
    handler: impl Fn(StreamReader, StreamWriter, Progress) -> W + Send + Sync + 'static,
) -> u64
where
    W: Future<Output = Result<(), millstream::Error>> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let progress = Progress::default();
    let for_handler = progress.clone();
    let server = runtime.block_on(
        ServerOptions::new()
            .start("127.0.0.1", 0, move |reader, writer| handler(reader, writer, for_handler.clone())),
    );
    let server = server.expect("a free port");
    let port = server.sockets()[0].port().expect("TCP");
    let client = thread::spawn(move || play_client(port, request, batch));

    runtime.block_on(progress.warm.notified());
    let counted = allocation_counter::measure(|| runtime.block_on(progress.done.notified()));
    server.close();
    runtime.block_on(server.wait_closed());
    client.join().expect("the answers are right");
    counted.count_total
}

fn play_client(port: u16, request: &'static [u8], batch: usize) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("loopback");
    socket.set_nodelay(true).expect("a TCP socket");
    let requests = request.repeat(batch);
    let mut answers = vec![0; requests.len()];
    for _ in 0..(WARM_UP + COUNTED).div_ceil(batch) {
        socket.write_all(&requests).expect("the server is there");
        socket.read_exact(&mut answers).expect("the server is there");
        assert!(answers == requests, "another answer came");
    }
}

async fn echo_lines(
    mut reader: StreamReader,
    writer: StreamWriter,
    progress: Progress,
) -> Result<(), millstream::Error> {
    let mut requests = 0;
    while let Some(line) = reader.read_line_borrowed().await? {
        writer.write(line)?;
        writer.drain().await?;
        requests += 1;
        progress.served(requests);
    }
    Ok(())
}

const LINE: &[u8] = b"a line of 64 bytes with its line feed, as in the measurements..\n";

#[test]
fn a_line_that_is_lent_and_answered_allocates_nothing() {
    assert_eq!(allocations(LINE, 1, echo_lines), 0);
}

#[test]
fn a_hundred_pipelined_lines_that_are_lent_and_answered_allocate_nothing() {
    assert_eq!(allocations(LINE, 100, echo_lines), 0);
}

#[test]
fn a_message_of_known_length_that_is_lent_and_answered_allocates_nothing() {
    let echo = |mut reader: StreamReader, writer: StreamWriter, progress: Progress| async move {
        for requests in 1.. {
            let head = match reader.read_exactly_borrowed(4).await {
                Ok(head) => <[u8; 4]>::try_from(head).expect("four bytes"),
                Err(error) if error.is_clean_end() => break,
                Err(error) => return Err(error.into()),
            };
            let body = reader.read_exactly_borrowed(u32::from_be_bytes(head) as usize).await?;
            writer.write_lines(&[&head[..], body])?;
            writer.drain().await?;
            progress.served(requests);
        }
        Ok(())
    };
    assert_eq!(allocations(b"\0\0\0\x0ca dozen more", 1, echo), 0);
}

#[test]
fn an_item_up_to_a_separator_that_is_lent_and_answered_allocates_nothing() {
    let echo = |mut reader: StreamReader, writer: StreamWriter, progress: Progress| async move {
        let mut requests = 0;
        while let Some(head) = reader.read_until_borrowed(b"\r\n\r\n").await? {
            writer.write(head)?;
            writer.drain().await?;
            requests += 1;
            progress.served(requests);
        }
        Ok(())
    };
    assert_eq!(allocations(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", 1, echo), 0);
}

#[test]
fn the_counter_sees_what_the_owning_read_allocates() {
    let echo = |mut reader: StreamReader, writer: StreamWriter, progress: Progress| async move {
        let mut requests = 0;
        let mut kept = Vec::with_capacity(WARM_UP + COUNTED);
        while let Some(line) = reader.read_line().await? {
            writer.write(&line)?;
            writer.drain().await?;
            kept.push(line.to_vec());
            requests += 1;
            progress.served(requests);
        }
        Ok(())
    };
    let counted = allocations(LINE, 1, echo);
    assert!(counted >= COUNTED as u64, "only {counted} allocations for {COUNTED} lines that were kept");
}

#[test]
fn handlers_that_hold_their_requests_while_they_wait_take_no_new_memory_each_time() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut pairs: Vec<_> = (0..100).map(|_| unix_pair()).collect();
    // A peer that was once busy makes no later request dearer.
    let mut round = |request: &[u8]| {
        runtime.block_on(async {
            for [(reader, _), (_, peer)] in &mut pairs {
                peer.write(request).expect("it is open");
                peer.flush().expect("it is open");
                let held = reader.read_exactly_borrowed(request.len()).await.expect("it arrives");
                assert!(held == request);
            }
            for [(reader, _), _] in &mut pairs {
                until_it_waits(reader).await;
            }
        });
    };
    round(&[1; 100_000]);
    (0..3).for_each(|_| round(b"request"));
    let counted = allocation_counter::measure(|| (0..10).for_each(|_| round(b"request")));
    assert_eq!(counted.count_total, 0, "{} bytes", counted.bytes_total);
}

#[test]
fn an_adopted_stream_receives_into_the_same_memory_each_time() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let (one, other) = tokio::io::duplex(64 * 1024);
    let ((mut reader, _writer), (_reader, peer)) = (millstream::from_io(one), millstream::from_io(other));
    let mut round = |request: &[u8]| {
        runtime.block_on(async {
            peer.write(request).expect("it is open");
            assert!(reader.read_exactly_borrowed(request.len()).await.expect("it arrives") == request);
        });
    };
    round(&[1; 1_000_000]);
    (0..3).for_each(|_| round(b"request"));
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| round(b"request")));
    // The pipe of tokio's allocates by itself.
    assert!(counted.bytes_total < 100 * 1024, "{} bytes in 100 requests", counted.bytes_total);
}

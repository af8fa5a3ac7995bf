//! What holds once a send has failed: what had arrived is still delivered, and an end of ours frees the socket and the
//! handler.

mod support;

use std::future::pending;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use millstream::{
    CloseError, ConnectOptions, DrainError, Failure, ReadLineError, ServerOptions, StreamReader,
    StreamWriter, open_connection,
};
use support::{reset, tcp_pair};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::task::coop;
use tokio::time::timeout;

type Pair = (StreamReader, StreamWriter);

const ANSWER: &str = "421 too many connections\n";

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(10);

/// Sends until a send fails, and gives the runtime no turn to hear of anything meanwhile.
fn fail_a_send(writer: &StreamWriter) -> Failure {
    for _ in 0..1000 {
        // Once it has failed, this refuses.
        let _ = writer.write(b"a question too late");
        match writer.flush() {
            Err(DrainError::Failed(failure)) => return failure,
            other => assert_eq!(other, Ok(())),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the reset never came");
}

/// A stream whose peer has answered and reset it, and whose send has failed for that. Nobody has read yet.
fn failed_with(answer: &[u8]) -> Pair {
    let ((reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
    peer.write_all(answer).expect("room for the answer");
    reset(peer);
    fail_a_send(&writer);
    (reader, writer)
}

/// Uses up what this task may do before it has to give others a turn: all of tokio's own reads would wait now.
async fn spend_the_budget() {
    while coop::has_budget_remaining() {
        coop::consume_budget().await;
    }
}

#[test]
fn an_answer_that_the_runtime_has_not_heard_of_is_delivered_before_the_failure() {
    support::run(async {
        let (mut reader, _writer) = failed_with(ANSWER.as_bytes());
        assert_eq!(reader.read_line().await.unwrap().unwrap(), ANSWER);
        for _ in 0..2 {
            let next = reader.read_line().await;
            assert!(matches!(next, Err(ReadLineError::Failed(_))), "{next:?}");
        }
    });
}

#[test]
fn an_answer_of_several_receives_is_delivered_whole_before_the_failure() {
    support::run(async {
        let answer: Vec<u8> = (0..50_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut reader, _writer) = failed_with(&answer);
        assert!(reader.read_exactly(answer.len()).await.unwrap() == answer);
        assert!(reader.read(1).await.is_err());
    });
}

#[test]
fn an_answer_is_delivered_to_a_task_that_has_spent_its_budget() {
    support::run(async {
        for heard_of in [false, true] {
            let (mut reader, _writer) = failed_with(ANSWER.as_bytes());
            if heard_of {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            spend_the_budget().await;
            assert_eq!(reader.read_line().await.unwrap().unwrap(), ANSWER, "heard of: {heard_of}");
            assert!(reader.read_line().await.is_err());
        }
    });
}

#[test]
fn an_answer_through_a_tokio_adapter_is_delivered_before_the_failure() {
    support::run(async {
        let (mut reader, _writer) = failed_with(ANSWER.as_bytes());
        spend_the_budget().await;
        let mut answer = Vec::new();
        AsyncReadExt::read_to_end(&mut reader, &mut answer).await.unwrap_err();
        assert_eq!(answer, ANSWER.as_bytes());
    });
}

#[test]
fn an_answer_over_a_unix_socket_or_in_memory_is_delivered_before_the_failure() {
    support::run(async {
        let (tested, mut peer) = UnixStream::pair().unwrap();
        let unix = ConnectOptions::new().adopt_unix(tested).unwrap();
        peer.write_all(ANSWER.as_bytes()).unwrap();
        drop(peer);
        let (memory, (_reader, peer)) = millstream::testing::pair();
        peer.write(ANSWER.as_bytes()).unwrap();
        peer.flush().unwrap();
        peer.abort();
        for (mut reader, writer) in [unix, memory] {
            fail_a_send(&writer);
            spend_the_budget().await;
            assert_eq!(reader.read_line().await.unwrap().unwrap(), ANSWER);
        }
    });
}

#[test]
fn a_dropped_writer_leaves_the_answer_to_the_reader() {
    support::run(async {
        let (mut reader, writer) = failed_with(ANSWER.as_bytes());
        drop(writer);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(reader.read_line().await.unwrap().unwrap(), ANSWER);
        assert!(reader.read_line().await.is_err());
    });
}

#[test]
fn close_and_abort_free_a_failed_socket_though_its_reader_has_never_read() {
    support::run(async {
        for end in [StreamWriter::close, StreamWriter::abort] {
            let (mut reader, writer) = failed_with(ANSWER.as_bytes());
            assert!(writer.with_socket(|_| ()).is_some(), "closed before its reader could read");
            end(&writer);
            assert!(writer.with_socket(|_| ()).is_none(), "still open");
            let closed = timeout(LONG, writer.wait_closed()).await.expect("closed long ago");
            assert!(matches!(closed, Err(CloseError::Failed(_))), "{closed:?}");
            let read = reader.read_line().await;
            assert!(matches!(read, Err(ReadLineError::Failed(_))), "{read:?}");
        }
    });
}

#[test]
fn close_and_abort_free_a_failed_socket_whose_reader_was_told() {
    support::run(async {
        for end in [StreamWriter::close, StreamWriter::abort] {
            let (mut reader, writer) = failed_with(ANSWER.as_bytes());
            assert_eq!(reader.read_line().await.unwrap().unwrap(), ANSWER);
            let told = reader.read_line().await.unwrap_err();
            end(&writer);
            assert!(writer.with_socket(|_| ()).is_none(), "still open");
            let closed = timeout(LONG, writer.wait_closed()).await.expect("closed long ago");
            assert!(matches!(closed, Err(CloseError::Failed(_))), "{closed:?}");
            assert_eq!(reader.read_line().await.unwrap_err(), told, "another answer than before");
        }
    });
}

#[test]
fn abort_clients_ends_a_handler_whose_send_had_failed() {
    support::run(async {
        let failed = Arc::new(Notify::new());
        let fails = Arc::clone(&failed);
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let fails = Arc::clone(&fails);
            async move {
                let _reader = reader;
                while !writer.is_closing() {
                    let _ = (writer.write(b"x"), writer.flush());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                fails.notify_one();
                // Nothing but its being dropped ends it.
                pending::<()>().await;
            }
        };
        let server = ServerOptions::new().start("127.0.0.1", 0, handler).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (mut reader, writer) = open_connection("127.0.0.1", port).await.unwrap();
        assert_eq!(reader.read(1).await.unwrap(), "x");
        writer.abort();
        timeout(LONG, failed.notified()).await.expect("the reset");

        assert_eq!(server.connections(), 1, "the handler is still there");
        server.close();
        server.abort_clients();
        timeout(LONG, server.wait_closed()).await.expect("the handler was dropped");
        assert_eq!(server.connections(), 0);
    });
}

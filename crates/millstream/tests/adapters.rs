//! The pair as other libraries see it: hyper, tokio-util's codecs, tokio's own helpers, and adopted byte streams.

mod support;

use std::convert::Infallible;

use futures_util::SinkExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millstream::{ConnectOptions, ServerOptions, StreamReader, StreamWriter, from_io, testing};
use support::{run, run_on_threads, tcp_pair};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, duplex, join};
use tokio_stream::StreamExt;
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

type Pair = (StreamReader, StreamWriter);

#[test]
fn hyper_speaks_over_a_pair_in_memory() {
    run(async {
        let (client, server) = testing::pair();
        let serving = tokio::spawn(serve_http(server));
        speak_http(client).await;
        serving.await.unwrap();
    });
}

#[test]
fn hyper_speaks_over_a_pair_with_tiny_pipes() {
    run(async {
        let (client, server) = testing::pair_with_capacity(7);
        let serving = tokio::spawn(serve_http(server));
        speak_http(client).await;
        serving.await.unwrap();
    });
}

#[test]
fn hyper_serves_from_our_server_and_asks_over_our_connection() {
    run_on_threads(async {
        let server = ServerOptions::new()
            .start("127.0.0.1", 0, |reader, writer| serve_http((reader, writer)))
            .await
            .unwrap();
        let port = server.sockets()[0].port().unwrap();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn(async move {
                    speak_http(millstream::open_connection("127.0.0.1", port).await.unwrap()).await;
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        server.close();
        server.wait_closed().await;
    });
}

/// Answers every request with its body turned round, for as long as the connection lives.
async fn serve_http((reader, writer): Pair) {
    let turn_round = service_fn(|request: Request<Incoming>| async {
        let path = request.uri().path().to_owned();
        let mut body = request.into_body().collect().await.expect("a whole body").to_bytes().to_vec();
        body.reverse();
        let response = Response::builder().header("path", path).body(Full::new(Bytes::from(body)));
        Ok::<_, Infallible>(response.expect("a valid response"))
    });
    let io = TokioIo::new(join(reader, writer));
    hyper::server::conn::http1::Builder::new().serve_connection(io, turn_round).await.expect("a clean end");
}

/// Several requests over one connection, with bodies from nothing to far beyond the buffers.
async fn speak_http((reader, writer): Pair) {
    let io = TokioIo::new(join(reader, writer));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("a fresh connection");
    let connection = tokio::spawn(connection);
    for (n, len) in [0, 1, 1000, 65_536, 300_000, 5].into_iter().enumerate() {
        let body = pattern(len);
        let request =
            Request::post(format!("/{n}")).header("host", "test").body(Full::new(Bytes::from(body.clone())));
        sender.ready().await.expect("kept alive");
        let response = sender.send_request(request.expect("a valid request")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["path"], format!("/{n}"));
        let answer = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(answer.iter().rev().eq(&body), "{len} bytes");
    }
    drop(sender);
    connection.await.expect("no panic").expect("a clean end");
}

#[test]
fn framed_codecs_work_on_a_pair_both_ways() {
    run(async {
        let ((reader, writer), (other_reader, other_writer)) = testing::pair_with_capacity(100);
        let mut one = Framed::new(join(reader, writer), LinesCodec::new());
        let mut other = Framed::new(join(other_reader, other_writer), LinesCodec::new());
        let echoing = tokio::spawn(async move {
            while let Some(line) = other.next().await {
                other.send(line.unwrap() + "!").await.unwrap();
            }
            SinkExt::<String>::close(&mut other).await.unwrap();
        });
        for n in 0..100 {
            let line = "x".repeat(n * 7);
            one.send(&line).await.unwrap();
            assert_eq!(one.next().await.unwrap().unwrap(), line + "!");
        }
        SinkExt::<String>::close(&mut one).await.unwrap();
        assert!(one.next().await.is_none(), "the echo ended after our end");
        echoing.await.unwrap();
    });
}

#[test]
fn frames_larger_than_the_watermarks_pass_while_nobody_reads_at_first() {
    run(async {
        let (ours, peer) = tcp_pair(&ConnectOptions::new());
        let theirs = ConnectOptions::new().adopt_tcp(peer).unwrap();
        let mut sender = Framed::new(join(ours.0, ours.1), LengthDelimitedCodec::new());
        let mut receiver = Framed::new(join(theirs.0, theirs.1), LengthDelimitedCodec::new());
        let sending = tokio::spawn(async move {
            for n in 1..=5 {
                sender.send(Bytes::from(pattern(n * 1_000_000))).await.unwrap();
            }
            SinkExt::<Bytes>::close(&mut sender).await.unwrap();
            sender
        });
        for n in 1..=5 {
            assert!(receiver.next().await.unwrap().unwrap() == pattern(n * 1_000_000), "frame {n}");
        }
        assert!(receiver.next().await.is_none());
        drop(sending.await.unwrap());
    });
}

#[test]
fn tokios_buffered_reads_and_our_own_may_alternate() {
    run(async {
        let ((mut reader, _writer), (_other, peer)) = testing::pair();
        peer.write(b"one\ntwo\nthree\nfour\nlast").unwrap();
        peer.write_eof().unwrap();
        let mut line = String::new();
        AsyncBufReadExt::read_line(&mut reader, &mut line).await.unwrap();
        assert_eq!(line, "one\n");
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"two\n"[..]));
        let mut lines = AsyncBufReadExt::lines(&mut reader);
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("three"));
        assert_eq!(reader.read(2).await.unwrap(), "fo");
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "ur\nlast");
        assert!(reader.at_eof());
    });
}

#[test]
fn tokios_copy_and_shutdown_carry_everything_across() {
    run(async {
        let ((mut reader, mut writer), (mut other_reader, mut other_writer)) =
            testing::pair_with_capacity(1000);
        let echoing = tokio::spawn(async move {
            let copied = tokio::io::copy(&mut other_reader, &mut other_writer).await.unwrap();
            other_writer.shutdown().await.unwrap();
            (copied, other_writer)
        });
        let message = pattern(1 << 20);
        let mut back = Vec::new();
        let sending = async {
            writer.write_all(&message).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(sending, reader.read_to_end_into(&mut back));
        assert_eq!(read, message.len());
        assert!(back == message);
        assert_eq!(echoing.await.unwrap().0, 1 << 20);
    });
}

/// tokio's `read_to_end`, which our own method of that name hides.
trait ReadToEndInto {
    async fn read_to_end_into(&mut self, all: &mut Vec<u8>) -> usize;
}

impl ReadToEndInto for StreamReader {
    async fn read_to_end_into(&mut self, all: &mut Vec<u8>) -> usize {
        AsyncReadExt::read_to_end(self, all).await.expect("a clean end")
    }
}

#[test]
fn an_adopted_stream_of_any_width_carries_both_directions_and_each_end() {
    run(async {
        for width in [1, 2, 63, 4096, 1 << 20] {
            let (one, other) = duplex(width);
            let (here, there) = (from_io(one), from_io(other));
            let len = if width < 63 { 5_000 } else { 1_500_000 };
            let (here, there) = tokio::join!(
                tokio::spawn(exchange(here, pattern(len), pattern(len / 2))),
                tokio::spawn(exchange(there, pattern(len / 2), pattern(len))),
            );
            here.unwrap();
            there.unwrap();
        }
    });
}

/// Sends one message and its end while it receives the other and its end, then closes.
async fn exchange((mut reader, writer): Pair, message: Vec<u8>, expected: Vec<u8>) {
    let sending = async {
        for chunk in message.chunks(10_000) {
            writer.write(chunk).expect("open");
            writer.drain().await.expect("open");
        }
        writer.write_eof().expect("open");
    };
    let ((), received) = tokio::join!(sending, reader.read_to_end(expected.len()));
    assert!(received.expect("no more than expected") == expected);
    writer.close();
    writer.wait_closed().await.expect("all was sent");
}

#[test]
fn more_than_one_turns_worth_leaves_an_adopted_stream_that_never_pushes_back() {
    run(async {
        let (one, other) = duplex(4 << 20);
        let (_reader, writer) = from_io(one);
        let (mut reader, _writer) = from_io(other);
        let message = pattern(3_000_000);
        writer.write(&message).unwrap();
        let arrived =
            tokio::time::timeout(std::time::Duration::from_secs(10), reader.read_exactly(message.len()));
        assert!(arrived.await.expect("no stall").unwrap() == message);
    });
}

#[test]
fn a_buffering_stream_is_flushed_when_the_queue_is_empty() {
    run(async {
        let (one, mut other) = duplex(100);
        let (_reader, writer) = from_io(tokio::io::BufStream::new(one));
        writer.write(b"held back by nobody").unwrap();
        let mut seen = [0; 19];
        other.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"held back by nobody");
        writer.write(b"the end").unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"the end");
    });
}

#[test]
fn a_stream_that_loses_what_it_buffered_is_no_clean_close() {
    run(async {
        let (one, other) = duplex(100);
        let (_reader, writer) = from_io(tokio::io::BufStream::new(one));
        drop(other);
        writer.write(b"into the void").unwrap();
        writer.close();
        assert!(writer.wait_closed().await.is_err(), "the bytes never left");
    });
}

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

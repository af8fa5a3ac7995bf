//! The programs of the book's cookbook do what it says; each runs as the module it is. (The others: `examples.rs`.)

#[path = "../examples/length_prefix.rs"]
mod length_prefix;
#[path = "../examples/line_server.rs"]
mod line_server;
#[path = "../examples/rpc_client.rs"]
mod rpc_client;
mod support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use millstream::{Error, ErrorClass, Server, StreamReader, StreamWriter};
use tokio::task::JoinSet;

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    millstream::open_connection("127.0.0.1", port_of(server)).await.expect("it serves")
}

fn port_of(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

async fn end(server: Server) {
    server.close();
    server.wait_closed().await;
}

#[test]
fn the_line_server_keeps_what_it_is_told_and_survives_a_line_that_is_too_long() {
    support::run(async {
        let server = line_server::start("127.0.0.1", 0).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        writer.write(b"GET a\nSET a b c\r\nGET a\nnonsense\n").unwrap();
        for answer in ["\n", "OK\n", "b c\n", "ERROR what?\n"] {
            assert_eq!(reader.read_line().await.unwrap().unwrap(), answer);
        }
        writer.write(&[b'x'; 5000]).unwrap();
        writer.write(b"\nGET a\nQUIT\n").unwrap();
        let rest = reader.read_to_end(1000).await.unwrap();
        assert_eq!(rest, "ERROR a line has at most 1024 bytes\nb c\nBYE\n");
        drop((reader, writer));
        end(server).await;
    });
}

#[test]
fn messages_with_a_length_come_back_whole_and_in_order() {
    support::run(async {
        let server = length_prefix::start("127.0.0.1", 0).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        let messages = [b"".to_vec(), b"one".to_vec(), vec![b'x'; 300_000]];
        for message in &messages {
            length_prefix::write_message(&writer, message).unwrap();
        }
        writer.write_eof().unwrap();
        for message in &messages {
            let answer = length_prefix::read_message(&mut reader).await.unwrap().expect("an answer");
            assert!(answer == message.to_ascii_uppercase());
        }
        assert_eq!(length_prefix::read_message(&mut reader).await.unwrap(), None);
        drop((reader, writer));
        end(server).await;
    });
}

#[test]
fn a_message_that_is_announced_too_long_or_cut_is_an_error() {
    support::run(async {
        let ((mut reader, _w), (_r, peer)) = millstream::testing::pair();
        peer.write(&u32::MAX.to_be_bytes()).unwrap();
        let error = length_prefix::read_message(&mut reader).await.unwrap_err();
        assert!(error.to_string().contains("4294967295 bytes"), "{error}");
        assert!(reader.peak_buffered() < 100_000);
    });
    support::run(async {
        let ((mut reader, _w), (_r, peer)) = millstream::testing::pair();
        peer.write(&[0, 0, 0, 3, b'o', b'n']).unwrap();
        peer.close();
        let error = length_prefix::read_message(&mut reader).await.unwrap_err();
        assert!(matches!(&error, Error::ReadExactly(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::BrokenByPeer);
    });
}

#[test]
fn many_questions_over_one_connection_get_each_its_own_answer() {
    support::run(async {
        let server = rpc_client::start("127.0.0.1", 0).await.unwrap();
        let client = rpc_client::Client::connect("127.0.0.1", port_of(&server)).await.unwrap();
        let client = Arc::new(client);
        let mut asked = JoinSet::new();
        for number in 0..100 {
            let client = Arc::clone(&client);
            asked.spawn(async move {
                let answer = client.ask(&format!("question {number}")).await.unwrap();
                assert_eq!(answer.unwrap(), format!("QUESTION {number}"));
            });
        }
        asked.join_all().await;
        drop(client);
        end(server).await;
    });
}

#[test]
fn a_question_that_is_given_up_harms_no_other_and_the_end_wakes_who_waits() {
    async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
        // Answers the second question only, then hangs up on the third.
        for _ in 0..2 {
            reader.read_line().await?;
        }
        writer.write(b"1 second\n")?;
        reader.read_line().await.map(drop)?;
        Ok(())
    }
    support::run(async {
        let server = millstream::start_server("127.0.0.1", 0, serve).await.unwrap();
        let client = rpc_client::Client::connect("127.0.0.1", port_of(&server)).await.unwrap();
        {
            let mut given_up = std::pin::pin!(client.ask("first"));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(matches!(given_up.as_mut().poll(&mut cx), Poll::Pending));
            assert_eq!(client.pending(), 1);
        }
        assert_eq!(client.pending(), 0);
        assert_eq!(client.ask("second").await.unwrap().as_deref(), Some("second"));
        assert_eq!(client.ask("third").await.unwrap(), None);
        // From now on it is known that nobody answers.
        assert!(matches!(client.ask("fourth").await, Ok(None)));
        drop(client);
        end(server).await;
    });
}

//! How to test what is built on streams, as the book shows it: with the pair in memory and with the scripted peer.

// ANCHOR: protocol
use std::time::Duration;

use millstream::testing::{pair, scripted_peer};
use millstream::{Error, StreamReader, StreamWriter};

/// What is to be tested: asks a server for the length of a text, and gives up after 5 s.
async fn length_of(
    reader: &mut StreamReader,
    writer: &StreamWriter,
    text: &str,
) -> Result<Option<usize>, Error> {
    writer.write(format!("LENGTH {text}\n").as_bytes())?;
    let Ok(line) = tokio::time::timeout(Duration::from_secs(5), reader.read_line()).await else {
        return Ok(None);
    };
    let line = line?.unwrap_or_default();
    Ok(std::str::from_utf8(line.trim_ascii_end()).ok().and_then(|number| number.parse().ok()))
}
// ANCHOR_END: protocol

// ANCHOR: pair
/// A pair in memory: both ends are streams. The other end may be your own server's handler.
#[tokio::test]
async fn the_client_and_the_server_understand_each_other() {
    async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
        while let Some(line) = reader.read_line().await? {
            let len = line.trim_ascii_end().len() - b"LENGTH ".len();
            writer.write(format!("{len}\n").as_bytes())?;
        }
        Ok(())
    }
    let ((mut reader, writer), (server_reader, server_writer)) = pair();
    let server = tokio::spawn(serve(server_reader, server_writer));

    assert_eq!(length_of(&mut reader, &writer, "four").await.unwrap(), Some(4));

    drop((reader, writer));
    server.await.unwrap().unwrap();
}
// ANCHOR_END: pair

// ANCHOR: script
/// A scripted peer: it sends, stalls, half-closes and resets on command, and says which step went wrong.
#[tokio::test]
async fn an_answer_in_pieces_is_understood() {
    let ((mut reader, writer), peer) = scripted_peer(1024);
    let peer = tokio::spawn(peer.expect(b"LENGTH four\n").send_in_chunks(b"4\r\n", 1).run());

    assert_eq!(length_of(&mut reader, &writer, "four").await.unwrap(), Some(4));
    peer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reset_behind_half_an_answer_is_an_error() {
    let ((mut reader, writer), peer) = scripted_peer(1024);
    let peer = tokio::spawn(peer.expect(b"LENGTH four\n").send(b"1").reset().run());

    let error = length_of(&mut reader, &writer, "four").await.unwrap_err();
    assert_eq!(error.class(), millstream::ErrorClass::BrokenByPeer);
    peer.await.unwrap().unwrap();
}
// ANCHOR_END: script

// ANCHOR: clock
/// Under tokio's paused clock, time passes at once when everyone waits: this test takes no 5 s.
#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_five_seconds() {
    let ((mut reader, writer), peer) = scripted_peer(1024);
    let peer = tokio::spawn(peer.expect(b"LENGTH four\n").wait(Duration::from_secs(3600)).run());

    let before = tokio::time::Instant::now();
    assert_eq!(length_of(&mut reader, &writer, "four").await.unwrap(), None);
    assert_eq!(before.elapsed(), Duration::from_secs(5));
    peer.abort();
}
// ANCHOR_END: clock

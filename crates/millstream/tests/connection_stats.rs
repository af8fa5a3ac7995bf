//! What a connection did can be asked of both of its halves, and of its server.

mod support;

use std::time::Duration;

use millstream::testing::pair;
use millstream::{Error, ServerOptions, StreamReader, StreamWriter, open_connection, start_server};
use support::{echo, ping, run, run_paused};
use tokio::time::sleep;

#[test]
fn both_halves_tell_the_same_numbers_the_readers_peak_included() {
    run_paused(async {
        let ((mut reader, writer), (_peer_reader, peer)) = pair();
        assert_eq!((reader.stats(), writer.stats().peak_buffered), (writer.stats(), 0));
        peer.write(&[b'x'; 3_000]).unwrap();
        peer.write(b"\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().unwrap().len(), 3_001);
        writer.write(b"thanks\n").unwrap();
        writer.flush().unwrap();
        let stats = reader.stats();
        assert_eq!(stats, writer.stats());
        assert_eq!((stats.bytes_read, stats.bytes_written, stats.writes), (3_001, 7, 1));
        assert_eq!((stats.peak_buffered, stats.peak_queued), (3_001, 7));
        assert_eq!(reader.peak_buffered(), stats.peak_buffered);
        // Smaller ones later do not lower it.
        peer.write(b"a\n").unwrap();
        reader.read_line().await.unwrap();
        assert_eq!(writer.stats().peak_buffered, 3_001);
    });
}

#[test]
fn a_server_tells_of_every_living_connection_who_it_is_how_old_and_what_it_did() {
    run(async {
        let server = start_server("127.0.0.1", 0, echo).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        assert!(server.connection_stats().is_empty());
        let (mut old, old_writer) = open_connection("127.0.0.1", port).await.unwrap();
        ping(&mut old, &old_writer).await;
        sleep(Duration::from_millis(30)).await;
        let (mut young, young_writer) = open_connection("127.0.0.1", port).await.unwrap();
        for _ in 0..3 {
            ping(&mut young, &young_writer).await;
        }
        let mut all = server.connection_stats();
        all.sort_by_key(|connection| connection.age);
        let [first, second] = &all[..] else { panic!("{all:?}") };
        assert_eq!(first.peer, young_writer.local_address());
        assert_eq!(second.peer, old_writer.local_address());
        assert!(second.age - first.age >= Duration::from_millis(30), "{:?}, {:?}", first.age, second.age);
        assert_eq!((first.stats.bytes_read, first.stats.bytes_written), (15, 15));
        assert_eq!((second.stats.bytes_read, second.stats.peak_buffered), (5, 5));
        assert!(!first.is_closing && !second.is_closing);

        drop((old, old_writer));
        while server.connections() > 1 {
            tokio::task::yield_now().await;
        }
        let left = server.connection_stats();
        assert!(left.len() == 1 && left[0].peer == young_writer.local_address(), "{left:?}");
        drop((young, young_writer));
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_connection_whose_peer_takes_nothing_shows() {
    run(async {
        async fn flood(_reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            loop {
                writer.write(&[7; 100_000])?;
                writer.drain().await?;
            }
        }
        let server = ServerOptions::new().on_failure(drop).start("127.0.0.1", 0, flood).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let _deaf = open_connection("127.0.0.1", port).await.unwrap();
        let stalled = async {
            loop {
                if let [one] = &server.connection_stats()[..]
                    && one.stats.stalls > 0
                {
                    return one.stats;
                }
                tokio::task::yield_now().await;
            }
        };
        let stats = tokio::time::timeout(Duration::from_secs(30), stalled).await.expect("a stall");
        assert!(stats.queued > 0 && stats.peak_queued >= stats.queued, "{stats:?}");
        server.close();
        server.abort_clients();
        server.wait_closed().await;
    });
}

#[test]
fn every_core_of_a_server_is_asked() {
    run(async {
        let server = ServerOptions::new().per_core().cores(2).start("127.0.0.1", 0, echo).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let mut clients = Vec::new();
        for _ in 0..16 {
            let (mut reader, writer) = open_connection("127.0.0.1", port).await.unwrap();
            ping(&mut reader, &writer).await;
            clients.push((reader, writer));
        }
        let all = server.connection_stats();
        assert_eq!(all.len(), 16);
        assert!(all.iter().all(|connection| connection.stats.bytes_read == 5));
        drop(clients);
        server.close();
        server.wait_closed().await;
    });
}

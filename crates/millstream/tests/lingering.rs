//! Closing on a peer that floods: our last bytes reach it, and what is read and dropped meanwhile is bounded, in bytes as in
//! time. Row S1.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use millstream::ConnectOptions;
use socket2::SockRef;
use support::{run, tcp_pair};
use tokio::time::timeout;

#[test]
fn s1_a_peer_that_floods_gets_our_last_bytes_and_is_not_read_for_ever() {
    run(async {
        let ((reader, writer), peer) = tcp_pair(&ConnectOptions::new());
        // What the system takes for us does not count as read.
        writer.with_socket(|socket| SockRef::from(&socket).set_recv_buffer_size(64 * 1024)).unwrap().unwrap();
        SockRef::from(&peer).set_send_buffer_size(64 * 1024).unwrap();
        let flooding = flood(peer.try_clone().unwrap());
        let listening = listen(peer);
        let farewell = vec![b'f'; 1 << 20];
        writer.write(&farewell).unwrap();
        let start = Instant::now();
        writer.close();
        timeout(LONG, writer.wait_closed()).await.expect("long before the deadline").expect("all was sent");
        let closed_after = start.elapsed();
        let received = listening.join().unwrap();
        assert_eq!(received, farewell.len(), "of our last bytes");
        let flooded = flooding.join().unwrap();
        println!("closed after {closed_after:?}; the peer had sent {} MiB", flooded >> 20);
        assert!((16 << 20..18 << 20).contains(&flooded), "{flooded}");
        assert!(
            closed_after >= Duration::from_secs(1),
            "our last bytes have a second to arrive: {closed_after:?}"
        );
        drop(reader);
    });
}

#[test]
fn s1_who_sends_less_than_two_systems_hold_is_read_to_its_end() {
    run(async {
        let ((reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
        let talking = thread::spawn(move || {
            // An upload that is refused at once, by a client that looks for the answer only afterwards.
            let sent = (0..200).try_for_each(|_| peer.write_all(&[b'u'; 64 * 1024]));
            sent.map(|()| {
                peer.shutdown(std::net::Shutdown::Write).expect("open");
                let mut answer = Vec::new();
                peer.read_to_end(&mut answer).map(|_| answer)
            })
        });
        writer.write(b"413 too large").unwrap();
        writer.close();
        timeout(LONG, writer.wait_closed()).await.expect("bounded").expect("all was sent");
        let answer = talking.join().unwrap().expect("nobody cuts it").expect("an end, not a reset");
        assert_eq!(answer, b"413 too large");
        drop(reader);
    });
}

/// Sends until it cannot. Returns how many bytes went.
fn flood(mut peer: TcpStream) -> JoinHandle<usize> {
    thread::spawn(move || {
        let mut sent = 0;
        loop {
            match peer.write(&[b'x'; 64 * 1024]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return sent,
            }
        }
    })
}

/// Receives until it cannot. Returns how many bytes came.
fn listen(mut peer: TcpStream) -> JoinHandle<usize> {
    thread::spawn(move || {
        let (mut received, mut chunk) = (0, vec![0; 16 * 1024]);
        while let Ok(n @ 1..) = peer.read(&mut chunk) {
            received += n;
        }
        received
    })
}

/// Less than the close deadline.
const LONG: Duration = Duration::from_secs(10);

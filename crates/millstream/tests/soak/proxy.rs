//! A proxy that does to a connection what networks and their boxes do: splits and joins segments, stalls, ends one
//! direction, ends both, resets. What it does follows from a seed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::support::Random;

/// What becomes of a connection. The numbers are bytes that pass before, in the direction that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Every byte passes.
    Kept,
    /// One direction ends, as if its sender had said so; what comes later is swallowed.
    Ended { to_server: bool, after: usize },
    /// Both ends are reset.
    Reset { to_server: bool, after: usize },
}

impl Fate {
    /// One that suits so many bytes: some come too late to matter.
    pub(crate) fn choose(random: &mut Random, bytes: [usize; 2]) -> Self {
        let to_server = random.below(2) == 0;
        // Half of the cuts fall where handshakes and headers are.
        let about = if random.below(2) == 0 { 3_000 } else { bytes[usize::from(!to_server)] + 5_000 };
        let after = random.below(about);
        match random.below(10) {
            0..6 => Self::Kept,
            6..8 => Self::Ended { to_server, after },
            _ => Self::Reset { to_server, after },
        }
    }

    /// What this direction may still carry, if it is the one.
    fn limit(self, way_to_server: bool) -> Option<usize> {
        match self {
            Self::Kept => None,
            Self::Ended { to_server, after } | Self::Reset { to_server, after } => {
                (to_server == way_to_server).then_some(after)
            }
        }
    }
}

/// Carries one connection from its client to the server with this port. Returns when both directions are over.
pub(crate) async fn carry(listener: &TcpListener, server: u16, fate: Fate, mut random: Random) {
    let (mut client, _) = listener.accept().await.expect("a client that is just connecting");
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("a server that accepts");
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a TCP socket");
    }
    let pace = Pace::choose(&mut random);
    let mut way = |to_server| Way { fate, to_server, pace, random: Random::new(random.next()) };
    let (up, down) = (way(true), way(false));
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    // A reset does not wait for the other direction.
    if tokio::try_join!(up.carry(from_client, to_server), down.carry(from_server, to_client)).is_err() {
        for socket in [&client, &server] {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
        }
    }
}

/// The connection is to be reset on both sides.
struct Reset;

/// How a connection's bytes come along.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The most bytes in one segment, in the long run; at first they are fewer.
    segment: usize,
    /// One segment in so many comes late.
    stall: usize,
}

impl Pace {
    fn choose(random: &mut Random) -> Self {
        Self {
            segment: [7, 300, 1_500, 64 * 1024][random.below(4)],
            stall: [20, 100, usize::MAX][random.below(3)],
        }
    }
}

/// One direction.
struct Way {
    fate: Fate,
    to_server: bool,
    pace: Pace,
    random: Random,
}

impl Way {
    /// Carries bytes until the sender ends, fails, or its fate is met.
    async fn carry(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), Reset> {
        let mut left = self.fate.limit(self.to_server);
        let (mut carried, mut buf) = (0, vec![0; 64 * 1024]);
        loop {
            let n = from.read(&mut buf).await.map_err(|_| Reset)?;
            if n == 0 {
                let _ = to.shutdown().await;
                return Ok(());
            }
            let passes = left.map_or(n, |left| left.min(n));
            let mut rest = &buf[..passes];
            while !rest.is_empty() {
                if self.pace.stall < usize::MAX && self.random.below(self.pace.stall) == 0 {
                    sleep(Duration::from_micros(self.random.below(20_000) as u64)).await;
                }
                // A tiny segment costs as much as a large one, so most of a long stream comes in larger ones.
                let most = self.pace.segment.max(carried / 100);
                let len = (1 + self.random.below(most)).min(rest.len());
                to.write_all(&rest[..len]).await.map_err(|_| Reset)?;
                carried += len;
                rest = &rest[len..];
            }
            left = left.map(|left| left - passes);
            if left == Some(0) {
                if matches!(self.fate, Fate::Reset { .. }) {
                    return Err(Reset);
                }
                let _ = to.shutdown().await;
                // A sender that is told nothing goes on for a while.
                while matches!(from.read(&mut buf).await, Ok(1..)) {}
                return Ok(());
            }
        }
    }
}

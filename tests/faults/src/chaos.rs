//! The chaos proxy: does to a connection what networks and their boxes do. It splits and joins segments, stalls, carries one
//! byte at a time, flips bits, ends one direction, ends both, resets. What it does follows from a seed.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::Result;
use crate::random::Random;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What becomes of a connection. The numbers are bytes that pass before, in the direction that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Every byte passes.
    Kept,
    /// One direction ends, as if its sender had said so; what comes later is swallowed.
    Ended { way: Way, after: usize },
    /// Both ends are reset.
    Reset { way: Way, after: usize },
    /// One bit of this byte is flipped.
    Flipped { way: Way, at: usize },
}

/// How bytes come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As they came.
    Whole,
    /// Each in a segment of its own.
    OneByte,
    /// In segments of random lengths up to this many at first, one in `stall` of them late.
    Split { most: usize, stall: usize },
}

/// What the next connections meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) fate: Fate,
    pub(crate) pace: Pace,
}

impl Plan {
    /// One for a conversation of about so many bytes in each direction: some cuts come too late to matter.
    pub(crate) fn choose(random: &mut Random, bytes: [usize; 2]) -> Self {
        let way = if random.below(2) == 0 { Way::ToServer } else { Way::ToClient };
        // Half of the cuts fall where handshakes and headers are.
        let late = bytes[usize::from(way == Way::ToClient)] + 5_000;
        let about = if random.below(2) == 0 { 3_000 } else { late };
        let after = random.below(about);
        let fate = match random.below(10) {
            0..6 => Fate::Kept,
            6..8 => Fate::Ended { way, after },
            _ => Fate::Reset { way, after },
        };
        let most = [1, 7, 300, 1_500, 64 * 1024][random.below(5)];
        // As many stalls a byte, however small the segments are.
        let stall = [20, 100, usize::MAX][random.below(3)];
        let stall = if stall == usize::MAX { stall } else { stall * (300 / most).max(1) };
        Self { fate, pace: Pace::Split { most, stall } }
    }
}

/// A proxy on a thread of its own. It runs until the process ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// The plan of every connection; without one, each gets its own for so many bytes in each direction.
    plan: Mutex<(Option<Plan>, Random)>,
    bytes: [usize; 2],
    /// Bytes carried to the server and to the client, over all connections.
    carried: [AtomicUsize; 2],
}

impl Proxy {
    /// Carries to the server with this port.
    pub(crate) fn start(server: u16, plan: Plan, seed: u64) -> Result<Self> {
        Self::launch(server, Some(plan), [0, 0], seed)
    }

    /// The same with another plan for each connection, chosen for conversations of about so many bytes each way.
    pub(crate) fn start_random(server: u16, bytes: [usize; 2], seed: u64) -> Result<Self> {
        Self::launch(server, None, bytes, seed)
    }

    fn launch(server: u16, plan: Option<Plan>, bytes: [usize; 2], seed: u64) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let plan = Mutex::new((plan, Random::new(seed)));
        let shared = Arc::new(Shared { plan, bytes, carried: [AtomicUsize::new(0), AtomicUsize::new(0)] });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let ended: io::Result<()> = runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    let (client, _) = listener.accept().await?;
                    tokio::spawn(carry(client, server, Arc::clone(&of_thread)));
                }
            });
            eprintln!("the chaos proxy has ended: {ended:?}");
        });
        Ok(Self { port, shared })
    }

    /// What connections from now on meet.
    pub(crate) fn plan(&self, plan: Plan) {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(plan);
    }

    /// Bytes carried so far: to the server and to the client.
    pub(crate) fn carried(&self) -> [usize; 2] {
        [0, 1].map(|way: usize| self.shared.carried[way].load(Ordering::Relaxed))
    }
}

/// Carries one connection until both directions are over.
async fn carry(mut client: TcpStream, server: u16, shared: Arc<Shared>) -> io::Result<()> {
    let (plan, mut random) = {
        let mut plan = shared.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = Random::new(plan.1.next());
        (plan.0.unwrap_or_else(|| Plan::choose(&mut random, shared.bytes)), random)
    };
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
    }
    let mut direction = |way| Direction { way, plan, random: Random::new(random.next()), shared: &shared };
    let (up, down) = (direction(Way::ToServer), direction(Way::ToClient));
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    // A reset does not wait for the other direction.
    if tokio::try_join!(up.carry(from_client, to_server), down.carry(from_server, to_client)).is_err() {
        for socket in [&client, &server] {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
        }
    }
    Ok(())
}

/// The connection is to be reset on both sides.
struct Reset;

struct Direction<'a> {
    way: Way,
    plan: Plan,
    random: Random,
    shared: &'a Shared,
}

impl Direction<'_> {
    /// Carries bytes until the sender ends, fails, or its fate is met.
    async fn carry(
        mut self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> std::result::Result<(), Reset> {
        let mut left = match self.plan.fate {
            Fate::Ended { way, after } | Fate::Reset { way, after } if way == self.way => Some(after),
            _ => None,
        };
        let (mut carried, mut buf) = (0, vec![0; 64 * 1024]);
        loop {
            let n = from.read(&mut buf).await.map_err(|_| Reset)?;
            if n == 0 {
                // The other end may be gone already.
                let _ = to.shutdown().await;
                return Ok(());
            }
            let passes = left.map_or(n, |left| left.min(n));
            if let Fate::Flipped { way, at } = self.plan.fate
                && way == self.way
                && (carried..carried + passes).contains(&at)
            {
                buf[at - carried] ^= 1 << self.random.below(8);
            }
            self.send(&buf[..passes], carried, &mut to).await.map_err(|_| Reset)?;
            carried += passes;
            self.shared.carried[usize::from(self.way == Way::ToClient)].fetch_add(passes, Ordering::Relaxed);
            left = left.map(|left| left - passes);
            if left == Some(0) {
                if matches!(self.plan.fate, Fate::Reset { .. }) {
                    return Err(Reset);
                }
                let _ = to.shutdown().await;
                // A sender that is told nothing goes on for a while.
                while matches!(from.read(&mut buf).await, Ok(1..)) {}
                return Ok(());
            }
        }
    }

    async fn send(&mut self, mut rest: &[u8], carried: usize, to: &mut WriteHalf<'_>) -> io::Result<()> {
        while !rest.is_empty() {
            let len = match self.plan.pace {
                Pace::Whole => rest.len(),
                Pace::OneByte => 1,
                Pace::Split { most, stall } => {
                    if stall < usize::MAX && self.random.below(stall) == 0 {
                        sleep(Duration::from_micros(self.random.below(20_000) as u64)).await;
                    }
                    // A tiny segment costs as much as a large one, so most of a long stream comes in larger ones.
                    (1 + self.random.below(most.max(carried / 100))).min(rest.len())
                }
            };
            to.write_all(&rest[..len]).await?;
            rest = &rest[len..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// What comes back of `sent` from a server that says everything again, through a proxy with this plan.
    fn echoed(plan: Plan, sent: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut answers = socket.try_clone().expect("a descriptor");
            let _ = io::copy(&mut socket, &mut answers);
            let _ = answers.shutdown(std::net::Shutdown::Write);
        });
        let proxy = Proxy::start(port, plan, 1).expect("a proxy");
        let mut client = crate::peer::connect(proxy.port).expect("the proxy accepts");
        client.write_all(sent).expect("open");
        // A proxy that has reset the connection refuses this.
        let _ = client.shutdown(std::net::Shutdown::Write);
        let (mut came, mut block) = (Vec::new(), [0; 100]);
        loop {
            match client.read(&mut block) {
                Ok(0) => return (came, Ok(())),
                Ok(n) => came.extend_from_slice(&block[..n]),
                Err(error) => return (came, Err(error)),
            }
        }
    }

    fn plan(fate: Fate, pace: Pace) -> Plan {
        Plan { fate, pace }
    }

    #[test]
    fn every_byte_passes_in_order_however_it_is_split() {
        let sent = Random::new(3).bytes(2_000);
        for pace in [Pace::Whole, Pace::OneByte, Pace::Split { most: 7, stall: 500 }] {
            let (came, end) = echoed(plan(Fate::Kept, pace), &sent);
            assert!(came == sent && end.is_ok(), "{pace:?}: {} bytes, {end:?}", came.len());
        }
    }

    #[test]
    fn a_flip_changes_one_bit_of_the_byte_that_is_meant() {
        let sent = Random::new(4).bytes(500);
        for (way, pace) in [(Way::ToServer, Pace::OneByte), (Way::ToClient, Pace::Whole)] {
            let (came, _) = echoed(plan(Fate::Flipped { way, at: 321 }, pace), &sent);
            let wrong: Vec<usize> = (0..sent.len()).filter(|&at| came.get(at) != sent.get(at)).collect();
            assert_eq!((came.len(), wrong), (500, vec![321]));
            assert_eq!((came[321] ^ sent[321]).count_ones(), 1);
        }
    }

    #[test]
    fn an_end_comes_after_so_many_bytes_and_a_reset_is_one() {
        let sent = Random::new(5).bytes(500);
        let (came, end) = echoed(plan(Fate::Ended { way: Way::ToServer, after: 200 }, Pace::Whole), &sent);
        assert!(came == sent[..200] && end.is_ok(), "{} bytes, {end:?}", came.len());
        let (came, end) = echoed(plan(Fate::Reset { way: Way::ToClient, after: 200 }, Pace::OneByte), &sent);
        assert!(sent.starts_with(&came) && came.len() <= 200, "{} bytes", came.len());
        assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    }
}

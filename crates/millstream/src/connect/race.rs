//! A name's addresses as Happy Eyeballs tries them: the core says which one when, this drives the attempts.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use millstream_core::{AddressRace, AttemptId, Failure, RaceStep, interleave};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep};

use super::ConnectOptions;
use crate::error::{Attempt, ConnectError};
use crate::resolve::resolve;

impl ConnectOptions {
    /// Resolves and races. Failed attempts are noted in `attempts` as they come, for a caller that runs out of time.
    pub(super) async fn race(
        &self,
        host: &str,
        port: u16,
        attempts: &mut Vec<Attempt>,
    ) -> Result<TcpStream, ConnectError> {
        let addresses = resolve(Some(host), port, self.query)
            .await
            .map_err(|failure| ConnectError::Lookup { host: host.to_owned(), failure })?;
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress { host: host.to_owned() });
        }
        let mut runners = Runners::new(self, interleave(&addresses, self.first_family_count));
        let won = poll_fn(|cx| runners.poll(cx, attempts)).await;
        won.ok_or_else(|| ConnectError::AllFailed {
            host: host.to_owned(),
            attempts: std::mem::take(attempts),
        })
    }

    async fn attempt(self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = self.local_address {
            if local.is_ipv4() != address.is_ipv4() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    format!("the local address {local} is of the other family"),
                ));
            }
            socket.set_reuseaddr(true)?;
            socket.bind(local)?;
        }
        socket.set_nodelay(self.streams.nodelay)?;
        self.streams.socket().apply(&SockRef::from(&socket))?;
        socket.connect(address).await
    }
}

/// The attempts under way, as the core's [`AddressRace`] starts them. Dropping it closes them all.
struct Runners<'a> {
    options: &'a ConnectOptions,
    race: AddressRace<()>,
    running: Vec<(AttemptId, SocketAddr, Connecting)>,
    /// Those behind the noted failures, in the same order: that of their starts.
    failed: Vec<AttemptId>,
    timer: Option<Pin<Box<Sleep>>>,
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

impl<'a> Runners<'a> {
    fn new(options: &'a ConnectOptions, addresses: Vec<SocketAddr>) -> Self {
        let race = AddressRace::new(addresses, options.stagger);
        Self { options, race, running: Vec::new(), failed: Vec::new(), timer: None }
    }

    /// The winner's socket; `None` if every address failed.
    fn poll(&mut self, cx: &mut Context<'_>, attempts: &mut Vec<Attempt>) -> Poll<Option<TcpStream>> {
        loop {
            if let Some(winner) = self.poll_running(cx, attempts) {
                return Poll::Ready(Some(winner));
            }
            match self.race.poll(Instant::now().into_std()) {
                RaceStep::Start { attempt, address } => {
                    let connecting = Box::pin(self.options.clone().attempt(address));
                    self.running.push((attempt, address, connecting));
                }
                RaceStep::Wait { until } => {
                    let Some(until) = until else { return Poll::Pending };
                    let mut timer = Box::pin(tokio::time::sleep_until(Instant::from_std(until)));
                    if timer.as_mut().poll(cx).is_pending() {
                        self.timer = Some(timer);
                        return Poll::Pending;
                    }
                }
                RaceStep::Won { .. } | RaceStep::Failed => return Poll::Ready(None),
            }
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>, attempts: &mut Vec<Attempt>) -> Option<TcpStream> {
        let mut at = 0;
        while let Some((attempt, address, connecting)) = self.running.get_mut(at) {
            match connecting.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(socket)) => return self.race.succeeded(*attempt).then_some(socket),
                Poll::Ready(Err(error)) => {
                    // They may end in any order.
                    let place = self.failed.partition_point(|other| other < attempt);
                    self.failed.insert(place, *attempt);
                    attempts.insert(place, Attempt { address: *address, failure: Failure::from(&error) });
                    self.race.failed(*attempt, ());
                    drop(self.running.swap_remove(at));
                }
            }
        }
        None
    }
}

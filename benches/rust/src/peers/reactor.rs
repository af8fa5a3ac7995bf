//! The event loop under the hand-written servers: edge-triggered epoll, one registration a connection.
//!
//! A connection is registered once for both directions and never touched again, so a request costs no
//! `epoll_ctl`. Edge-triggered is what saves the kernel a second look at each socket it has reported;
//! in exchange a connection must read until it is known to be dry, which a short read tells for free.

use std::io;
use std::net::TcpListener;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

/// What the reactor does with a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing more can be done before the next event.
    Wait,
    /// There is more to do, but the others come first.
    Again,
    /// Over: close the socket.
    Close,
}

/// One connection of a hand-written server.
pub(super) trait Connection {
    /// Takes an accepted, non-blocking socket.
    fn new(socket: OwnedFd) -> Self;

    /// Does what can be done without blocking. `closing` is true once the peer has sent its last byte:
    /// from then on a short read does not promise another event.
    ///
    /// # Errors
    ///
    /// What the socket reports; the reactor then closes it.
    fn turn(&mut self, scratch: &mut [u8], closing: bool) -> Result<Next, Errno>;
}

/// Reads once; `None` when nothing is there.
pub(super) fn receive(socket: &OwnedFd, into: &mut [u8]) -> Result<Option<usize>, Errno> {
    match rustix::net::recv(socket, into, RecvFlags::empty()) {
        Ok((_, n)) => Ok(Some(n)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends once; less than everything means that an event will tell when there is room again.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        sent => sent,
    }
}

struct Slot<C> {
    connection: C,
    closing: bool,
}

/// The connections of one server, by the token epoll knows them under.
struct Slots<C> {
    slots: Vec<Option<Slot<C>>>,
    free: Vec<usize>,
    again: Vec<usize>,
    scratch: Vec<u8>,
}

const LISTENER: u64 = u64::MAX;
const ENDED: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

/// Serves `listener` until the process is ended.
pub(super) fn serve<C: Connection>(listener: &TcpListener, scratch: usize) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut all = Slots::<C> { slots: vec![], free: vec![], again: vec![], scratch: vec![0; scratch] };
    let mut events = Vec::with_capacity(256);
    loop {
        // With someone still waiting for another turn, only collect what is there.
        let timeout = (!all.again.is_empty()).then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
        match epoll::wait(&epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let waiting = all.again.len();
        for epoll::Event { flags, data } in events.drain(..) {
            if data.u64() == LISTENER {
                all.accept(listener, &epoll)?;
            } else if let Ok(token) = usize::try_from(data.u64()) {
                all.turn(token, flags.intersects(ENDED));
            }
        }
        for at in 0..waiting {
            all.turn(all.again[at], false);
        }
        all.again.drain(..waiting);
    }
}

impl<C: Connection> Slots<C> {
    fn accept(&mut self, listener: &TcpListener, epoll: impl AsFd) -> io::Result<()> {
        loop {
            let socket =
                match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                    Ok(socket) => socket,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::CONNABORTED | Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
            let token = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            let interest = epoll::EventFlags::IN
                | epoll::EventFlags::OUT
                | epoll::EventFlags::RDHUP
                | epoll::EventFlags::ET;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(token as u64), interest)?;
            self.slots[token] = Some(Slot { connection: C::new(socket), closing: false });
        }
    }

    fn turn(&mut self, token: usize, ended: bool) {
        // Empty when a connection that waited for another turn was closed by an event first.
        let Some(slot) = &mut self.slots[token] else { return };
        slot.closing |= ended;
        match slot.connection.turn(&mut self.scratch, slot.closing) {
            Ok(Next::Wait) => {}
            Ok(Next::Again) => self.again.push(token),
            // A peer that reset is no news for an echo server.
            Ok(Next::Close) | Err(_) => {
                self.slots[token] = None;
                self.free.push(token);
            }
        }
    }
}

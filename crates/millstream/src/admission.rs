//! Who is let in: the cap of connections, the cap for each peer address, and the permits that count them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::address::Address;
use crate::sync::Mutex;
use crate::waiters::{Ticket, Waiters, Wakes};

/// What a server does with a connection that comes while [`max_connections`](crate::ServerOptions::max_connections) are
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// It is not accepted before another one ends. It waits in the kernel's backlog, which pushes back on its peer; above
    /// the backlog, the kernel lets new ones wait for their handshake. The default: a burst is served late, not refused.
    #[default]
    Wait,
    /// It is accepted and closed at once, after the [`farewell`](crate::ServerOptions::farewell): for peers that would
    /// rather try elsewhere than wait.
    Refuse,
}

/// The caps of a server, as its options name them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connections: Option<usize>,
    pub(crate) per_peer: Option<usize>,
    pub(crate) when_full: WhenFull,
    /// What a refused peer is sent.
    pub(crate) farewell: Bytes,
    /// A stop leaves idle connections to their handlers.
    pub(crate) keep_idle: bool,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    PerPeer,
}

/// The caps in force, and what they count. Shared by all listeners of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Permits that hold a place.
    taken: usize,
    /// Connections of each peer that has any; nobody else is in it.
    peers: HashMap<IpAddr, usize>,
    /// Accept loops that wait for a place.
    waiting: Waiters,
}

/// One connection's leave to be there, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    has_place: bool,
    peer: Option<IpAddr>,
}

/// An accept loop, which may have to wait for a place.
#[derive(Debug)]
pub(crate) struct Entrance {
    admission: Arc<Admission>,
    ticket: Ticket,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::new(State::default()) })
    }

    pub(crate) fn farewell(&self) -> &Bytes {
        &self.limits.farewell
    }

    pub(crate) fn keeps_idle(&self) -> bool {
        self.limits.keep_idle
    }

    pub(crate) fn entrance(self: &Arc<Self>) -> Entrance {
        Entrance { admission: Arc::clone(self), ticket: Ticket::default() }
    }
}

impl Entrance {
    /// Waits until one more connection may be accepted. The permit is only good for looking: dropped again if there is
    /// none to accept, it leaves its place to other listeners.
    pub(crate) fn poll_permit(&mut self, cx: &Context<'_>) -> Poll<Permit> {
        let mut permit = Permit { admission: Arc::clone(&self.admission), has_place: false, peer: None };
        let limits = &self.admission.limits;
        let Some(most) = limits.connections.filter(|_| limits.when_full == WhenFull::Wait) else {
            return Poll::Ready(permit);
        };
        let mut wakes = Wakes::default();
        let mut state = self.admission.state.lock();
        if state.taken >= most {
            state.waiting.register(&mut self.ticket, cx.waker(), &mut wakes);
            drop(state);
            return Poll::Pending;
        }
        state.taken += 1;
        state.waiting.forget(&mut self.ticket, &mut wakes);
        drop(state);
        permit.has_place = true;
        Poll::Ready(permit)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        let mut wakes = Wakes::default();
        self.admission.state.lock().waiting.forget(&mut self.ticket, &mut wakes);
    }
}

impl Permit {
    /// Counts the connection that was accepted, unless that is one too many. No peer: a proxy, which stands for many.
    pub(crate) fn admit(mut self, peer: Option<&Address>) -> Result<Self, Refusal> {
        let Limits { connections, per_peer, .. } = self.admission.limits;
        let key = peer.and_then(Address::ip).filter(|_| per_peer.is_some());
        let key = key.map(|address| peer_key(address.ip()));
        let lacks_place = connections.is_some() && !self.has_place;
        if !lacks_place && key.is_none() {
            return Ok(self);
        }
        let mut state = self.admission.state.lock();
        if lacks_place && connections.is_some_and(|most| state.taken >= most) {
            return Err(Refusal::Full);
        }
        if let Some((key, most)) = key.zip(per_peer) {
            let count = state.peers.get(&key).copied().unwrap_or(0);
            if count >= most {
                drop(state);
                return Err(Refusal::PerPeer);
            }
            state.peers.insert(key, count + 1);
        }
        if lacks_place {
            state.taken += 1;
        }
        drop(state);
        self.has_place |= lacks_place;
        self.peer = key;
        Ok(self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.has_place && self.peer.is_none() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut state = self.admission.state.lock();
        if let Some(peer) = self.peer.take()
            && let Entry::Occupied(mut entry) = state.peers.entry(peer)
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        if self.has_place {
            state.taken -= 1;
            state.waiting.wake_all(&mut wakes);
        }
    }
}

/// Whom a connection is counted for. A host with IPv6 has a whole /64 to choose its addresses from.
fn peer_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting_waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::<Woken>::default();
        (Arc::clone(&woken), Waker::from(woken))
    }

    #[test]
    fn a_peer_is_an_ipv4_address_however_written_or_an_ipv6_network_of_64_bits() {
        let key = |text: &str| peer_key(text.parse().unwrap());
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::"));
        assert_ne!(key("2001:db8:1:3::"), key("2001:db8:1:2::"));
    }

    #[test]
    fn the_table_of_peers_holds_only_those_who_are_there() {
        let limits = Limits { per_peer: Some(2), ..Limits::default() };
        let admission = Admission::new(limits);
        let enter = |last: u8| {
            let peer = Address::from(std::net::SocketAddr::from(([192, 0, 2, last], 1)));
            let Poll::Ready(permit) = admission.entrance().poll_permit(&Context::from_waker(Waker::noop()))
            else {
                panic!("there is no cap to wait for")
            };
            permit.admit(Some(&peer))
        };
        let permits: Vec<_> = (0..100).map(|last| (enter(last).unwrap(), enter(last).unwrap())).collect();
        assert_eq!(enter(7).unwrap_err(), Refusal::PerPeer);
        assert_eq!(admission.state.lock().peers.len(), 100);
        drop(permits);
        assert!(admission.state.lock().peers.is_empty());
        drop(enter(7).unwrap());
        assert!(admission.state.lock().peers.is_empty());
    }

    #[test]
    fn a_place_that_an_idle_listener_looked_with_is_there_for_the_others() {
        let admission = Admission::new(Limits { connections: Some(1), ..Limits::default() });
        let cx = Context::from_waker(Waker::noop());
        let (mut one, mut other) = (admission.entrance(), admission.entrance());
        let Poll::Ready(looking) = one.poll_permit(&cx) else { panic!("it is free") };
        assert!(other.poll_permit(&cx).is_pending());
        drop(looking);
        let Poll::Ready(held) = other.poll_permit(&cx) else { panic!("it is free again") };
        assert!(one.poll_permit(&cx).is_pending());
        // Whoever waits is woken, all of them: not each may have someone to accept.
        let (woken, waker) = counting_waker();
        assert!(one.poll_permit(&Context::from_waker(&waker)).is_pending());
        drop(held);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!(admission.state.lock().taken, 0);
    }
}

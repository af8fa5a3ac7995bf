//! Who is let in: the cap of connections, the cap for each peer address, and the permits that count them.

mod peers;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use self::peers::{Peers, peer_key};
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
    peers: Peers,
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
        if let Some((key, most)) = key.zip(per_peer)
            && !state.peers.take(key, most)
        {
            drop(state);
            return Err(Refusal::PerPeer);
        }
        if lacks_place {
            state.taken += 1;
        }
        drop(state);
        self.has_place |= lacks_place;
        self.peer = key;
        Ok(self)
    }

    /// Counts a connection that is there for another peer: the one whom its proxy names. If that one has as many as it may
    /// have, it stays counted for whom it was.
    pub(crate) fn admit_client(&mut self, client: &Address) -> Result<(), Refusal> {
        let Some((address, most)) = client.ip().zip(self.admission.limits.per_peer) else { return Ok(()) };
        let key = peer_key(address.ip());
        let mut state = self.admission.state.lock();
        if !state.peers.take(key, most) {
            return Err(Refusal::PerPeer);
        }
        if let Some(before) = self.peer.replace(key) {
            state.peers.give_back(before);
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.has_place && self.peer.is_none() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut state = self.admission.state.lock();
        if let Some(peer) = self.peer.take() {
            state.peers.give_back(peer);
        }
        if self.has_place {
            state.taken -= 1;
            state.waiting.wake_all(&mut wakes);
        }
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

    fn limited(limits: Limits) -> Arc<Admission> {
        Admission::new(Limits { per_peer: Some(2), ..limits })
    }

    fn accepted(admission: &Arc<Admission>) -> Permit {
        let cx = Context::from_waker(Waker::noop());
        let Poll::Ready(permit) = admission.entrance().poll_permit(&cx) else { panic!("it is full") };
        permit
    }

    /// How many places are taken, and how many peers are counted.
    fn counts(admission: &Admission) -> (usize, usize) {
        let state = admission.state.lock();
        (state.taken, state.peers.len())
    }

    fn peer(last: u8) -> Address {
        std::net::SocketAddr::from(([192, 0, 2, last], 1)).into()
    }

    #[test]
    fn the_table_of_peers_holds_only_those_who_are_there() {
        let admission = limited(Limits::default());
        let enter = |last: u8| accepted(&admission).admit(Some(&peer(last)));
        let permits: Vec<_> = (0..100).map(|last| (enter(last).unwrap(), enter(last).unwrap())).collect();
        assert_eq!(enter(7).unwrap_err(), Refusal::PerPeer);
        assert_eq!(admission.state.lock().peers.len(), 100);
        drop(permits);
        assert_eq!(admission.state.lock().peers.len(), 0);
        drop(enter(7).unwrap());
        assert_eq!(admission.state.lock().peers.len(), 0);
    }

    #[test]
    fn a_client_behind_a_proxy_is_counted_with_those_who_came_by_themselves() {
        let admission = limited(Limits { connections: Some(4), ..Limits::default() });
        // A proxy is not counted, its clients are as soon as they are known.
        let mut proxied: Vec<_> =
            (0..3).map(|_| accepted(&admission).admit(None).expect("there is room")).collect();
        assert_eq!(admission.state.lock().peers.len(), 0);
        assert_eq!(proxied[0].admit_client(&peer(7)), Ok(()));
        let direct = accepted(&admission).admit(Some(&peer(7))).expect("the second of two");
        assert_eq!(proxied[1].admit_client(&peer(7)), Err(Refusal::PerPeer));
        assert_eq!(proxied[1].admit_client(&peer(8)), Ok(()));
        // Who was refused has a place all the same, until it is dropped, and it was nobody's but the proxy's.
        assert_eq!(proxied[2].admit_client(&peer(7)), Err(Refusal::PerPeer));
        assert_eq!(counts(&admission), (4, 2));
        drop(proxied.pop());
        assert_eq!(counts(&admission), (3, 2));
        drop(direct);
        let mut next = accepted(&admission).admit(None).expect("there is room");
        assert_eq!(next.admit_client(&peer(7)), Ok(()));
        drop((proxied, next));
        assert_eq!(counts(&admission), (0, 0));
    }

    #[test]
    fn a_connection_that_gets_another_name_gives_back_the_first() {
        let admission = limited(Limits::default());
        let mut permit = accepted(&admission).admit(Some(&peer(1))).expect("the first");
        assert_eq!(permit.admit_client(&peer(2)), Ok(()));
        assert_eq!(admission.state.lock().peers.len(), 1);
        let others: Vec<_> = (0..2).map(|_| accepted(&admission).admit(Some(&peer(1)))).collect();
        assert!(others.iter().all(Result::is_ok), "{others:?}");
        // What has no address of its own is counted for nobody else.
        assert_eq!(permit.admit_client(&Address::Unnamed), Ok(()));
        assert_eq!(admission.state.lock().peers.len(), 2);
        drop((permit, others));
        assert_eq!(admission.state.lock().peers.len(), 0);
    }

    #[test]
    fn without_a_cap_for_each_peer_nobody_is_counted() {
        let admission = Admission::new(Limits::default());
        let mut permit = accepted(&admission).admit(None).expect("no cap");
        assert_eq!(permit.admit_client(&peer(7)), Ok(()));
        assert_eq!(admission.state.lock().peers.len(), 0);
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

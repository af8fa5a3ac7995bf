//! A toy behind the trait of TLS engines: no cryptography and no randomness, but the manners of TLS 1.3.
//!
//! A record is a kind, the version 3.3, the length of its body in two bytes, and the body. The handshake is one message
//! from each side with a number in it; what follows is xored with a stream that both numbers begin, with a sum behind
//! it. So bytes that are lost, repeated, changed or out of order do not open.
//!
//! Property tests, fuzz targets and the models of the tokio face include this file by path.

use std::io::{self, IoSlice};

use millstream_core::Failure;
use millstream_core::tls::{TlsEngine, TlsFault, TlsInfo, TlsVersion};

/// One side of a toy connection.
#[derive(Debug)]
pub(crate) struct ToyEngine {
    is_client: bool,
    /// The most plaintext in one record.
    record_len: usize,
    peer: Option<u8>,
    /// What arrived of the next record.
    partial: Vec<u8>,
    plaintext: Vec<u8>,
    outgoing: Vec<u8>,
    /// How much was sealed and opened, to go on in the stream.
    sealed: u8,
    opened: u8,
    peer_closed: bool,
    failure: Option<Failure>,
}

impl ToyEngine {
    pub(crate) fn client(record_len: usize) -> Self {
        let mut client = Self::new(true, record_len);
        client.push_record(HANDSHAKE, &[CLIENT_NUMBER]);
        client
    }

    pub(crate) fn server(record_len: usize) -> Self {
        Self::new(false, record_len)
    }

    fn new(is_client: bool, record_len: usize) -> Self {
        Self {
            is_client,
            record_len,
            peer: None,
            partial: Vec::new(),
            plaintext: Vec::new(),
            outgoing: Vec::new(),
            sealed: 0,
            opened: 0,
            peer_closed: false,
            failure: None,
        }
    }

    /// All that a side sends whose stream begins with `data`, for peers that take no turns.
    pub(crate) fn opening(is_client: bool, data: &[u8]) -> Vec<u8> {
        let mut engine = if is_client { Self::client(usize::MAX) } else { Self::server(usize::MAX) };
        if !is_client {
            engine.push_record(HANDSHAKE, &[SERVER_NUMBER]);
        }
        if !data.is_empty() {
            engine.push_sealed(DATA, data);
        }
        engine.outgoing
    }

    fn number_of(&self, is_client: bool) -> u8 {
        if is_client { CLIENT_NUMBER } else { SERVER_NUMBER }
    }

    fn push_record(&mut self, kind: u8, body: &[u8]) {
        let len = u16::try_from(body.len()).expect("records are short").to_be_bytes();
        self.outgoing.extend_from_slice(&[kind, VERSION[0], VERSION[1], len[0], len[1]]);
        self.outgoing.extend_from_slice(body);
    }

    fn push_sealed(&mut self, kind: u8, plaintext: &[u8]) {
        let start = self.number_of(self.is_client) ^ 0x5a;
        let mut body: Vec<u8> = plaintext.to_vec();
        body.push(sum(kind, plaintext));
        for byte in &mut body {
            *byte ^= start.wrapping_add(self.sealed);
            self.sealed = self.sealed.wrapping_add(1);
        }
        self.push_record(kind, &body);
    }

    fn open(&mut self, kind: u8, body: &[u8]) -> Option<Vec<u8>> {
        let start = self.number_of(!self.is_client) ^ 0x5a;
        let mut plaintext = body.to_vec();
        for byte in &mut plaintext {
            *byte ^= start.wrapping_add(self.opened);
            self.opened = self.opened.wrapping_add(1);
        }
        (plaintext.pop()? == sum(kind, &plaintext)).then_some(plaintext)
    }

    /// One whole record.
    fn take_record(&mut self, kind: u8, body: &[u8]) -> Result<(), Failure> {
        match (kind, self.is_handshaking()) {
            (HANDSHAKE, true) if body == [self.number_of(!self.is_client)] => {
                self.peer = Some(body[0]);
                if !self.is_client {
                    self.push_record(HANDSHAKE, &[SERVER_NUMBER]);
                }
                return Ok(());
            }
            // As rustls does, and the pipe has to notice by itself.
            (ALERT, true) if body == [WARNING, CLOSE_NOTIFY] => return Ok(()),
            (ALERT, true) if body.len() == 2 => return Err(refused(body[1])),
            (DATA | ALERT, false) => {}
            _ => return Err(self.alert(TlsFault::Misbehaved.failure("a record that is not due"))),
        }
        let Some(plaintext) = self.open(kind, body) else {
            return Err(self.alert(TlsFault::BadRecord.failure("a record that does not open")));
        };
        match (kind, &plaintext[..]) {
            (DATA, data) => self.plaintext.extend_from_slice(data),
            (_, [WARNING, CLOSE_NOTIFY]) => self.peer_closed = true,
            (_, [_, alert]) => return Err(refused(*alert)),
            _ => return Err(self.alert(TlsFault::Misbehaved.failure("an alert of another length"))),
        }
        Ok(())
    }

    /// Tells the peer of its mistake.
    fn alert(&mut self, failure: Failure) -> Failure {
        if self.is_handshaking() {
            self.push_record(ALERT, &[FATAL, UNEXPECTED]);
        } else {
            self.push_sealed(ALERT, &[FATAL, UNEXPECTED]);
        }
        failure
    }
}

impl TlsEngine for ToyEngine {
    /// Never takes more than what is left of one record.
    fn receive(&mut self, ciphertext: &[u8]) -> Result<usize, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut taken = 0;
        while taken < ciphertext.len() && !self.peer_closed {
            self.partial.push(ciphertext[taken]);
            taken += 1;
            if let [kind, major, minor, high, low, body @ ..] = &self.partial[..]
                && body.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            {
                let (kind, version, body) = (*kind, [*major, *minor], body.to_vec());
                self.partial.clear();
                let result = match version {
                    VERSION => self.take_record(kind, &body),
                    _ => Err(self.alert(TlsFault::BadRecord.failure("a record of another version"))),
                };
                self.failure = result.as_ref().err().cloned();
                return result.map(|()| taken);
            }
        }
        Ok(taken)
    }

    fn take_plaintext(&mut self, sink: &mut dyn FnMut(&[u8])) {
        if !self.plaintext.is_empty() {
            sink(&std::mem::take(&mut self.plaintext));
        }
    }

    fn is_handshaking(&self) -> bool {
        self.peer.is_none()
    }

    fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    fn seal(&mut self, plaintext: &[IoSlice<'_>]) -> Result<(), Failure> {
        let all: Vec<u8> = plaintext.iter().flat_map(|slice| slice.to_vec()).collect();
        for record in all.chunks(self.record_len) {
            self.push_sealed(DATA, record);
        }
        Ok(())
    }

    fn close_notify(&mut self) {
        if self.is_handshaking() {
            self.push_record(ALERT, &[WARNING, CLOSE_NOTIFY]);
        } else {
            self.push_sealed(ALERT, &[WARNING, CLOSE_NOTIFY]);
        }
    }

    fn wants_send(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// In two slices, so that sends end within either.
    fn send(&mut self, sink: &mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        let (front, back) = self.outgoing.split_at(self.outgoing.len() / 2);
        let sent = sink(&[IoSlice::new(front), IoSlice::new(back)])?;
        self.outgoing.drain(..sent);
        Ok(sent)
    }

    fn info(&self) -> Option<TlsInfo> {
        (!self.is_handshaking()).then(|| TlsInfo::new(TlsVersion::V1_3, "TOY"))
    }
}

fn sum(kind: u8, plaintext: &[u8]) -> u8 {
    plaintext.iter().fold(kind, |sum, &byte| sum.rotate_left(1) ^ byte)
}

fn refused(alert: u8) -> Failure {
    TlsFault::Refused { alert }.failure("the peer sent an alert")
}

/// What the two sides say in the handshake.
pub(crate) const CLIENT_NUMBER: u8 = 0xc1;
pub(crate) const SERVER_NUMBER: u8 = 0x5e;
/// The whole ciphertext of a handshake message.
pub(crate) const HELLO_LEN: usize = HEADER_LEN + 1;
/// What a record adds to its plaintext.
pub(crate) const OVERHEAD: usize = HEADER_LEN + 1;

const HEADER_LEN: usize = 5;
const VERSION: [u8; 2] = [3, 3];
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED: u8 = 10;

//! Watches a handshake's ciphertext for two things that TLS libraries leave open: a peer that does not speak TLS at all,
//! and one that says goodbye before the handshake is over.

/// Looks at the headers of the records that arrive during a handshake, however they are cut.
#[derive(Debug, Default)]
pub(super) struct HandshakeWatch {
    /// The first bytes of the stream.
    opening: Vec<u8>,
    /// The header of the record that arrives, and of an alert its body too.
    record: Vec<u8>,
    /// What of the record's body is still to come.
    body_left: usize,
    goodbye: bool,
}

impl HandshakeWatch {
    /// These bytes came next.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        let room = OPENING_LEN - self.opening.len();
        self.opening.extend_from_slice(&bytes[..bytes.len().min(room)]);
        while let Some((&first, rest)) = bytes.split_first() {
            if self.body_left > 0 {
                let n = self.body_left.min(bytes.len());
                self.body_left -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.record.push(first);
            bytes = rest;
            match self.record[..] {
                // A plain alert: its level and what it says.
                [ALERT, _, _, 0, 2] | [ALERT, _, _, 0, 2, _] => {}
                [ALERT, _, _, 0, 2, _, says] => {
                    self.goodbye |= says == CLOSE_NOTIFY;
                    self.record.clear();
                }
                [kind, _, _, high, low] => {
                    // An encrypted alert that the library let pass can only be the same.
                    self.goodbye |= kind == ALERT;
                    self.body_left = usize::from(u16::from_be_bytes([high, low]));
                    self.record.clear();
                }
                _ => {}
            }
        }
    }

    /// Whether the peer has sent a close_notify.
    pub(super) fn goodbye(&self) -> bool {
        self.goodbye
    }

    /// What the peer speaks instead of TLS, if it does.
    pub(super) fn other_protocol(&self) -> Option<String> {
        let is_tls = match self.opening[..] {
            [] => true,
            [kind] => (20..=24).contains(&kind),
            [kind, major, ..] => (20..=24).contains(&kind) && major == 3,
        };
        if is_tls {
            return None;
        }
        let what = if HTTP.iter().any(|start| self.opening.starts_with(start)) {
            "it speaks plain HTTP"
        } else {
            "it does not speak TLS"
        };
        Some(format!("{what}: its first bytes are \"{}\"", self.opening.escape_ascii()))
    }
}

const ALERT: u8 = 21;
const CLOSE_NOTIFY: u8 = 0;
const OPENING_LEN: usize = 16;
/// How an answer and the common requests of HTTP begin.
const HTTP: [&[u8]; 7] = [b"HTTP/", b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT "];

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(pieces: &[&[u8]]) -> HandshakeWatch {
        let mut watch = HandshakeWatch::default();
        pieces.iter().for_each(|piece| watch.see(piece));
        watch
    }

    #[test]
    fn a_close_notify_is_found_behind_any_record_and_any_cut() {
        let stream =
            [&[22, 3, 1, 0, 3, 21, 3, 3][..], &[21, 3, 3, 0, 2, 1, 0], &[22, 3, 3, 0, 1, 9]].concat();
        for cut in 0..=stream.len() {
            assert!(watch(&[&stream[..cut], &stream[cut..]]).goodbye(), "cut at {cut}");
        }
        assert!(!watch(&[&stream[..14]]).goodbye(), "the alert is not complete");
    }

    #[test]
    fn other_alerts_and_bodies_that_look_like_one_are_let_pass() {
        assert!(!watch(&[&[21, 3, 3, 0, 2, 1, 112]]).goodbye());
        assert!(!watch(&[&[22, 3, 3, 0, 7, 21, 3, 3, 0, 2, 1, 0]]).goodbye());
    }

    #[test]
    fn a_peer_without_tls_is_quoted() {
        assert_eq!(watch(&[&[22, 3, 1]]).other_protocol(), None);
        let text = watch(&[b"HTT", b"P/1.1 400 Bad Request\r\n"]).other_protocol().expect("no TLS");
        assert!(text.contains("plain HTTP") && text.contains("HTTP/1.1 400 Bad"), "{text}");
        assert!(watch(&[b"SSH-2.0-x"]).other_protocol().expect("no TLS").contains("SSH-2.0-x"));
    }
}

//! Whom a connection is counted for once its PROXY header has named the client, and what becomes of one too many.

use bytes::Bytes;

use super::ConnectionGuard;
use crate::address::Address;
use crate::connection::Drive;
use crate::serve::Place;

impl Place for ConnectionGuard {
    fn admit_client(&mut self, client: &Address) -> Result<(), Bytes> {
        self.permit.admit_client(client).map_err(|cause| {
            self.shared.counters.refused(cause);
            // Its peer expects none but TLS's own messages.
            let speaks = self.shared.secure.is_none();
            if speaks { self.shared.admission.farewell().clone() } else { Bytes::new() }
        })
    }

    fn see_out(&self, drive: Drive) {
        self.shared.refused.see_out(drive);
    }
}

//! Any bytes from the peer, sealed or not, before, in and behind the handshake: the TLS pipe reads what the peer has sealed
//! or fails with a TLS failure.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses its part")]
#[path = "../../crates/millstream-core/tests/model/mod.rs"]
mod model;
#[allow(dead_code, reason = "each target uses its part")]
#[path = "../../crates/millstream-core/tests/model/tls/mod.rs"]
mod tls;

fuzz_target!(init: tls::bytes::expect_rustls_assertion(), |data: &[u8]| {
    if let Some((&setup, ops)) = data.split_first() {
        tls::bytes::run(setup, &model::decode(ops));
    }
});

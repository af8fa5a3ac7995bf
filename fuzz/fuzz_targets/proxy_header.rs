//! Any first bytes of a connection, cut at every byte: the PROXY parser says what a naive reading of the specification says,
//! and what it takes for a header comes back when it is written.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses its part")]
#[path = "../../crates/millstream-core/tests/model/mod.rs"]
mod model;

fuzz_target!(|data: &[u8]| {
    model::proxy::run(data);
});

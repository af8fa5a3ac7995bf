//! Lists of messages, partial sends and settings: the write queue behaves as a plain vector of bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses its part")]
#[path = "../../crates/millstream-core/tests/model/mod.rs"]
mod model;

fuzz_target!(|data: &[u8]| {
    model::write::run(&model::decode::<model::write::WriteOp>(data));
});

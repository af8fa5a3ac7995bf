//! Lists of segments, ends and reads: the read buffer answers as asyncio's reader does.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "each target uses its part")]
#[path = "../../crates/millstream-core/tests/model/mod.rs"]
mod model;

fuzz_target!(|data: &[u8]| {
    model::read_face::run(&model::decode::<model::read::ReadOp>(data));
});

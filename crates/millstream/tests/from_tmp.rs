//! scratch
use std::time::Duration;
#[tokio::test]
async fn big_io() {
    let (one, other) = tokio::io::duplex(1 << 20);
    let (_reader, writer) = millstream::from_io(one);
    let (mut reader, _w) = millstream::from_io(other);
    writer.write(&vec![7; 900_000]).unwrap();
    let all = tokio::time::timeout(Duration::from_secs(2), reader.read_exactly(900_000)).await;
    assert!(all.is_ok(), "{:?}", writer.stats());
}

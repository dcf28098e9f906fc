//! What is noted of a request.

use super::*;
use std::net::Ipv4Addr;

#[test]
fn wrong_tokens_of_any_number_of_addresses_are_few_rows() {
    let windows = Windows::default();
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
    let rows = (0..5000).filter_map(|n| windows.count(true, address(n % 1000)));
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), MOST_WINDOWS + 1);
    assert_eq!(windows.close((true, Some(address(3)))), 4);
    let others = windows.close((true, None));
    assert_eq!(others, 5 * (1000 - MOST_WINDOWS as u64) - 1);
    let own = (true, Some(address(3)));
    assert_eq!(windows.count(true, address(3)), Some(own));
    // None at all is another matter.
    let own = (false, Some(address(9)));
    assert_eq!(windows.count(false, address(9)), Some(own));
}

#[test]
fn the_operators_name_is_short_and_printable() {
    let shown = |bytes: &[u8]| operator(HeaderValue::from_bytes(bytes).ok().as_ref());
    assert_eq!(shown(b" eve@host "), Some("eve@host".to_owned()));
    assert_eq!(
        shown("jürgen@höhe".as_bytes()),
        Some("jürgen@höhe".to_owned())
    );
    assert_eq!(shown(b"a) from (b\tc"), Some("a from bc".to_owned()));
    assert_eq!(shown(b"  "), None);
    assert_eq!(
        shown(&[b'x'; 500]).map(|name| name.len()),
        Some(OPERATOR_CHARS)
    );
}

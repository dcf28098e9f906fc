//! Addresses that point inward: this machine, its networks, and what is no
//! address of one host on the internet.
//!
//! The blocks are those that IANA's special-purpose registries do not call
//! globally reachable, and the forms of IPv6 that carry an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address points inward: loopback, private, link-local, shared,
/// documentation, multicast, reserved, or an IPv6 form of such an address.
pub(crate) fn points_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => v4_points_inward(address),
        IpAddr::V6(address) => v6_points_inward(address),
    }
}

fn v4_points_inward(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., _, _)
    )
}

fn v6_points_inward(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([one, two], [three, four]) = (high.to_be_bytes(), low.to_be_bytes());
        v4_points_inward(Ipv4Addr::new(one, two, three, four))
    };
    match (a, b, c, d, e, f) {
        // As it is, mapped (RFC 4291), translated (RFC 2765) and by NAT64 (RFC 6052).
        // Holds :: and ::1 too, whose last part is in 0.0.0.0/8.
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => {
            v4(g, h)
        }
        // Kept for protocols, Teredo among them (RFC 2928); documentation.
        (0x2001, 0..=0x1ff | 0xdb8, ..) | (0x3fff, 0..=0xfff, ..) => true,
        // 6to4 (RFC 3056).
        (0x2002, ..) => v4(b, c),
        // Whatever else lies outside what is given out as global unicast.
        (0x2000..=0x3fff, ..) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_point_inward_are_told_from_those_of_the_internet() {
        for inward in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.0",
            "192.88.99.255",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:7f00:0:100::",
            "100::1",
            "2001:db8::1",
            "3fff:fff::1",
            "2002:7f00:1::",
            "2002:c0a8:101:1::1",
            "2001::1",
            "2001:0:808:808::f7f7:f7f7",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "3fff::1",
            "::2:8.8.8.8",
            "200::1",
            "1fff:ffff::1",
            "4000::1",
            "5f00::1",
            "fbff::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
        ] {
            assert!(points_inward(inward.parse().unwrap()), "{inward}");
        }
        for outward in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "203.0.114.1",
            "223.255.255.255",
            "::8.8.8.8",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2000::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "2606:4700::1111",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(!points_inward(outward.parse().unwrap()), "{outward}");
        }
    }
}

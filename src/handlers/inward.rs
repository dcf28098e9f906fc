//! Addresses that point inward: this machine, its networks, and what is no
//! address of one host on the internet.
//!
//! The blocks are those that IANA's special-purpose registries do not call
//! globally reachable, and the forms of IPv6 that carry an IPv4 address.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
        // For a network's own translation (RFC 8215), whatever it holds.
        (0x64, 0xff9b, 1, ..) => true,
        // Discarded (RFC 6666).
        (0x100, 0, 0, 0, ..) => true,
        // Teredo (RFC 4380): its server, and its client with all bits turned.
        (0x2001, 0, ..) => v4(c, d) || v4(!g, !h),
        // Documentation.
        (0x2001, 0xdb8, ..) | (0x3fff, 0..=0xfff, ..) => true,
        // 6to4 (RFC 3056).
        (0x2002, ..) => v4(b, c),
        // Unique local, link-local, site-local, multicast.
        (0xfc00..=0xfdff | 0xfe80..=0xfeff | 0xff00.., ..) => true,
        _ => false,
    }
}

/// A name whose addresses all point inward.
#[derive(Debug, thiserror::Error)]
#[error("{name} resolves to addresses that point inward only, e.g. {example}")]
pub(super) struct InwardOnly {
    name: String,
    example: IpAddr,
}

/// Resolves names and leaves out what points inward, so that what was checked
/// is what is connected to.
pub(super) struct OutwardOnly;

impl Resolve for OutwardOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is set where the connection is made.
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let first = found.first().map(SocketAddr::ip);
            let outward: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| !points_inward(address.ip()))
                .collect();
            match first {
                Some(example) if outward.is_empty() => Err(InwardOnly {
                    name: name.as_str().chars().take(260).collect(),
                    example,
                }
                .into()),
                _ => Ok(Box::new(outward.into_iter()) as Addrs),
            }
        })
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
            // The server, then the client (10.0.0.1 turned).
            "2001:0:a00:1::f7f7:f7f7",
            "2001:0:808:808::f5ff:fffe",
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
            "192.167.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "203.0.114.1",
            "223.255.255.255",
            "::8.8.8.8",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:0:808:808::f7f7:f7f7",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "2606:4700::1111",
            "3ffe::1",
            "fbff::1",
        ] {
            assert!(!points_inward(outward.parse().unwrap()), "{outward}");
        }
    }
}

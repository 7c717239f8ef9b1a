//! Where requests may go. Customers and vendors choose addresses, so an address is checked where it cannot change
//! any more: a literal in the parsed URL, a name in the very lookup whose answer the connection uses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The strictness of the guard, for vendors or for callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GuardPolicy {
    /// Lets loopback and private networks be reached, for a service on a developer's machine or inside a company.
    /// Link-local, metadata and everything else that is no place for a server stays refused.
    pub allow_private: bool,
}

/// The reason why an address was refused, fit to be shown to the user who gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The rule of a range: [`GuardPolicy::allow_private`] opens a private one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Private,
    Never,
}

/// IANA's special-purpose registries for IPv4 and IPv6, and the metadata services of clouds. The first match counts.
const RANGES: &[(&str, Rule, &str)] = &[
    ("0.0.0.0/8", Rule::Never, "unspecified"),
    ("10.0.0.0/8", Rule::Private, "private"),
    ("100.64.0.0/10", Rule::Private, "carrier-internal"),
    ("127.0.0.0/8", Rule::Private, "loopback"),
    ("168.63.129.16/32", Rule::Never, "metadata"),
    ("169.254.0.0/16", Rule::Never, "link-local"),
    ("172.16.0.0/12", Rule::Private, "private"),
    ("192.0.0.0/24", Rule::Never, "reserved"),
    ("192.0.2.0/24", Rule::Never, "documentation"),
    ("192.88.99.0/24", Rule::Never, "6to4 relay"),
    ("192.168.0.0/16", Rule::Private, "private"),
    ("198.18.0.0/15", Rule::Never, "benchmarking"),
    ("198.51.100.0/24", Rule::Never, "documentation"),
    ("203.0.113.0/24", Rule::Never, "documentation"),
    ("224.0.0.0/4", Rule::Never, "multicast"),
    ("255.255.255.255/32", Rule::Never, "broadcast"),
    ("240.0.0.0/4", Rule::Never, "reserved"),
    ("::/128", Rule::Never, "unspecified"),
    ("::1/128", Rule::Private, "loopback"),
    ("::/96", Rule::Never, "IPv4-compatible"),
    ("::ffff:0:0/96", Rule::Never, "IPv4-mapped"),
    ("::ffff:0:0:0/96", Rule::Never, "IPv4-translated"),
    ("64:ff9b::/96", Rule::Never, "NAT64"),
    ("64:ff9b:1::/48", Rule::Never, "NAT64"),
    ("2001::/32", Rule::Never, "Teredo"),
    ("2001::/23", Rule::Never, "reserved"),
    ("2001:db8::/32", Rule::Never, "documentation"),
    ("2002::/16", Rule::Never, "6to4"),
    ("3fff::/20", Rule::Never, "documentation"),
    ("fd00:ec2::254/128", Rule::Never, "metadata"),
    ("fc00::/7", Rule::Private, "private"),
    ("fe80::/10", Rule::Never, "link-local"),
    ("fec0::/10", Rule::Never, "site-local"),
    ("ff00::/8", Rule::Never, "multicast"),
];

/// The public addresses. All others are special, or not handed out.
const GLOBAL_V6: &str = "2000::/3";

/// Ports of services that speak no HTTP and might take a request for commands.
const REFUSED_PORTS: [u16; 16] = [0, 22, 23, 25, 53, 110, 143, 465, 587, 993, 995, 3306, 5432, 6379, 11211, 27017];

static PARSED: LazyLock<Vec<(IpNet, Rule, &str)>> =
    LazyLock::new(|| RANGES.iter().map(|(net, rule, kind)| (parse(net), *rule, *kind)).collect());
static GLOBAL: LazyLock<IpNet> = LazyLock::new(|| parse(GLOBAL_V6));

fn parse(net: &str) -> IpNet {
    IpNet::from_str(net).expect("the ranges are literals that a test parses")
}

impl GuardPolicy {
    /// The kind of a refused address; None when a request may go there.
    pub fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match PARSED.iter().find(|(net, _, _)| net.contains(&address)) {
            Some((_, Rule::Private, _)) if self.allow_private => None,
            Some((_, _, kind)) => Some(kind),
            None if address.is_ipv6() && !GLOBAL.contains(&address) => Some("reserved"),
            None => None,
        }
    }

    /// Checks what can be checked before a lookup: scheme, user information, port, and the host if it is an address.
    /// `url` has read decimal, octal and hexadecimal spellings of an IPv4 address already.
    pub fn check(self, url: &Url) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal(why));
        if !matches!(url.scheme(), "http" | "https") {
            return refuse(format!("{:?} is not http or https", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("a user name or password in the address".into());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if REFUSED_PORTS.contains(&port) {
            return refuse(format!("port {port} belongs to another service"));
        }
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) => return Ok(()),
            None => return refuse("no host".into()),
        };
        match self.refuses(address) {
            Some(kind) => refuse(format!("{address} is no public address: {kind}")),
            None => Ok(()),
        }
    }

    /// Checks the answer of a lookup. One refused address refuses the name: who mixes them means harm or is
    /// mistaken, and the connection might be made to either. The text does not tell the address, which may come
    /// from a network that its reader cannot see.
    fn check_all(self, addresses: &[IpAddr]) -> Result<(), Refusal> {
        match addresses.iter().any(|address| self.refuses(*address).is_some()) {
            true => Err(Refusal("the host has an address that is not public".into())),
            false => Ok(()),
        }
    }
}

/// A function that resolves names to addresses.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The system's own resolver.
pub fn system_lookup() -> Lookup {
    Arc::new(|host| {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    })
}

/// A resolver for an HTTP client that hands on only addresses that were checked.
pub(crate) struct GuardedResolver {
    pub(crate) policy: GuardPolicy,
    pub(crate) lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy;
        let lookup = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = lookup.await?;
            if addresses.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            policy.check_all(&addresses)?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: GuardPolicy = GuardPolicy { allow_private: false };
    const RELAXED: GuardPolicy = GuardPolicy { allow_private: true };

    /// First and last address of each range, and its neighbours where they are public.
    #[test]
    fn addresses_are_distinguished() {
        for (net, _, _) in PARSED.iter() {
            for address in [net.network(), net.broadcast()] {
                assert!(STRICT.refuses(address).is_some(), "{address} of {net}");
            }
        }
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450::1",
        ];
        for address in public {
            assert_eq!(STRICT.refuses(address.parse().expect(address)), None, "{address}");
        }
        let refused = [
            ("169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "IPv4-mapped"),
            ("::ffff:1.1.1.1", "IPv4-mapped"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("64:ff9b::a9fe:a9fe", "NAT64"),
            ("64:ff9b:1:2::1", "NAT64"),
            ("2002:7f00:1::1", "6to4"),
            ("2001:0:53aa::1", "Teredo"),
            ("fd00:ec2::254", "metadata"),
            ("100:0:0:0::1", "reserved"),
            ("5f00::1", "reserved"),
            ("4000::1", "reserved"),
        ];
        for (address, kind) in refused {
            for policy in [STRICT, RELAXED] {
                assert_eq!(policy.refuses(address.parse().expect(address)), Some(kind), "{address} {policy:?}");
            }
        }
        for address in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "100.100.100.200", "::1", "fd12::1"] {
            let address = address.parse().expect(address);
            assert!(STRICT.refuses(address).is_some(), "{address}");
            assert_eq!(RELAXED.refuses(address), None, "{address}");
        }
    }

    #[test]
    fn urls_are_judged_as_the_client_will_read_them() {
        let cases = [
            ("https://example.com/hook", ""),
            ("http://example.com:8443/", ""),
            ("https://93.184.215.14/", ""),
            ("https://[2606:4700:4700::1111]/", ""),
            ("http://127.0.0.1/", "127.0.0.1 is no public address: loopback"),
            ("http://2130706433/", "127.0.0.1 is no public address: loopback"),
            ("http://0177.0.0.1/", "127.0.0.1 is no public address: loopback"),
            ("http://0x7f000001/", "127.0.0.1 is no public address: loopback"),
            ("http://127.1/", "127.0.0.1 is no public address: loopback"),
            ("http://127.0.0.1./", "127.0.0.1 is no public address: loopback"),
            ("http://①②⑦.0.0.1/", "127.0.0.1 is no public address: loopback"),
            ("http://%31%32%37.0.0.1/", "127.0.0.1 is no public address: loopback"),
            ("http://0/", "0.0.0.0 is no public address: unspecified"),
            ("http://169.254.169.254/latest/meta-data", "169.254.169.254 is no public address: link-local"),
            ("http://0xa9.0xfe.0xa9.0xfe/", "169.254.169.254 is no public address: link-local"),
            ("http://[::ffff:169.254.169.254]/", "::ffff:169.254.169.254 is no public address: IPv4-mapped"),
            ("http://[64:ff9b::169.254.169.254]/", "64:ff9b::a9fe:a9fe is no public address: NAT64"),
            ("http://[fd00:ec2::254]/", "fd00:ec2::254 is no public address: metadata"),
            ("https://example.com@10.0.0.1/", "a user name or password in the address"),
            ("https://user:pass@example.com/", "a user name or password in the address"),
            ("ftp://example.com/", "\"ftp\" is not http or https"),
            ("file:///etc/passwd", "\"file\" is not http or https"),
            ("http://example.com:6379/", "port 6379 belongs to another service"),
            ("http://example.com:0/", "port 0 belongs to another service"),
        ];
        for (url, why) in cases {
            let outcome = STRICT.check(&url.parse().expect(url));
            assert_eq!(outcome.err().map_or(String::new(), |refusal| refusal.0), why, "{url}");
        }
        assert_eq!(RELAXED.check(&"http://127.0.0.1:8080/".parse().expect("a URL")), Ok(()));
        assert!(RELAXED.check(&"http://127.0.0.1:22/".parse().expect("a URL")).is_err());
    }
}

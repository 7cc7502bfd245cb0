//! `[[hba]]`: who may come from where, and by which proof; after PostgreSQL's pg_hba.conf.
//! The first rule that fits a connection decides about it; what no rule fits is refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::AuthType;
use crate::error::{ClientError, SqlState};

/// One rule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HbaRule {
    /// Where the client is.
    #[serde(default)]
    pub address: Origin,
    /// The users that it is for; all when empty or "all".
    #[serde(default)]
    pub users: Vec<String>,
    /// The databases that it is for; all when empty or "all".
    #[serde(default)]
    pub databases: Vec<String>,
    /// Only for encrypted connections (true), only for others (false), or for both.
    pub tls: Option<bool>,
    /// How the client proves who it is.
    pub method: AuthType,
}

/// Where clients are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Origin {
    /// Anywhere.
    #[default]
    All,
    /// On this machine, over a Unix socket.
    Local,
    /// In a network: the bits of an address, of which the first so many count.
    Network(IpAddr, u8),
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over the Unix socket.
    Unix,
}

impl Peer {
    /// The address; an IPv4 address that an IPv6 socket saw is an IPv4 address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}

impl Origin {
    /// Reads "all", "local", an address, or an address with the length of its prefix.
    pub fn parse(text: &str) -> Option<Origin> {
        match text {
            "all" => return Some(Origin::All),
            "local" => return Some(Origin::Local),
            _ => {}
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Some(most), |l| l.parse().ok())?;
        (length <= most).then_some(Origin::Network(address, length))
    }

    fn has(&self, peer: &Peer) -> bool {
        match (self, peer.ip()) {
            (Origin::All, _) => true,
            (Origin::Local, ip) => ip.is_none(),
            (Origin::Network(..), None) => false,
            (Origin::Network(network, length), Some(ip)) => match (network, ip) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    let differ = (a.to_bits() ^ b.to_bits()).leading_zeros();
                    differ >= u32::from(*length)
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    let differ = (a.to_bits() ^ b.to_bits()).leading_zeros();
                    differ >= u32::from(*length)
                }
                _ => false,
            },
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"\"all\", \"local\", an IP address, or a network such as 10.0.0.0/8";
        Origin::parse(&text)
            .ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

/// Who wants to log in, and over what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who<'a> {
    pub(super) peer: Peer,
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) encrypted: bool,
}

impl HbaRule {
    fn fits(&self, who: &Who<'_>) -> bool {
        let listed = |list: &[String], name: &str| {
            list.is_empty() || list.iter().any(|entry| entry == "all" || entry == name)
        };
        // Only an encrypted client can show a certificate.
        let tls = self.tls.or((self.method == AuthType::Cert).then_some(true));
        tls.is_none_or(|tls| tls == who.encrypted)
            && self.address.has(&who.peer)
            && listed(&self.users, who.user)
            && listed(&self.databases, who.database)
    }
}

/// The method for a connection, or the words of its refusal.
pub(super) fn method(rules: &[HbaRule], who: &Who<'_>) -> Result<AuthType, ClientError> {
    let rule = rules.iter().find(|rule| rule.fits(who));
    match rule.map(|rule| rule.method) {
        Some(AuthType::Reject) => Err(refusal("pgdrover's [[hba]] rejects connection", who)),
        Some(method) => Ok(method),
        None => Err(refusal("no entry in pgdrover's [[hba]]", who)
            .hint("Add a section [[hba]] that fits this connection.")),
    }
}

/// PostgreSQL's words, but for whose rules they are.
fn refusal(what: &str, who: &Who<'_>) -> ClientError {
    let host = who.peer.ip().map_or("[local]".into(), |ip| ip.to_string());
    let encryption = match who.encrypted {
        true => "SSL encryption",
        false => "no encryption",
    };
    let (user, database) = (who.user, who.database);
    ClientError::fatal(
        SqlState::INVALID_AUTHORIZATION,
        format!(
            "{what} for host \"{host}\", user \"{user}\", database \"{database}\", {encryption}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(address: &str, method: AuthType) -> HbaRule {
        HbaRule {
            address: Origin::parse(address).unwrap(),
            users: Vec::new(),
            databases: Vec::new(),
            tls: None,
            method,
        }
    }

    fn from(ip: &str) -> Who<'static> {
        Who {
            peer: match ip {
                "unix" => Peer::Unix,
                _ => Peer::Tcp(SocketAddr::new(ip.parse().unwrap(), 1)),
            },
            user: "u",
            database: "d",
            encrypted: false,
        }
    }

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3/0", "192.168.0.1", "unix"),
            ("10.1.0.0/16", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "127.0.0.1"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("::/0", "::1", "1.2.3.4"),
            ("local", "unix", "127.0.0.1"),
        ] {
            let rules = [rule(network, AuthType::Trust)];
            assert!(method(&rules, &from(inside)).is_ok(), "{network} {inside}");
            let refused = method(&rules, &from(outside)).is_err();
            assert!(refused, "{network} {outside}");
        }
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "host",
            "/8",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let mut rules = vec![
            rule("10.0.0.0/8", AuthType::Reject),
            rule("all", AuthType::Trust),
            rule("all", AuthType::Reject),
        ];
        assert!(method(&rules, &from("10.0.0.1")).is_err());
        assert_eq!(method(&rules, &from("11.0.0.1")), Ok(AuthType::Trust));
        rules[1].users = vec!["v".into(), "w".into()];
        assert!(method(&rules, &from("11.0.0.1")).is_err());
        rules[1].users.push("u".into());
        rules[1].databases = vec!["d".into()];
        assert_eq!(method(&rules, &from("unix")), Ok(AuthType::Trust));
        rules[1].databases = vec!["e".into(), "all".into()];
        assert_eq!(method(&rules, &from("unix")), Ok(AuthType::Trust));
        rules[1].databases = vec!["e".into()];
        assert!(method(&rules, &from("unix")).is_err());
    }

    #[test]
    fn encryption_may_be_asked_for_or_excluded() {
        let (plain, mut tls) = (from("1.1.1.1"), from("1.1.1.1"));
        tls.encrypted = true;
        let mut rules = [rule("all", AuthType::Trust)];
        for (wanted, fits_plain, fits_tls) in [
            (None, true, true),
            (Some(true), false, true),
            (Some(false), true, false),
        ] {
            rules[0].tls = wanted;
            assert_eq!(method(&rules, &plain).is_ok(), fits_plain);
            assert_eq!(method(&rules, &tls).is_ok(), fits_tls);
        }
        let rules = [rule("all", AuthType::Cert), rule("all", AuthType::Md5)];
        assert_eq!(method(&rules, &plain), Ok(AuthType::Md5));
        assert_eq!(method(&rules, &tls), Ok(AuthType::Cert));
    }

    #[test]
    fn refusals_have_postgresqls_words_and_our_name() {
        let error = method(&[], &from("1.2.3.4")).unwrap_err();
        assert_eq!(error.code, SqlState::INVALID_AUTHORIZATION);
        assert_eq!(
            error.message,
            "no entry in pgdrover's [[hba]] for host \"1.2.3.4\", user \"u\", database \"d\", \
             no encryption"
        );
        let error = method(&[rule("all", AuthType::Reject)], &from("unix")).unwrap_err();
        assert!(
            error
                .message
                .contains("rejects connection for host \"[local]\"")
        );
    }
}

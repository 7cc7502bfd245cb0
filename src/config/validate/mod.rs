//! What the settings mean together. Pure: every check adds its findings, none stops the others.

mod databases;

use std::collections::HashMap;
use std::net::IpAddr;

use super::Config;
use super::error::{Finding, Path};
use crate::session::{AuthType, UserSettings};
use crate::telemetry::logging;

/// Every contradiction in a configuration whose keys and types are right.
pub(super) fn validate(config: &Config) -> Vec<Finding> {
    let mut found = Findings::default();
    listener(config, &mut found);
    log(config, &mut found);
    limits(config, &mut found);
    control(config, &mut found);
    methods(config, &mut found);
    users(config, &mut found);
    auth_users(config, &mut found);
    databases::check(config, &mut found);
    found.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: Path, message: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding::new(path, message, remedy));
    }
}

fn listener(config: &Config, found: &mut Findings) {
    let path = Path::root("listener");
    let remedy = "write IP addresses or host names, separated by commas; * is every address";
    for host in config.listener.host.split(',').map(str::trim) {
        if host.is_empty() && !config.listener.unix_socket_dir.is_empty() {
            continue; // Only the Unix socket.
        }
        if host != "*" && !is_host(host) {
            found.add(
                path.key("host"),
                format!("\"{host}\" is not an address to listen on"),
                remedy,
            );
        }
    }
    if config.listener.max_client_conn == 0 {
        found.add(
            path.key("max_client_conn"),
            "no client could connect",
            "allow at least 1 client; the default is 1000",
        );
    }
    let address = &config.http.address;
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        (is_host(bare) || bare == "*") && port.parse::<u16>().is_ok()
    });
    if !address.is_empty() && !valid {
        found.add(
            Path::root("http").key("address"),
            format!("\"{address}\" is not an address of the form host:port"),
            "write for example \"127.0.0.1:9632\", or \"\" to switch it off",
        );
    }
}

fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // Digits and dots alone are an address, not a name.
    let numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse::<IpAddr>().is_ok() || (!text.is_empty() && !numeric && text.chars().all(name))
}

fn log(config: &Config, found: &mut Findings) {
    let level = &config.log.level;
    if logging::filter(level).is_err() {
        found.add(
            Path::root("log").key("level"),
            format!("\"{level}\" is not a log level"),
            "write error, warn, info, debug or trace, or a filter such as \"info,pgdrover::control=debug\"",
        );
    }
}

fn limits(config: &Config, found: &mut Findings) {
    let (pool, session) = (Path::root("pool"), Path::root("session"));
    if config.pool.default_pool_size == 0 {
        found.add(
            pool.key("default_pool_size"),
            "no connection to a server could be made",
            "allow at least 1; the default is 20",
        );
    }
    if config.pool.server_connect_timeout.is_zero() {
        found.add(
            pool.key("server_connect_timeout"),
            "no server could be reached in no time",
            "use for example \"15s\"",
        );
    }
    if config.session.client_login_timeout.is_zero() {
        found.add(
            session.key("client_login_timeout"),
            "no client could log in in no time",
            "use for example \"60s\"",
        );
    }
    if config.session.max_message_size < MIN_MESSAGE_SIZE {
        found.add(
            session.key("max_message_size"),
            format!(
                "{} bytes are too few for ordinary statements",
                config.session.max_message_size
            ),
            format!("allow at least {MIN_MESSAGE_SIZE} bytes; the default is 268435456"),
        );
    }
}

/// Smallest limit on a message with which clients can still work, in bytes.
const MIN_MESSAGE_SIZE: usize = 8192;

fn control(config: &Config, found: &mut Findings) {
    let path = Path::root("control");
    let control = &config.control;
    if !control.user.is_empty() && !config.users.iter().any(|u| u.name == control.user) {
        found.add(
            path.key("user"),
            format!("there is no user `{}`", control.user),
            "name one of [[users]], or leave it out to take the first",
        );
    }
    for (key, value) in [
        ("check_interval", control.check_interval),
        ("check_timeout", control.check_timeout),
    ] {
        if value.is_zero() {
            found.add(
                path.key(key),
                "the time must be greater than zero",
                "use for example \"5s\"",
            );
        }
    }
    if control.check_fails == 0 {
        found.add(
            path.key("check_fails"),
            "a server would be down before its first probe",
            "use at least 1; the default is 3",
        );
    }
}

/// The methods by which anybody may have to prove who they are, and where each is told.
fn methods_of(config: &Config) -> Vec<(Path, AuthType)> {
    if config.hba.is_empty() {
        let path = Path::root("session").key("auth_type");
        return vec![(path, config.session.auth_type)];
    }
    let rules = config.hba.iter().enumerate();
    rules
        .map(|(at, rule)| (Path::root("hba").index(at).key("method"), rule.method))
        .collect()
}

fn methods(config: &Config, found: &mut Findings) {
    let methods = methods_of(config);
    for (path, method) in &methods {
        if *method == AuthType::Cert && config.session.client_tls_ca_file.is_empty() {
            found.add(
                path.clone(),
                "\"cert\" without session.client_tls_ca_file: no certificate could be checked",
                "set client_tls_ca_file to the authorities that sign the clients' certificates",
            );
        }
    }
    if methods.iter().all(|(_, m)| *m == AuthType::Reject) {
        found.add(
            methods[0].0.clone(),
            "everybody is rejected: no client could log in",
            "use another method at least for some",
        );
    }
    for (at, rule) in config.hba.iter().enumerate() {
        if rule.method == AuthType::Cert && rule.tls == Some(false) {
            found.add(
                Path::root("hba").index(at).key("tls"),
                "only an encrypted client can show a certificate",
                "leave out tls, or use another method",
            );
        }
    }
    let session = &config.session;
    if !session.client_tls_ca_file.is_empty() && session.client_tls_cert_file.is_empty() {
        found.add(
            Path::root("session").key("client_tls_ca_file"),
            "`client_tls_ca_file` without `client_tls_cert_file`: no client could encrypt",
            "set client_tls_cert_file and client_tls_key_file",
        );
    }
}

fn users(config: &Config, found: &mut Findings) {
    let path = Path::root("users");
    if config.users.is_empty() {
        found.add(
            path.clone(),
            "there is no user: nobody could log in",
            "add a section [[users]] with name and password",
        );
    }
    unique(
        config.users.iter().map(|u| u.name.as_str()),
        &path,
        "user",
        found,
    );
    let methods: Vec<AuthType> = methods_of(config).into_iter().map(|(_, m)| m).collect();
    for (index, user) in config.users.iter().enumerate() {
        password(user, &methods, &path.index(index), found);
    }
}

/// Who asks for the other users must be known, and must be able to log in to the servers.
fn auth_users(config: &Config, found: &mut Findings) {
    let session = Path::root("session").key("auth_user");
    let mut named = vec![(session, config.session.auth_user.as_str())];
    for (index, database) in config.databases.iter().enumerate() {
        let path = Path::root("databases").index(index).key("auth_user");
        named.extend(database.auth_user.as_deref().map(|user| (path, user)));
    }
    for (path, name) in named {
        if name.is_empty() {
            continue;
        }
        let Some(user) = config.users.iter().find(|u| u.name == name) else {
            found.add(
                path,
                format!("there is no user `{name}`"),
                "name one of [[users]], who asks the servers for the others",
            );
            continue;
        };
        let hashed = user.password.as_ref().is_some_and(|p| is_scram_verifier(p));
        if hashed && user.server_password.is_none() {
            found.add(
                path,
                format!(
                    "user `{name}` has only a verifier: it cannot log in to the servers by itself"
                ),
                "give the user a server_password or server_password_file",
            );
        }
    }
}

fn password(user: &UserSettings, methods: &[AuthType], path: &Path, found: &mut Findings) {
    // A password from a file is to blame on the key that names the file.
    let key = if user.password_file.is_some() {
        "password_file"
    } else {
        "password"
    };
    let Some(password) = &user.password else {
        let without = methods
            .iter()
            .any(|m| matches!(m, AuthType::Trust | AuthType::Cert));
        if !without && user.password_file.is_none() {
            found.add(
                path.clone(),
                format!("user `{}` has no password", user.name),
                "add password or password_file; `pgdrover hash` makes a verifier that can stand here safely",
            );
        }
        return;
    };
    if password.is_empty() {
        found.add(
            path.key(key),
            "the password is empty",
            "write a password: an empty one never logs in",
        );
    }
    if password.starts_with("SCRAM-SHA-256$") && !is_scram_verifier(password) {
        found.add(
            path.key(key),
            "the password begins as a SCRAM-SHA-256 verifier, but is not one",
            "copy it whole: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, as pg_authid.rolpassword has it",
        );
    }
    let md5 = methods.contains(&AuthType::Md5);
    let digest = password
        .strip_prefix("md5")
        .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    match digest.map(str::len) {
        Some(32) if !md5 && methods.contains(&AuthType::ScramSha256) => found.add(
            path.key(key),
            "an MD5 hash cannot be used with auth_type \"scram-sha-256\"",
            "make a verifier with `pgdrover hash`, or set auth_type = \"md5\"",
        ),
        Some(24..32 | 33..40) => found.add(
            path.key(key),
            "the password looks like an MD5 hash, but has not 32 hexadecimal digits after md5",
            "copy it whole, as pg_authid.rolpassword has it",
        ),
        _ => {}
    }
}

fn is_scram_verifier(text: &str) -> bool {
    use base64::Engine;
    let decode = |part: &str| base64::engine::general_purpose::STANDARD.decode(part).ok();
    let key = |part: &str| decode(part).is_some_and(|bytes| bytes.len() == 32);
    let mut parts = text.split('$').skip(1);
    let (Some(salted), Some(keys), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let (Some((iterations, salt)), Some((stored, server))) =
        (salted.split_once(':'), keys.split_once(':'))
    else {
        return false;
    };
    iterations.parse::<u32>().is_ok_and(|i| i > 0)
        && decode(salt).is_some_and(|s| !s.is_empty())
        && key(stored)
        && key(server)
}

/// Names that are empty, or that an earlier entry of the list has.
fn unique<'a>(names: impl Iterator<Item = &'a str>, path: &Path, what: &str, found: &mut Findings) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, name) in names.enumerate() {
        let path = path.index(index).key("name");
        if name.is_empty() {
            found.add(path, "the name is empty", format!("give the {what} a name"));
        } else if let Some(first) = seen.get(name) {
            found.add(
                path,
                format!(
                    "{what} `{name}` is declared twice (first as number {})",
                    first + 1
                ),
                "remove one of the two, or rename it",
            );
        } else {
            seen.insert(name, index);
        }
    }
}

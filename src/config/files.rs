//! The files that a configuration names: passwords and TLS.

use std::io;
use std::path::Path as FilePath;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Config;
use super::error::{Finding, Path};
use crate::session::ClientTlsMode;

type ReadFile<'a> = &'a dyn Fn(&FilePath) -> io::Result<String>;

/// Reads password files into the users and looks into the TLS files.
pub(super) fn read(config: &mut Config, read_file: ReadFile<'_>) -> Vec<Finding> {
    let mut findings = passwords(config, read_file);
    findings.extend(client_tls(config, read_file));
    for (section, key, file) in [
        (
            "session",
            "client_tls_ca_file",
            &config.session.client_tls_ca_file,
        ),
        (
            "pool",
            "server_tls_ca_file",
            &config.pool.server_tls_ca_file,
        ),
    ] {
        if !file.is_empty() {
            let path = Path::root(section).key(key);
            findings.extend(pem(&path, file, Pem::Certificates, read_file));
        }
    }
    findings
}

/// Makes the TLS files' names valid from any working directory's point of view: relative names
/// are relative to the configuration's folder.
pub(super) fn anchor(config: &mut Config, folder: &FilePath) {
    for file in [
        &mut config.session.client_tls_cert_file,
        &mut config.session.client_tls_key_file,
        &mut config.session.client_tls_ca_file,
        &mut config.pool.server_tls_ca_file,
    ] {
        if !file.is_empty() {
            *file = folder.join(&*file).display().to_string();
        }
    }
}

fn passwords(config: &mut Config, read_file: ReadFile<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, user) in config.users.iter_mut().enumerate() {
        let path = Path::root("users").index(index);
        for (key, file, password) in [
            ("password", &user.password_file, &mut user.password),
            (
                "server_password",
                &user.server_password_file,
                &mut user.server_password,
            ),
        ] {
            let Some(file) = file else { continue };
            let path = path.key(&format!("{key}_file"));
            if password.is_some() {
                findings.push(Finding::new(
                    path,
                    format!("both `{key}` and `{key}_file` are given"),
                    format!("keep one of them; `{key}_file` keeps the secret out of this file"),
                ));
                continue;
            }
            match read_file(FilePath::new(file))
                .map(|text| text.lines().next().unwrap_or_default().to_owned())
            {
                Ok(line) if line.is_empty() => findings.push(Finding::new(
                    path,
                    format!("the first line of {file} is empty"),
                    "write the password on the first line of that file",
                )),
                Ok(line) => *password = Some(line.into()),
                Err(error) => findings.push(unreadable(path, file, &error)),
            }
        }
    }
    findings
}

fn client_tls(config: &Config, read_file: ReadFile<'_>) -> Vec<Finding> {
    let session = &config.session;
    let mut findings = Vec::new();
    let keys = [
        (
            "client_tls_cert_file",
            &session.client_tls_cert_file,
            Pem::Certificates,
        ),
        (
            "client_tls_key_file",
            &session.client_tls_key_file,
            Pem::Key,
        ),
    ];
    let path = Path::root("session");
    for (at, (key, file, kind)) in keys.iter().enumerate() {
        let (other_key, other_file, _) = &keys[1 - at];
        if !file.is_empty() {
            findings.extend(pem(&path.key(key), file, *kind, read_file));
            if other_file.is_empty() {
                findings.push(Finding::new(
                    path.key(key),
                    format!("`{key}` without `{other_key}`"),
                    format!("add `{other_key}`: TLS needs the certificate and its private key"),
                ));
            }
        }
    }
    if session.client_tls_mode == ClientTlsMode::Require && keys.iter().all(|k| k.1.is_empty()) {
        findings.push(Finding::new(
            path.key("client_tls_mode"),
            "\"require\" without a certificate: no client could connect",
            "set client_tls_cert_file and client_tls_key_file, or client_tls_mode = \"allow\"",
        ));
    }
    findings
}

/// What a PEM file should hold.
#[derive(Clone, Copy)]
enum Pem {
    Certificates,
    Key,
}

fn pem(path: &Path, file: &str, kind: Pem, read_file: ReadFile<'_>) -> Option<Finding> {
    let text = match read_file(FilePath::new(file)) {
        Ok(text) => text,
        Err(error) => return Some(unreadable(path.clone(), file, &error)),
    };
    let (valid, what) = match kind {
        Pem::Certificates => {
            let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes()).peekable();
            (
                certificates.peek().is_some() && certificates.all(|c| c.is_ok()),
                "certificate",
            )
        }
        Pem::Key => (
            PrivateKeyDer::from_pem_slice(text.as_bytes()).is_ok(),
            "private key",
        ),
    };
    (!valid).then(|| {
        Finding::new(
            path.clone(),
            format!("{file} holds no {what} in PEM form"),
            format!(
                "name a file with a block that begins with -----BEGIN {}-----",
                what.to_uppercase()
            ),
        )
    })
}

fn unreadable(path: Path, file: &str, error: &io::Error) -> Finding {
    Finding::new(
        path,
        format!("cannot read {file}: {error}"),
        match error.kind() {
            io::ErrorKind::NotFound => {
                "correct the path; a relative one begins in the folder of this file"
            }
            _ => "name a text file that the user who runs pgdrover can read",
        },
    )
}

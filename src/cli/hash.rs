//! `pgdrover hash`: a password's verifier, to stand in the configuration in its place.

use std::io::{BufRead, IsTerminal};
use std::process::ExitCode;

use postgres_protocol::password;

use super::{complain, say};

/// Turn a password into a verifier for the configuration (or for ALTER ROLE).
///
/// The password is read from the terminal without echo, or from the first line of the standard
/// input. The verifier is salted: each run prints another.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The user's name: MD5 hashes depend on it.
    #[arg(short = 'U', long, value_name = "NAME")]
    user: Option<String>,
    /// An MD5 hash instead of a SCRAM-SHA-256 verifier.
    #[arg(long, requires = "user")]
    md5: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    match read_password().and_then(|password| verifier(&args, &password)) {
        Ok(verifier) => {
            say(verifier);
            ExitCode::SUCCESS
        }
        Err(message) => {
            complain(message);
            ExitCode::FAILURE
        }
    }
}

fn verifier(args: &Args, password: &str) -> Result<String, String> {
    if password.is_empty() {
        return Err("the password is empty: an empty password never logs in".into());
    }
    Ok(match &args.user {
        Some(user) if args.md5 => password::md5(password.as_bytes(), user),
        _ => password::scram_sha_256(password.as_bytes()),
    })
}

fn read_password() -> Result<String, String> {
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| format!("cannot read the password: {error}");
    if !stdin.is_terminal() {
        let mut line = String::new();
        stdin.lock().read_line(&mut line).map_err(failed)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first = rpassword::prompt_password("Password: ").map_err(failed)?;
    let again = rpassword::prompt_password("Again: ").map_err(failed)?;
    if first == again {
        Ok(first)
    } else {
        Err("the two passwords differ".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_is_salted_with_the_name() {
        let args = Args {
            user: Some("app".into()),
            md5: true,
        };
        // select 'md5' || md5('secret' || 'app')
        assert_eq!(
            verifier(&args, "secret").unwrap(),
            "md56a422f785c9e20873908ce25d1736ae2"
        );
    }

    #[test]
    fn scram_has_its_form() {
        let args = Args {
            user: None,
            md5: false,
        };
        let verifier = verifier(&args, "secret").unwrap();
        assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
        assert!(super::verifier(&args, "").is_err());
    }
}

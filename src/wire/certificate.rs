//! What is read of a certificate beyond what rustls checks.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Tag, Tagged};

/// The hash for channel binding of type `tls-server-end-point` (RFC 5929, section 4.1): the
/// certificate under the hash of its own signature, with SHA-256 for MD5 and SHA-1. `None` where
/// PostgreSQL cannot say either: signatures with no hash of their own (Ed25519), or one among their
/// parameters (RSA-PSS).
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::from_der(der).ok()?;
    let hash = match &*certificate.signature_algorithm.oid.to_string() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Sha256::digest(der).to_vec(),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => Sha224::digest(der).to_vec(),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Sha384::digest(der).to_vec(),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Sha512::digest(der).to_vec(),
        _ => return None,
    };
    Some(hash)
}

/// The common name of the certificate's subject. `None` if there is none, or several, or one that
/// somebody could read otherwise: with a NUL in it, or in an encoding that nobody uses.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    const COMMON_NAME: &str = "2.5.4.3";
    let certificate = Certificate::from_der(der).ok()?;
    let parts = certificate.tbs_certificate.subject.0.iter();
    let mut names = parts
        .flat_map(|part| part.0.iter())
        .filter(|attribute| attribute.oid.to_string() == COMMON_NAME);
    let name = names.next().filter(|_| names.next().is_none())?;
    let readable = matches!(
        name.value.tag(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String
    );
    let text = std::str::from_utf8(name.value.value()).ok()?;
    (readable && !text.contains('\0')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, SignatureAlgorithm};

    use super::*;

    fn signed_by(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let der = signed_by(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(end_point(&der).unwrap(), Sha256::digest(&der).to_vec());
        let der = signed_by(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(end_point(&der).unwrap(), Sha384::digest(&der).to_vec());
        assert_eq!(end_point(&signed_by(&rcgen::PKCS_ED25519)), None);
        assert_eq!(end_point(b"no certificate"), None);
    }

    fn named(names: &[&str]) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (at, name) in names.iter().enumerate() {
            let kind = match at {
                0 => rcgen::DnType::CommonName,
                _ => rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]),
            };
            params.distinguished_name.push(kind, *name);
        }
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_the_only_one() {
        assert_eq!(common_name(&named(&["app"])).as_deref(), Some("app"));
        assert_eq!(common_name(&named(&["ä b"])).as_deref(), Some("ä b"));
        assert_eq!(common_name(&named(&[])), None);
        assert_eq!(common_name(&named(&["app\0.evil"])), None);
        assert_eq!(common_name(&named(&["app", "other"])), None);
        assert_eq!(common_name(b"no certificate"), None);
    }
}

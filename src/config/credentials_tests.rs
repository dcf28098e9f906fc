//! Tests of the credentials of sites.

use super::*;
use secrecy::ExposeSecret as _;

#[test]
fn each_site_has_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a:1.key"), "hunter22\n").unwrap();
    std::fs::write(folder.path().join("short.key"), "hunter2").unwrap();
    std::fs::write(folder.path().join("large.key"), "hunter2\n".repeat(9000)).unwrap();
    std::fs::create_dir(folder.path().join("folder.key")).unwrap();
    let pipe = folder.path().join("pipe.key");
    let made = std::process::Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    let credential = Credential::PerSite(folder.path().join("{site_id}.key"));
    let secret = credential.of_site("a:1").unwrap();
    assert_eq!(secret.expose_secret(), "hunter22");
    for (site, expected) in [
        ("b", "does not exist"),
        ("short", "at least 8 characters"),
        ("../a:1", "is not a site id"),
        ("folder", "is no file of at most 65536 bytes"),
        ("large", "is no file of at most 65536 bytes"),
        ("pipe", "is no file of at most 65536 bytes"),
    ] {
        let told = credential.of_site(site).unwrap_err();
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let shared = Credential::Shared(SecretString::from("hunter22"));
    assert_eq!(shared.of_site("../x").unwrap().expose_secret(), "hunter22");
}

//! Files that another implementation of SOPS writes open too: `rops`, which shares no code with ours.

use moorline::decide::sops::{self, Format, Identities};
use rops::cryptography::cipher::AES256GCM;
use rops::cryptography::hasher::SHA512;
use rops::file::RopsFile;
use rops::file::builder::RopsFileBuilder;
use rops::file::format::YamlFileFormat;
use rops::file::state::EncryptedFile;
use rops::integration::AgeIntegration;

const KEY: &str = include_str!("vectors/sops/keys/host1.txt");

#[test]
fn a_file_that_rops_sealed_opens_with_our_decoder() {
    let recipient = KEY.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("age-keygen wrote it");
    let plain = "all:\n  SHARED: one\nweb:\n  PASSWORD: \"two ü\"\n  PORT: 8080\n  ON: true\n";
    let sealed: RopsFile<EncryptedFile<AES256GCM, SHA512>, YamlFileFormat> =
        RopsFileBuilder::<YamlFileFormat>::new(plain)
            .expect("YAML")
            .add_integration_key::<AgeIntegration>(recipient.parse().expect("a recipient"))
            .encrypt()
            .expect("sealed");
    let text = sealed.to_string();
    assert!(!text.contains("two"));
    let identities = Identities::parse(KEY).expect("a key");
    let document = sops::decrypt(text.as_bytes(), Format::Yaml, &identities).expect("it opens");
    let opened = document.emit().expect("it prints");
    let opened: serde_yaml::Value = serde_yaml::from_slice(opened.expose()).expect("YAML");
    assert_eq!(opened, serde_yaml::from_str::<serde_yaml::Value>(plain).expect("YAML"));
}

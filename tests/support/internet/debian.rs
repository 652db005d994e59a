//! Debian packages and signed repositories of them, as apt takes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::super::run::Run as _;
use super::super::scratch::Scratch;

/// A package in the making.
#[derive(Debug)]
pub struct Deb {
    root: PathBuf,
    name: &'static str,
}

impl Deb {
    /// An empty package; `relations` are further lines of its control file.
    #[track_caller]
    pub fn new(scratch: &Scratch, name: &'static str, relations: &str) -> Self {
        let root = scratch.directory(Path::new("packages").join(name));
        let control = format!(
            "Package: {name}\nVersion: 1:1.0\nArchitecture: amd64\nMaintainer: lab <lab@example.org>\n{relations}\
             Description: {name} of the lab\n"
        );
        scratch.write(root.join("DEBIAN/control"), control);
        Self { root, name }
    }

    /// Adds a text.
    pub fn file(self, path: &str, mode: u32, content: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.place(path);
        std::fs::write(&path, content).expect("the scratch is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        self
    }

    /// Adds a program of the machine.
    pub fn program(self, path: &str, from: &Path) -> Self {
        std::fs::copy(from, self.place(path)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self
    }

    fn place(&self, path: &str) -> PathBuf {
        let path = self.root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("the scratch is writable");
        path
    }

    /// Packs it; returns the package.
    #[track_caller]
    pub fn build(self) -> PathBuf {
        let package = self.root.with_file_name(format!("{}.deb", self.name));
        let mut build = Command::new("dpkg-deb");
        // Packed and unpacked once, on the same disk.
        build.args(["--root-owner-group", "-Znone", "--build"]).arg(&self.root).arg(&package).run().succeeds();
        std::fs::remove_dir_all(&self.root).expect("it is ours");
        package
    }
}

/// Who signs repositories: a key in a keyring of its own.
#[derive(Debug)]
pub struct Signatory {
    scratch: Scratch,
    /// As `gpg` prints it.
    pub fingerprint: String,
}

impl Signatory {
    #[track_caller]
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let mut signatory = Self { scratch, fingerprint: String::new() };
        let make = ["--passphrase", "", "--quick-generate-key", "lab@example.org", "ed25519", "sign", "2d"];
        signatory.gpg(&make).run().succeeds();
        let listed = signatory.gpg(&["--with-colons", "--list-keys"]).run().succeeds();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).expect("gpg lists it");
        signatory.fingerprint = line.split(':').nth(9).expect("a fingerprint").to_owned();
        signatory
    }

    #[track_caller]
    fn gpg(&self, arguments: &[&str]) -> Command {
        let mut gpg = self.scratch.command("gpg");
        gpg.args(["--batch", "--quiet", "--no-tty"]).args(arguments);
        gpg
    }

    /// Writes the public key as a file of text, or as apt's older form of bytes.
    #[track_caller]
    pub fn export(&self, to: &Path, is_text: bool) {
        std::fs::create_dir_all(to.parent().expect("below a root")).expect("the scratch is writable");
        let form: &[&str] = if is_text { &["--armor", "--export"] } else { &["--export"] };
        self.gpg(&["--output", &to.display().to_string()]).args(form).run().succeeds();
    }

    /// Makes a repository of these packages at `root`: one suite, one component, and signed.
    #[track_caller]
    pub fn publish(&self, root: &Path, suite: &str, component: &str, packages: &[PathBuf]) {
        let mut index = String::new();
        for package in packages {
            let name = package.file_name().expect("a file").to_string_lossy().into_owned();
            let pool = root.join("pool");
            std::fs::create_dir_all(&pool).expect("the scratch is writable");
            let content = std::fs::read(package).unwrap_or_else(|error| panic!("{}: {error}", package.display()));
            let fields = Command::new("dpkg-deb").arg("--field").arg(package).run().succeeds();
            let digest = digest(&content);
            // apt takes `%3a` in a path for the escape that it is.
            let file = name.replace('%', "_");
            index += &format!("{fields}\nFilename: pool/{file}\nSize: {}\nSHA256: {digest}\n\n", content.len());
            std::fs::write(pool.join(file), content).expect("the scratch is writable");
        }
        let place = format!("{component}/binary-amd64/Packages");
        let release = format!(
            "Origin: lab\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: {component}\n\
             Date: {}\nSHA256:\n {} {} {place}\n",
            Command::new("date").args(["-uR"]).run().succeeds(),
            digest(index.as_bytes()),
            index.len(),
        );
        let suite = root.join("dists").join(suite);
        std::fs::create_dir_all(suite.join(&place).parent().expect("below the root")).expect("the scratch is writable");
        std::fs::write(suite.join(place), index).expect("the scratch is writable");
        let plain = self.scratch.write("Release", release);
        self.gpg(&["--yes", "--output"]).arg(suite.join("InRelease")).arg("--clearsign").arg(plain).run().succeeds();
    }
}

/// SHA-256 in hexadecimal.
pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

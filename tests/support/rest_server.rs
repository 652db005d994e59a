//! A real server of restic's REST protocol: rclone, in front of a directory.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::run::Run as _;
use super::scratch::Scratch;
use super::wait::until;

/// The server. Dropping it ends it and removes what it stores.
#[derive(Debug)]
pub struct RestServer {
    process: Child,
    scratch: Scratch,
    port: u16,
}

impl RestServer {
    pub const USER: &str = "alpha";
    pub const PASSWORD: &str = "canary-rest-login-83d1";

    /// Over plain HTTP, for one user.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Scratch::new(), &[])
    }

    /// Over HTTPS, with a certificate of an authority of its own.
    #[track_caller]
    pub fn secure() -> Self {
        let scratch = Scratch::new();
        let openssl = |arguments: &str| {
            Command::new("openssl").args(arguments.split(' ')).current_dir(scratch.path()).run().succeeds();
        };
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("{new} -x509 -days 2 -subj /CN=lab-authority -keyout authority.key -out authority.crt"));
        openssl(&format!("{new} -subj /CN=lab-server -keyout server.key -out server.csr"));
        scratch.write("names", "subjectAltName = DNS:localhost, IP:127.0.0.1\n");
        openssl(
            "x509 -req -days 2 -CA authority.crt -CAkey authority.key -CAcreateserial -extfile names -in server.csr -out \
             server.crt",
        );
        let (certificate, key) = (scratch.join("server.crt"), scratch.join("server.key"));
        let arguments = [format!("--cert={}", certificate.display()), format!("--key={}", key.display())];
        Self::with(scratch, &arguments)
    }

    #[track_caller]
    fn with(scratch: Scratch, more: &[String]) -> Self {
        let served = scratch.directory("served");
        let log = scratch.join("log");
        let mut rclone = scratch.command("rclone");
        rclone.args(["serve", "restic", "--config=", "--addr=127.0.0.1:0", "--user", Self::USER]);
        // What is on the disk counts, also when a test changed it.
        rclone.arg("--cache-objects=false");
        rclone.args(["--pass", Self::PASSWORD]).args(more).arg(&served);
        rclone.stdin(Stdio::null()).stdout(Stdio::null());
        let process = rclone.stderr(std::fs::File::create(&log).expect("the scratch is writable")).spawn();
        let mut server = Self { process: process.expect("rclone starts"), scratch, port: 0 };
        server.port = until("rclone listens", || {
            let log = std::fs::read_to_string(&log).ok()?;
            let (_, after) = log.split_once("://127.0.0.1:")?;
            after.split_once('/')?.0.parse().ok()
        });
        server
    }

    /// What it serves.
    pub fn served(&self) -> PathBuf {
        self.scratch.join("served")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `USER:PASSWORD`.
    pub fn login() -> String {
        format!("{}:{}", Self::USER, Self::PASSWORD)
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.scratch.join("authority.crt")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

//! Judges whether a host can do its job: every check with what it needs, and what to type where it is not so.
//!
//! The table [`Check::table`] is the source of `docs/doctor.md`.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::decide::fault::Fault;

pub mod engine;
pub mod machine;
pub mod standing;
pub mod units;

/// Whose eyes see what a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    /// Those of root only.
    Root,
    /// Anybody's.
    Anybody,
}

macro_rules! checks {
    ($($variant:ident, $name:literal, $eyes:ident, $needs:literal, $fix:literal;)*) => {
        /// One thing that a host needs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Check {
            $(#[doc = $needs] $variant,)*
        }

        impl Check {
            /// Every check, in the order in which they are made.
            pub const ALL: &[Check] = &[$(Check::$variant,)*];

            /// The name, who can see it, what is needed, and what to do in general.
            pub fn table(self) -> (&'static str, Eyes, &'static str, &'static str) {
                match self {
                    $(Check::$variant => ($name, Eyes::$eyes, $needs, $fix),)*
                }
            }
        }
    };
}

checks! {
    Settings, "settings", Anybody, "`agent.toml` is there and has no mistake", "`editor /etc/moorline/agent.toml`: docs/agent.toml.md explains every key";
    Agent, "agent", Root, "the services run the file that is installed, not one that was replaced", "`systemctl restart moorline-courier moorline`";
    Version, "version", Anybody, "the version of moorline that the ring names runs here", "`moorline status`; docs/update.md says what may be in its way";
    Units, "units", Anybody, "the units are installed, enabled and active, none has failed, and no drop-in takes away what protects them", "`journalctl -u UNIT -n 50`, then `systemctl enable --now UNIT`";
    LastRun, "last run", Root, "the keeper looked at this host lately, and its run ended well", "`moorline status`; `systemctl restart moorline`";
    Hold, "hold", Root, "nobody holds this host or one of its stacks", "`moorline release`";
    Leftovers, "work in flight", Root, "nothing is left that a run, a backup or a restore began and did not end", "`moorline reconcile`";
    Deploys, "deploys", Root, "no stack was rolled back or given up", "merge what mends it, or `moorline retry STACK`";
    Git, "git", Anybody, "git is installed", "`apt install git`";
    Ssh, "ssh", Anybody, "ssh is installed", "`apt install openssh-client`";
    DeployKey, "deploy key", Root, "the key for the git server is there, and others cannot read it", "`ssh-keygen -t ed25519 -N '' -f /etc/moorline/ssh/deploy`, and register deploy.pub as a deploy key, to read only";
    KnownHosts, "known hosts", Root, "a host key of the git server is pinned", "`ssh-keyscan HOST >> /etc/moorline/ssh/known_hosts`, then compare with the fingerprint the server publishes";
    GitServer, "git server", Root, "the git server answers, takes the key, and has the branch", "`moorline courier --once`";
    Repository, "repository", Root, "the courier has fetched the repository", "`moorline courier --once`";
    Signers, "allowed signers", Root, "the list of who may sign the first revision can be read", "`editor /etc/moorline/allowed_signers`: docs/trust.md";
    Ledger, "ledger", Root, "what this host remembers can be believed", "docs/trust.md, below `A ledger that is damaged`";
    AgeKey, "age key", Root, "this host's key is there, and others cannot read it", "`moorline key generate`";
    Host, "host", Root, "the repository has this host", "`moorline host new NAME` in a checkout, or mend `host` in agent.toml";
    Enrolment, "enrolment", Root, "the repository names this host's key", "in a checkout: `moorline host enroll NAME RECIPIENT`, then `sops updatekeys --yes hosts/NAME/secrets.sops.yaml`";
    Secrets, "secrets", Root, "the host's secrets can be opened", "in a checkout: `sops updatekeys --yes hosts/NAME/secrets.sops.yaml`";
    State, "state", Root, "what must survive a reboot can be written", "`df -h /var/lib/moorline`; `mount -o remount,rw ...`";
    Disk, "disk", Anybody, "there is room, and there are inodes, for moorline and for the engine", "`docker system df`; `du -xh --max-depth=2 / | sort -h | tail`";
    Memory, "memory", Anybody, "secrets lie in memory that is never swapped out", "`systemctl start run-moorline.mount`";
    Swap, "swap", Anybody, "nothing that is in memory only can be swapped to a disk", "`swapoff --all`, and take the line out of /etc/fstab";
    Clock, "clock", Anybody, "the clock is set by the network, and is not behind what was accepted", "`timedatectl set-ntp true`";
    Zone, "time zone", Anybody, "the host's time zone is known: nights and freezes may count by it", "`timedatectl set-timezone Europe/Berlin`";
    Engine, "engine", Root, "the Docker Engine answers", "`systemctl status docker`";
    EngineSettings, "engine settings", Root, "the engine stores layers well, and lets containers run on while it is updated", "`editor /etc/docker/daemon.json`";
    Plugin, "compose plugin", Anybody, "the Compose plugin is there and new enough", "`apt install docker-compose-plugin` from Docker's own repository";
    Ports, "ports", Anybody, "80 and 443 are free, or a container's", "`ss -ltnp 'sport = :80 or sport = :443'`";
    Routes, "routes", Root, "Traefik serves every route", "`moorline routes`";
    Monitors, "monitors", Root, "the servers of the push URLs answer", "copy the push URL from the monitor's page in Uptime Kuma into this host's secrets.sops.yaml";
    Messages, "messages", Root, "messages do not pile up", "`journalctl -u moorline-courier -n 50`";
    Nights, "nights", Root, "the last nights made what they should", "`moorline backup`; `journalctl -u moorline-backup -n 100`";
    Backups, "backups", Root, "every backup repository answers, and its password opens it", "`moorline snapshots`";
    Tailnet, "tailnet", Anybody, "the tailnet is up, if there is one", "`tailscale up --ssh`";
    Upgrades, "upgrades", Anybody, "security upgrades come by themselves, and none waits for a reboot", "`apt install unattended-upgrades`";
}

impl Check {
    /// The name.
    pub fn name(self) -> &'static str {
        self.table().0
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diagnosis {
    /// It is as it should be; what was found.
    Fine(String),
    /// It does not concern this host; why.
    Idle(String),
    /// It could not be seen; why.
    Unseen(String),
    /// The host does its job, and this should be mended all the same.
    Weak(Trouble),
    /// The host cannot do its job, or not all of it.
    Broken(Trouble),
}

/// What is wrong, and what to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One sentence.
    pub sentence: String,
    /// Causes, outermost first.
    pub because: Vec<String>,
    /// A command or an edit.
    pub fix: String,
}

/// A check, and what it came to. A check that looks at several things may have several findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What it came to.
    pub diagnosis: Diagnosis,
}

impl Diagnosis {
    /// The word in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Diagnosis::Fine(_) => "fine",
            Diagnosis::Idle(_) => "idle",
            Diagnosis::Unseen(_) => "unseen",
            Diagnosis::Weak(_) => "weak",
            Diagnosis::Broken(_) => "broken",
        }
    }
}

impl Trouble {
    /// A trouble without causes.
    pub fn new(sentence: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), because: Vec::new(), fix: fix.into() }
    }
}

/// Something that keeps the host from its job.
pub(crate) fn broken(sentence: impl Into<String>, fix: impl Into<String>) -> Diagnosis {
    Diagnosis::Broken(Trouble::new(sentence, fix))
}

/// Something that does not.
pub(crate) fn weak(sentence: impl Into<String>, fix: impl Into<String>) -> Diagnosis {
    Diagnosis::Weak(Trouble::new(sentence, fix))
}

/// What came of asking: a fault brings its own hint, and else the check has one.
pub fn asked(check: Check, result: Result<String, Fault>) -> Diagnosis {
    match result {
        Ok(found) => Diagnosis::Fine(found),
        Err(fault) => {
            let (.., fix) = check.table();
            // `nothing was changed` goes without saying here.
            let because = fault.because.iter().chain(fault.places.iter().filter(|place| !place.starts_with("nothing")));
            let because = because.cloned().collect();
            Diagnosis::Broken(Trouble { sentence: fault.sentence, because, fix: fault.hint.unwrap_or(fix.into()) })
        }
    }
}

/// What these eyes make of it: where root is needed, what looks broken may only be closed.
pub fn seen(check: Check, diagnosis: Diagnosis, eyes: Eyes) -> Finding {
    let (_, needed, ..) = check.table();
    let diagnosis = match diagnosis {
        Diagnosis::Broken(_) | Diagnosis::Weak(_) if needed == Eyes::Root && eyes == Eyes::Anybody => {
            Diagnosis::Unseen("cannot be seen without root".into())
        }
        diagnosis => diagnosis,
    };
    Finding { check, diagnosis }
}

/// Whether the host cannot do its job.
pub fn is_unfit(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| matches!(finding.diagnosis, Diagnosis::Broken(_)))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.check.name();
        let (mark, text, trouble) = match &self.diagnosis {
            Diagnosis::Fine(text) => ("ok", text, None),
            Diagnosis::Idle(text) => ("-", text, None),
            Diagnosis::Unseen(text) => ("?", text, None),
            Diagnosis::Weak(trouble) => ("weak", &trouble.sentence, Some(trouble)),
            Diagnosis::Broken(trouble) => ("FAIL", &trouble.sentence, Some(trouble)),
        };
        writeln!(f, "{mark:<5} {name:<16} {text}")?;
        for cause in trouble.into_iter().flat_map(|trouble| &trouble.because) {
            writeln!(f, "      because: {cause}")?;
        }
        trouble.map_or(Ok(()), |trouble| writeln!(f, "      fix: {}", trouble.fix))
    }
}

impl Finding {
    /// The finding as `--json` shows it.
    pub fn as_json(&self) -> Json {
        let mut value = json!({ "check": self.check.name(), "diagnosis": self.diagnosis.word() });
        match &self.diagnosis {
            Diagnosis::Fine(text) | Diagnosis::Idle(text) | Diagnosis::Unseen(text) => value["found"] = json!(text),
            Diagnosis::Weak(trouble) | Diagnosis::Broken(trouble) => {
                value["sentence"] = json!(trouble.sentence);
                value["because"] = json!(trouble.because);
                value["fix"] = json!(trouble.fix);
            }
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fault::Code;

    #[test]
    fn every_check_has_a_name_of_its_own_and_a_fix() {
        let mut names: Vec<_> = Check::ALL.iter().map(|check| check.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Check::ALL.len());
        for check in Check::ALL {
            let (name, _, needs, fix) = check.table();
            assert!(name.len() <= 16 && !needs.is_empty() && !fix.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_fault_keeps_its_hint_and_else_gets_the_fix_of_the_check() {
        let fault = Fault::new(Code::EngineAway, "it does not answer").at("nothing was changed").because("no socket");
        let Diagnosis::Broken(trouble) = asked(Check::Engine, Err(fault.clone())) else { panic!() };
        assert_eq!(trouble.because, ["no socket"]);
        assert_eq!(trouble.fix, "`systemctl status docker`");
        let Diagnosis::Broken(trouble) = asked(Check::Engine, Err(fault.hint("turn it on"))) else { panic!() };
        assert_eq!(trouble.fix, "turn it on");
    }

    #[test]
    fn what_only_root_sees_is_no_alarm_for_others() {
        let broken = || broken("the key is missing", "make one");
        let seen_by = |eyes| seen(Check::AgeKey, broken(), eyes).diagnosis;
        assert_eq!(seen_by(Eyes::Anybody), Diagnosis::Unseen("cannot be seen without root".into()));
        assert_eq!(seen_by(Eyes::Root), broken());
        // What everybody sees is one.
        assert_eq!(seen(Check::Swap, broken(), Eyes::Anybody).diagnosis, broken());
    }

    #[test]
    fn findings_print_themselves() {
        let trouble = Trouble { because: vec!["it is off".into()], ..Trouble::new("the disk is full", "`df -h`") };
        let findings = [
            Finding { check: Check::Git, diagnosis: Diagnosis::Fine("git version 2.47.3".into()) },
            Finding { check: Check::Tailnet, diagnosis: Diagnosis::Idle("tailscale is not installed".into()) },
            Finding { check: Check::AgeKey, diagnosis: Diagnosis::Unseen("cannot be seen without root".into()) },
            Finding { check: Check::Swap, diagnosis: weak("swap is on", "`swapoff --all`") },
            Finding { check: Check::Disk, diagnosis: Diagnosis::Broken(trouble) },
        ];
        let text: String = findings.iter().map(ToString::to_string).collect();
        let expected = "\
ok    git              git version 2.47.3
-     tailnet          tailscale is not installed
?     age key          cannot be seen without root
weak  swap             swap is on
      fix: `swapoff --all`
FAIL  disk             the disk is full
      because: it is off
      fix: `df -h`
";
        assert_eq!(text, expected);
        assert!(is_unfit(&findings) && !is_unfit(&findings[..4]));
        let json = findings[4].as_json();
        assert_eq!(json["fix"], "`df -h`");
    }
}

//! What a stack may not have unless the repository says so by name: the rules, and the exceptions to them.

use std::collections::BTreeMap;

macro_rules! rules {
    ($($variant:ident, $name:literal, $exception:ident, $value:literal, $meaning:literal;)*) => {
        /// One rule of the policy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $meaning] $variant,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$variant,)*];

            /// The name, whether there are exceptions, what their `value` is, and what the rule is for.
            pub fn table(self) -> (&'static str, Exception, &'static str, &'static str) {
                match self {
                    $(Rule::$variant => ($name, Exception::$exception, $value, $meaning),)*
                }
            }
        }
    };
}

/// Whether the repository can make an exception to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exception {
    /// For one stack and one value.
    ByName,
    /// None.
    Never,
}

rules! {
    Privileged, "privileged", ByName, "the service", "`privileged: true`, also in a hook: root on the host";
    CapAdd, "cap-add", ByName, "the capability, such as `NET_ADMIN`", "a capability that Docker does not give by default";
    HostNamespace, "host-namespace", ByName, "`pid=host`, `network_mode=host`, ...", "a namespace of the host: its processes, network, users";
    ForeignContainer, "foreign-container", ByName, "`pid=container:NAME`, `volumes_from=container:NAME`, ...", "the namespace, the volumes or the name of a container outside of the stack";
    SecurityOpt, "security-opt", ByName, "the option, such as `seccomp=unconfined`", "anything but `no-new-privileges`: profiles that are weaker or not known";
    Device, "device", ByName, "the device on the host, such as `/dev/net/tun`", "a device of the host";
    DeviceRule, "device-rule", ByName, "the rule, such as `c 189:* rwm`", "a class of devices";
    Gpu, "gpu", ByName, "the driver, or `all`", "a graphics card, and the driver's runtime on the host";
    CgroupParent, "cgroup-parent", ByName, "the group", "another group of processes: out of reach of the host's limits";
    Sysctl, "sysctl", ByName, "the name of the setting", "a kernel setting outside of the list that Kubernetes calls safe, and `net.core.somaxconn`";
    Runtime, "runtime", ByName, "the runtime", "a runtime other than `runc` and `runsc`";
    EngineSocket, "engine-socket", ByName, "the path, with `:ro` if it is mounted so, or `use_api_socket`", "the socket of the engine, or a directory that holds it: root on the host, and read-only does not help";
    SystemPath, "system-path", ByName, "the path, with `:ro` if it is mounted so", "a path of the operating system or of Docker, or one above it. `/etc/localtime` and `/etc/timezone` may be mounted read-only";
    MoorlinePath, "moorline-path", Never, "", "a path of moorline: keys, ledger, secrets and directories of other stacks";
    OwnDirectory, "own-directory", Never, "", "the stack's own directory, or what moorline wrote into it as `compose.yaml` and `.env`, with the right to write: whoever can write it is root at the next `up`";
    Bind, "bind", ByName, "the path; what is below it too. With `:ro` only read-only", "any other path of the host outside of the stack's own directory";
    Propagation, "propagation", ByName, "the path", "mounts that spread to the host: `shared`, `rshared`";
    MountType, "mount-type", ByName, "the type", "a mount that is not a bind, a volume or a tmpfs";
    VolumeDriver, "volume-driver", ByName, "the driver, or the type of file system", "a volume that is not a directory of Docker's own. A local volume with `o: bind` is judged as the bind that it is";
    ForeignVolume, "foreign-volume", ByName, "the volume's name on the host", "a volume whose name is not one of this stack: `STACK_...`";
    ForeignNetwork, "foreign-network", ByName, "the network's name on the host", "the private network of another stack: `OTHER_...`. A network that its owner gave a name of its own is shared by its owner";
    NetworkDriver, "network-driver", ByName, "the driver", "a network that is not a bridge, such as `macvlan`: containers beside the host in its own network";
    NetworkOption, "network-option", ByName, "the option's name", "an option of a network that is not known to be harmless";
    PublishedPort, "published-port", ByName, "`443/tcp`, or a range `10000-10100/udp`", "a port that is open to the world: Docker publishes it past the host's firewall. Loopback and tailnet addresses are free";
    ForeignName, "foreign-name", ByName, "the name", "a `container_name` of the form that another stack's containers have";
    ReservedLabel, "reserved-label", Never, "", "labels `com.docker.compose.*` and `moorline.*`: Compose and moorline know their own containers by them";
    OomScore, "oom-score", ByName, "`oom_score_adj=-500`, `oom_kill_disable=true`", "a process that the kernel kills later than the host's own";
    CoreDump, "core-dump", ByName, "the service", "core files: memory, secrets among it, on a disk";
    Annotation, "annotation", ByName, "the name", "an instruction to the runtime";
    Provider, "provider", Never, "", "`provider:`: a program of the host, started as root by Compose";
    UnknownKey, "unknown-key", ByName, "the key", "a key that this version of moorline has not judged: a newer Compose knows more than we do";
}

impl Rule {
    /// The name, as `moorline.yaml` and faults show it.
    pub fn name(self) -> &'static str {
        self.table().0
    }

    /// The rule with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Rule::ALL.iter().find(|rule| rule.name() == name).copied()
    }

    /// Whether the repository can make an exception.
    pub fn exception(self) -> Exception {
        self.table().1
    }
}

/// An exception to a rule, for one stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The rule.
    pub rule: Rule,
    /// What exactly is allowed.
    pub value: String,
    /// Where it stands: `moorline.yaml:12`.
    pub place: String,
}

/// The exceptions of a repository, by stack.
pub type Allowances = BTreeMap<String, Vec<Allowance>>;

//! What Docker's repository holds: the lab's own engine and plugin, packed as Docker packs its own.

use std::path::PathBuf;

use super::super::scratch::Scratch;
use super::super::tools::tool;
use super::Deb;

const ENGINE: &str = "[Unit]
Description=Docker Application Container Engine
After=network-online.target docker.socket containerd.service
Wants=network-online.target containerd.service
Requires=docker.socket
[Service]
Type=notify
ExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
Restart=always
RestartSec=2
LimitNOFILE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500
[Install]
WantedBy=multi-user.target
";

const SOCKET: &str = "[Unit]
Description=Docker Socket for the API
[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker
[Install]
WantedBy=sockets.target
";

const CONTAINERD: &str = "[Unit]
Description=containerd container runtime
After=network.target local-fs.target
[Service]
Type=notify
ExecStart=/usr/bin/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
TasksMax=infinity
[Install]
WantedBy=multi-user.target
";

/// As the packages do it that Docker makes: what is installed runs.
const START_ENGINE: &str = "#!/bin/sh
set -e
getent group docker >/dev/null || groupadd --system docker
systemctl daemon-reload
systemctl enable --now docker.socket docker.service
";
const START_CONTAINERD: &str = "#!/bin/sh
set -e
systemctl daemon-reload
systemctl enable --now containerd.service
";

#[track_caller]
pub fn packages(scratch: &Scratch) -> Vec<PathBuf> {
    let units = "/usr/lib/systemd/system";
    let docker_ce =
        Deb::new(scratch, "docker-ce", "Depends: containerd.io, docker-ce-cli, iptables\nConflicts: docker.io\n")
            .program("/usr/bin/dockerd", &tool("dockerd"))
            .program("/usr/bin/docker-proxy", &tool("docker-proxy"))
            .program("/usr/libexec/docker/docker-init", &tool("docker-init"))
            .file(&format!("{units}/docker.service"), 0o644, ENGINE)
            .file(&format!("{units}/docker.socket"), 0o644, SOCKET)
            .file("DEBIAN/postinst", 0o755, START_ENGINE);
    let containerd = Deb::new(scratch, "containerd.io", "Conflicts: containerd, runc\nProvides: containerd, runc\n")
        .program("/usr/bin/containerd", &tool("containerd"))
        .program("/usr/bin/containerd-shim-runc-v2", &tool("containerd-shim-runc-v2"))
        .program("/usr/bin/runc", &tool("runc"))
        .file(&format!("{units}/containerd.service"), 0o644, CONTAINERD)
        .file("DEBIAN/postinst", 0o755, START_CONTAINERD);
    let client = Deb::new(scratch, "docker-ce-cli", "").program("/usr/bin/docker", &tool("docker"));
    let plugin = Deb::new(scratch, "docker-compose-plugin", "")
        .program("/usr/libexec/docker/cli-plugins/docker-compose", &tool("docker-compose"));
    [docker_ce, containerd, client, plugin].map(Deb::build).into()
}

"""Files in a party's folder: how to start it, by hand, by systemd or in a container, and a page for IT."""

import ipaddress
from string import Template

# Where the systemd units and the container expect things; the installer may change these paths.
INSTALLED = "/opt/fedpolyp"


def of_site(site: str, host: str, port: int) -> dict[str, str]:
    """A site's files, by name.

    Those for a container are left out if the coordinator is known only by an address: the relay needs a name.
    """
    named = not _is_address(host)
    texts = {"start": _SITE_START, f"fedpolyp-{site}.service": _SITE_UNIT, "IT.md": _IT}
    if named:
        texts |= {"Dockerfile": _IMAGE + _SITE_IMAGE, "compose.yaml": _SITE_COMPOSE, "relay.conf": _RELAY}
    known = {"site": site, "host": host, "port": port, "installed": INSTALLED}
    known["container"] = Template(_CONTAINER if named else _NO_CONTAINER).substitute(known)
    known["ways"] = "`./start`, the systemd unit, or `compose.yaml`" if named else "`./start` or the systemd unit"
    return {name: Template(text).substitute(known) for name, text in texts.items()}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def of_coordinator(port: int) -> dict[str, str]:
    """The coordinator's files, by name."""
    texts = {
        "start": _COORDINATOR_START,
        "fedpolyp-coordinator.service": _COORDINATOR_UNIT,
        "Dockerfile": _IMAGE + _COORDINATOR_IMAGE,
        "compose.yaml": _COORDINATOR_COMPOSE,
    }
    known = {"port": port, "installed": INSTALLED}
    return {name: Template(text).substitute(known) for name, text in texts.items()}


_SITE_START = """#!/bin/sh
# Joins the federation and stays until it is stopped. Needs fedpolyp on PATH; arguments go to 'site join'.
exec fedpolyp site join --folder "$$(dirname -- "$$0")" "$$@"
"""

_COORDINATOR_START = """#!/bin/sh
# Serves the federation on port $port and stays until it is stopped. Needs fedpolyp and nginx on PATH,
# nginx with its stream module: apt-get install nginx-light libnginx-mod-stream
exec fedpolyp site serve --folder "$$(dirname -- "$$0")" "$$@"
"""

_SITE_UNIT = """# Copy to /etc/systemd/system/. Expects this folder as $installed/$site, owned by the user 'fedpolyp',
# and fedpolyp in $installed/venv. site.toml must name the folder of images, which that user only has to read.
[Unit]
Description=fedpolyp, the site $site of a federation
After=network-online.target
Wants=network-online.target

[Service]
User=fedpolyp
ExecStart=$installed/venv/bin/fedpolyp site join --folder $installed/$site
Restart=always
RestartSec=30
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=false
ReadWritePaths=$installed/$site/private

[Install]
WantedBy=multi-user.target
"""

_COORDINATOR_UNIT = """# Copy to /etc/systemd/system/. Expects this folder as $installed/coordinator, owned by the user
# 'fedpolyp', and fedpolyp installed in $installed/venv.
[Unit]
Description=fedpolyp, the coordinator of a federation
After=network-online.target
Wants=network-online.target

[Service]
User=fedpolyp
ExecStart=$installed/venv/bin/fedpolyp site serve --folder $installed/coordinator
Restart=always
RestartSec=10
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
ReadWritePaths=$installed/coordinator

[Install]
WantedBy=multi-user.target
"""

_IMAGE = """# The build context is a checkout of fedpolyp, see compose.yaml.
FROM python:3.11-slim
RUN apt-get update \\
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \\
    && rm -rf /var/lib/apt/lists/*
COPY . /opt/fedpolyp
RUN chmod -R a+rX /opt/fedpolyp \\
    && pip install --no-cache-dir --constraint /opt/fedpolyp/constraints.txt --editable /opt/fedpolyp
"""

_SITE_IMAGE = """WORKDIR /site
ENTRYPOINT ["fedpolyp", "site", "join", "--data", "/images"]
"""

# The checkout is what 'site run' sends to the sites.
_COORDINATOR_IMAGE = """RUN apt-get update \\
    && apt-get install --yes --no-install-recommends nginx-light libnginx-mod-stream \\
    && rm -rf /var/lib/apt/lists/*
WORKDIR /coordinator
ENTRYPOINT ["fedpolyp", "site", "serve"]
"""

_SITE_COMPOSE = """# Write into a file .env beside this one, then 'docker compose up -d' in this folder:
#   FEDPOLYP_SOURCE=<checkout of fedpolyp>
#   FEDPOLYP_IMAGES=<folder of images>
#   FEDPOLYP_USER=<user>:<group>, by number, who owns this folder and may read the images; not root
#
# The site's container can write only into private/ and into memory (/tmp, /dev/shm). It has no network but 'inside',
# where nothing answers but a relay that passes bytes on to $host:$port.
services:
  site:
    build:
      context: $${FEDPOLYP_SOURCE:?a checkout of fedpolyp}
      dockerfile: $${PWD}/Dockerfile
    restart: always
    init: true
    user: $${FEDPOLYP_USER:?the user and group, by number, that own this folder}
    read_only: true
    tmpfs: [/tmp]
    environment: {HOME: /tmp}
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    volumes:
      - .:/site:ro
      - ./private:/site/private
      - $${FEDPOLYP_IMAGES:?the folder with images/ and masks/}:/images:ro
    networks: [inside]
    # Of any other name nobody is asked: a Docker before 25.0.4 may ask the machine's own resolver for a container.
    dns: [127.0.0.1]
    # A name that the site alone knows the relay by: as an alias on 'inside' the relay would find itself under it, too.
    links: ["relay:$host"]
  relay:
    image: nginx:stable
    restart: always
    user: $${FEDPOLYP_USER}
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    volumes: ["./relay.conf:/etc/nginx/nginx.conf:ro"]
    networks: [inside, outside]
networks:
  inside:
    internal: true
    # This machine has no address there: through one, every service that listens on all addresses could be reached.
    driver_opts: {com.docker.network.bridge.inhibit_ipv4: "true"}
  outside: {}
"""

_COORDINATOR_COMPOSE = """# Write into a file .env beside this one, then 'docker compose up -d' in this folder:
#   FEDPOLYP_SOURCE=<checkout of fedpolyp>
#   FEDPOLYP_USER=<user>:<group>, by number, who owns this folder; not root
# The other commands run in the container: docker compose exec coordinator fedpolyp site register (or status, run)
services:
  coordinator:
    build:
      context: $${FEDPOLYP_SOURCE:?a checkout of fedpolyp}
      dockerfile: $${PWD}/Dockerfile
    restart: always
    init: true
    user: $${FEDPOLYP_USER:?the user and group, by number, that own this folder}
    read_only: true
    tmpfs: [/tmp]
    environment: {HOME: /tmp}
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    volumes: [".:/coordinator"]
    ports: ["$port:$port"]
"""

_RELAY = """pid /tmp/nginx.pid;
error_log /dev/stderr warn;
events {}
stream {
    server {
        listen $port;
        proxy_pass $host:$port;
        proxy_timeout 1h;
    }
}
"""

_CONTAINER = """If the coordinator is not trusted that far, use `compose.yaml`: a container that can
only read the images and this folder, writes only into `private/` here, and has no network except a relay to
$host:$port: neither the hospital's network nor other services of this machine."""

_NO_CONTAINER = """If the coordinator is not trusted that far, run the site in a container that can
only read the images and this folder, writes only into `private/` here, and has no network except a connection to
$host:$port.
(The files for this are made only if the coordinator has a host name.)"""

_IT = """# Joining a federation as $site: what IT should know

**What it is.** A program on a machine of the hospital trains a neural network that outlines polyps in colonoscopy
images. Other hospitals do the same; a coordinator averages the networks. Images stay where they are.

## Connections

| from | to | what |
|---|---|---|
| this machine | **$host, TCP port $port** | HTTPS (TLS 1.2 or newer), opened from here, every few seconds |
| this machine | itself (127.0.0.1, port 9094 and one that the system chooses) | the program's own parts |

Nothing connects *to* this machine, and it connects to nothing else: no inbound rule, no other outbound rule. The
coordinator is recognized only by a certificate of the federation's own authority (`ca.crt` in this folder).
This site is recognized by its key (`site.key`, made for this site only: keep it here, mode 0600) and by the
authority's certificate for this key (`site.crt`, not secret), without which the coordinator reads nothing. With
`mask.key` (mode 0600, too) it masks what it sends, if the experiment asks for secure sums.

**Other users of this machine** can neither receive a request nor answer one (the program's parts identify each other by
secrets in `private/`), and cannot read this folder. They can see in the list of processes where this folder and the
images are, and can occupy the port, so that this program does not start. A machine without other users, or the
container, prevents both.

## What leaves the building

- the network's weights after training here, and Adam's moments (running means of gradients) where the experiment
  averages them; with secure sums the weights are masked, so that only their sum over the hospitals can be read
- the number of training images, the mean training loss, the number of training steps, a process number
- for each validation and test image: four pixel counts, its loss and a distance between outlines, in an order that
  only this site can trace back
- if a request is refused or fails: one line that says why, without names of files or folders
- the site's name and public key, this machine's address on the network, and when it was connected

**What never leaves:** images, masks, file names, paths, patient data of any kind. One exception: if Flower itself fails
before this program's code runs (say, a full disk while it unpacks what it was sent), its own error text goes to the
coordinator. Paths in it begin with `/proc/self/cwd/private/flower` in place of this folder, or are paths of the
temporary folder or of Python's libraries. (Weights and per-image scores are made from images, and research has shown
that something about single images can sometimes be inferred from them. Handle them as data derived from patients, not
as anonymous.)

## What the coordinator may ask

Three messages: *train*, *evaluate* and, with secure sums, *train.unmask*. They contain the experiment's settings
and no paths: images come only from the folder that `site.toml` names, the site's files are written only into
`private/` here, and a request for another hospital, of another kind, or beyond the `[limits]` in `site.toml` is
refused. `private/audit.jsonl` records what was asked and what was sent, with sizes and SHA-256; `fedpolyp site log`
shows it. Each entry holds the hash of the one before, so a changed entry, or one lost in the middle, is found. The
hashes contain no secret: whoever can write the file can compute all of them again. Write down the last hash
elsewhere from time to time: a rewritten log no longer has it.

## What joining means for trust

**Joining means running the coordinator's code.** The coordinator sends the program that trains with each run, and
Flower, which carries it, has no supported way to pin this program. The limits and the audit log are part
of that program: they restrict what requests may ask, not a coordinator who ships other code, which could rewrite
the log, too.
$container
A hostile coordinator could still take whatever its code reads and sends through that one connection.

A compromised hospital cannot reach the others: sites reach only the part of the coordinator that hands out requests and
takes replies, with their own certificate and key. It can send wrong weights; the coordinator checks whether they can be
weights, not whether they are good ones. SECURITY.md in fedpolyp's checkout says what is protected against whom, and
what is not.

## To join

1. Install fedpolyp (see its README) and put this folder beside it, readable by its user alone.
2. Write the folder of images (`images/` and `masks/` with files of the same stems) into `site.toml`.
3. `fedpolyp site check --folder .` says what to fix.
4. $ways.

To leave, stop it. Nothing else needs to be undone; the coordinator sees the site as offline.
"""

"""The coordinator's only public entrance: nginx ends TLS there and lets through only what sites need.

A client must present a certificate of the federation's authority before a byte of its data is read, and the number of
connections is limited, in all and for each address. A site whose certificate is in the coordinator's folder reaches the
paths of the SuperLink's Fleet API, where every request is also signed. The SuperLink itself listens on loopback: one of
its ports serves sites, its own programs and its control API without a login.
"""

import ipaddress
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.sites.certificates import CIPHERS, read_certificate, site_of
from fedpolyp.sites.names import check_host, is_name
from fedpolyp.sites.settings import CoordinatorSettings

# Of one request: Flower sends weights in objects of 5 MB; its other requests are lists of names.
_MAX_OBJECT, _MAX_BODY = "32m", "1m"
# Connections at a time: in all, and from one address, which several sites may share. A site needs four.
_IN_ALL, _PER_ADDRESS = 2048, 128
# Requests at a time of one site, and those of them that carry an object.
_PER_SITE, _OBJECTS_PER_SITE = 32, 8
_HANDSHAKE_SECONDS = 10
# Whoever has one IPv6 address has 2^64, so networks are counted: the first four groups, or those before '::'.
_NETWORK = "^(?<network_of>([0-9a-f]+:){3}[0-9a-f]+|[0-9a-f]+(:[0-9a-f]+){0,2}(?=::)):"
_DESCRIPTORS = 4  # nginx's for one connection: in and out of the public port, in and out of the server behind it
_STREAM = "nginx needs its stream module: apt-get install libnginx-mod-stream"


def nginx_config(settings: CoordinatorSettings, listen: str = "") -> str:
    """The config of an nginx that runs in the foreground, in the folder `work_folder(settings)`.

    `listen` is the address to listen on; '' for all of this machine's.

    Raises:
        UsageError: `listen` is not an address.
        FedpolypError: there is no nginx, or one without its stream module.
    """
    work, known = work_folder(settings), let_in(settings)[0]
    in_all = max(16, min(_IN_ALL, (_most_descriptors() - 64) // _DESCRIPTORS))
    addresses = "\n".join(
        f"        listen {address} ssl backlog=1024 so_keepalive=60s:10s:6;"
        for address in _addresses(listen, settings.port)
    )
    gates = "\n".join(f'        {fingerprint} "unix:{site}.sock";' for site, fingerprint in known.items())
    sites = "\n".join(f'        listen "unix:{site}.sock";' for site in known)
    temporary = "\n".join(
        f'    {kind}_temp_path "{work}/{kind}";' for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for_sites = f"""
    server {{
{sites}
        limit_conn site {_PER_SITE};
        client_max_body_size {_MAX_BODY};
        client_body_timeout 120s;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        # Nothing is laid down on the way, however slow the link: nginx's workers, which are 'nobody' when root
        # started it, could not write in the coordinator's folder.
        proxy_request_buffering off;
        proxy_buffering off;
        proxy_read_timeout 300s;
        proxy_ssl_trusted_certificate "{settings.authority}";
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
        location / {{ return 404; }}
        location = /v1/fleet/push-object {{
            client_max_body_size {_MAX_OBJECT};
            limit_conn site {_PER_SITE};
            limit_conn objects {_OBJECTS_PER_SITE};
            proxy_pass https://superlink;
        }}
        # Matched after nginx has resolved '..', '//' and '%2e', so no other spelling of a path gets in.
        location ~ ^/v1/fleet/[a-z-]+$ {{ proxy_pass https://superlink; }}
    }}"""
    return f"""daemon off;
{_load_stream()}worker_processes 1;
worker_rlimit_nofile {_DESCRIPTORS * in_all + 64};
worker_shutdown_timeout 180s;  # what Flower gives a request
pid "{work}/nginx.pid";
error_log stderr warn;
events {{ worker_connections {_DESCRIPTORS * in_all + 32}; }}
stream {{
    map $remote_addr $network {{
        default $remote_addr;
        "~{_NETWORK}" $network_of;
    }}
    limit_conn_zone $network zone=address:10m;
    limit_conn_zone $server_port zone=everybody:1m;
    limit_conn_log_level info;  # a stranger must not fill the log
    map $ssl_client_fingerprint $gate {{
        default "unix:refused.sock";
{gates}
    }}
    server {{
{addresses}
        limit_conn address {_PER_ADDRESS};
        limit_conn everybody {in_all};
        ssl_certificate "{settings.certificate}";
        ssl_certificate_key "{settings.key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers {CIPHERS};
        ssl_session_tickets off;
        ssl_verify_client on;
        ssl_verify_depth 1;
        ssl_client_certificate "{settings.authority}";
        ssl_handshake_timeout {_HANDSHAKE_SECONDS}s;
        proxy_pass $gate;
    }}
}}
http {{
    access_log off;
    server_tokens off;
{temporary}
    limit_conn_zone $server_addr zone=site:1m;
    limit_conn_zone $server_addr zone=objects:1m;
    upstream superlink {{
        server 127.0.0.1:{settings.control_port};
        keepalive 16;
    }}
    # A certificate of the authority that is not, or no longer, in the coordinator's folder.
    server {{
        listen "unix:refused.sock";
        keepalive_timeout 0;
        lingering_close off;
        return 401;
    }}{for_sites if known else ""}
}}
"""


def work_folder(settings: CoordinatorSettings) -> Path:
    """The folder in which nginx runs and to which it writes."""
    return settings.folder / "proxy"


def make_work_folder(settings: CoordinatorSettings) -> None:
    """Make it, without the leftovers of a killed nginx.

    Sockets have names relative to it, because their paths must be short. Besides, nginx's workers, which are 'nobody'
    when root started nginx, cannot enter the coordinator's folder, but stay in the one in which they were started.
    """
    work = work_folder(settings)
    work.mkdir(exist_ok=True)
    work.chmod(0o711)
    for left in work.glob("*.sock"):
        left.unlink()


def let_in(settings: CoordinatorSettings) -> tuple[dict[str, str], list[str]]:
    """The sites that nginx admits, each with its certificate's fingerprint in nginx's form; and what was left out.

    They are the sites whose certificate, signed by the authority, is in the coordinator's folder.
    """
    known, faults = {}, []
    authority = read_certificate(settings.authority)
    for file in sorted(settings.sites_folder.glob("*.crt")):
        try:
            certificate = read_certificate(file)
            certificate.verify_directly_issued_by(authority)
        except UsageError as error:
            faults.append(str(error))
            continue
        except (InvalidSignature, ValueError, TypeError):
            faults.append(f"{file} is not signed by the authority of {settings.authority}")
            continue
        if not is_name(file.stem) or site_of(certificate) != file.stem:
            faults.append(f"{file} is the certificate of another site")
            continue
        known[file.stem] = certificate.fingerprint(hashes.SHA1()).hex()
    return known, faults


def stamps(settings: CoordinatorSettings) -> Mapping[str, tuple[int, int]]:
    """A cheap value that changes whenever `let_in` may return something else."""
    found = {}
    for file in settings.sites_folder.glob("*.crt"):
        try:
            known = file.stat()
        except OSError:  # just removed
            continue
        found[file.name] = (known.st_mtime_ns, known.st_size)
    return found


def _load_stream() -> str:
    """The line that loads nginx's stream module if it is a file; '' if nginx has it built in.

    Raises:
        FedpolypError: it has none.
    """
    program = shutil.which("nginx")
    if program is None:
        raise FedpolypError("there is no program 'nginx' on PATH: apt-get install nginx-light libnginx-mod-stream")
    said = subprocess.run([program, "-V"], capture_output=True, text=True).stderr
    if re.search(r"--with-stream(\s|$)", said):
        return ""
    folder = re.search(r"--modules-path=(\S+)", said)
    module = Path(folder[1] if folder else "/usr/lib/nginx/modules") / "ngx_stream_module.so"
    if not module.is_file():
        raise FedpolypError(_STREAM)
    return f'load_module "{module}";\n'


def _most_descriptors() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 20 if most == resource.RLIM_INFINITY else most


def _addresses(listen: str, port: int) -> list[str]:
    """What nginx is to listen on."""
    if not listen:
        return [str(port), *([f"[::]:{port}"] if _has_ipv6() else [])]
    host = listen.removeprefix("[").removesuffix("]")
    check_host(host, "--listen")
    return [f"[{host}]:{port}" if _is_ipv6(host) else f"{host}:{port}"]


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _has_ipv6() -> bool:
    """Whether this machine's kernel has IPv6: without it nginx would not start."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True

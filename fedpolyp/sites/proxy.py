"""The one door of a coordinator: nginx ends TLS there and lets through what sites need, nothing else.

One port of Flower's SuperLink serves sites, its own programs and its control API, which has no login. So the SuperLink
listens on loopback, and nginx passes on only the paths of its Fleet API, on which every request is signed by a site.
"""

import ipaddress
import socket

from fedpolyp.sites.settings import CoordinatorSettings, check_host

_MAX_BODY = "2g"  # of one message: weights and moments of the largest U-Net are below it


def nginx_config(settings: CoordinatorSettings, listen: str = "") -> str:
    """The config of an nginx that runs in the foreground and keeps all it writes in the coordinator's folder.

    `listen` is the address to listen on; '' for all of this machine's.

    Raises:
        UsageError: `listen` is no address.
    """
    work = settings.folder / "proxy"
    addresses = "\n".join(f"        listen {address} ssl;" for address in _addresses(listen, settings.port))
    temporary = "\n".join(
        f'    {kind}_temp_path "{work}/{kind}";' for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""daemon off;
worker_processes 1;
pid "{work}/nginx.pid";
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
{temporary}
    upstream superlink {{
        server 127.0.0.1:{settings.control_port};
        keepalive 16;
    }}
    server {{
{addresses}
        ssl_certificate "{settings.certificate}";
        ssl_certificate_key "{settings.key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        client_max_body_size {_MAX_BODY};
        client_body_timeout 120s;
        location / {{ return 404; }}
        # Matched after nginx has resolved '..', '//' and '%2e', so no other spelling of a path gets in.
        location ~ ^/v1/fleet/[a-z-]+$ {{
            proxy_pass https://superlink;
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
        }}
    }}
}}
"""


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

"""
nchan, the publish-subscribe module of nginx, where there is one: written in C, it is the best that can be bought.

An nginx is looked for on the path, or below the folder that BENCH_NGINX_ROOT names, laid out as a system is, which need
not be installed: the files of a package unpacked anywhere will do.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.servers import Server, started

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULE: Final = "ngx_nchan_module.so"
_FOLDERS: Final = (
    "usr/lib/nginx/modules",
    "usr/lib64/nginx/modules",
    "usr/local/lib/nginx/modules",
    "etc/nginx/modules",
)
_SETTINGS: Final = """\
load_module {module};
user {user};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 64k;
  keepalive_requests 10000000;
  tcp_nodelay on;
  nchan_max_reserved_memory 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /publish {{
      nchan_publisher;
      nchan_channel_id all;
      nchan_message_buffer_length 4096;
      nchan_message_timeout 1m;
    }}
    location = /stream {{
      nchan_subscriber eventsource;
      nchan_channel_id all;
      nchan_subscriber_first_message oldest;
      nchan_eventsource_ping_interval 0;
    }}
  }}
}}
"""


def found() -> tuple[Path, Path] | None:
    """(nginx, module), or None where either is not there."""
    root = os.environ.get("BENCH_NGINX_ROOT")
    nginx = Path(root, "usr/sbin/nginx") if root else Path(shutil.which("nginx") or "/usr/sbin/nginx")
    for folder in _FOLDERS:
        module = Path(root or "/", folder, _MODULE)
        if nginx.exists() and module.exists():
            return nginx, module
    return None


@contextmanager
def publishing(folder: Path, *, streams: int) -> Iterator[Server]:
    """
    An nginx with nchan, one worker, for as many *streams*.

    Raises:
        NotImplementedError: There is none here.
    """
    where = found()
    if where is None:
        raise NotImplementedError("no nginx with nchan on this machine; see bench/nchan.py")
    nginx, module = where
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wanted = {"module": module, "folder": folder, "port": port, "user": getpass.getuser()}
    settings = folder / "nginx.conf"
    settings.write_text(_SETTINGS.format(**wanted, connections=streams + 500, files=streams + 600), encoding="utf-8")
    with started([str(nginx), "-p", str(folder), "-c", str(settings), "-e", str(folder / "error.log")], {}) as master:
        worker = _worker_of(master.pid)
        yield Server(worker, "127.0.0.1", port)


def _worker_of(master: int) -> int:
    """The first process that does the work: it is started last."""
    children = Path(f"/proc/{master}/task/{master}/children")
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        with suppress(ValueError):
            return int(children.read_text(encoding="ascii").partition(" ")[0])
        time.sleep(0.05)
    raise TimeoutError("nginx did not start")

"""nginx before several servers, as a team has it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.claude import soon
from tests.support.raw_http import fetch
from tests.support.server import reserved_port

BINARY = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[str]:
    """The URL of an nginx that spreads requests over the servers on these ports, and passes over one that is gone."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    servers = " ".join(f"server 127.0.0.1:{port};" for port in ports)
    with reserved_port() as port:
        config = folder / "nginx.conf"
        config.write_text(
            f"""worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log stderr;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; {temporary}
              upstream replicas {{ {servers} }}
              server {{
                listen 127.0.0.1:{port} reuseport; client_max_body_size 64m;
                location / {{
                  proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection "";
                  proxy_set_header Host $http_host; proxy_buffering off; proxy_read_timeout 600s;
                }}
              }}
            }}"""
        )
        assert BINARY is not None
        process = subprocess.Popen(
            [BINARY, "-c", str(config), "-p", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            url = f"http://127.0.0.1:{port}"
            assert soon(lambda: process.poll() is None and _answers(url)), "nginx did not start"
            yield url
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return fetch(f"{url}/healthz").status == 200
    except OSError:
        return False

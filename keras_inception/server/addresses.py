"""Where the server listens: sockets, ports and certificates, each checked early."""

import socket
import ssl
from pathlib import Path

import grpc

Certificate = tuple[str | Path, str | Path]  # files in PEM form: chain and private key


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; `::` accepts IPv4 as well as IPv6."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # localhost is 127.0.0.1 before it is ::1
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            address[:2], family=family, dualstack_ipv6=both, backlog=2048
        )
    except OSError as error:
        reason = (error.strerror or str(error)).split(" (")[0]
        raise OSError(f"Can't listen on {host} port {port}: {reason}") from None


def grpc_address(host: str, port: int | None) -> str:
    """Where gRPC is to listen: `""` if nowhere."""
    if port == 0:
        return ""
    try:
        listen(host, port or 8500).close()
    except OSError:
        if port is None:  # nobody asked for it
            return ""
        raise
    return f"{_bracketed(host)}:{port or 8500}"


def credentials(
    certificate: Certificate | None,
) -> grpc.ServerCredentials | None:
    """gRPC's form of a certificate and its key, after a check of both files."""
    if certificate is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate, password="")
        chain, key = (Path(file).read_bytes() for file in certificate)
    except OSError as error:  # an SSLError is one
        reason = error.strerror or str(error)
        raise OSError(
            f"{certificate[0]} and {certificate[1]} are not a certificate and its key "
            f"in PEM form: {reason}"
        ) from None
    return grpc.ssl_server_credentials([(key, chain)])


def url(listening: socket.socket, certificate: Certificate | None) -> str:
    """The address of a socket for REST clients."""
    host, port = listening.getsockname()[:2]
    return f"http{'s' if certificate else ''}://{_bracketed(host)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

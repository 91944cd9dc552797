"""Ports of this machine at which pages are served to its own browser, and to nobody else."""

import errno
import socket

from genlab.errors import InputError

HOST = "127.0.0.1"  # a page shows commands, paths and configs: nobody else's machine may ask for it
NAMES = ("127.0.0.1", "localhost")  # what a browser calls this machine; another name is a stranger's page that asks


def free_port(port: int) -> int:
    """Check that a port of this machine can be listened at.

    Args:
        port: port to serve at; 0 for any that is free.

    Returns:
        The port, or the one that was found.

    Raises:
        InputError: if the port is in use or not allowed.
    """
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just given back counts as free
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise InputError(refused(port, error)) from error
        except OverflowError as error:
            raise InputError(f"port={port}: give a number from 1024 to 65535") from error
        return int(listening.getsockname()[1])


def refused(port: int, error: OSError) -> str:
    """Say in a line why a port could not be listened at, and what to do.

    Args:
        port: port that was asked for.
        error: what the system said.
    """
    if error.errno == errno.EADDRINUSE:
        return f"port={port} is in use: give another one, such as port={port + 1}, or port=0 for any that is free"
    return f"port={port} cannot be used ({(error.strerror or str(error)).lower()}): give one from 1024 to 65535"

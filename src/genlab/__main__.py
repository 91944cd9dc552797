"""Entry point that makes ``python -m genlab`` the ``genlab`` command."""

from genlab.cli import main

main()

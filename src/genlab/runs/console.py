"""See :mod:`genlab.machine.console`."""

from genlab.machine.console import console as console

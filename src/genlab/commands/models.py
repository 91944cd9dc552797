"""``genlab models``: list the models that there are, with their papers and the kinds of data that they take."""

from genlab.machine.arguments import Parser
from genlab.machine.listing import NAMES


def main() -> None:
    """Run the command on this process's command line."""
    from genlab.inventory.models import models
    from genlab.inventory.places import roots
    from genlab.machine.listing import show
    from genlab.machine.outcome import tell

    options = parser("genlab models", __doc__, "vae").parse_args()
    found = models(roots(options.config_dir), options.words)
    tell(models=list(found.rows))
    show(found, options.format)


def parser(command: str, description: str | None, example: str) -> Parser:
    """Make the parser of a command that lists what there is.

    Args:
        command: the command as users type it.
        description: what the command does.
        example: part of a name, for the help.
    """
    made = Parser(command, description)
    made.add_argument("words", nargs="*", metavar="WORD", help=f"list only names with this in them, such as {example}")
    made.add_argument("--format", choices=NAMES, default="table", help="format of the list (default: table)")
    made.add_argument(
        "--config-dir", "-cd", action="append", default=[], metavar="DIR", help="folder of configs of your own"
    )
    return made


if __name__ == "__main__":
    main()

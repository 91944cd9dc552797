"""``genlab datasets``: list the data sets that there are, with their sizes and where they come from."""

from genlab.commands.models import parser


def main() -> None:
    """Run the command on this process's command line."""
    from genlab.inventory.datasets import datasets
    from genlab.inventory.places import roots
    from genlab.machine.listing import show
    from genlab.machine.outcome import tell

    options = parser("genlab datasets", __doc__, "mnist").parse_args()
    found = datasets(roots(options.config_dir), options.words)
    tell(datasets=list(found.rows))
    show(found, options.format)


if __name__ == "__main__":
    main()

"""The hooks of ``mkdocs.yml``: pages that lie outside of ``docs/``, and links that lead there.

The same Markdown is read in the repository and on the site. Top-level pages become pages of the site, links between
pages follow them, and a link to a file that the site does not have becomes its text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Top-level pages by their names on the site.
TOP = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
PICTURES = {"benchmarks/results.png": "speed.png"}  # the same of pictures
PLACES = {**TOP, **PICTURES}
# Pages that have many words of everything, or are for developers, come last among what the search finds.
SEARCHED_LAST = {"changelog.md": 0.01, "architecture.md": 0.1, "contributing.md": 0.1, "adding.md": 0.5}
# A fenced block or code in a line, which stay as they are, or else a link or a picture.
CODE_OR_LINK = re.compile(
    r"^(?P<fence>```+).*?^(?P=fence)[^\n]*$"
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)"
    r"|(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):<code>~?(?P<name>[^<]*)</code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of ``docs/``."""
    root = Path(config.config_file_path).parent
    for source, name in PLACES.items():
        files.append(File.generated(config, name, content=(root / source).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to pages of the site, and tell the search how much the page counts."""
    if page.file.src_uri in SEARCHED_LAST:
        page.meta["search"] = {"boost": SEARCHED_LAST[page.file.src_uri]}
    folder = "" if page.file.src_uri in TOP.values() else "docs"
    return with_links(markdown, folder, {file.src_uri for file in files})


def with_links(markdown: str, folder: str, known: set[str]) -> str:
    """Rewrite the links of a page: to a page or picture of the site, or else to nothing but their text.

    Args:
        markdown: page, whose links are those of the repository.
        folder: folder of the repository that the page lies in, relative to its root; empty for the root.
        known: names of the files of the site, relative to ``docs/``.
    """

    def rewritten(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_mark, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(folder, path))
        name = PLACES.get(place, posixpath.relpath(place, "docs"))
        if name in known:
            return f"{found['bang']}[{found['text']}]({name}{hash_mark}{anchor})"
        if place.startswith("docs/"):
            return found[0]  # a dead link, which a strict build refuses
        return found["text"]

    return CODE_OR_LINK.sub(rewritten, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the names that docstrings mark as Sphinx does, ``:class:`genlab.Run```, as plain code."""
    return ROLE.sub(r"<code>\g<name></code>", html)

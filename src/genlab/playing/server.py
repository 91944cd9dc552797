"""Serve the page to this machine's browser alone, and ask nothing of the network."""

import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.outcome import tell
from genlab.machine.ports import HOST, NAMES, free_port
from genlab.playing.panel import Panel
from genlab.playing.stage import Stage
from genlab.runs.loading import Run

# Nothing but what this page's own server gives, whatever a component would ask for. Gradio runs scripts of its own
# inside the page, and its painting makes functions of texts.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:"
)


def check_gradio() -> None:
    """Check that Gradio is installed, without importing it.

    Raises:
        InputError: if it is not.
    """
    if find_spec("gradio") is None:
        raise InputError("the page to play with a model is made with Gradio: pip install 'genlab[play]'")


def serve(run: Run, panels: Sequence[Panel], port: int, opened_with: Mapping[str, object]) -> None:
    """Serve the page of a run until Ctrl-C; the arguments are those of :func:`served`.

    Raises:
        InputError: if the port is in use, or no panel applies.
        KeyboardInterrupt: when the user ends it.
    """
    with served(run, panels, port, opened_with) as address:
        tell(run=str(run.folder.path), address=address)
        print(f"page: {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


@contextmanager
def served(run: Run, panels: Sequence[Panel], port: int, opened_with: Mapping[str, object]) -> Iterator[str]:
    """Serve the page of a run inside the context.

    Args:
        run: opened run.
        panels: ways to play; those that do not apply to the run are left out.
        port: port to serve at; 0 for any that is free.
        opened_with: keys of ``genlab sample`` by which the run was opened.

    Yields:
        Address of the page.

    Raises:
        InputError: if the port is in use, or no panel applies.
    """
    port = free_port(port)
    with tempfile.TemporaryDirectory(prefix="genlab-play-", ignore_cleanup_errors=True) as folder:
        offline(Path(folder) / "cache")
        import gradio as gr
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from genlab.playing.page import CSS, page_of

        page = page_of(Stage(run, Path(folder), opened_with), panels)
        guards = [Middleware(TrustedHostMiddleware, allowed_hosts=list(NAMES)), Middleware(WithPolicy)]
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            page.launch(
                server_name=HOST, server_port=port, share=False, quiet=True, prevent_thread_lock=True, inbrowser=False,
                ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False, footer_links=[], css=CSS,
                theme=theme, app_kwargs={"middleware": guards},
            )  # fmt: skip
            yield f"http://{HOST}:{port}/"
        finally:
            page.close(verbose=False)


def offline(cache: Path) -> None:
    """Tell Gradio, before it is imported, to send nothing anywhere, and where to keep its files while it runs.

    Args:
        cache: folder of its files.
    """
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(cache),
        "GRADIO_SHARE": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell that Gradio asks whether its server is there
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is there
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *NAMES]))


class WithPolicy:
    """Middleware that forbids the browser to ask anybody but this server.

    Args:
        app: application that answers.
    """

    def __init__(self, app: object) -> None:
        self.app = app

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        async def sending(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)  # type: ignore[operator]

        await self.app(scope, receive, sending)  # type: ignore[operator]

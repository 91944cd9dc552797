"""Harmful things that a config could name, and a watch that sees when one of them is done.

All of them have the word ``WORD`` in what they are given: in a path, a command, an address or a module's name.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORD = "canary"

_events: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Looking whether a file is there, and comparing texts, is not seen by Python's audit events; doing something is.
    if _events is not None and WORD in str(arguments):
        _events.append(f"{event} {str(arguments)[:200]}")


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Collect what Python does to anything with the word in its name, such as opening a file or starting a program."""
    global _events
    _events = events = []
    try:
        yield events
    finally:
        _events = None


def harmful(folder: Path) -> dict[str, dict[str, Any]]:
    """Give nodes that a config could hold, by a name; with what they need in a folder.

    Args:
        folder: empty folder. Its name has the word in it.
    """
    import pickle
    import tarfile
    import zipfile

    import numpy as np

    assert WORD in folder.name
    there = folder / "there.txt"
    there.write_text("x")
    (folder / "tree").mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(there, "unpacked.txt")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(there, "unpacked.txt")
    (folder / "p.pickle").write_bytes(pickle.dumps(_Touch(folder / "ran")))
    np.save(folder / "p.npy", np.array([_Touch(folder / "ran")], dtype=object), allow_pickle=True)
    (folder / "script.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    (folder / "hubconf.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef net(): return 1")
    (folder / "log.ini").write_text("[loggers]\nkeys=root\n")
    at, new, pickled = str(folder), str(folder / "new"), str(folder / "p.pickle")
    url = f"http://{WORD}.invalid/x"
    command = f"touch {new}"

    def node(target: str, *args: Any, **options: Any) -> dict[str, Any]:
        return {"_target_": target, **({"_args_": list(args)} if args else {}), **options}

    inner = node("os.system", command)
    logging = {"version": 1, "handlers": {"a": {"class": "logging.FileHandler", "filename": new}}, "root": {}}
    found = [
        # Programs and code
        node("os.system", command),
        node("posix.system", command),
        node("os.popen", command),
        node("os.execv", "/bin/touch", ["touch", new]),
        node("os.posix_spawn", "/bin/touch", ["touch", new], {}),
        node("subprocess.run", ["touch", new]),
        node("subprocess.Popen", ["touch", new]),
        node("subprocess.check_output", ["touch", new]),
        node("subprocess.getoutput", command),
        node("pty.spawn", ["touch", new]),
        node("builtins.eval", f"open({new!r}, 'w')"),
        node("builtins.exec", f"open({new!r}, 'w')"),
        node("builtins.open", new, "w"),
        node("io.open", new, "w"),
        node("builtins.__import__", f"{WORD}_module"),
        node("importlib.import_module", f"{WORD}_module"),
        node("runpy.run_path", str(folder / "script.py")),
        node("runpy.run_module", f"{WORD}_module"),
        node("code.InteractiveInterpreter.runsource"),
        node("timeit.timeit", f"open({new!r}, 'w')", number=1),
        node("cProfile.run", f"open({new!r}, 'w')"),
        node("pdb.run", f"open({new!r}, 'w')"),
        node("ctypes.CDLL", str(folder / "lib.so")),
        node("webbrowser.open", url),
        node("asyncio.create_subprocess_shell", command),
        node("multiprocessing.Process"),
        node(f"{WORD}_module.Net"),
        node(f"{WORD}_module"),
        # Files
        node("shutil.copy", str(there), new),
        node("shutil.move", str(there), new),
        node("shutil.rmtree", at),
        node("shutil.copytree", at, new),
        node("shutil.unpack_archive", str(folder / "a.zip"), at),
        node("shutil.make_archive", new, "zip", at),
        node("os.remove", str(there)),
        node("os.mkdir", new),
        node("os.rename", str(there), new),
        node("os.symlink", str(there), new),
        node("os.chmod", str(there), 0),
        node("pathlib.Path.write_text", node("pathlib.Path", new), "x"),
        node("pathlib.Path.unlink", node("pathlib.Path", str(there))),
        node("pathlib.Path.touch"),
        node("tempfile.mkdtemp", dir=at),
        node("zipfile.ZipFile.extractall"),
        node("zipfile.main", ["-e", at, at]),
        node("tarfile.open", str(folder / "a.tar")),
        node("sqlite3.connect", new),
        node("dbm.open", new, "c"),
        node("shelve.open", new),
        node("logging.FileHandler", new),
        node("logging.config.dictConfig", logging),
        node("logging.config.fileConfig", str(folder / "log.ini")),
        node("fileinput.input", [str(there)], inplace=True),
        # Pickles, by whoever reads them
        node("pickle.load", node("builtins.open", pickled, "rb")),
        node("pickle.loads", "cos\nsystem\n(S'x'\ntR."),
        node("numpy.load", str(folder / "p.npy"), allow_pickle=True),
        node("numpy.save", new, [1]),
        node("numpy.lib.npyio.load", str(folder / "p.npy"), allow_pickle=True),
        node("numpy.savetxt", new, [1]),
        node("numpy.memmap", new, mode="w+", shape=[4]),
        node("numpy.fromfile", str(there)),
        node("torch.load", pickled, weights_only=False),
        node("torch.serialization.load", pickled, weights_only=False),
        node("torch.save", {}, new),
        node("torch.jit.load", pickled),
        node("torch.package.PackageImporter", pickled),
        node("torch.hub.load", at, "net", source="local", trust_repo=True),
        node("torch.hub.load_state_dict_from_url", url, model_dir=at),
        node("torch.hub.download_url_to_file", url, new),
        node("torch.utils.cpp_extension.load", "x", [new]),
        node("torch.ops.load_library", str(folder / "lib.so")),
        node("torch.utils.model_zoo.load_url", url),
        node("torchvision.datasets.utils.download_url", url, at),
        node("torchvision.datasets.MNIST", new, download=True),
        node("torchvision.datasets.utils.extract_archive", str(folder / "a.zip"), at),
        node("torchvision.utils.save_image", [0], new),
        node("torchvision.io.write_file", new, [0]),
        node("joblib.load", pickled),
        node("joblib.dump", 1, new),
        node("sklearn.datasets.load_files", at),
        node("cloudpickle.load", node("builtins.open", pickled, "rb")),
        node("matplotlib.pyplot.savefig", new),
        node("scipy.io.savemat", new, {}),
        node("safetensors.torch.save_file", {}, new),
        # The network
        node("urllib.request.urlopen", url),
        node("urllib.request.urlretrieve", url, new),
        node("smtplib.SMTP", f"{WORD}.invalid"),
        node("ftplib.FTP", f"{WORD}.invalid"),
        node("socket.create_connection", [f"{WORD}.invalid", 80]),
        node("requests.get", url),
        node("http.server.test"),
        node("wandb.init", dir=at, mode="offline", project=WORD),
        node("wandb.login", key=WORD),
        # Lightning
        node("pytorch_lightning.loggers.CSVLogger", new),
        node("pytorch_lightning.loggers.WandbLogger", save_dir=new),
        node("pytorch_lightning.LightningModule.load_from_checkpoint", pickled),
        node("pytorch_lightning.utilities.migration.pl_legacy_patch"),
        node("lightning_fabric.utilities.cloud_io._load", pickled),
        node("pytorch_lightning.Trainer.save_checkpoint", new),
        # What calls what it is given
        node("hydra.utils.call", inner),
        node("hydra.utils.instantiate", inner),
        node("hydra.utils.get_method", "os.system"),
        node("hydra._internal.utils._locate", f"{WORD}_module"),
        node("omegaconf.OmegaConf.save", {}, new),
        node("omegaconf.OmegaConf.load", str(there)),
        node("functools.partial", node("os.system", command)),
        node("functools.reduce", {"_target_": "os.system", "_partial_": True}, [command]),
        node("operator.methodcaller", "x"),
        node("builtins.map", {"_target_": "os.system", "_partial_": True}, [command]),
        node("builtins.getattr", node("importlib.import_module", "os"), "system"),
        # genlab's own, which is to be called by genlab, and what its modules have imported
        node("genlab.machine.files.write_atomically", node("pathlib.Path", new), "x"),
        node("genlab.machine.files.os.system", command),
        node("genlab.machine.files.Path.write_text", new, "x"),
        node("genlab.runs.folder.RunFolder.claim", node("pathlib.Path", new)),
        node("genlab.runs.checkpoints.write_checkpoint", {}, new),
        node("genlab.runs.loading.torch.load", pickled),
        node("genlab.runs.checkpoints.torch.save", {}, new),
        node("genlab.launching.resume.shutil.rmtree", at),
        node("genlab.composition.building.build", inner, "x"),
        node("genlab.composition.building.located", "os.system", ""),
        node("genlab.loggers.wandb.wandb_logger", at, WORD),
        node("genlab.commands.called.launch", f"name={WORD}"),
        node("genlab.cli.main", ["train", f"name={WORD}"]),
        node("genlab.cli.import_module", f"{WORD}_module"),
        node("genlab.composition.trust.trust_modules", "os"),
        node("genlab.launching.processes.subprocess.run", ["ls", at]),
        node("genlab.models.vae.vae.VAE.__init__.__globals__"),
        node("genlab.__main__"),
        node("torch.optim.os.system", command),
        node("torch.optim.Adam.__class__", WORD, [], {}),
        node("zuko.flows.torch.load", pickled),
        node("pytorch_lightning.os.system", command),
    ]
    return {f"{number:03}-{node['_target_']}": node for number, node in enumerate(found)}


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "x"))

"""A made-up report, as ``genlab compare`` writes it into a page."""

import base64
import io
import math
from typing import Any

from PIL import Image

HOSTILE = '</script><img src=x onerror="window.hacked = 1"><b>{{plotly}} & <!-- \u2028 "quoted"'
FID = {"features": "digits", "num_samples": 2000}


def picture(shade: int) -> str:
    content = io.BytesIO()
    Image.new("L", (4, 4), shade).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def curve(images: list[float], values: list[float | None], seconds_each: float | None = 0.5) -> dict[str, list[Any]]:
    """A logged curve; ``a_run`` stores its places on the axes as a page has them."""
    epochs = [x // 100 for x in images]
    places = {"images": images, "epochs": epochs}
    if seconds_each is not None:
        places["seconds"] = [seconds_each * x for x in images]
    return {"places": places, "values": values}


def pictures(during: dict[int, int], final: int | None = None, kind: str = "samples") -> dict[str, Any]:
    """Pictures of one kind: shades by the images seen, and that of the trained model."""
    found = [{"images_seen": images, "src": picture(shade)} for images, shade in during.items()]
    return {kind: [*found, *([] if final is None else [{"images_seen": None, "src": picture(final)}])]}


def a_run(number: int, row: int, seed: int, **more: Any) -> dict[str, Any]:
    curves = more.pop("curves", {})
    return {
        "id": number,
        "key": f"{number:08x}",
        "row": row,
        "path": f"/somewhere/outputs/run-{number}",
        "name": f"run-{number}",
        "seed": seed,
        "status": "done",
        "reason": None,
        "command": f"genlab train model=vae/vae seed={seed} number={number}",
        "facts": {"device": "x86_64", "version of torch": "2.14.1"},
        "figures": {
            "test/fid": {
                "text": "20.4",
                "protocol": {"": "in a few words", **FID, "seed": 0},
                "warning": "few samples",
            },
            "test/nll": {"text": "95.1", "protocol": {"split": "test", "seed": 0}, "warning": None},
        },
        "at": [one["places"] for one in curves.values()],
        "curves": {name: {"at": i, "values": one["values"]} for i, (name, one) in enumerate(curves.items())},
        "pictures": {},
        "config": {"other": {"seed": seed, "model.width": 8 + number}, "lacks": []},
        **more,
    }


def a_report() -> dict[str, Any]:
    """Ten rows. Row 0 has three seeds, one of which failed; row 1 has no FID and a hostile label; 100 is above 20.5."""
    fids = [20.5, None, 9.25, 100.0, 31.0, 32.0, 33.0, 34.0, 35.0, 36.0]
    runs = [
        a_run(
            0,
            0,
            1,
            curves={"val/fid": curve([0, 100, 200], [4.0, 2.0, 0.0]), "train/loss": curve([0, 100], [2.0, 1.0], None)},
            pictures=pictures({100: 10, 200: 20}, 30) | pictures({100: 70}, 80, "reconstructions"),
        ),
        a_run(
            1,
            0,
            2,
            curves={"val/fid": curve([50, 150, 250], [3.0, 3.0, 3.0])},
            pictures=pictures({150: 40}, 50),
        ),
        a_run(2, 0, 3, status="failed", reason="the disk is full", curves={"val/fid": curve([0, 60], [90.0, 90.0])}),
        a_run(3, 1, 1, name=HOSTILE, command=HOSTILE, path=HOSTILE, reason=HOSTILE, status="failed", figures={}),
        a_run(4, 2, 1, curves={"val/fid": curve([0, 300], [8.0, math.nan])}, pictures=pictures({}, 60)),
        *(a_run(row + 2, row, 1, curves={"val/fid": curve([0, 300], [8.0, 7.0])}) for row in range(3, 10)),
    ]
    runs[3]["facts"] = {HOSTILE: HOSTILE}
    labels = ["model=vae/vae model.latent_dim=2", HOSTILE, "model=gan/dcgan", "model=flow/real_nvp"]
    labels += [f"model=vae/vae model.latent_dim={row}" for row in range(4, 10)]
    rows = []
    for i, (label, fid) in enumerate(zip(labels, fids, strict=True)):
        name = label.partition(" ")[0].removeprefix("model=") if i != 1 else HOSTILE
        own = [run for run in runs if run["row"] == i]
        status = {s: sum(run["status"] == s for run in own) for s in {run["status"] for run in own}}
        cells: dict[str, Any] = {
            "model": {"text": name, "value": None, "best": False},
            "status": {"text": ", ".join(f"{num} {s}" for s, num in sorted(status.items())), "value": None},
        }
        if "latent_dim" in label:
            size = int(label.rpartition("=")[2])
            cells["model.latent_dim"] = {"text": str(size), "value": size, "best": False}
        if fid is not None:
            cells["test/fid"] = {"text": f"{fid:.2f} ± 0.10", "value": fid, "best": fid == 9.25}
        rows.append({"id": i, "label": label, "cells": cells, "runs": [run["id"] for run in own], "status": status})
    common = {"unit": None, "better": None, "description": None, "protocol": None}
    return {
        "title": f"Digits {HOSTILE}",
        "made": "2026-01-01 12:00",
        "version": "0.1.0",
        "command": "genlab compare outputs --html report.html",
        "columns": [
            {**common, "key": "model", "title": "model", "kind": "config"},
            {**common, "key": "model.latent_dim", "title": "model.latent_dim", "kind": "config"},
            {
                **common,
                "key": "test/fid",
                "title": "FID",
                "kind": "figure",
                "better": "min",
                "description": "digits features",
                "protocol": FID,
            },
            {**common, "key": "status", "title": "status", "kind": "status"},
        ],
        "rows": rows,
        "runs": runs,
        "config": {"model._target_": "genlab.models.vae.vae.VAE", "training.lr": 0.001},
        "real": [{"dataset": "digits", "src": picture(255)}],
        "metrics": ["val/bits_per_dim", "val/fid", "train/loss"],
        "decisions": ["FID: b is better than a by 1.0 ± 0.3 on 5 seeds", HOSTILE],
        "notes": ["one run was left out", HOSTILE],
    }

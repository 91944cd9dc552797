#!/usr/bin/env bash
# Measure genlab on a GPU, in ten minutes at most: the tests of CUDA, and six models against the plain loop, with
# genlab's defaults and with trainer.tune=auto, to one JSON file. A part that fails or takes too long is recorded as
# such, and the others run.
#
#     benchmarks/gpu.sh                                                       # writes benchmarks/gpu.json
#     OUT=/some/folder benchmarks/gpu.sh                                      # writes /some/folder/gpu.json
#     TRAINER=cpu SECONDS_IN_ALL=120 PAIRS="vae" benchmarks/gpu.sh           # that it runs, without a GPU
#
# PYTHON is the interpreter that has genlab (.venv/bin/python), TRAINER the trainer's config (gpu), PAIRS the names
# below, and TESTS=no leaves the tests out. SECONDS_IN_ALL is the time that all parts share (570), of which
# SECONDS_OF_TESTS are kept for the tests (180), and SECONDS_OF_PAIR is the limit of one measurement (75).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

PYTHON=${PYTHON:-.venv/bin/python}
TRAINER=${TRAINER:-gpu}
OUT=${OUT:-benchmarks}
TESTS=${TESTS:-yes}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-570}
SECONDS_OF_TESTS=${SECONDS_OF_TESTS:-180}
SECONDS_OF_PAIR=${SECONDS_OF_PAIR:-75}
if [[ $TESTS != yes ]]; then SECONDS_OF_TESTS=0; fi
PAIRS=${PAIRS:-vae mlp real_nvp dcgan pixel_cnn flow_matching}
export WANDB_MODE=disabled

mkdir -p "$OUT" || exit 1
parts=$(mktemp -d) || exit 1
trap 'rm -rf "$parts"' EXIT

overrides() { # the overrides of a pair, one a line
    case $1 in
        vae) printf '%s\n' model=vae/vae dataset=digits dataset.batch_size=64 ;;
        mlp) printf '%s\n' model=gan/mlp dataset=ring2d ;;
        real_nvp) printf '%s\n' model=flow/real_nvp dataset=digits dataset.batch_size=64 ;;
        dcgan) printf '%s\n' model=gan/dcgan dataset=digits dataset.batch_size=64 ;;
        pixel_cnn) printf '%s\n' model=autoregressive/pixel_cnn dataset=digits dataset.batch_size=64 ;;
        flow_matching) printf '%s\n' model=diffusion/flow_matching dataset=digits dataset.batch_size=64 ;;
        *) return 1 ;;
    esac
}

kept=$SECONDS_OF_TESTS # seconds that the next part must leave

left() { # seconds that are left for all further parts but those that time is kept for
    echo $((SECONDS_IN_ALL - SECONDS - kept))
}

part() { # part NAME SECONDS COMMAND...: run a part, and note how it ended
    local name=$1 most=$2 began=$SECONDS code
    shift 2
    if (($(left) < most)); then most=$(left); fi
    if ((most < 10)); then
        echo "$name: left out, no time" >&2
        printf '{"part": "%s", "code": null, "seconds": 0}\n' "$name" >>"$parts/log"
        return
    fi
    timeout --kill-after=10 "$most" "$@" >"$parts/$name.out" 2>"$parts/$name.err"
    code=$?
    printf '{"part": "%s", "code": %d, "seconds": %d}\n' "$name" "$code" $((SECONDS - began)) >>"$parts/log"
    if ((code != 0)); then
        echo "$name: failed with $code after $((SECONDS - began)) s (124: out of time)" >&2
        tail -n 5 "$parts/$name.err" >&2
    else
        echo "$name: $((SECONDS - began)) s" >&2
    fi
}

: >"$parts/log"
for pair in $PAIRS; do
    if ! mapfile -t given < <(overrides "$pair") || ((${#given[@]} == 0)); then
        echo "there is no pair $pair" >&2
        continue
    fi
    for tune in off auto; do
        part "$pair-$tune" "$SECONDS_OF_PAIR" "$PYTHON" -m genlab benchmark "${given[@]}" "trainer=$TRAINER" "trainer.tune=$tune" \
            trainer.tune_precision="$([[ $tune == auto ]] && echo true || echo false)" benchmark.rounds=3 \
            benchmark.seconds=0.5 benchmark.num_samples=0 logger=csv "benchmark.output=$parts/$pair-$tune.json"
    done
done
if [[ $TESTS == yes ]]; then
    kept=0
    part tests "$(left)" "$PYTHON" -m pytest -m cuda tests/training --verbose
fi

"$PYTHON" - "$parts" "$OUT/gpu.json" "$TRAINER" <<'PYTHON_END'
import json
import sys
from pathlib import Path

parts, target, trainer = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
found = {"trainer": trainer, "machine": None, "parts": [], "pairs": {}}
for line in (parts / "log").read_text().splitlines():
    about = json.loads(line)
    name = about["part"]
    for end, key in (("out", "output"), ("err", "errors")):
        file = parts / f"{name}.{end}"
        if file.is_file() and (name == "tests" or about["code"]):
            about[key] = file.read_text(errors="replace").splitlines()[-100:]
    found["parts"].append(about)
    measured = parts / f"{name}.json"
    if measured.is_file():
        content = json.loads(measured.read_text())
        found["machine"] = content["machine"]
        found["pairs"][name] = content["pairs"][0]
target.write_text(json.dumps(found, indent=1) + "\n")
for name, pair in found["pairs"].items():
    print(f"{name}: {pair['speedup']:.2f} times the plain loop, {pair['precision']}, compile={pair['compile']}")
print(f"written: {target}")
PYTHON_END

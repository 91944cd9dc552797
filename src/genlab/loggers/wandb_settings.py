"""W&B's settings and environment variables, and how long genlab waits for it."""

import os
import sys
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from genlab.errors import InputError

# In seconds; W&B's own values are 90, no limit and 15. WANDB_INIT_TIMEOUT and its like take precedence over these.
PATIENCE: dict[str, Any] = {
    "init_timeout": 20,  # after which a run that cannot start online starts offline
    "finish_timeout": 120,  # for sending what is left at the end; wandb sync sends the rest
    "x_transaction_log_flush_interval": 1,  # a kill loses at most this much of W&B's file
}

MODES = ("online", "offline", "disabled")  # values of WANDB_MODE that need no check


def chosen_mode() -> str:
    """Choose between ``online``, for a user who is logged in, and ``offline``; ``WANDB_MODE`` overrides both."""
    return os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc(Path.home() / ".netrc").authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def settings() -> Any:
    """Give W&B's settings of a run, after the environment was checked.

    Raises:
        InputError: as :func:`check_environment`.
    """
    import wandb

    fields = wandb.Settings.model_fields  # older versions of W&B have fewer settings
    patience = {key: value for key, value in PATIENCE.items() if key in fields and _variable(key) not in os.environ}
    check_environment()
    found = wandb.Settings(silent=True, **patience)
    if "finish_timeout_raises" in fields:
        found.finish_timeout_raises = True
    return found


def check_environment() -> None:
    """Check the values of the environment's ``WANDB_...`` variables; without a well-formed key, the run is offline.

    Raises:
        InputError: if W&B would refuse one; the message names it and its value.
    """
    variables = {name for name in os.environ if name.startswith("WANDB_")}
    if os.environ.get("WANDB_MODE") in MODES:
        variables.discard("WANDB_MODE")
    if not variables:
        return  # a trial of one batch, which logs nothing, does not import W&B then
    import wandb
    from pydantic import ValidationError

    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except (ValidationError, wandb.Error) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        name = _variable(str(fault["loc"][0])) if fault["loc"] else "WANDB_API_KEY"  # the one checked without pydantic
        if name == "WANDB_API_KEY" and name in os.environ:  # whose value is a secret
            print(f"genlab: {name} is no key ({fault['msg']}), so the run is offline", file=sys.stderr)
            del os.environ[name]
            return check_environment()
        raise InputError(f"{name}={fault.get('input')}: {fault['msg'][0].lower()}{fault['msg'][1:]}") from None
    except AttributeError:  # a version of W&B without this method; wandb.init checks
        return


def _variable(setting: str) -> str:
    """Name the environment variable of one of W&B's settings."""
    return f"WANDB_{setting.removeprefix('x')}".upper()

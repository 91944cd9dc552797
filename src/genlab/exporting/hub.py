"""Sending an exported folder to the Hugging Face Hub, for users who are logged in there."""

from pathlib import Path
from typing import Any

from genlab.errors import InputError


def check_login(name: str) -> Any:
    """Check that the user is logged in, and give the Hub's client.

    Args:
        name: name of the repository to push to, such as ``"user/model"``.

    Raises:
        InputError: if the client is not installed, nobody is logged in, or the Hub cannot be reached.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import LocalTokenNotFoundError
    except ImportError as error:
        raise InputError(f"push={name} needs huggingface_hub: pip install 'genlab[hub]'") from error
    client = HfApi()
    try:
        client.whoami()
    except LocalTokenNotFoundError as error:
        raise InputError(f"push={name}: nobody is logged in to the Hugging Face Hub: hf auth login") from error
    except Exception as error:  # of the network, of the Hub, of an expired token
        raise InputError(f"push={name}: the Hub does not answer as it should ({_line(error)})") from error
    return client


def push(client: Any, folder: Path, name: str, private: bool = True) -> str:
    """Upload an exported folder as a model repository, which is made if there is none.

    Args:
        client: client that :func:`check_login` gave.
        folder: exported folder.
        name: name of the repository.
        private: whether a repository that is made is seen by its owner only.

    Returns:
        The address of the repository.

    Raises:
        InputError: if the Hub refuses; the folder on this machine is complete.
    """
    try:
        address = client.create_repo(name, private=private, exist_ok=True)
        client.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Exported by genlab")
    except Exception as error:  # the client has a dozen kinds
        raise InputError(f"push={name}: the Hub refused ({_line(error)}); the folder is {folder}") from error
    return str(address)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""An estimate of training speed on several devices, from a step's cost and from speeds that the user states."""

from dataclasses import dataclass

from genlab.errors import InputError
from genlab.speed.cost import Cost

NUM_DEVICES = (1, 8, 64)


@dataclass(frozen=True)
class Speeds:
    """Speeds of devices and of their links, as they are reached, not as data sheets give them.

    Args:
        device_tflops: 10^12 floating-point operations a second of a device, at the precision of training.
        device_gb: GB (10^9 bytes) a second that a device reads and writes in its memory; None leaves memory out.
        link_gb: GB a second that a device sends to the next one, and receives at the same time; None for one device.

    Raises:
        InputError: if a speed is not above 0.
    """

    device_tflops: float
    device_gb: float | None = None
    link_gb: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise InputError(f"benchmark.{name}={value}: a speed above 0")


def stated_speeds(device_tflops: float | None, device_gb: float | None, link_gb: float | None) -> Speeds | None:
    """Make the speeds that a user has stated; None if none is.

    Raises:
        InputError: if some are stated without that of the device, or one is not above 0.
    """
    if device_tflops is not None:
        return Speeds(device_tflops, device_gb, link_gb)
    if device_gb is not None or link_gb is not None:
        raise InputError("benchmark.device_tflops: give the operations a second of a device, too")
    return None


def seconds_per_step(cost: Cost, speeds: Speeds, devices: int, size: float) -> float:
    """Estimate the seconds of a step: ``max(F / f, M / m) + 2 (n - 1) / n * G / l``.

    F are the operations and M the bytes moved of a batch on one device, G the bytes of the gradients, n the number of
    devices, and f, m and l the speeds of a device, of its memory and of its link. The second term is the all-reduce of
    the gradients in a ring, of which nothing is taken to happen during the backward pass.

    Args:
        cost: cost of a step.
        speeds: speeds of devices and links.
        devices: number n of devices.
        size: number of examples of a batch on each device.

    Raises:
        InputError: if there are several devices and no speed of their links.
    """
    seconds = cost.total_flops(size) / (1e12 * speeds.device_tflops)
    if speeds.device_gb is not None:
        seconds = max(seconds, cost.bytes_moved.at(size) / (1e9 * speeds.device_gb))
    if devices == 1:
        return seconds
    if speeds.link_gb is None:
        raise InputError("benchmark.link_gb: give the speed of the links between devices")
    return seconds + 2 * (devices - 1) / devices * cost.gradients / (1e9 * speeds.link_gb)


def images_per_second(cost: Cost, speeds: Speeds, devices: int, each: bool) -> float | None:
    """Estimate the images a second on several devices.

    Args:
        cost: cost of a step.
        speeds: speeds of devices and links.
        devices: number of devices.
        each: whether each device has a batch of the configured size; otherwise they share one.

    Returns:
        The number; None if a shared batch has fewer examples than there are devices.
    """
    size = cost.batch_size if each else cost.batch_size / devices
    return None if size < 1 else devices * size / seconds_per_step(cost, speeds, devices, size)

"""What an hour of one of this installation's GPUs costs."""

from __future__ import annotations

from lora_backend.config.findings import shorten
from lora_backend.errors import ConfigError
from lora_backend.i18n import N_
from lora_backend.installation import GPU_PRICE, Installation
from lora_backend.planning.price import Price, read_price


def gpu_price(installation: Installation) -> Price | None:
    """That of `FLIGHTDECK_GPU_PRICE`; None where it is not set. Raises `ConfigError` where it is no price."""
    if not installation.gpu_price:
        return None
    price = read_price(installation.gpu_price)
    if price is None:
        raise ConfigError(
            N_(
                "`{name}` is {text}. Set it to an amount above 0, with a currency if you like, as in 1.5EUR, or unset it."
            ),
            name=GPU_PRICE,
            text=shorten(installation.gpu_price),
        )
    return price

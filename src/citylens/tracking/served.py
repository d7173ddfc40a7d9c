"""A trained network as MLflow serves it: photographs in, city, probabilities and mask out.

MLflow keeps this module and the package around it with the weights, and loads both by `_load_pyfunc`; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BATCH = 16


class Served:
    """A network with its card, ready to look at photographs of any size."""

    def __init__(self, weights: str) -> None:
        from citylens.nets import checkpoints, networks

        network, self.card = checkpoints.load_network(weights)
        self._device = networks.device()
        self._body, self._head = networks.split(network.eval())

    def get_raw_model(self) -> Served:
        """Return this object. Its `predict` takes images of several sizes in one call, which MLflow's signature does not."""
        return self

    def predict(
        self, model_input: np.ndarray | Sequence[np.ndarray], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return what the network sees in each image.

        Args:
            model_input: (N, H, W, 3) uint8 RGB, or a sequence of (H, W, 3) of any sizes.
            params: none are known.

        Returns:
            One row per image: `city`; `probability of CITY` for each city; `mask`, (H, W) float32 in [0, 1], Grad-CAM of the
            predicted city's score; `dead`, whether that mask is zero everywhere because no region speaks for the city.

        Raises:
            ValueError: no image, or one that is not (H, W, 3) or not of whole numbers from 0 to 255.
        """
        import pandas as pd

        images = [_checked(image, place) for place, image in enumerate(model_input)]
        if not images:
            raise ValueError("no image; allowed: one or more")
        parts = [self._look(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return pd.concat(parts, ignore_index=True)

    def _look(self, images: list[np.ndarray]) -> pd.DataFrame:
        import numpy as np
        import pandas as pd
        import torch

        from citylens.explain import grad_cam
        from citylens.nets import masks, networks, resizing

        card = self.card
        pixels = np.stack([resizing.resize_image(image, card.size, card.resize) for image in images])
        batch = networks.to_input(torch.from_numpy(pixels).to(self._device), card.mean, card.std)
        explained, logits = grad_cam.grad_cam(self._body, self._head, batch)
        maps, probabilities = explained.cpu().numpy(), logits.softmax(1).cpu().numpy()
        weighted = masks.normalise(maps, card.size)
        columns: dict[str, Any] = {"city": [card.cities[place] for place in probabilities.argmax(1)]}
        columns |= {f"probability of {city}": probabilities[:, place] for place, city in enumerate(card.cities)}
        sizes = [image.shape[:2] for image in images]
        columns["mask"] = [
            resizing.spread(mask, size[0], size[1], card.resize) for mask, size in zip(weighted, sizes, strict=True)
        ]
        return pd.DataFrame(columns | {"dead": masks.dead(maps)})


def _checked(image: Any, place: int) -> np.ndarray:
    import numpy as np

    array = np.asarray(image)
    whole = array.dtype.kind in "ui" and array.size > 0 and array.min() >= 0 and array.max() <= 255
    if array.ndim != 3 or array.shape[2] != 3 or not whole:
        found = f"shape {array.shape} and type {array.dtype}"
        raise ValueError(
            f"image {place} has {found}; allowed: (height, width, 3), whole numbers from 0 to 255, red first"
        )
    return array.astype(np.uint8)


def _load_pyfunc(data_path: str) -> Served:
    """MLflow's entry: the network in a safetensors file."""
    return Served(data_path)

"""A trained network as MLflow serves it: photographs in, city, probabilities and mask out.

MLflow keeps this module and the package around it with the weights, and loads both by `_load_pyfunc`; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BATCH = 16
MOST_SERVED = 100
"""Images in one call over HTTP: MLflow's server ends a call after 60 s (MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT)."""


class Refused(MlflowException, ValueError):
    """Images that the network cannot take; MLflow's server answers with status 400 and the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, INVALID_PARAMETER_VALUE)


class Served:
    """A network with its card, ready to look at photographs of any size."""

    def __init__(self, weights: str) -> None:
        from citylens.nets import checkpoints, networks

        network, self.card = checkpoints.load_network(weights)
        self._device = networks.device()
        self._body, self._head = networks.cut(network.eval())

    def get_raw_model(self) -> Served:
        """Return this object. Its `predict` takes images of several sizes in one call, which MLflow's signature does not."""
        return self

    def predict(
        self, model_input: np.ndarray | Sequence[np.ndarray], params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return what the network sees in each image.

        Args:
            model_input: (N, H, W, 3) RGB of any integer dtype, or a sequence of (H, W, 3) of any sizes. Over HTTP, MLflow passes
                the numbers as JSON has them, in an array of Python objects.
            params: none are known.

        Returns:
            One row per image: `city`; `probability of CITY` for each city; `mask`, (H, W) float32 in [0, 1], Grad-CAM of the
            predicted city's score; `dead`, whether that mask is zero everywhere because no region speaks for the city.

        Raises:
            ValueError: no image, more than 100 over HTTP, or one that is not (H, W, 3) or not of whole numbers from 0 to 255.
        """
        import pandas as pd

        if _MLFLOW_IS_IN_SERVING_ENVIRONMENT.get() and len(model_input) > MOST_SERVED:
            raise Refused(
                f"{len(model_input):,} images in one call; allowed over HTTP: {MOST_SERVED}, so send several calls"
            )
        images = [_checked(image, place) for place, image in enumerate(model_input)]
        if not images:
            raise Refused("no image; allowed: one or more")
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

    array = np.array(image, dtype=object) if isinstance(image, list) else np.asarray(image)
    found = f"shape {array.shape} and type {array.dtype}"
    if array.dtype == object:
        kinds = {type(value) for value in array.flat}
        found = f"shape {array.shape} and values of type {', '.join(sorted(kind.__name__ for kind in kinds))}"
        if all(kind is int or issubclass(kind, np.integer) for kind in kinds):  # True is no number here.
            array = np.array(array.tolist())
    whole = array.dtype.kind in "ui" and array.size > 0
    if whole and not 0 <= array.min() <= array.max() <= 255:
        found = f"values from {array.min()} to {array.max()}"
    elif whole and array.ndim == 3 and array.shape[2] == 3:
        return array.astype(np.uint8)
    raise Refused(f"image {place} has {found}; allowed: (height, width, 3), whole numbers from 0 to 255, red first")


def _load_pyfunc(data_path: str) -> Served:
    """MLflow's entry: the network in a safetensors file."""
    return Served(data_path)

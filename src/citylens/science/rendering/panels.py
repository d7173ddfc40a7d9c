"""Textures of fences and signboards."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from citylens.science.rendering.camera import Floats

_WOOD = np.array([[0.46, 0.34, 0.24], [0.80, 0.79, 0.75], [0.38, 0.40, 0.38], [0.30, 0.36, 0.30]])
_STONE = np.array([0.62, 0.59, 0.54])


def glyphs(rng: np.random.Generator, aspect: float) -> NDArray[np.uint8]:
    """Face of a signboard (h, w, 3) uint8, `aspect` times as wide as high: a border and rows of made-up letters."""
    height, width = (64, min(320, round(64 * aspect))) if aspect > 1 else (min(320, round(64 / aspect)), 64)
    ground, ink = _sign_colours(rng)
    face = np.empty((height, width, 3), np.uint8)
    face[:] = ground
    if rng.random() < 0.6:
        cv2.rectangle(face, (3, 3), (width - 4, height - 4), ink.tolist(), 3)
    if aspect > 1:
        _letters(rng, face, (10, 14), (width - 20, 36), ink, True)
    else:
        _letters(rng, face, (14, 10), (36, height - 20), ink, False)
    return face


def fence_panel(rng: np.random.Generator, length: float, texels: float) -> tuple[Floats, NDArray[np.uint8]]:
    """A fence of `length` metres, `texels` a metre: albedo (h, w, 3) and mask (h, w) uint8, 255 where it is solid."""
    wide, high = int(np.clip(length * texels, 32, 520)), 48
    form = rng.choice(["boards", "pickets", "bars", "wall"])
    texture = np.empty((high, wide, 3), np.float32)
    texture[:] = _WOOD[rng.integers(len(_WOOD))] * rng.uniform(0.85, 1.1)
    mask = np.full((high, wide), 255, np.uint8)
    boards = max(8, round(length / 0.17))
    column = (np.arange(wide) / wide * boards) % 1
    texture *= np.repeat(rng.uniform(0.82, 1.08, boards), -(-wide // boards))[:wide, None].astype(np.float32)
    if form == "boards":
        texture[:, column < 0.14] *= 0.55
    else:
        _open_fence(texture, mask, column, str(form), length)
    texture[:3] *= 1.12
    texture[-5:] *= 0.72
    return texture, mask


def _open_fence(texture: Floats, mask: NDArray[np.uint8], column: Floats, form: str, length: float) -> None:
    """Cut the gaps between pickets or bars, or lay a low wall under bars."""
    gap = {"pickets": 0.38, "bars": 0.62, "wall": 0.62}[form]
    mask[:, column < gap] = 0
    for rail in ((0.14, 0.24), (0.72, 0.82)):
        low, high = (round(share * mask.shape[0]) for share in rail)
        mask[low:high] = 255
        texture[low:high] *= 0.88
    if form == "wall":
        half = mask.shape[0] // 2
        mask[half:] = 255
        texture[half:] = _STONE
        texture[half : half + 3] = _STONE * 1.2
        post = (np.arange(mask.shape[1]) / mask.shape[1] * length / 3) % 1 < 0.12
        mask[:, post] = 255
        texture[:, post] = _STONE * 0.97


def _sign_colours(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Colours of ground and letters, (3,) each, 0 to 255, one bright and one dark."""
    hue, pale = rng.uniform(0, 180), rng.random() < 0.35
    vivid = np.array([[[hue, rng.uniform(150, 255), rng.uniform(120, 235)]]], np.uint8)
    colour = cv2.cvtColor(vivid, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    if pale:
        return np.full(3, rng.uniform(215, 245)), colour * 0.7
    light = colour @ np.array([0.3, 0.59, 0.11])
    return colour, np.full(3, 245.0 if light < 140 else 25.0)


def _letters(
    rng: np.random.Generator,
    face: NDArray[np.uint8],
    corner: tuple[int, int],
    size: tuple[int, int],
    ink: Floats,
    is_row: bool,
) -> None:
    """Fill a box (left, top; width, height) of a sign with letters in a row or a column, three strokes each."""
    letter = min(size)
    step = round(letter * 0.85)
    for start in range(0, max(size) - letter + 1, step):
        if rng.random() < 0.12:
            continue
        left, top = (corner[0] + start, corner[1]) if is_row else (corner[0], corner[1] + start)
        points = rng.integers(0, 4, (4, 2)) * (letter * 0.22) + np.array([left + 2, top + 2])
        stroke = np.rint(points).astype(np.int32)
        cv2.polylines(face, [stroke], bool(rng.random() < 0.3), ink.tolist(), 5, cv2.LINE_AA)

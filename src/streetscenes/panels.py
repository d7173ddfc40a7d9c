"""Textures of fences and signboards."""

from __future__ import annotations

import cv2
import numpy as np

from streetscenes.camera import Floats, Pixels

_WOOD = np.array([[0.46, 0.34, 0.24], [0.80, 0.79, 0.75], [0.38, 0.40, 0.38], [0.30, 0.36, 0.30]])
_STONE = np.array([0.62, 0.59, 0.54])


def glyphs(rng: np.random.Generator, aspect: float) -> Pixels:
    """Draw the face of a signboard (h, w, 3) uint8, `aspect` times as wide as high: made-up letters, often a border."""
    height, width = (64, min(320, round(64 * aspect))) if aspect > 1 else (min(320, round(64 / aspect)), 64)
    ground, ink = _sign_colours(rng)
    face = np.full((height, width, 3), ground, np.uint8)
    if rng.random() < 0.6:
        cv2.rectangle(face, (3, 3), (width - 4, height - 4), ink.tolist(), 3)
    _letters(rng, face, ink, (10, 14, width - 20, 36) if aspect > 1 else (14, 10, 36, height - 20))
    return face


def fence_panel(rng: np.random.Generator, length: float, texels: float) -> tuple[Floats, Pixels]:
    """Draw a fence, `texels` texture pixels per metre: albedo (h, w, 3) and mask (h, w) uint8, 255 where solid."""
    wide, high = int(np.clip(length * texels, 32, 520)), 48
    form = rng.choice(["boards", "pickets", "bars", "wall"])
    wood = _WOOD[rng.integers(len(_WOOD))] * rng.uniform(0.85, 1.1)
    texture = np.full((high, wide, 3), wood, np.float32)
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


def _open_fence(texture: Floats, mask: Pixels, column: Floats, form: str, length: float) -> None:
    """Cut the gaps between pickets or bars, and add the low wall under bars."""
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
    """Draw the colours (3,) of ground and letters, 0 to 255, one bright and one dark."""
    hue, pale = rng.uniform(0, 180), rng.random() < 0.35
    vivid = np.array([[[hue, rng.uniform(150, 255), rng.uniform(120, 235)]]], np.uint8)
    colour = cv2.cvtColor(vivid, cv2.COLOR_HSV2RGB)[0, 0].astype(float)
    if pale:
        return np.full(3, rng.uniform(215, 245)), colour * 0.7
    light = colour @ np.array([0.3, 0.59, 0.11])
    return colour, np.full(3, 245.0 if light < 140 else 25.0)


def _letters(rng: np.random.Generator, face: Pixels, ink: Floats, box: tuple[int, int, int, int]) -> None:
    """Fill a box (left, top, width, height) of a sign with a row or a column of letters, three strokes each."""
    left, top, width, height = box
    letter = min(width, height)
    for start in range(0, max(width, height) - letter + 1, round(letter * 0.85)):
        if rng.random() < 0.12:
            continue
        corner = (left + start, top) if width > height else (left, top + start)
        points = rng.integers(0, 4, (4, 2)) * (letter * 0.22) + np.array(corner) + 2
        stroke = np.rint(points).astype(np.int32)
        cv2.polylines(face, [stroke], bool(rng.random() < 0.3), ink.tolist(), 5, cv2.LINE_AA)

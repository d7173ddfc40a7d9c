"""Picture and label map of one view, painted together with polygons and textured panels given in metres."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from citylens.science.rendering.camera import NEAR, Camera, Floats, clip_near

FINE = 2
_SHIFT = 4
_FAR_OFF = 2e6
_TEXEL_CENTRE = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])


class Canvas:
    """Colours (FINE * H, FINE * W, 3) and fine labels (FINE * H, FINE * W), uint8; later paint hides earlier paint.

    All is painted FINE times larger. Colours are averaged at the end, which smooths every edge alike; of the labels
    one in each pixel is kept, so that they stay exact.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.colours = np.zeros((camera.height * FINE, camera.width * FINE, 3), np.uint8)
        self.fine_labels = np.zeros(self.colours.shape[:2], np.uint8)

    def picture(self) -> Floats:
        """The colours so far as (H, W, 3) float32, 0 to 255, averaged over the fine pixels."""
        size = (self.camera.width, self.camera.height)
        return cv2.resize(self.colours, size, interpolation=cv2.INTER_AREA).astype(np.float32)

    def labels(self) -> NDArray[np.uint8]:
        """The labels so far, (H, W) uint8."""
        return self.fine_labels[::FINE, ::FINE].copy()

    def polygons(self, shapes: Sequence[Floats], colours: Floats, label: int) -> None:
        """Fill polygons (K, 3) in metres, in order, with `colours` (N, 3), 0 to 255, and one label."""
        if not len(shapes):
            return
        pixels, counts = self._project(shapes)
        fixed, start = _fixed(pixels), 0
        for count, colour in zip(counts, np.clip(colours, 0, 255).tolist(), strict=True):
            if count:
                outline = [fixed[start : start + count]]
                cv2.fillPoly(self.colours, outline, colour, cv2.LINE_8, _SHIFT)
                cv2.fillPoly(self.fine_labels, outline, label, cv2.LINE_8, _SHIFT)
            start += count

    def lines(self, paths: Sequence[Floats], width: float, colour: Floats, label: int) -> None:
        """Draw open paths (K, 3), `width` metres thick but never below a fine pixel of colour and a pixel of label."""
        for path in paths:
            view = self.camera.to_view(path)
            view = view[view[:, 2] > NEAR]
            thick = self._focal * width / np.linalg.norm(view, axis=1)
            fixed = _fixed(self._to_pixels(view))
            for here, thickness in enumerate(thick[1:].tolist()):
                ends, size = [fixed[here : here + 2]], max(1, round(thickness))
                cv2.polylines(self.colours, ends, False, colour.tolist(), size, cv2.LINE_8, _SHIFT)
                cv2.polylines(self.fine_labels, ends, False, label, max(FINE, size), cv2.LINE_8, _SHIFT)

    def panel(
        self,
        corner: Floats,
        across: Floats,
        down: Floats,
        texture: NDArray[np.uint8],
        label: int,
        mask: NDArray[np.uint8] | None = None,
    ) -> None:
        """Paint a flat texture (h, w, 3) whose top left stands at `corner` and whose edges are `across` and `down`.

        Where `mask` (h, w) is given and below 128 the panel is see-through.
        """
        pixels, _ = self._project([np.stack([corner, corner + across, corner + across + down, corner + down])])
        window = _window(pixels, self.fine_labels.shape)
        if window is None:
            return
        left, top, right, bottom = window
        size, part = (right - left, bottom - top), (slice(top, bottom), slice(left, right))
        plane = np.stack([across / texture.shape[1], down / texture.shape[0], corner - self.camera.eye], axis=1)
        matrix = self._homography(plane, left, top)
        inside = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillPoly(inside, [_fixed(pixels - (left, top))], 255, cv2.LINE_8, _SHIFT)
        if mask is not None:
            inside[_warp(mask, matrix, size) < 128] = 0
        cv2.copyTo(_warp(texture, matrix, size), inside, self.colours[part])
        self.fine_labels[part][inside > 0] = label

    def shows(self, outline: Floats) -> bool:
        """Whether a polygon (K, 3) in metres may have a pixel on the canvas."""
        return _window(self._project([outline])[0], self.fine_labels.shape) is not None

    @property
    def _focal(self) -> float:
        return self.camera.focal * FINE

    def _to_pixels(self, view: Floats) -> Floats:
        """View points (..., 3) in front of the camera as (..., 2) fine pixels, within OpenCV's reach."""
        return np.clip(self.camera.to_pixels(view) * FINE, -_FAR_OFF, _FAR_OFF)

    def _project(self, shapes: Sequence[Floats]) -> tuple[Floats, list[int]]:
        """Corners (M, 2) in fine pixels of all polygons (K, 3), clipped, and how many each of them has left."""
        view = self.camera.to_view(np.concatenate(shapes))
        counts = [len(shape) for shape in shapes]
        if (view[:, 2] < NEAR).any():
            starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
            nearest, farthest = (f.reduceat(view[:, 2], starts).tolist() for f in (np.minimum, np.maximum))
            parts = [view[start : start + count] for start, count in zip(starts.tolist(), counts, strict=True)]
            for number, part in enumerate(parts):
                if nearest[number] < NEAR:
                    parts[number] = clip_near(part) if farthest[number] > NEAR else part[:0]
            view, counts = np.concatenate(parts), [len(part) for part in parts]
        return self._to_pixels(view), counts

    def _homography(self, plane: Floats, left: int, top: int) -> Floats:
        """Homography (3, 3) from texture pixels to the fine pixels of the window of the canvas at (left, top).

        The columns of `plane` (3, 3) are a texture pixel's steps and the texture's corner, in metres from the eye.
        """
        height, width = self.fine_labels.shape
        middle_x, middle_y = width / 2 - 0.5 - left, height / 2 - 0.5 - top
        lens = np.array([[self._focal, 0, middle_x], [0, self._focal, middle_y], [0, 0, 1]])
        return lens @ self.camera.axes @ plane @ _TEXEL_CENTRE


def _warp(texture: NDArray[np.uint8], matrix: Floats, size: tuple[int, int]) -> NDArray[np.uint8]:
    warped = cv2.warpPerspective(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)


def _fixed(pixels: Floats) -> NDArray[np.int32]:
    """Pixels (K, 2) as OpenCV's fixed-point numbers, whose whole numbers are pixel centres."""
    return np.rint((pixels - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _window(pixels: Floats, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the smallest window of an image of `shape` around `pixels`, None if empty."""
    if not len(pixels):
        return None
    (low_x, low_y), (high_x, high_y) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
    left, top = max(int(low_x) - 1, 0), max(int(low_y) - 1, 0)
    right, bottom = min(int(high_x) + 2, shape[1]), min(int(high_y) + 2, shape[0])
    return (left, top, right, bottom) if right > left and bottom > top else None

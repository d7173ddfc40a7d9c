"""The canvas of a view: picture and label map, painted together from models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from streetscenes.camera import NEAR, Camera, Floats, Pixels, clip_near
from streetscenes.model import FINE, Lines, Model, Panel, Polygons

_SHIFT = 4
_FAR_OFF = 2.0**26


class Canvas:
    """Red, green, blue and label, (FINE * H, FINE * W, 4) uint8; later paint hides earlier paint.

    The canvas is FINE times larger than the picture. A pixel of the picture is the average of its fine pixels, which
    smooths all edges alike. A pixel of the label map is one of its fine pixels, so labels are never mixed.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.paint = np.zeros((camera.height * FINE, camera.width * FINE, 4), np.uint8)
        focal, middle_x, middle_y = camera.focal * FINE, camera.width * FINE / 2 - 0.5, camera.height * FINE / 2 - 0.5
        self._lens = np.array([[focal, 0, middle_x], [0, focal, middle_y], [0, 0, 1]]) @ camera.axes

    def picture(self) -> Pixels:
        """Return the picture so far, (H, W, 4) uint8, whose fourth channel has no meaning."""
        size = (self.camera.width, self.camera.height)
        return np.asarray(cv2.resize(self.paint, size, interpolation=cv2.INTER_AREA), np.uint8)

    def labels(self) -> Pixels:
        """Return the label map so far, (H, W) uint8."""
        return self.paint[::FINE, ::FINE, 3].copy()

    def add(self, models: Iterable[Model]) -> None:
        """Paint models, each over the ones before."""
        parts = [part for model in models for part in model.parts]
        outlines = self._outlines([part for part in parts if not isinstance(part, Lines)])
        for part in parts:
            if isinstance(part, Polygons):
                for paint in part.paints:
                    _fill(self.paint, next(outlines), paint)
            elif isinstance(part, Panel):
                self._add_panel(part, next(outlines))
            else:
                self._add_lines(part)

    def mask(self, model: Model) -> Pixels:
        """Return (H, W) uint8 with 255 where the polygons of a model would be painted, 0 elsewhere."""
        mask = np.zeros(self.paint.shape[:2], np.uint8)
        for outline in self._outlines([part for part in model.parts if isinstance(part, Polygons)]):
            _fill(mask, outline, 255)
        return mask[::FINE, ::FINE].copy()

    def _outlines(self, parts: Sequence[Polygons | Panel]) -> Iterator[NDArray[np.int32]]:
        """Yield each polygon in fixed-point pixels (M, 2), clipped at the near plane; M = 0 if it lies behind."""
        if not parts:
            return
        view: Floats = np.concatenate([part.corners for part in parts]) @ self._lens.T
        counts = np.concatenate([part.counts for part in parts])
        if view[:, 2].min() < NEAR:
            view, counts = clip_near(view, counts)
        fixed, ends = _fixed(view), np.cumsum(counts).tolist()
        for start, end in pairwise([0, *ends]):
            yield fixed[start:end]

    def _add_lines(self, lines: Lines) -> None:
        """Paint lines that are at least one fine pixel wide in colour and one pixel wide in label."""
        for path in lines.paths:
            view = path @ self._lens.T
            is_ahead = view[:, 2] > NEAR
            view, distance = view[is_ahead], np.linalg.norm(path[is_ahead], axis=1)
            fixed = _fixed(view)
            window = _window(fixed, self.paint.shape, 20)
            if window is None:
                continue
            left, top, right, bottom = window
            mask = np.zeros((bottom - top, right - left), np.uint8)
            for here, far in enumerate(distance[1:].tolist()):
                ends, size = fixed[here : here + 2], max(1, round(self.camera.focal * FINE * lines.width / far))
                cv2.polylines(self.paint, [ends], False, lines.paint, size, cv2.LINE_8, _SHIFT)
                shifted = ends - np.array([left << _SHIFT, top << _SHIFT], np.int32)
                cv2.polylines(mask, [shifted], False, 255, max(FINE, size), cv2.LINE_8, _SHIFT)
            self.paint[top:bottom, left:right, 3][mask > 0] = lines.paint[3]

    def _add_panel(self, panel: Panel, outline: NDArray[np.int32]) -> None:
        window = _window(outline, self.paint.shape, 1)
        if window is None:
            return
        left, top, right, bottom = window
        matrix = self._lens @ panel.plane
        matrix[:2] -= np.array([[left], [top]]) * matrix[2]
        size = (right - left, bottom - top)
        patch = cv2.warpPerspective(panel.texture, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros((size[1], size[0]), np.uint8)
        _fill(inside, outline - np.array([left << _SHIFT, top << _SHIFT], np.int32), 255)
        if panel.is_cut:
            inside[patch[..., 3] < 128] = 0
            patch[..., 3] = panel.label
        cv2.copyTo(patch, inside, self.paint[top:bottom, left:right])


def _fill(target: Pixels, outline: NDArray[np.int32], paint: Sequence[float] | int) -> None:
    if len(outline):
        cv2.fillPoly(target, [outline], paint, cv2.LINE_8, _SHIFT)


def _fixed(view: Floats) -> NDArray[np.int32]:
    """Return points (K, 3) in fixed-point pixels (K, 2), whose whole numbers are pixel centres."""
    pixels = view[:, :2] * ((1 << _SHIFT) / view[:, 2:])
    return np.rint(pixels.clip(-_FAR_OFF, _FAR_OFF)).astype(np.int32)


def _window(fixed: NDArray[np.int32], shape: tuple[int, ...], margin: int) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the window around fixed-point pixels, or None if it is empty."""
    if not len(fixed):
        return None
    (low_x, low_y), (high_x, high_y) = (fixed.min(axis=0) >> _SHIFT).tolist(), (fixed.max(axis=0) >> _SHIFT).tolist()
    left, top = max(low_x - margin, 0), max(low_y - margin, 0)
    right, bottom = min(high_x + margin + 2, shape[1]), min(high_y + margin + 2, shape[0])
    return (left, top, right, bottom) if right > left and bottom > top else None

"""Which far objects the front row of houses hides, so that they need not be painted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from citylens.science.rendering.buildings import Form
from citylens.science.rendering.camera import NEAR, Camera, Floats
from citylens.science.rendering.scene import Thing

_SAMPLES = np.linspace(0, 1, 33)[:, None]
_ROOF_ROOM = 3.0


def covered_rows(camera: Camera, forms: Iterable[Form]) -> Floats:
    """For every pixel column (W,), the row below which fronts along the street hide what stands behind them."""
    cover = np.full(camera.width, float(camera.height))
    columns = np.arange(camera.width)
    for form in forms:
        x = form.x0 if form.x0 > camera.eye[0] else form.x1
        ends = np.array([[x, form.y0, form.height], [x, form.y1, form.height]])
        top = camera.to_view(ends[0] + (ends[1] - ends[0]) * _SAMPLES)
        foot = camera.to_view((ends[0] + (ends[1] - ends[0]) * _SAMPLES) * (1, 1, 0))
        seen = (top[:, 2] > NEAR) & (foot[:, 2] > NEAR)
        if seen.sum() < 2:
            continue
        upper, lower = camera.to_pixels(top[seen]), camera.to_pixels(foot[seen])
        low = max(upper[:, 0].min(), lower[:, 0].min())
        high = min(upper[:, 0].max(), lower[:, 0].max())
        order = np.argsort(upper[:, 0])
        rows = np.interp(columns, upper[order, 0], upper[order, 1]) + 1
        inside = (columns > low) & (columns < high - 1)
        cover = np.where(inside, np.minimum(cover, rows), cover)
    return cover


def is_hidden(camera: Camera, cover: Floats, plan: Thing, height: float) -> bool:
    """Whether all that stands on the ground plan of `plan`, up to `height` metres, lies below the covered rows."""
    margin = _ROOF_ROOM
    xs, ys = (plan.x0 - margin, plan.x1 + margin), (plan.y0 - margin, plan.y1 + margin)
    corners = np.array([[x, y, z] for x in xs for y in ys for z in (0.0, height)])
    view = camera.to_view(corners)
    if (view[:, 2] < NEAR).any():
        return False
    pixels = camera.to_pixels(view)
    left, right = int(np.floor(pixels[:, 0].min())), int(np.ceil(pixels[:, 0].max()))
    behind = cover[max(0, left) : max(0, right)]
    return bool((behind < pixels[:, 1].min()).all())
